//! Any history of requests for access, against what the words say, followed by hand.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use ringfence_model::{AccessId, NodeId, UnixMillis};

use super::world::*;
use crate::{AccessCommand, Actor, Change, Command, Controller, PeopleCommand, Snapshot, Urgency};

/// One step of a history of requests. Numbers stand for whichever there is.
#[derive(Clone, Debug)]
enum Step {
    Ask { port: u16, minutes: u64, urgent: bool },
    Approve { which: usize, who: usize },
    Deny { which: usize },
    End { which: usize },
    LogOut,
    LogIn { who: usize },
    Pass { minutes: u64, ticks: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0usize..4;
    prop_oneof![
        4 => (22u16..25, 1u64..90, prop::bool::weighted(0.3))
            .prop_map(|(port, minutes, urgent)| Step::Ask { port, minutes, urgent }),
        6 => (which.clone(), 0usize..3).prop_map(|(which, who)| Step::Approve { which, who }),
        1 => which.clone().prop_map(|which| Step::Deny { which }),
        1 => which.prop_map(|which| Step::End { which }),
        1 => Just(Step::LogOut),
        2 => (0usize..2).prop_map(|who| Step::LogIn { who }),
        5 => (1u64..60, any::<bool>()).prop_map(|(minutes, ticks)| Step::Pass { minutes, ticks }),
    ]
}

/// What the words of the issue say about a request, followed by hand.
#[derive(Debug)]
struct Followed {
    id: AccessId,
    port: u16,
    length: Duration,
    asked_for: usize,
    needed: usize,
    approved_by: BTreeSet<usize>,
    until: Option<UnixMillis>,
    is_over: bool,
}

const PEOPLE: [&str; 2] = ["alice", "bob"];
/// The first two answer for themselves where they asked.
const APPROVERS: [&str; 3] = ["alice@example.com", "bob@example.com", "ada"];

/// Who is logged in at the laptop, and until when.
type Here = Option<(usize, UnixMillis)>;

/// Takes a step in both.
fn take(world: &mut World, laptop: NodeId, here: &mut Here, all: &mut Vec<Followed>, step: &Step) {
    if here.is_some_and(|(_, ends)| ends <= world.wall) {
        *here = None;
    }
    match *step {
        Step::Ask {
            port,
            minutes,
            urgent,
        } => {
            let asked = ask(world, laptop, (port, Duration::from_mins(minutes)), urgent);
            if let (Some(asked), Some((asked_for, _))) = (asked, *here) {
                all.push(Followed { asked_for, ..asked });
            }
        }
        Step::Approve { which, who } => {
            if let Some(request) = pick(all, which) {
                approve(world, request, who);
            }
        }
        Step::Deny { which } => {
            let Some(request) = pick(all, which) else { return };
            let may = !request.is_over && request.until.is_none();
            let deny = AccessCommand::Deny {
                access: request.id,
                reason: None,
            };
            assert_eq!(world.answer("ada", deny).is_ok(), may);
            request.is_over |= may;
        }
        Step::End { which } => {
            let Some(request) = pick(all, which) else { return };
            let _ = world.answer("ada", AccessCommand::End { access: request.id });
            request.is_over = true;
        }
        Step::LogOut => {
            let log_out = Command::People(PeopleCommand::LogOut { node: laptop });
            let _ = world.ask(&Actor::node(laptop, "r"), log_out);
            end_all(all);
            *here = None;
        }
        Step::LogIn { who } => log_in(world, laptop, here, all, who),
        Step::Pass { minutes, ticks } => {
            world.pass(Duration::from_mins(minutes));
            if ticks {
                let _ = world.system(Command::Tick);
            }
        }
    }
}

fn ask(world: &mut World, laptop: NodeId, (port, length): (u16, Duration), urgent: bool) -> Option<Followed> {
    let urgency = if urgent {
        Urgency::BreakGlass
    } else {
        Urgency::Ordinary
    };
    let id = world.ask_for(laptop, port, length, urgency).ok()?;
    Some(Followed {
        id,
        port,
        length,
        asked_for: 0,
        needed: if urgent { 2 } else { 1 },
        approved_by: BTreeSet::new(),
        until: None,
        is_over: false,
    })
}

fn approve(world: &mut World, request: &mut Followed, who: usize) {
    let may = !request.is_over && request.until.is_none() && request.asked_for != who;
    let is_new = !request.approved_by.contains(&who);
    let approved = world.approve(APPROVERS[who], request.id);
    assert_eq!(approved.is_ok(), may && is_new, "{request:?}: {approved:?}");
    if approved.is_ok() {
        request.approved_by.insert(who);
        let is_enough = request.approved_by.len() == request.needed;
        request.until = is_enough.then(|| world.wall.saturating_add(request.length));
    }
}

/// Whoever else logs in ends what was for the one before.
fn log_in(world: &mut World, laptop: NodeId, here: &mut Here, all: &mut [Followed], who: usize) {
    if world.log_in(laptop, PEOPLE[who]).is_err() {
        return;
    }
    if here.is_none_or(|(before, _)| before != who) {
        end_all(all);
    }
    *here = Some((who, world.wall.saturating_add(Duration::from_hours(9))));
}

fn end_all(all: &mut [Followed]) {
    for request in all {
        request.is_over = true;
    }
}

fn pick(all: &mut [Followed], which: usize) -> Option<&mut Followed> {
    let count = all.len();
    // The latest: they are the ones that wait.
    let index = count.checked_sub(1 + which)?;
    all.get_mut(index)
}

/// Of ports 22 to 24 from the laptop to the database what is granted now is open, and nothing else is; nor anything else
/// from or to the laptop.
fn assert_exact(
    world: &World,
    (laptop, db, app): (NodeId, NodeId, NodeId),
    here: Option<(usize, UnixMillis)>,
    all: &[Followed],
) {
    let is_here = here.is_some_and(|(_, ends)| world.wall < ends);
    for port in [22, 23, 24, 5432] {
        let mut granted = all
            .iter()
            .filter(|request| request.port == port && !request.is_over);
        let granted = granted.any(|request| request.until.is_some_and(|until| world.wall < until));
        assert_eq!(
            world.is_open(laptop, db, port),
            granted && is_here,
            "{port}: {all:#?}"
        );
        assert!(!world.is_open(db, laptop, port) && !world.is_open(laptop, app, port));
        assert_eq!(world.is_open(app, db, port), port == 5432);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_grant_opens_exactly_what_it_says_until_it_says_and_nothing_after(steps in proptest::collection::vec(step(), 1..40)) {
        let (mut world, db, laptop) = World::with_laptop();
        let app = world.controller.nodes().find(|node| node.name == name("app")).unwrap().id;
        let (mut here, mut all) = (Some((0, world.wall.saturating_add(Duration::from_hours(9)))), Vec::new());
        for step in &steps {
            take(&mut world, laptop, &mut here, &mut all, step);
            assert_exact(&world, (laptop, db, app), here, &all);
        }

        let replayed = Controller::load(None, &world.log).unwrap();
        prop_assert_eq!(replayed.state(), world.controller.state());
        prop_assert_eq!(replayed.views(), world.controller.views());
        let written: Vec<String> = world.log.iter().map(|change| serde_json::to_string(change).unwrap()).collect();
        let read: Vec<Change> = written.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        prop_assert_eq!(&read, &world.log);
        let snapshot = Snapshot::from_bytes(&world.controller.snapshot().to_bytes()).unwrap();
        let loaded = Controller::load(Some(snapshot), []).unwrap();
        prop_assert_eq!(loaded.state(), world.controller.state());
    }
}
