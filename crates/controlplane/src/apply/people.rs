//! Events of people, applied.

use std::sync::Arc;

use ringfence_model::UnixMillis;

use super::{Misfit, NO_NODE, ensure};
use crate::people::PeopleEvent;
use crate::state::State;
use crate::{Session, User, UserId, UserStanding};

impl State {
    pub(super) fn apply_people_event(&mut self, event: &PeopleEvent, wall: UnixMillis) -> Result<(), Misfit> {
        match event {
            PeopleEvent::UserAdded { user } => {
                let before = self.users.insert(user.id.clone(), Arc::new(user.clone()));
                ensure(before.is_none(), "the person is known already")
            }
            PeopleEvent::UserDeactivated { user, .. } => {
                self.user_mut(user)?.standing = UserStanding::Deactivated;
                Ok(())
            }
            PeopleEvent::UserReactivated { user, .. } => {
                self.user_mut(user)?.standing = UserStanding::Active;
                Ok(())
            }
            PeopleEvent::UserForgotten { before } => self.users.remove(&before.id).map(drop).ok_or(NO_USER),
            PeopleEvent::SessionStarted { session } => {
                let held = self.sessions.contains_key(&session.node);
                ensure(!held, "someone is logged in there")?;
                self.hold(session, wall)
            }
            PeopleEvent::SessionRenewed { before, after } => {
                self.drop_session(before)?;
                ensure(
                    before.id == after.id && before.node == after.node,
                    "it is another session",
                )?;
                self.hold(after, wall)
            }
            PeopleEvent::SessionRegrouped { before, after } => {
                self.drop_session(before)?;
                ensure(
                    before.id == after.id && before.node == after.node,
                    "it is another session",
                )?;
                let user = self.user_mut(&after.login.user)?;
                user.groups.clone_from(&after.login.groups);
                self.sessions.insert(after.node, Arc::new(after.as_ref().clone()));
                Ok(())
            }
            PeopleEvent::SessionEnded { before, .. } => self.drop_session(before),
        }
    }

    /// Takes a session, and what it says about its person.
    fn hold(&mut self, session: &Session, wall: UnixMillis) -> Result<(), Misfit> {
        self.nodes.get(&session.node).ok_or(NO_NODE)?;
        let user = self.user_mut(&session.login.user)?;
        ensure(user.standing == UserStanding::Active, "the person may not log in")?;
        user.directory_id.clone_from(&session.login.directory_id);
        user.name.clone_from(&session.login.name);
        user.email.clone_from(&session.login.email);
        user.groups.clone_from(&session.login.groups);
        user.seen_at = wall;
        self.sessions.insert(session.node, Arc::new(session.clone()));
        Ok(())
    }

    fn drop_session(&mut self, before: &Session) -> Result<(), Misfit> {
        let held = self.sessions.remove(&before.node);
        ensure(
            held.is_some_and(|held| held.id == before.id),
            "there is no such session",
        )
    }

    fn user_mut(&mut self, id: &UserId) -> Result<&mut User, Misfit> {
        self.users.get_mut(id).map(Arc::make_mut).ok_or(NO_USER)
    }
}

const NO_USER: Misfit = Misfit::Impossible("there is no such person");
