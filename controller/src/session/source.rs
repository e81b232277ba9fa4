//! Where a node's control connection comes from, for policies that ask: told to the core when it connects and moves.
//!
//! QUIC tells of no migration: it is looked at with every message and every lease, so it shows within seconds.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use ringfence_controlplane::{Actor, Command, Refusal};
use ringfence_model::NodeId;

use super::Session;
use crate::core::{CommitError, Core};

/// Where one connection was last seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    connection: u64,
    seen: Option<SocketAddr>,
    /// What the core took.
    noted: Option<SocketAddr>,
}

impl Place {
    pub(super) fn new(connection: u64) -> Self {
        Self {
            connection,
            seen: None,
            noted: None,
        }
    }
}

impl Session {
    /// Tells the core, if it comes from elsewhere than before.
    pub(super) async fn look_where_it_is(&mut self) -> Result<()> {
        let remote = self.sender.handle().remote();
        let Some(remote) = remote.filter(|remote| self.place.seen != Some(*remote)) else {
            return Ok(());
        };
        self.place.seen = Some(remote);
        let (node, connection) = (self.node, self.place.connection);
        let noted = self
            .context
            .core
            .with(move |core| note(core, node, connection, remote));
        if noted.await? == Noted::Yes {
            self.place.noted = Some(remote);
        }
        Ok(())
    }

    /// The same, and once more what the core did not take.
    pub(super) async fn look_again_where_it_is(&mut self) -> Result<()> {
        self.place.seen = self.place.noted;
        self.look_where_it_is().await
    }
}

/// Whether the core took it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It did, or has no use for it.
    Yes,
    /// It did not.
    No,
}

/// A node's connection comes from here. Whoever's move cannot be written down is nowhere from then on: what it could do
/// where it was ends.
pub(super) fn note(core: &mut Core, node: NodeId, connection: u64, remote: SocketAddr) -> Noted {
    // A newer connection of the node says where it is.
    if !core.note(|controller| controller.moved(node, connection, remote)) {
        return Noted::Yes;
    }
    let Err(error) = take(core, node, Some(remote.ip())) else {
        return Noted::Yes;
    };
    tracing::warn!(%node, %error, "where a node connects from cannot be noted: it is taken to be nowhere");
    if let Err(error) = take(core, node, None) {
        tracing::error!(%node, %error, "where a node connected from cannot be forgotten");
    }
    Noted::No
}

fn take(core: &mut Core, node: NodeId, source: Option<IpAddr>) -> Result<(), CommitError> {
    // Most are no news, and to propose costs more than to look.
    if !core.controller().is_source_news(node, source) {
        return Ok(());
    }
    match core.commit(
        &Actor::system("control", "control"),
        &Command::NoteSource { node, source },
    ) {
        Ok(_) | Err(CommitError::Refused(Refusal::Unchanged)) => Ok(()),
        Err(error) => Err(error),
    }
}
