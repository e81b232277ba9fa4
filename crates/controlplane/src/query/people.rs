//! Who is known, and who is logged in where.

use ringfence_control::api;
use ringfence_model::NodeId;

use crate::{Controller, Session, User, UserId};

/// A text does not say who is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindUserError {
    /// Nobody is known by it.
    #[error("nobody is known as {0:?}: `ringfence user ls` lists who is")]
    Nobody(String),
    /// More than one is.
    #[error("more than one person is known as {0:?}: use the id that `ringfence user ls` prints")]
    Several(String),
}

impl Controller {
    /// Every session, in order of its node's id.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.state().sessions.values().map(AsRef::as_ref)
    }

    /// The session of the person at a node.
    pub fn session_at(&self, node: NodeId) -> Option<&Session> {
        self.state().sessions.get(&node).map(AsRef::as_ref)
    }

    /// Everyone who is known, in order of id.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.state().users.values().map(AsRef::as_ref)
    }

    /// One person.
    pub fn user(&self, id: &UserId) -> Option<&User> {
        self.state().users.get(id).map(AsRef::as_ref)
    }

    /// The one person that a text means: their id, address or name.
    ///
    /// # Errors
    /// [`FindUserError`] if that is nobody, or more than one.
    pub fn find_user(&self, text: &str) -> Result<UserId, FindUserError> {
        let short = || text.chars().take(ASKED_CHARS_MAX).collect();
        let mut meant = self.users().filter(|user| user.is_called(text));
        match (meant.next(), meant.next()) {
            (Some(only), None) => Ok(only.id.clone()),
            (None, _) => Err(FindUserError::Nobody(short())),
            (Some(_), Some(_)) => Err(FindUserError::Several(short())),
        }
    }

    /// Every session, in order of its node's name.
    pub fn session_views(&self) -> Vec<api::SessionView> {
        let each = self.sessions().filter_map(|session| self.session_view(session));
        let mut views: Vec<_> = each.collect();
        views.sort_by(|a, b| a.node.cmp(&b.node));
        views
    }

    fn session_view(&self, session: &Session) -> Option<api::SessionView> {
        let login = &session.login;
        Some(api::SessionView {
            id: session.id,
            node: self.name_of(session.node)?.clone(),
            node_id: session.node,
            user: login.user.to_string(),
            name: login.name.clone(),
            email: login.email.clone(),
            groups: login.groups.clone(),
            acr: login.acr.clone(),
            amr: login.amr.clone(),
            authenticated_ms: login.authenticated_at,
            mfa_ms: login.mfa_at,
            started_ms: session.started_at,
            expires_ms: session.expires,
        })
    }

    /// Everyone who is known, in order of name.
    pub fn user_views(&self) -> Vec<api::UserView> {
        let standings = self.standings();
        let views = self
            .users()
            .map(|user| self.user_view(user, standings.is_open(user)));
        let mut views: Vec<_> = views.collect();
        views.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        views
    }

    fn user_view(&self, user: &User, active: bool) -> api::UserView {
        let own = self.sessions().filter(|session| session.login.user == user.id);
        let nodes: Vec<NodeId> = own.map(|session| session.node).collect();
        api::UserView {
            id: user.id.to_string(),
            name: user.name.clone(),
            email: user.email.clone(),
            groups: user.groups.clone(),
            added_ms: user.added_at,
            seen_ms: user.seen_at,
            active,
            locked: self.state().user_lock(user).is_some(),
            nodes: self.names(&nodes),
        }
    }
}

const ASKED_CHARS_MAX: usize = 80;
