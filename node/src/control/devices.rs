//! What the packet loop tells: devices to bring up, keys to make, answers to pings.

use std::time::Duration;

use ipnetwork::IpNetwork;

use ringfence_confine::wash_stack;
use ringfence_control::{RegisterKey, ToController, registration_bytes};
use ringfence_dataplane::{Event, PINGS_MAX, SegmentFacts};
use ringfence_model::{Name, PrivateKey, PublicKey};

use super::Control;
use crate::command::{Command, LoopEvent};
use crate::packet_loop::LoopEnded;
use crate::state::StateError;

impl Control {
    pub(super) async fn handle_loop_event(&mut self, event: LoopEvent) -> Result<(), LoopEnded> {
        match event {
            LoopEvent::DeviceMade(facts) => {
                self.memory.devices.insert(facts.interface.clone(), facts.clone());
                // Before the address is there to be reached.
                self.guard();
                self.configure(&facts).await;
                self.uapi.add(&facts.interface);
            }
            LoopEvent::DeviceChanged(facts) => self.change_device(facts).await,
            LoopEvent::DeviceRemoved(facts) => self.remove_device(&facts).await,
            LoopEvent::DeviceFailed { facts, error } => {
                let interface = &facts.interface;
                tracing::error!(
                    interface,
                    error,
                    "the TUN device could not be made: the segment passes nothing"
                );
                if let Err(error) = self.netlink.hold_prefixes(&facts).await {
                    tracing::error!(%error, "packets for the perimeter may leave in clear");
                }
                self.memory.devices.insert(facts.interface.clone(), facts);
            }
            LoopEvent::Dataplane(event) => self.handle_dataplane_event(event).await?,
        }
        Ok(())
    }

    async fn change_device(&mut self, facts: SegmentFacts) {
        self.configure(&facts).await;
        let former = self.memory.devices.insert(facts.interface.clone(), facts.clone());
        self.guard();
        let gone = former
            .into_iter()
            .flat_map(|former| former.prefixes.iter().collect::<Vec<_>>());
        let gone: Vec<_> = gone
            .filter(|prefix| !facts.prefixes.iter().any(|held| held == *prefix))
            .collect();
        self.release(gone).await;
    }

    async fn remove_device(&mut self, facts: &SegmentFacts) {
        tracing::info!(perimeter = %facts.perimeter, interface = facts.interface, "segment removed");
        self.uapi.remove(&facts.interface).await;
        self.memory.devices.remove(&facts.interface);
        self.guard();
        self.release(facts.prefixes.iter()).await;
        self.memory.unregistered.remove(&facts.perimeter);
    }

    /// Lets go of every prefix: the node is no more, and leaves nothing behind.
    pub(crate) async fn release_all(&mut self) {
        for facts in std::mem::take(&mut self.memory.devices).into_values() {
            self.release(facts.prefixes.iter()).await;
        }
    }

    async fn release(&self, prefixes: impl IntoIterator<Item = IpNetwork>) {
        match self.netlink.release_prefixes(prefixes).await {
            Ok(()) => {}
            Err(error) if error.lacks_ipv6() => tracing::debug!(%error, "this host has no IPv6"),
            Err(error) => tracing::warn!(%error, "a route to nowhere stays behind"),
        }
    }

    async fn handle_dataplane_event(&mut self, event: Event) -> Result<(), LoopEnded> {
        match event {
            Event::KeyNeeded { perimeter } => self.give_key(perimeter).await?,
            Event::RegisterKey {
                perimeter,
                public_key,
            } => {
                self.memory.unregistered.insert(perimeter.clone(), public_key);
                self.register_key(perimeter, public_key);
            }
            Event::SegmentOpened { perimeter, .. } => {
                tracing::info!(%perimeter, "segment open");
                self.revive_sessions(&perimeter);
            }
            Event::SegmentClosed { perimeter, .. } => {
                tracing::warn!(%perimeter, "segment closed");
                self.epoch = self.epoch.wrapping_add(1);
            }
            Event::SessionEstablished { perimeter, peer } => {
                tracing::debug!(%perimeter, %peer, "session established");
                self.memory
                    .peers
                    .sessions
                    .entry(perimeter)
                    .or_default()
                    .insert(peer);
            }
            Event::Pong(pong) => self.pings.answered(pong),
            Event::PingTimedOut { id } => self.pings.lost(id),
            Event::Enforced { revision } => tracing::debug!(%revision, "enforced"),
            // The packet loop keeps these for itself.
            Event::SegmentAdded(_)
            | Event::SegmentChanged(_)
            | Event::SegmentRemoved(_)
            | Event::FlowClosed(_) => {}
        }
        Ok(())
    }

    /// Without a guard the tunnel is as safe as ever, but a service that listens on an overlay address can be reached
    /// around it: the operator has to know.
    fn guard(&mut self) {
        let Some(guard) = &mut self.guard else { return };
        if let Err(error) = guard.set(self.memory.devices.values()) {
            tracing::error!(%error, "overlay addresses are open to neighbours on the underlay: nftables is needed");
        }
    }

    async fn configure(&self, facts: &SegmentFacts) {
        match self.netlink.configure(facts).await {
            Ok(()) => {
                tracing::info!(perimeter = %facts.perimeter, interface = facts.interface, "interface up");
            }
            Err(error) if error.lacks_ipv6() => {
                tracing::warn!(interface = facts.interface, %error, "this host has no IPv6: IPv4 alone works");
            }
            Err(error) => {
                tracing::error!(interface = facts.interface, %error, "the interface could not be set up");
            }
        }
        self.warn_of_rivals(facts).await;
    }

    async fn warn_of_rivals(&self, facts: &SegmentFacts) {
        match self.netlink.rival_routes(facts).await {
            Ok(rivals) => {
                for rival in rivals {
                    tracing::warn!(interface = facts.interface, route = %rival,
                        "another route leads into this perimeter's addresses: one of the two networks will not work");
                }
            }
            Err(error) => tracing::debug!(%error, "whether other routes are in the way is not known"),
        }
    }

    /// Reaches out to those with whom an earlier run had sessions, a bounded number at a time.
    fn revive_sessions(&mut self, perimeter: &Name) {
        let former = self.memory.former_sessions.remove(perimeter).unwrap_or_default();
        for peer in former.into_iter().take(PINGS_MAX / 2) {
            let (pings, perimeter) = (self.pings.clone(), perimeter.clone());
            tokio::spawn(async move {
                let end = pings.ping(peer, Some(perimeter.clone()), REVIVAL_WAIT).await;
                tracing::debug!(%perimeter, %peer, ?end, "reached out to a peer of the last run");
            });
        }
    }

    /// Loads or makes the key of a segment.
    async fn give_key(&mut self, perimeter: Name) -> Result<(), LoopEnded> {
        let key = self.key(&perimeter);
        wash_stack();
        let Some(key) = key else {
            return Ok(());
        };
        self.packets.send(Command::Key { perimeter, key }).await
    }

    fn key(&self, perimeter: &Name) -> Option<PrivateKey> {
        match self.state.key(perimeter, random()?) {
            Ok(key) => return Some(key),
            Err(StateError::Damaged { path, why }) => {
                tracing::error!(path = %path.display(), why, "a key file is damaged: the segment gets a new key");
                if let Err(error) = self.state.forget_key(perimeter) {
                    tracing::error!(%error, "the damaged key file stays");
                }
            }
            Err(error) => {
                tracing::error!(%error, "the segment's key is not on disk: it lasts until the next start");
            }
        }
        let random = random()?;
        self.state
            .key(perimeter, random)
            .ok()
            .or_else(|| Some(PrivateKey::from_random(random)))
    }

    pub(super) fn register_key(&mut self, perimeter: Name, public_key: PublicKey) {
        let bytes = registration_bytes(&self.node.mesh, self.node.node, &perimeter, &public_key);
        let signed = self.identity.borrow().sign(&bytes);
        match signed {
            Ok(signature) => self.say(ToController::RegisterKey(RegisterKey {
                perimeter,
                public_key,
                signature,
            })),
            Err(error) => {
                tracing::error!(%perimeter, error = format!("{error:#}"), "the key could not be signed");
            }
        }
    }
}

/// How long a peer of the last run may take to answer.
const REVIVAL_WAIT: Duration = Duration::from_secs(5);

fn random() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Some(bytes),
        Err(error) => {
            tracing::error!(%error, "the kernel gives no randomness: no key can be made");
            None
        }
    }
}
