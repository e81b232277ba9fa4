//! What a person reaches for as long as their second factor is young enough: so that they hear of it before it ends.

use ringfence_control::{FACTOR_ASKS_MAX, FactorAsk};
use ringfence_model::{NodeId, UnixMillis};
use ringfence_policy::{Member, Policy};

use crate::Controller;

impl Controller {
    /// The rules that ask for a second factor of the person at a node, in order of when they end for them.
    pub(super) fn factor_asks(&self, node: NodeId) -> Vec<FactorAsk> {
        let state = self.state();
        let (Some(known), Some(member)) = (state.nodes.get(&node), state.member(node)) else {
            return Vec::new();
        };
        let perimeters = known
            .perimeters
            .iter()
            .filter_map(|name| state.perimeters.get(name));
        let mut asks = Vec::new();
        for perimeter in perimeters {
            let policy = state.policy_in_force(perimeter);
            asks.extend(asks_of(&policy, &member, perimeter.judged_at));
        }
        // What nothing was proved for is open to nobody yet, so it comes first.
        asks.sort_by_key(|ask| ask.ends_ms);
        asks.truncate(FACTOR_ASKS_MAX);
        asks
    }
}

fn asks_of(policy: &Policy, member: &Member, wall: UnixMillis) -> Vec<FactorAsk> {
    let person = member.facts.user.as_ref();
    let rules = policy.rules.iter().filter_map(|rule| {
        let within = rule.require.as_ref()?.mfa?;
        let group = policy.groups.get(&rule.from)?;
        if !group.members.holds(member, wall) {
            return None;
        }
        let ends = person?.mfa_at.map(|at| at.saturating_add(within).whole_second());
        Some(FactorAsk {
            perimeter: policy.name.clone(),
            to: rule.to.clone(),
            services: rule.services.clone(),
            within_s: within.as_secs(),
            ends_ms: ends,
        })
    });
    rules.collect()
}
