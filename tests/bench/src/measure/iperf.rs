//! TCP throughput with iperf3, and what it costs.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ringfence_lab::{Program, Running};
use serde_json::Value;

use super::IPERF_PORT;
use crate::contender::Contender;
use crate::counters::CpuTime;
use crate::metric::Metric;

/// Which way the data goes; the left end connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Forward,
    Reverse,
}

/// Gigabits a second that arrived of streams that want no more than `megabits_max` each and take every loss for
/// congestion, as most of the Internet's do (CUBIC, RFC 9438), whatever this machine has chosen.
pub(crate) fn run_bounded(
    contender: &Contender,
    streams: u32,
    megabits_max: u32,
    lasting: Duration,
) -> Result<f64> {
    let _server = serve(contender)?;
    let bound = format!("{megabits_max}M");
    let client = command(contender, streams, lasting).args(["--congestion", "cubic", "--bitrate", &bound]);
    Ok(read(&report(client, lasting)?)?.gigabits_per_second)
}

/// Gigabits a second that arrived.
pub(crate) fn run(contender: &Contender, streams: u32, way: Way, lasting: Duration) -> Result<f64> {
    let _server = serve(contender)?;
    let report = client(contender, streams, way, lasting)?;
    Ok(read(&report)?.gigabits_per_second)
}

/// The same with one stream, left to right, and the CPU time it took.
pub(super) fn run_counting_cpu(
    contender: &Contender,
    lasting: Duration,
) -> Result<(f64, Vec<(Metric, f64)>)> {
    let _server = serve(contender)?;
    let (left, right) = (contender.left.pid, contender.right.pid);
    let before = CpuTime::now(left, right)?;
    let report = client(contender, 1, Way::Forward, lasting)?;
    let used = CpuTime::now(left, right)?.since(before);
    let received = read(&report)?;
    let gigabytes = received.bytes / 1e9;
    let mut costs = vec![(Metric::CpuMachine, used.machine / gigabytes)];
    if left.is_some() && right.is_some() {
        costs.extend([
            (Metric::CpuSender, used.left / gigabytes),
            (Metric::CpuReceiver, used.right / gigabytes),
            (Metric::CpuBoth, (used.left + used.right) / gigabytes),
        ]);
    }
    Ok((received.gigabits_per_second, costs))
}

/// iperf3's server on the right, listening.
pub(super) fn serve(contender: &Contender) -> Result<Running> {
    let server = contender
        .right
        .host
        .command("iperf3")
        .args(["--server", "--one-off", "--forceflush"]);
    let port = IPERF_PORT.to_string();
    let server = server.args(["--port", &port, "--bind", &contender.right.address.to_string()]);
    let listened = "Server listening";
    // The log is added to from run to run: what an earlier server said does not count.
    let _ = std::fs::remove_file(contender.right.host.dir().join("iperf3.log"));
    let running = server.spawn("iperf3")?;
    running.wait_for_log(listened, START_WAIT)?;
    Ok(running)
}

/// iperf3's client on the left, to its end.
pub(super) fn client(contender: &Contender, streams: u32, way: Way, lasting: Duration) -> Result<Value> {
    let mut client = command(contender, streams, lasting);
    if way == Way::Reverse {
        client = client.arg("--reverse");
    }
    report(client, lasting)
}

fn command(contender: &Contender, streams: u32, lasting: Duration) -> Program {
    contender.left.host.command("iperf3").args([
        "--json",
        "--client",
        &contender.right.address.to_string(),
        "--port",
        &IPERF_PORT.to_string(),
        "--time",
        &lasting.as_secs().to_string(),
        "--parallel",
        &streams.to_string(),
        "--connect-timeout",
        "3000",
    ])
}

fn report(client: Program, lasting: Duration) -> Result<Value> {
    let output = client.timeout(lasting + END_WAIT).run()?;
    let report: Value = serde_json::from_str(&output.stdout)
        .with_context(|| format!("iperf3 printed no JSON: {}", output.all()))?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3: {error}");
    }
    Ok(report)
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Received {
    bytes: f64,
    gigabits_per_second: f64,
}

/// What arrived, not what was sent: the rest may still have been in buffers.
fn read(report: &Value) -> Result<Received> {
    let sum = &report["end"]["sum_received"];
    let number = |key: &str| sum[key].as_f64().with_context(|| format!("iperf3 gives {key}"));
    let received = Received {
        bytes: number("bytes")?,
        gigabits_per_second: number("bits_per_second")? / 1e9,
    };
    if received.bytes <= 0.0 {
        bail!("nothing arrived");
    }
    Ok(received)
}

const START_WAIT: Duration = Duration::from_secs(5);
const END_WAIT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_counts_and_not_what_was_sent() {
        let report = serde_json::json!({"end": {
            "sum_sent": {"bytes": 9_999_999_999_u64, "bits_per_second": 9.9e9},
            "sum_received": {"bytes": 1_250_000_000_u64, "bits_per_second": 5.0e9},
        }});

        let received = read(&report).unwrap();

        assert_eq!(received.bytes, 1.25e9);
        assert_eq!(received.gigabits_per_second, 5.0);
    }

    #[test]
    fn a_stream_that_carried_nothing_is_no_reading() {
        let report = serde_json::json!({"end": {"sum_received": {"bytes": 0, "bits_per_second": 0.0}}});

        assert!(read(&report).is_err());
        assert!(read(&serde_json::json!({})).is_err());
    }
}
