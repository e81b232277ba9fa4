//! What passes, until when, and what is said of what does not.

use std::time::Duration;

use ringfence_model::{Name, UnixMillis};
use ringfence_policy::{
    Check, Fact, FactName, FactSource, FactValue, KnownFacts, NativeFact, PostureFile, Version,
};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn check(body: &str) -> Check {
    let text = format!("[[check]]\nname = \"c\"\nmax_age = \"1m\"\n{body}\n");
    PostureFile::parse("p.toml", &text).unwrap().checks.remove(0)
}

fn known(name: &str, value: FactValue) -> KnownFacts {
    let fact = Fact::of_node(Ok(value), NOW);
    KnownFacts::from([(name.parse().unwrap(), fact)])
}

fn at(ms: u64) -> UnixMillis {
    UnixMillis(NOW.0 + ms)
}

/// What is said of a check that asks for one thing.
fn told(body: &str, facts: &KnownFacts, wall: UnixMillis) -> String {
    let judgement = check(body).judge(facts, wall);
    assert_eq!(judgement.passes, judgement.holds);
    judgement.findings[0].to_string()
}

#[test]
fn what_was_measured_holds_until_it_is_too_old() {
    let facts = known("disk.encrypted", FactValue::Bool(true));
    let check = check("disk.encrypted = true");

    assert_eq!(check.judge(&facts, NOW).until, Some(at(60_000)));
    assert!(check.judge(&facts, at(59_999)).passes);
    assert!(!check.judge(&facts, at(60_000)).passes);
    assert_eq!(
        check.judge(&facts, at(65_500)).findings[0].to_string(),
        "disk.encrypted was measured 65s ago, at most 1m is allowed"
    );
}

#[test]
fn nothing_known_passes_nothing_and_says_why() {
    let mut facts = KnownFacts::new();

    let unheard = told("firewall.active = true", &facts, NOW);
    let why = Err("nftables cannot be read".to_owned());
    facts.insert(
        FactName::Native(NativeFact::FirewallActive),
        Fact::of_node(why, NOW),
    );
    let missing = told("firewall.active = true", &facts, NOW);

    assert_eq!(unheard, "firewall.active is not known: nothing has reported it");
    assert_eq!(missing, "firewall.active is not known: nftables cannot be read");
    assert!(!check("firewall.active = false").judge(&facts, NOW).passes);
}

#[test]
fn each_kind_is_compared_as_what_it_is() {
    let version = |text| FactValue::Version(Version::parse(text).unwrap());
    let os = known("os.version", version("12.11"));
    let kernel = known("kernel.version", version("6.1.0-18-amd64"));
    let id = known("os.id", FactValue::Text("debian".to_owned()));

    assert_eq!(
        told("os.version = { min = \"12\" }", &os, NOW),
        "os.version is 12.11"
    );
    assert_eq!(
        told("os.version = \"12\"", &os, NOW),
        "os.version is 12.11, must be 12"
    );
    assert_eq!(
        told("kernel.version = { min = \"6.1.0-20\" }", &kernel, NOW),
        "kernel.version is 6.1.0-18-amd64, must be at least 6.1.0-20"
    );
    assert_eq!(
        told("os.id = [\"debian\", \"ubuntu\"]", &id, NOW),
        "os.id is debian"
    );
    assert_eq!(
        told("os.id = \"fedora\"", &id, NOW),
        "os.id is debian, must be fedora"
    );
    let findings = known("custom.findings", FactValue::Number(4));
    assert_eq!(
        told("custom.findings = { min = 1, max = 4 }", &findings, NOW),
        "custom.findings is 4"
    );
    assert_eq!(
        told("custom.findings = { max = 3 }", &findings, NOW),
        "custom.findings is 4, must be at most 3"
    );
    assert_eq!(
        told("custom.findings = true", &findings, NOW),
        "custom.findings is 4, must be true"
    );
}

#[test]
fn a_moment_gets_too_old_between_two_reports() {
    let day = Duration::from_hours(24);
    let updated = UnixMillis(NOW.0 - 29 * 86_400_000 - 86_399_000);
    let facts = known("os.security_update", FactValue::Time(updated));
    let check = check("os.security_update = { max_age = \"30d\" }");

    let judgement = check.judge(&facts, NOW);

    assert_eq!(judgement.until, Some(at(1000)));
    assert_eq!(judgement.until, Some(updated.saturating_add(30 * day)));
    assert!(!check.judge(&facts, at(1000)).passes);
}

#[test]
fn what_has_a_time_to_live_counts_for_that_and_no_other_age() {
    let fact = Fact {
        value: Ok(FactValue::Bool(true)),
        source: FactSource::Api("admin".to_owned()),
        measured_at: NOW,
        expires: Some(at(3_600_000)),
    };
    let facts = KnownFacts::from([(FactName::Custom(Name::parse("edr").unwrap()), fact)]);
    let check = check("custom.edr = true");

    assert_eq!(check.judge(&facts, at(1_000_000)).until, Some(at(3_600_000)));
    assert_eq!(
        check.judge(&facts, at(3_600_000)).findings[0].to_string(),
        "custom.edr has expired, at 2027-01-15T09:00:00Z"
    );
}

#[test]
fn what_is_only_reported_passes_and_says_what_it_would_have_been() {
    let judgement = check("mode = \"report\"\ndisk.encrypted = true").judge(&KnownFacts::new(), NOW);

    assert!(judgement.passes);
    assert!(!judgement.holds);
    assert_eq!(judgement.until, None);
}

#[test]
fn nodes_look_up_what_is_asked_for_and_nothing_else() {
    let text = "[[check]]\nname = \"a\"\nmax_age = \"1m\"\nprocess.auditd = true\n\
                [[check]]\nname = \"b\"\nmax_age = \"30s\"\nos.id = \"debian\"\ncustom.edr = true\n\
                [[check]]\nname = \"c\"\nmax_age = \"10s\"\ncustom.edr = true\n";

    let needs = PostureFile::parse("p.toml", text).unwrap().needs();

    let names: Vec<String> = needs.facts.iter().map(FactName::to_string).collect();
    assert_eq!(names, ["os.id", "process.auditd"]);
    assert_eq!(needs.every, Some(Duration::from_secs(10)));
    assert_eq!(PostureFile::default().needs().every, None);
}

#[test]
fn values_are_read_as_people_write_them() {
    let text = |word: &str| FactValue::Text(word.to_owned());

    assert_eq!(FactValue::from_word("true"), FactValue::Bool(true));
    assert_eq!(FactValue::from_word("-3"), FactValue::Number(-3));
    assert_eq!(FactValue::from_word("healthy"), text("healthy"));
    assert_eq!(FactValue::from_word("vault"), text("vault"));
    assert!(matches!(FactValue::from_word("v7.1"), FactValue::Version(_)));
}
