//! Runs the comparison, or writes its page from a stored run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use ringfence_bench::rough::{self, Fault};
use ringfence_bench::{
    Kind, Measurement, Plan, Run, Seconds, aead, carry_out, chart, filter, full, page, revoke, scale,
};

/// Measures Ringfence side by side with other tunnels, in network namespaces of its own. Needs root.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Arguments {
    /// How often each measurement is taken.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long iperf3 runs each time; the other loads last half as long.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Two rounds of one second: a first look.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Who takes part, by name: ringfence,boringtun,veth.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// What is measured, by name: tcp,round-trip,ping. For a first look, in a folder of its own (--out): the cost of
    /// many rules and a network with faults are left out too.
    #[arg(long, value_delimiter = ',', requires = "out", conflicts_with_all = ["page", "full"])]
    measure: Vec<String>,
    /// A node built without its cipher, as one more contender.
    #[arg(long, value_name = "PATH")]
    null_node: Option<PathBuf>,
    /// What the page tells the reader besides.
    #[arg(long, default_value = "")]
    note: String,
    /// The folder that performance.json, .md and .svg are written to.
    #[arg(long, default_value = "docs")]
    out: PathBuf,
    /// Write page and picture again from the performance.json that is there, without measuring.
    #[arg(long)]
    page: bool,
    /// Measure again, into that file, only what very many rules and flows cost.
    #[arg(long, conflicts_with = "page")]
    full: bool,
    /// Measure again, into that file, only what very many peers and perimeters cost an idle node.
    #[arg(long, conflicts_with_all = ["page", "full", "measure"])]
    scale: bool,
    /// Measure again, into that file, only how long access that is taken away lives on.
    #[arg(long, conflicts_with_all = ["page", "full", "scale", "measure"])]
    revoke: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let stored = arguments.out.join("performance.json");
    let run = if arguments.page || arguments.full || arguments.scale || arguments.revoke {
        let text = fs::read_to_string(&stored).with_context(|| stored.display().to_string())?;
        let mut run: Run = serde_json::from_str(&text)?;
        if arguments.full {
            measure_full(&mut run, arguments.rounds, arguments.seconds)?;
            store(&run, &stored)?;
        }
        if arguments.scale {
            measure_scale(&mut run)?;
            store(&run, &stored)?;
        }
        if arguments.revoke {
            measure_revocations(&mut run)?;
            store(&run, &stored)?;
        }
        run
    } else {
        let mut run = carry_out(&plan(&arguments)?, say)?;
        if arguments.measure.is_empty() {
            measure_rest(&mut run)?;
        }
        fs::create_dir_all(&arguments.out)?;
        store(&run, &stored)?;
        run
    };
    write_page(&run, &arguments.out)?;
    say(&format!("written to {}", arguments.out.display()));
    Ok(())
}

/// What is not a matter of contenders.
fn measure_rest(run: &mut Run) -> Result<()> {
    say("the ciphers by themselves");
    run.aead = aead::speeds()?;
    say("the filter by itself");
    run.filter = filter::speeds();
    let (rounds, seconds) = (run.rounds, run.seconds);
    // What was measured before is not lost because of what cannot be.
    if let Err(error) = measure_full(run, rounds, seconds) {
        run.failures.push(format!("{FULL}: {error}"));
    }
    if let Err(error) = measure_scale(run) {
        run.failures.push(format!("{SCALE}: {error}"));
    }
    if let Err(error) = measure_revocations(run) {
        run.failures.push(format!("{REVOKE}: {error}"));
    }
    say("TCP over a network with faults");
    match rough::readings(&Fault::ALL, run.rounds, Seconds { iperf: run.seconds }) {
        Ok(readings) => run.rough = readings,
        Err(error) => run
            .failures
            .push(format!("TCP over a network with faults: {error}")),
    }
    Ok(())
}

fn measure_full(run: &mut Run, rounds: u32, seconds: u32) -> Result<()> {
    say(&format!("{FULL} against one of each"));
    run.full = full::readings(rounds, Seconds { iperf: seconds })?;
    run.failures.retain(|failure| !failure.starts_with(FULL));
    Ok(())
}

fn measure_scale(run: &mut Run) -> Result<()> {
    say(SCALE);
    run.scale = scale::readings(&PEERS, &PERIMETERS, say)?;
    run.failures.retain(|failure| !failure.starts_with(SCALE));
    Ok(())
}

fn measure_revocations(run: &mut Run) -> Result<()> {
    say(REVOKE);
    run.revocations = revoke::readings(CONNECTED, REVOKED_TIMES, say)?;
    run.failures.retain(|failure| !failure.starts_with(REVOKE));
    Ok(())
}

fn store(run: &Run, path: &Path) -> Result<()> {
    fs::write(path, serde_json::to_string_pretty(run)? + "\n")?;
    Ok(())
}

fn plan(arguments: &Arguments) -> Result<Plan> {
    let (rounds, iperf) = if arguments.quick {
        (2, 1)
    } else {
        (arguments.rounds, arguments.seconds)
    };
    // It is started from other folders than this one.
    let null_node = arguments.null_node.as_ref().map(|path| {
        let absolute = path.canonicalize();
        absolute.with_context(|| path.display().to_string())
    });
    Ok(Plan {
        kinds: kinds(arguments)?,
        measurements: measurements(&arguments.measure)?,
        rounds,
        seconds: Seconds { iperf },
        null_node: null_node.transpose()?,
        note: arguments.note.clone(),
    })
}

fn measurements(names: &[String]) -> Result<Vec<Measurement>> {
    let mut measurements = Measurement::ALL.to_vec();
    for name in names {
        let known = || Measurement::ALL.map(Measurement::name).join(", ");
        let found = measurements.iter().any(|measurement| measurement.name() == name);
        anyhow::ensure!(found, "{name} is none of {}", known());
    }
    if !names.is_empty() {
        measurements.retain(|measurement| names.iter().any(|name| name == measurement.name()));
    }
    Ok(measurements)
}

fn kinds(arguments: &Arguments) -> Result<Vec<Kind>> {
    let mut kinds = Kind::ALL.to_vec();
    if arguments.null_node.is_none() {
        kinds.retain(|kind| *kind != Kind::RingfenceNull);
    }
    for name in &arguments.only {
        let known = || Kind::ALL.map(Kind::name).join(", ");
        let found = kinds.iter().any(|kind| kind.name() == name);
        anyhow::ensure!(found, "{name} is none of {}", known());
    }
    if !arguments.only.is_empty() {
        kinds.retain(|kind| arguments.only.iter().any(|name| name == kind.name()));
    }
    Ok(kinds)
}

fn write_page(run: &Run, folder: &Path) -> Result<()> {
    fs::write(folder.join("performance.md"), page::page(run))?;
    fs::write(folder.join("performance.svg"), chart::chart(run))?;
    Ok(())
}

#[expect(clippy::print_stderr, reason = "progress is for the person who waits")]
fn say(what: &str) {
    eprintln!("bench: {what}");
}

const FULL: &str = "very many rules and flows";
const REVOKE: &str = "access taken away";
/// Nodes that are connected meanwhile.
const CONNECTED: u32 = 50;
const REVOKED_TIMES: u32 = 100;
const SCALE: &str = "very many peers and perimeters";
/// Peers of a node that are measured: one, and as many as the goals speak of.
const PEERS: [u32; 3] = [1, 1_000, 10_000];
/// Perimeters of a node: one, and as many as it can be in.
const PERIMETERS: [u32; 2] = [1, 64];
