//! The counts that are stored, and how new ones compare.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counts by function, and what they were counted with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The compiler; another one generates other code.
    pub rustc: String,
    /// Instructions of one operation.
    pub instructions: BTreeMap<String, f64>,
}

/// How one count compares with the stored one.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Of which function.
    pub name: String,
    /// Stored; `None` for a new function.
    pub before: Option<f64>,
    /// Counted now; `None` for one that is gone.
    pub now: Option<f64>,
}

/// What a comparison means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// About the same.
    Same,
    /// More than [`TOLERANCE`] fewer: worth storing, or the next regression hides behind it.
    Fewer,
    /// More than [`TOLERANCE`] more.
    More,
    /// Not stored, or not counted.
    Unpaired,
}

impl Baseline {
    /// Function by function.
    pub fn compare(&self, now: &Self) -> Vec<Comparison> {
        let mut names: Vec<&String> = self.instructions.keys().chain(now.instructions.keys()).collect();
        names.sort();
        names.dedup();
        let one = |name: &String| Comparison {
            name: name.clone(),
            before: self.instructions.get(name).copied(),
            now: now.instructions.get(name).copied(),
        };
        names.into_iter().map(one).collect()
    }
}

impl Comparison {
    /// What it means.
    pub fn outcome(&self) -> Outcome {
        match (self.before, self.now) {
            (Some(before), Some(now)) if now > before * (1.0 + TOLERANCE) => Outcome::More,
            (Some(before), Some(now)) if now < before * (1.0 - TOLERANCE) => Outcome::Fewer,
            (Some(_), Some(_)) => Outcome::Same,
            _ => Outcome::Unpaired,
        }
    }

    /// Whether a change that leads to it may not pass.
    pub fn fails(&self) -> bool {
        matches!(self.outcome(), Outcome::More | Outcome::Unpaired)
    }
}

/// The share by which a count may grow unnoticed.
pub const TOLERANCE: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, f64)]) -> Baseline {
        Baseline {
            rustc: String::new(),
            instructions: counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect(),
        }
    }

    #[test]
    fn a_twentieth_more_passes_and_beyond_that_fails() {
        let before = counts(&[("open", 1000.0), ("seal", 1000.0), ("split", 1000.0)]);
        let now = counts(&[("open", 1050.0), ("seal", 1051.0), ("split", 900.0)]);

        let outcomes: Vec<Outcome> = before.compare(&now).iter().map(Comparison::outcome).collect();

        assert_eq!(outcomes, [Outcome::Same, Outcome::More, Outcome::Fewer]);
        assert_eq!(before.compare(&now).iter().filter(|c| c.fails()).count(), 1);
    }

    #[test]
    fn nothing_is_dropped_or_added_silently() {
        let compared = counts(&[("gone", 1.0)]).compare(&counts(&[("new", 1.0)]));

        assert_eq!(compared.len(), 2);
        assert!(compared.iter().all(Comparison::fails));
    }
}
