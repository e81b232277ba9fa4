//! Whatever is known and whatever is asked: only news opens, and every end is exact.

use proptest::prelude::*;
use ringfence_model::{Name, UnixMillis};
use ringfence_policy::{
    Check, Fact, FactName, FactSource, FactValue, KnownFacts, PostureFile, Saying, Version,
};

/// Lines of a check, one for each fact it may ask for.
const LINES: [&str; 7] = [
    "disk.encrypted = true",
    "os.version = { min = \"12\" }",
    "os.security_update = { max_age = \"20s\" }",
    "process.auditd = true",
    "custom.edr = \"healthy\"",
    "custom.findings = { max = 3 }",
    "custom.scan = { max_age = \"15s\" }",
];
const NAMES: [&str; 7] = [
    "disk.encrypted",
    "os.version",
    "os.security_update",
    "process.auditd",
    "custom.edr",
    "custom.findings",
    "custom.scan",
];

fn a_check(asks: &[bool]) -> Check {
    let mut text = "[[check]]\nname = \"c\"\nmax_age = \"30s\"\n".to_owned();
    for (line, _) in LINES.iter().zip(asks).filter(|(_, asks)| **asks) {
        text += line;
        text += "\n";
    }
    PostureFile::parse("p.toml", &text).unwrap().checks.remove(0)
}

/// What lets each of [`NAMES`] hold.
fn fitting(index: usize, ms: u64) -> FactValue {
    let version = Version::parse("12.1").unwrap();
    let values = [
        FactValue::Bool(true),
        FactValue::Version(version),
        FactValue::Time(UnixMillis(ms)),
        FactValue::Bool(true),
        FactValue::Text("healthy".to_owned()),
        FactValue::Number(3),
        FactValue::Time(UnixMillis(ms)),
    ];
    values[index].clone()
}

fn other() -> impl Strategy<Value = Result<FactValue, String>> {
    prop_oneof![
        Just(Ok(FactValue::Bool(false))),
        (0..9_i64).prop_map(|number| Ok(FactValue::Number(number))),
        Just(Ok(FactValue::Text("ill".to_owned()))),
        (10..14_u8).prop_map(|n| Ok(FactValue::Version(Version::parse(&n.to_string()).unwrap()))),
        Just(Err("why not".to_owned())),
    ]
}

fn fact(index: usize) -> impl Strategy<Value = Fact> {
    let value = prop_oneof![
        6 => (0..60_000_u64).prop_map(move |ms| Ok(fitting(index, ms))),
        1 => other(),
    ];
    let expires = prop::option::of((0..120_000_u64).prop_map(UnixMillis));
    (value, 0..60_000_u64, expires).prop_map(|(value, measured_at, expires)| Fact {
        value,
        source: FactSource::Node,
        measured_at: UnixMillis(measured_at),
        expires,
    })
}

fn facts() -> impl Strategy<Value = KnownFacts> {
    let all: Vec<_> = (0..NAMES.len())
        .map(|index| prop::option::weighted(0.9, fact(index)))
        .collect();
    all.prop_map(|all| {
        let there = NAMES
            .iter()
            .zip(all)
            .filter_map(|(name, fact)| Some((name, fact?)));
        there.map(|(name, fact)| (name.parse().unwrap(), fact)).collect()
    })
}

fn asks() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(prop::bool::weighted(0.3), LINES.len())
        .prop_filter("asks for something", |asks| asks.contains(&true))
}

proptest! {
    #[test]
    fn by_the_clock_alone_a_check_is_lost_and_never_won(asks in asks(), facts in facts(), t in 0..120_000_u64, later in 0..120_000_u64) {
        let check = a_check(&asks);

        let now = check.judge(&facts, UnixMillis(t));
        let then = check.judge(&facts, UnixMillis(t + later));

        prop_assert!(now.holds || !then.holds);
    }

    #[test]
    fn the_end_that_is_told_is_the_very_one(asks in asks(), facts in facts(), t in 0..120_000_u64) {
        let check = a_check(&asks);
        let judgement = check.judge(&facts, UnixMillis(t));

        prop_assert_eq!(judgement.holds, judgement.until.is_some());
        if let Some(until) = judgement.until {
            prop_assert!(until.0 > t);
            prop_assert!(check.judge(&facts, UnixMillis(until.0 - 1)).holds);
            prop_assert!(!check.judge(&facts, until).holds);
        }
    }

    #[test]
    fn asking_for_more_never_lets_anyone_pass(asks in asks(), facts in facts(), also in 0..LINES.len(), t in 0..120_000_u64) {
        let mut more = asks.clone();
        more[also] = true;

        let (few, many) = (a_check(&asks), a_check(&more));

        prop_assert!(few.judge(&facts, UnixMillis(t)).holds || !many.judge(&facts, UnixMillis(t)).holds);
    }

    #[test]
    fn a_check_holds_only_with_each_of_its_facts(asks in asks(), facts in facts(), t in 0..60_000_u64) {
        let check = a_check(&asks);
        let holds = check.judge(&facts, UnixMillis(t)).holds;

        for comparison in &check.comparisons {
            let alone: KnownFacts = facts.get_key_value(&comparison.fact).map(|(name, fact)| (name.clone(), fact.clone())).into_iter().collect();
            let mut fewer = facts.clone();
            fewer.remove(&comparison.fact);
            prop_assert!(!check.judge(&fewer, UnixMillis(t)).holds);
            if holds {
                prop_assert_eq!(check.judge(&alone, UnixMillis(t)).findings.iter().filter(|finding| matches!(finding.saying, Saying::Holds { .. })).count(), 1);
            }
        }
    }

    #[test]
    fn what_fits_and_is_fresh_holds(asks in asks(), t in 0..15_000_u64) {
        let facts: KnownFacts = NAMES.iter().enumerate().map(|(index, name)| {
            (name.parse().unwrap(), Fact::of_node(Ok(fitting(index, t)), UnixMillis(t)))
        }).collect();

        prop_assert!(a_check(&asks).judge(&facts, UnixMillis(t)).holds);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\[\\[check\\]\\]\n|name = \"a\"\n|os|disk|custom|\\.|id|version| = |\\{|\\}|min|true|1|\"12\"|\n|.){0,40}") {
        if let Err(errors) = PostureFile::parse("p.toml", &text) {
            for error in errors.0 {
                prop_assert!(text.is_char_boundary(error.offset));
                prop_assert!(text.is_char_boundary(error.offset + error.length));
            }
        }
    }

    #[test]
    fn a_name_is_read_as_it_was_written(text in "(os\\.id|process\\.[a-z/ .]{0,8}|file\\.[a-z/.]{0,12}|custom\\.[a-z-]{0,8}|[a-z.]{0,9})") {
        if let Ok(name) = text.parse::<FactName>() {
            prop_assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn a_source_is_read_as_it_was_written(name in "[a-z]{1,9}") {
        for source in [FactSource::Node, FactSource::Controller, FactSource::Script { name: Name::parse(&name).unwrap(), signer: None }, FactSource::Script { name: Name::parse(&name).unwrap(), signer: Some(format!("SHA256:{}", "a".repeat(43))) }, FactSource::Api(name.clone())] {
            prop_assert_eq!(FactSource::try_from(source.to_string()), Ok(source));
        }
    }
}
