//! Names of meshes, perimeters, nodes, devices and member groups.
//!
//! **Invariant:** a [`Name`] matches `[a-z0-9-]{1,63}` and neither starts nor ends with `-` (red line 13; also a
//! valid DNS label, RFC 1123 section 2.1), so it is safe in a file name, a URL and a certificate.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A checked name. Ordered as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("a name cannot be empty: use 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -")]
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("the name is {0} bytes long: at most {NAME_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A character outside the alphabet.
    #[error("{0:?} is not allowed in a name: use a-z, 0-9 and -")]
    Character(char),
    /// A hyphen at either end.
    #[error("a name cannot start or end with -")]
    Hyphen,
}

impl Name {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`NameError`] says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        let odd = text
            .chars()
            .find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-'));
        if let Some(odd) = odd {
            return Err(NameError::Character(odd));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::Hyphen);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The longest name: one DNS label.
pub const NAME_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_pass() {
        for name in ["a", "payments-db", "0", "web-1", &"x".repeat(63)] {
            assert_eq!(Name::parse(name).map(|n| n.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn odd_names_say_why() {
        assert_eq!(Name::parse(""), Err(NameError::Empty));
        assert_eq!(Name::parse(&"x".repeat(64)), Err(NameError::TooLong(64)));
        assert_eq!(Name::parse("../etc"), Err(NameError::Character('.')));
        assert_eq!(Name::parse("Web"), Err(NameError::Character('W')));
        assert_eq!(Name::parse("a\n"), Err(NameError::Character('\n')));
        assert_eq!(Name::parse("-a"), Err(NameError::Hyphen));
        assert_eq!(Name::parse("a-"), Err(NameError::Hyphen));
    }

    proptest! {
        #[test]
        fn whatever_passes_is_within_the_alphabet(text in ".{0,70}") {
            if let Ok(name) = Name::parse(&text) {
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
                prop_assert!((1..=NAME_BYTES_MAX).contains(&name.as_str().len()));
            }
        }
    }
}
