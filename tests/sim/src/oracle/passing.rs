//! Whether a packet may pass at a machine: by the policy in force there, and by every newer one but for a lease.

use std::time::Duration;

use ringfence_model::{Name, NodeId};

use super::{Opened, Oracle, Side, View};
use crate::inspect::{Seen, Tuple, reversed};
use crate::spec::{Opening, Spec};
use crate::violation::Violation;

impl Oracle {
    /// Whether policy as `machine` has it lets a packet pass between it and `peer`.
    pub(super) fn may_pass(
        &self,
        machine: usize,
        side: Side,
        perimeter: &Name,
        seen: &Seen,
        peer: NodeId,
        now: Duration,
    ) -> bool {
        let Some(view) = self.views.get(&machine) else {
            return false;
        };
        self.passes_by(
            &self.spec(view.revision),
            view,
            machine,
            side,
            perimeter,
            seen,
            peer,
            now,
        )
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the whole question, asked in two places"
    )]
    fn passes_by(
        &self,
        spec: &Spec,
        view: &View,
        machine: usize,
        side: Side,
        perimeter: &Name,
        seen: &Seen,
        peer: NodeId,
        now: Duration,
    ) -> bool {
        let wall = view.wall(now);
        let (ours, theirs) = match side {
            Side::Sender => (seen.tuple(), reversed(seen.tuple())),
            Side::Receiver => (reversed(seen.tuple()), seen.tuple()),
        };
        let we_open = |tuple: Tuple| {
            self.opened.contains_key(&(machine, perimeter.clone(), tuple))
                && spec.allows(perimeter, opening(view.node, peer, tuple.2, tuple.4), wall)
        };
        let they_open = |tuple: Tuple| {
            self.heard.contains(&(machine, perimeter.clone(), tuple))
                && spec.allows(perimeter, opening(peer, view.node, tuple.2, tuple.4), wall)
        };
        if let Some((id, _)) = seen.fragment.filter(|(_, offset)| *offset > 0) {
            let of = (seen.src, seen.dst, seen.protocol, id);
            let Some(tuple) = self.fragments.get(&(machine, perimeter.clone(), of)).copied() else {
                return false;
            };
            return we_open(tuple)
                || they_open(tuple)
                || we_open(reversed(tuple))
                || they_open(reversed(tuple));
        }
        if let Some(quoted) = seen.quoted {
            // Sent back to the sender of what it quotes.
            return quoted.0 == seen.dst && (we_open(quoted) || they_open(reversed(quoted)));
        }
        let opens = seen.is_syn() || seen.is_echo_request() || (seen.protocol == 17);
        let fresh = match side {
            Side::Sender => opening(view.node, peer, seen.protocol, seen.dst_port),
            Side::Receiver => opening(peer, view.node, seen.protocol, seen.dst_port),
        };
        if opens && spec.allows(perimeter, fresh, wall) {
            return true;
        }
        if seen.is_syn() && side == Side::Receiver {
            // Both ends open at once (RFC 9293 section 3.5).
            let state = self.opened.get(&(machine, perimeter.clone(), ours));
            return state == Some(&Opened::Unanswered) && we_open(ours);
        }
        if seen.is_echo_request() {
            return false;
        }
        we_open(ours) || they_open(theirs)
    }

    /// Delivered means: allowed by the newest policy, or forbidden for no longer than the lease bound.
    pub(super) fn check_age(
        &self,
        machine: usize,
        perimeter: &Name,
        seen: &Seen,
        from: NodeId,
        now: Duration,
    ) -> Result<(), Violation> {
        let Some(view) = self.views.get(&machine) else {
            return Ok(());
        };
        let mut forbidden_since = None;
        for past in self.history.range(view.revision..).rev().map(|(_, past)| past) {
            if self.passes_by(
                &past.spec,
                view,
                machine,
                Side::Receiver,
                perimeter,
                seen,
                from,
                now,
            ) {
                break;
            }
            forbidden_since = Some(past.at);
        }
        let Some(since) = forbidden_since else {
            return Ok(());
        };
        let lease = self
            .spec(view.revision)
            .perimeters
            .get(perimeter)
            .map_or(0, |policy| policy.lease_s);
        if now.saturating_sub(since) <= Duration::from_secs(lease) + self.slack {
            return Ok(());
        }
        let what = format!(
            "m{machine} on {} was delivered {seen:?} in {perimeter}, forbidden since {since:?}, lease {lease} s",
            view.revision
        );
        Err(Violation::new("age", what).of(machine))
    }
}

/// A conversation that `from` opens.
pub(super) fn opening(from: NodeId, to: NodeId, protocol: u8, port: u16) -> Opening {
    Opening {
        from,
        to,
        protocol,
        port,
    }
}
