//! Events of access on request, applied.

use std::sync::Arc;

use ringfence_model::{AccessId, UnixMillis};

use super::{Misfit, NO_NODE, NO_PERIMETER, ensure};
use crate::state::State;
use crate::{AccessEvent, AccessRequest, AccessStanding};

impl State {
    pub(super) fn apply_access_event(&mut self, event: &AccessEvent, wall: UnixMillis) -> Result<(), Misfit> {
        match event {
            AccessEvent::AccessRequested { request } => self.add_request(request),
            AccessEvent::AccessApproved { access, approval } => {
                self.request_mut(*access)?.approvals.push(approval.clone());
                Ok(())
            }
            AccessEvent::AccessOpened {
                access,
                until,
                review_by,
                ..
            } => {
                let request = self.request_mut(*access)?;
                ensure(request.standing == AccessStanding::Waiting, "it does not wait")?;
                request.standing = AccessStanding::Open {
                    since: wall,
                    until: *until,
                };
                request.review_by = *review_by;
                Ok(())
            }
            AccessEvent::AccessDenied { before, .. } => {
                ensure(before.standing == AccessStanding::Waiting, "it does not wait")?;
                self.close_request(before.id)
            }
            AccessEvent::AccessEnded { before, .. } | AccessEvent::AccessExpired { before } => {
                self.close_request(before.id)
            }
            AccessEvent::AccessReviewed { access, .. } => {
                let request = self.request_mut(*access)?;
                ensure(request.review_by.take().is_some(), "it owes no review")?;
                if request.standing == AccessStanding::Closed {
                    self.access.remove(access);
                }
                Ok(())
            }
        }
    }

    fn add_request(&mut self, request: &AccessRequest) -> Result<(), Misfit> {
        self.nodes.get(&request.node).ok_or(NO_NODE)?;
        self.perimeters.get(&request.perimeter).ok_or(NO_PERIMETER)?;
        ensure(request.id > self.last_access, "its number was given before")?;
        ensure(
            request.standing == AccessStanding::Waiting,
            "it is granted before it was asked for",
        )?;
        self.last_access = request.id;
        self.access.insert(request.id, Arc::new(request.clone()));
        Ok(())
    }

    /// What owes a review is kept until there was one.
    fn close_request(&mut self, id: AccessId) -> Result<(), Misfit> {
        let request = self.request_mut(id)?;
        ensure(request.standing != AccessStanding::Closed, "it has ended already")?;
        request.standing = AccessStanding::Closed;
        if request.review_by.is_none() {
            self.access.remove(&id);
        }
        Ok(())
    }

    fn request_mut(&mut self, id: AccessId) -> Result<&mut AccessRequest, Misfit> {
        let request = self.access.get_mut(&id).map(Arc::make_mut);
        request.ok_or(Misfit::Impossible("there is no such request for access"))
    }
}
