//! What was asked for, and what is granted.

use ringfence_model::AccessId;

use crate::{AccessRequest, Controller};

impl Controller {
    /// Every request for access that waits, is granted or owes a review, oldest first.
    pub fn access_requests(&self) -> impl Iterator<Item = &AccessRequest> {
        self.state().access.values().map(AsRef::as_ref)
    }

    /// One of them.
    pub fn access_request(&self, id: AccessId) -> Option<&AccessRequest> {
        self.state().access.get(&id).map(AsRef::as_ref)
    }
}
