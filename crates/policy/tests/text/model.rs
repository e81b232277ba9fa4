//! Policies as plain data, and an interpreter of them that is too simple to be wrong: it reads the generated model, never
//! what the parser made of its text, and asks each question anew at each moment.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ringfence_model::{Name, NodeId, RuleId, UnixMillis};
use ringfence_packet::Protocol;
use ringfence_policy::{Compiled, Facts, Isolation, Member, UserFacts, compile};

use crate::small::{NOW, member, parse};

/// What a policy says, and of whom.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) groups: Vec<GroupModel>,
    pub(crate) rules: Vec<RuleModel>,
    /// Node `n` has id `n + 1`.
    pub(crate) nodes: Vec<NodeModel>,
}

#[derive(Clone, Debug)]
pub(crate) enum GroupModel {
    Nodes(Vec<(u8, u8)>),
    Users(u8),
}

#[derive(Clone, Debug)]
pub(crate) struct RuleModel {
    from: usize,
    to: usize,
    services: Vec<&'static str>,
    pub(crate) require: RequireModel,
    expires: Option<&'static str>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RequireModel {
    mfa_minutes: Option<u64>,
    checks: BTreeSet<u8>,
    /// A place in [`HOURS`].
    hours: Option<usize>,
    at_office: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct NodeModel {
    pub(crate) labels: Vec<(u8, u8)>,
    pub(crate) user: Option<UserModel>,
    pub(crate) passes: BTreeSet<u8>,
    pub(crate) source: Option<&'static str>,
    /// Whom it keeps, if it is locked.
    pub(crate) keeps: Option<BTreeSet<usize>>,
    pub(crate) has_lapsed: bool,
}

/// Who is logged in, in milliseconds from [`NOW`].
#[derive(Clone, Debug)]
pub(crate) struct UserModel {
    groups: BTreeSet<u8>,
    mfa_ago: Option<u64>,
    ends_at: i64,
}

impl Model {
    pub(crate) fn text(&self) -> String {
        let mut text = "[perimeter]\nname = \"p\"\n\n[members]\n".to_owned();
        for (n, group) in self.groups.iter().enumerate() {
            text += &match group {
                GroupModel::Users(group) => format!("g{n} = {{ users = \"group=u{group}\" }}\n"),
                GroupModel::Nodes(pairs) => format!("g{n} = {{ nodes = \"{}\" }}\n", pairs_text(pairs)),
            };
        }
        for rule in &self.rules {
            text += &format!(
                "\n[[allow]]\nfrom = \"g{}\"\nto = \"g{}\"\nports = {:?}\n",
                rule.from, rule.to, rule.services
            );
            text += &rule.require.text();
            text += &rule
                .expires
                .map(|expires| format!("expires = {expires}\n"))
                .unwrap_or_default();
        }
        text
    }

    pub(crate) fn members(&self) -> Vec<Member> {
        let each = (1..).zip(&self.nodes);
        each.map(|(id, node)| Member {
            facts: node.facts(),
            ..member(id, &format!("n{id}"), &pairs_text(&node.labels))
        })
        .collect()
    }

    pub(crate) fn compiled(&self, wall: UnixMillis) -> Compiled {
        compile(&parse(&self.text()), &self.members(), wall)
    }

    pub(crate) fn is_in(&self, node: usize, group: usize, wall: UnixMillis) -> bool {
        let node = &self.nodes[node];
        match &self.groups[group] {
            GroupModel::Nodes(pairs) => pairs.iter().all(|pair| node.labels.contains(pair)),
            GroupModel::Users(group) => node.person(wall).is_some_and(|user| user.groups.contains(group)),
        }
    }

    /// Whether a rule joins the two, whatever the port.
    pub(crate) fn joins(&self, rule: &RuleModel, from: usize, to: usize, wall: UnixMillis) -> bool {
        let time_is_left = rule.expires.is_none_or(|expires| {
            let expires: jiff::Timestamp = expires.parse().unwrap();
            i128::from(wall.0) < i128::from(expires.as_millisecond())
        });
        from != to
            && time_is_left
            && self.is_in(from, rule.from, wall)
            && self.is_in(to, rule.to, wall)
            && rule.require.is_met(&self.nodes[from], wall)
            && !self.nodes[from].has_lapsed
            && !self.nodes[to].has_lapsed
            && match (&self.nodes[from].keeps, &self.nodes[to].keeps) {
                (None, None) => true,
                (Some(keeps), None) => keeps.contains(&to),
                (None, Some(keeps)) => keeps.contains(&from),
                (Some(_), Some(_)) => false,
            }
    }

    /// The interpreter.
    pub(crate) fn verdict(
        &self,
        from: usize,
        to: usize,
        (protocol, port): (Protocol, u16),
        wall: UnixMillis,
    ) -> Option<RuleId> {
        let opens = |rule: &RuleModel| rule.covers(protocol, port) && self.joins(rule, from, to, wall);
        let index = self.rules.iter().position(opens)?;
        Some(RuleId(u32::try_from(index).unwrap() + 1))
    }

    /// The rules that open it, all of them.
    pub(crate) fn opening(
        &self,
        from: usize,
        to: usize,
        (protocol, port): (Protocol, u16),
        wall: UnixMillis,
    ) -> Vec<RuleId> {
        let numbered = (1..).map(RuleId).zip(&self.rules);
        let opens =
            numbered.filter(|(_, rule)| rule.covers(protocol, port) && self.joins(rule, from, to, wall));
        opens.map(|(id, _)| id).collect()
    }

    /// All that rules join, and which of them are live.
    pub(crate) fn joined(&self, wall: UnixMillis) -> Vec<(usize, usize, usize)> {
        let numbered = self.rules.iter().enumerate();
        let each = numbered.flat_map(|(place, rule)| {
            let pairs = self
                .pairs()
                .filter(|(from, to)| self.joins(rule, *from, *to, wall));
            pairs.map(move |(from, to)| (place, from, to))
        });
        each.collect()
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = self.nodes.len();
        (0..count).flat_map(move |from| (0..count).map(move |to| (from, to)))
    }
}

impl RuleModel {
    fn covers(&self, protocol: Protocol, port: u16) -> bool {
        self.services.iter().any(|service| match *service {
            "any" => protocol == Protocol::TCP || protocol == Protocol::UDP || is_icmp(protocol),
            "icmp" => is_icmp(protocol),
            ranged => {
                let (name, ports) = ranged.split_once('/').unwrap();
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                name == protocol.to_string()
                    && first.parse::<u16>().unwrap() <= port
                    && port <= last.parse::<u16>().unwrap()
            }
        })
    }

    /// When it expires, if it does.
    pub(crate) fn expires(&self) -> Option<UnixMillis> {
        let expires: jiff::Timestamp = self.expires?.parse().unwrap();
        Some(UnixMillis(expires.as_millisecond().try_into().unwrap()))
    }
}

impl RequireModel {
    fn text(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.mfa_minutes.map(|minutes| format!("mfa = \"{minutes}m\"")));
        if !self.checks.is_empty() {
            let checks: Vec<String> = self.checks.iter().map(|check| format!("\"c{check}\"")).collect();
            parts.push(format!("posture = [{}]", checks.join(", ")));
        }
        parts.extend(self.hours.map(|place| format!("hours = \"{}\"", HOURS[place].0)));
        if self.at_office {
            parts.push("source = [\"10.1.0.0/16\", \"2001:db8::/48\"]".to_owned());
        }
        if parts.is_empty() {
            return String::new();
        }
        format!("require = {{ {} }}\n", parts.join(", "))
    }

    /// Both of what two ask.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.mfa_minutes = self.mfa_minutes.into_iter().chain(other.mfa_minutes).min();
        self.checks.extend(other.checks);
        self.hours = self.hours.or(other.hours);
        self.at_office |= other.at_office;
        self
    }

    pub(crate) fn asks_for_hours_alone(&self) -> bool {
        self.mfa_minutes.is_none() && self.checks.is_empty() && !self.at_office
    }

    /// As the policy reference says it, part by part. Ends by the clock come on the whole second.
    pub(crate) fn is_met(&self, node: &NodeModel, wall: UnixMillis) -> bool {
        let mfa = self.mfa_minutes.is_none_or(|minutes| {
            let proved = node.person(wall).and_then(|user| user.mfa_ago);
            proved.is_some_and(|ago| wall.0 / 1_000 < (NOW.0 - ago + minutes * 60_000) / 1_000)
        });
        let hours = self.hours.is_none_or(|place| {
            // Minutes of the week, which began on a Thursday in 1970.
            let minute = (wall.0 / 60_000 + 3 * 1_440) % (7 * 1_440);
            HOURS[place]
                .1
                .iter()
                .any(|(start, end)| (*start..*end).contains(&minute))
        });
        let office = node.source.is_some_and(|source| OFFICE.contains(&source));
        mfa && hours && self.checks.is_subset(&node.passes) && (office || !self.at_office)
    }
}

impl NodeModel {
    fn person(&self, wall: UnixMillis) -> Option<&UserModel> {
        let user = self.user.as_ref();
        user.filter(|user| wall.0 / 1_000 < NOW.0.strict_add_signed(user.ends_at) / 1_000)
    }

    fn facts(&self) -> Facts {
        let user = self.user.as_ref().map(|user| UserFacts {
            name: "someone".to_owned(),
            email: None,
            groups: user.groups.iter().map(|group| format!("u{group}")).collect(),
            mfa_at: user.mfa_ago.map(|ago| UnixMillis(NOW.0 - ago)),
            until: UnixMillis(NOW.0.strict_add_signed(user.ends_at)),
        });
        Facts {
            user,
            posture: self
                .passes
                .iter()
                .map(|check| Name::parse(&format!("c{check}")).unwrap())
                .collect(),
            source: self.source.map(|source| source.parse().unwrap()),
            isolation: self.keeps.as_ref().map(|keeps| Isolation {
                keep: keeps.iter().map(|kept| id(*kept)).collect(),
            }),
            is_lapsed: self.has_lapsed,
        }
    }
}

fn pairs_text(pairs: &[(u8, u8)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("k{key}=v{value}"))
        .collect();
    pairs.join(",")
}

fn is_icmp(protocol: Protocol) -> bool {
    protocol == Protocol::ICMP || protocol == Protocol::ICMPV6
}

pub(crate) fn id(node: usize) -> NodeId {
    NodeId(u64::try_from(node).unwrap() + 1)
}

/// Ports on both sides of every edge of [`SERVICES`], for each protocol; GRE is never open.
pub(crate) fn questions() -> impl Iterator<Item = (Protocol, u16)> {
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
const EXPIRIES: [&str; 4] = [
    "2026-11-24T11:59:59Z",
    "2026-11-24T12:00:00Z",
    "2026-11-24T13:00:00.001+01:00",
    "2026-11-24T12:07:00Z",
];

/// Hours around [`NOW`], a Tuesday, with the minutes of the week that they are in UTC.
const HOURS: [(&str, &[(u64, u64)]); 5] = [
    ("Tue 11:00-12:10 UTC", &[(2_100, 2_170)]),
    (
        "Mon-Wed 13:05-13:15 Europe/Berlin",
        &[(725, 735), (2_165, 2_175), (3_605, 3_615)],
    ),
    ("Mon-Sun 00:00-24:00 Asia/Kathmandu", &[(0, 10_080)]),
    ("Mon 22:00-12:02 UTC", &[(1_320, 2_162)]),
    ("Wed 00:00-24:00 UTC", &[(2_880, 4_320)]),
];

const OFFICE: [&str; 3] = ["10.1.2.3", "::ffff:10.1.200.1", "2001:db8::7"];

prop_compose! {
    fn labels()(picks in prop::collection::btree_map(0..3_u8, 0..2_u8, 0..4)) -> Vec<(u8, u8)> {
        picks.into_iter().collect()
    }
}

fn user() -> impl Strategy<Value = UserModel> {
    let groups = prop::collection::btree_set(0..2_u8, 0..3);
    let mfa_ago = prop::option::weighted(0.8, 0..1_500_000_u64);
    (groups, mfa_ago, -120_000..1_200_000_i64).prop_map(|(groups, mfa_ago, ends_at)| UserModel {
        groups,
        mfa_ago,
        ends_at,
    })
}

prop_compose! {
    pub(crate) fn node()(
        labels in labels(),
        user in prop::option::weighted(0.6, user()),
        passes in prop::collection::btree_set(0..2_u8, 0..3),
        source in prop::option::of(prop::sample::select(&["10.1.2.3", "::ffff:10.1.200.1", "2001:db8::7", "10.2.0.1", "::10.1.2.3"][..])),
        keeps in prop::option::weighted(0.3, prop::collection::btree_set(0..5_usize, 0..3)),
        has_lapsed in prop::bool::weighted(0.1),
    ) -> NodeModel {
        NodeModel { labels, user, passes, source, keeps, has_lapsed }
    }
}

fn group() -> impl Strategy<Value = GroupModel> {
    let pairs = prop::collection::btree_map(0..3_u8, 0..2_u8, 1..3);
    prop_oneof![
        3 => pairs.prop_map(|pairs| GroupModel::Nodes(pairs.into_iter().collect())),
        1 => (0..2_u8).prop_map(GroupModel::Users),
    ]
}

pub(crate) fn require() -> impl Strategy<Value = RequireModel> {
    let mfa = prop::option::of(prop::sample::select(&[1_u64, 10, 25][..]));
    let checks = prop_oneof![2 => Just(BTreeSet::new()), 1 => prop::collection::btree_set(0..2_u8, 0..3)];
    let hours = prop::option::weighted(0.4, 0..HOURS.len());
    (mfa, checks, hours, prop::bool::weighted(0.2)).prop_map(|(mfa_minutes, checks, hours, at_office)| {
        RequireModel {
            mfa_minutes,
            checks,
            hours,
            at_office,
        }
    })
}

pub(crate) fn rule() -> impl Strategy<Value = RuleModel> {
    let require = prop_oneof![1 => Just(RequireModel::default()), 1 => require()];
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

pub(crate) fn model() -> impl Strategy<Value = Model> {
    let groups = prop::collection::vec(group(), GROUPS);
    let rules = prop::collection::vec(rule(), 0..6);
    let nodes = prop::collection::vec(node(), 1..6);
    (groups, rules, nodes).prop_map(|(groups, rules, nodes)| Model { groups, rules, nodes })
}

pub(crate) const GROUPS: usize = 4;
