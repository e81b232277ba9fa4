//! What several readings of one thing say together.

/// The middle of some readings, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one, or half-way between the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of some readings; `None` without any.
    pub fn of(readings: &[f64]) -> Option<Self> {
        let mut sorted = readings.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, min, max })
    }
}

/// The reading that `share` of them do not exceed (nearest rank); `None` without any.
pub(crate) fn percentile(readings: &[f64], share: f64) -> Option<f64> {
    let mut sorted = readings.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = share * sorted.len() as f64;
    let below = (1..sorted.len())
        .take_while(|&place| (place as f64) < rank)
        .count();
    sorted.get(below).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();

        assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 4.0));
        assert_eq!(Spread::of(&[7.0]).unwrap().median, 7.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn percentiles_are_readings_that_were_taken() {
        let readings: Vec<f64> = (1..=1000).map(f64::from).collect();

        assert_eq!(percentile(&readings, 0.5), Some(500.0));
        assert_eq!(percentile(&readings, 0.99), Some(990.0));
        assert_eq!(percentile(&readings, 0.999), Some(999.0));
        assert_eq!(percentile(&[5.0], 0.999), Some(5.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
