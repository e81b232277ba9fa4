//! Switches that take a safeguard away, for the simulation to prove that it would notice.
//!
//! **Invariant:** without the feature `sabotage`, which no shipped program is built with (tests/tidy looks), every
//! safeguard is on: [`is_off`] is `false` at compile time, and there is no switch.

/// Something that keeps a promise of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safeguard {
    /// A node acknowledges a revision after it is enforced and on disk.
    AcknowledgementOrder,
    /// A node learns the keys of those alone whom a rule joins with it (wall 1).
    Allowlist,
    /// A packet is for the address of the node that takes it.
    DestinationCheck,
    /// The sender's rules refuse early (wall 3).
    EgressRules,
    /// Rules end when they say.
    Expiry,
    /// A peer has at most so many flows.
    FlowBound,
    /// The controller knows by its name a record of a flow that comes again.
    FlowNames,
    /// Every process of a node numbers its records in a stream of its own.
    FlowStreams,
    /// A node keeps a record of a flow until the controller has stored it.
    FlowsKept,
    /// Later fragments follow their first one.
    Fragments,
    /// Handshakes with strangers are computed within a budget.
    HandshakeAdmission,
    /// The receiver's rules decide (wall 2).
    IngressRules,
    /// An ICMP error quotes a live flow of its receiver.
    IcmpQuotes,
    /// A key has one owner.
    KeyOwnership,
    /// Who is silent for longer than its lease is nobody's peer.
    Lapse,
    /// A segment closes when its lease ends.
    Lease,
    /// A netmap older than the one in force is refused.
    Monotony,
    /// A netmap is for the node that takes it.
    NetmapOwner,
    /// A new revision judges live flows again.
    Rejudging,
    /// A peer that left has no keys here.
    Removal,
    /// A datagram opens once.
    ReplayWindow,
    /// A reset lands on the next byte that its receiver expects.
    ResetNumbers,
    /// A restart does not lengthen a lease.
    RestoredLease,
    /// Sources of handshakes are forgotten to make room.
    SourceBound,
    /// A packet's source is an address of the peer that sent it.
    SourceCheck,
    /// Whoever a change takes something from is told of it.
    Telling,
    /// A token makes as many nodes as it is for.
    TokenUses,
    /// The secret of a token is checked.
    TokenSecret,
    /// Who answers a connection may not open another in its guise.
    TurnAround,
}

impl Safeguard {
    /// Every one.
    pub const ALL: [Self; 29] = [
        Self::AcknowledgementOrder,
        Self::Allowlist,
        Self::DestinationCheck,
        Self::EgressRules,
        Self::Expiry,
        Self::FlowBound,
        Self::FlowNames,
        Self::FlowStreams,
        Self::FlowsKept,
        Self::Fragments,
        Self::HandshakeAdmission,
        Self::IngressRules,
        Self::IcmpQuotes,
        Self::KeyOwnership,
        Self::Lapse,
        Self::Lease,
        Self::Monotony,
        Self::NetmapOwner,
        Self::Rejudging,
        Self::Removal,
        Self::ReplayWindow,
        Self::ResetNumbers,
        Self::RestoredLease,
        Self::SourceBound,
        Self::SourceCheck,
        Self::Telling,
        Self::TokenUses,
        Self::TokenSecret,
        Self::TurnAround,
    ];
}

/// Whether a simulation has switched this safeguard off.
#[cfg(not(feature = "sabotage"))]
#[inline]
pub const fn is_off(_: Safeguard) -> bool {
    false
}

#[cfg(feature = "sabotage")]
pub use switched::{is_off, switch_off};

#[cfg(feature = "sabotage")]
mod switched {
    use std::cell::Cell;

    use super::Safeguard;

    thread_local! {
        static OFF: Cell<Option<Safeguard>> = const { Cell::new(None) };
    }

    /// Whether this thread's simulation has switched this safeguard off.
    pub fn is_off(safeguard: Safeguard) -> bool {
        OFF.get() == Some(safeguard)
    }

    /// Switches one safeguard off on this thread, or all on.
    pub fn switch_off(safeguard: Option<Safeguard>) {
        OFF.set(safeguard);
    }
}

#[cfg(all(test, not(feature = "sabotage")))]
mod tests {
    use super::*;

    #[test]
    fn safeguards_are_on() {
        const { assert!(!is_off(Safeguard::SourceCheck)) };
    }
}
