//! Which files are taken, and whom they let in.

use proptest::prelude::*;
use serde_json::json;

use super::claims::Pattern;
use super::*;

const HEAD: &str = "[issuer]\nname = \"ci\"\nurl = \"https://ci.example.com\"\naudience = \"ringfence\"\n";

fn issuer(rules: &str) -> WorkloadIssuer {
    WorkloadIssuer::parse("workload.toml", &format!("{HEAD}{rules}")).unwrap()
}

fn refusal(text: &str) -> String {
    WorkloadIssuer::parse("workload.toml", text)
        .unwrap_err()
        .to_string()
}

fn claims(value: Value) -> Claims {
    let Value::Object(claims) = value else {
        panic!("claims are an object: {value}");
    };
    claims
}

fn pod(namespace: &str) -> Claims {
    claims(json!({
        "iss": "https://kubernetes.default.svc",
        "sub": format!("system:serviceaccount:{namespace}:ledger"),
        "kubernetes.io": {
            "namespace": namespace,
            "pod": { "name": "Ledger-7d9f_x2", "uid": "1" },
            "serviceaccount": { "name": "ledger" },
        },
        "groups": ["deployers", "payments"],
        "attempt": 3,
        "protected": true,
    }))
}

#[test]
fn the_first_rule_whose_every_claim_holds_decides() {
    let issuer = issuer(
        r#"
[[admit]]
claims = { "kubernetes.io" = { namespace = "payments", serviceaccount = { name = "ledger" } } }
labels = { role = "db", env = "prod" }
name = 'db-{"kubernetes.io".pod.name}'

[[admit]]
claims.sub = ["system:serviceaccount:payments:*", "system:serviceaccount:staging:*"]
claims.groups = "deploy*"
claims.attempt = 3
claims.protected = true
labels.role = "app"
"#,
    );

    let first = issuer.judge(&pod("payments")).unwrap();
    let second = issuer.judge(&pod("staging")).unwrap();
    let misses = issuer.judge(&pod("other")).unwrap_err();

    assert_eq!(
        (first.number, first.labels.to_string()),
        (1, "env=prod, role=db".to_owned())
    );
    let name = first.name.as_ref().unwrap().fill(&pod("payments")).unwrap();
    assert_eq!(name.as_str(), "db-ledger-7d9f-x2");
    let looked_at = first.looked_at(&pod("payments"));
    assert_eq!(looked_at["\"kubernetes.io\".namespace"], "payments");
    assert_eq!(looked_at.len(), 3);
    assert_eq!(
        (second.number, second.labels.to_string()),
        (2, "role=app".to_owned())
    );
    assert_eq!(
        misses[0].to_string(),
        "rule 1: \"kubernetes.io\".namespace is other, not \"payments\""
    );
    assert_eq!(misses.len(), 2);
}

#[test]
fn a_star_stays_within_its_part() {
    let holds = |pattern: &str, text: &str| {
        let wanted = ClaimWanted::Text(vec![Pattern::parse(pattern).unwrap()]);
        let claim = ClaimPath::parse("sub").unwrap();
        Condition { claim, wanted }.holds(&claims(json!({ "sub": text })))
    };

    for (pattern, text) in [
        (
            "repo:acme/*:ref:refs/heads/main",
            "repo:acme/api:ref:refs/heads/main",
        ),
        ("repo:acme/**", "repo:acme/api:ref:refs/heads/main"),
        ("*", ""),
        ("a*b*c", "aXbYc"),
        ("é*", "éa"),
    ] {
        assert!(holds(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [
        // A branch may be called anything.
        (
            "repo:acme/*:ref:refs/heads/main",
            "repo:acme/api:ref:refs/heads/x:ref:refs/heads/main",
        ),
        ("repo:acme/*", "repo:acme/api:pull_request"),
        ("repo:acme/*", "repo:acme-evil/api"),
        ("payments", "Payments"),
        ("payments", "payments2"),
        ("*", "a:b"),
        ("a?c", "abc"),
    ] {
        assert!(!holds(pattern, text), "{pattern} {text}");
    }
    assert!(
        !holds("**", &"x".repeat(2000)),
        "an endless claim matches nothing"
    );
}

#[test]
fn a_claim_of_another_kind_is_another_claim() {
    let rule = "[[admit]]\nclaims = { sub = \"a\", n = 3, yes = true }\nlabels = { role = \"db\" }\n";
    let issuer = issuer(rule);
    let good = json!({ "sub": "a", "n": 3, "yes": true });
    assert!(issuer.judge(&claims(good.clone())).is_ok());
    for (claim, value) in [
        ("sub", json!({ "a": "a" })),
        ("sub", json!(["b", ["a"]])),
        ("sub", Value::Null),
        ("n", json!("3")),
        ("n", json!(3.5)),
        ("yes", json!("true")),
        ("yes", json!(1)),
    ] {
        let mut other = claims(good.clone());
        other.insert(claim.to_owned(), value.clone());
        assert!(issuer.judge(&other).is_err(), "{claim} {value}");
        other.remove(claim);
        assert!(issuer.judge(&other).is_err(), "{claim} absent");
    }
}

#[test]
fn a_rule_that_leaves_open_who_is_meant_is_refused() {
    for open in [
        "ref = \"refs/heads/main\"",
        "sub = \"*\"",
        "sub = \"**:*\"",
        "sub = \"repo:**\"",
        "sub = [\"repo:acme/api:*\", \"repo:*\"]",
        "\"kubernetes.io\".serviceaccount.name = \"db\"",
        "email_verified = true",
    ] {
        let told = refusal(&format!("{HEAD}[[admit]]\nclaims.{open}\nlabels.role = \"db\"\n"));
        assert!(
            told.contains("workload.toml:6:") || told.contains("workload.toml:5:"),
            "{told}"
        );
        assert!(
            told.contains("no claim says which workload") && told.contains("ask for sub"),
            "{told}"
        );
    }
}

#[test]
fn mistakes_about_an_issuer_say_where_they_are_and_how_to_mend_them() {
    let rule = "[[admit]]\nclaims.sub = \"a\"\nlabels.role = \"db\"\n";
    for (line, told) in [
        ("audiance = \"x\"", "workload.toml:5:1: unknown key \"audiance\""),
        (
            "jwks_url = \"http://x\"",
            "workload.toml:5:12: jwks_url: write an https:// URL",
        ),
        ("jwks = \"{}\"", "a JWKS is written"),
        (
            "jwks = '{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}'",
            "private key",
        ),
        ("jwks = '{\"keys\":[{\"kty\":\"XX\"}]}'", "RSA, EC and OKP"),
        (
            "jwks = '{\"keys\":[{\"kty\":\"EC\"}]}'\nca = 'x'",
            "ca is of no use beside jwks",
        ),
        ("ca = \"x\"", "this is no certificate"),
        ("max_life = \"40d\"", "out of bounds: from 1m to 31d"),
    ] {
        let refused = refusal(&format!("{HEAD}{line}\n{rule}"));
        assert!(refused.contains(told), "{told}: {refused}");
    }
    assert!(refusal(rule).contains("the file has no [issuer]"));
    assert!(refusal(HEAD).contains("it has no [[admit]]"));
    let plain = HEAD.replace("https", "http") + rule;
    assert!(refusal(&plain).contains("write an https:// URL"));
}

#[test]
fn mistakes_about_a_rule_say_where_they_are_and_how_to_mend_them() {
    let role = "labels.role = \"db\"";
    for (rule, told) in [
        (
            format!("claims.sub = \"a\"\n{role}\nname = \"Web {{sub}}\""),
            "'W' is not allowed in a name",
        ),
        (
            format!("claims.sub = \"a\"\n{role}\nname = \"web-{{sub\""),
            "a { is not closed",
        ),
        (
            format!("claims.sub = \"a\"\n{role}\nname = \"web-{{a b}}\""),
            "names no claim",
        ),
        (
            format!("claims.sub = \"a\"\nclaims.aud = \"x\"\n{role}"),
            "leave it out",
        ),
        (format!("claims.sub = []\n{role}"), "empty list"),
        (format!("claims.sub = \"\"\n{role}"), "matches nobody"),
        (format!("claims.sub = \"a***\"\n{role}"), "three stars"),
        (format!("claims.sub = 1.5\n{role}"), "must be a text"),
        (format!("claims = {{}}\n{role}"), "asks for nothing"),
        ("claims.sub = \"a\"\nlabels = {}".to_owned(), "in no group"),
        (
            "claims.sub = \"a\"\nlabels.role = \"D B\"".to_owned(),
            "cannot be part of a label",
        ),
        ("claims.sub = \"a\"".to_owned(), "[[admit]] lacks labels"),
    ] {
        let refused = refusal(&format!("{HEAD}[[admit]]\n{rule}\n"));
        assert!(
            refused.contains(told) && refused.contains("workload.toml:"),
            "{told}: {refused}"
        );
    }
}

#[test]
fn the_examples_let_in_whom_they_are_written_for() {
    let read = |text: &str| WorkloadIssuer::parse("example.toml", text).unwrap();
    let kubernetes = read(include_str!("../../../../examples/workloads/kubernetes.toml"));
    let github = read(include_str!("../../../../examples/workloads/github-actions.toml"));
    let google = read(include_str!("../../../../examples/workloads/google-cloud.toml"));
    let run = |repository: &str, owner: &str| {
        claims(json!({
            "sub": format!("repo:{repository}:environment:production"), "repository": repository,
            "repository_owner": owner, "environment": "production", "ref": "refs/heads/main",
            "run_id": "42", "run_attempt": "1",
        }))
    };
    let machine = claims(json!({
        "sub": "112010400000000710080",
        "google": { "compute_engine": {
            "project_id": "acme-prod", "zone": "europe-west3-a", "instance_name": "api-1", "instance_id": "71",
        } },
    }));

    assert_eq!(kubernetes.judge(&pod("payments")).unwrap().number, 1);
    assert!(kubernetes.judge(&pod("staging")).is_err());
    let rule = github.judge(&run("acme/ledger", "acme")).unwrap();
    assert_eq!(
        rule.name
            .as_ref()
            .unwrap()
            .fill(&run("acme/ledger", "acme"))
            .unwrap()
            .as_str(),
        "ci-acme-ledger-42-1"
    );
    assert_eq!(github.judge(&run("acme/web", "acme")).unwrap().number, 2);
    assert!(github.judge(&run("evil/ledger", "evil")).is_err());
    assert_eq!(
        google.judge(&machine).unwrap().labels.to_string(),
        "env=prod, role=api"
    );
}

#[test]
fn a_name_is_made_of_what_a_name_may_hold() {
    let fill = |template: &str, value: Value| NameTemplate::parse(template).unwrap().fill(&claims(value));

    assert_eq!(
        fill("ci-{sub}", json!({ "sub": "Acme/API" })).unwrap().as_str(),
        "ci-acme-api"
    );
    assert_eq!(
        fill("{sub}", json!({ "sub": format!("{}-", "x".repeat(62)) }))
            .unwrap()
            .as_str()
            .len(),
        62
    );
    assert_eq!(fill("run-{id}", json!({ "id": 42 })).unwrap().as_str(), "run-42");
    assert_eq!(fill("{sub}", json!({ "sub": "::" })), Err(NoNodeName::Empty));
    assert_eq!(
        fill("{sub}", json!({ "sub": ["a"] })),
        Err(NoNodeName::Claim("sub".to_owned()))
    );
    assert_eq!(fill("{sub}", json!({})), Err(NoNodeName::Claim("sub".to_owned())));
}

#[test]
fn what_is_remembered_of_a_claim_is_bounded_and_steers_no_terminal() {
    let shown = |value: Value| claims::shown(&value);

    assert_eq!(shown(json!("a\u{1b}[31m\u{202e}b")), "a\\u{1b}[31m\\u{202e}b");
    assert_eq!(shown(json!(["a", 1])), "[\"a\",1]");
    assert!(shown(json!("é\u{1b}".repeat(2000))).len() <= 512);
}

/// What a pattern is taken to mean, written as plainly as can be.
fn naive(pattern: &str, text: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("**") {
        let mut ends = (0..=text.len()).filter(|at| text.is_char_boundary(*at));
        return ends.any(|at| naive(rest, &text[at..]));
    }
    if let Some(rest) = pattern.strip_prefix('*') {
        let part = text.find([':', '/']).unwrap_or(text.len());
        return (0..=part).any(|at| naive(rest, &text[at..]));
    }
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some(wanted), Some(is)) if wanted == is => naive(&pattern[1..], &text[1..]),
        _ => false,
    }
}

fn any_conditions() -> impl Strategy<Value = Vec<(usize, String)>> {
    prop::collection::vec((0..3_usize, "[ab:*]{1,3}"), 0..3)
}

proptest! {
    #[test]
    fn patterns_mean_what_they_are_said_to(pattern in "[ab:/]{0,3}(\\*|\\*\\*)?[ab:]{0,2}(\\*|\\*\\*)?[ab]{0,2}", text in "[ab:/]{0,9}") {
        prop_assume!(!pattern.is_empty() && !pattern.contains("***"));
        let wanted = ClaimWanted::Text(vec![Pattern::parse(&pattern).unwrap()]);
        let condition = Condition { claim: ClaimPath::parse("sub").unwrap(), wanted };
        prop_assert_eq!(condition.holds(&claims(json!({ "sub": text.clone() }))), naive(&pattern, &text));
    }

    #[test]
    fn a_condition_more_never_admits_more(
        rules in prop::collection::vec(any_conditions(), 1..4),
        at in 0..4_usize,
        added in (0..3_usize, "[ab:*]{1,3}"),
        values in prop::collection::vec(prop::option::of("[ab:]{0,3}"), 3),
    ) {
        let rules: Vec<_> = rules.iter().zip(1..).filter_map(|(conditions, number)| rule_of(number, conditions)).collect();
        let Some(one) = condition_of(&added) else { return Ok(()) };
        let mut narrow = rules.clone();
        prop_assume!(!narrow.is_empty());
        let at = at % narrow.len();
        narrow[at].conditions.push(one);
        let mut token = Claims::new();
        for (name, value) in ["sub", "x", "y"].iter().zip(values) {
            if let Some(value) = value {
                token.insert((*name).to_owned(), Value::String(value));
            }
        }
        let [wide, narrow] = [rules, narrow].map(|rules| WorkloadIssuer { rules, ..issuer("[[admit]]\nclaims.sub = \"a\"\nlabels.role = \"db\"\n") });
        if let Ok(rule) = narrow.judge(&token) {
            // Who is still let in was let in before, by this rule or by one before it.
            let before = wide.judge(&token);
            prop_assert!(before.is_ok_and(|before| before.number <= rule.number));
        }
    }

    #[test]
    fn no_text_panics(text in "(\\[issuer\\]\n)?(\\[\\[admit\\]\\]\n)?[a-z \n=\"{}.\\[\\]*]{0,120}") {
        let _ = WorkloadIssuer::parse("workload.toml", &text);
        let _ = ClaimPath::parse(&text);
        let _ = NameTemplate::parse(&text);
    }
}

fn condition_of((claim, pattern): &(usize, String)) -> Option<Condition> {
    let wanted = ClaimWanted::Text(vec![Pattern::parse(pattern).ok()?]);
    Some(Condition {
        claim: ClaimPath::parse(["sub", "x", "y"][*claim])?,
        wanted,
    })
}

fn rule_of(number: u32, conditions: &[(usize, String)]) -> Option<WorkloadRule> {
    let read: Option<Vec<Condition>> = conditions.iter().map(condition_of).collect();
    Some(WorkloadRule {
        number,
        place: Place::default(),
        conditions: read?,
        labels: Labels::new(),
        name: None,
    })
}
