//! Everything the log says, as it stands at one revision.
//!
//! **Invariant:** a state is made by applying events in order, and by nothing else; two states that applied the same
//! log are equal. Names are unique among nodes and devices, WireGuard keys among all segments and devices.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use ipnetwork::Ipv6Network;
use ringfence_model::{AccessId, ApiTokenId, LockId, Name, NodeId, PublicKey, Revision, TokenId, UnixMillis};
use ringfence_policy::{Facts, GrantedRule, Member, Policy};
use serde::{Deserialize, Serialize};

use crate::address::Pool;
use crate::change::{ChainHash, ChainHead};
use crate::perimeter::Perimeter;
use crate::posture::PostureState;
use crate::workload::WorkloadState;
use crate::{
    AccessRequest, Account, ApiToken, Device, Directory, Drill, Lock, Node, Provider, Session, Token, User,
    UserId,
};

/// Everything the log says. Records are shared: a draft costs a reference each, not a copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) mesh: Mesh,
    pub(crate) revision: Revision,
    pub(crate) head: ChainHash,
    /// The revision that last changed any policy: what a base revision is judged against.
    pub(crate) policy_revision: Revision,
    pub(crate) nodes: BTreeMap<NodeId, Arc<Node>>,
    pub(crate) devices: BTreeMap<NodeId, Arc<Device>>,
    pub(crate) perimeters: BTreeMap<Name, Arc<Perimeter>>,
    pub(crate) tokens: BTreeMap<TokenId, Arc<Token>>,
    /// Everyone who was vouched for.
    pub(crate) users: BTreeMap<UserId, Arc<User>>,
    /// Who is logged in, by node.
    pub(crate) sessions: BTreeMap<NodeId, Arc<Session>>,
    /// What was asked for and is not over.
    pub(crate) access: BTreeMap<AccessId, Arc<AccessRequest>>,
    /// The number of the last request ever made.
    pub(crate) last_access: AccessId,
    /// Who else may ask, and for what.
    pub(crate) api_tokens: BTreeMap<ApiTokenId, Arc<ApiToken>>,
    /// What is open to be measured, by perimeter.
    #[serde(default)]
    pub(crate) drills: BTreeMap<Name, Drill>,
    /// What is shut.
    pub(crate) locks: BTreeMap<LockId, Arc<Lock>>,
    pub(crate) providers: BTreeMap<Name, Arc<Provider>>,
    /// Those who need no provider.
    #[serde(default)]
    pub(crate) accounts: BTreeMap<Name, Arc<Account>>,
    /// What providers said of their people by SCIM.
    #[serde(default)]
    pub(crate) directories: BTreeMap<Name, Arc<Directory>>,
    /// Who has which name.
    pub(crate) names: BTreeMap<Name, NodeId>,
    /// Who has which WireGuard key.
    pub(crate) keys: BTreeMap<PublicKey, NodeId>,
    pub(crate) v4_blocks: Pool,
    pub(crate) v6_subnets: Pool,
    pub(crate) refusals: RefusalWindow,
    #[serde(default)]
    pub(crate) posture: PostureState,
    #[serde(default)]
    pub(crate) workloads: WorkloadState,
}

/// What never changes about a mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// Its name.
    pub name: Name,
    /// Its ULA /48.
    pub prefix: Ipv6Network,
    /// When it was founded.
    pub founded_at: UnixMillis,
}

/// How many refusals were recorded in the hour that began at `since`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefusalWindow {
    pub(crate) since: UnixMillis,
    pub(crate) count: u32,
}

impl State {
    pub(crate) fn new(mesh: Mesh) -> Self {
        Self {
            mesh,
            revision: Revision::ZERO,
            head: ChainHash::GENESIS,
            policy_revision: Revision::ZERO,
            nodes: BTreeMap::new(),
            devices: BTreeMap::new(),
            perimeters: BTreeMap::new(),
            tokens: BTreeMap::new(),
            users: BTreeMap::new(),
            sessions: BTreeMap::new(),
            access: BTreeMap::new(),
            last_access: AccessId(0),
            drills: BTreeMap::new(),
            api_tokens: BTreeMap::new(),
            locks: BTreeMap::new(),
            providers: BTreeMap::new(),
            accounts: BTreeMap::new(),
            directories: BTreeMap::new(),
            names: BTreeMap::new(),
            keys: BTreeMap::new(),
            v4_blocks: Pool::default(),
            v6_subnets: Pool::default(),
            refusals: RefusalWindow::default(),
            posture: PostureState::default(),
            workloads: WorkloadState::default(),
        }
    }

    pub(crate) fn chain_head(&self) -> ChainHead {
        ChainHead {
            revision: self.revision,
            hash: self.head,
        }
    }

    /// A node or device as policy sees it.
    pub(crate) fn member(&self, id: NodeId) -> Option<Member> {
        if let Some(node) = self.nodes.get(&id) {
            return Some(self.node_member(node));
        }
        self.devices.get(&id).map(|device| device.as_member())
    }

    /// Everyone a perimeter's policy may speak about: every node, and the devices added to it.
    pub(crate) fn members_for(&self, perimeter: &Name) -> Vec<Member> {
        let nodes = self.nodes.values().map(|node| self.node_member(node));
        let devices = self.devices.values();
        let devices = devices.filter(|device| device.perimeter == *perimeter);
        let mut members: Vec<Member> = nodes.chain(devices.map(|device| device.as_member())).collect();
        self.isolate(perimeter, &mut members);
        members
    }

    /// A perimeter's file, and what was granted on request besides.
    pub(crate) fn policy_in_force<'a>(&self, perimeter: &'a Perimeter) -> Cow<'a, Policy> {
        let requests = self.access.values();
        let requests = requests.filter(|request| request.perimeter == perimeter.name);
        let mut granted: Vec<GrantedRule> = requests.filter_map(|request| request.rule()).collect();
        granted.extend(self.drills.get(&perimeter.name).map(Drill::rule));
        if granted.is_empty() {
            return Cow::Borrowed(perimeter.policy());
        }
        Cow::Owned(perimeter.policy().with_granted(&granted))
    }

    /// Who is a member of which perimeter by what was granted to them.
    pub(crate) fn grantees(&self) -> impl Iterator<Item = (&Name, NodeId)> {
        let open = self.access.values().filter(|request| request.is_open());
        open.map(|request| (&request.perimeter, request.node))
    }

    /// A node as policy sees it, with what is verified about the person at it.
    fn node_member(&self, node: &Node) -> Member {
        let session = self.sessions.get(&node.id);
        Member {
            id: node.id,
            name: node.name.clone(),
            labels: node.labels.clone(),
            facts: Facts {
                user: session.map(|session| session.facts()),
                source: node.source,
                posture: self.posture.counts_for(node.id),
                ..Facts::default()
            },
        }
    }

    /// What someone is called.
    pub(crate) fn name_of(&self, id: NodeId) -> Option<&Name> {
        if let Some(node) = self.nodes.get(&id) {
            return Some(&node.name);
        }
        self.devices.get(&id).map(|device| &device.name)
    }
}

impl Device {
    pub(crate) fn as_member(&self) -> Member {
        Member {
            id: self.id,
            name: self.name.clone(),
            labels: self.labels.clone(),
            facts: Facts::default(),
        }
    }
}
