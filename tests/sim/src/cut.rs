//! A conversation that policy cuts is over at both ends: each end's own data plane resets its application at once.
//!
//! The reset that travels to the other end is a courtesy: data may be lost or overtaken on the way, and then neither
//! of its two sequence numbers may be the one expected there (`Stats::resets_astray`). The local one must land,
//! unless so much of a bulk transfer was overtaken that no data plane can follow it.

use ringfence_dataplane::FlowClosed;
use ringfence_policy::CloseReason;

use crate::inspect::{Tuple, reversed};
use crate::violation::Violation;
use crate::world::World;

impl World {
    /// A data plane has ended a flow, and written what it had to say to its device.
    ///
    /// # Errors
    /// If policy cut it, and the application there goes on.
    pub(crate) fn check_cut(&mut self, machine: usize, closed: &FlowClosed) -> Result<(), Violation> {
        let is_cut = match closed.why {
            CloseReason::Revoked | CloseReason::Expired | CloseReason::PeerGone => true,
            CloseReason::Idle | CloseReason::Finished | CloseReason::Evicted => false,
        };
        let flow = closed.flow;
        if !is_cut || flow.protocol.0 != 6 {
            return Ok(());
        }
        self.stats.cuts += 1;
        let tuple: Tuple = (flow.src, flow.dst, 6, flow.src_port, flow.dst_port);
        let lives = [tuple, reversed(tuple)]
            .into_iter()
            .filter(|tuple| self.apps.believes_at_once(machine, &closed.perimeter, *tuple))
            .any(|tuple| self.apps.is_connected(machine, &closed.perimeter, tuple));
        if !lives {
            return Ok(());
        }
        let what = format!(
            "m{machine} has cut {tuple:?} in {}, and its application does not know",
            closed.perimeter
        );
        Err(Violation::new("cut", what).of(machine))
    }
}
