//! Who a certificate is for: `spiffe://<mesh>/node/<id>` or `spiffe://<mesh>/controller`.

use std::fmt;
use std::str::FromStr;

use ringfence_model::{Name, NodeId};

/// The identity in a certificate's one URI name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpiffeId {
    /// A node.
    Node {
        /// Of this mesh.
        mesh: Name,
        /// This one.
        node: NodeId,
    },
    /// The controller.
    Controller {
        /// Of this mesh.
        mesh: Name,
    },
}

/// Why a text is no identity of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not spiffe://MESH/node/ID or spiffe://MESH/controller")]
pub struct SpiffeError(String);

impl SpiffeId {
    /// The mesh it belongs to.
    pub fn mesh(&self) -> &Name {
        match self {
            Self::Node { mesh, .. } | Self::Controller { mesh } => mesh,
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { mesh, node } => write!(f, "spiffe://{mesh}/node/{node}"),
            Self::Controller { mesh } => write!(f, "spiffe://{mesh}/controller"),
        }
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        parse(text).ok_or_else(|| SpiffeError(text.chars().take(100).collect()))
    }
}

fn parse(text: &str) -> Option<SpiffeId> {
    let (mesh, path) = text.strip_prefix("spiffe://")?.split_once('/')?;
    let mesh = Name::parse(mesh).ok()?;
    if path == "controller" {
        return Some(SpiffeId::Controller { mesh });
    }
    let node = path.strip_prefix("node/")?.parse().ok()?;
    Some(SpiffeId::Node { mesh, node })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_as_written() {
        for text in ["spiffe://acme/node/00000000000000ab", "spiffe://acme/controller"] {
            assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn one_identity_has_one_spelling() {
        for text in [
            "",
            "spiffe://acme",
            "spiffe://acme/",
            "spiffe://ACME/controller",
            "spiffe://acme/controller/",
            "spiffe://acme/node/AB",
            "spiffe://acme/node/00000000000000ab?x",
            "spiffe://acme:1/node/00000000000000ab",
            "https://acme/controller",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }
}
