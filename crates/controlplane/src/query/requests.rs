//! What was asked for, and what is granted.

use ringfence_control::api;
use ringfence_model::{AccessId, Name, NodeId};

use crate::{AccessRequest, AccessStanding, ActorKind, Controller, Urgency};

/// Which requests for access are meant: those that are all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessFilter {
    /// In this perimeter.
    pub perimeter: Option<Name>,
    /// From this node.
    pub node: Option<NodeId>,
    /// What stands so.
    pub standing: Option<api::AccessState>,
}

impl AccessFilter {
    fn admits(&self, request: &AccessRequest) -> bool {
        let Self {
            perimeter,
            node,
            standing,
        } = self;
        perimeter.as_ref().is_none_or(|name| *name == request.perimeter)
            && node.is_none_or(|node| node == request.node)
            && standing.is_none_or(|standing| standing == state_of(request))
    }
}

impl Controller {
    /// Every request for access that waits, is granted or owes a review, oldest first.
    pub fn access_requests(&self) -> impl Iterator<Item = &AccessRequest> {
        self.state().access.values().map(AsRef::as_ref)
    }

    /// One of them.
    pub fn access_request(&self, id: AccessId) -> Option<&AccessRequest> {
        self.state().access.get(&id).map(AsRef::as_ref)
    }

    /// Those that are meant, oldest first.
    pub fn access_views(&self, filter: &AccessFilter) -> Vec<api::AccessView> {
        let meant = self.access_requests().filter(|request| filter.admits(request));
        meant.map(|request| self.access_view(request)).collect()
    }

    /// One of them, as people see it.
    pub fn access_view_of(&self, id: AccessId) -> Option<api::AccessView> {
        self.access_request(id).map(|request| self.access_view(request))
    }

    /// What is asked for and granted, from this node, to the person who is logged in there. None if nobody is.
    pub fn access_views_of_person_at(&self, node: NodeId) -> Vec<api::AccessView> {
        let Some(session) = self.session_at(node) else {
            return Vec::new();
        };
        let is_theirs = |request: &&AccessRequest| {
            let person = request.asked_by.person.as_ref();
            request.node == node && person.is_some_and(|person| person.user == session.login.user)
        };
        let theirs = self.access_requests().filter(is_theirs);
        theirs.map(|request| self.access_view(request)).collect()
    }

    fn access_view(&self, request: &AccessRequest) -> api::AccessView {
        let person = request.asked_by.person.as_ref();
        let (since_ms, until_ms) = match request.standing {
            AccessStanding::Open { since, until } => (Some(since), Some(until)),
            AccessStanding::Waiting | AccessStanding::Closed => (None, None),
        };
        let approvals = request.approvals.iter().map(|approval| api::ApprovalView {
            by: approval.by.clone(),
            reason: approval.reason.clone(),
            at_ms: approval.at,
        });
        api::AccessView {
            id: request.id,
            standing: state_of(request),
            perimeter: request.perimeter.clone(),
            node: self.name_of(request.node).unwrap_or(&request.node_name).clone(),
            node_id: request.node,
            user: person.map(|person| person.user.to_string()),
            name: person.map(|person| person.name.clone()),
            email: person.and_then(|person| person.email.clone()),
            to: request.to.clone(),
            ports: request.services.clone(),
            for_seconds: request.length.as_secs(),
            reason: request.reason.clone(),
            break_glass: request.urgency == Urgency::BreakGlass,
            asked_by: match (request.asked_by.kind, person) {
                // A node asks in the name of who is there.
                (ActorKind::Node, Some(person)) => person.name.clone(),
                _ => request.asked_by.name.clone(),
            },
            asked_ms: request.asked_at,
            answer_by_ms: (request.standing == AccessStanding::Waiting).then_some(request.answer_by),
            approvals: approvals.collect(),
            approvals_needed: u32::try_from(request.approvals_needed()).unwrap_or(u32::MAX),
            since_ms,
            until_ms,
            review_by_ms: request.review_by,
        }
    }
}

fn state_of(request: &AccessRequest) -> api::AccessState {
    match request.standing {
        AccessStanding::Waiting => api::AccessState::Waiting,
        AccessStanding::Open { .. } => api::AccessState::Open,
        AccessStanding::Closed => api::AccessState::Closed,
    }
}
