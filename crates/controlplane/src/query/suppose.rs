//! What policy would say if more were known of a member than is.

use std::borrow::Cow;

use ringfence_control::api::AsIf;
use ringfence_model::{Name, UnixMillis};
use ringfence_policy::{Compiled, Member, Policy, UserFacts, compile};

use crate::Controller;

impl Controller {
    /// A perimeter compiled as if a member had these facts, at the moment that is supposed.
    pub(super) fn compiled_as_if<'a>(
        &self,
        (name, policy): (&Name, &Policy),
        supposed: Option<&Member>,
        wall: UnixMillis,
        compiled: &'a Compiled,
    ) -> Cow<'a, Compiled> {
        let Some(supposed) = supposed else {
            return Cow::Borrowed(compiled);
        };
        let mut members = self.state().members_for(name);
        if let Some(member) = members.iter_mut().find(|member| member.id == supposed.id) {
            // A lock is no fact of theirs.
            let isolation = member.facts.isolation.take();
            *member = supposed.clone();
            member.facts.isolation = isolation;
        }
        Cow::Owned(compile(policy, &members, wall))
    }
}

/// Changes what is known of a member to what is supposed; what is not named stays as it is.
pub(super) fn suppose(member: &mut Member, as_if: &AsIf, wall: UnixMillis) {
    let facts = &mut member.facts;
    if as_if.user.is_some() || !as_if.groups.is_empty() || as_if.mfa_ms.is_some() {
        let until = wall.saturating_add(SESSION);
        let user = facts.user.get_or_insert_with(|| UserFacts {
            name: "somebody".to_owned(),
            email: None,
            groups: [].into(),
            mfa_at: None,
            until,
        });
        user.until = user.until.max(until);
        if let Some(address) = &as_if.user {
            user.name.clone_from(address);
            user.email = Some(address.clone());
        }
        user.groups.extend(as_if.groups.iter().cloned());
        if let Some(ago) = as_if.mfa_ms {
            user.mfa_at = Some(UnixMillis(wall.0.saturating_sub(ago)));
        }
    }
    facts.posture.extend(as_if.posture.iter().cloned());
    facts.source = as_if.source.or(facts.source);
    for (key, value) in as_if.labels.iter() {
        member.labels.remove(key);
        // One too many is not supposed: nobody could have it.
        let _ = member.labels.add(key, value);
    }
}

/// As long as a working day: what is supposed holds while it is looked at.
const SESSION: std::time::Duration = std::time::Duration::from_hours(12);
