//! A fixed set of seeds, with every fault on, is clean; and a seed gives the same history every time.

use ringfence_sim::Scale;
use ringfence_sim::run::run;

#[test]
fn a_fixed_set_of_seeds_is_clean() {
    let scale = Scale {
        seconds: 200,
        machines: None,
        without: None,
    };
    let broken: Vec<String> = (0..200)
        .map(|seed| run(seed, scale))
        .filter(|outcome| outcome.broken.is_some())
        .map(|outcome| outcome.report(scale))
        .collect();

    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Seeds that broke a promise once, at the length at which they did.
#[test]
fn what_was_found_stays_mended() {
    let scale = Scale {
        seconds: 300,
        machines: None,
        without: None,
    };
    let cases = [
        (30, "a key that met a full log was never offered again"),
        (
            59,
            "a rule that expired just before another change ended without a word",
        ),
        (
            335,
            "a controller that started told of a rule that had ended while it was down",
        ),
        (
            1444,
            "a peer that moved while nobody spoke could not reach a node behind a NAT",
        ),
        (
            2984,
            "a new call on an older connection's ports hid where the older one stood",
        ),
        (3344, "a reset that its receiver challenged ended the flow"),
    ];

    for (seed, what) in cases {
        let outcome = run(seed, scale);
        assert!(outcome.broken.is_none(), "{what}\n{}", outcome.report(scale));
    }
}

#[test]
fn a_large_mesh_is_clean() {
    let scale = Scale {
        seconds: 300,
        machines: Some(20),
        without: None,
    };

    for seed in 0..3 {
        let outcome = run(seed, scale);
        assert!(outcome.broken.is_none(), "{}", outcome.report(scale));
        assert!(outcome.stats.delivered > 0);
    }
}

/// The disk's faults are met: shipped readers see files that are torn.
#[test]
fn torn_files_are_met() {
    let scale = Scale {
        seconds: 200,
        machines: None,
        without: None,
    };

    let torn: u64 = (0..100).map(|seed| run(seed, scale).stats.torn).sum();

    assert!(torn > 0);
}

#[test]
fn a_seed_gives_the_same_history_every_time() {
    let scale = Scale {
        seconds: 100,
        machines: None,
        without: None,
    };

    for seed in 0..20 {
        let again = std::thread::spawn(move || run(seed, scale).hash);
        assert_eq!(
            run(seed, scale).hash,
            again.join().expect("the run ends"),
            "seed {seed}"
        );
    }
}
