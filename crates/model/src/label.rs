//! Labels, which an administrator or a join token gives a node, and selectors, which ask for them.
//!
//! **Invariant:** a label's key and value match `[a-z0-9._/-]{1,63}` (a value may be empty nowhere); a node has at
//! most [`LABELS_MAX`]. A node never claims its own labels (DESIGN.md 6).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The labels of one node or device, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = BTreeMap<String, String>))]
pub struct Labels(BTreeMap<String, String>);

/// A question about labels: `role=db, env=prod` holds where every pair is present. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector(Labels);

/// Why a text is not a label or selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// No `=` in a pair.
    #[error("{0:?} is not a label: write key=value")]
    NoEquals(String),
    /// A key or value breaks the alphabet or the length.
    #[error("{0:?} cannot be part of a label: use 1 to 63 of a-z, 0-9, '.', '_', '/' and '-'")]
    Part(String),
    /// One key twice.
    #[error("the label {0:?} is given twice")]
    Duplicate(String),
    /// Nothing to select by.
    #[error("a selector needs at least one key=value: one that matches everything is not allowed")]
    Empty,
    /// More than [`LABELS_MAX`].
    #[error("{0} labels are too many: at most {LABELS_MAX}")]
    TooMany(usize),
}

impl Labels {
    /// No labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `key=value` pairs.
    ///
    /// # Errors
    /// [`LabelError`] names the pair that is wrong.
    pub fn parse_pairs<'a>(pairs: impl IntoIterator<Item = &'a str>) -> Result<Self, LabelError> {
        let mut labels = Self::new();
        for pair in pairs {
            let pair = pair.trim();
            let Some((key, value)) = pair.split_once('=') else {
                return Err(LabelError::NoEquals(pair.to_owned()));
            };
            labels.add(key.trim(), value.trim())?;
        }
        Ok(labels)
    }

    /// Adds a pair.
    ///
    /// # Errors
    /// If it is malformed, its key is there already, or [`LABELS_MAX`] are.
    pub fn add(&mut self, key: &str, value: &str) -> Result<(), LabelError> {
        for part in [key, value] {
            if !is_label_part(part) {
                return Err(LabelError::Part(part.to_owned()));
            }
        }
        if self.0.contains_key(key) {
            return Err(LabelError::Duplicate(key.to_owned()));
        }
        if self.0.len() == LABELS_MAX {
            return Err(LabelError::TooMany(LABELS_MAX + 1));
        }
        self.0.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// Removes a key; `false` if it was not there.
    pub fn remove(&mut self, key: &str) -> bool {
        self.0.remove(key).is_some()
    }

    /// The value of `key`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Selector {
    /// Whether `labels` has every pair this selector asks for.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(key, value)| labels.value(key) == Some(value))
    }

    /// The pairs asked for.
    pub fn pairs(&self) -> &Labels {
        &self.0
    }
}

fn is_label_part(part: &str) -> bool {
    (1..=LABEL_PART_BYTES_MAX).contains(&part.len())
        && part
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'/' | b'-'))
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (key, value)) in self.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

impl FromStr for Selector {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        if text.trim().is_empty() {
            return Err(LabelError::Empty);
        }
        Labels::parse_pairs(text.split(',')).map(Self)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Selector {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = LabelError;

    fn try_from(pairs: BTreeMap<String, String>) -> Result<Self, LabelError> {
        let mut labels = Self::new();
        for (key, value) in pairs {
            labels.add(&key, &value)?;
        }
        Ok(labels)
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

/// The most labels one node or selector may have.
pub const LABELS_MAX: usize = 32;

const LABEL_PART_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        Labels::parse_pairs(text.split(',')).unwrap()
    }

    #[test]
    fn a_selector_needs_every_pair() {
        let selector: Selector = "role=db, env=prod".parse().unwrap();

        assert!(selector.matches(&labels("env=prod,role=db,rack=7")));
        assert!(!selector.matches(&labels("role=db,env=test")));
        assert!(!selector.matches(&Labels::new()));
    }

    #[test]
    fn an_empty_selector_is_no_allow_all() {
        assert_eq!("".parse::<Selector>(), Err(LabelError::Empty));
        assert_eq!("  ".parse::<Selector>(), Err(LabelError::Empty));
    }

    #[test]
    fn malformed_pairs_say_why() {
        assert_eq!(
            "role".parse::<Selector>(),
            Err(LabelError::NoEquals("role".into()))
        );
        assert_eq!("role=".parse::<Selector>(), Err(LabelError::Part(String::new())));
        assert_eq!(
            "role=a b".parse::<Selector>(),
            Err(LabelError::Part("a b".into()))
        );
        assert_eq!(
            "a=1,a=2".parse::<Selector>(),
            Err(LabelError::Duplicate("a".into()))
        );
    }

    #[test]
    fn a_selector_reads_back_as_written() {
        let selector: Selector = "b=2,a=1".parse().unwrap();

        assert_eq!(selector.to_string(), "a=1, b=2");
        assert_eq!(selector.to_string().parse(), Ok(selector));
    }
}
