//! Notices a controller that has fallen silent before its leases end.
//!
//! QUIC gives a dead connection up after its idle timeout, which may be longer than a short lease. The controller
//! extends leases every quarter of the shortest; two of these missing are enough to knock anew.

use std::time::Duration;

use super::Control;

impl Control {
    /// Closes a connection on which nothing was said for too long; the link makes another.
    pub(super) fn hang_up_on_silence(&mut self) {
        let segments = self
            .session
            .netmap()
            .into_iter()
            .flat_map(|netmap| netmap.segments.values());
        let patience = patience(
            segments
                .map(|segment| Duration::from_millis(segment.lease_ms))
                .min(),
        );
        let silent = self.memory.heard.is_some_and(|heard| heard.elapsed() > patience);
        if silent && self.memory.link.take().is_some() {
            tracing::warn!("the controller has fallen silent: connecting anew");
        }
    }
}

/// How long a live controller may be silent, given the shortest lease.
fn patience(shortest_lease: Option<Duration>) -> Duration {
    let heartbeat = shortest_lease.map_or(HEARTBEAT_MAX, |lease| (lease / 4).min(HEARTBEAT_MAX));
    heartbeat * 2 + GRACE
}

/// The longest time between two words of the controller.
const HEARTBEAT_MAX: Duration = Duration::from_secs(15);
/// For a busy controller and a slow line.
const GRACE: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_noticed_before_the_shortest_lease_ends() {
        for lease in [10, 30, 60, 600] {
            let lease = Duration::from_secs(lease);
            assert!(patience(Some(lease)) < lease, "{lease:?}");
        }
        assert!(patience(None) > HEARTBEAT_MAX * 2);
    }
}
