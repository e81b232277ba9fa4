//! Devices that run a stock WireGuard client, and the configuration each needs.

use std::fmt;
use std::net::SocketAddr;

use ringfence_control::api;
use ringfence_model::{CandidateKind, Name, NodeId, OverlayAddresses, PublicKey};

use crate::{Controller, Device};

/// What a stock WireGuard client must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// The device's name.
    pub name: Name,
    /// Its perimeter.
    pub perimeter: Name,
    /// Its own addresses. None while the policy selects it for no group: it reaches nobody then.
    pub addresses: Option<OverlayAddresses>,
    /// The nodes it may talk to, in order of name.
    pub peers: Vec<DevicePeer>,
    /// Nodes it will reach once they have registered a key, in order of name.
    pub waiting: Vec<Name>,
}

/// One node that a device may talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePeer {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// Its key in the perimeter.
    pub public_key: PublicKey,
    /// Its addresses: the allowed IPs.
    pub addresses: OverlayAddresses,
    /// Where to reach it; `None` if it has not been seen since the controller started.
    pub endpoint: Option<SocketAddr>,
}

impl Controller {
    /// What a device must be told, as things stand.
    pub fn device_config(&self, name: &Name) -> Option<DeviceConfig> {
        let device = self.device(name)?;
        let perimeter = self.state().perimeters.get(&device.perimeter)?;
        let seat = perimeter.seat(device.id);
        let mut config = DeviceConfig {
            name: device.name.clone(),
            perimeter: device.perimeter.clone(),
            addresses: seat.map(|seat| perimeter.addresses(seat)),
            peers: Vec::new(),
            waiting: Vec::new(),
        };
        // Two devices never make a pair: neither would enforce the policy.
        let peers = self.compiled(&device.perimeter)?.allowlist(device.id).peers;
        let nodes = peers.into_iter().filter_map(|peer| self.node(peer));
        for node in nodes {
            match perimeter.seat(node.id).and_then(|seat| Some((seat, seat.key?))) {
                Some((seat, public_key)) => config.peers.push(DevicePeer {
                    id: node.id,
                    name: node.name.clone(),
                    public_key,
                    addresses: perimeter.addresses(seat),
                    endpoint: self.endpoint_for_device(node.id),
                }),
                None => config.waiting.push(node.name.clone()),
            }
        }
        config.peers.sort_by(|a, b| a.name.cmp(&b.name));
        config.waiting.sort();
        Some(config)
    }

    /// The one endpoint a stock client takes. What an operator wrote down comes first; then what the controller saw,
    /// which is routed at least to there; a node's own interfaces last.
    fn endpoint_for_device(&self, node: NodeId) -> Option<SocketAddr> {
        let candidates = &self.presence(node)?.candidates;
        let best = candidates.iter().min_by_key(|candidate| match candidate.kind {
            CandidateKind::Configured => 0,
            CandidateKind::ServerReflexive => 1,
            CandidateKind::Host => 2,
        });
        best.map(|candidate| candidate.address)
    }

    /// Every device, in order of name.
    pub fn device_views(&self) -> Vec<api::PeerView> {
        let mut views: Vec<_> = self
            .devices()
            .filter_map(|device| self.view_of_device(device))
            .collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// One device.
    pub fn device_view(&self, name: &Name) -> Option<api::PeerView> {
        self.view_of_device(self.device(name)?)
    }

    fn view_of_device(&self, device: &Device) -> Option<api::PeerView> {
        let config = self.device_config(&device.name)?;
        let addresses = config.addresses.map(|addresses| addresses.both().to_vec());
        let reaches = config.peers.into_iter().map(|peer| peer.name);
        let mut reaches: Vec<Name> = reaches.chain(config.waiting).collect();
        reaches.sort();
        Some(api::PeerView {
            id: device.id,
            name: device.name.clone(),
            perimeter: device.perimeter.clone(),
            public_key: device.public_key,
            labels: device.labels.clone(),
            addresses: addresses.unwrap_or_default(),
            added_ms: device.added_at,
            expires_ms: device.expires,
            reaches,
        })
    }
}

/// A complete wg-quick file, with a placeholder where the private key goes: that never leaves the device.
impl fmt::Display for DeviceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Device {} in perimeter {}", self.name, self.perimeter)?;
        writeln!(f, "[Interface]\nPrivateKey = {PRIVATE_KEY_PLACEHOLDER}")?;
        if let Some(OverlayAddresses { v4, v6 }) = self.addresses {
            writeln!(f, "Address = {v4}/32, {v6}/128")?;
        }
        writeln!(f, "MTU = {DEVICE_MTU_BYTES}")?;
        for peer in &self.peers {
            let OverlayAddresses { v4, v6 } = peer.addresses;
            writeln!(f, "\n# {}\n[Peer]\nPublicKey = {}", peer.name, peer.public_key)?;
            writeln!(f, "AllowedIPs = {v4}/32, {v6}/128")?;
            match peer.endpoint {
                Some(endpoint) => writeln!(f, "Endpoint = {endpoint}")?,
                None => writeln!(
                    f,
                    "# Endpoint = HOST:PORT (the node has not connected yet: its address is not known)"
                )?,
            }
            writeln!(f, "PersistentKeepalive = {KEEPALIVE_SECONDS}")?;
        }
        for name in &self.waiting {
            writeln!(f, "\n# {name} has no key yet: ask again once it has connected")?;
        }
        Ok(())
    }
}

/// Where the device's owner writes the private key.
const PRIVATE_KEY_PLACEHOLDER: &str = "REPLACE-WITH-THE-PRIVATE-KEY-OF-THIS-DEVICE";

/// What IPv6 asks of every link (RFC 8200 section 5): with WireGuard's 80 bytes it passes where 1,360 do.
const DEVICE_MTU_BYTES: u32 = 1280;

/// Keeps the mapping of most NAT routers open, so that nodes can reach the device too (wg(8)).
const KEEPALIVE_SECONDS: u32 = 25;
