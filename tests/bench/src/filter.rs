//! What the filter takes by itself: nearly nothing to do, and as much as it can have.

use std::time::Instant;

use ringfence_instructions::Filter;
use ringfence_policy::FLOWS_MAX;
use serde::{Deserialize, Serialize};

/// The filter with one amount of rules and flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterSpeed {
    /// Rules in force.
    pub rules: usize,
    /// Live flows.
    pub flows: usize,
    /// Nanoseconds to check and judge one packet, by itself.
    pub judge_ns: f64,
}

/// Empty and full, in turns.
pub fn speeds() -> Vec<FilterSpeed> {
    let mut amounts = [(1, 1), (RULES, FLOWS_MAX)].map(|(rules, flows)| {
        let filter = Filter::new(rules, flows, PACKETS);
        (rules, flows, filter, f64::INFINITY)
    });
    for _ in 0..ROUNDS {
        for (_, _, filter, best) in &mut amounts {
            let began = Instant::now();
            filter.judge(TIMES);
            let each = began.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES);
            // Whatever else the machine does can only add to it.
            *best = best.min(each);
        }
    }
    let speeds = amounts
        .into_iter()
        .map(|(rules, flows, _, judge_ns)| FilterSpeed {
            rules,
            flows,
            judge_ns,
        });
    speeds.collect()
}

const RULES: usize = 10_000;
/// More than a CPU's caches hold the records of, and a packet of its own for each.
const PACKETS: usize = 32_768;
const TIMES: u32 = 262_144;
const ROUNDS: u32 = 9;
