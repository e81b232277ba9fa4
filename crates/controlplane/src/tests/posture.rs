//! Which checks nodes pass: by what they report, by what is given, and by the clock.

use std::net::SocketAddr;
use std::time::Duration;

use ringfence_control::{PostureReport, ReportedFact, ReportedValue};
use ringfence_model::{NodeId, UnixMillis};
use ringfence_policy::FactValue;

use super::world::*;
use crate::limit::OWN_ENTRIES_BURST;
use crate::{Actor, ApplyOptions, Command, Connection, Controller, Event, PostureCommand, Refusal, Snapshot};

const HEALTHY: &str = "[[check]]\nname = \"healthy\"\nmax_age = \"1m\"\nfirewall.active = true\n";

fn posture(text: &str) -> Command {
    Command::Posture(PostureCommand::Apply {
        file: file(text),
        may_close: false,
    })
}

fn firewall(is_active: bool) -> PostureReport {
    PostureReport {
        facts: vec![ReportedFact {
            name: "firewall.active".into(),
            value: ReportedValue::Bool(is_active),
            age_ms: 0,
            signer: None,
        }],
    }
}

fn given(node: NodeId, value: bool, ttl: Duration) -> Command {
    Command::Posture(PostureCommand::Give {
        node,
        fact: name("edr"),
        value: FactValue::Bool(value),
        ttl,
    })
}

fn kinds(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(Event::kind).collect()
}

impl World {
    fn connect(&mut self, node: NodeId) {
        let connection = Connection {
            id: 1,
            remote: SocketAddr::from(([192, 0, 2, 1], 1)),
            since: self.wall,
        };
        self.controller.connected(node, connection, "0.1.0");
    }

    /// Takes a report as the shell does: an entry if the verdict is another.
    fn report(&mut self, node: NodeId, report: &PostureReport) -> Option<Vec<Event>> {
        let news = self.controller.posture_reported(node, 1, report, self.wall);
        if !news {
            return None;
        }
        let change = self
            .system(Command::Posture(PostureCommand::Judge { node }))
            .ok()?;
        Some(change.events)
    }

    fn passes(&self, node: NodeId) -> Vec<String> {
        let member = self.controller.state().member(node).unwrap();
        member.facts.posture.iter().map(ToString::to_string).collect()
    }

    /// A node that passes [`HEALTHY`] as of now.
    fn with_healthy_app() -> (Self, NodeId, NodeId) {
        let (mut world, db, app) = Self::with_database();
        world.controller.begin_posture(world.wall);
        world.admin(posture(HEALTHY)).unwrap();
        world.connect(app);
        world.report(app, &firewall(true)).unwrap();
        (world, db, app)
    }
}

#[test]
fn a_verdict_is_recorded_when_it_changes_and_only_then() {
    let (mut world, _, app) = World::with_healthy_app();
    let entries = world.log.len();

    for _ in 0..5 {
        world.pass(Duration::from_secs(20));
        assert_eq!(world.report(app, &firewall(true)), None);
    }
    assert_eq!(
        (world.log.len(), world.passes(app)),
        (entries, vec!["healthy".to_owned()])
    );

    let lost = world.report(app, &firewall(false)).unwrap();
    assert_eq!(kinds(&lost), ["posture-judged"]);
    assert!(world.passes(app).is_empty());
    let told: Vec<_> = world.pushes.iter().map(|push| push.node).collect();
    assert!(told.contains(&app));
}

#[test]
fn what_a_node_passed_ends_at_the_second_when_it_falls_silent() {
    let (mut world, _, app) = World::with_healthy_app();
    let end = world.wall.saturating_add(Duration::from_mins(1));
    assert_eq!(world.controller.poll_timeout(), Some(end));

    world.wall = UnixMillis(end.0 - 1);
    assert_eq!(world.system(Command::Tick).unwrap_err(), Refusal::Unchanged);
    world.wall = end;
    world.system(Command::Tick).unwrap();

    assert!(world.passes(app).is_empty());
    assert_eq!(world.controller.poll_timeout(), None);
    assert_eq!(world.system(Command::Tick).unwrap_err(), Refusal::Unchanged);
}

#[test]
fn each_report_moves_the_end_without_an_entry() {
    let (mut world, _, app) = World::with_healthy_app();

    world.pass(Duration::from_secs(40));
    world.report(app, &firewall(true));

    let end = world.wall.saturating_add(Duration::from_mins(1));
    assert_eq!(world.controller.poll_timeout(), Some(end));
}

#[test]
fn a_restart_cuts_nobody_off_and_gives_nobody_more_than_the_age_that_is_allowed() {
    let (world, _, app) = World::with_healthy_app();
    let snapshot = Snapshot::from_bytes(&world.controller.snapshot().to_bytes()).unwrap();
    let mut again = World::new();
    again.wall = world.wall.saturating_add(Duration::from_hours(5));
    again.controller = Controller::load(Some(snapshot), []).unwrap();

    again.controller.begin_posture(again.wall);

    assert_eq!(again.passes(app), ["healthy"]);
    let end = again.wall.saturating_add(Duration::from_mins(1));
    assert_eq!(again.controller.poll_timeout(), Some(end));
    again.wall = end;
    again.system(Command::Tick).unwrap();
    assert!(again.passes(app).is_empty());
}

#[test]
fn the_log_alone_says_who_passes() {
    let (world, _, app) = World::with_healthy_app();

    let replayed = Controller::load(None, &world.log).unwrap();

    assert_eq!(replayed.snapshot(), world.controller.snapshot());
    let member = replayed.state().member(app).unwrap();
    assert!(member.facts.posture.contains("healthy"));
}

#[test]
fn another_wording_of_a_check_is_judged_anew() {
    let (mut world, _, app) = World::with_healthy_app();

    let stricter = HEALTHY.to_owned() + "disk.encrypted = true\n";
    let change = world.admin(posture(&stricter)).unwrap();
    assert_eq!(kinds(&change.events), ["posture-applied", "posture-judged"]);
    assert!(world.passes(app).is_empty());

    let order = world.controller.posture_order();
    assert_eq!(order.facts, ["disk.encrypted", "firewall.active"]);
    world.admin(posture(HEALTHY)).unwrap();
    assert_eq!(world.passes(app), ["healthy"]);
}

#[test]
fn a_silent_node_keeps_nothing_under_another_wording() {
    let (world, _, app) = World::with_healthy_app();
    let mut again = World::new();
    again.controller = Controller::load(Some(world.controller.snapshot()), []).unwrap();
    again.controller.begin_posture(again.wall);

    let stricter = HEALTHY.to_owned() + "disk.encrypted = true\n";
    again.admin(posture(&stricter)).unwrap();

    assert!(again.passes(app).is_empty());
}

#[test]
fn what_is_only_reported_counts_for_every_node_and_for_no_device() {
    let (mut world, db, app) = World::with_database();

    world
        .admin(posture(&HEALTHY.replace("max_age", "mode = \"report\"\nmax_age")))
        .unwrap();

    assert_eq!(
        (world.passes(db), world.passes(app)),
        (vec!["healthy".to_owned()], vec!["healthy".to_owned()])
    );
    let shown = world.controller.node_posture(app, world.wall).unwrap();
    assert!(shown.checks[0].passes && !shown.checks[0].holds);
    assert_eq!(
        shown.checks[0].findings[0].says,
        "firewall.active is not known: nothing has reported it"
    );
}

#[test]
fn a_given_fact_counts_for_its_time_to_live() {
    let (mut world, _, app) = World::with_database();
    world
        .admin(posture("[[check]]\nname = \"edr\"\ncustom.edr = true\n"))
        .unwrap();

    let hour = Duration::from_hours(1);
    world.admin(given(app, true, hour)).unwrap();
    assert_eq!(world.passes(app), ["edr"]);
    assert_eq!(
        world.controller.poll_timeout(),
        Some(world.wall.saturating_add(hour))
    );

    world.pass(hour);
    world.system(Command::Tick).unwrap();
    assert!(world.passes(app).is_empty());
    world.admin(given(app, false, hour)).unwrap();
    assert!(world.passes(app).is_empty());
    let refused = world.admin(given(app, true, Duration::ZERO)).unwrap_err();
    assert_eq!(refused, Refusal::FactTtl);
}

#[test]
fn a_node_cannot_say_what_is_others_to_say() {
    let (mut world, _, app) = World::with_database();
    world
        .admin(posture("[[check]]\nname = \"edr\"\ncustom.edr = true\n"))
        .unwrap();
    world.connect(app);
    let mut report = firewall(true);
    report.facts[0].name = "custom.edr".into();

    assert_eq!(world.report(app, &report), None);
    assert!(world.passes(app).is_empty());
}

#[test]
fn a_node_that_turns_well_and_ill_in_turn_loses_at_once_and_gains_at_its_pace() {
    let (mut world, _, app) = World::with_healthy_app();
    let entries = world.log.len();

    for _ in 0..1_000 {
        world.report(app, &firewall(false));
        assert!(world.passes(app).is_empty());
        world.report(app, &firewall(true));
    }
    assert!(world.passes(app).is_empty());
    assert!(world.log.len() - entries <= 2 * OWN_ENTRIES_BURST as usize);

    world.pass(Duration::from_mins(1));
    world.report(app, &firewall(true)).unwrap();
    assert_eq!(world.passes(app), ["healthy"]);
}

#[test]
fn a_node_that_is_removed_leaves_nothing_behind() {
    let (mut world, _, app) = World::with_healthy_app();
    world.admin(given(app, true, Duration::from_hours(1))).unwrap();

    world.admin(Command::RemoveNode { node: app }).unwrap();

    assert!(
        world
            .controller
            .tables()
            .iter()
            .all(ringfence_model::TableSize::is_bounded)
    );
    assert_eq!(world.controller.poll_timeout(), None);
    assert!(world.controller.node_posture(app, world.wall).is_none());
}

#[test]
fn a_file_with_mistakes_changes_nothing() {
    let (mut world, _, app) = World::with_healthy_app();

    let refused = world.admin(posture("[[check]]\nname = \"x\"\n")).unwrap_err();

    assert!(matches!(refused, Refusal::Policy(errors) if errors.len() == 1));
    assert_eq!(world.passes(app), ["healthy"]);
    assert_eq!(world.admin(posture(HEALTHY)).unwrap_err(), Refusal::Unchanged);
}

/// [`database`], for those who pass a check.
fn database_for(check: &str) -> String {
    database("ledger") + &format!("require = {{ posture = [\"{check}\"] }}\n")
}

#[test]
fn a_rule_that_asks_for_a_check_that_is_not_there_is_warned_of_wherever_it_shows() {
    let (mut world, ..) = World::with_healthy_app();
    let admin = Actor::admin("ada", "r");
    let files = vec![file(&database_for("healty"))];

    let plan = world
        .controller
        .plan_apply(&admin, files, ApplyOptions::default(), world.wall)
        .unwrap();
    world.controller.apply(&plan.change.unwrap()).unwrap();

    let warnings = &plan.report.warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!((warnings[0].file.as_str(), warnings[0].line), ("policy.toml", 12));
    assert!(warnings[0].message.contains("requires the posture check healty"));
    assert_eq!(warnings[0].help.as_deref(), Some("did you mean healthy?"));
    let detail = world.controller.perimeter_detail(&name("ledger")).unwrap();
    assert_eq!(&detail.warnings, warnings);
    assert_eq!(
        detail.rules[0].inactive.as_deref(),
        Some("there is no posture check healty")
    );
    assert_eq!(&world.controller.unknown_checks(), warnings);

    world.admin(apply(&database_for("healthy"))).unwrap();
    assert!(world.controller.unknown_checks().is_empty());
}

#[test]
fn a_file_without_a_check_that_a_rule_asks_for_is_refused_unless_it_may_close_the_rule() {
    let (mut world, ..) = World::with_healthy_app();
    world.admin(apply(&database_for("healthy"))).unwrap();
    let other = "[[check]]\nname = \"kernel\"\nkernel.version = { min = \"4\" }\n";
    let before = world.controller.revision();

    let refused = world.admin(posture(other)).unwrap_err();
    let Refusal::ChecksInUse(uses) = &refused else {
        panic!("{refused}");
    };
    assert_eq!(uses.len(), 1);
    assert!(
        uses[0]
            .message
            .starts_with("rule #1 of perimeter ledger requires the posture check healthy:")
    );
    assert_eq!(world.controller.revision(), before);

    // What no rule asks for may go, and what no file had is no news.
    world.admin(posture(&(HEALTHY.to_owned() + other))).unwrap();
    world.admin(posture(HEALTHY)).unwrap();
    let may_close = Command::Posture(PostureCommand::Apply {
        file: file(other),
        may_close: true,
    });
    world.admin(may_close).unwrap();
    assert_eq!(world.controller.unknown_checks().len(), 1);
    let compiled = world.controller.compiled(&name("ledger")).unwrap();
    assert!(compiled.rules.iter().all(|rule| !compiled.opens(rule)));
    world.admin(posture(&(other.to_owned() + "\n"))).unwrap();
}
