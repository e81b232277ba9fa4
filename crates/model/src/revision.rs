//! The number of the controller's state, which only goes up (DESIGN.md, decision 4).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A point in the controller's history. Ordered by term, then by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision {
    /// Goes up when a controller is restored from a backup, so that nothing it says is taken for older. The first is 1;
    /// a later one is the time it began, in milliseconds, so that two restores of one backup never share it.
    pub term: u64,
    /// Goes up by one with every change within a term.
    pub n: u64,
}

impl Revision {
    /// Before any change.
    pub const ZERO: Self = Self { term: 0, n: 0 };

    /// The one after this, in the same term.
    pub const fn next(self) -> Self {
        Self {
            term: self.term,
            n: self.n + 1,
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.n)
    }
}

impl std::str::FromStr for Revision {
    type Err = RevisionError;

    fn from_str(text: &str) -> Result<Self, RevisionError> {
        let (term, n) = text.split_once('.').ok_or(RevisionError)?;
        Ok(Self {
            term: term.parse().map_err(|_| RevisionError)?,
            n: n.parse().map_err(|_| RevisionError)?,
        })
    }
}

/// A text is not a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a revision is written TERM.NUMBER, as in 1.42")]
pub struct RevisionError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_term_is_newer_than_any_number_of_the_old() {
        let old = Revision { term: 1, n: 900 };
        let restored = Revision { term: 2, n: 3 };

        assert!(restored > old);
        assert!(old.next() > old);
        assert_eq!("1.900".parse(), Ok(old));
        assert_eq!("900".parse::<Revision>(), Err(RevisionError));
    }
}
