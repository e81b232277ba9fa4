//! Who mutes the controller keeps nothing past its lease: the oracle's own count of who is silent, and for how long.

use std::time::Duration;

use ringfence_controlplane::{Change, Event, LapseEvent};
use ringfence_model::{Name, NodeId};

use crate::spec::Spec;
use crate::violation::Violation;
use crate::world::World;

/// What is known of a node that should be heard of.
#[derive(Clone, Copy, Debug)]
enum Silence {
    /// No controller runs that could tell: a change was found on disk after a crash.
    Unknown,
    Connected,
    For(Duration),
}

impl World {
    /// Takes down who lapsed and who returned by a change.
    ///
    /// # Errors
    /// If somebody lapsed who is connected or whose lease was not over, or returned who is not connected.
    pub(crate) fn read_lapses(&self, spec: &mut Spec, change: &Change) -> Result<(), Violation> {
        for event in &change.events {
            let Event::Lapse(event) = event else {
                continue;
            };
            match event {
                LapseEvent::MembersLapsed { perimeter, nodes } => {
                    for node in nodes {
                        self.check_lapse(spec, perimeter, *node)?;
                        spec.lapsed.insert((perimeter.clone(), *node));
                    }
                }
                LapseEvent::MembersReturned { perimeter, nodes } => {
                    for node in nodes {
                        self.check_return(*node)?;
                        spec.lapsed.remove(&(perimeter.clone(), *node));
                    }
                }
            }
        }
        let Spec {
            nodes,
            perimeters,
            lapsed,
            ..
        } = spec;
        lapsed.retain(|(name, node)| nodes.contains_key(node) && perimeters.contains_key(name));
        Ok(())
    }

    fn check_lapse(&self, spec: &Spec, perimeter: &Name, node: NodeId) -> Result<(), Violation> {
        let silence = self.silence_of(node);
        let lease = spec
            .perimeters
            .get(perimeter)
            .map_or(0, |perimeter| perimeter.lease_s);
        let span = Duration::from_millis(self.oracle.clock_span_ms());
        let may = match silence {
            Silence::Unknown => true,
            Silence::Connected => false,
            Silence::For(silent) => silent + span + ROUNDING >= Duration::from_secs(lease),
        };
        if may {
            return Ok(());
        }
        let what = format!("node {node} lapsed in {perimeter}: {silence:?}, its lease is {lease} s");
        Err(Violation::new("lapse", what))
    }

    fn check_return(&self, node: NodeId) -> Result<(), Violation> {
        match self.silence_of(node) {
            Silence::For(silent) => Err(Violation::new(
                "lapse",
                format!("node {node} returned and is silent for {silent:?}"),
            )),
            Silence::Connected | Silence::Unknown => Ok(()),
        }
    }

    /// Whoever has been silent for its lease, and longer than it takes to notice, has lapsed.
    ///
    /// # Errors
    /// If somebody has not.
    pub(crate) fn check_silence(&self) -> Result<(), Violation> {
        let span = Duration::from_millis(self.oracle.clock_span_ms());
        for (name, node) in self.current.keys.keys() {
            let Silence::For(silent) = self.silence_of(*node) else {
                continue;
            };
            let lease = self
                .current
                .perimeters
                .get(name)
                .map_or(0, |perimeter| perimeter.lease_s);
            let is_late = silent > Duration::from_secs(lease) + span + NOTICED;
            if is_late && !self.current.lapsed.contains(&(name.clone(), *node)) {
                let what = format!("node {node} is silent for {silent:?}, and not lapsed in {name}");
                return Err(Violation::new("lapse", what));
            }
        }
        Ok(())
    }

    fn silence_of(&self, node: NodeId) -> Silence {
        let Some(core) = self.controller.core.as_ref() else {
            return Silence::Unknown;
        };
        let mut sessions = core.sessions.values();
        if sessions.any(|seat| seat.session.node() == node) {
            return Silence::Connected;
        }
        let heard = self.controller.heard.get(&node).copied().unwrap_or_default();
        Silence::For(self.now.saturating_sub(heard.max(core.began)))
    }
}

/// The controller counts in whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);
/// Its clock may be set, and is looked at every half a minute; its disk may be full for a while.
const NOTICED: Duration = Duration::from_secs(90);
