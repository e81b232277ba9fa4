//! How full a table is, in the words of whoever holds it.

/// A queue, table or map that lives for long, and its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// What it holds.
    pub table: &'static str,
    /// How much.
    pub len: usize,
    /// How much it may.
    pub max: usize,
}

impl TableSize {
    /// A table of this size.
    pub const fn new(table: &'static str, len: usize, max: usize) -> Self {
        Self { table, len, max }
    }

    /// Whether it keeps its bound.
    pub const fn is_bounded(&self) -> bool {
        self.len <= self.max
    }

    /// Of tables with one name, in several segments, the fullest.
    pub fn fullest(tables: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut fullest: Vec<Self> = Vec::new();
        for table in tables {
            match fullest.iter_mut().find(|known| known.table == table.table) {
                Some(known) if known.len >= table.len => {}
                Some(known) => *known = table,
                None => fullest.push(table),
            }
        }
        fullest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_of_a_name_stands_for_all() {
        let tables = [(1, 8), (9, 8), (3, 8)].map(|(len, max)| TableSize::new("flows", len, max));
        let other = TableSize::new("peers", 0, 1);

        let fullest = TableSize::fullest(tables.into_iter().chain([other]));

        assert_eq!(fullest, [TableSize::new("flows", 9, 8), other]);
        assert!(!fullest[0].is_bounded() && fullest[1].is_bounded());
    }
}
