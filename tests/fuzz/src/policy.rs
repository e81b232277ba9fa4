//! Policy text: every mistake has a place in the file, and what is right compiles.

use ringfence_model::{Labels, NodeId};
use ringfence_policy::{Diagnostic, Facts, Member, Policy, check_expectations, compile, diff, explain};

use crate::fixture::{POLICY, WALL, name};

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let checked = match Policy::parse("policy.toml", text) {
        Ok(checked) => checked,
        Err(errors) => {
            assert!(!errors.0.is_empty(), "a refusal has a reason");
            errors.0.iter().for_each(|error| check_place(error, text));
            return;
        }
    };
    checked
        .warnings
        .iter()
        .for_each(|warning| check_place(warning, text));
    let members = members();
    let policy = &checked.policy;
    let compiled = compile(policy, &members, WALL);
    let changes = diff(None, &compiled);
    assert!(diff(Some(&compiled), &compiled).is_empty());
    assert_eq!(changes.is_empty(), compiled.openings().is_empty());
    for finding in check_expectations(policy, &compiled, &members) {
        check_place(&finding, text);
    }
    let service = "tcp/443".parse().expect("a service");
    for to in &members {
        let explanation = explain(policy, &compiled, (&members[0], to), &service, WALL);
        assert!(explanation.rule.is_none_or(|rule| policy.rule(rule).is_some()));
    }
}

fn check_place(diagnostic: &Diagnostic, text: &str) {
    let end = diagnostic.offset + diagnostic.length;
    assert!(end <= text.len(), "{diagnostic} is past the end of the file");
    assert!(diagnostic.line >= 1 && diagnostic.column >= 1);
    assert!(
        text.is_char_boundary(diagnostic.offset) && text.is_char_boundary(end),
        "{diagnostic} cuts a character in two"
    );
    let shown = diagnostic.to_string();
    assert!(shown.len() < 16 * 1024, "a message is short whatever the file is");
}

fn members() -> Vec<Member> {
    let member = |id, called: &str, labels: &str| Member {
        id: NodeId(id),
        name: name(called),
        labels: Labels::parse_pairs(labels.split(',')).expect("labels"),
        facts: Facts::default(),
    };
    vec![
        member(1, "db", "role=db,env=prod"),
        member(2, "app", "role=app,env=prod"),
        member(3, "test", "role=app,env=test"),
    ]
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let wrong = POLICY
        .replace("tcp/5432", "tcp/99999")
        .replace("owners", "owner")
        .replace("2033-01-01T00", "2033-13-01");
    let hours = "[perimeter]\nname = \"ledger\"\nowners = [\"a@example.com\"]\n[members]\n\
                 staff = { users = \"group=finance\" }\ndb = { nodes = [\"role=db\", \"env=prod\"] }\n\
                 [[allow]]\nfrom = \"staff\"\nto = \"db\"\nports = [\"tcp/443\"]\n\
                 require = { hours = \"mon-fri 08:00-18:00 Europe/Berlin\", mfa = \"12h\" }\n";
    vec![
        ("whole", POLICY.as_bytes().to_vec()),
        ("wrong", wrong.into_bytes()),
        ("users", hours.as_bytes().to_vec()),
        ("empty", Vec::new()),
        ("cut", POLICY.as_bytes()[..300].to_vec()),
    ]
}
