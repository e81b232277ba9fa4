//! What a node is asked to look up about its machine, and what it says it found.
//!
//! Names travel as text: one that the other end does not know is skipped, and what is not reported passes nothing. Ages
//! travel in place of times: a node's clock is its own.
//!
//! **Invariant:** a node looks up nothing that it was not asked for.

use std::time::Duration;

use ringfence_model::UnixMillis;
use ringfence_policy::{Fact, FactNeeds, FactSource, FactValue, KnownFacts, Version, is_fingerprint};
pub use ringfence_policy::{FactName, NativeFact, VALUE_BYTES_MAX};
use serde::{Deserialize, Serialize};

/// Which facts a node is to look up. Replaces the order before; an empty one ends all looking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostureOrder {
    /// Their names.
    pub facts: Vec<String>,
    /// How often at least to report, though nothing changed.
    pub every_ms: u64,
}

/// All that a node found. Replaces the report before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostureReport {
    /// At most [`PostureReport::FACTS_MAX`].
    pub facts: Vec<ReportedFact>,
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedFact {
    /// Its name, as ordered.
    pub name: String,
    /// What it is.
    pub value: ReportedValue,
    /// How long ago it was looked up.
    pub age_ms: u64,
    /// For a fact that a script gave: the fingerprint of the key that signed the script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
}

/// What a fact is, as a node says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportedValue {
    /// True or false.
    Bool(bool),
    /// A whole number: of a script alone, so that no controller is told of one that did not ask.
    Number(i64),
    /// Any words.
    Text(String),
    /// A version.
    Version(String),
    /// A moment, so many milliseconds before it was looked up.
    AgoMs(u64),
    /// It cannot be told, and why.
    Missing(String),
}

impl PostureOrder {
    /// The order that these needs make.
    pub fn of(needs: &FactNeeds) -> Self {
        Self {
            facts: needs.facts.iter().map(FactName::to_string).collect(),
            every_ms: needs
                .every
                .map_or(0, |every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// The names that this end knows, and that are a node's to look up.
    pub fn names(&self) -> impl Iterator<Item = FactName> + '_ {
        let names = self.facts.iter().take(PostureReport::FACTS_MAX);
        names
            .filter_map(|name| name.parse().ok())
            .filter(FactName::is_of_node)
    }

    /// How often to report: never so often that it is work to nobody's use.
    pub fn every(&self) -> Duration {
        Duration::from_millis(self.every_ms).clamp(REPORT_EVERY_MIN, REPORT_EVERY_MAX)
    }
}

impl PostureReport {
    /// The most facts in one report; what comes after them is not read.
    pub const FACTS_MAX: usize = 128;

    /// What the controller takes from it at `wall`: what a node can know, in words of bounded length. What it says of
    /// anything else, or in a form that cannot be, counts as not said.
    pub fn known_at(&self, wall: UnixMillis) -> KnownFacts {
        let facts = self.facts.iter().take(Self::FACTS_MAX);
        facts.filter_map(|fact| fact.known_at(wall)).collect()
    }
}

impl ReportedFact {
    fn known_at(&self, wall: UnixMillis) -> Option<(FactName, Fact)> {
        let name: FactName = self.name.parse().ok()?;
        if !name.is_of_node() {
            return None;
        }
        let measured_at = UnixMillis(wall.0.saturating_sub(self.age_ms));
        let value = match &self.value {
            ReportedValue::Bool(is) => Ok(FactValue::Bool(*is)),
            ReportedValue::Number(number) => Ok(FactValue::Number(*number)),
            ReportedValue::Text(text) => Ok(FactValue::Text(text.clone())),
            ReportedValue::Version(text) => Version::parse(text)
                .map(FactValue::Version)
                .ok_or_else(|| "the node sent a version without a number".to_owned()),
            ReportedValue::AgoMs(ago) => Ok(FactValue::Time(UnixMillis(measured_at.0.saturating_sub(*ago)))),
            ReportedValue::Missing(why) => Err(plain(why)),
        };
        let value = value.and_then(|value| {
            let fits = value.fits();
            fits.then_some(value)
                .ok_or_else(|| "the node sent more than is kept".to_owned())
        });
        let source = match &name {
            FactName::Script(script) => FactSource::Script {
                name: script.clone(),
                signer: self.signer.clone().filter(|signer| is_fingerprint(signer)),
            },
            _ => FactSource::Node,
        };
        let fact = Fact {
            value,
            source,
            measured_at,
            expires: None,
        };
        Some((name, fact))
    }
}

impl ReportedValue {
    /// What a script prints, as people write it for `ringfence posture give`.
    pub fn from_word(word: &str) -> Self {
        match FactValue::from_word(word) {
            FactValue::Bool(is) => Self::Bool(is),
            FactValue::Number(number) => Self::Number(number),
            FactValue::Version(version) => Self::Version(version.as_str().to_owned()),
            FactValue::Text(text) => Self::Text(text),
            FactValue::Time(_) => Self::Missing("no word is a moment".to_owned()),
        }
    }
}

/// A reason as it is kept: bounded, and harmless in a terminal.
fn plain(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(WHY_BYTES_MAX)];
    text.chars().filter(|c| !c.is_control()).collect()
}

/// From this capability on a node takes [`PostureOrder`].
pub const POSTURE_SINCE: u32 = 3;

const REPORT_EVERY_MIN: Duration = Duration::from_secs(1);
const REPORT_EVERY_MAX: Duration = Duration::from_hours(1);
const WHY_BYTES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn known(name: &str, value: ReportedValue, age_ms: u64) -> KnownFacts {
        let report = PostureReport {
            facts: vec![ReportedFact {
                name: name.to_owned(),
                value,
                age_ms,
                signer: None,
            }],
        };
        report.known_at(NOW)
    }

    #[test]
    fn ages_become_times_of_the_controllers_clock() {
        let facts = known("os.security_update", ReportedValue::AgoMs(5000), 2000);

        let fact = &facts[&"os.security_update".parse().unwrap()];
        assert_eq!(fact.measured_at, UnixMillis(NOW.0 - 2000));
        assert_eq!(fact.value, Ok(FactValue::Time(UnixMillis(NOW.0 - 7000))));
        assert_eq!(fact.source, FactSource::Node);
    }

    #[test]
    fn a_node_says_nothing_of_what_is_others_to_say() {
        assert!(known("custom.edr", ReportedValue::Bool(true), 0).is_empty());
        assert!(known("disk.colour", ReportedValue::Bool(true), 0).is_empty());
    }

    #[test]
    fn what_a_script_says_names_the_script_and_its_signer() {
        let signer = format!("SHA256:{}", "a".repeat(43));
        let source = |signer: &str| {
            let fact = ReportedFact {
                name: "script.backups-run".to_owned(),
                value: ReportedValue::from_word("5"),
                age_ms: 0,
                signer: Some(signer.to_owned()),
            };
            let (_, fact) = fact.known_at(NOW).unwrap();
            assert_eq!(fact.value, Ok(FactValue::Number(5)));
            fact.source.to_string()
        };

        assert_eq!(source(&signer), format!("script:backups-run {signer}"));
        assert_eq!(source("SHA256:\u{1b}[31m"), "script:backups-run");
    }

    #[test]
    fn what_cannot_be_is_as_good_as_missing() {
        let version = known("os.version", ReportedValue::Version("sid".to_owned()), 0);
        let long = known("os.id", ReportedValue::Text("x".repeat(1000)), 0);
        let odd = known(
            "os.id",
            ReportedValue::Missing("no\u{1b}[31m file\n".to_owned()),
            0,
        );

        assert!(version.values().all(|fact| fact.value.is_err()));
        assert!(long.values().all(|fact| fact.value.is_err()));
        assert_eq!(odd.values().next().unwrap().value, Err("no[31m file".to_owned()));
    }

    #[test]
    fn an_order_asks_for_what_this_end_knows_and_not_too_often() {
        let order = PostureOrder {
            facts: ["os.id", "process.auditd", "script.a", "custom.edr", "moon.phase"]
                .map(String::from)
                .into(),
            every_ms: 0,
        };

        let names: Vec<String> = order.names().map(|name| name.to_string()).collect();
        assert_eq!(names, ["os.id", "process.auditd", "script.a"]);
        assert_eq!(order.every(), Duration::from_secs(1));
    }
}
