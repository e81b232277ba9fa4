//! Says from the history alone what may happen: what was asked for, what was sent, what each node was told.
//!
//! **Invariant:** the oracle never asks the product for a verdict. It knows revisions by the requests that made them,
//! and policy by [`Spec`]'s naive reading of them.

mod passing;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::rc::Rc;
use std::time::Duration;

use ringfence_model::{Name, NodeId, Revision};

use crate::clock::WALL_START;
use crate::inspect::{Seen, Tuple, inspect, reversed};
use crate::spec::Spec;
use crate::violation::Violation;
use passing::opening;

/// History, and what follows from it.
#[derive(Default)]
pub(crate) struct Oracle {
    history: BTreeMap<Revision, Past>,
    /// What each machine stands on.
    views: BTreeMap<usize, View>,
    sent: BTreeMap<(NodeId, u64), Copies>,
    /// What each machine's applications tried to say or heard: notices may be about these alone.
    touched: BTreeSet<(usize, Name, Tuple)>,
    /// Conversations that a machine's applications opened and its data plane took.
    opened: BTreeMap<(usize, Name, Tuple), Opened>,
    /// Conversations that peers opened to a machine.
    heard: BTreeSet<(usize, Name, Tuple)>,
    /// First fragments that passed at a machine: what the later ones are part of.
    fragments: BTreeMap<(usize, Name, FragmentOf), Tuple>,
    /// The least and the most that the controller's wall clock was ever off, in milliseconds.
    clock_off_ms: (i64, i64),
    /// How long word of the controller may be under way on top of a lease.
    pub(crate) slack: Duration,
}

/// Source, destination, protocol and identification.
type FragmentOf = (std::net::IpAddr, std::net::IpAddr, u8, u32);

struct Past {
    at: Duration,
    spec: Rc<Spec>,
}

/// What a machine stands on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Who it is.
    pub node: NodeId,
    /// The revision in force.
    pub revision: Revision,
    /// The wall clock it counts with, in milliseconds, at `since`.
    pub wall_ms: u64,
    /// When the netmap came into force.
    pub since: Duration,
    /// When the controller last spoke, in microseconds from the start of the run; before it for a restored netmap.
    pub word_us: i128,
}

#[derive(Clone, Copy, Default)]
struct Copies {
    sent: u32,
    delivered: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Opened {
    Unanswered,
    Answered,
}

/// What a packet on a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// Another machine's application sent it.
    Packet,
    /// A data plane wrote it, to end a conversation.
    Notice,
}

/// Which side of a packet a machine is on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Sender,
    Receiver,
}

impl Oracle {
    /// The controller's wall clock was set.
    pub(crate) fn clock_was_set(&mut self, off_ms: i64) {
        let (least, most) = self.clock_off_ms;
        self.clock_off_ms = (least.min(off_ms), most.max(off_ms));
    }

    /// The latest that the controller may ever have thought it is.
    pub(crate) fn latest_wall_ms(&self, now: Duration) -> u64 {
        ((WALL_START + now).as_millis() as u64).saturating_add_signed(self.clock_off_ms.1)
    }

    /// The most that the controller's clock was ever ahead.
    pub(crate) fn clock_ahead_ms(&self) -> i64 {
        self.clock_off_ms.1
    }

    /// How far two readings of the controller's clock may disagree.
    pub(crate) fn clock_span_ms(&self) -> u64 {
        self.clock_off_ms.0.abs_diff(self.clock_off_ms.1)
    }

    /// A revision was made.
    pub(crate) fn committed(&mut self, revision: Revision, at: Duration, spec: Rc<Spec>) {
        self.history.insert(revision, Past { at, spec });
    }

    /// The mesh as a revision had it.
    pub(crate) fn spec(&self, revision: Revision) -> Rc<Spec> {
        self.history
            .get(&revision)
            .map(|past| Rc::clone(&past.spec))
            .unwrap_or_default()
    }

    /// The highest revision there ever was.
    pub(crate) fn newest(&self) -> Revision {
        self.history.keys().next_back().copied().unwrap_or(Revision::ZERO)
    }

    /// What a machine stands on.
    pub(crate) fn view(&self, machine: usize) -> Option<&View> {
        self.views.get(&machine)
    }

    /// A machine put a netmap in force.
    pub(crate) fn enforced(&mut self, machine: usize, view: View) {
        self.views.insert(machine, view);
    }

    /// A machine took the controller's word for a lease.
    pub(crate) fn leased(&mut self, machine: usize, now: Duration) {
        if let Some(view) = self.views.get_mut(&machine) {
            view.word_us = now.as_micros().cast_signed();
        }
    }

    /// A machine's process ended, and with it its memory.
    pub(crate) fn forget(&mut self, machine: usize) {
        self.views.remove(&machine);
        self.touched.retain(|(place, ..)| *place != machine);
        self.opened.retain(|(place, ..), _| *place != machine);
        self.heard.retain(|(place, ..)| *place != machine);
        self.fragments.retain(|(place, ..), _| *place != machine);
    }

    /// Whether a machine's segment is open, by its lease.
    pub(crate) fn is_leased(&self, machine: usize, perimeter: &Name, now: Duration) -> bool {
        let Some(view) = self.views.get(&machine) else {
            return false;
        };
        let spec = self.spec(view.revision);
        let Some(policy) = spec.perimeters.get(perimeter) else {
            return false;
        };
        now.as_micros().cast_signed() < view.word_us + i128::from(policy.lease_s) * 1_000_000
    }

    /// An application, or an attacker who holds its keys, sends a packet.
    pub(crate) fn sent(&mut self, node: NodeId, perimeter: &Name, packet: &[u8]) {
        self.sent
            .entry((node, digest(perimeter, packet)))
            .or_default()
            .sent += 1;
    }

    /// An application hands a packet to its data plane.
    pub(crate) fn touched(&mut self, machine: usize, perimeter: &Name, seen: &Seen) {
        self.touched.insert((machine, perimeter.clone(), seen.tuple()));
    }

    /// A data plane took an application's packet.
    ///
    /// # Errors
    /// If the policy in force there does not allow it.
    pub(crate) fn taken(
        &mut self,
        machine: usize,
        perimeter: &Name,
        seen: &Seen,
        now: Duration,
    ) -> Result<(), Violation> {
        let Some(view) = self.views.get(&machine).copied() else {
            return Err(Violation::new("egress", "a node without a netmap took a packet").of(machine));
        };
        if !self.is_leased(machine, perimeter, now) {
            return Err(Violation::new(
                "lease",
                format!("m{machine} took {seen:?} after its lease in {perimeter}"),
            )
            .of(machine));
        }
        let spec = self.spec(view.revision);
        let peer = spec.owner(perimeter, seen.dst);
        let allowed =
            peer.is_some_and(|peer| self.may_pass(machine, Side::Sender, perimeter, seen, peer, now));
        if !allowed {
            let what = format!(
                "m{machine} sent {seen:?} in {perimeter}, which {} does not allow",
                view.revision
            );
            return Err(Violation::new("egress", what).of(machine));
        }
        self.note_fragment(machine, perimeter, seen);
        if seen.is_later_fragment() {
            return Ok(());
        }
        let answers = self
            .heard
            .contains(&(machine, perimeter.clone(), reversed(seen.tuple())));
        if !answers || seen.is_echo_request() {
            let opened = self.opened.entry((machine, perimeter.clone(), seen.tuple()));
            opened.or_insert(Opened::Unanswered);
        }
        Ok(())
    }

    /// Whether a data plane had to take an opening packet that it refused: allowed, to a peer with a key.
    pub(crate) fn owed(&self, machine: usize, perimeter: &Name, seen: &Seen, now: Duration) -> bool {
        let Some(view) = self.views.get(&machine) else {
            return false;
        };
        let spec = self.spec(view.revision);
        let opens =
            seen.is_syn() || seen.is_echo_request() || (seen.protocol == 17 && seen.fragment.is_none());
        let Some(peer) = spec.owner(perimeter, seen.dst).filter(|_| opens) else {
            return false;
        };
        let open = opening(view.node, peer, seen.protocol, seen.dst_port);
        // A clock that was set back does not bring back what the controller knew to be over.
        let keys = [view.node, peer].map(|node| spec.keys.contains_key(&(perimeter.clone(), node)));
        keys == [true, true]
            && spec.owner(perimeter, seen.src) == Some(view.node)
            && self.is_leased(machine, perimeter, now)
            && spec.allows(perimeter, open, view.wall(now).max(self.latest_wall_ms(now)))
    }

    /// A packet appeared on a machine's device.
    ///
    /// # Errors
    /// If it may not have.
    pub(crate) fn delivered(
        &mut self,
        machine: usize,
        perimeter: &Name,
        packet: &[u8],
        now: Duration,
    ) -> Result<Delivered, Violation> {
        let Some(seen) = inspect(packet) else {
            return Err(Violation::new("delivery", "what was delivered is no packet").of(machine));
        };
        let Some(view) = self.views.get(&machine).copied() else {
            return Err(Violation::new("delivery", "a node without a netmap delivered a packet").of(machine));
        };
        let spec = self.spec(view.revision);
        let from = spec.owner(perimeter, seen.src);
        let key = from.map(|from| (from, digest(perimeter, packet)));
        let Some((from, copies)) = key.and_then(|key| Some((key.0, self.sent.get_mut(&key)?))) else {
            return self.notice(machine, perimeter, &seen);
        };
        copies.delivered += 1;
        if copies.delivered > copies.sent {
            let what = format!(
                "m{machine} was delivered {seen:?} in {perimeter} {} times, sent {}",
                copies.delivered, copies.sent
            );
            return Err(Violation::new("replay", what).of(machine));
        }
        if spec.owner(perimeter, seen.dst) != Some(view.node) {
            let what = format!("m{machine} was delivered {seen:?} in {perimeter}, which is for someone else");
            return Err(Violation::new("destination", what).of(machine));
        }
        if !self.is_leased(machine, perimeter, now) {
            let what = format!("m{machine} was delivered {seen:?} in {perimeter} after its lease");
            return Err(Violation::new("lease", what).of(machine));
        }
        if !self.may_pass(machine, Side::Receiver, perimeter, &seen, from, now) {
            let what = format!(
                "m{machine} was delivered {seen:?} in {perimeter}, which {} does not allow",
                view.revision
            );
            return Err(Violation::new("ingress", what).of(machine));
        }
        self.check_age(machine, perimeter, &seen, from, now)?;
        self.note_delivered(machine, perimeter, &seen);
        Ok(Delivered::Packet)
    }

    /// What no application sent must end a conversation that this machine knows.
    fn notice(&self, machine: usize, perimeter: &Name, seen: &Seen) -> Result<Delivered, Violation> {
        let about = if seen.is_reset() {
            Some(reversed(seen.tuple()))
        } else {
            seen.quoted
        };
        let known = about.is_some_and(|tuple| {
            [tuple, reversed(tuple)]
                .into_iter()
                .any(|tuple| self.touched.contains(&(machine, perimeter.clone(), tuple)))
        });
        if known {
            return Ok(Delivered::Notice);
        }
        let what = format!("m{machine} was delivered {seen:?} in {perimeter}, which its source never sent");
        Err(Violation::new("source", what).of(machine))
    }

    fn note_delivered(&mut self, machine: usize, perimeter: &Name, seen: &Seen) {
        self.touched.insert((machine, perimeter.clone(), seen.tuple()));
        self.note_fragment(machine, perimeter, seen);
        if seen.is_later_fragment() || seen.quoted.is_some() {
            return;
        }
        // Both ends may choose one identifier: an echo asked for is no answer to another.
        let answered = self
            .opened
            .get_mut(&(machine, perimeter.clone(), reversed(seen.tuple())));
        if let Some(opened) = answered.filter(|_| !seen.is_echo_request()) {
            *opened = Opened::Answered;
        } else {
            self.heard.insert((machine, perimeter.clone(), seen.tuple()));
        }
    }

    fn note_fragment(&mut self, machine: usize, perimeter: &Name, seen: &Seen) {
        if let Some((id, 0)) = seen.fragment {
            let of = (seen.src, seen.dst, seen.protocol, id);
            self.fragments
                .insert((machine, perimeter.clone(), of), seen.tuple());
        }
    }
}

impl View {
    /// The wall clock as the node counts it.
    pub(crate) fn wall(&self, now: Duration) -> u64 {
        self.wall_ms + now.saturating_sub(self.since).as_millis() as u64
    }
}

fn digest(perimeter: &Name, packet: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    perimeter.as_str().hash(&mut hasher);
    // The identification of an IPv4 packet that must not be fragmented means nothing (RFC 6864 section 4.1): cutting
    // and joining number such packets anew.
    if packet.first().is_some_and(|first| first >> 4 == 4) && packet.get(6..8) == Some(&[0x40, 0]) {
        let (before, after) = packet.split_at(12);
        (&before[..4], &before[6..10], after).hash(&mut hasher);
    } else {
        packet.hash(&mut hasher);
    }
    hasher.finish()
}
