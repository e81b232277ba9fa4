//! How often a password or a code may be tried.
//!
//! Machines where somebody has logged in before are told from all others (OWASP's device cookies, with the node's
//! certificate for a cookie): whoever guesses elsewhere makes nobody wait at their own machine.
//!
//! | what is counted | kept for | when it is too much |
//! | --- | --- | --- |
//! | tries of a node, at whatever name | each node | one more every [`NODE_TRY_EVERY`] |
//! | failures at a name, at machines where its person logged in before | each such machine | a wait that doubles |
//! | failures at a name, everywhere else | a slot that names share | a wait that doubles |
//!
//! **Invariant:** a try counts as failed from when it is let through until it is known to be right, so that many at once are
//! no more than one after the other. Nothing here depends on whether there is such an account. What does not fit is refused.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use ringfence_controlplane::limit::{ACCOUNTS_MAX, NODES_MAX};
use ringfence_model::{Name, NodeId};

use super::vault::FAMILIAR_NODES_MAX;

/// All counts.
pub(super) struct Throttle {
    nodes: BTreeMap<NodeId, Instant>,
    familiar: BTreeMap<(Name, NodeId), Strikes>,
    strange: BTreeMap<u16, Strikes>,
    /// Which slot a name has is nobody's to know.
    slots: RandomState,
}

/// Where somebody tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Where the person of this name has logged in before.
    Familiar,
    /// Anywhere else.
    Strange,
}

/// Too many tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany {
    /// When to try again.
    pub(super) wait: Duration,
    /// Whether the log is to know: not each time.
    pub(super) is_news: bool,
}

/// Failures, one after the other.
#[derive(Clone, Copy, Debug, Default)]
struct Strikes {
    count: u32,
    /// When the last was, and from when on there may be another.
    times: Option<(Instant, Instant)>,
    told_at: Option<Instant>,
}

impl Throttle {
    /// Nobody has tried anything.
    pub(super) fn new() -> Self {
        Self {
            nodes: BTreeMap::new(),
            familiar: BTreeMap::new(),
            strange: BTreeMap::new(),
            slots: RandomState::new(),
        }
    }

    /// Counts a try of a node.
    pub(super) fn admit_node(&mut self, node: NodeId, now: Instant) -> Result<(), TooMany> {
        if self.nodes.len() >= NODES_MAX {
            self.nodes.retain(|_, full_at| *full_at > now);
        }
        let before = self.nodes.get(&node).copied().unwrap_or(now);
        let full_at = before.max(now) + NODE_TRY_EVERY;
        let wait = full_at.saturating_duration_since(now + NODE_TRY_EVERY * NODE_TRIES_BURST);
        let has_room = self.nodes.len() < NODES_MAX || self.nodes.contains_key(&node);
        if !wait.is_zero() || !has_room {
            return Err(TooMany {
                wait: wait.max(Duration::from_secs(1)),
                is_news: false,
            });
        }
        self.nodes.insert(node, full_at);
        Ok(())
    }

    /// Counts a try at a name.
    pub(super) fn admit(
        &mut self,
        (name, node): (&Name, NodeId),
        place: Place,
        now: Instant,
    ) -> Result<(), TooMany> {
        match place {
            Place::Familiar => {
                if self.familiar.len() >= FAMILIAR_MAX {
                    self.familiar.retain(|_, strikes| !strikes.is_forgotten(now));
                }
                let key = (name.clone(), node);
                if self.familiar.len() >= FAMILIAR_MAX && !self.familiar.contains_key(&key) {
                    return Err(TooMany {
                        wait: WAIT_MAX,
                        is_news: false,
                    });
                }
                self.familiar.entry(key).or_default().admit(now)
            }
            Place::Strange => {
                let slot = self.slot(name);
                self.strange.entry(slot).or_default().admit(now)
            }
        }
    }

    /// The try was right.
    pub(super) fn forgive(&mut self, (name, node): (&Name, NodeId), place: Place) {
        match place {
            Place::Familiar => drop(self.familiar.remove(&(name.clone(), node))),
            Place::Strange => {
                let slot = self.slot(name);
                self.strange.remove(&slot);
            }
        }
    }

    fn slot(&self, name: &Name) -> u16 {
        // Its low bits are as good as any.
        (self.slots.hash_one(name) & u64::from(u16::MAX)) as u16
    }
}

impl Strikes {
    fn admit(&mut self, now: Instant) -> Result<(), TooMany> {
        if self.is_forgotten(now) {
            *self = Self::default();
        }
        if let Some((_, next_at)) = self.times
            && now < next_at
        {
            let is_news = self.told_at.is_none_or(|at| now.duration_since(at) >= TELL_EVERY);
            if is_news {
                self.told_at = Some(now);
            }
            return Err(TooMany {
                wait: next_at.duration_since(now),
                is_news,
            });
        }
        self.count = self.count.saturating_add(1);
        self.times = Some((now, now + wait_after(self.count)));
        Ok(())
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        self.times
            .is_none_or(|(last_at, _)| now.duration_since(last_at) >= FORGOTTEN_AFTER)
    }
}

/// How long nobody may try again after so many failures.
fn wait_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES) {
        None => Duration::ZERO,
        Some(more) => WAIT_MIN.saturating_mul(2_u32.saturating_pow(more)).min(WAIT_MAX),
    }
}

/// Failures that are a person's own: then waiting begins…
pub(super) const FREE_FAILURES: u32 = 5;
/// …with this…
pub(super) const WAIT_MIN: Duration = Duration::from_secs(30);
/// …and ends with this: 24 tries a day at codes of which three in a million are right, once the password is known.
pub(super) const WAIT_MAX: Duration = Duration::from_hours(1);
/// After a day without a try it is a new day.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(24);
/// How often an attack that goes on is told of.
const TELL_EVERY: Duration = Duration::from_hours(1);
/// Tries of one node at once: people share machines…
pub(super) const NODE_TRIES_BURST: u32 = 20;
/// …and then one so often.
const NODE_TRY_EVERY: Duration = Duration::from_secs(5);
const FAMILIAR_MAX: usize = ACCOUNTS_MAX * FAMILIAR_NODES_MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODE: NodeId = NodeId(1);

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn waiting_begins_after_some_failures_and_doubles_up_to_an_hour() {
        let seconds = [
            (1, 0),
            (4, 0),
            (5, 30),
            (6, 60),
            (7, 120),
            (8, 240),
            (9, 480),
            (10, 960),
            (11, 1920),
            (12, 3600),
            (40, 3600),
            (u32::MAX, 3600),
        ];
        for (failures, wait) in seconds {
            assert_eq!(wait_after(failures), Duration::from_secs(wait), "{failures}");
        }
    }

    #[test]
    fn nobody_waits_at_their_own_machine_because_somebody_guesses_elsewhere() {
        let (mut throttle, ada, now) = (Throttle::new(), name("ada"), Instant::now());
        for node in 2..200 {
            let _ = throttle.admit((&ada, NodeId(node)), Place::Strange, now);
        }

        assert!(throttle.admit((&ada, NodeId(300)), Place::Strange, now).is_err());
        assert_eq!(throttle.admit((&ada, NODE), Place::Familiar, now), Ok(()));
    }

    #[test]
    fn who_is_right_begins_anew_and_who_waits_long_enough_may_try_again() {
        let (mut throttle, ada, mut now) = (Throttle::new(), name("ada"), Instant::now());
        for _ in 0..FREE_FAILURES - 1 {
            throttle.admit((&ada, NODE), Place::Strange, now).unwrap();
        }
        throttle.forgive((&ada, NODE), Place::Strange);
        for _ in 0..FREE_FAILURES {
            throttle.admit((&ada, NODE), Place::Strange, now).unwrap();
        }
        let refused = throttle.admit((&ada, NODE), Place::Strange, now);
        let first = TooMany {
            wait: WAIT_MIN,
            is_news: true,
        };
        assert_eq!(refused, Err(first));
        now += WAIT_MIN / 2;
        let refused = throttle.admit((&ada, NODE), Place::Strange, now);
        let again = TooMany {
            wait: WAIT_MIN / 2,
            is_news: false,
        };
        assert_eq!(refused, Err(again));
        now += WAIT_MIN / 2;
        throttle.admit((&ada, NODE), Place::Strange, now).unwrap();
        now += FORGOTTEN_AFTER;
        for _ in 0..FREE_FAILURES {
            throttle.admit((&ada, NODE), Place::Strange, now).unwrap();
        }
        assert!(throttle.admit((&ada, NODE), Place::Strange, now).is_err());
    }

    #[test]
    fn a_node_tries_so_many_names_at_once_and_then_one_so_often() {
        let (mut throttle, now) = (Throttle::new(), Instant::now());
        let admitted = (0..100)
            .filter(|_| throttle.admit_node(NODE, now).is_ok())
            .count();

        assert_eq!(admitted, NODE_TRIES_BURST as usize);
        assert!(throttle.admit_node(NodeId(2), now).is_ok());
        assert!(throttle.admit_node(NODE, now + NODE_TRY_EVERY).is_ok());
        assert!(throttle.admit_node(NODE, now + NODE_TRY_EVERY).is_err());
    }

    #[test]
    fn a_full_table_refuses_nodes_until_it_has_room() {
        let (mut throttle, now) = (Throttle::new(), Instant::now());
        for node in 0..NODES_MAX as u64 {
            throttle.admit_node(NodeId(node), now).unwrap();
        }

        assert!(throttle.admit_node(NodeId(u64::MAX), now).is_err());
        assert!(throttle.admit_node(NodeId(7), now).is_ok(), "it has a place");
        assert!(
            throttle
                .admit_node(NodeId(u64::MAX), now + NODE_TRY_EVERY * 3)
                .is_ok()
        );
    }

    proptest! {
        /// However guesses are spread over time and machines: no more than the free ones and what waiting allows.
        #[test]
        fn guesses_are_bounded_however_they_are_spread(
            tries in prop::collection::vec((0_u64..7200, 1_u64..2000, any::<bool>()), 1..400),
        ) {
            let (mut throttle, ada, start) = (Throttle::new(), name("ada"), Instant::now());
            let (mut now, mut admitted) = (start, 0_u32);
            for (seconds, node, is_quick) in tries {
                now += Duration::from_secs(if is_quick { seconds % 3 } else { seconds });
                admitted += u32::from(throttle.admit((&ada, NodeId(node)), Place::Strange, now).is_ok());
                let elapsed = now.duration_since(start);
                // The k-th wait is over before the try that follows it: a sum of doubling waits, then one an hour.
                let mut allowed = FREE_FAILURES;
                let mut waited = wait_after(allowed);
                while waited <= elapsed {
                    allowed += 1;
                    waited += wait_after(allowed);
                }
                prop_assert!(admitted <= allowed, "{admitted} after {elapsed:?}, {allowed} are allowed");
            }
        }

        /// Whoever waits as long as they are told gets their try, whatever happened before.
        #[test]
        fn nobody_is_locked_out_for_longer_than_they_are_told(
            gaps in prop::collection::vec(0_u64..4000, 0..200),
        ) {
            let (mut throttle, ada, mut now) = (Throttle::new(), name("ada"), Instant::now());
            for gap in gaps {
                now += Duration::from_secs(gap);
                let _ = throttle.admit((&ada, NODE), Place::Strange, now);
            }
            if let Err(refused) = throttle.admit((&ada, NODE), Place::Strange, now) {
                prop_assert!(refused.wait <= WAIT_MAX);
                prop_assert!(throttle.admit((&ada, NODE), Place::Strange, now + refused.wait).is_ok());
            }
        }
    }
}
