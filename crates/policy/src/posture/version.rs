//! Versions as machines have them: `12`, `6.1.0-18-amd64`, `0.4.1`.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A version. Two are compared by the numbers that they start with; words after those say nothing about which is newer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

impl Version {
    /// A version that starts with a number.
    pub fn parse(text: &str) -> Option<Self> {
        let version = Self(text.to_owned());
        let is_version = version.numbers().next().is_some();
        is_version.then_some(version)
    }

    /// One that is nothing but numbers, as a check is written with: `12`, `6.1.90`, `6.1.0-18`.
    pub fn parse_exact(text: &str) -> Option<Self> {
        let version = Self::parse(text)?;
        let parts = text.split(['.', '-']).count();
        (version.numbers().count() == parts).then_some(version)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        let parts = self.0.split(['.', '-']).take(NUMBERS_MAX);
        parts.map_while(|part| {
            let is_number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            part.parse().ok().filter(|_| is_number)
        })
    }
}

impl Ord for Version {
    /// `12` and `12.0` are the same; `12` is before `12.1`.
    fn cmp(&self, other: &Self) -> Ordering {
        let padded = |version: &Self| {
            let mut numbers = [0; NUMBERS_MAX];
            for (place, number) in numbers.iter_mut().zip(version.numbers()) {
                *place = number;
            }
            numbers
        };
        padded(self).cmp(&padded(other))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl std::hash::Hash for Version {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for number in self.numbers().filter(|number| *number != 0) {
            number.hash(state);
        }
    }
}

impl TryFrom<String> for Version {
    type Error = NoVersion;

    fn try_from(text: String) -> Result<Self, NoVersion> {
        Self::parse(&text).ok_or(NoVersion)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}

/// A text that does not start with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version starts with a number")]
pub struct NoVersion;

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

const NUMBERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_as_numbers_and_words_not_at_all() {
        let version = |text| Version::parse(text).unwrap();

        assert!(version("6.9.3") < version("6.10"));
        assert_eq!(version("12"), version("12.0.0"));
        assert!(version("12") < version("12.1"));
        assert_eq!(version("6.1.0-18-amd64"), version("6.1.0-18"));
        assert!(version("6.1.0-17-amd64") < version("6.1.0-18"));
    }

    #[test]
    fn what_starts_with_no_number_is_no_version() {
        assert_eq!(Version::parse("bookworm"), None);
        assert_eq!(Version::parse(""), None);
        assert_eq!(Version::parse("+1"), None);
        assert_eq!(Version::parse_exact("6.1-rc1"), None);
        assert_eq!(Version::parse_exact("1.2.3.4.5.6.7.8.9"), None);
        assert!(Version::parse_exact("6.1.0-18").is_some());
    }
}
