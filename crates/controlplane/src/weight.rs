//! What netmaps would weigh after a change: one that no message holds is refused before it can be.
//!
//! Three steps, each for whom the one before leaves: a bound by counting seats and rules, a bound by counting groups, and
//! what is really written. The last two are the same for all who are in the same groups, and done once for all of them.
//!
//! What rules require is taken to be met by everyone, and to end for each at another moment: what is verified about people
//! changes all the time, and must not be what makes a netmap too heavy.
//!
//! **Invariant:** a change that only takes away is never refused here, however heavy a node is.

mod seats;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use ringfence_control::{
    NETMAP_HEAD_BYTES_MAX, NETMAP_WEIGHT_MAX, PeerMap, RuleList, SegmentCount, written_bytes,
};
use ringfence_model::{Name, NodeId, PublicKey, UnixMillis};
use ringfence_policy::{Compiled, PeerSet, Side, Spread};

use self::seats::{Parts, grown, heavy_by_seats};
use crate::compile::{Touched, compile_perimeter};
use crate::draft::Draft;
use crate::netmap::peer_map;
use crate::perimeter::Perimeter;
use crate::state::State;
use crate::{Controller, Node, Refusal};

/// Whether every node that `draft` makes heavier still gets a netmap that a message holds.
pub(crate) fn check(controller: &Controller, draft: &Draft) -> Result<(), Refusal> {
    let (before, after) = (controller.state(), &draft.state);
    let counted = heavy_by_seats(after, &grown(before, draft.events()));
    if counted.is_empty() {
        return Ok(());
    }
    let views = controller.views();
    let touched = Touched::by(draft.events(), before);
    let anew = touched.recompiled().into_iter();
    let anew: BTreeMap<&Name, Compiled> = anew
        .filter_map(|name| Some((name, compile_perimeter(after, name)?)))
        .collect();
    let compiled_after = |name: &Name| anew.get(name).or_else(|| views.perimeter(name));
    let scales_after = scales(after, &counted, compiled_after);
    let mut heavy = counted;
    heavy.retain(|node| netmap_weight(&scales_after, node, Scale::bound) > NETMAP_WEIGHT_MAX);
    heavy.retain(|node| netmap_weight(&scales_after, node, Scale::written) > NETMAP_WEIGHT_MAX);
    let known: Vec<&Node> = heavy.iter().filter_map(|node| known(before, node.id)).collect();
    let scales_before = scales(before, &known, |name| views.perimeter(name));
    heavy.retain(|node| {
        let was = known_weight(&scales_before, before, node.id);
        netmap_weight(&scales_after, node, Scale::apart) > was
    });
    let weight = |node: &&Node| netmap_weight(&scales_after, node, Scale::written);
    let Some(heaviest) = heavy.into_iter().max_by_key(weight) else {
        return Ok(());
    };
    let growth = |name: &&Name| {
        let of = |scales: &BTreeMap<&Name, Scale<'_>>| {
            scales.get(name).map_or(0, |scale| scale.apart(heaviest.id))
        };
        of(&scales_after).saturating_sub(of(&scales_before))
    };
    let perimeter = heaviest.perimeters.iter().max_by_key(growth);
    let perimeter = perimeter.and_then(|name| after.perimeters.get(name));
    let perimeter = perimeter.ok_or(Refusal::NoNode(heaviest.id))?;
    Err(Refusal::TooHeavy {
        node: heaviest.name.clone(),
        perimeter: perimeter.name.clone(),
        file: perimeter.source.file().file.clone(),
        bytes: weight(&heaviest),
    })
}

fn known(state: &State, id: NodeId) -> Option<&Node> {
    state.nodes.get(&id).map(AsRef::as_ref)
}

/// A scale for every perimeter of these nodes.
fn scales<'a>(
    state: &'a State,
    nodes: &[&'a Node],
    compiled: impl Fn(&Name) -> Option<&'a Compiled>,
) -> BTreeMap<&'a Name, Scale<'a>> {
    let names: BTreeSet<&Name> = nodes.iter().flat_map(|node| &node.perimeters).collect();
    let each = names.into_iter().filter_map(|name| {
        let perimeter = state.perimeters.get(name)?;
        Some((name, Scale::new(state, perimeter, compiled(name)?)))
    });
    each.collect()
}

type Weigh<'a> = fn(&Scale<'a>, NodeId) -> usize;

fn netmap_weight<'a>(scales: &BTreeMap<&Name, Scale<'a>>, node: &Node, weigh: Weigh<'a>) -> usize {
    let own = node.perimeters.iter().filter_map(|name| scales.get(name));
    NETMAP_HEAD_BYTES_MAX + own.map(|scale| weigh(scale, node.id)).sum::<usize>()
}

/// What a node weighed with every group apart; nothing if it is new.
fn known_weight(scales: &BTreeMap<&Name, Scale<'_>>, state: &State, id: NodeId) -> usize {
    known(state, id).map_or(0, |node| netmap_weight(scales, node, Scale::apart))
}

/// Weighs the segments of one perimeter.
struct Scale<'a> {
    state: &'a State,
    perimeter: &'a Perimeter,
    compiled: &'a Compiled,
    /// Each member's place in `kinds`.
    kind_of: BTreeMap<NodeId, usize>,
    kinds: Vec<Kind<'a>>,
}

/// Those who are in the same groups. Each is weighed as if it was its own peer: so all weigh the same, and nothing that
/// is taken away makes them heavier.
struct Kind<'a> {
    groups: Vec<&'a Name>,
    bound: OnceCell<usize>,
    weight: OnceCell<Weight>,
}

#[derive(Clone, Copy)]
struct Weight {
    /// As it is written: groups of the same members are one set, and rules about nobody else are left out.
    written: usize,
    /// With a set for each group, and every rule. Nothing that takes away makes this more; the other grows where two
    /// groups stop being the same because one loses a member.
    apart: usize,
}

impl Kind<'_> {
    fn is_in(&self, group: &Name) -> bool {
        self.groups.binary_search(&group).is_ok()
    }
}

/// What those of one kind are told.
struct Told<'a> {
    rules: Vec<Side<'a>>,
    groups: BTreeMap<&'a Name, &'a BTreeSet<NodeId>>,
}

/// Those at the other end of rules that ask the same of them, and end at the same time.
type Asked<'a> = BTreeMap<(usize, Option<UnixMillis>), (Spread, &'a BTreeSet<NodeId>)>;

impl<'a> Told<'a> {
    fn others(&self, side: &Side<'_>) -> &'a BTreeSet<NodeId> {
        const NOBODY: &BTreeSet<NodeId> = &BTreeSet::new();
        self.groups.get(side.others).copied().unwrap_or(NOBODY)
    }

    fn parts(&self, side: &Side<'_>) -> Parts {
        Parts::of(side.spread, self.others(side).len())
    }

    /// Those of whom only a part is told, or each alone: rules about the same share their sets.
    fn asked(&self) -> Asked<'a> {
        let apart = self.rules.iter().filter(|side| side.spread != Spread::Whole);
        let each = apart.map(|side| {
            // Who is told alone by one rule is told with others by another that ends before.
            let expires = side.rule.expires.filter(|_| side.spread == Spread::Each);
            ((side.asked, expires), (side.spread, self.others(side)))
        });
        each.collect()
    }
}

impl<'a> Scale<'a> {
    fn new(state: &'a State, perimeter: &'a Perimeter, compiled: &'a Compiled) -> Self {
        let mut groups_of: BTreeMap<NodeId, Vec<&Name>> = BTreeMap::new();
        for (name, inside) in &compiled.groups {
            for id in inside {
                groups_of.entry(*id).or_default().push(name);
            }
        }
        let mut kind_by_groups: BTreeMap<Vec<&Name>, usize> = BTreeMap::new();
        let mut kind_of = BTreeMap::new();
        for (id, groups) in groups_of {
            let next = kind_by_groups.len();
            kind_of.insert(id, *kind_by_groups.entry(groups).or_insert(next));
        }
        let mut by_kind: Vec<_> = kind_by_groups.into_iter().collect();
        by_kind.sort_unstable_by_key(|(_, kind)| *kind);
        let kinds = by_kind.into_iter().map(|(groups, _)| Kind {
            groups,
            bound: OnceCell::new(),
            weight: OnceCell::new(),
        });
        Self {
            state,
            perimeter,
            compiled,
            kind_of,
            kinds: kinds.collect(),
        }
    }

    /// What the segment of `node` weighs at most.
    fn bound(&self, node: NodeId) -> usize {
        let kind = self.kind(node);
        kind.map_or(0, |kind| {
            *kind.bound.get_or_init(|| self.count(kind).weight_at_most())
        })
    }

    fn written(&self, node: NodeId) -> usize {
        self.weight(node).map_or(0, |weight| weight.written)
    }

    fn apart(&self, node: NodeId) -> usize {
        self.weight(node).map_or(0, |weight| weight.apart)
    }

    fn weight(&self, node: NodeId) -> Option<Weight> {
        let kind = self.kind(node)?;
        Some(*kind.weight.get_or_init(|| self.weigh(kind)))
    }

    fn kind(&self, node: NodeId) -> Option<&Kind<'a>> {
        self.kinds.get(*self.kind_of.get(&node)?)
    }

    fn told(&self, kind: &Kind<'_>) -> Told<'a> {
        let mut told = Told {
            rules: Vec::new(),
            groups: BTreeMap::new(),
        };
        for side in self.compiled.sides(|group| kind.is_in(group)) {
            if let Some(others) = self.compiled.groups.get(side.others) {
                told.rules.push(side);
                told.groups.insert(side.others, others);
            }
        }
        told
    }

    fn count(&self, kind: &Kind<'_>) -> SegmentCount {
        let told = self.told(kind);
        let members: usize = told.groups.values().map(|group| group.len()).sum();
        let asked = told.asked();
        let asked = asked
            .values()
            .map(|(spread, others)| Parts::of(*spread, others.len()));
        let (sets, set_peers) = asked.fold((0, 0), |(sets, peers), parts| {
            (sets + parts.sets, peers + parts.set_peers)
        });
        let rules = |side: &Side<'_>| told.parts(side).rules;
        SegmentCount {
            prefixes: self.perimeter.v4.len(),
            peers: self.compiled.members().len().min(members),
            rules: told.rules.iter().map(rules).sum(),
            services: told
                .rules
                .iter()
                .map(|side| rules(side) * side.rule.services.len())
                .sum(),
            sets: told.groups.len() + sets,
            set_peers: members + set_peers,
        }
    }

    /// As if everyone had registered a key: who registers one must not be what makes others too heavy.
    fn weigh(&self, kind: &Kind<'_>) -> Weight {
        let told = self.told(kind);
        let ids: BTreeSet<NodeId> = told.groups.values().copied().flatten().copied().collect();
        let any_key = PublicKey::from_bytes([u8::MAX; 32]);
        let peers = ids.into_iter().filter_map(|id| {
            let peer = peer_map(self.state, self.perimeter, id, any_key)?;
            Some((id, peer))
        });
        let peers: BTreeMap<NodeId, PeerMap> = peers.collect();
        // It holds what a list of nothing takes.
        let head = SegmentCount {
            prefixes: self.perimeter.v4.len(),
            ..SegmentCount::default()
        };
        let empty = written_bytes(&BTreeMap::<NodeId, PeerMap>::new());
        let head = head.weight_at_most() + written_bytes(&peers) - empty;
        let asked = told.asked();
        let asked_sets: usize = asked
            .values()
            .map(|(spread, others)| Parts::of(*spread, others.len()).sets)
            .sum();
        let asked_bytes: usize = asked
            .values()
            .map(|(spread, others)| set_bytes(*spread, others))
            .sum();
        let number_bytes = number_bytes_more(told.groups.len() + asked_sets);
        let rules = rules_bytes(&told, told.rules.iter(), number_bytes);
        let is_about_others = |side: &&Side<'_>| {
            let is_alone = told.others(side).len() <= 1;
            !(is_alone && kind.is_in(side.others))
        };
        let rules_written = rules_bytes(&told, told.rules.iter().filter(is_about_others), number_bytes);
        let sets = told.groups.values().copied();
        let distinct: BTreeSet<&BTreeSet<NodeId>> = sets.clone().collect();
        let head = head + asked_bytes;
        Weight {
            written: head + rules_written + distinct.into_iter().map(written_bytes).sum::<usize>(),
            apart: head + rules + sets.map(written_bytes).sum::<usize>(),
        }
    }
}

/// What rules take, each in as many parts as it may be told in, without the sets they are about.
fn rules_bytes<'a>(told: &Told<'_>, sides: impl Iterator<Item = &'a Side<'a>>, number_bytes: usize) -> usize {
    let (mut rules, mut count, mut more) = (Vec::new(), 0, 0);
    for side in sides {
        let mut rule = side.rule_about(PeerSet::default());
        if side.rule.is_timed {
            // Any time takes as many bytes.
            rule.expires = rule.expires.or(Some(UnixMillis(u64::MAX)));
        }
        let parts = told.parts(side).rules;
        count += parts;
        if parts > 1 {
            more += (parts - 1) * written_bytes(&RuleList(vec![rule.clone()]));
        }
        rules.push(rule);
    }
    let empty = written_bytes(&RuleList(Vec::new()));
    written_bytes(&RuleList(rules)) - empty + more + number_bytes * count
}

/// Here all rules are about one set, whose number takes a byte.
fn number_bytes_more(sets: usize) -> usize {
    match sets {
        0..=24 => 0,
        25..=256 => 1,
        257..=65_536 => 2,
        _ => 4,
    }
}

/// What sets besides whole groups take.
fn set_bytes(spread: Spread, others: &BTreeSet<NodeId>) -> usize {
    match spread {
        Spread::Whole => 0,
        Spread::Part => written_bytes(others),
        // The length of each of them takes a byte.
        Spread::Each => written_bytes(others) + others.len(),
    }
}

/// What a node weighs by each step, from the cheapest, and with every group apart: for tests of what holds among them.
#[cfg(test)]
pub(crate) fn weights(controller: &Controller, id: NodeId) -> Option<[usize; 4]> {
    let state = controller.state();
    let node = known(state, id)?;
    let perimeters = node.perimeters.iter().map(|name| &state.perimeters[name]);
    let by_seats = perimeters
        .map(|perimeter| seats::seats_bound(state, perimeter))
        .sum::<usize>();
    let scales = scales(state, &[node], |name| controller.views().perimeter(name));
    Some([
        NETMAP_HEAD_BYTES_MAX + by_seats,
        netmap_weight(&scales, node, Scale::bound),
        netmap_weight(&scales, node, Scale::written),
        netmap_weight(&scales, node, Scale::apart),
    ])
}
