//! What `[[expect]]`, `explain` and `--dry-run` answer, on the policy of the design and small ones beside it.

use ringfence_model::{NodeId, UnixMillis};
use ringfence_packet::Protocol;
use ringfence_policy::{
    Change, Compiled, Explanation, Member, Policy, Verdict, check_expectations, compile, diff, explain,
};

use crate::small::{NOW, members, parse};

const DESIGN: &str = include_str!("cases/design.toml");

fn mesh() -> Vec<Member> {
    members(&[
        ("db-1", "role=db,env=prod"),
        ("api-1", "role=api,env=prod"),
        ("api-2", "role=api,env=test"),
        ("web-1", "role=web,env=prod"),
    ])
}

fn ask(policy: &Policy, members: &[Member], from: &str, to: &str, service: &str) -> Explanation {
    let compiled = compile(policy, members, NOW);
    let named = |name: &str| {
        members
            .iter()
            .find(|member| member.name.as_str() == name)
            .unwrap()
    };
    explain(
        policy,
        &compiled,
        (named(from), named(to)),
        &service.parse().unwrap(),
        NOW,
    )
}

fn failures(policy: &Policy, members: &[Member]) -> Vec<String> {
    let compiled = compile(policy, members, NOW);
    let failed = check_expectations(policy, &compiled, members);
    failed.iter().map(ToString::to_string).collect()
}

#[test]
fn an_allowed_flow_names_its_rule_and_line() {
    let answer = ask(&parse(DESIGN), &mesh(), "api-1", "db-1", "tcp/5432");

    assert_eq!((answer.verdict, answer.line), (Verdict::Allow, Some(14)));
    assert_eq!(
        answer.reason,
        "rule #1 (line 14) lets group api (env=prod, role=api) reach group db (env=prod, role=db) on tcp/5432 \
         (Ledger queries)"
    );
    assert!(answer.missing.is_empty());
}

#[test]
fn a_denied_member_is_told_the_label_it_lacks() {
    let text = DESIGN.replace("[members]", "[members]\nweb = { nodes = \"role=web\" }\n#");
    let answer = ask(&parse(&text), &mesh(), "web-1", "db-1", "tcp/5432");

    assert_eq!((answer.verdict, answer.rule), (Verdict::Deny, None));
    assert_eq!(
        answer.reason,
        "web-1 is in no group that may reach db-1 on tcp/5432"
    );
    assert!(
        answer
            .missing
            .iter()
            .any(|line| line.starts_with("rule #1 (line 16) lets group api")
                && line.ends_with("web-1 lacks role=api: it has role=web")),
        "{answer:#?}"
    );
}

#[test]
fn one_who_is_no_member_is_told_so() {
    let answer = ask(&parse(DESIGN), &mesh(), "api-2", "db-1", "tcp/5432");

    assert_eq!(
        answer.reason,
        "api-2 is in no group of payments-db: it has no key there"
    );
    assert!(
        answer.missing[0].ends_with("api-2 lacks env=prod: it has env=test"),
        "{answer:#?}"
    );
}

#[test]
fn the_other_direction_and_other_ports_are_told_apart() {
    let policy = parse(DESIGN);

    let back = ask(&policy, &mesh(), "db-1", "api-1", "tcp/5432");
    let other = ask(&policy, &mesh(), "api-1", "db-1", "tcp/80");

    let line = "rule #1 (line 14) is for conversations that api-1 opens to db-1, not the other way round";
    assert!(
        back.verdict == Verdict::Deny && back.missing.iter().any(|told| told == line),
        "{back:#?}"
    );
    assert_eq!(other.missing[0], "no rule of payments-db opens tcp/80");
    assert!(other.missing[1].ends_with("on tcp/5432 only"), "{other:#?}");
}

#[test]
fn a_range_that_is_open_in_part_is_not_allowed() {
    let answer = ask(&parse(DESIGN), &mesh(), "api-1", "db-1", "tcp/5000-6000");

    assert_eq!(answer.verdict, Verdict::Deny);
    assert!(
        answer
            .reason
            .starts_with("only tcp/5432 of tcp/5000-6000 is open"),
        "{answer:#?}"
    );
}

#[test]
fn an_expired_rule_closes_on_the_millisecond_and_is_named() {
    let text = DESIGN.replace("reason = ", "expires = 2026-11-24T12:00:00Z\nreason = ");
    let policy = parse(&text);

    let before = compile(&policy, &mesh(), UnixMillis(NOW.0 - 1));
    let after = compile(&policy, &mesh(), NOW);

    let verdict = |compiled: &Compiled| compiled.verdict(NodeId(2), NodeId(1), Protocol::TCP, 5432);
    assert!(verdict(&before).is_some() && verdict(&after).is_none());
    assert_eq!(
        (before.next_change, after.next_change),
        (Some(NOW), policy.rules[1].expires)
    );
    assert!(
        after
            .warnings
            .iter()
            .any(|warning| warning.message == "rule #1 has expired: it opens nothing")
    );
    let answer = ask(&policy, &mesh(), "api-1", "db-1", "tcp/5432");
    assert!(
        answer.missing[0].ends_with("the rule expired at 2026-11-24T12:00:00Z"),
        "{answer:#?}"
    );
}

#[test]
fn times_are_read_as_people_write_them() {
    for (text, ms) in [
        ("2026-11-24T12:00:00Z", NOW.0),
        ("2026-11-24T12:00Z", NOW.0),
        ("2026-11-24 13:00:00.001+01:00", NOW.0 + 1),
        ("1969-12-31T00:00:00Z", 0),
    ] {
        let policy = parse(&DESIGN.replace("2027-01-01T00:00:00Z", text));
        assert_eq!(policy.rules[1].expires, Some(UnixMillis(ms)), "{text}");
    }
}

#[test]
fn a_node_does_not_need_a_rule_to_itself() {
    let policy = parse(
        "[perimeter]\nname=\"p\"\n[members]\na={nodes=\"r=a\"}\n[[allow]]\nfrom=\"a\"\nto=\"a\"\nports=[\"any\"]",
    );
    let members = members(&[("a-1", "r=a"), ("a-2", "r=a")]);
    let compiled = compile(&policy, &members, NOW);

    assert_eq!(compiled.verdict(NodeId(1), NodeId(1), Protocol::TCP, 1), None);
    assert_eq!(compiled.allowlist(NodeId(1)).peers, [NodeId(2)].into());
    assert!(
        ask(&policy, &members, "a-1", "a-1", "any")
            .reason
            .contains("is both ends")
    );
    assert_eq!(
        ask(&policy, &members, "a-1", "a-2", "any").verdict,
        Verdict::Allow
    );
}

#[test]
fn members_are_all_who_are_in_a_group_and_peers_only_those_a_rule_joins() {
    let text = DESIGN.replace(
        "dba   = { users = \"group=dba\" }",
        "dba   = { nodes = \"role=web\" }",
    );
    let compiled = compile(&parse(&text), &mesh(), NOW);

    assert_eq!(compiled.members(), &[NodeId(1), NodeId(2), NodeId(4)].into());
    assert_eq!(
        compiled.allowlist(NodeId(1)).peers,
        [NodeId(2)].into(),
        "the rule for dba needs mfa"
    );
    assert_eq!(compiled.allowlist(NodeId(4)).peers, [].into());
    assert_eq!(
        compiled.allowlist(NodeId(3)),
        ringfence_policy::Allowlist::default()
    );
}

#[test]
fn groups_that_match_nothing_and_unknown_nodes_are_warned_of() {
    let compiled = compile(&parse(DESIGN), &members(&[("db-1", "role=db,env=prod")]), NOW);

    let told: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "test.toml:11:1: group api matches no node: none has env=prod, role=api",
            "test.toml:27:1: no node is named web-1: this check says nothing about one",
        ]
    );
}

fn expecting(from: &str, to: &str, port: &str, verdict: &str) -> Policy {
    let expectation =
        format!("\n[[expect]]\nfrom=\"{from}\"\nto=\"{to}\"\nport=\"{port}\"\nverdict=\"{verdict}\"\n");
    parse(&(DESIGN.to_owned() + &expectation))
}

#[test]
fn expectations_that_hold_say_nothing() {
    for (from, to, port, verdict) in [
        ("node:web-1", "db", "tcp/5432", "deny"),
        ("api", "db", "tcp/5432", "allow"),
        ("node:api-1", "node:db-1", "tcp/5432", "allow"),
        ("db", "api", "any", "deny"),
        ("api", "api", "any", "deny"),
        ("api", "db", "udp/1-65535", "deny"),
        ("node:gone", "db", "any", "deny"),
    ] {
        let policy = expecting(from, to, port, verdict);
        assert_eq!(
            failures(&policy, &mesh()),
            [""; 0],
            "{from} {to} {port} {verdict}"
        );
    }
}

#[test]
fn expectations_that_fail_name_a_pair_and_the_rule() {
    let deny = failures(&expecting("node:api-1", "db", "tcp/5000-6000", "deny"), &mesh());
    let allow = failures(&expecting("node:web-1", "db", "tcp/5432", "allow"), &mesh());
    let part = failures(&expecting("api", "db", "tcp/5432-5433", "allow"), &mesh());
    let nobody = failures(&expecting("node:gone", "db", "tcp/5432", "allow"), &mesh());

    assert_eq!(
        deny,
        [
            "test.toml:33:1: node:api-1 to db on tcp/5000-6000 should be deny, but tcp/5432 is open from api-1 to db-1\n  \
          help: rule #1 (line 14) opens it"
        ]
    );
    assert!(
        allow[0].contains("but tcp/5432 is closed from web-1 to db-1"),
        "{allow:?}"
    );
    assert!(
        allow[0].contains("web-1 lacks role=api: it has role=web"),
        "{allow:?}"
    );
    assert!(
        part[0].contains("but tcp/5433 is closed from api-1 to db-1"),
        "{part:?}"
    );
    assert!(nobody[0].contains("but no node is named gone"), "{nobody:?}");
}

#[test]
fn an_expectation_speaks_before_anyone_has_enrolled() {
    assert_eq!(
        failures(&expecting("api", "db", "tcp/5432", "allow"), &[]),
        [""; 0]
    );
    let failed = failures(&expecting("api", "db", "tcp/5432", "deny"), &[]);
    assert!(
        failed[0].contains("is open from a node with env=prod, role=api"),
        "{failed:?}"
    );
}

#[test]
fn an_expectation_looks_at_every_member_of_a_group() {
    let mut mesh = mesh();
    mesh.extend(members(&[("x", "r=x"), ("y", "r=y"), ("z", "r=z"), ("u", "r=u")]).split_off(4));
    let text = DESIGN.replace(
        "db    = { nodes",
        "prod  = { nodes = \"env=prod\" }\ndb    = { nodes",
    );
    let text = text + "\n[[expect]]\nfrom=\"prod\"\nto=\"db\"\nport=\"tcp/5432\"\nverdict=\"deny\"\n";

    let failed = failures(&parse(&text), &mesh);

    assert!(
        failed[0].contains("tcp/5432 is open from api-1 to db-1"),
        "{failed:?}"
    );
}

#[test]
fn an_expectation_within_one_group_is_about_two_of_its_members() {
    let text = "[perimeter]\nname=\"p\"\n[members]\na={nodes=\"r=a\"}\n\
                [[allow]]\nfrom=\"a\"\nto=\"a\"\nports=[\"any\"]\n\
                [[expect]]\nfrom=\"a\"\nto=\"a\"\nport=\"any\"\nverdict=\"deny\"\n";
    let (alone, pair) = (
        members(&[("a-1", "r=a")]),
        members(&[("a-1", "r=a"), ("a-2", "r=a")]),
    );

    assert_eq!(failures(&parse(text), &alone), [""; 0]);
    assert!(failures(&parse(text), &pair)[0].contains("any is open from a-1 to a-2"));
}

fn changes(old: &str, new: &str) -> Vec<String> {
    let compiled = |text: &str| compile(&parse(text), &mesh(), NOW);
    let shown = |change: Change| match change {
        Change::Opens => "+",
        Change::Closes => "-",
    };
    let changes = diff(Some(&compiled(old)), &compiled(new));
    let lines = changes.iter().map(|c| {
        format!(
            "{}{}>{} {} {}",
            shown(c.change),
            c.from.0,
            c.to.0,
            c.service,
            c.rule
        )
    });
    lines.collect()
}

#[test]
fn a_dry_run_lists_what_opens_and_closes() {
    let moved = DESIGN.replace("ports  = [\"tcp/5432\"]", "ports  = [\"tcp/5433\", \"icmp\"]");
    let wider = DESIGN.replace("ports  = [\"tcp/5432\"]", "ports  = [\"tcp/5430-5433\"]");

    assert_eq!(
        changes(DESIGN, &moved),
        ["+2>1 tcp/5433 #1", "+2>1 icmp #1", "-2>1 tcp/5432 #1"]
    );
    assert_eq!(
        changes(DESIGN, &wider),
        ["+2>1 tcp/5430-5431 #1", "+2>1 tcp/5433 #1"]
    );
    assert_eq!(
        changes(&wider, DESIGN),
        ["-2>1 tcp/5430-5431 #1", "-2>1 tcp/5433 #1"]
    );
}

#[test]
fn a_flow_that_another_rule_opens_is_no_change() {
    let twin = DESIGN.to_owned() + "\n[[allow]]\nfrom=\"api\"\nto=\"db\"\nports=[\"tcp/5432\"]\n";

    assert_eq!(changes(DESIGN, &twin), [""; 0]);
    assert_eq!(changes(&twin, DESIGN), [""; 0]);
}

#[test]
fn a_new_perimeter_opens_all_and_a_removed_one_closes_all() {
    let compiled = compile(&parse(DESIGN), &mesh(), NOW);

    let (new, gone) = (diff(None, &compiled), diff(Some(&compiled), &Compiled::default()));

    assert!(new.len() == 1 && new[0].change == Change::Opens, "{new:?}");
    assert!(gone.len() == 1 && gone[0].change == Change::Closes, "{gone:?}");
}
