//! Who mutes the controller keeps nothing past its lease: the oracle's own count of who is silent, and for how long.

use std::time::Duration;

use ringfence_controlplane::{Change, Event, LapseEvent};
use ringfence_model::{Name, NodeId};

use crate::spec::Spec;
use crate::violation::Violation;
use crate::world::World;

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
        // A change that was found on disk after a crash: who was connected before it is not known here.
        let Some(silent) = self.silent_for(node) else {
            return Ok(());
        };
        let lease = spec
            .perimeters
            .get(perimeter)
            .map_or(0, |perimeter| perimeter.lease_s);
        let span = Duration::from_millis(self.oracle.clock_span_ms());
        let is_over = silent.is_some_and(|silent| silent + span + ROUNDING >= Duration::from_secs(lease));
        if is_over {
            return Ok(());
        }
        let what = format!("node {node} lapsed in {perimeter} after {silent:?}, its lease is {lease} s");
        Err(Violation::new("lapse", what))
    }

    fn check_return(&self, node: NodeId) -> Result<(), Violation> {
        match self.silent_for(node) {
            Some(Some(silent)) => Err(Violation::new(
                "lapse",
                format!("node {node} returned and is silent for {silent:?}"),
            )),
            Some(None) | None => Ok(()),
        }
    }

    /// Whoever has been silent for its lease, and longer than it takes to notice, has lapsed.
    ///
    /// # Errors
    /// If somebody has not.
    pub(crate) fn check_silence(&self) -> Result<(), Violation> {
        let span = Duration::from_millis(self.oracle.clock_span_ms());
        for (name, node) in self.current.keys.keys() {
            let Some(Some(silent)) = self.silent_for(*node) else {
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

    /// For how long a node has been silent, if it is not connected; `None` if no controller runs that could tell.
    fn silent_for(&self, node: NodeId) -> Option<Option<Duration>> {
        let core = self.controller.core.as_ref()?;
        let mut sessions = core.sessions.values();
        if sessions.any(|seat| seat.session.node() == node) {
            return Some(None);
        }
        let heard = self.controller.heard.get(&node).copied().unwrap_or_default();
        Some(Some(self.now.saturating_sub(heard.max(core.began))))
    }
}

/// The controller counts in whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);
/// Its clock may be set, and is looked at every half a minute; its disk may be full for a while.
const NOTICED: Duration = Duration::from_secs(90);
