//! One run: everybody is brought up, then measured in turns.
//!
//! **Invariant:** for each measurement of each round every contender has its turn before the next measurement begins,
//! so that what disturbs the machine for a while disturbs them all.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::contender::{Contender, Kind, bring_up};
use crate::machine::Machine;
use crate::measure::{Measurement, Seconds, measure};
use crate::run::{Entry, Reading, Run};
use crate::scale::Scale;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who takes part.
    pub kinds: Vec<Kind>,
    /// What is measured.
    pub measurements: Vec<Measurement>,
    /// How often each measurement is taken.
    pub rounds: u32,
    /// How long loads last.
    pub seconds: Seconds,
    /// A node built without its cipher.
    pub null_node: Option<PathBuf>,
    /// What the reader has to know besides.
    pub note: String,
}

/// Carries it out. `say` is told how it goes.
///
/// # Errors
/// When nobody can be brought up. Who is missing, and what could not be measured, stands in the run.
pub fn carry_out(plan: &Plan, say: impl Fn(&str)) -> Result<Run> {
    let began = Instant::now();
    let machine = Machine::here();
    let mut contenders = Vec::new();
    let mut entries = Vec::new();
    for &kind in &plan.kinds {
        match bring_up(kind, plan.null_node.as_deref()) {
            Ok(contender) => {
                say(&format!("{} {} is up", kind.name(), contender.version));
                entries.push(entry(&contender));
                contenders.push(contender);
            }
            Err(error) => {
                say(&format!("{} does not take part: {error:#}", kind.name()));
                entries.push(absent(kind, &error));
            }
        }
    }
    if contenders.is_empty() {
        bail!("nobody takes part");
    }
    let mut run = Run {
        began: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        took_s: 0,
        machine,
        rounds: plan.rounds,
        seconds: plan.seconds.iperf,
        note: plan.note.clone(),
        entries,
        readings: Vec::new(),
        failures: Vec::new(),
        aead: Vec::new(),
        filter: Vec::new(),
        full: Vec::new(),
        scale: Scale::default(),
        revocations: Vec::new(),
        rough: Vec::new(),
    };
    for round in 1..=plan.rounds {
        for &measurement in &plan.measurements {
            say(&format!("round {round} of {}: {measurement:?}", plan.rounds));
            for contender in &contenders {
                take(contender, measurement, plan.seconds, &mut run);
            }
        }
    }
    drop(contenders);
    run.took_s = began.elapsed().as_secs();
    Ok(run)
}

fn take(contender: &Contender, measurement: Measurement, seconds: Seconds, run: &mut Run) {
    let kind = contender.kind;
    match measure(contender, measurement, seconds) {
        Ok(figures) => {
            let readings = figures.into_iter().map(|(metric, value)| Reading {
                kind,
                metric,
                value: rounded(value),
            });
            run.readings.extend(readings);
        }
        Err(error) => {
            let first_line = format!("{error:#}").lines().next().unwrap_or_default().to_owned();
            run.failures
                .push(format!("{}, {measurement:?}: {first_line}", kind.title()));
        }
    }
}

/// Four digits behind the point are more than any of this is exact to, and a file that people can read.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn entry(contender: &Contender) -> Entry {
    Entry {
        kind: contender.kind,
        version: contender.version.clone(),
        mtu_bytes: contender.mtu_bytes,
        absent: None,
    }
}

fn absent(kind: Kind, error: &anyhow::Error) -> Entry {
    let why = format!("{error:#}").lines().next().unwrap_or_default().to_owned();
    Entry {
        kind,
        version: String::new(),
        mtu_bytes: 0,
        absent: Some(why),
    }
}
