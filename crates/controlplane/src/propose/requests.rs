//! Access on request: asked for, approved or denied, ended, reviewed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ringfence_model::{AccessId, Name, NodeId};
use ringfence_policy::{BreakGlass, SERVICES_MAX, Service};

use crate::draft::Draft;
use crate::limit::{
    ACCESS_ANSWER_WITHIN, ACCESS_LENGTH_MAX, ACCESS_LENGTH_MIN, ACCESS_PER_NODE_MAX,
    ACCESS_PER_PERIMETER_MAX, ACCESS_REASON_BYTES_MAX, ACCESS_REQUESTS_MAX, ACCESS_REVIEW_WITHIN,
};
use crate::{
    AccessCommand, AccessEnd, AccessEvent, AccessRequest, AccessStanding, ActorKind, Approval, Asker,
    AskingPerson, Refusal, Urgency, membership,
};

/// What is asked for.
struct Wish {
    node: NodeId,
    perimeter: Name,
    to: Name,
    services: Vec<Service>,
    length: Duration,
    reason: String,
    urgency: Urgency,
}

pub(super) fn dispatch(draft: &mut Draft, command: AccessCommand) -> Result<(), Refusal> {
    match command {
        AccessCommand::Request {
            node,
            perimeter,
            to,
            services,
            length,
            reason,
            urgency,
        } => {
            let wish = Wish {
                node,
                perimeter,
                to,
                services,
                length,
                reason,
                urgency,
            };
            request(draft, wish)
        }
        AccessCommand::Approve { access, reason } => approve(draft, access, reason),
        AccessCommand::Deny { access, reason } => deny(draft, access, reason),
        AccessCommand::End { access } => end(draft, access),
        AccessCommand::Review { access, reason } => review(draft, access, reason),
    }
}

fn request(draft: &mut Draft, mut wish: Wish) -> Result<(), Refusal> {
    let asker = asker(draft, wish.node)?;
    if wish.services.is_empty() {
        wish.services = services_towards(draft, &wish)?;
    }
    check_wish(draft, &wish)?;
    check_room(draft, &wish)?;
    let id = AccessId(draft.state.last_access.0 + 1);
    if id > AccessId::MAX {
        return Err(too_many(
            "requests for access ever made",
            AccessId::MAX.0 as usize,
        ));
    }
    let opens = opens_at_once(draft, &wish, &asker)?;
    let request = AccessRequest {
        id,
        perimeter: wish.perimeter,
        node: wish.node,
        node_name: draft.node(wish.node)?.name.clone(),
        to: wish.to,
        services: wish.services,
        length: wish.length,
        reason: wish.reason,
        urgency: wish.urgency,
        asked_by: asker,
        asked_at: draft.wall,
        answer_by: draft.wall.saturating_add(ACCESS_ANSWER_WITHIN),
        approvals: Vec::new(),
        standing: AccessStanding::Waiting,
        review_by: None,
    };
    draft.record(AccessEvent::AccessRequested { request }.into());
    match opens {
        Some(Unapproved) => open(draft, id, Some(Unapproved)),
        None => Ok(()),
    }
}

/// Who asks, and for whom: a node asks for the person at it alone.
fn asker(draft: &Draft, node: NodeId) -> Result<Asker, Refusal> {
    draft.node(node)?;
    let session = draft.state.sessions.get(&node);
    if session.is_none() && draft.actor.kind == ActorKind::Node {
        return Err(Refusal::NobodyThere(node));
    }
    Ok(Asker {
        kind: draft.actor.kind,
        name: draft.actor.name.clone(),
        person: session.map(|session| AskingPerson {
            session: session.id,
            user: session.login.user.clone(),
            name: session.login.name.clone(),
            email: session.login.email.clone(),
        }),
    })
}

/// What rules of the file open towards the group that is asked for: what who does not say what is meant to ask for.
fn services_towards(draft: &Draft, wish: &Wish) -> Result<Vec<Service>, Refusal> {
    let policy = draft.perimeter(&wish.perimeter)?.policy();
    let rules = policy.rules.iter().filter(|rule| rule.to == wish.to);
    let services: BTreeSet<Service> = rules.flat_map(|rule| rule.services.iter().copied()).collect();
    if services.is_empty() && policy.groups.contains_key(&wish.to) {
        return Err(Refusal::NoPorts(wish.to.clone()));
    }
    Ok(services.into_iter().collect())
}

fn check_wish(draft: &Draft, wish: &Wish) -> Result<(), Refusal> {
    let policy = draft.perimeter(&wish.perimeter)?.policy();
    if !policy.groups.contains_key(&wish.to) {
        return Err(Refusal::NoSuchGroup {
            perimeter: wish.perimeter.clone(),
            group: wish.to.clone(),
        });
    }
    if wish.services.len() > SERVICES_MAX {
        return Err(too_many("ports of one request", SERVICES_MAX));
    }
    if !(ACCESS_LENGTH_MIN..=ACCESS_LENGTH_MAX).contains(&wish.length) {
        return Err(Refusal::AccessLength);
    }
    if wish.reason.trim().is_empty() {
        return Err(Refusal::NoReason);
    }
    check_reason(Some(&wish.reason))
}

fn check_room(draft: &Draft, wish: &Wish) -> Result<(), Refusal> {
    let all = draft.state.access.values();
    let of_node = all.clone().filter(|request| request.node == wish.node).count();
    let of_perimeter = all.filter(|request| request.perimeter == wish.perimeter).count();
    let bounds = [
        (
            draft.state.access.len(),
            ACCESS_REQUESTS_MAX,
            "requests for access at once",
        ),
        (of_node, ACCESS_PER_NODE_MAX, "requests for access of one node"),
        (
            of_perimeter,
            ACCESS_PER_PERIMETER_MAX,
            "requests for access to one perimeter",
        ),
    ];
    let full = bounds.into_iter().find(|(count, max, _)| count >= max);
    full.map_or(Ok(()), |(_, max, what)| Err(too_many(what, max)))
}

/// That something is opened before anybody approves: it is reviewed afterwards.
#[derive(Clone, Copy)]
struct Unapproved;

/// Whether the glass may be broken: in a perimeter whose file says so, by its members, who owe no review that is overdue.
/// For all others two have to approve.
fn opens_at_once(draft: &Draft, wish: &Wish, asker: &Asker) -> Result<Option<Unapproved>, Refusal> {
    let perimeter = draft.perimeter(&wish.perimeter)?;
    let policy = perimeter.policy();
    if wish.urgency == Urgency::Ordinary || policy.break_glass == BreakGlass::TwoApprovers {
        return Ok(None);
    }
    let member = draft.state.member(wish.node).ok_or(Refusal::NoNode(wish.node))?;
    if !membership::selects(policy, &member.labels, &member.facts, draft.wall) {
        return Ok(None);
    }
    let mut owed = draft
        .state
        .access
        .values()
        .filter(|request| request.is_by_same(asker));
    let overdue = owed.find(|request| request.review_by.is_some_and(|due| due <= draft.wall));
    match overdue {
        Some(request) => Err(Refusal::ReviewOwed(request.id)),
        None => Ok(Some(Unapproved)),
    }
}

fn approve(draft: &mut Draft, id: AccessId, reason: Option<String>) -> Result<(), Refusal> {
    check_reason(reason.as_ref())?;
    let request = waiting(draft, id)?;
    check_other(draft, &request)?;
    let by = draft.actor.name.clone();
    if request
        .approvals
        .iter()
        .any(|approval| approval.by.eq_ignore_ascii_case(&by))
    {
        return Err(Refusal::Unchanged);
    }
    let is_last = request.approvals.len() + 1 >= request.approvals_needed();
    let approval = Approval {
        by,
        reason,
        at: draft.wall,
    };
    draft.record(AccessEvent::AccessApproved { access: id, approval }.into());
    if is_last { open(draft, id, None) } else { Ok(()) }
}

/// Grants it: a rule of the perimeter from now on, and the node a member if it was none.
fn open(draft: &mut Draft, id: AccessId, unapproved: Option<Unapproved>) -> Result<(), Refusal> {
    let request = waiting(draft, id)?;
    let (perimeter, node) = (request.perimeter.clone(), request.node);
    let opened = AccessEvent::AccessOpened {
        access: id,
        perimeter: perimeter.clone(),
        node,
        // The nodes end it with the second, and so do we.
        until: draft.wall.saturating_add(request.length).whole_second(),
        review_by: unapproved.map(|Unapproved| draft.wall.saturating_add(ACCESS_REVIEW_WITHIN)),
    };
    draft.record(opened.into());
    if draft.perimeter(&perimeter)?.seat(node).is_some() {
        return Ok(());
    }
    membership::join(draft, &perimeter, node)
}

fn deny(draft: &mut Draft, id: AccessId, reason: Option<String>) -> Result<(), Refusal> {
    check_reason(reason.as_ref())?;
    let before = waiting(draft, id)?.as_ref().clone();
    draft.record(AccessEvent::AccessDenied { before, reason }.into());
    Ok(())
}

fn end(draft: &mut Draft, id: AccessId) -> Result<(), Refusal> {
    let request = known(draft, id)?;
    let is_own = draft.actor.name == request.node.to_string();
    if draft.actor.kind == ActorKind::Node && !is_own {
        // A node is not told what others asked for.
        return Err(Refusal::NoAccess(id));
    }
    if request.standing == AccessStanding::Closed {
        return Err(Refusal::Unchanged);
    }
    end_where(draft, AccessEnd::Ended, |request| request.id == id);
    Ok(())
}

fn review(draft: &mut Draft, id: AccessId, reason: Option<String>) -> Result<(), Refusal> {
    check_reason(reason.as_ref())?;
    let request = known(draft, id)?;
    check_other(draft, request)?;
    if request.review_by.is_none() {
        return Err(Refusal::Unchanged);
    }
    draft.record(AccessEvent::AccessReviewed { access: id, reason }.into());
    Ok(())
}

/// Ends whatever is meant and has not ended yet. Takes away alone, so it cannot fail.
pub(super) fn end_where(draft: &mut Draft, cause: AccessEnd, meant: impl Fn(&AccessRequest) -> bool) {
    let ended = |before| AccessEvent::AccessEnded { before, cause };
    close_where(draft, ended, |request| request.ends().is_some() && meant(request));
}

/// Ends what the clock ends: what is granted, and what nobody answered.
pub(super) fn end_due(draft: &mut Draft) {
    let wall = draft.wall;
    let expired = |before| AccessEvent::AccessExpired { before };
    close_where(draft, expired, |request| {
        request.ends().is_some_and(|end| end <= wall)
    });
}

fn close_where(
    draft: &mut Draft,
    event: impl Fn(AccessRequest) -> AccessEvent,
    meant: impl Fn(&AccessRequest) -> bool,
) {
    let meant = draft.state.access.values().filter(|request| meant(request));
    let meant: Vec<Arc<AccessRequest>> = meant.cloned().collect();
    for request in meant {
        let before = Arc::unwrap_or_clone(request);
        let (node, is_open) = (before.node, before.is_open());
        draft.record(event(before).into());
        if is_open {
            membership::withdraw_node(draft, node);
        }
    }
}

fn known(draft: &Draft, id: AccessId) -> Result<&Arc<AccessRequest>, Refusal> {
    draft.state.access.get(&id).ok_or(Refusal::NoAccess(id))
}

fn waiting(draft: &Draft, id: AccessId) -> Result<Arc<AccessRequest>, Refusal> {
    let request = known(draft, id)?;
    if request.standing != AccessStanding::Waiting || request.answer_by <= draft.wall {
        return Err(Refusal::AccessAnswered(id));
    }
    Ok(request.clone())
}

/// Nobody answers for themselves.
fn check_other(draft: &Draft, request: &AccessRequest) -> Result<(), Refusal> {
    if request.is_of(&draft.actor) {
        return Err(Refusal::OwnAccess(request.id));
    }
    Ok(())
}

fn check_reason(reason: Option<&String>) -> Result<(), Refusal> {
    if reason.is_some_and(|reason| reason.len() > ACCESS_REASON_BYTES_MAX) {
        return Err(too_many("bytes of a reason", ACCESS_REASON_BYTES_MAX));
    }
    // It is shown to whoever approves, among what the controller says.
    if reason.is_some_and(|reason| reason.chars().any(char::is_control)) {
        return Err(Refusal::OddReason);
    }
    Ok(())
}

fn too_many(what: &'static str, max: usize) -> Refusal {
    Refusal::Limit { what, max }
}
