//! Small policies and meshes for the tests.

use ringfence_model::{Labels, Name, NodeId, UnixMillis};
use ringfence_policy::{Facts, Member, Policy};

/// A policy that must parse.
pub(crate) fn parse(text: &str) -> Policy {
    match Policy::parse("test.toml", text) {
        Ok(checked) => checked.policy,
        Err(errors) => panic!("{errors}\n{text}"),
    }
}

/// Members with ids from 1.
pub(crate) fn members(of: &[(&str, &str)]) -> Vec<Member> {
    (1..)
        .zip(of)
        .map(|(id, (name, labels))| member(id, name, labels))
        .collect()
}

/// One member; `labels` are pairs joined by commas.
pub(crate) fn member(id: u64, name: &str, labels: &str) -> Member {
    let pairs = labels.split(',').filter(|pair| !pair.is_empty());
    Member {
        id: NodeId(id),
        name: Name::parse(name).unwrap(),
        labels: Labels::parse_pairs(pairs).unwrap(),
        facts: Facts::default(),
    }
}

/// 2026-11-24T12:00:00Z.
pub(crate) const NOW: UnixMillis = UnixMillis(1_795_521_600_000);
