//! What a restart can use: written down while the node runs, put in force again when it starts.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use ringfence_control::{Netmap, NodeSession, PeerCandidates};
use ringfence_dataplane::Restored;
use ringfence_model::{Candidate, NodeId};

use super::Control;
use crate::command::Command;
use crate::packet_loop::LoopEnded;
use crate::saved;

impl Control {
    /// Puts the netmap that was saved in force, for what is left of its leases.
    pub(crate) async fn restore(&mut self) -> Result<(), LoopEnded> {
        let saved = match saved::load(&self.state, &saved::moment_now()) {
            Ok(Some(saved)) => saved,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "the saved netmap is of no use: no peers until the controller speaks");
                return Ok(());
            }
        };
        let restored = Restored {
            since_word: saved.since_word,
            wall: saved::wall_now(),
        };
        if !self.is_ours(&saved.netmap) {
            tracing::warn!("the saved netmap is another node's: it is ignored");
            return Ok(());
        }
        let (answer, taken) = oneshot::channel();
        let netmap = Box::new(saved.netmap.clone());
        self.packets
            .send(Command::Restore {
                netmap,
                restored,
                answer,
            })
            .await?;
        match taken.await.map_err(|_| LoopEnded)? {
            Ok(()) => {
                let revision = saved.netmap.revision;
                tracing::info!(%revision, "going on with the saved netmap for what is left of its lease");
                self.rename(&saved.netmap.name);
                self.session = NodeSession::new(self.node.mesh.clone(), self.node.node, Some(saved.netmap));
            }
            Err(error) => tracing::warn!(%error, "the saved netmap was refused"),
        }
        let mut peers = saved::load_peers(&self.state);
        self.memory.former_sessions = peers.sessions;
        for (peer, candidates) in peers.candidates {
            let lane_ports = peers.lane_ports.remove(&peer).unwrap_or_default();
            self.set_candidates(of_earlier_run(peer, candidates, lane_ports))
                .await?;
        }
        Ok(())
    }

    pub(super) fn is_ours(&self, netmap: &Netmap) -> bool {
        netmap.mesh == self.node.mesh && netmap.node == self.node.node
    }

    /// Saves what a restart can use, if it changed.
    pub(crate) fn save_peers(&mut self) {
        if self.memory.peers == self.memory.peers_saved {
            return;
        }
        self.memory.peers_saved = self.memory.peers.clone();
        if let Err(error) = saved::save_peers(&self.state, &self.memory.peers) {
            tracing::warn!(%error, "where peers are could not be saved");
        }
    }

    pub(super) async fn extend_leases(&mut self) -> Result<(), LoopEnded> {
        self.packets.send(Command::Lease).await?;
        if self
            .memory
            .word_saved
            .is_none_or(|saved| saved.elapsed() >= WORD_SAVE_EVERY)
        {
            self.save_word();
        }
        Ok(())
    }

    /// Writes down that the controller spoke. An older word than the truth only shortens a lease after a restart.
    pub(super) fn save_word(&mut self) {
        self.memory.word_saved = Some(Instant::now());
        if let Err(error) = saved::save_word(&self.state, saved::moment_now()) {
            tracing::warn!(%error, "the lease could not be saved: after a restart it counts from an earlier word");
        }
    }
}

/// What is on disk of a peer's candidates. Sessions of that run are gone, whatever the peer says of its own.
pub(super) fn of_earlier_run(
    peer: NodeId,
    candidates: Vec<Candidate>,
    lane_ports: Vec<u16>,
) -> PeerCandidates {
    PeerCandidates {
        peer,
        candidates,
        epoch: 0,
        lane_ports,
    }
}

/// How often the controller's word is written down.
const WORD_SAVE_EVERY: Duration = Duration::from_secs(5);
