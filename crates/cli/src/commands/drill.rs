//! `ringfence drill`: what taking access away takes, measured on the live network.

use std::fmt::Write as _;

use ringfence_control::api::{RevokeDrillReport, RevokeDrillRequest};
use ringfence_model::nearest_rank;
use serde::Serialize;

use crate::args::{DrillCommand, RevokeDrillArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Output, table};

/// What all rounds add up to.
#[derive(Serialize)]
struct Drills {
    /// Half took no longer (nearest rank).
    p50_ms: u64,
    /// 99 of 100 took no longer (nearest rank).
    p99_ms: u64,
    max_ms: u64,
    rounds: Vec<RevokeDrillReport>,
}

pub(super) fn run(command: DrillCommand, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let DrillCommand::Revoke(args) = command;
    let request = RevokeDrillRequest {
        perimeter: args.perimeter.clone(),
        from: args.from.clone(),
        to: args.to.clone(),
    };
    let mut rounds: Vec<RevokeDrillReport> = Vec::new();
    for round in 1..=args.rounds {
        let report: RevokeDrillReport = client.post("/drills/revoke", &request)?;
        output.note(&format!(
            "{round} of {}: udp/{} from {} to {}, taken away by revision {}: {} ms",
            args.rounds, report.port, report.from, report.to, report.revision, report.took_ms
        ));
        rounds.push(report);
    }
    let drills = Drills::of(rounds);
    output.answer(&drills, text);
    verdict(&args, &drills)
}

fn verdict(args: &RevokeDrillArgs, drills: &Drills) -> Result<(), Failure> {
    let Some(within) = args.within else {
        return Ok(());
    };
    let allowed = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    if drills.max_ms <= allowed {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format_args!("one took {} ms, which is more than {allowed} ms", drills.max_ms),
    ))
}

impl Drills {
    fn of(rounds: Vec<RevokeDrillReport>) -> Self {
        let mut took: Vec<u64> = rounds.iter().map(|round| round.took_ms).collect();
        took.sort_unstable();
        let rank = |percent| nearest_rank(&took, percent).unwrap_or(0);
        Self {
            p50_ms: rank(50),
            p99_ms: rank(99),
            max_ms: rank(100),
            rounds,
        }
    }
}

fn text(drills: &Drills) -> String {
    let rows = drills.rounds.iter().map(|round| {
        [
            round.from.to_string(),
            round.to.to_string(),
            format!("udp/{}", round.port),
            round.revision.to_string(),
            format!("{} ms", round.silent_ms),
            format!("{} ms", round.enforced_ms),
        ]
    });
    let mut text = table(
        [
            "FROM",
            "TO",
            "PORT",
            "REVISION",
            "FLOW DEAD AFTER",
            "BOTH ENFORCE AFTER",
        ],
        rows,
    );
    let _ = write!(
        text,
        "\n\n{} revocation(s): p50 {} ms, p99 {} ms, max {} ms; nothing of them is left",
        drills.rounds.len(),
        drills.p50_ms,
        drills.p99_ms,
        drills.max_ms
    );
    text
}
