//! The whole way from policy text to a node's verdict, against an interpreter too simple to be wrong.
//!
//! The interpreter reads the generated model, never what the parser made of its text, and asks each question anew.

use proptest::prelude::*;
use ringfence_model::{NodeId, Revision, RuleId, UnixMillis};
use ringfence_packet::Protocol;
use ringfence_policy::{Change, Compiled, Direction, Member, RuleSet, Service, compile, diff};

use crate::small::{NOW, member, parse};

/// What a policy says, as plain data.
#[derive(Clone, Debug)]
struct Model {
    groups: Vec<GroupModel>,
    rules: Vec<RuleModel>,
    /// The labels of each node; node `n` has id `n + 1`.
    nodes: Vec<Vec<(u8, u8)>>,
}

#[derive(Clone, Debug)]
struct GroupModel {
    of_users: Users,
    pairs: Vec<(u8, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Users {
    Yes,
    No,
}

#[derive(Clone, Debug)]
struct RuleModel {
    from: usize,
    to: usize,
    services: Vec<&'static str>,
    require: Option<&'static str>,
    expires: Option<&'static str>,
}

impl Model {
    fn text(&self) -> String {
        let mut text = "[perimeter]\nname = \"p\"\n\n[members]\n".to_owned();
        for (n, group) in self.groups.iter().enumerate() {
            let pairs: Vec<String> = group
                .pairs
                .iter()
                .map(|(key, value)| format!("k{key}=v{value}"))
                .collect();
            text += &match group.of_users {
                Users::Yes => format!("g{n} = {{ users = \"group=x\" }}\n"),
                Users::No => format!("g{n} = {{ nodes = \"{}\" }}\n", pairs.join(", ")),
            };
        }
        for rule in &self.rules {
            text += &format!(
                "\n[[allow]]\nfrom = \"g{}\"\nto = \"g{}\"\nports = {:?}\n",
                rule.from, rule.to, rule.services
            );
            text += &rule
                .require
                .map(|require| format!("require = {require}\n"))
                .unwrap_or_default();
            text += &rule
                .expires
                .map(|expires| format!("expires = {expires}\n"))
                .unwrap_or_default();
        }
        text
    }

    fn members(&self) -> Vec<Member> {
        let each = (1..).zip(&self.nodes);
        each.map(|(id, labels)| {
            let pairs: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("k{key}=v{value}"))
                .collect();
            member(id, &format!("n{id}"), &pairs.join(","))
        })
        .collect()
    }

    fn compiled(&self, wall: UnixMillis) -> Compiled {
        compile(&parse(&self.text()), &self.members(), wall)
    }

    fn is_in(&self, node: usize, group: usize) -> bool {
        let group = &self.groups[group];
        group.of_users == Users::No && group.pairs.iter().all(|pair| self.nodes[node].contains(pair))
    }

    /// The interpreter.
    fn verdict(
        &self,
        from: usize,
        to: usize,
        protocol: Protocol,
        port: u16,
        wall: UnixMillis,
    ) -> Option<RuleId> {
        if from == to {
            return None;
        }
        let opens = |rule: &RuleModel| {
            let time_is_left = rule.expires.is_none_or(|expires| {
                let expires: jiff::Timestamp = expires.parse().unwrap();
                i128::from(wall.0) < i128::from(expires.as_millisecond())
            });
            let covers = rule.services.iter().any(|service| match *service {
                "any" => protocol == Protocol::TCP || protocol == Protocol::UDP || is_icmp(protocol),
                "icmp" => is_icmp(protocol),
                ranged => {
                    let (name, ports) = ranged.split_once('/').unwrap();
                    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                    name == protocol.to_string()
                        && first.parse::<u16>().unwrap() <= port
                        && port <= last.parse::<u16>().unwrap()
                }
            });
            self.is_in(from, rule.from)
                && self.is_in(to, rule.to)
                && rule.require.is_none()
                && time_is_left
                && covers
        };
        let index = self.rules.iter().position(opens)?;
        Some(RuleId(u32::try_from(index).unwrap() + 1))
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = self.nodes.len();
        (0..count).flat_map(move |from| (0..count).map(move |to| (from, to)))
    }
}

fn is_icmp(protocol: Protocol) -> bool {
    protocol == Protocol::ICMP || protocol == Protocol::ICMPV6
}

fn id(node: usize) -> NodeId {
    NodeId(u64::try_from(node).unwrap() + 1)
}

/// Ports on both sides of every edge of [`SERVICES`], for each protocol; GRE is never open.
fn questions() -> impl Iterator<Item = (Protocol, u16)> {
    let ports = [1, 21, 22, 23, 99, 100, 150, 200, 201, 5432, u16::MAX];
    let ported = [Protocol::TCP, Protocol::UDP].into_iter();
    let ported = ported.flat_map(move |protocol| ports.into_iter().map(move |port| (protocol, port)));
    ported.chain([(Protocol::ICMP, 7), (Protocol::ICMPV6, 7), (Protocol(47), 0)])
}

const SERVICES: [&str; 9] = [
    "tcp/22",
    "tcp/100-200",
    "tcp/150-5432",
    "udp/22",
    "udp/1-99",
    "udp/200-65535",
    "icmp",
    "any",
    "tcp/1",
];

/// Around [`NOW`], so that some rules have expired, one does so now, and some will.
const EXPIRIES: [&str; 3] = [
    "2026-11-24T11:59:59Z",
    "2026-11-24T12:00:00Z",
    "2026-11-24T13:00:00.001+01:00",
];

prop_compose! {
    fn labels()(picks in prop::collection::btree_map(0..3_u8, 0..2_u8, 0..4)) -> Vec<(u8, u8)> {
        picks.into_iter().collect()
    }
}

prop_compose! {
    fn group()(
        users in prop::bool::weighted(0.1),
        pairs in prop::collection::btree_map(0..3_u8, 0..2_u8, 1..3),
    ) -> GroupModel {
        let of_users = if users { Users::Yes } else { Users::No };
        GroupModel { of_users, pairs: pairs.into_iter().collect() }
    }
}

fn rule() -> impl Strategy<Value = RuleModel> {
    let require = prop::option::weighted(
        0.1,
        prop::sample::select(&["{ mfa = \"1h\" }", "{ posture = [\"x\"] }"][..]),
    );
    let expires = prop::option::weighted(0.3, prop::sample::select(&EXPIRIES[..]));
    let services = prop::collection::vec(prop::sample::select(&SERVICES[..]), 1..4);
    let parts = (0..GROUPS, 0..GROUPS, services, require, expires);
    parts.prop_map(|(from, to, services, require, expires)| RuleModel {
        from,
        to,
        services,
        require,
        expires,
    })
}

fn model() -> impl Strategy<Value = Model> {
    let groups = prop::collection::vec(group(), GROUPS);
    let rules = prop::collection::vec(rule(), 0..6);
    let nodes = prop::collection::vec(labels(), 1..6);
    (groups, rules, nodes).prop_map(|(groups, rules, nodes)| Model { groups, rules, nodes })
}

const GROUPS: usize = 4;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Both ends decide by their own rules, and both decide what the file says.
    #[test]
    fn both_nodes_decide_as_the_interpreter_does(model in model()) {
        let compiled = model.compiled(NOW);
        let sets: Vec<RuleSet> = (0..model.nodes.len())
            .map(|node| RuleSet::new(&compiled.allowlist(id(node)).rules, Revision::ZERO))
            .collect();
        for (from, to) in model.pairs() {
            for (protocol, port) in questions() {
                let wanted = model.verdict(from, to, protocol, port, NOW);
                prop_assert_eq!(compiled.verdict(id(from), id(to), protocol, port), wanted);
                let egress = sets[from].verdict(Direction::Egress, id(to), protocol, port, NOW);
                let ingress = sets[to].verdict(Direction::Ingress, id(from), protocol, port, NOW);
                prop_assert_eq!((egress, ingress), (wanted, wanted), "{}>{} {}/{}", from, to, protocol, port);
            }
        }
    }

    /// A node that was handed its rules once lets them end by itself, on the same millisecond.
    #[test]
    fn rules_end_on_the_node_when_the_file_says(model in model(), later in 0..2_000_u64) {
        let (before, later) = (UnixMillis(NOW.0 - 1_000), UnixMillis(NOW.0 - 1_000 + later));
        let compiled = model.compiled(before);
        for (from, to) in model.pairs() {
            let rules = RuleSet::new(&compiled.allowlist(id(from)).rules, Revision::ZERO);
            for (protocol, port) in questions() {
                let wanted = model.verdict(from, to, protocol, port, later);
                prop_assert_eq!(rules.verdict(Direction::Egress, id(to), protocol, port, later), wanted);
            }
        }
    }

    /// Wall 1: keys are exchanged with those that some live rule joins, and with nobody else.
    #[test]
    fn peers_are_exactly_those_that_something_is_open_to_or_from(model in model()) {
        let compiled = model.compiled(NOW);
        for (one, two) in model.pairs() {
            let is_open = questions().any(|(protocol, port)| {
                model.verdict(one, two, protocol, port, NOW).is_some()
                    || model.verdict(two, one, protocol, port, NOW).is_some()
            });
            prop_assert_eq!(compiled.allowlist(id(one)).peers.contains(&id(two)), is_open);
        }
    }

    #[test]
    fn members_are_exactly_those_in_some_group(model in model()) {
        let compiled = model.compiled(NOW);
        for node in 0..model.nodes.len() {
            let is_member = (0..GROUPS).any(|group| model.is_in(node, group));
            prop_assert_eq!(compiled.members().contains(&id(node)), is_member);
        }
    }

    /// Rules only add up, in any order (DESIGN.md 6).
    #[test]
    fn adding_a_rule_anywhere_closes_nothing(model in model(), extra in rule(), place in any::<prop::sample::Index>()) {
        let mut wider = model.clone();
        wider.rules.insert(place.index(model.rules.len() + 1), extra);

        let changes = diff(Some(&model.compiled(NOW)), &wider.compiled(NOW));

        prop_assert!(changes.iter().all(|change| change.change == Change::Opens), "{:?}", changes);
    }

    #[test]
    fn the_order_of_rules_changes_nothing(model in model()) {
        let mut turned = model.clone();
        turned.rules.reverse();

        prop_assert_eq!(diff(Some(&model.compiled(NOW)), &turned.compiled(NOW)), []);
    }

    /// The dry run tells the truth: a question's answer changes if and only if a listed change covers it.
    #[test]
    fn the_difference_is_just_what_changes(old in model(), mut new in model()) {
        new.nodes.resize(old.nodes.len(), Vec::new());
        let changes = diff(Some(&old.compiled(NOW)), &new.compiled(NOW));
        for (from, to) in old.pairs() {
            for (protocol, port) in questions() {
                let was = old.verdict(from, to, protocol, port, NOW).is_some();
                let is = new.verdict(from, to, protocol, port, NOW).is_some();
                let wanted = match (was, is) {
                    (false, true) => Some(Change::Opens),
                    (true, false) => Some(Change::Closes),
                    (true, true) | (false, false) => None,
                };
                let about = changes.iter().filter(|change| {
                    change.from == id(from) && change.to == id(to) && change.service.covers(protocol, port)
                });
                let told: Vec<Change> = about.map(|change| change.change).collect();
                prop_assert_eq!(told, wanted.into_iter().collect::<Vec<_>>());
            }
        }
    }

    /// What is listed as open is what verdicts say is open.
    #[test]
    fn openings_and_verdicts_agree(model in model()) {
        let compiled = model.compiled(NOW);
        let openings = compiled.openings();
        for (from, to) in model.pairs() {
            for (protocol, port) in questions() {
                let mut listed = openings.iter().filter(|opening| {
                    let service: Service = opening.service;
                    opening.from == id(from) && opening.to == id(to) && service.covers(protocol, port)
                });
                let wanted = model.verdict(from, to, protocol, port, NOW);
                prop_assert_eq!(listed.next().is_some(), wanted.is_some());
            }
        }
    }
}
