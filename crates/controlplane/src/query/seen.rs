//! What somebody may see: all of it, or what is in the perimeters of an owner.
//!
//! **Invariant:** of what is not in them an owner learns neither names nor numbers: a question about it is answered as if
//! it were not there.

use std::collections::BTreeSet;

use ringfence_control::api;
use ringfence_model::{AccessId, Name, NodeId, Revision, UnixMillis};

use super::audit::entry_of;
use super::explain::AskError;
use crate::{AccessEvent, AccessFilter, Actor, Change, Controller, Event, LockEvent, LockTarget, Role};

/// A controller as somebody may see it.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    controller: &'a Controller,
    role: &'a Role,
}

impl Controller {
    /// What an actor may do at `wall`; `None` if it has no role, or none any more.
    pub fn role_of(&self, actor: &Actor, wall: UnixMillis) -> Option<&Role> {
        self.state().role_of(actor, wall)
    }

    /// What an actor may see at `wall`.
    pub fn seen_by(&self, actor: &Actor, wall: UnixMillis) -> Option<Seen<'_>> {
        let role = self.role_of(actor, wall)?;
        Some(Seen {
            controller: self,
            role,
        })
    }
}

impl<'a> Seen<'a> {
    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.controller.revision()
    }

    /// The role that it is seen by.
    pub fn role(&self) -> &'a Role {
        self.role
    }

    /// Whether a node or device is in a perimeter that may be seen.
    pub fn sees_member(&self, id: NodeId) -> bool {
        let state = self.controller.state();
        if self.role.sees_all() {
            return state.name_of(id).is_some();
        }
        if let Some(node) = state.nodes.get(&id) {
            return node.perimeters.iter().any(|name| self.role.sees(name));
        }
        let device = state.devices.get(&id);
        device.is_some_and(|device| self.role.sees(&device.perimeter))
    }

    /// What a node or device is called.
    pub fn name_of(&self, id: NodeId) -> Option<&'a Name> {
        self.controller.name_of(id).filter(|_| self.sees_member(id))
    }

    /// The node that a name or id means.
    pub fn find_node(&self, text: &str) -> Option<NodeId> {
        let id = self.controller.find(text).filter(|id| self.sees_member(*id))?;
        self.controller.node(id).map(|node| node.id)
    }

    /// Every perimeter, in order of name.
    pub fn perimeter_summaries(&self) -> Vec<api::PerimeterSummary> {
        let mut all = self.controller.perimeter_summaries();
        all.retain(|summary| self.role.sees(&summary.name));
        all
    }

    /// One perimeter in full.
    pub fn perimeter_detail(&self, name: &Name) -> Option<api::PerimeterDetail> {
        self.role
            .sees(name)
            .then(|| self.controller.perimeter_detail(name))?
    }

    /// Every node, in order of name.
    pub fn node_views(&self) -> Vec<api::NodeView> {
        let all = self.controller.node_views().into_iter();
        all.filter_map(|view| self.node(view)).collect()
    }

    /// One node.
    pub fn node_view(&self, id: NodeId) -> Option<api::NodeView> {
        self.node(self.controller.node_view(id)?)
    }

    fn node(&self, mut view: api::NodeView) -> Option<api::NodeView> {
        if !self.sees_member(view.id) {
            return None;
        }
        view.perimeters.retain(|name| self.role.sees(name));
        let locks = view.locks.into_iter();
        view.locks = locks.map(|lock| self.lock(lock)).collect();
        Some(view)
    }

    /// What is known of a node's machine at `wall`.
    pub fn node_posture(&self, id: NodeId, wall: UnixMillis) -> Option<api::NodePosture> {
        self.sees_member(id)
            .then(|| self.controller.node_posture(id, wall))?
    }

    /// Every device, in order of name.
    pub fn device_views(&self) -> Vec<api::PeerView> {
        let mut all = self.controller.device_views();
        all.retain(|view| self.role.sees(&view.perimeter));
        all
    }

    /// One device, with its wg-quick file.
    pub fn device(&self, name: &Name) -> Option<api::PeerConfig> {
        let peer = self.controller.device_view(name)?;
        self.role.sees(&peer.perimeter).then(|| {
            Some(api::PeerConfig {
                peer,
                wg_quick: self.controller.device_config(name)?.to_string(),
                revision: self.controller.revision(),
            })
        })?
    }

    /// Every lock, newest first. Those on people, labels and join tokens are no owner's.
    pub fn lock_views(&self) -> Vec<api::LockView> {
        let mut seen = BTreeSet::new();
        for lock in self.controller.locks() {
            let sees = match &lock.target {
                LockTarget::Node { node } => self.sees_member(*node),
                LockTarget::Perimeter { perimeter } => self.role.sees(perimeter),
                LockTarget::User { .. }
                | LockTarget::Label { .. }
                | LockTarget::Token { .. }
                | LockTarget::Workload { .. } => false,
            };
            if sees || self.role.sees_all() {
                seen.insert(lock.id);
            }
        }
        let all = self.controller.lock_views().into_iter();
        let all = all.filter(|lock| seen.contains(&lock.id));
        all.map(|lock| self.lock(lock)).collect()
    }

    /// Whom a lock keeps may be in other perimeters.
    fn lock(&self, mut lock: api::LockView) -> api::LockView {
        let is_seen = |name: &Name| {
            let id = self.controller.find(name.as_ref());
            id.is_some_and(|id| self.sees_member(id))
        };
        lock.keep.retain(is_seen);
        lock
    }

    /// Who is logged in where, in order of the node's name.
    pub fn session_views(&self) -> Vec<api::SessionView> {
        let mut all = self.controller.session_views();
        all.retain(|session| self.sees_member(session.node_id));
        all
    }

    /// Requests for access that are meant, oldest first.
    pub fn access_views(&self, filter: &AccessFilter) -> Vec<api::AccessView> {
        let mut all = self.controller.access_views(filter);
        all.retain(|view| self.role.sees(&view.perimeter));
        all
    }

    /// One request for access.
    pub fn access_view_of(&self, id: AccessId) -> Option<api::AccessView> {
        let view = self.controller.access_view_of(id);
        view.filter(|view| self.role.sees(&view.perimeter))
    }

    /// Why one member may reach another at `wall`, or not.
    ///
    /// # Errors
    /// [`AskError`] as of [`Controller::explain`]; also for whom, and for what, one may not see.
    pub fn explain(
        &self,
        request: &api::ExplainRequest,
        wall: UnixMillis,
    ) -> Result<api::ExplainReport, AskError> {
        for text in [&request.from, &request.to] {
            let id = self.controller.find(text);
            if !id.is_some_and(|id| self.sees_member(id)) {
                return Err(AskError::nobody(text));
            }
        }
        self.controller
            .explain_in(request, |name| self.role.sees(name), wall)
    }

    /// How far a revision has got at the nodes that may be seen; `None` if it has not been yet.
    pub fn receipt_view(&self, revision: Revision) -> Option<api::Receipt> {
        self.controller
            .receipt_view_among(revision, self.members().as_ref())
    }

    /// The receipt of a revision at the nodes that may be seen; `None` if it has not been yet.
    pub fn revision_receipt(&self, revision: Revision) -> Option<api::RevisionReceipt> {
        self.controller
            .revision_receipt_among(revision, self.members().as_ref())
    }

    /// Everyone that may be seen; `None` if that is everyone.
    fn members(&self) -> Option<BTreeSet<NodeId>> {
        if self.role.sees_all() {
            return None;
        }
        let nodes = self.controller.nodes().map(|node| node.id);
        Some(nodes.filter(|id| self.sees_member(*id)).collect())
    }

    /// An entry of the log; of an owner's what happened in their perimeters, and `None` if nothing did.
    pub fn audit_entry(&self, change: &Change) -> Option<api::AuditEntry> {
        let events = change.events.iter();
        let seen: Vec<&Event> = events.filter(|event| self.sees_event(event)).collect();
        let sees_any = self.role.sees_all() || !seen.is_empty();
        sees_any.then(|| entry_of(change, &seen))
    }

    fn sees_event(&self, event: &Event) -> bool {
        self.role.sees_all() || self.perimeter_of(event).is_some_and(|name| self.role.sees(name))
    }

    /// The one perimeter that an event is about. What is about nodes, people or the mesh is no owner's.
    fn perimeter_of<'e>(&'e self, event: &'e Event) -> Option<&'e Name> {
        match event {
            Event::PerimeterCreated { perimeter, .. }
            | Event::PerimeterChanged { perimeter, .. }
            | Event::PerimeterRemoved { perimeter, .. }
            | Event::BlockAdded { perimeter, .. }
            | Event::RulesExpired { perimeter, .. }
            | Event::ConditionsChanged { perimeter, .. }
            | Event::MemberJoined { perimeter, .. }
            | Event::MemberLeft { perimeter, .. }
            | Event::KeyRegistered { perimeter, .. } => Some(perimeter),
            Event::DeviceAdded { device } => Some(&device.perimeter),
            Event::DeviceRemoved { before } | Event::DeviceExpired { before } => Some(&before.perimeter),
            Event::Access(event) => self.perimeter_of_access(event),
            Event::Drill(event) => Some(&event.drill().perimeter),
            Event::Lapse(event) => Some(event.subjects().0),
            Event::Locks(event) => perimeter_of_lock(event),
            Event::MeshFounded { .. }
            | Event::TermStarted { .. }
            | Event::TokenCreated { .. }
            | Event::TokenUsed { .. }
            | Event::TokenRevoked { .. }
            | Event::TokenExpired { .. }
            | Event::TokenForgotten { .. }
            | Event::NodeEnrolled { .. }
            | Event::NodeRenamed { .. }
            | Event::NodeLabelled { .. }
            | Event::NodeRemoved { .. }
            | Event::CertificateIssued { .. }
            | Event::SourceSeen { .. }
            | Event::ProviderAdded { .. }
            | Event::ProviderRemoved { .. }
            | Event::Refused { .. }
            | Event::People(_)
            | Event::Directory(_)
            | Event::Receipts(_)
            | Event::Accounts(_)
            | Event::Posture(_)
            | Event::Workloads(_)
            | Event::ApiTokens(_) => None,
        }
    }

    /// An answer names its request alone: whose it was is known while that is remembered.
    fn perimeter_of_access<'e>(&'e self, event: &'e AccessEvent) -> Option<&'e Name> {
        match event {
            AccessEvent::AccessRequested { request } => Some(&request.perimeter),
            AccessEvent::AccessOpened { perimeter, .. } => Some(perimeter),
            AccessEvent::AccessDenied { before, .. }
            | AccessEvent::AccessEnded { before, .. }
            | AccessEvent::AccessExpired { before } => Some(&before.perimeter),
            AccessEvent::AccessApproved { access, .. } | AccessEvent::AccessReviewed { access, .. } => {
                let request = self.controller.access_request(*access);
                request.map(|request| &request.perimeter)
            }
        }
    }
}

fn perimeter_of_lock(event: &LockEvent) -> Option<&Name> {
    match event.target() {
        LockTarget::Perimeter { perimeter } => Some(perimeter),
        LockTarget::Node { .. }
        | LockTarget::User { .. }
        | LockTarget::Label { .. }
        | LockTarget::Token { .. }
        | LockTarget::Workload { .. } => None,
    }
}
