//! A mesh for tests: a controller, its log, and a clock that the test moves.

use std::time::Duration;

use ringfence_control::Netmap;
use ringfence_model::{Labels, Name, NodeId, PrivateKey, PublicKey, TokenId, UnixMillis};

use crate::{Actor, Change, Command, Controller, Event, Identity, PolicyFile, Push, Refusal, TokenHash};

pub(super) struct World {
    pub(super) controller: Controller,
    pub(super) log: Vec<Change>,
    pub(super) wall: UnixMillis,
    pub(super) pushes: Vec<Push>,
    drawn: u64,
}

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(super) fn labels(text: &str) -> Labels {
    Labels::parse_pairs(text.split(',').filter(|pair| !pair.is_empty())).unwrap()
}

pub(super) fn public_key(n: u64) -> PublicKey {
    let mut random = [3; 32];
    random[8..16].copy_from_slice(&n.to_be_bytes());
    PrivateKey::from_random(random).public_key()
}

pub(super) fn file(text: &str) -> PolicyFile {
    PolicyFile {
        file: "policy.toml".into(),
        text: text.into(),
    }
}

/// Apps reach databases on tcp/5432.
pub(super) fn database(perimeter: &str) -> String {
    format!(
        r#"
[perimeter]
name = "{perimeter}"
owners = ["alice@example.com"]
[members]
db = {{ nodes = "role=db" }}
app = {{ nodes = "role=app" }}
[[allow]]
from = "app"
to = "db"
ports = ["tcp/5432"]
"#
    )
}

impl World {
    pub(super) fn new() -> Self {
        let wall = UnixMillis(1_700_000_000_000);
        let (controller, change) =
            Controller::found(name("acme"), &Actor::system("init", "r0"), wall, [7; 32]);
        Self {
            controller,
            log: vec![change],
            wall,
            pushes: Vec::new(),
            drawn: 0,
        }
    }

    /// With the perimeter `ledger` of [`database`], a database `db` and an app `app` in it, keys registered.
    pub(super) fn with_database() -> (Self, NodeId, NodeId) {
        let mut world = Self::new();
        world.admin(apply(&database("ledger"))).unwrap();
        let db = world.enroll("db", "role=db");
        let app = world.enroll("app", "role=app");
        world.register(db, "ledger").unwrap();
        world.register(app, "ledger").unwrap();
        (world, db, app)
    }

    pub(super) fn entropy(&mut self) -> [u8; 32] {
        self.drawn += 1;
        let mut entropy = [0; 32];
        entropy[..8].copy_from_slice(&self.drawn.to_be_bytes());
        entropy
    }

    /// Proposes, stores and applies.
    pub(super) fn ask(&mut self, actor: &Actor, command: Command) -> Result<Change, Refusal> {
        let entropy = self.entropy();
        let change = self.controller.propose(actor, command, self.wall, entropy)?;
        self.pushes = self.controller.apply(&change).unwrap();
        self.log.push(change.clone());
        Ok(change)
    }

    pub(super) fn admin(&mut self, command: Command) -> Result<Change, Refusal> {
        self.ask(&Actor::admin("ada", "r1"), command)
    }

    pub(super) fn system(&mut self, command: Command) -> Result<Change, Refusal> {
        self.ask(&Actor::system("clock", "r2"), command)
    }

    pub(super) fn token(&mut self, labels_text: &str, uses: u32) -> TokenId {
        let change = self.admin(Command::CreateToken {
            labels: labels(labels_text),
            ttl: Duration::from_hours(1),
            uses,
            secret_hash: TokenHash::of_secret(SECRET),
        });
        created_token(&change.unwrap())
    }

    pub(super) fn enroll(&mut self, called: &str, labels_text: &str) -> NodeId {
        let token = self.token(labels_text, 1);
        let change = self.join(token, called).unwrap();
        enrolled(&change)
    }

    /// Uses a token for a node of this name, with an identity made of the name.
    pub(super) fn join(&mut self, token: TokenId, called: &str) -> Result<Change, Refusal> {
        self.ask(&Actor::token(token, "r3"), enroll(token, SECRET, called))
    }

    /// Registers a key that nobody else has.
    pub(super) fn register(&mut self, node: NodeId, perimeter: &str) -> Result<PublicKey, Refusal> {
        self.drawn += 1;
        let key = public_key(self.drawn);
        self.register_key(node, perimeter, key)?;
        Ok(key)
    }

    pub(super) fn register_key(
        &mut self,
        node: NodeId,
        perimeter: &str,
        key: PublicKey,
    ) -> Result<Change, Refusal> {
        let command = Command::RegisterKey {
            node,
            perimeter: name(perimeter),
            public_key: key,
        };
        self.ask(&Actor::node(node, "r4"), command)
    }

    pub(super) fn netmap(&self, node: NodeId) -> Netmap {
        let netmap = self.controller.netmap(node, self.wall).unwrap();
        netmap.check().unwrap();
        netmap
    }

    /// Whom a node is told of, in one perimeter.
    pub(super) fn peers(&self, node: NodeId, perimeter: &str) -> Vec<NodeId> {
        let netmap = self.netmap(node);
        let segment = netmap.segments.get(&name(perimeter));
        segment
            .map(|segment| segment.peers.keys().copied().collect())
            .unwrap_or_default()
    }

    pub(super) fn pass(&mut self, duration: Duration) {
        self.wall = self.wall.saturating_add(duration);
    }
}

pub(super) fn apply(text: &str) -> Command {
    Command::ApplyPerimeters {
        files: vec![file(text)],
        prune: false,
        base: None,
    }
}

pub(super) fn enroll(token: TokenId, secret: &[u8], called: &str) -> Command {
    Command::Enroll {
        token,
        secret_hash: TokenHash::of_secret(secret),
        name: name(called),
        identity: identity(called),
    }
}

pub(super) fn identity(of: &str) -> Identity {
    Identity::from_spki(format!("spki of {of}").as_bytes()).unwrap()
}

pub(super) fn relabel(node: NodeId, set: &str, remove: &[&str]) -> Command {
    Command::UpdateNode {
        node,
        name: None,
        set: labels(set),
        remove: remove.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn created_token(change: &Change) -> TokenId {
    let created = change.events.iter().find_map(|event| match event {
        Event::TokenCreated { token } => Some(token.id),
        _ => None,
    });
    created.unwrap()
}

pub(super) fn enrolled(change: &Change) -> NodeId {
    let enrolled = change.events.iter().find_map(|event| match event {
        Event::NodeEnrolled { node } => Some(node.id),
        _ => None,
    });
    enrolled.unwrap()
}

pub(super) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
