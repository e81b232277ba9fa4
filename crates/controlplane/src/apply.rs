//! Applies events to the state. Decides nothing.
//!
//! **Invariant:** an event that does not fit the state is an error, never half-applied: callers work on a copy.

mod accounts;
mod api_tokens;
mod directories;
mod drills;
mod lapse;
mod locks;
mod members;
mod people;
mod posture;
mod requests;
mod workloads;

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnetwork::{Ipv4Network, Ipv6Network};
use ringfence_model::{Name, Revision, TokenId, UnixMillis};
use ringfence_policy::PolicyErrors;

use crate::address;
use crate::change::ChainError;
use crate::perimeter::{Perimeter, PolicySource};
use crate::state::{RefusalWindow, State};
use crate::{Event, LockTarget, PolicyFile, Provider, Token, TokenState};

/// Why a change cannot be applied. Nothing of it has been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It does not follow what is there.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// An event speaks of something that is not as it says.
    #[error("entry {revision} does not fit the state before it: {event}, but {why}")]
    Impossible {
        /// Which entry.
        revision: Revision,
        /// Which event.
        event: &'static str,
        /// What is not as it says.
        why: &'static str,
    },
    /// A policy in the log that this version cannot read.
    #[error("entry {revision} holds a policy that this version cannot read: {errors}")]
    Policy {
        /// Which entry.
        revision: Revision,
        /// What is wrong with it.
        errors: PolicyErrors,
    },
}

/// Why an event cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    Impossible(&'static str),
    Policy(PolicyErrors),
}

impl Misfit {
    pub(crate) fn at(self, revision: Revision, event: &'static str) -> ApplyError {
        match self {
            Self::Impossible(why) => ApplyError::Impossible { revision, event, why },
            Self::Policy(errors) => ApplyError::Policy { revision, errors },
        }
    }
}

impl State {
    /// Applies one event of an entry that gives `revision` at `wall`.
    pub(crate) fn apply_event(
        &mut self,
        event: &Event,
        revision: Revision,
        wall: UnixMillis,
    ) -> Result<(), Misfit> {
        match event {
            Event::MeshFounded { .. } => Err(Misfit::Impossible("a mesh is founded once")),
            Event::TermStarted { before, after } => self.check_term((*before, *after), revision),
            Event::PerimeterCreated {
                perimeter,
                v6,
                v4,
                after,
            } => self.create_perimeter(perimeter, after, (*v6, *v4), (revision, wall)),
            Event::PerimeterChanged { perimeter, after, .. } => {
                self.change_perimeter(perimeter, after, (revision, wall))
            }
            Event::PerimeterRemoved { perimeter, .. } => self.remove_perimeter(perimeter, (revision, wall)),
            Event::BlockAdded { perimeter, v4 } => self.add_block(perimeter, *v4),
            Event::RulesExpired { perimeter, .. } | Event::ConditionsChanged { perimeter, .. } => {
                self.judge(perimeter, wall)
            }
            Event::MemberJoined {
                perimeter,
                member,
                addresses,
                ..
            } => self.join(perimeter, *member, *addresses),
            Event::MemberLeft {
                perimeter, member, ..
            } => self.leave(perimeter, *member),
            Event::TokenCreated { token } => self.add_token(token),
            Event::TokenUsed { token, after, .. } => self.use_token(*token, *after),
            Event::TokenRevoked { token, .. } => self.end_token(*token, TokenState::Revoked),
            Event::TokenExpired { token, .. } => self.end_token(*token, TokenState::Expired),
            Event::TokenForgotten { token } => self.forget_token(*token),
            Event::NodeEnrolled { node } => self.add_node(node),
            Event::NodeRenamed { node, before, after } => self.rename(*node, before, after),
            Event::NodeLabelled { node, after, .. } => self.relabel(*node, after),
            Event::NodeRemoved { before } => self.remove_node(before.id, wall),
            Event::CertificateIssued { node, after, .. } => self.certify(*node, after),
            Event::KeyRegistered {
                node,
                perimeter,
                after,
                ..
            } => self.set_key(*node, perimeter, *after),
            Event::SourceSeen { node, before, after } => self.see_source(*node, *before, *after),
            Event::DeviceAdded { device } => self.add_device(device),
            Event::DeviceRemoved { before } | Event::DeviceExpired { before } => {
                self.remove_device(before, wall)
            }
            Event::ProviderAdded { provider } => self.add_provider(provider),
            Event::ProviderRemoved { before } => self.remove_provider(before),
            // Nothing follows from it.
            Event::Receipts(_) => Ok(()),
            Event::Refused { .. } => {
                self.refusals = self.refusals.counting(wall);
                Ok(())
            }
            Event::People(event) => self.apply_people_event(event, wall),
            Event::Directory(event) => self.apply_directory_event(event, wall),
            Event::Accounts(event) => self.apply_account_event(event, wall),
            Event::Access(event) => self.apply_access_event(event, wall),
            Event::ApiTokens(event) => self.apply_api_token_event(event),
            Event::Drill(event) => self.apply_drill_event(event),
            Event::Lapse(event) => self.apply_lapse_event(event),
            Event::Locks(event) => self.apply_lock_event(event),
            Event::Posture(event) => self.apply_posture_event(event),
            Event::Workloads(event) => self.apply_workload_event(event, wall),
        }
    }

    fn check_term(&self, (before, after): (u64, u64), revision: Revision) -> Result<(), Misfit> {
        let goes_up = before == self.revision.term && after > before && after == revision.term;
        ensure(goes_up, "terms go up")
    }

    fn create_perimeter(
        &mut self,
        name: &Name,
        file: &PolicyFile,
        (v6, v4): (Ipv6Network, Ipv4Network),
        (revision, wall): (Revision, UnixMillis),
    ) -> Result<(), Misfit> {
        let source = read_policy(file, name)?;
        let subnet = address::v6_subnet_number(self.mesh.prefix, v6);
        let subnet = subnet.ok_or(Misfit::Impossible("its /64 is not of this mesh"))?;
        ensure(self.v6_subnets.take(subnet), "its /64 is held")?;
        self.take_block(v4)?;
        let created = Perimeter {
            name: name.clone(),
            source,
            v6,
            v4: vec![v4],
            seats: BTreeMap::new(),
            hosts: address::Pool::default(),
            revision,
            applied_at: wall,
            judged_at: wall,
        };
        self.policy_revision = revision;
        let before = self.perimeters.insert(name.clone(), Arc::new(created));
        ensure(before.is_none(), "it is there already")
    }

    fn change_perimeter(
        &mut self,
        name: &Name,
        file: &PolicyFile,
        (revision, wall): (Revision, UnixMillis),
    ) -> Result<(), Misfit> {
        let source = read_policy(file, name)?;
        let changed = self.perimeter_mut(name)?;
        changed.source = source;
        changed.revision = revision;
        changed.applied_at = wall;
        changed.judged_at = wall;
        self.policy_revision = revision;
        Ok(())
    }

    fn add_block(&mut self, name: &Name, v4: Ipv4Network) -> Result<(), Misfit> {
        self.take_block(v4)?;
        self.perimeter_mut(name)?.v4.push(v4);
        Ok(())
    }

    fn take_block(&mut self, v4: Ipv4Network) -> Result<(), Misfit> {
        let number = address::v4_block_number(v4);
        let number = number.ok_or(Misfit::Impossible("its IPv4 block is not one of ours"))?;
        ensure(self.v4_blocks.take(number), "its IPv4 block is held")
    }

    fn remove_perimeter(
        &mut self,
        name: &Name,
        (revision, wall): (Revision, UnixMillis),
    ) -> Result<(), Misfit> {
        self.policy_revision = revision;
        self.forget_owners(name);
        let gone = self.perimeters.remove(name).ok_or(NO_PERIMETER)?;
        let devices = self.devices.values().any(|device| device.perimeter == *name);
        ensure(!devices, "devices are left in it")?;
        for (id, seat) in &gone.seats {
            if let Some(key) = seat.key {
                self.keys.remove(&key);
            }
            if let Some(node) = self.nodes.get_mut(id) {
                Arc::make_mut(node).perimeters.remove(name);
            }
        }
        for block in gone.v4.iter().filter_map(|v4| address::v4_block_number(*v4)) {
            self.v4_blocks.release(block, wall);
        }
        if let Some(subnet) = address::v6_subnet_number(self.mesh.prefix, gone.v6) {
            self.v6_subnets.release(subnet, wall);
        }
        Ok(())
    }

    fn add_token(&mut self, token: &Token) -> Result<(), Misfit> {
        let before = self.tokens.insert(token.id, Arc::new(token.clone()));
        ensure(before.is_none(), "its id is held")
    }

    fn forget_token(&mut self, id: TokenId) -> Result<(), Misfit> {
        self.forget_locks(&LockTarget::Token { token: id });
        self.tokens.remove(&id).map(drop).ok_or(NO_TOKEN)
    }

    fn use_token(&mut self, id: TokenId, after: u32) -> Result<(), Misfit> {
        let token = Arc::make_mut(self.tokens.get_mut(&id).ok_or(NO_TOKEN)?);
        let counted = token.state == TokenState::Active && token.uses_left == after.saturating_add(1);
        ensure(counted, "a use was not counted")?;
        token.uses_left = after;
        if after == 0 {
            token.state = TokenState::Used;
        }
        Ok(())
    }

    fn end_token(&mut self, id: TokenId, state: TokenState) -> Result<(), Misfit> {
        let token = Arc::make_mut(self.tokens.get_mut(&id).ok_or(NO_TOKEN)?);
        token.state = state;
        token.uses_left = 0;
        Ok(())
    }

    fn add_provider(&mut self, provider: &Provider) -> Result<(), Misfit> {
        let added = Arc::new(provider.clone());
        let before = self.providers.insert(provider.name.clone(), added);
        ensure(before.is_none(), "its name is held")
    }

    fn remove_provider(&mut self, provider: &Provider) -> Result<(), Misfit> {
        let gone = self.providers.remove(&provider.name).is_some();
        ensure(gone, "there is no such provider")
    }

    /// Moves the moment a perimeter's rules are judged at; never back.
    fn judge(&mut self, name: &Name, wall: UnixMillis) -> Result<(), Misfit> {
        let perimeter = self.perimeter_mut(name)?;
        perimeter.judged_at = perimeter.judged_at.max(wall);
        Ok(())
    }

    fn perimeter_mut(&mut self, name: &Name) -> Result<&mut Perimeter, Misfit> {
        self.perimeters
            .get_mut(name)
            .map(Arc::make_mut)
            .ok_or(NO_PERIMETER)
    }
}

impl RefusalWindow {
    /// One more refusal at `wall`.
    fn counting(self, wall: UnixMillis) -> Self {
        let current = self.at(wall);
        Self {
            count: current.count.saturating_add(1),
            ..current
        }
    }

    /// The window that `wall` falls into. A clock that was set back begins a new one.
    pub(crate) fn at(self, wall: UnixMillis) -> Self {
        let same = wall >= self.since && wall.0 - self.since.0 < REFUSAL_WINDOW_MS;
        if same {
            self
        } else {
            Self {
                since: wall,
                count: 0,
            }
        }
    }
}

fn read_policy(file: &PolicyFile, perimeter: &Name) -> Result<PolicySource, Misfit> {
    let source = PolicySource::try_from(file.clone()).map_err(Misfit::Policy)?;
    ensure(
        source.policy().name == *perimeter,
        "the policy is of another perimeter",
    )?;
    Ok(source)
}

fn ensure(holds: bool, otherwise: &'static str) -> Result<(), Misfit> {
    holds.then_some(()).ok_or(Misfit::Impossible(otherwise))
}

const NO_PERIMETER: Misfit = Misfit::Impossible("there is no such perimeter");
const NO_NODE: Misfit = Misfit::Impossible("there is no such node");
const NO_TOKEN: Misfit = Misfit::Impossible("there is no such token");
const REFUSAL_WINDOW_MS: u64 = 3_600_000;
