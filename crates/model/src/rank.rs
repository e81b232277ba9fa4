//! Percentiles of what was measured.

/// The smallest value that so many percent of the others do not exceed (nearest rank), of values in order; `None` of none.
pub fn nearest_rank<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_is_that_of_a_value_that_was_measured() {
        let hundred: Vec<u32> = (1..=100).collect();

        assert_eq!(
            [50, 99, 100].map(|p| nearest_rank(&hundred, p)),
            [Some(50), Some(99), Some(100)]
        );
        assert_eq!([50, 99, 100].map(|p| nearest_rank(&[7], p)), [Some(7); 3]);
        assert_eq!(nearest_rank::<u32>(&[], 50), None);
    }
}
