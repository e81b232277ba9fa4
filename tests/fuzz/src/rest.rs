//! Bodies of REST requests, with what the controller then does: it refuses, or its log takes the change.

use std::time::Duration;

use ringfence_control::api;
use ringfence_controlplane::{
    Actor, ApplyOptions, Change, Command, Controller, Event, Identity, PolicyFile, TokenHash,
};
use ringfence_model::{Labels, NodeId, TokenId, UnixMillis};
use serde::de::DeserializeOwned;

use crate::fixture::{POLICY, WALL, key, name, perimeter};
use crate::script::{Script, piece};

/// A mesh with the perimeter `ledger`, a database and an application in it.
pub(crate) fn mesh() -> (Controller, [NodeId; 2]) {
    let (controller, _, nodes) = founded();
    (controller, nodes)
}

/// The same, with its log.
pub(crate) fn founded() -> (Controller, Vec<Change>, [NodeId; 2]) {
    let (mut controller, first) =
        Controller::found(name("acme"), &Actor::system("init", "r0"), WALL, [7; 32]);
    let mut log = vec![first];
    let mut ask = |actor: &Actor, command| {
        let entropy = [log.len() as u8; 32];
        let change = controller
            .propose(actor, command, WALL, entropy)
            .expect("the fixture is sound");
        controller
            .apply(&change)
            .expect("what was proposed can be applied");
        log.push(change);
        log.last().expect("it was just pushed").events.clone()
    };
    let admin = Actor::admin("ada", "r1");
    let apply = Command::ApplyPerimeters {
        files: vec![PolicyFile {
            file: "ledger.toml".to_owned(),
            text: POLICY.to_owned(),
        }],
        prune: false,
        base: None,
    };
    ask(&admin, apply);
    let mut nodes = [NodeId(0); 2];
    for (n, (called, role)) in [("db", "role=db"), ("app", "role=app")].into_iter().enumerate() {
        let secret_hash = TokenHash::of_secret(&[n as u8; 32]);
        let created = ask(
            &admin,
            Command::CreateToken {
                labels: Labels::parse_pairs([role]).expect("labels"),
                ttl: Duration::from_hours(1),
                uses: 1,
                secret_hash,
            },
        );
        let token = created.iter().find_map(|event| match event {
            Event::TokenCreated { token } => Some(token.id),
            _ => None,
        });
        let token = token.expect("a token was made");
        let enrolled = ask(&Actor::token(token, "r2"), enrolment(token, secret_hash, called));
        let node = enrolled.iter().find_map(|event| match event {
            Event::NodeEnrolled { node } => Some(node.id),
            _ => None,
        });
        nodes[n] = node.expect("a node was admitted");
        let register = Command::RegisterKey {
            node: nodes[n],
            perimeter: perimeter(),
            public_key: key(20 + n as u8).public_key(),
        };
        ask(&Actor::node(nodes[n], "r3"), register);
    }
    (controller, log, nodes)
}

fn enrolment(token: TokenId, secret_hash: TokenHash, called: &str) -> Command {
    Command::Enroll {
        token,
        secret_hash,
        name: name(called),
        identity: Identity::from_spki(&called.as_bytes().repeat(10)).expect("short"),
    }
}

pub(crate) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let (mut controller, mut log, nodes) = founded();
    let mut wall = WALL;
    for n in 0..REQUESTS_MAX {
        if script.is_over() {
            break;
        }
        let kind = script.byte();
        let Some(command) = command(kind, script.piece(), &controller, nodes, wall) else {
            continue;
        };
        let entropy = [n; 32];
        let actor = match command {
            Command::Tick | Command::StartTerm => Actor::system("clock", "r"),
            _ => Actor::admin("ada", "r"),
        };
        wall = UnixMillis(wall.0 + u64::from(kind >> 4) * 600_000);
        let Ok(change) = controller.propose(&actor, command, wall, entropy) else {
            continue;
        };
        let _ = controller.flow_changes(&change);
        controller
            .apply(&change)
            .expect("what was proposed can be applied");
        log.push(change);
        look_at_everything(&controller);
    }
    let again = Controller::load(None, &log).expect("a log that was written can be read");
    assert!(
        again.snapshot() == controller.snapshot(),
        "state is the fold of its changes"
    );
}

fn command(
    kind: u8,
    body: &[u8],
    controller: &Controller,
    nodes: [NodeId; 2],
    wall: UnixMillis,
) -> Option<Command> {
    match kind & 0x0f {
        0 => apply(body, controller, wall),
        1 => {
            let request: api::CreateTokenRequest = read(body)?;
            Some(Command::CreateToken {
                labels: request.labels,
                ttl: Duration::from_secs(request.ttl_seconds),
                uses: request.uses,
                secret_hash: TokenHash::of_secret(&[kind; 32]),
            })
        }
        2 => {
            let request: api::PatchNodeRequest = read(body)?;
            Some(Command::UpdateNode {
                node: nodes[usize::from(kind >> 7)],
                name: request.name,
                set: request.set_labels,
                remove: request.remove_labels,
            })
        }
        3 => {
            let request: api::AddPeerRequest = read(body)?;
            let expires = request
                .expires_seconds
                .map(|seconds| wall.saturating_add(Duration::from_secs(seconds)));
            Some(Command::AddDevice {
                name: request.name,
                perimeter: request.perimeter,
                public_key: request.public_key,
                labels: request.labels,
                expires,
            })
        }
        4 => {
            let request: api::ExplainRequest = read(body)?;
            let _ = controller.explain(&request, WALL);
            None
        }
        5 => {
            let _: api::VerifyRequest = read(body)?;
            None
        }
        6 => Some(Command::RemovePerimeter {
            name: std::str::from_utf8(body).ok()?.parse().ok()?,
        }),
        7 => Some(Command::RemoveNode {
            node: controller.find(std::str::from_utf8(body).ok()?)?,
        }),
        8 => Some(Command::RemoveDevice {
            name: std::str::from_utf8(body).ok()?.parse().ok()?,
        }),
        9 => Some(Command::RevokeToken {
            token: std::str::from_utf8(body).ok()?.parse().ok()?,
        }),
        10 => Some(Command::StartTerm),
        _ => Some(Command::Tick),
    }
}

fn apply(body: &[u8], controller: &Controller, wall: UnixMillis) -> Option<Command> {
    let request: api::ApplyRequest = read(body)?;
    let files = request.files.into_iter().map(|file| PolicyFile {
        file: file.name,
        text: file.text,
    });
    let files: Vec<_> = files.collect();
    let options = ApplyOptions {
        prune: request.prune,
        base: request.base,
    };
    // A dry run says what it says, whatever then becomes of it.
    let _ = controller.plan_apply(&Actor::admin("ada", "r"), files.clone(), options, wall);
    Some(Command::ApplyPerimeters {
        files,
        prune: request.prune,
        base: request.base,
    })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// Every view that an administrator or a node can ask for.
pub(crate) fn look_at_everything(controller: &Controller) {
    let _ = (controller.node_views(), controller.device_views());
    let _ = (controller.token_views(WALL), controller.perimeter_summaries());
    for perimeter in controller.perimeter_names() {
        assert!(controller.perimeter_detail(perimeter).is_some());
    }
    for device in controller.devices() {
        assert!(controller.device_config(&device.name).is_some());
    }
    for node in controller.nodes() {
        let netmap = controller.netmap(node.id, WALL).expect("each node has a netmap");
        assert_eq!(netmap.check(), Ok(()), "a controller makes sound netmaps");
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let request = |kind: u8, body: &str| [vec![kind], piece(body.as_bytes())].concat();
    let policy = POLICY
        .replace("5432", "443")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    let other = policy.replace("ledger", "payroll");
    let apply = format!(r#"{{"files":[{{"name":"p.toml","text":"{policy}"}}],"base":"1.2"}}"#);
    let both = format!(
        r#"{{"files":[{{"name":"p.toml","text":"{policy}"}},{{"name":"o.toml","text":"{other}"}}],"prune":true}}"#
    );
    let token = r#"{"labels":{"role":"db"},"ttl_seconds":60,"uses":3}"#;
    let patch = r#"{"name":"db-2","set_labels":{"role":"app","env":"prod"},"remove_labels":["env"]}"#;
    let peer = format!(
        r#"{{"name":"laptop","perimeter":"ledger","public_key":"{}","labels":{{"role":"app"}},"expires_seconds":60}}"#,
        key(30).public_key()
    );
    let explain = r#"{"from":"app","to":"node:db","service":"tcp/5432","perimeter":"ledger"}"#;
    vec![
        ("apply", request(0, &apply)),
        (
            "two-perimeters",
            [request(0, &both), request(6, "ledger")].concat(),
        ),
        ("token", [request(1, token), request(0x1f, "")].concat()),
        ("patch", request(2, patch)),
        (
            "device",
            [request(3, &peer), request(0xff, ""), request(8, "laptop")].concat(),
        ),
        (
            "ask",
            [request(4, explain), request(5, r#"{"perimeter":"ledger"}"#)].concat(),
        ),
        (
            "remove",
            [request(7, "db"), request(10, ""), request(9, "0000000000000001")].concat(),
        ),
    ]
}

const REQUESTS_MAX: u8 = 12;
