//! Runs seeds and says what broke.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use ringfence_sim::run::{Outcome, run};
use ringfence_sim::sabotage::Safeguard;
use ringfence_sim::{Scale, Stats};

/// Simulates whole meshes, with everything that can go wrong.
#[derive(Parser)]
struct Arguments {
    /// One seed, or a range like 0..1000.
    #[arg(long, default_value = "0..100", value_parser = parse_seeds)]
    seeds: (u64, u64),
    /// How long faults go on in each run, in simulated seconds.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// How many machines; drawn from the seed if not given.
    #[arg(long)]
    nodes: Option<usize>,
    /// A safeguard to do without, as `Safeguard` in crates/model calls it: the run should break a promise.
    #[arg(long, value_parser = parse_safeguard)]
    without: Option<Safeguard>,
    /// Threads, each with a seed of its own.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Stop after this many failures.
    #[arg(long, default_value_t = 1)]
    failures: usize,
}

fn parse_seeds(text: &str) -> Result<(u64, u64), String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    match text.split_once("..") {
        Some((first, end)) => Ok((number(first)?, number(end)?)),
        None => number(text).map(|seed| (seed, seed + 1)),
    }
}

fn parse_safeguard(text: &str) -> Result<Safeguard, String> {
    let known = Safeguard::ALL
        .into_iter()
        .find(|safeguard| format!("{safeguard:?}") == text);
    known.ok_or_else(|| format!("there is no such safeguard; these are: {:?}", Safeguard::ALL))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let scale = Scale {
        seconds: arguments.seconds,
        machines: arguments.nodes,
        without: arguments.without,
    };
    let next = AtomicU64::new(arguments.seeds.0);
    let sum = Mutex::new((Stats::default(), 0_u64, 0_usize, Duration::ZERO));
    let started = Instant::now();
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= arguments.seeds.1 {
                        return;
                    }
                    let outcome = run(seed, scale);
                    if tell(&outcome, scale, &sum) >= arguments.failures {
                        next.store(u64::MAX / 2, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (stats, seeds, failures, slowest) = sum
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    println!(
        "{seeds} seeds, {failures} failures, {:.1} simulated hours in {:.0} s (slowest run {:.1} s)",
        stats.simulated.as_secs_f64() / 3600.0,
        started.elapsed().as_secs_f64(),
        slowest.as_secs_f64()
    );
    println!(
        "{} packets sent, {} delivered, {} notices, {} resets ({} astray), {} cuts, {} attacks, {} datagrams, {} changes, {} pairs, {} torn netmaps, {} renewals, {} flow records, {:?} packets written and delivered in runs",
        stats.sent,
        stats.delivered,
        stats.notices,
        stats.resets,
        stats.resets_astray,
        stats.cuts,
        stats.attacks,
        stats.datagrams,
        stats.revisions,
        stats.pairs,
        stats.torn,
        stats.renewals,
        stats.records,
        stats.in_runs
    );
    println!("refused: {:?}\nclosed: {:?}", stats.drops, stats.closed);
    if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn tell(outcome: &Outcome, scale: Scale, sum: &Mutex<(Stats, u64, usize, Duration)>) -> usize {
    let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.0.add(&outcome.stats);
    sum.1 += 1;
    sum.3 = sum.3.max(outcome.took);
    if outcome.broken.is_some() {
        sum.2 += 1;
        println!("{}", outcome.report(scale));
    }
    sum.2
}
