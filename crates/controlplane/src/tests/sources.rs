//! Where nodes connect from, as far as policy asks.

use std::net::IpAddr;

use ringfence_model::NodeId;

use super::world::*;
use crate::limit::{OWN_ENTRIES_BURST, OWN_ENTRY_EVERY};
use crate::{Actor, Change, Command, Connection, Controller, Event, Refusal, Snapshot};

const OFFICE: &str = "10.1.2.3";
const STREET: &str = "192.0.2.9";

/// [`database`] for apps in the office alone.
fn in_the_office() -> String {
    format!(
        "{}require = {{ source = [\"10.1.0.0/16\"] }}\n",
        database("ledger")
    )
}

fn note(node: NodeId, source: Option<&str>) -> Command {
    Command::NoteSource {
        node,
        source: source.map(|source| source.parse().unwrap()),
    }
}

impl World {
    /// As the shell does for a new connection.
    fn connect_from(&mut self, node: NodeId, id: u64, source: &str) -> Result<Change, Refusal> {
        let source: IpAddr = source.parse().unwrap();
        let connection = Connection {
            id,
            remote: (source, 4000).into(),
            since: self.wall,
        };
        self.controller.connected(node, connection, "1.0");
        self.system(Command::NoteSource {
            node,
            source: Some(source),
        })
    }

    fn recorded(&self, node: NodeId) -> Option<IpAddr> {
        self.controller.state().nodes[&node].source
    }
}

fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn seen(change: &Change) -> Vec<(NodeId, Option<IpAddr>, Option<IpAddr>)> {
    let seen = change.events.iter().filter_map(|event| match event {
        Event::SourceSeen { node, before, after } => Some((*node, *before, *after)),
        _ => None,
    });
    seen.collect()
}

#[test]
fn who_moves_out_of_the_prefixes_loses_the_rule_and_who_comes_back_has_it() {
    let (mut world, db, app) = World::with_database();
    world.admin(apply(&in_the_office())).unwrap();
    assert!(world.peers(db, "ledger").is_empty(), "nobody knows where it is");

    let change = world.connect_from(app, 1, OFFICE).unwrap();
    assert_eq!(seen(&change), [(app, None, ip(OFFICE))]);
    assert_eq!(world.peers(db, "ledger"), [app]);
    assert!(
        world.pushes.iter().any(|push| push.node == db),
        "its peer is told as well"
    );

    let change = world.system(note(app, Some(STREET))).unwrap();
    assert_eq!(seen(&change), [(app, ip(OFFICE), ip(STREET))]);
    assert!(world.peers(db, "ledger").is_empty());
    assert!(world.peers(app, "ledger").is_empty());

    world.system(note(app, Some("10.1.77.1"))).unwrap();
    assert_eq!(world.peers(db, "ledger"), [app]);
    world.system(note(app, None)).unwrap();
    assert!(world.peers(db, "ledger").is_empty());

    let replayed = Controller::load(None, &world.log).unwrap();
    assert_eq!(replayed.views(), world.controller.views());
    let stored = Snapshot::from_bytes(&world.controller.snapshot().to_bytes()).unwrap();
    assert_eq!(stored, replayed.snapshot());
}

#[test]
fn an_ipv4_address_that_looks_like_ipv6_is_itself_and_no_move() {
    let (mut world, db, app) = World::with_database();
    world.admin(apply(&in_the_office())).unwrap();

    world.connect_from(app, 1, "::ffff:10.1.2.3").unwrap();

    assert_eq!(world.recorded(app), ip(OFFICE));
    assert_eq!(world.peers(db, "ledger"), [app]);
    let again = world.connect_from(app, 2, OFFICE);
    assert_eq!(again.unwrap_err(), Refusal::Unchanged);
    assert!(!world.controller.is_source_news(app, ip("::ffff:10.1.2.3")));
    assert!(world.controller.is_source_news(app, ip(STREET)));
}

#[test]
fn where_nobody_asks_nothing_is_recorded() {
    let (mut world, _, app) = World::with_database();

    let refused = world.connect_from(app, 1, OFFICE).unwrap_err();

    assert_eq!(refused, Refusal::Unchanged);
    assert!(!world.controller.is_source_news(app, ip(OFFICE)));
}

#[test]
fn policy_that_comes_to_ask_takes_connected_nodes_for_where_they_are_now() {
    let (mut world, db, app) = World::with_database();
    let away = world.enroll("away", "role=app");
    world.register(away, "ledger").unwrap();
    world.connect_from(app, 1, STREET).unwrap_err();
    assert!(world.controller.moved(app, 1, (ip(OFFICE).unwrap(), 4001).into()));
    assert!(
        !world.controller.moved(app, 7, (ip(STREET).unwrap(), 4001).into()),
        "not its connection"
    );

    let change = world.admin(apply(&in_the_office())).unwrap();

    assert_eq!(seen(&change), [(app, None, ip(OFFICE))]);
    assert_eq!(world.peers(db, "ledger"), [app], "and not the one that is away");
    let change = world.connect_from(away, 2, OFFICE).unwrap();
    assert_eq!(seen(&change), [(away, None, ip(OFFICE))]);
    assert_eq!(world.peers(db, "ledger").len(), 2);
}

#[test]
fn who_comes_into_a_perimeter_that_asks_is_looked_at_and_what_is_known_is_never_old() {
    let (mut world, db, _) = World::with_database();
    world.admin(apply(&in_the_office())).unwrap();
    let spare = world.enroll("spare", "role=spare");
    world.connect_from(spare, 1, OFFICE).unwrap_err();

    let change = world.admin(relabel(spare, "role=app", &[])).unwrap();
    assert_eq!(seen(&change), [(spare, None, ip(OFFICE))]);
    world.register(spare, "ledger").unwrap();
    assert_eq!(world.peers(db, "ledger"), [spare]);

    world.admin(relabel(spare, "role=spare", &[])).unwrap();
    world.connect_from(spare, 2, STREET).unwrap();
    world.controller.disconnected(spare, 2, world.wall);
    world.admin(relabel(spare, "role=app", &[])).unwrap();
    world.register(spare, "ledger").unwrap();

    assert_eq!(world.recorded(spare), ip(STREET));
    assert!(world.peers(db, "ledger").is_empty());
}

/// As the shell does: a move that is not taken makes the node be nowhere.
fn move_to(world: &mut World, node: NodeId, source: &str) -> usize {
    let moved = world.system(note(node, Some(source)));
    match moved {
        Ok(_) => 1,
        Err(Refusal::Unchanged) => 0,
        Err(refused) => {
            assert_eq!(refused, Refusal::TooOften(node));
            usize::from(world.system(note(node, None)).is_ok())
        }
    }
}

#[test]
fn who_moves_to_and_fro_fills_no_log_and_is_never_held_for_inside_while_outside() {
    let (mut world, db, app) = World::with_database();
    world.admin(apply(&in_the_office())).unwrap();
    let mut entries = 0;

    for _ in 0..4 * OWN_ENTRIES_BURST {
        entries += move_to(&mut world, app, OFFICE);
        entries += move_to(&mut world, app, STREET);
        assert!(world.peers(db, "ledger").is_empty());
    }

    assert!(entries <= OWN_ENTRIES_BURST as usize + 1, "{entries} entries");
    assert_eq!(world.recorded(app), None);
    world.pass(OWN_ENTRY_EVERY);
    assert_eq!(move_to(&mut world, app, OFFICE), 1);
    assert_eq!(world.peers(db, "ledger"), [app]);
    assert_eq!(
        move_to(&mut world, app, STREET),
        1,
        "forgotten at once, and paced after"
    );
    assert!(world.peers(db, "ledger").is_empty());
}

#[test]
fn only_the_controller_itself_says_where_a_node_is_and_forgetting_is_a_removal() {
    let (mut world, _, app) = World::with_database();
    world.admin(apply(&in_the_office())).unwrap();
    for actor in [Actor::node(app, "r"), Actor::admin("ada", "r")] {
        let refused = world.ask(&actor, note(app, Some(OFFICE))).unwrap_err();
        assert!(matches!(refused, Refusal::NotPermitted { .. }));
    }

    assert!(note(app, None).is_removal());
    assert!(!note(app, Some(OFFICE)).is_removal());
}
