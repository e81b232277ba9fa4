//! What this node does when its mesh will not have it.

use super::Control;
use crate::command::Command;
use crate::packet_loop::LoopEnded;
use crate::saved;

impl Control {
    /// Closes every segment: removal reaches a node that was away when it happened, and outlasts a restart.
    ///
    /// Nothing is forgotten but the lease: a controller that was set back in time may yet take the node back.
    pub(super) async fn close_all(&mut self) -> Result<(), LoopEnded> {
        self.packets.send(Command::EndLeases).await?;
        if let Err(error) = saved::forget_word(&self.state) {
            tracing::error!(%error, "after a restart segments may be open for what was left of their leases");
        }
        Ok(())
    }

    /// Says what to do about a certificate that nobody will renew any more.
    pub(super) fn tell_of_expiry(&self) {
        if self.identity.borrow().has_expired(saved::wall_now()) {
            tracing::error!(
                node = %self.node.name,
                "this node's certificate has expired, as after days without a controller: remove the node there and \
                 the state directory here, then enrol it again"
            );
        }
    }
}
