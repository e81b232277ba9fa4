//! Who may do what: judged from live state for each request and message (red line 6).

use ringfence_model::{Name, NodeId};

use crate::{
    AccessCommand, Actor, ActorKind, Command, Controller, DirectoryCommand, Node, PeopleCommand,
    PostureCommand, Refusal,
};

/// Why a certificate gives no access. It may be valid in every other way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessDenied {
    /// It is of another mesh.
    #[error("the certificate is of mesh {0}, not of this one")]
    OtherMesh(Name),
    /// Its node never was, or was removed.
    #[error("node {0} is not in this mesh: it was removed, enrol it again")]
    NoNode(NodeId),
    /// It holds another key than the one the node enrolled with.
    #[error("the certificate's key is not the one that node {0} enrolled with")]
    OtherKey(NodeId),
}

impl Controller {
    /// The node that a verified leaf certificate speaks for.
    ///
    /// Judged by node id and public key, never by the certificate (red line 2): ask again for each message, a node
    /// that was removed since is denied at once.
    ///
    /// # Errors
    /// [`AccessDenied`], which the node may be told.
    pub fn authorize(&self, mesh: &Name, node: NodeId, spki_der: &[u8]) -> Result<&Node, AccessDenied> {
        if *mesh != self.mesh().name {
            return Err(AccessDenied::OtherMesh(mesh.clone()));
        }
        let Some(known) = self.state().nodes.get(&node) else {
            return Err(AccessDenied::NoNode(node));
        };
        if known.identity.spki() != spki_der {
            return Err(AccessDenied::OtherKey(node));
        }
        Ok(known)
    }
}

/// Sessions start by the word of an identity provider alone, which the controller itself has checked.
fn permits_people(actor: &Actor, command: &PeopleCommand) -> bool {
    match command {
        PeopleCommand::StartSession { .. } => actor.kind == ActorKind::System,
        PeopleCommand::EndSessions { .. } => matches!(actor.kind, ActorKind::System | ActorKind::Admin),
        PeopleCommand::LogOut { node } => actor.kind == ActorKind::Node && actor.name == node.to_string(),
        PeopleCommand::EndSession { .. }
        | PeopleCommand::DeactivateUser { .. }
        | PeopleCommand::ReactivateUser { .. } => actor.kind == ActorKind::Admin,
    }
}

/// A provider speaks for its own people alone, and nobody else does for them.
fn permits_directory(actor: &Actor, command: &DirectoryCommand) -> bool {
    match command {
        DirectoryCommand::CreateToken { .. } | DirectoryCommand::RevokeToken { .. } => {
            actor.kind == ActorKind::Admin
        }
        DirectoryCommand::AddPerson { provider, .. }
        | DirectoryCommand::ChangePerson { provider, .. }
        | DirectoryCommand::RemovePerson { provider, .. }
        | DirectoryCommand::AddGroup { provider, .. }
        | DirectoryCommand::ChangeGroup { provider, .. }
        | DirectoryCommand::RemoveGroup { provider, .. } => {
            actor.kind == ActorKind::Directory && actor.name == provider.as_str()
        }
    }
}

/// A node asks for the person at it; who answers is somebody else.
fn permits_access(actor: &Actor, command: &AccessCommand) -> bool {
    let is_admin = actor.kind == ActorKind::Admin;
    match command {
        AccessCommand::Request { node, .. } => {
            is_admin || (actor.kind == ActorKind::Node && actor.name == node.to_string())
        }
        // Of whom it is, is looked at where it is known.
        AccessCommand::End { .. } => is_admin || actor.kind == ActorKind::Node,
        AccessCommand::Approve { .. } | AccessCommand::Deny { .. } | AccessCommand::Review { .. } => is_admin,
    }
}

/// What nodes report about themselves is judged by the controller alone.
fn permits_posture(actor: &Actor, command: &PostureCommand) -> bool {
    match command {
        PostureCommand::Apply { .. } | PostureCommand::Give { .. } => actor.kind == ActorKind::Admin,
        PostureCommand::Judge { .. } => actor.kind == ActorKind::System,
    }
}

/// Whether an actor of this kind may ask for this command at all. A node asks for itself alone.
pub(crate) fn permit(actor: &Actor, command: &Command) -> Result<(), Refusal> {
    let permitted = match command {
        Command::ApplyPerimeters { .. }
        | Command::RemovePerimeter { .. }
        | Command::CreateToken { .. }
        | Command::RevokeToken { .. }
        | Command::UpdateNode { .. }
        | Command::RemoveNode { .. }
        | Command::AddDevice { .. }
        | Command::RemoveDevice { .. }
        | Command::Locks(_)
        | Command::Provider(_) => actor.kind == ActorKind::Admin,
        Command::Access(command) => permits_access(actor, command),
        Command::People(command) => permits_people(actor, command),
        Command::Directory(command) => permits_directory(actor, command),
        Command::Posture(command) => permits_posture(actor, command),
        Command::Enroll { token, .. } => actor.kind == ActorKind::Token && actor.name == token.to_string(),
        Command::RegisterKey { node, .. } => actor.kind == ActorKind::Node && actor.name == node.to_string(),
        Command::NoteSource { .. }
        | Command::RecordCertificate { .. }
        | Command::StartTerm
        | Command::Tick => actor.kind == ActorKind::System,
        // Whoever was refused is the actor.
        Command::RecordRefusal { .. } => true,
    };
    if permitted {
        return Ok(());
    }
    Err(Refusal::NotPermitted {
        actor: format!("{} {}", actor.kind, actor.name),
        method: command.method(),
    })
}
