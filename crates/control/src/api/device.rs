//! `/peers`: devices that run a stock WireGuard client.

use std::net::IpAddr;

use ringfence_model::{Labels, Name, NodeId, PublicKey, Revision, UnixMillis};
use serde::{Deserialize, Serialize};

/// `POST /peers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AddPeerRequest {
    /// What to call it.
    pub name: Name,
    /// The perimeter it joins.
    pub perimeter: Name,
    /// Its public key; the private one stays on the device.
    pub public_key: PublicKey,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
    /// How long it stays, in seconds; for ever if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u64>,
}

/// `GET /peers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PeerList {
    /// In order of name.
    pub peers: Vec<PeerView>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PeerView {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// The perimeter it is in.
    pub perimeter: Name,
    /// Its key.
    pub public_key: PublicKey,
    /// Its labels.
    pub labels: Labels,
    /// Its overlay addresses, IPv4 first.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<IpAddr>,
    /// When it was added.
    pub added_ms: UnixMillis,
    /// When it goes.
    pub expires_ms: Option<UnixMillis>,
    /// The nodes it may talk to, in order of name.
    pub reaches: Vec<Name>,
}

/// The answer to an [`AddPeerRequest`], and `GET /peers/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PeerConfig {
    /// The device.
    pub peer: PeerView,
    /// A complete wg-quick file, with a placeholder where the private key goes.
    pub wg_quick: String,
    /// The revision it was made from.
    #[serde(with = "crate::text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub revision: Revision,
}
