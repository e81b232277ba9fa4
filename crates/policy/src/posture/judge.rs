//! Whether a machine passes a check, until when, and why not.

use std::fmt;
use std::time::Duration;

use ringfence_model::UnixMillis;

use super::{Check, CheckMode, Comparison, Fact, FactName, FactValue, KnownFacts, Version, Wanted};
use crate::reader::short_duration;

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it counts as passed: see [`CheckMode`].
    pub passes: bool,
    /// Whether all that it asks for holds.
    pub holds: bool,
    /// The first moment at which it does not hold any more, by the clock alone. `None` if it does not hold now.
    pub until: Option<UnixMillis>,
    /// One for each thing that is asked, in order.
    pub findings: Vec<Finding>,
}

/// What came of one thing that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub fact: FactName,
    /// What came of it.
    pub saying: Saying,
}

/// What came of one thing that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saying {
    /// It holds, until this moment if nothing new comes.
    Holds {
        /// What it is.
        found: FactValue,
        /// The first moment at which it does not.
        until: UnixMillis,
    },
    /// It held when the controller started, and the node has not been heard since.
    Vouched {
        /// The first moment at which it counts no more.
        until: UnixMillis,
    },
    /// Nobody said anything.
    Unknown,
    /// Nothing is known, and this is why.
    Missing(String),
    /// It is too old.
    Stale {
        /// How old it is.
        age: Duration,
        /// How old it may be.
        max_age: Duration,
    },
    /// Its time to live is over.
    Expired {
        /// Since when.
        since: UnixMillis,
    },
    /// It is something else.
    Differs {
        /// What it is.
        found: FactValue,
        /// What it must be.
        wanted: Wanted,
    },
}

impl Check {
    /// Judges what is known at `wall`.
    pub fn judge(&self, facts: &KnownFacts, wall: UnixMillis) -> Judgement {
        let compare = |comparison: &Comparison| self.compare(comparison, facts.get(&comparison.fact), wall);
        self.judgement(compare)
    }

    /// Judges a machine that passed before and of which nothing was heard for as long as anyone listened, from `began` on,
    /// as to the facts that `is_silent` names: they count as measured then. Of the rest it is judged by what is known.
    pub fn judge_silent(
        &self,
        facts: &KnownFacts,
        is_silent: impl Fn(&FactName) -> bool,
        began: UnixMillis,
        wall: UnixMillis,
    ) -> Judgement {
        let until = began.saturating_add(self.max_age);
        self.judgement(|comparison| {
            if !is_silent(&comparison.fact) {
                self.compare(comparison, facts.get(&comparison.fact), wall)
            } else if wall < until {
                Saying::Vouched { until }
            } else {
                Saying::Stale {
                    age: wall.saturating_since(began),
                    max_age: self.max_age,
                }
            }
        })
    }

    fn judgement(&self, compare: impl Fn(&Comparison) -> Saying) -> Judgement {
        let findings: Vec<Finding> = self
            .comparisons
            .iter()
            .map(|comparison| Finding {
                fact: comparison.fact.clone(),
                saying: compare(comparison),
            })
            .collect();
        let ends: Option<Vec<UnixMillis>> = findings.iter().map(|finding| finding.saying.until()).collect();
        let until = ends.and_then(|ends| ends.into_iter().min());
        let holds = until.is_some();
        let passes = match self.mode {
            CheckMode::Enforce => holds,
            CheckMode::Report => true,
        };
        Judgement {
            passes,
            holds,
            until,
            findings,
        }
    }

    fn compare(&self, comparison: &Comparison, fact: Option<&Fact>, wall: UnixMillis) -> Saying {
        let Some(fact) = fact else {
            return Saying::Unknown;
        };
        let stale_from = fact
            .expires
            .unwrap_or_else(|| fact.measured_at.saturating_add(self.max_age));
        if wall >= stale_from {
            return match fact.expires {
                Some(since) => Saying::Expired { since },
                None => Saying::Stale {
                    age: wall.saturating_since(fact.measured_at),
                    max_age: self.max_age,
                },
            };
        }
        match &fact.value {
            Err(why) => Saying::Missing(why.clone()),
            Ok(found) => match comparison.wanted.holds_until(found) {
                Some(end) if wall < end => Saying::Holds {
                    found: found.clone(),
                    until: end.min(stale_from),
                },
                Some(_) | None => Saying::Differs {
                    found: found.clone(),
                    wanted: comparison.wanted.clone(),
                },
            },
        }
    }
}

impl Wanted {
    /// The first moment at which `found` is not what is wanted, by the clock alone; `None` if it never is. A value of
    /// another kind never is.
    fn holds_until(&self, found: &FactValue) -> Option<UnixMillis> {
        let holds = match (self, found) {
            (Self::Bool(wanted), FactValue::Bool(found)) => wanted == found,
            (Self::OneOf(wanted), FactValue::Text(found)) => wanted.contains(found),
            (Self::Numbers { min, max }, FactValue::Number(found)) => {
                is_within(found, min.as_ref(), max.as_ref())
            }
            (Self::Versions { min, max }, FactValue::Version(found)) => {
                is_within(found, min.as_ref(), max.as_ref())
            }
            (Self::MaxAge(max_age), FactValue::Time(at)) => return Some(at.saturating_add(*max_age)),
            (
                Self::Bool(_)
                | Self::OneOf(_)
                | Self::Numbers { .. }
                | Self::Versions { .. }
                | Self::MaxAge(_),
                FactValue::Bool(_)
                | FactValue::Number(_)
                | FactValue::Text(_)
                | FactValue::Version(_)
                | FactValue::Time(_),
            ) => false,
        };
        holds.then_some(UnixMillis(u64::MAX))
    }
}

fn is_within<T: Ord>(found: &T, min: Option<&T>, max: Option<&T>) -> bool {
    min.is_none_or(|min| min <= found) && max.is_none_or(|max| found <= max)
}

impl Saying {
    fn until(&self) -> Option<UnixMillis> {
        match self {
            Self::Holds { until, .. } | Self::Vouched { until } => Some(*until),
            Self::Unknown
            | Self::Missing(_)
            | Self::Stale { .. }
            | Self::Expired { .. }
            | Self::Differs { .. } => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fact = &self.fact;
        match &self.saying {
            Saying::Holds { found, .. } => write!(f, "{fact} is {found}"),
            Saying::Vouched { .. } => write!(f, "{fact} held when the controller started"),
            Saying::Unknown => write!(f, "{fact} is not known: nothing has reported it"),
            Saying::Missing(why) => write!(f, "{fact} is not known: {why}"),
            Saying::Stale { age, max_age } => {
                let (age, max_age) = (whole_seconds(*age), short_duration(*max_age));
                write!(f, "{fact} was measured {age} ago, at most {max_age} is allowed")
            }
            Saying::Expired { since } => {
                write!(f, "{fact} has expired, at {}", FactValue::Time(*since))
            }
            Saying::Differs { found, wanted } => write!(f, "{fact} is {found}, must be {wanted}"),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(wanted) => wanted.fmt(f),
            Self::OneOf(wanted) => f.pad(&wanted.join(" or ")),
            Self::Numbers { min, max } => range(f, min.as_ref(), max.as_ref()),
            Self::Versions { min, max } => range::<Version>(f, min.as_ref(), max.as_ref()),
            Self::MaxAge(max_age) => write!(f, "at most {} ago", short_duration(*max_age)),
        }
    }
}

fn range<T: fmt::Display + PartialEq>(
    f: &mut fmt::Formatter<'_>,
    min: Option<&T>,
    max: Option<&T>,
) -> fmt::Result {
    match (min, max) {
        (Some(min), Some(max)) if min == max => write!(f, "{min}"),
        (Some(min), Some(max)) => write!(f, "{min} to {max}"),
        (Some(min), None) => write!(f, "at least {min}"),
        (None, Some(max)) => write!(f, "at most {max}"),
        (None, None) => f.pad("anything"),
    }
}

fn whole_seconds(duration: Duration) -> String {
    short_duration(Duration::from_secs(duration.as_secs()))
}
