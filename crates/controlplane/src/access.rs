//! Who may do what: judged from live state for each request and message (red line 6).

use std::collections::BTreeSet;

use ringfence_model::{AccessId, Name, NodeId, UnixMillis};

use crate::draft::Draft;
use crate::state::State;
use crate::{
    AccessCommand, AccountCommand, Actor, ActorKind, ApiTokenRefusal, Command, Controller, DirectoryCommand,
    DrillCommand, LockCommand, LockTarget, Node, PeopleCommand, PostureCommand, Refusal, Role,
    WorkloadCommand,
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

/// Who asks, and what they may do at this moment.
struct Asking<'a> {
    state: &'a State,
    actor: &'a Actor,
    role: Option<&'a Role>,
}

impl Asking<'_> {
    fn is_admin(&self) -> bool {
        self.role == Some(&Role::Admin)
    }

    fn is(&self, kind: ActorKind, name: &impl ToString) -> bool {
        self.actor.kind == kind && self.actor.name == name.to_string()
    }

    /// Sessions start by the word of an identity provider alone, which the controller itself has checked.
    fn may_people(&self, command: &PeopleCommand) -> bool {
        match command {
            PeopleCommand::StartSession { .. } => self.actor.kind == ActorKind::System,
            PeopleCommand::EndSessions { .. } => self.actor.kind == ActorKind::System || self.is_admin(),
            PeopleCommand::LogOut { node } => self.is(ActorKind::Node, node),
            PeopleCommand::EndSession { .. }
            | PeopleCommand::DeactivateUser { .. }
            | PeopleCommand::ReactivateUser { .. } => self.is_admin(),
        }
    }

    /// A provider speaks for its own people alone, and nobody else does for them.
    fn may_directory(&self, command: &DirectoryCommand) -> bool {
        match command {
            DirectoryCommand::CreateToken { .. } | DirectoryCommand::RevokeToken { .. } => self.is_admin(),
            DirectoryCommand::AddPerson { provider, .. }
            | DirectoryCommand::ChangePerson { provider, .. }
            | DirectoryCommand::RemovePerson { provider, .. }
            | DirectoryCommand::AddGroup { provider, .. }
            | DirectoryCommand::ChangeGroup { provider, .. }
            | DirectoryCommand::RemoveGroup { provider, .. } => self.is(ActorKind::Directory, provider),
        }
    }

    /// That somebody set up their account is what the controller itself has seen.
    fn may_accounts(&self, command: &AccountCommand) -> bool {
        match command {
            AccountCommand::SetUp { .. } => self.actor.kind == ActorKind::System,
            AccountCommand::Add { .. }
            | AccountCommand::Regroup { .. }
            | AccountCommand::Reset { .. }
            | AccountCommand::Remove { .. } => self.is_admin(),
        }
    }

    /// A node asks for the person at it; who answers is somebody else.
    fn may_access(&self, command: &AccessCommand) -> Result<bool, Refusal> {
        match command {
            AccessCommand::Request { node, .. } => Ok(self.is_admin() || self.is(ActorKind::Node, node)),
            // Of whom it is, is looked at where it is known.
            AccessCommand::End { .. } if self.actor.kind == ActorKind::Node => Ok(true),
            AccessCommand::End { access } | AccessCommand::Deny { access, .. } => self.may_answer(*access),
            AccessCommand::Approve { access, .. } | AccessCommand::Review { access, .. } => {
                self.stands_for_somebody()?;
                self.may_answer(*access)
            }
        }
    }

    /// Owners answer for their perimeters, and are not told what is asked for in others.
    fn may_answer(&self, access: AccessId) -> Result<bool, Refusal> {
        match self.role {
            Some(Role::Admin) => Ok(true),
            Some(Role::Owner { perimeters }) => {
                let request = self.state.access.get(&access);
                let is_own = request.is_some_and(|request| perimeters.contains(&request.perimeter));
                is_own.then_some(true).ok_or(Refusal::NoAccess(access))
            }
            Some(Role::Auditor) | None => Ok(false),
        }
    }

    /// Who owns a perimeter may hold a drill in it, and is not told which others there are.
    fn may_drill(&self, command: &DrillCommand) -> Result<bool, Refusal> {
        let perimeter = command.perimeter();
        match self.role {
            Some(Role::Owner { perimeters }) if !perimeters.contains(perimeter) => {
                Err(Refusal::NoPerimeter(perimeter.clone()))
            }
            Some(Role::Admin | Role::Owner { .. }) => Ok(true),
            Some(Role::Auditor) | None => Ok(false),
        }
    }

    /// Owners shut their own perimeters, and open them again if they shut them. What else is locked is an administrator's to
    /// say, for it may be in other perimeters too.
    fn may_lock(&self, command: &LockCommand) -> Result<bool, Refusal> {
        let Some(Role::Owner { perimeters }) = self.role else {
            return Ok(self.is_admin());
        };
        match command {
            LockCommand::Set { target, .. } => match target {
                LockTarget::Perimeter { perimeter } if perimeters.contains(perimeter) => Ok(true),
                LockTarget::Perimeter { perimeter } => Err(Refusal::NoPerimeter(perimeter.clone())),
                LockTarget::Node { .. }
                | LockTarget::User { .. }
                | LockTarget::Label { .. }
                | LockTarget::Token { .. }
                | LockTarget::Workload { .. } => Ok(false),
            },
            LockCommand::Lift { lock } => {
                let known = self.state.locks.get(lock).ok_or(Refusal::NoLock(*lock))?;
                let sees = match &known.target {
                    LockTarget::Perimeter { perimeter } => perimeters.contains(perimeter),
                    LockTarget::Node { node } => self.is_member_of(perimeters, *node),
                    LockTarget::User { .. }
                    | LockTarget::Label { .. }
                    | LockTarget::Token { .. }
                    | LockTarget::Workload { .. } => false,
                };
                if !sees {
                    return Err(Refusal::NoLock(*lock));
                }
                let is_own = matches!(known.target, LockTarget::Perimeter { .. });
                Ok(is_own && known.set_by == self.actor.name)
            }
        }
    }

    fn is_member_of(&self, perimeters: &BTreeSet<Name>, node: NodeId) -> bool {
        let mut held = perimeters
            .iter()
            .filter_map(|name| self.state.perimeters.get(name));
        held.any(|perimeter| perimeter.seat(node).is_some())
    }

    /// Else somebody could approve what they asked for themselves, by a token that does not say whose it is.
    fn stands_for_somebody(&self) -> Result<(), Refusal> {
        let token = self.actor.api_token.and_then(|id| self.state.api_tokens.get(&id));
        match token {
            Some(token) if token.stands_for.is_none() => Err(ApiTokenRefusal::StandsForNobody.into()),
            Some(_) | None => Ok(()),
        }
    }

    /// A platform's word is that of its issuer, which the shell has verified.
    fn may_workload(&self, command: &WorkloadCommand) -> bool {
        match command {
            WorkloadCommand::Set { .. } | WorkloadCommand::Remove { .. } => self.is_admin(),
            WorkloadCommand::Admit { verified, .. } => self.is(ActorKind::Workload, &verified.issuer.name),
        }
    }

    /// What nodes report about themselves is judged by the controller alone.
    fn may_posture(&self, command: &PostureCommand) -> bool {
        match command {
            PostureCommand::Apply { .. } | PostureCommand::Give { .. } => self.is_admin(),
            PostureCommand::Judge { .. } | PostureCommand::RecordTpm { .. } => {
                self.actor.kind == ActorKind::System
            }
        }
    }
}

/// Whether an actor may ask for this command at all, as things stand at `wall`. A node asks for itself alone.
pub(crate) fn permit(
    state: &State,
    (actor, wall): (&Actor, UnixMillis),
    command: &Command,
) -> Result<(), Refusal> {
    let role = state.role_of(actor, wall);
    let asking = Asking { state, actor, role };
    let permitted = match command {
        // Whose perimeters the files are of, is looked at where they are read.
        Command::ApplyPerimeters { prune, .. } => match role {
            Some(Role::Admin) => true,
            Some(Role::Owner { .. }) => !prune,
            Some(Role::Auditor) | None => false,
        },
        Command::RemovePerimeter { .. }
        | Command::CreateToken { .. }
        | Command::RevokeToken { .. }
        | Command::UpdateNode { .. }
        | Command::RemoveNode { .. }
        | Command::AddDevice { .. }
        | Command::RemoveDevice { .. }
        | Command::ApiTokens(_)
        | Command::Provider(_) => asking.is_admin(),
        Command::Access(command) => asking.may_access(command)?,
        Command::Drill(command) => asking.may_drill(command)?,
        Command::Locks(command) => asking.may_lock(command)?,
        Command::People(command) => asking.may_people(command),
        Command::Directory(command) => asking.may_directory(command),
        Command::Accounts(command) => asking.may_accounts(command),
        Command::Posture(command) => asking.may_posture(command),
        Command::Workloads(command) => asking.may_workload(command),
        Command::Enroll { token, .. } => asking.is(ActorKind::Token, token),
        Command::RegisterKey { node, .. } => asking.is(ActorKind::Node, node),
        Command::NoteSource { .. }
        | Command::RecordCertificate { .. }
        | Command::RecordReceipts
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

/// Whether the actor of a draft may set the file of a perimeter. An owner is not told which others there are: a perimeter
/// that is not theirs is none to them.
pub(crate) fn check_owner(draft: &Draft, perimeter: &Name) -> Result<(), Refusal> {
    let role = draft.state.role_of(&draft.actor, draft.wall);
    if role.is_some_and(|role| role.owns(perimeter)) {
        return Ok(());
    }
    Err(Refusal::NoPerimeter(perimeter.clone()))
}
