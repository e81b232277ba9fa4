//! Every target over its corpus, and over mutations of it: what libFuzzer does, in the time a test has.

#![expect(clippy::unwrap_used, reason = "a corpus that cannot be read fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use ringfence_fuzz::{TARGETS, Target};

#[test]
fn nothing_in_the_corpus_fails() {
    for target in TARGETS {
        for (path, input) in corpus(target) {
            run(target, &input, &format!("{}", path.display()));
        }
    }
}

#[test]
fn every_target_has_a_corpus_and_a_fuzzer() {
    for target in TARGETS {
        assert!(
            !corpus(target).is_empty(),
            "{}: run `cargo run -p ringfence-fuzz --bin fuzz-seeds`",
            target.name
        );
        let file = root().join(format!("libfuzzer/fuzz_targets/{}.rs", target.name));
        assert!(file.exists(), "{} is missing", file.display());
    }
    let files = fs::read_dir(root().join("libfuzzer/fuzz_targets")).unwrap();
    assert_eq!(files.count(), TARGETS.len());
}

#[test]
fn seeds_are_understood() {
    for target in TARGETS {
        for (name, input) in (target.seeds)() {
            run(target, &input, name);
        }
    }
}

#[test]
fn mutated_inputs_find_nothing() {
    let pools: Vec<(&Target, Vec<Vec<u8>>)> = TARGETS
        .iter()
        .map(|target| {
            (
                target,
                corpus(target).into_iter().map(|(_, input)| input).collect(),
            )
        })
        .collect();
    std::thread::scope(|scope| {
        for half in pools.chunks(pools.len().div_ceil(THREADS)) {
            scope.spawn(move || half.iter().for_each(|(target, pool)| mutate(target, pool)));
        }
    });
}

fn mutate(target: &Target, pool: &[Vec<u8>]) {
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    let begun = Instant::now();
    let mut runs = 0;
    while runs < RUNS_MIN || begun.elapsed() < BUDGET {
        let mut input = pool[dice.random_range(0..pool.len())].clone();
        for _ in 0..dice.random_range(1..6) {
            change(&mut input, pool, &mut dice);
        }
        run(target, &input, &format!("mutation {runs}"));
        runs += 1;
    }
}

fn change(input: &mut Vec<u8>, pool: &[Vec<u8>], dice: &mut ChaCha8Rng) {
    let at = dice.random_range(0..=input.len());
    match dice.random_range(0..6) {
        0 => input.truncate(at),
        1 => input.insert(at, dice.random()),
        2 => {
            let other = &pool[dice.random_range(0..pool.len())];
            let from = dice.random_range(0..=other.len());
            input.splice(at.., other[from..].iter().copied());
        }
        3 if at < input.len() => {
            input.remove(at);
        }
        4 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][dice.random_range(0..5)],
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << dice.random_range(0..8);
            }
        }
    }
}

/// Keeps an input that fails, so that it can be replayed and committed.
fn run(target: &Target, input: &[u8], what: &str) {
    if std::panic::catch_unwind(|| (target.run)(input)).is_err() {
        let kept = std::env::temp_dir().join(format!("ringfence-fuzz-{}", target.name));
        fs::write(&kept, input).unwrap();
        panic!(
            "{}: {what} fails; the input is in {}",
            target.name,
            kept.display()
        );
    }
}

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = root().join("corpus").join(target.name);
    let mut inputs: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let input = fs::read(&path).unwrap();
            (path, input)
        })
        .collect();
    inputs.sort();
    inputs
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const BUDGET: Duration = Duration::from_millis(1500);
const RUNS_MIN: usize = 20;
const THREADS: usize = 2;
