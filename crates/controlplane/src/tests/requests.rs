//! Access on request: it opens exactly what it says to whom it says, until it says, and nothing after.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_model::{AccessId, NodeId, RuleId, UnixMillis};
use ringfence_policy::Direction;

use super::sessions::login;
use super::world::*;
use crate::limit::{ACCESS_ANSWER_WITHIN, ACCESS_PER_NODE_MAX, ACCESS_REVIEW_WITHIN};
use crate::{
    AccessCommand, AccessEnd, AccessEvent, AccessStanding, Actor, Change, Command, Event, PeopleCommand,
    Refusal, Urgency,
};

const HOURS_2: Duration = Duration::from_hours(2);

impl World {
    /// [`World::with_database`], and a laptop that is in no group, at which alice is logged in.
    pub(super) fn with_laptop() -> (Self, NodeId, NodeId) {
        let (mut world, db, _) = Self::with_database();
        let laptop = world.enroll("laptop", "os=linux");
        world.log_in(laptop, "alice").unwrap();
        (world, db, laptop)
    }

    pub(super) fn log_in(&mut self, node: NodeId, who: &str) -> Result<Change, Refusal> {
        let start = PeopleCommand::StartSession {
            node,
            login: login(who, self.wall),
            length: Duration::from_hours(9),
        };
        self.system(Command::People(start))
    }

    pub(super) fn ask_for(
        &mut self,
        node: NodeId,
        port: u16,
        length: Duration,
        urgency: Urgency,
    ) -> Result<AccessId, Refusal> {
        let command = request(node, port, length, urgency);
        let change = self.ask(&Actor::node(node, "r"), command)?;
        let asked = access_events(&change).into_iter().find_map(|event| match event {
            AccessEvent::AccessRequested { request } => Some(request.id),
            _ => None,
        });
        Ok(asked.unwrap())
    }

    pub(super) fn answer(&mut self, who: &str, command: AccessCommand) -> Result<Change, Refusal> {
        self.ask(&Actor::admin(who, "r"), Command::Access(command))
    }

    pub(super) fn approve(&mut self, who: &str, access: AccessId) -> Result<Change, Refusal> {
        self.answer(who, AccessCommand::Approve { access, reason: None })
    }

    fn standing(&self, access: AccessId) -> Option<AccessStanding> {
        self.controller
            .access_request(access)
            .map(|request| request.standing)
    }

    /// Whether both ends' netmaps open this port from one to the other at this moment, by the clock of the nodes alone.
    pub(super) fn is_open(&self, from: NodeId, to: NodeId, port: u16) -> bool {
        let asked = format!("tcp/{port}").parse().unwrap();
        let one_end = |own: NodeId, other: NodeId, direction: Direction| {
            let netmap = self.netmap(own);
            let segment = netmap.segments.get(&name("ledger"));
            segment.is_some_and(|segment| {
                segment.rules.iter().any(|rule| {
                    rule.direction == direction
                        && rule.peers.contains(other)
                        && rule.expires.is_none_or(|expires| self.wall < expires)
                        && rule.services.iter().any(|service| service.overlaps(asked))
                })
            })
        };
        let (out, inward) = (
            one_end(from, to, Direction::Egress),
            one_end(to, from, Direction::Ingress),
        );
        assert_eq!(out, inward, "both ends say the same");
        out
    }
}

fn request(node: NodeId, port: u16, length: Duration, urgency: Urgency) -> Command {
    Command::Access(AccessCommand::Request {
        node,
        perimeter: name("ledger"),
        to: name("db"),
        services: vec![format!("tcp/{port}").parse().unwrap()],
        length,
        reason: "the ledger is stuck".to_owned(),
        urgency,
    })
}

fn access_events(change: &Change) -> Vec<&AccessEvent> {
    let events = change.events.iter();
    let events = events.filter_map(|event| match event {
        Event::Access(event) => Some(event.as_ref()),
        _ => None,
    });
    events.collect()
}

fn ends(change: &Change) -> Vec<AccessEnd> {
    let events = access_events(change).into_iter();
    let ends = events.filter_map(|event| match event {
        AccessEvent::AccessEnded { cause, .. } => Some(*cause),
        _ => None,
    });
    ends.collect()
}

#[test]
fn what_is_granted_opens_for_its_time_to_the_one_who_asked_and_ends_by_itself() {
    let (mut world, db, laptop) = World::with_laptop();
    let access = world.ask_for(laptop, 22, HOURS_2, Urgency::Ordinary).unwrap();
    assert!(world.netmap(laptop).segments.is_empty(), "asking opens nothing");

    let granted_at = world.wall;
    world.approve("ada", access).unwrap();
    world.register(laptop, "ledger").unwrap();

    assert_eq!(world.peers(laptop, "ledger"), [db]);
    let rules = &world.netmap(laptop).segments[&name("ledger")].rules;
    assert_eq!(rules.len(), 1);
    let until = granted_at.saturating_add(HOURS_2);
    assert_eq!(
        (rules[0].id, rules[0].expires),
        (RuleId::granted(access), Some(until))
    );
    assert!(
        world.is_open(laptop, db, 22) && !world.is_open(laptop, db, 5432) && !world.is_open(db, laptop, 22)
    );

    assert_eq!(world.controller.poll_timeout(), Some(until));
    world.wall = UnixMillis(until.0 - 1);
    assert_eq!(world.system(Command::Tick).unwrap_err(), Refusal::Unchanged);
    world.wall = until;
    assert!(
        !world.is_open(laptop, db, 22),
        "the nodes end it before anybody tells them"
    );
    let change = world.system(Command::Tick).unwrap();

    assert!(matches!(
        access_events(&change)[..],
        [AccessEvent::AccessExpired { .. }]
    ));
    assert!(world.netmap(laptop).segments.is_empty());
    let told: BTreeSet<NodeId> = world.pushes.iter().map(|push| push.node).collect();
    assert_eq!(told, BTreeSet::from([db, laptop]));
    assert_eq!(world.standing(access), None);
    assert_eq!(world.system(Command::Tick).unwrap_err(), Refusal::Unchanged);
}

#[test]
fn nobody_approves_their_own_request() {
    let (mut world, db, laptop) = World::with_laptop();
    let access = world.ask_for(laptop, 22, HOURS_2, Urgency::Ordinary).unwrap();

    assert_eq!(
        world.approve("Alice@example.com", access).unwrap_err(),
        Refusal::OwnAccess(access)
    );
    let node = Actor::node(laptop, "r");
    let approve = Command::Access(AccessCommand::Approve { access, reason: None });
    assert!(matches!(
        world.ask(&node, approve).unwrap_err(),
        Refusal::NotPermitted { .. }
    ));

    let other = world.ask(
        &Actor::admin("ada", "r"),
        request(db, 22, HOURS_2, Urgency::Ordinary),
    );
    let AccessEvent::AccessRequested { request } = access_events(other.as_ref().unwrap())[0] else {
        panic!("{other:?}");
    };
    assert_eq!(
        world.approve("ada", request.id).unwrap_err(),
        Refusal::OwnAccess(request.id)
    );
    world.approve("bob", request.id).unwrap();
}

#[test]
fn a_grant_ends_with_the_session_it_was_for_and_not_with_another() {
    let (mut world, db, laptop) = World::with_laptop();
    let access = world.ask_for(laptop, 22, HOURS_2, Urgency::Ordinary).unwrap();
    world.approve("ada", access).unwrap();
    world.register(laptop, "ledger").unwrap();
    world.log_in(laptop, "alice").unwrap();
    assert!(world.is_open(laptop, db, 22), "a renewed session is the same");

    let change = world.log_in(laptop, "bob").unwrap();

    assert_eq!(ends(&change), [AccessEnd::SessionEnded]);
    assert!(!world.is_open(laptop, db, 22));
    assert!(world.peers(db, "ledger").iter().all(|peer| *peer != laptop));
}

/// What takes a node, or what it is in, away.
type Taking = fn(NodeId) -> Command;

#[test]
fn what_it_is_about_takes_it_along() {
    let without_group = database("ledger")
        .replace("db =", "database =")
        .replace("\"db\"\n", "\"database\"\n");
    let cases: [(Taking, AccessEnd); 2] = [
        (|node| Command::RemoveNode { node }, AccessEnd::SessionEnded),
        (
            |_| Command::RemovePerimeter { name: name("ledger") },
            AccessEnd::PerimeterRemoved,
        ),
    ];
    for (command, cause) in cases {
        let (mut world, _, laptop) = World::with_laptop();
        let access = world.ask_for(laptop, 22, HOURS_2, Urgency::Ordinary).unwrap();
        world.approve("ada", access).unwrap();
        let waiting = world.ask_for(laptop, 23, HOURS_2, Urgency::Ordinary).unwrap();

        let change = world.admin(command(laptop)).unwrap();

        assert_eq!(ends(&change), [cause; 2]);
        assert_eq!((world.standing(access), world.standing(waiting)), (None, None));
    }
    let (mut world, _, laptop) = World::with_laptop();
    let access = world.ask_for(laptop, 22, HOURS_2, Urgency::Ordinary).unwrap();
    world.approve("ada", access).unwrap();
    let change = world.admin(apply(&without_group)).unwrap();
    assert_eq!(ends(&change), [AccessEnd::GroupRemoved]);
    assert!(world.netmap(laptop).segments.is_empty());
}

#[test]
fn a_policy_that_changes_keeps_what_is_granted_and_is_tested_without_it() {
    let (mut world, db, laptop) = World::with_laptop();
    let access = world.ask_for(laptop, 22, HOURS_2, Urgency::Ordinary).unwrap();
    world.approve("ada", access).unwrap();
    world.register(laptop, "ledger").unwrap();

    let named_alike = format!("grant-{access} = {{ nodes = \"role=app\" }}\n[[allow]]\nfrom = \"app\"");
    let expecting =
        "[[expect]]\nfrom = \"node:laptop\"\nto = \"db\"\nport = \"tcp/22\"\nverdict = \"deny\"\n";
    let changed = database("ledger").replacen("[[allow]]\nfrom = \"app\"", &named_alike, 1) + expecting;
    world.admin(apply(&changed)).unwrap();

    assert!(world.is_open(laptop, db, 22));
    let app = world
        .controller
        .nodes()
        .find(|node| node.name == name("app"))
        .unwrap()
        .id;
    assert!(
        !world.is_open(app, db, 22),
        "a group of the file is not the one it was granted to"
    );
}

#[test]
fn a_request_that_nobody_answers_lapses() {
    let (mut world, _, laptop) = World::with_laptop();
    let start = world.wall;
    let access = world.ask_for(laptop, 22, HOURS_2, Urgency::Ordinary).unwrap();
    let node = Actor::node(laptop, "r");
    let again = world.ask_for(laptop, 22, HOURS_2, Urgency::Ordinary).unwrap();
    world
        .ask(&node, Command::Access(AccessCommand::End { access: again }))
        .unwrap();
    assert_eq!(world.standing(again), None);

    world.log_in(laptop, "alice").unwrap();
    world.wall = start.saturating_add(Duration::from_hours(8));
    world.log_in(laptop, "alice").unwrap();
    world.wall = start.saturating_add(Duration::from_hours(16));
    world.log_in(laptop, "alice").unwrap();
    let due = start.saturating_add(ACCESS_ANSWER_WITHIN);
    assert_eq!(world.controller.poll_timeout(), Some(due));
    world.wall = due;
    assert_eq!(
        world.approve("ada", access).unwrap_err(),
        Refusal::AccessAnswered(access)
    );
    let change = world.system(Command::Tick).unwrap();
    assert!(matches!(
        access_events(&change)[..],
        [AccessEvent::AccessExpired { .. }]
    ));
}

#[test]
fn breaking_the_glass_takes_two_who_approve() {
    let (mut world, db, laptop) = World::with_laptop();
    let access = world.ask_for(laptop, 22, HOURS_2, Urgency::BreakGlass).unwrap();

    world.approve("ada", access).unwrap();
    assert_eq!(world.approve("ada", access).unwrap_err(), Refusal::Unchanged);
    assert_eq!(world.standing(access), Some(AccessStanding::Waiting));
    world.approve("bob", access).unwrap();
    world.register(laptop, "ledger").unwrap();

    assert!(world.is_open(laptop, db, 22));
}

#[test]
fn where_the_file_says_so_a_member_breaks_the_glass_at_once_and_is_reviewed() {
    let (mut world, db, laptop) = World::with_laptop();
    let reviewed = database("ledger")
        .replace("owners =", "break_glass = \"review\"\nowners =")
        .replace("[members]", "[members]\nstaff = { users = \"group=staff\" }");
    let foreign = world.enroll("printer", "role=printer");
    world.admin(apply(&reviewed)).unwrap();
    world.register(laptop, "ledger").unwrap();

    let stranger = world
        .ask(
            &Actor::admin("bob", "r"),
            request(foreign, 22, HOURS_2, Urgency::BreakGlass),
        )
        .unwrap();
    assert_eq!(
        access_events(&stranger).len(),
        1,
        "who is no member waits for two"
    );

    let opened_at = world.wall;
    let access = world.ask_for(laptop, 22, HOURS_2, Urgency::BreakGlass).unwrap();
    assert!(world.is_open(laptop, db, 22));
    world.wall = opened_at.saturating_add(HOURS_2);
    world.system(Command::Tick).unwrap();
    assert!(!world.is_open(laptop, db, 22));
    assert_eq!(
        world.standing(access),
        Some(AccessStanding::Closed),
        "it is listed until it was reviewed"
    );

    world.wall = opened_at.saturating_add(ACCESS_REVIEW_WITHIN);
    world.log_in(laptop, "alice").unwrap();
    assert_eq!(
        world
            .ask_for(laptop, 22, HOURS_2, Urgency::BreakGlass)
            .unwrap_err(),
        Refusal::ReviewOwed(access)
    );
    let review = || AccessCommand::Review {
        access,
        reason: Some("as agreed by telephone".to_owned()),
    };
    assert_eq!(
        world.answer("alice@example.com", review()).unwrap_err(),
        Refusal::OwnAccess(access)
    );
    world.answer("ada", review()).unwrap();
    assert_eq!(world.standing(access), None);
    world.ask_for(laptop, 22, HOURS_2, Urgency::BreakGlass).unwrap();
}

#[test]
fn what_is_asked_for_is_checked_and_bounded() {
    let (mut world, db, laptop) = World::with_laptop();
    assert_eq!(
        world.ask_for(db, 22, HOURS_2, Urgency::Ordinary).unwrap_err(),
        Refusal::NobodyThere(db)
    );
    let long = world.ask_for(laptop, 22, Duration::from_hours(25), Urgency::Ordinary);
    assert_eq!(long.unwrap_err(), Refusal::AccessLength);
    let for_another = world.ask(
        &Actor::node(db, "r"),
        request(laptop, 22, HOURS_2, Urgency::Ordinary),
    );
    assert!(matches!(for_another.unwrap_err(), Refusal::NotPermitted { .. }));
    for _ in 0..ACCESS_PER_NODE_MAX {
        world.ask_for(laptop, 22, HOURS_2, Urgency::Ordinary).unwrap();
    }
    let one_more = world.ask_for(laptop, 22, HOURS_2, Urgency::Ordinary).unwrap_err();
    assert!(matches!(
        one_more,
        Refusal::Limit {
            max: ACCESS_PER_NODE_MAX,
            ..
        }
    ));
    let of_another = Command::Access(AccessCommand::End { access: AccessId(1) });
    assert_eq!(
        world.ask(&Actor::node(db, "r"), of_another).unwrap_err(),
        Refusal::NoAccess(AccessId(1))
    );
}

#[test]
fn an_explanation_names_what_was_granted() {
    let (mut world, _, laptop) = World::with_laptop();
    let access = world.ask_for(laptop, 22, HOURS_2, Urgency::Ordinary).unwrap();
    world.approve("ada", access).unwrap();
    let asked = ringfence_control::api::ExplainRequest {
        from: "laptop".into(),
        to: "db".into(),
        service: "tcp/22".parse().unwrap(),
        perimeter: None,
        as_if: None,
        at_ms: None,
    };

    let report = world.controller.explain(&asked, world.wall).unwrap();

    let explained = &report.perimeters[0];
    assert_eq!(report.verdict, ringfence_control::api::Verdict::Allow);
    assert_eq!(
        (explained.rule, explained.line),
        (Some(RuleId::granted(access)), None)
    );
    assert!(explained.reason.contains("#grant-1") && explained.reason.contains("the ledger is stuck"));
}
