//! Deliberately broken builds are caught: each safeguard, switched off alone, is missed within 500 seeds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringfence_sim::Scale;
use ringfence_sim::run::run;
use ringfence_sim::sabotage::Safeguard;

/// The first seed at which the simulation misses `safeguard`, and what it says.
fn missed(safeguard: Safeguard) -> Option<(u64, String)> {
    let scale = Scale {
        seconds: 200,
        machines: None,
        without: Some(safeguard),
    };
    let mut outcomes = (0..SEEDS_MAX).map(|seed| run(seed, scale));
    outcomes.find_map(|outcome| Some((outcome.seed, outcome.broken?.to_string())))
}

#[test]
fn every_safeguard_that_is_switched_off_is_missed() {
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let unnoticed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(safeguard) = Safeguard::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match missed(*safeguard) {
                        Some((seed, what)) => println!("{safeguard:?}: seed {seed}: {what}"),
                        None => unnoticed.lock().unwrap().push(*safeguard),
                    }
                }
            });
        }
    });
    let _ = std::panic::take_hook();

    let unnoticed = unnoticed.into_inner().unwrap();
    assert!(
        unnoticed.is_empty(),
        "not missed in {SEEDS_MAX} seeds: {unnoticed:?}"
    );
}

const THREADS: usize = 2;
const SEEDS_MAX: u64 = 500;
