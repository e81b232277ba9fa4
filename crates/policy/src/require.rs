//! What a rule may ask of the one who opens a conversation: a recent second factor, a device posture, hours of the
//! week, an address it comes from. It is judged again whenever a fact or the clock changes it, not once at connect. Ends by
//! the clock that fall into one second are one end for all, so that there are few.
//!
//! **Invariant:** what is asked for and not there does not hold (fail closed). What ends by the clock ends on a whole
//! second, never after its time.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use ringfence_model::{Name, UnixMillis};

use crate::facts::{Facts, UserFacts};
use crate::hours::Hours;
use crate::reader::short_duration;

/// The `require` of a rule. Never empty in a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// The second factor is at most this old.
    pub mfa: Option<Duration>,
    /// The device passes all of these checks.
    pub posture: Vec<Name>,
    /// It is one of these hours.
    pub hours: Option<Hours>,
    /// The control connection comes from one of these prefixes; from anywhere if there is none.
    pub source: Vec<IpNetwork>,
}

/// Whether something holds, and until when it stays so by the clock alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it holds now.
    pub holds: bool,
    /// The next moment at which that changes if no fact does; `None` if never.
    pub until: Option<UnixMillis>,
}

/// One thing that keeps a requirement from holding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack<'a> {
    /// Nobody is logged in, so nobody proved a second factor.
    Nobody,
    /// Somebody is, who proved none.
    NoFactor,
    /// It was proved too long ago.
    OldFactor { proved: UnixMillis, max: Duration },
    /// A check does not pass.
    Posture(&'a Name),
    /// It is another hour.
    Hour(&'a Hours),
    /// It comes from elsewhere, or nobody knows from where.
    Source(Option<IpAddr>, &'a [IpNetwork]),
}

impl Standing {
    /// It holds, whatever the clock says.
    pub(crate) const ALWAYS: Self = Self {
        holds: true,
        until: None,
    };
    /// It does not hold, and the clock does not change that.
    pub const NEVER: Self = Self {
        holds: false,
        until: None,
    };
}

impl Requirement {
    /// Whether all of it holds for someone of whom this is verified.
    pub fn standing(&self, facts: &Facts, wall: UnixMillis) -> Standing {
        let hours = self.hours.as_ref().map(|hours| hours.standing(wall));
        self.standing_in(hours, facts, wall)
    }

    /// As [`Self::standing`], by one who has looked at the clock of its hours already.
    pub(crate) fn standing_in(&self, hours: Option<Standing>, facts: &Facts, wall: UnixMillis) -> Standing {
        let steady =
            self.posture.iter().all(|check| facts.posture.contains(check)) && self.is_from_here(facts);
        let factor = self.factor_until(facts, wall);
        let (true, Some(factor)) = (steady, factor) else {
            return Standing::NEVER;
        };
        match hours {
            None => Standing {
                holds: true,
                until: factor,
            },
            Some(hours) if hours.holds => Standing {
                holds: true,
                until: earliest(factor, hours.until),
            },
            // It opens with the hours, if the factor is still good then.
            Some(hours) => Standing {
                holds: false,
                until: hours
                    .until
                    .filter(|opens| factor.is_none_or(|until| *opens < until)),
            },
        }
    }

    /// What keeps it from holding, as the file orders it.
    pub(crate) fn lacks(&self, facts: &Facts, wall: UnixMillis) -> Vec<Lack<'_>> {
        let mut lacks = Vec::new();
        if let Some(max) = self.mfa {
            match facts.person(wall).map(|user| user.mfa_at) {
                None => lacks.push(Lack::Nobody),
                Some(None) => lacks.push(Lack::NoFactor),
                Some(Some(proved)) if wall >= proved.saturating_add(max).whole_second() => {
                    lacks.push(Lack::OldFactor { proved, max });
                }
                Some(Some(_)) => {}
            }
        }
        let failing = self
            .posture
            .iter()
            .filter(|check| !facts.posture.contains(*check));
        lacks.extend(failing.map(Lack::Posture));
        let hours = self.hours.iter().filter(|hours| !hours.standing(wall).holds);
        lacks.extend(hours.map(Lack::Hour));
        if !self.is_from_here(facts) {
            lacks.push(Lack::Source(facts.source, &self.source));
        }
        lacks
    }

    /// Whether it ends for each at a moment of their own.
    pub fn ends_apart(&self) -> bool {
        self.mfa.is_some()
    }

    /// Whether all who meet `other` meet this.
    pub(crate) fn asks_no_more_than(&self, other: &Self) -> bool {
        let mfa = self
            .mfa
            .is_none_or(|age| other.mfa.is_some_and(|theirs| theirs <= age));
        let posture = self.posture.iter().all(|check| other.posture.contains(check));
        let hours = self.hours.is_none() || self.hours == other.hours;
        let within = |theirs: &IpNetwork| self.source.iter().any(|ours| covers(*ours, *theirs));
        let source = self.source.is_empty() || (!other.source.is_empty() && other.source.iter().all(within));
        mfa && posture && hours && source
    }

    /// Until when the second factor is good: `Some(None)` if none is asked for, `None` if there is none that is.
    fn factor_until(&self, facts: &Facts, wall: UnixMillis) -> Option<End> {
        let Some(max) = self.mfa else { return Some(None) };
        let user = facts.person(wall)?;
        let until = user.mfa_at?.saturating_add(max).whole_second().min(user.ends());
        (wall < until).then_some(Some(until))
    }

    fn is_from_here(&self, facts: &Facts) -> bool {
        // An IPv4 client of a socket that takes both looks like ::ffff:192.0.2.1.
        let source = facts.source.map(|source| source.to_canonical());
        let contains = |prefix: &IpNetwork| source.is_some_and(|source| prefix.contains(source));
        self.source.is_empty() || self.source.iter().any(contains)
    }
}

impl Facts {
    /// Who is logged in, while their session lasts.
    pub(crate) fn person(&self, wall: UnixMillis) -> Option<&UserFacts> {
        self.user.as_ref().filter(|user| wall < user.ends())
    }
}

impl UserFacts {
    /// When the session ends.
    pub(crate) fn ends(&self) -> UnixMillis {
        self.until.whole_second()
    }
}

/// An end by the clock; `None` if it does not come.
pub(crate) type End = Option<UnixMillis>;

/// The earlier of two ends.
pub(crate) fn earliest(one: End, other: End) -> End {
    one.into_iter().chain(other).min()
}

fn covers(outer: IpNetwork, inner: IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.network())
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mfa = self.mfa.map(|age| format!("mfa within {}", short_duration(age)));
        let posture = self.posture.iter().map(|posture| format!("posture {posture}"));
        let hours = self.hours.as_ref().map(|hours| format!("hours {hours}"));
        let source = (!self.source.is_empty()).then(|| format!("source {}", either(&self.source)));
        let parts = mfa.into_iter().chain(posture).chain(hours).chain(source);
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}

/// Prefixes of which one is enough.
pub(crate) fn either(prefixes: &[IpNetwork]) -> String {
    let shown: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
    shown.join(" or ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-24T12:00:00Z, a Tuesday.
    const NOON: u64 = 1_795_521_600_000;
    const HOUR: u64 = 3_600_000;

    fn person(mfa_at: Option<u64>, until: u64) -> Facts {
        let user = UserFacts {
            name: "alice".to_owned(),
            email: None,
            groups: std::collections::BTreeSet::new(),
            mfa_at: mfa_at.map(UnixMillis),
            until: UnixMillis(until),
        };
        Facts {
            user: Some(user),
            ..Facts::default()
        }
    }

    fn mfa_within(hours: u64) -> Requirement {
        Requirement {
            mfa: Some(Duration::from_hours(hours)),
            ..Requirement::default()
        }
    }

    fn ask(requirement: &Requirement, facts: &Facts, at: u64) -> (bool, Option<u64>) {
        let standing = requirement.standing(facts, UnixMillis(at));
        (standing.holds, standing.until.map(|until| until.0))
    }

    #[test]
    fn a_second_factor_ends_on_the_second_it_is_too_old() {
        let facts = person(Some(NOON + 700), NOON + 9 * HOUR);
        let end = NOON + HOUR;

        assert_eq!(ask(&mfa_within(1), &facts, end - 1), (true, Some(end)));
        assert_eq!(ask(&mfa_within(1), &facts, end), (false, None));
        assert_eq!(
            ask(&mfa_within(1), &person(None, NOON + HOUR), NOON),
            (false, None)
        );
        assert_eq!(ask(&mfa_within(1), &Facts::default(), NOON), (false, None));
    }

    #[test]
    fn a_second_factor_is_no_better_than_its_session() {
        let facts = person(Some(NOON), NOON + HOUR);

        assert_eq!(ask(&mfa_within(8), &facts, NOON), (true, Some(NOON + HOUR)));
        assert_eq!(ask(&mfa_within(8), &facts, NOON + HOUR), (false, None));
    }

    #[test]
    fn hours_open_only_for_whom_all_else_will_still_hold() {
        let evening = Requirement {
            hours: Some("Tue 14:00-20:00 UTC".parse().unwrap()),
            ..mfa_within(3)
        };

        assert_eq!(
            ask(&evening, &person(Some(NOON), NOON + 9 * HOUR), NOON),
            (false, Some(NOON + 2 * HOUR))
        );
        assert_eq!(
            ask(&evening, &person(Some(NOON - HOUR), NOON + 9 * HOUR), NOON),
            (false, None)
        );
    }

    #[test]
    fn an_ipv4_address_written_as_ipv6_is_itself() {
        let office = Requirement {
            source: vec!["10.1.0.0/16".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            ..Requirement::default()
        };
        let from = |source: Option<&str>| Facts {
            source: source.map(|source| source.parse().unwrap()),
            ..Facts::default()
        };

        for inside in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"] {
            assert!(ask(&office, &from(Some(inside)), NOON).0, "{inside}");
        }
        for outside in [
            Some("10.2.0.1"),
            Some("::ffff:10.2.0.1"),
            Some("::10.1.2.3"),
            None,
        ] {
            assert!(!ask(&office, &from(outside), NOON).0, "{outside:?}");
        }
    }

    #[test]
    fn what_asks_for_less_is_known() {
        let strict = Requirement {
            posture: vec![Name::parse("disk").unwrap(), Name::parse("firewall").unwrap()],
            source: vec!["10.1.2.0/24".parse().unwrap()],
            ..mfa_within(1)
        };
        let lax = Requirement {
            posture: vec![Name::parse("firewall").unwrap()],
            source: vec!["10.1.0.0/16".parse().unwrap()],
            ..mfa_within(2)
        };

        assert!(lax.asks_no_more_than(&strict) && !strict.asks_no_more_than(&lax));
        assert!(Requirement::default().asks_no_more_than(&lax));
        assert!(!lax.asks_no_more_than(&Requirement::default()));
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let mfa = prop::option::of((1..6_u64).prop_map(Duration::from_hours));
        let hours = prop::option::of(prop::sample::select(
            &[
                "Tue 11:00-13:00 UTC",
                "Tue,Wed 14:00-02:00 UTC",
                "Mon-Sun 00:00-24:00 UTC",
                "Wed 00:00-03:00 UTC",
            ][..],
        ));
        let posture = prop::collection::btree_set(prop::sample::select(&["disk", "firewall"][..]), 0..3);
        let source = prop::option::of(Just("10.1.0.0/16"));
        (mfa, hours, posture, source).prop_map(|(mfa, hours, posture, source)| Requirement {
            mfa,
            posture: posture
                .into_iter()
                .map(|check| Name::parse(check).unwrap())
                .collect(),
            hours: hours.map(|hours| hours.parse().unwrap()),
            source: source.into_iter().map(|source| source.parse().unwrap()).collect(),
        })
    }

    fn facts() -> impl Strategy<Value = Facts> {
        let seconds = || 0..36_000_u64;
        let user = prop::option::weighted(0.8, (prop::option::weighted(0.8, seconds()), seconds()));
        let posture = prop::collection::btree_set(prop::sample::select(&["disk", "firewall"][..]), 0..3);
        let source = prop::option::of(prop::sample::select(
            &["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1"][..],
        ));
        (user, posture, source).prop_map(|(user, posture, source)| {
            let person = user.map(|(mfa_ago, left)| {
                person(
                    mfa_ago.map(|ago| NOON - ago * 1_000 + ago % 1_000),
                    NOON + left * 1_000 + left % 1_000,
                )
            });
            Facts {
                posture: posture
                    .into_iter()
                    .map(|check| Name::parse(check).unwrap())
                    .collect(),
                source: source.map(|source| source.parse().unwrap()),
                ..person.unwrap_or_default()
            }
        })
    }

    /// Each part by itself, read off the words of the policy reference. `open` says for each minute from noon on whether
    /// it is one of the hours.
    fn is_met(requirement: &Requirement, facts: &Facts, open: &[bool], at: u64) -> bool {
        let user = facts
            .user
            .as_ref()
            .filter(|user| at / 1_000 < user.until.0 / 1_000);
        let mfa = requirement.mfa.is_none_or(|max| {
            let proved = user.and_then(|user| user.mfa_at);
            proved.is_some_and(|proved| {
                at / 1_000 < (proved.0 + u64::try_from(max.as_millis()).unwrap()) / 1_000
            })
        });
        let mut checks = requirement.posture.iter();
        let posture = checks.all(|check| facts.posture.iter().any(|passed| passed == check));
        let inside = |source: IpAddr| ["10.1.2.3", "::ffff:10.1.2.3"].contains(&source.to_string().as_str());
        let source = requirement.source.is_empty() || facts.source.is_some_and(inside);
        mfa && posture && source && open[usize::try_from((at - NOON) / 60_000).unwrap()]
    }

    fn open_minutes(requirement: &Requirement) -> Vec<bool> {
        let minute = |n: u64| {
            let hours = requirement.hours.as_ref();
            hours.is_none_or(|hours| hours.standing(UnixMillis(NOON + n * 60_000)).holds)
        };
        (0..20 * 60).map(minute).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Second by second there is no other change than the one that was told, and what is lacking is never nothing.
        #[test]
        fn a_standing_holds_until_it_says_and_changes_then(requirement in requirement(), facts in facts(), part in 0..1_000_u64) {
            let standing = requirement.standing(&facts, UnixMillis(NOON + part));
            let open = open_minutes(&requirement);
            let mut seconds = (NOON..NOON + 20 * HOUR).step_by(1_000);
            let first = seconds.find(|at| is_met(&requirement, &facts, &open, *at) != standing.holds);

            prop_assert_eq!(standing.holds, is_met(&requirement, &facts, &open, NOON + part));
            prop_assert_eq!(standing.holds, requirement.lacks(&facts, UnixMillis(NOON + part)).is_empty());
            match (standing.until, first) {
                (Some(until), Some(first)) => prop_assert_eq!(until.0, first),
                (None, first) => prop_assert_eq!(first, None),
                (Some(until), None) => prop_assert!(until.0 >= NOON + 20 * HOUR),
            }
        }

        #[test]
        fn what_asks_no_more_is_met_by_all_who_meet_the_other(one in requirement(), other in requirement(), facts in facts()) {
            let (one_holds, other_holds) =
                (one.standing(&facts, UnixMillis(NOON)).holds, other.standing(&facts, UnixMillis(NOON)).holds);
            prop_assert!(!one.asks_no_more_than(&other) || !other_holds || one_holds);
        }
    }
}
