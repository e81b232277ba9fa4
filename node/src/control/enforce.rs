//! From a netmap to its acknowledgement, and the end of membership.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use ringfence_control::Netmap;
use ringfence_control::saved::Peers;
use ringfence_dataplane::Event;
use ringfence_model::{NodeId, Revision};

use super::Control;
use super::restart::of_earlier_run;
use crate::command::{Command, LoopEvent};
use crate::flows::FlowsInput;
use crate::packet_loop::LoopEnded;
use crate::saved;

impl Control {
    /// Has a netmap enforced, then waits for its devices, writes it down and acknowledges it.
    pub(super) async fn enforce(&mut self, netmap: Netmap, arrived: Instant) -> Result<(), LoopEnded> {
        let revision = netmap.revision;
        let (answer, taken) = oneshot::channel();
        self.packets
            .send(Command::Netmap {
                netmap: Box::new(netmap.clone()),
                answer,
            })
            .await?;
        if let Err(refused) = taken.await.map_err(|_| LoopEnded)? {
            tracing::error!(%revision, why = %refused, "a netmap was refused: the one in force stays");
            self.session.handle_not_enforced(revision, refused.to_string());
            return Ok(());
        }
        let took = arrived.elapsed();
        self.follow_devices(revision).await?;
        self.persist(&netmap);
        self.rename(&netmap.name);
        self.memory.unregistered.retain(|perimeter, key| {
            netmap
                .segments
                .get(perimeter)
                .is_some_and(|segment| segment.public_key != Some(*key))
        });
        self.supply_candidates(&netmap).await?;
        tracing::info!(%revision, took_us = took.as_micros(), "policy enforced");
        self.session
            .handle_enforced(revision, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Candidates may come before the netmap that makes their peer one: the data plane forgets them, so it is told
    /// again of every peer that is new.
    async fn supply_candidates(&mut self, netmap: &Netmap) -> Result<(), LoopEnded> {
        let known = self.session.netmap().map(peers_of).unwrap_or_default();
        let wanted = peers_of(netmap);
        let peers = &mut self.memory.peers;
        if peers.candidates.len() > PEERS_REMEMBERED_MAX {
            peers.candidates.retain(|peer, _| wanted.contains(peer));
            peers.lane_ports.retain(|peer, _| wanted.contains(peer));
        }
        peers.sessions.retain(|perimeter, sessions| {
            let segment = netmap.segments.get(perimeter);
            sessions.retain(|peer| segment.is_some_and(|segment| segment.peers.contains_key(peer)));
            !sessions.is_empty()
        });
        for peer in wanted.difference(&known) {
            if let Some(candidates) = self.memory.peers.candidates.get(peer).cloned() {
                let lane_ports = self.memory.peers.lane_ports.get(peer);
                let lane_ports = lane_ports.cloned().unwrap_or_default();
                let told = of_earlier_run(*peer, candidates, lane_ports);
                self.packets.send(Command::PeerCandidates(told)).await?;
            }
        }
        Ok(())
    }

    /// The mesh removed this node: ends every flow, then forgets all that membership gave.
    pub(super) async fn leave(&mut self) -> Result<(), LoopEnded> {
        tracing::warn!("this node was removed from the mesh: closing every segment");
        if let Some(mut netmap) = self.session.netmap().cloned() {
            netmap.segments.clear();
            let revision = netmap.revision;
            let (answer, taken) = oneshot::channel();
            self.packets
                .send(Command::Netmap {
                    netmap: Box::new(netmap),
                    answer,
                })
                .await?;
            match taken.await.map_err(|_| LoopEnded)? {
                Ok(()) => self.follow_devices(revision).await?,
                // The process ends next, and every key and device with it.
                Err(error) => tracing::error!(%error, "the segments could not be closed in order"),
            }
        }
        self.memory.peers = Peers::default();
        self.memory.peers_saved = Peers::default();
        self.flows.tell(FlowsInput::Forget);
        let forgotten = saved::forget(&self.state)
            .and_then(|()| self.state.retain_keys(|_| false))
            .and_then(|()| self.state.forget_identity());
        if let Err(error) = forgotten {
            tracing::error!(%error, "not everything could be removed from the state directory");
        }
        Ok(())
    }

    /// Reacts to what the packet loop tells up to the acknowledgement of `revision`, which comes last: by then every
    /// device of it is made and set up.
    async fn follow_devices(&mut self, revision: Revision) -> Result<(), LoopEnded> {
        let deadline = tokio::time::Instant::now() + DEVICES_WAIT;
        loop {
            let Ok(event) = tokio::time::timeout_at(deadline, self.loop_events.recv()).await else {
                tracing::warn!(%revision, "devices are slow: acknowledging before they are up");
                return Ok(());
            };
            let event = event.ok_or(LoopEnded)?;
            let last =
                matches!(&event, LoopEvent::Dataplane(Event::Enforced { revision: it }) if *it == revision);
            self.handle_loop_event(event).await?;
            if last {
                return Ok(());
            }
        }
    }

    fn persist(&mut self, netmap: &Netmap) {
        if let Err(error) = saved::save_netmap(&self.state, netmap) {
            tracing::error!(%error, "the netmap could not be saved: after a restart there are no peers at first");
        }
        self.save_word();
        if let Err(error) = self
            .state
            .retain_keys(|perimeter| netmap.segments.contains_key(perimeter))
        {
            tracing::warn!(%error, "keys of former segments stay on disk");
        }
    }
}

fn peers_of(netmap: &Netmap) -> BTreeSet<NodeId> {
    let segments = netmap.segments.values();
    segments
        .flat_map(|segment| segment.peers.keys().copied())
        .collect()
}

/// Peers whose candidates are kept; past it, those of strangers are forgotten.
const PEERS_REMEMBERED_MAX: usize = 16_384;

/// How long an acknowledgement waits for devices.
const DEVICES_WAIT: Duration = Duration::from_secs(5);
