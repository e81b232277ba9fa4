//! What rules for users and with conditions open, as people are told about it.

use ringfence_model::{Name, UnixMillis};
use ringfence_policy::{
    Explanation, Facts, Member, Policy, PostureFile, UserFacts, Verdict, check_expectations, compile, explain,
};

use crate::small::{NOW, members, parse};

const DESIGN: &str = include_str!("cases/design.toml");
const HOUR: u64 = 3_600_000;

/// A database, and a laptop at which a database administrator is logged in until four hours from now.
fn mesh(proved_ago: Option<u64>, checks: &[&str]) -> Vec<Member> {
    let mut mesh = members(&[("db-1", "role=db,env=prod"), ("laptop-1", "kind=laptop")]);
    let user = UserFacts {
        name: "alice@example.com".to_owned(),
        email: Some("alice@example.com".to_owned()),
        groups: ["dba".to_owned()].into(),
        mfa_at: proved_ago.map(|ago| UnixMillis(NOW.0 - ago)),
        until: UnixMillis(NOW.0 + 4 * HOUR),
    };
    mesh[1].facts = Facts {
        user: Some(user),
        posture: checks.iter().map(|check| Name::parse(check).unwrap()).collect(),
        source: Some("10.2.0.9".parse().unwrap()),
        isolation: None,
        is_lapsed: false,
    };
    mesh
}

fn ask_at(policy: &Policy, members: &[Member], wall: UnixMillis) -> Explanation {
    let compiled = compile(policy, members, wall);
    let service = "tcp/5432".parse().unwrap();
    explain(policy, &compiled, (&members[1], &members[0]), &service, wall)
}

fn ask(policy: &Policy, members: &[Member]) -> Explanation {
    ask_at(policy, members, NOW)
}

/// What the nearest rule lacks.
fn lacking(answer: &Explanation) -> &str {
    assert_eq!(answer.verdict, Verdict::Deny, "{answer:#?}");
    let (_, lacking) = answer.missing[0].split_once("; ").unwrap();
    lacking
}

#[test]
fn who_meets_all_of_it_is_let_in_until_the_first_of_it_ends() {
    let answer = ask(&parse(DESIGN), &mesh(Some(HOUR / 2), &["disk-encrypted"]));

    assert_eq!((answer.verdict, answer.line), (Verdict::Allow, Some(20)));
    assert_eq!(answer.until, Some(UnixMillis(NOW.0 + HOUR / 2)));
    assert!(
        answer
            .reason
            .ends_with(", until 2026-11-24T12:30:00Z, when the second factor is older than 1h"),
        "{answer:#?}"
    );
}

#[test]
fn an_end_says_what_ends() {
    let mesh = mesh(Some(0), &["disk-encrypted"]);
    let policy = |from: &str, to: &str| ask(&parse(&DESIGN.replace(from, to)), &mesh);

    let session = policy("mfa = \"1h\"", "mfa = \"8h\"");
    let hours = policy("08:00-19:00", "08:00-13:15");
    let expiry = policy("2027-01-01T00:00:00Z", "2026-11-24T12:00:30.5Z");

    assert!(
        session
            .reason
            .ends_with("when the session of alice@example.com ends"),
        "{session:#?}"
    );
    assert!(
        hours
            .reason
            .ends_with("until 2026-11-24T12:15:00Z, when the hours Mon-Fri 08:00-13:15 Europe/Berlin end"),
        "{hours:#?}"
    );
    assert!(
        expiry
            .reason
            .ends_with("until 2026-11-24T12:00:30.5Z, when the rule expires"),
        "{expiry:#?}"
    );
}

#[test]
fn another_rule_that_opens_it_for_longer_is_named_with_its_end() {
    let longer = "\n[[allow]]\nfrom=\"dba\"\nto=\"db\"\nports=[\"tcp/5000-6000\"]\n";
    let answer = ask(
        &parse(&(DESIGN.to_owned() + longer)),
        &mesh(Some(0), &["disk-encrypted"]),
    );

    assert_eq!(answer.rule.unwrap().0, 2);
    assert_eq!(answer.until, Some(UnixMillis(NOW.0 + 4 * HOUR)));
    assert!(
        answer.reason.ends_with(
            "until 2026-11-24T16:00:00Z by rule #3 (line 33), when the session of alice@example.com ends"
        ),
        "{answer:#?}"
    );
}

#[test]
fn who_is_refused_is_told_the_fact_that_is_missing_and_what_would_open_it() {
    let policy = parse(DESIGN);
    let lacks = |mesh: Vec<Member>| lacking(&ask(&policy, &mesh)).to_owned();
    let nobody = {
        let mut mesh = mesh(None, &["disk-encrypted"]);
        mesh[1].facts.user = None;
        mesh
    };
    let another = {
        let mut mesh = mesh(Some(0), &["disk-encrypted"]);
        mesh[1].facts.user.as_mut().unwrap().groups = ["dev".to_owned()].into();
        mesh
    };

    assert_eq!(
        lacks(mesh(Some(2 * HOUR), &["disk-encrypted"])),
        "log in again with a second factor: the last was 2h ago, the rule takes 1h"
    );
    assert_eq!(
        lacks(mesh(None, &["disk-encrypted"])),
        "log in again with a second factor: this session has none"
    );
    assert_eq!(
        lacks(mesh(Some(0), &[])),
        "posture check disk-encrypted does not pass on laptop-1"
    );
    assert_eq!(lacks(nobody), "nobody is logged in at laptop-1: log in there");
    assert_eq!(
        lacks(another),
        "alice@example.com is not in the group dba of the identity provider"
    );
}

#[test]
fn who_comes_at_another_hour_or_from_elsewhere_is_told_when_and_from_where() {
    let (mesh, late) = (mesh(Some(0), &["disk-encrypted"]), UnixMillis(NOW.0 + 10 * HOUR));
    let source = DESIGN.replace("mfa = \"1h\"", "source = [\"10.1.0.0/16\", \"192.0.2.7\"]");
    let mut evening = mesh.clone();
    let user = evening[1].facts.user.as_mut().unwrap();
    (user.until, user.mfa_at) = (UnixMillis(late.0 + HOUR), Some(late));

    assert_eq!(
        lacking(&ask_at(&parse(DESIGN), &evening, late)),
        "outside the hours Mon-Fri 08:00-19:00 Europe/Berlin, next at Wed 2026-11-25 08:00 Europe/Berlin"
    );
    assert_eq!(
        lacking(&ask(&parse(&source), &mesh)),
        "laptop-1 comes from 10.2.0.9: it must be 10.1.0.0/16 or 192.0.2.7/32"
    );
}

#[test]
fn a_rule_of_nodes_may_ask_for_what_a_server_has() {
    let text = DESIGN.replace(
        "dba   = { users = \"group=dba\" }",
        "dba   = { nodes = \"kind=laptop\" }",
    );
    let (healthy, nobody) = (text.replace("mfa = \"1h\", ", ""), text.clone());
    let mut mesh = mesh(None, &["disk-encrypted"]);
    mesh[1].facts.user = None;

    assert_eq!(ask(&parse(&healthy), &mesh).verdict, Verdict::Allow);
    assert_eq!(
        lacking(&ask(&parse(&nobody), &mesh)),
        "nobody is logged in at laptop-1: log in there with a second factor"
    );
}

#[test]
fn a_condition_that_is_not_met_now_is_nothing_to_warn_of() {
    let checked = Policy::parse("p.toml", DESIGN).unwrap();
    let odd = compile(&checked.policy, &mesh(None, &[]), NOW).warnings;

    assert_eq!(checked.warnings, []);
    assert!(
        odd.iter()
            .all(|warning| !warning.message.contains("dba") && !warning.message.contains("rule")),
        "{odd:?}"
    );
}

#[test]
fn a_rule_that_asks_for_a_check_that_is_not_there_is_told_where_and_what_was_likely_meant() {
    let policy = parse(&DESIGN.replace("disk-encrypted", "disk-encryptd"));
    let known = |names: &[&str]| {
        let checks = names
            .iter()
            .map(|name| format!("[[check]]\nname = \"{name}\"\ndisk.encrypted = true\n"));
        PostureFile::parse("posture.toml", &checks.collect::<String>()).unwrap()
    };
    let told = |names: &[&str]| -> Vec<String> {
        let warnings = policy.unknown_checks(&known(names).checks);
        warnings.iter().map(ToString::to_string).collect()
    };
    let line = DESIGN
        .lines()
        .position(|line| line.contains("posture = "))
        .unwrap();
    let column = DESIGN
        .lines()
        .nth(line)
        .unwrap()
        .find("\"disk-encrypted")
        .unwrap()
        + 1;
    let place = format!(
        "test.toml:{}:{column}: rule #2 of perimeter payments-db",
        line + 1
    );

    let misspelt = told(&["firewall", "disk-encrypted"]);
    assert_eq!(misspelt.len(), 1);
    assert!(
        misspelt[0].starts_with(&format!("{place} requires the posture check disk-encryptd,")),
        "{misspelt:?}"
    );
    assert!(
        misspelt[0].ends_with("did you mean disk-encrypted?"),
        "{misspelt:?}"
    );
    assert!(told(&["firewall"])[0].ends_with("lists the checks there are"));
    assert!(told(&[])[0].contains("there are no checks yet"));
    assert_eq!(told(&["disk-encryptd"]), [""; 0]);
}

/// Whether these two lines at the end of the file hold.
fn failures(members: &[Member], expectation: &str) -> Vec<String> {
    let policy = parse(&format!("{DESIGN}\n[[expect]]\n{expectation}\n"));
    let compiled = compile(&policy, members, NOW);
    let failed = check_expectations(&policy, &compiled, members);
    failed.iter().map(ToString::to_string).collect()
}

#[test]
fn an_expectation_is_about_policy_whoever_is_logged_in() {
    let (open, closed) = (
        "from=\"dba\"\nto=\"db\"\nport=\"tcp/22\"\nverdict=\"allow\"",
        "from=\"dba\"\nto=\"db\"\nport=\"tcp/22\"\nverdict=\"deny\"",
    );
    let servers = members(&[("db-1", "role=db,env=prod")]);

    for mesh in [
        servers.as_slice(),
        &mesh(None, &[]),
        &mesh(Some(0), &["disk-encrypted"]),
        &[],
    ] {
        assert_eq!(failures(mesh, open), [""; 0]);
        assert_eq!(failures(mesh, closed).len(), 1);
    }
    let failed = failures(&servers, closed);
    assert!(
        failed[0].contains("tcp/22 is open from a person with group=dba to db-1"),
        "{failed:?}"
    );
    let other = failures(
        &servers,
        "from=\"dba\"\nto=\"db\"\nport=\"tcp/23\"\nverdict=\"allow\"",
    );
    assert!(
        other[0].contains("tcp/23 is closed from a person with group=dba to db-1"),
        "{other:?}"
    );
}
