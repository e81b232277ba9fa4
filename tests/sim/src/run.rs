//! Runs a seed to its end or its first broken promise, and tells of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::clock;
use crate::sabotage::switch_off;
use crate::swarm::Scale;
use crate::violation::Violation;
use crate::world::{Stats, World};

/// How one seed went.
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What it amounted to.
    pub stats: Stats,
    /// Stands for the whole history.
    pub hash: u64,
    /// The promise that broke.
    pub broken: Option<Violation>,
    /// The latest happenings, if one did.
    pub trace: String,
    /// Real time spent.
    pub took: Duration,
}

/// Runs one seed on this thread.
pub fn run(seed: u64, scale: Scale) -> Outcome {
    let started = Instant::now();
    let mut world = None;
    switch_off(scale.without);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let world = world.insert(World::new(seed, scale)?);
        world.run()
    }));
    let broken = match result {
        Ok(result) => result.err(),
        Err(panic) => Some(Violation::new("panic", words_of(&*panic))),
    };
    let (stats, hash, trace) = world.as_ref().map_or_else(Default::default, |world: &World| {
        let concerns = broken
            .as_ref()
            .map(|broken| broken.concerns.clone())
            .unwrap_or_default();
        (
            world.stats.clone(),
            world.trace.hash(),
            world.trace.tail(&concerns),
        )
    });
    // What a core does as it is dropped needs no clock.
    drop(world);
    clock::release();
    switch_off(None);
    Outcome {
        seed,
        stats,
        hash,
        broken,
        trace,
        took: started.elapsed(),
    }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no words".to_owned())
}

impl Outcome {
    /// What a person needs to see of a failure.
    pub fn report(&self, scale: Scale) -> String {
        let Some(broken) = &self.broken else {
            return String::new();
        };
        let machines = scale
            .machines
            .map(|machines| format!(" --nodes {machines}"))
            .unwrap_or_default();
        let without = scale
            .without
            .map(|safeguard| format!(" --without {safeguard:?}"))
            .unwrap_or_default();
        format!(
            "seed {} breaks a promise\n{}\n  {broken}\nagain: cd tests/sim && cargo run --release -- --seeds {} --seconds {}{machines}{without}\n",
            self.seed, self.trace, self.seed, scale.seconds
        )
    }
}
