//! What people ask: the views of the API, made from the state, the compiled perimeters and presence.

mod accounts;
mod api_tokens;
mod audit;
mod device;
mod directories;
mod explain;
mod factor;
mod locks;
mod people;
mod perimeter;
mod posture;
mod receipt;
mod report;
mod requests;
mod seen;
mod suppose;
mod why;
mod workloads;

pub use audit::audit_entry;
pub use device::{DeviceConfig, DevicePeer};
pub use explain::AskError;
pub use locks::LockTargetError;
pub use people::FindUserError;
pub use report::{ApplyOptions, ApplyPlan, FlowChanges};
pub use requests::AccessFilter;
pub use seen::Seen;

use std::collections::BTreeSet;

use ringfence_control::api;
use ringfence_model::{Name, NodeId, Revision, TokenId, UnixMillis};

use crate::{Controller, Device, Node, Provider, Token, TokenState};

impl Controller {
    /// Every node, in order of id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.state().nodes.values().map(AsRef::as_ref)
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.state().nodes.get(&id).map(AsRef::as_ref)
    }

    /// Every device, in order of id.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.state().devices.values().map(AsRef::as_ref)
    }

    /// One device.
    pub fn device(&self, name: &Name) -> Option<&Device> {
        let id = self.state().names.get(name)?;
        self.state().devices.get(id).map(AsRef::as_ref)
    }

    /// Every join token that is remembered, in order of id.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.state().tokens.values().map(AsRef::as_ref)
    }

    /// One join token.
    pub fn token(&self, id: TokenId) -> Option<&Token> {
        self.state().tokens.get(&id).map(AsRef::as_ref)
    }

    /// Every identity provider, in order of name.
    pub fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.state().providers.values().map(AsRef::as_ref)
    }

    /// One identity provider.
    pub fn provider(&self, name: &Name) -> Option<&Provider> {
        self.state().providers.get(name).map(AsRef::as_ref)
    }

    /// The names of all perimeters.
    pub fn perimeter_names(&self) -> impl Iterator<Item = &Name> {
        self.state().perimeters.keys()
    }

    /// The node or device that `text` means: `node:NAME`, a name, or an id.
    pub fn find(&self, text: &str) -> Option<NodeId> {
        let text = text.strip_prefix("node:").unwrap_or(text);
        if let Some(id) = self.state().names.get(text) {
            return Some(*id);
        }
        let id = text.parse().ok()?;
        self.state().name_of(id).map(|_| id)
    }

    /// What a node or device is called.
    pub fn name_of(&self, id: NodeId) -> Option<&Name> {
        self.state().name_of(id)
    }

    /// Every node, in order of name.
    pub fn node_views(&self) -> Vec<api::NodeView> {
        let mut views: Vec<_> = self.nodes().map(|node| self.view_of(node)).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// One node.
    pub fn node_view(&self, id: NodeId) -> Option<api::NodeView> {
        self.node(id).map(|node| self.view_of(node))
    }

    fn view_of(&self, node: &Node) -> api::NodeView {
        let presence = self.presence(node.id).cloned().unwrap_or_default();
        let endpoints = presence.candidates.iter();
        api::NodeView {
            id: node.id,
            name: node.name.clone(),
            labels: node.labels.clone(),
            perimeters: node.perimeters.iter().cloned().collect(),
            connected: presence.connection.is_some(),
            last_seen_ms: presence.last_seen,
            remote: presence.connection.map(|connection| connection.remote),
            endpoints: endpoints.map(|candidate| candidate.address).collect(),
            version: presence.version,
            enforced: presence.enforced.map(|enforced| enforced.revision),
            enrolled_ms: node.enrolled_at,
            admitted_by: Some(workloads::admission_view(&node.admission)),
            certificate_expires_ms: node.certificate.as_ref().map(|certificate| certificate.not_after),
            locks: self.locks_on(node.id, &node.labels),
        }
    }

    /// Every join token that is remembered, newest first.
    pub fn token_views(&self, wall: UnixMillis) -> Vec<api::TokenView> {
        let mut views: Vec<_> = self.tokens().map(|token| token_view(token, wall)).collect();
        views.sort_by_key(|view| (std::cmp::Reverse(view.created_ms), view.id));
        views
    }

    /// How far a revision has got, with names; `None` if it has not been yet.
    pub fn receipt_view(&self, revision: Revision) -> Option<api::Receipt> {
        self.receipt_view_among(revision, None)
    }

    /// The same for these nodes alone.
    pub(crate) fn receipt_view_among(
        &self,
        revision: Revision,
        among: Option<&BTreeSet<NodeId>>,
    ) -> Option<api::Receipt> {
        let receipt = self.receipt_among(revision, among)?;
        let mut pending = self.names(&receipt.pending);
        let mut absent = self.names(&receipt.absent);
        pending.sort();
        absent.sort();
        let complete = receipt.is_complete();
        let slowest = receipt.slowest.and_then(|slowest| {
            Some(api::NodeAck {
                id: slowest.node,
                node: self.name_of(slowest.node)?.clone(),
                after_ms: u64::try_from(slowest.after.as_millis()).unwrap_or(u64::MAX),
                took_us: slowest.took_us,
                was_away: false,
            })
        });
        Some(api::Receipt {
            revision,
            complete,
            connected: count(receipt.connected),
            enforced: count(receipt.enforced),
            pending,
            absent,
            took_ms: slowest
                .as_ref()
                .filter(|_| complete)
                .map(|slowest| slowest.after_ms),
            slowest,
        })
    }

    pub(crate) fn names(&self, ids: &[NodeId]) -> Vec<Name> {
        ids.iter().filter_map(|id| self.name_of(*id).cloned()).collect()
    }
}

fn token_view(token: &Token, wall: UnixMillis) -> api::TokenView {
    api::TokenView {
        id: token.id,
        labels: token.labels.clone(),
        uses: token.uses,
        uses_left: token.uses_left,
        created_ms: token.created_at,
        expires_ms: token.expires,
        state: match token.state_at(wall) {
            TokenState::Active => api::TokenState::Valid,
            TokenState::Used => api::TokenState::Used,
            TokenState::Revoked => api::TokenState::Revoked,
            TokenState::Expired => api::TokenState::Expired,
        },
    }
}

pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
