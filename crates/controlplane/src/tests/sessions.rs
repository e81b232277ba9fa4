//! People and their sessions.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_model::{NodeId, UnixMillis};

use super::world::*;
use crate::limit::{GROUPS_PER_PERSON_MAX, OWN_ENTRIES_BURST};
use crate::{
    Actor, Change, Command, Controller, Event, FindUserError, PeopleCommand, PeopleEvent, Refusal, Session,
    SessionEnd, SessionsOf, Snapshot, UserId, VerifiedLogin,
};

const LENGTH: Duration = Duration::from_hours(12);

impl World {
    fn login(&self, subject: &str) -> VerifiedLogin {
        login(subject, self.wall)
    }

    fn start(&mut self, node: NodeId, login: VerifiedLogin) -> Result<Change, Refusal> {
        self.system(start(node, login))
    }

    fn session(&self, node: NodeId) -> Option<Session> {
        self.controller.session_at(node).cloned()
    }

    /// A laptop at which alice is logged in.
    fn with_alice() -> (Self, NodeId) {
        let mut world = Self::new();
        let laptop = world.enroll("laptop", "os=linux");
        world.start(laptop, world.login("alice")).unwrap();
        (world, laptop)
    }
}

fn start(node: NodeId, login: VerifiedLogin) -> Command {
    Command::People(PeopleCommand::StartSession {
        node,
        login,
        length: LENGTH,
    })
}

fn user(subject: &str) -> UserId {
    format!("corp/{subject}").parse().unwrap()
}

fn deactivate(subject: &str) -> Command {
    let user = user(subject);
    Command::People(PeopleCommand::DeactivateUser { user })
}

/// What ended in a change, and why.
fn ends(change: &Change) -> Vec<(NodeId, SessionEnd)> {
    let events = change.events.iter();
    let ended = events.filter_map(|event| match event {
        Event::People(event) => match event.as_ref() {
            PeopleEvent::SessionEnded { before, cause } => Some((before.node, *cause)),
            _ => None,
        },
        _ => None,
    });
    ended.collect()
}

/// Why sessions ended by a change, whosever they were.
pub(super) fn causes(change: &Change) -> Vec<SessionEnd> {
    ends(change).into_iter().map(|(_, cause)| cause).collect()
}

#[test]
fn a_login_is_what_policy_sees_until_it_ends() {
    let (mut world, laptop) = World::with_alice();
    let session = world.session(laptop).unwrap();
    let facts = world
        .controller
        .state()
        .member(laptop)
        .unwrap()
        .facts
        .user
        .unwrap();

    assert_eq!(facts.name, "alice@example.com");
    assert_eq!(
        (facts.until, session.expires),
        (world.wall.saturating_add(LENGTH), facts.until)
    );
    assert_eq!(world.controller.poll_timeout(), Some(session.expires));
    assert!(world.pushes.iter().all(|push| push.node == laptop));

    world.wall = session.expires;
    let change = world.system(Command::Tick).unwrap();

    assert_eq!(ends(&change), [(laptop, SessionEnd::Expired)]);
    assert_eq!(world.session(laptop), None);
    assert_eq!(world.controller.state().member(laptop).unwrap().facts.user, None);
    assert_eq!(world.controller.poll_timeout(), None);
    assert_eq!(world.system(Command::Tick).unwrap_err(), Refusal::Unchanged);
}

#[test]
fn the_same_person_renews_their_session_and_keeps_the_second_factor_they_proved() {
    let (mut world, laptop) = World::with_alice();
    let first = world.session(laptop).unwrap();
    world.pass(Duration::from_mins(10));
    let proved_at = world.wall;
    let step_up = VerifiedLogin {
        mfa_at: Some(proved_at),
        ..world.login("alice")
    };
    world.start(laptop, step_up).unwrap();
    world.pass(Duration::from_mins(10));
    world.start(laptop, world.login("alice")).unwrap();
    let renewed = world.session(laptop).unwrap();

    assert_eq!((renewed.id, renewed.started_at), (first.id, first.started_at));
    assert_eq!(renewed.login.mfa_at, Some(proved_at));
    assert_eq!(renewed.expires, world.wall.saturating_add(LENGTH));
}

#[test]
fn someone_else_at_the_node_ends_the_session_and_has_nothing_of_it() {
    let (mut world, laptop) = World::with_alice();
    let step_up = VerifiedLogin {
        mfa_at: Some(world.wall),
        ..world.login("alice")
    };
    world.start(laptop, step_up).unwrap();

    let change = world.start(laptop, world.login("bob")).unwrap();

    assert_eq!(ends(&change), [(laptop, SessionEnd::Replaced)]);
    let session = world.session(laptop).unwrap();
    assert_eq!((session.login.user, session.login.mfa_at), (user("bob"), None));
}

#[test]
fn a_clock_that_runs_ahead_makes_no_proof_younger_than_it_is() {
    let (mut world, laptop) = World::with_alice();
    let ahead = world.wall.saturating_add(Duration::from_hours(1));
    let login = VerifiedLogin {
        mfa_at: Some(ahead),
        ..login("alice", ahead)
    };

    world.start(laptop, login).unwrap();

    let login = world.session(laptop).unwrap().login;
    assert_eq!(
        (login.authenticated_at, login.mfa_at),
        (world.wall, Some(world.wall))
    );
}

#[test]
fn sessions_are_ended_one_by_one_by_person_and_by_the_providers_session() {
    let (mut world, laptop) = World::with_alice();
    let (desk, other) = (world.enroll("desk", ""), world.enroll("other", ""));
    for (node, subject) in [(desk, "alice"), (other, "bob")] {
        world.start(node, world.login(subject)).unwrap();
    }
    let end = |of| {
        Command::People(PeopleCommand::EndSessions {
            of,
            cause: SessionEnd::ByProvider,
        })
    };

    let change = world.system(end(SessionsOf::ProviderSession {
        provider: name("corp"),
        session: "sid of bob".into(),
    }));
    assert_eq!(ends(&change.unwrap()), [(other, SessionEnd::ByProvider)]);

    let one = world.session(desk).unwrap().id;
    let change = world
        .admin(Command::People(PeopleCommand::EndSession { session: one }))
        .unwrap();
    assert_eq!(ends(&change), [(desk, SessionEnd::Ended)]);
    let again = world.admin(Command::People(PeopleCommand::EndSession { session: one }));
    assert_eq!(again.unwrap_err(), Refusal::NoSession(one));

    let change = world.system(end(SessionsOf::User(user("alice")))).unwrap();
    assert_eq!(ends(&change), [(laptop, SessionEnd::ByProvider)]);
    assert_eq!(
        world.system(end(SessionsOf::User(user("alice")))).unwrap_err(),
        Refusal::Unchanged
    );
    assert_eq!(world.controller.sessions().count(), 0);
}

#[test]
fn who_is_deactivated_is_out_and_stays_out() {
    let (mut world, laptop) = World::with_alice();

    let change = world.admin(deactivate("alice")).unwrap();

    assert_eq!(ends(&change), [(laptop, SessionEnd::Deactivated)]);
    let refused = world.start(laptop, world.login("alice")).unwrap_err();
    assert!(
        matches!(refused, Refusal::UserDeactivated(_)) && refused.is_auditable(),
        "{refused}"
    );
    assert_eq!(world.admin(deactivate("alice")).unwrap_err(), Refusal::Unchanged);
    assert!(matches!(
        world.admin(deactivate("carol")),
        Err(Refusal::NoUser(_))
    ));

    let again = PeopleCommand::ReactivateUser { user: user("alice") };
    world.admin(Command::People(again)).unwrap();
    world.start(laptop, world.login("alice")).unwrap();
}

#[test]
fn a_node_logs_out_its_own_person_alone_and_starts_no_session() {
    let (mut world, laptop) = World::with_alice();
    let other = world.enroll("other", "");
    let log_out = Command::People(PeopleCommand::LogOut { node: laptop });
    let denied = [
        (Actor::node(other, "r"), log_out.clone()),
        (Actor::node(laptop, "r"), start(laptop, world.login("bob"))),
        (Actor::admin("ada", "r"), start(laptop, world.login("bob"))),
        (Actor::node(laptop, "r"), deactivate("alice")),
    ];
    for (actor, command) in denied {
        let refused = world.ask(&actor, command).unwrap_err();
        assert!(matches!(refused, Refusal::NotPermitted { .. }), "{refused}");
    }

    let change = world.ask(&Actor::node(laptop, "r"), log_out).unwrap();

    assert_eq!(ends(&change), [(laptop, SessionEnd::LoggedOut)]);
}

#[test]
fn a_node_that_is_removed_takes_its_session_along() {
    let (mut world, laptop) = World::with_alice();

    let change = world.admin(Command::RemoveNode { node: laptop }).unwrap();

    assert_eq!(ends(&change), [(laptop, SessionEnd::NodeRemoved)]);
    assert_eq!(world.controller.sessions().count(), 0);
}

#[test]
fn what_is_too_much_of_one_person_is_refused() {
    let (mut world, laptop) = World::with_alice();
    let crowd: BTreeSet<String> = (0..=GROUPS_PER_PERSON_MAX).map(|n| n.to_string()).collect();
    let many = VerifiedLogin {
        groups: crowd,
        ..world.login("alice")
    };
    let nobody = VerifiedLogin {
        name: String::new(),
        ..world.login("alice")
    };

    assert!(matches!(world.start(laptop, many), Err(Refusal::Limit { .. })));
    assert_eq!(world.start(laptop, nobody).unwrap_err(), Refusal::Nameless);
    for length in [Duration::ZERO, Duration::from_hours(24 * 31)] {
        let login = world.login("alice");
        let command = PeopleCommand::StartSession {
            node: laptop,
            login,
            length,
        };
        assert_eq!(
            world.system(Command::People(command)).unwrap_err(),
            Refusal::SessionLength
        );
    }
}

#[test]
fn logging_in_again_and_again_fills_no_log() {
    let (mut world, laptop) = World::with_alice();
    let renewed = (0..OWN_ENTRIES_BURST + 10).filter(|_| world.start(laptop, world.login("alice")).is_ok());

    assert_eq!(renewed.count(), OWN_ENTRIES_BURST as usize - 1);
    assert!(matches!(
        world.start(laptop, world.login("bob")),
        Err(Refusal::TooOften(_))
    ));
}

#[test]
fn sessions_come_back_from_the_log_and_from_a_snapshot() {
    let (mut world, laptop) = World::with_alice();
    world.start(laptop, world.login("alice")).unwrap();
    world.start(laptop, world.login("bob")).unwrap();

    let written: Vec<String> = world
        .log
        .iter()
        .map(|change| serde_json::to_string(change).unwrap())
        .collect();
    let read: Vec<Change> = written
        .iter()
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    let replayed = Controller::load(None, &read).unwrap();
    let snapshot = Snapshot::from_bytes(&world.controller.snapshot().to_bytes()).unwrap();
    let loaded = Controller::load(Some(snapshot), []).unwrap();

    assert_eq!(read, world.log);
    assert_eq!(replayed.state(), world.controller.state());
    assert_eq!(loaded.state(), world.controller.state());
    assert!(written.last().unwrap().contains(r#""event":"session-started""#));
}

#[test]
fn people_are_listed_and_found_by_id_address_and_name() {
    let (mut world, laptop) = World::with_alice();
    let desk = world.enroll("desk", "");
    let twin = VerifiedLogin {
        name: "alice@example.com".into(),
        ..world.login("other-alice")
    };
    world.start(desk, twin).unwrap();

    let find = |text: &str| world.controller.find_user(text);
    assert_eq!(find("corp/alice"), Ok(user("alice")));
    assert_eq!(find("Other-Alice@example.com"), Ok(user("other-alice")));
    assert!(matches!(
        find("alice@example.com"),
        Err(FindUserError::Several(_))
    ));
    assert!(matches!(find("bob"), Err(FindUserError::Nobody(_))));
    let views = world.controller.session_views();
    let at: Vec<_> = views.iter().map(|view| view.node.as_str()).collect();
    assert_eq!(at, ["desk", "laptop"]);
    world.admin(deactivate("alice")).unwrap();
    let users = world.controller.user_views();
    let known: Vec<_> = users
        .iter()
        .map(|user| (user.id.as_str(), user.active, user.nodes.len()))
        .collect();
    assert_eq!(known, [("corp/alice", false, 0), ("corp/other-alice", true, 1)]);
    assert!(world.session(laptop).is_none());
}

/// A login of `subject` at the provider `corp`, without a second factor.
pub(super) fn login(subject: &str, at: UnixMillis) -> VerifiedLogin {
    VerifiedLogin {
        user: user(subject),
        directory_id: None,
        name: format!("{subject}@example.com"),
        email: Some(format!("{subject}@example.com")),
        groups: BTreeSet::from(["staff".to_owned()]),
        provider_session: Some(format!("sid of {subject}")),
        acr: None,
        amr: BTreeSet::from(["pwd".to_owned()]),
        authenticated_at: at,
        mfa_at: None,
    }
}
