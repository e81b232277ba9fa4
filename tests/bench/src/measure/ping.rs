//! Latency with ping(8), whose receive times are the kernel's: it does not measure how late it was woken itself.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ringfence_lab::Host;

use super::iperf::{self, Way};
use crate::contender::Contender;
use crate::metric::Metric;
use crate::summary::percentile;

/// While nothing else happens.
pub(super) fn idle(contender: &Contender, lasting: Duration) -> Result<Vec<(Metric, f64)>> {
    let micros = ping(contender, lasting)?;
    summed_up(&micros, [Metric::IdleP50, Metric::IdleP99, Metric::IdleP999])
}

/// While one TCP stream runs the same way.
pub(super) fn loaded(contender: &Contender, lasting: Duration) -> Result<Vec<(Metric, f64)>> {
    let _server = iperf::serve(contender)?;
    let micros = thread::scope(|scope| {
        let stream = scope.spawn(|| iperf::client(contender, 1, Way::Forward, lasting));
        thread::sleep(RAMP_UP);
        // Ends before the stream does, so that no ping is answered in the calm after it.
        let micros = ping(contender, lasting.saturating_sub(2 * RAMP_UP))?;
        stream.join().ok().context("the stream's thread panicked")??;
        anyhow::Ok(micros)
    })?;
    summed_up(
        &micros,
        [Metric::LoadedP50, Metric::LoadedP99, Metric::LoadedP999],
    )
}

fn ping(contender: &Contender, lasting: Duration) -> Result<Vec<f64>> {
    round_trips_from(&contender.left.host, contender.right.address, lasting)
}

/// Round trips from `host` to `to`, in microseconds, one every two milliseconds.
///
/// # Errors
/// When more than one in ten is not answered.
pub(crate) fn round_trips_from(host: &Host, to: IpAddr, lasting: Duration) -> Result<Vec<f64>> {
    let count = (lasting.as_secs_f64() / INTERVAL_S).ceil();
    let ping = host.command("ping").args([
        "-n",
        "-i",
        &INTERVAL_S.to_string(),
        "-c",
        &count.to_string(),
        "-W",
        "1",
        &to.to_string(),
    ]);
    let output = ping.timeout(lasting + LATE).run()?;
    let micros = round_trips(&output.stdout);
    ensure!(
        micros.len() as f64 >= count * ANSWERED_MIN,
        "of {count} pings {} were answered",
        micros.len()
    );
    Ok(micros)
}

fn summed_up(micros: &[f64], metrics: [Metric; 3]) -> Result<Vec<(Metric, f64)>> {
    let shares = [0.5, 0.99, 0.999];
    metrics
        .into_iter()
        .zip(shares)
        .map(|(metric, share)| Ok((metric, percentile(micros, share).context("pings were answered")?)))
        .collect()
}

/// Microseconds of each answer.
fn round_trips(text: &str) -> Vec<f64> {
    let times = text.lines().filter_map(|line| {
        let (_, after) = line.split_once(" time=")?;
        let (millis, _) = after.split_once(" ms")?;
        millis.parse::<f64>().ok()
    });
    times.map(|millis| millis * 1000.0).collect()
}

const INTERVAL_S: f64 = 0.002;
const RAMP_UP: Duration = Duration::from_millis(250);
const LATE: Duration = Duration::from_secs(10);
/// With fewer answers the percentiles would describe the lucky ones.
const ANSWERED_MIN: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_read_and_nothing_else() {
        let text = "PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.\n\
                    64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.125 ms\n\
                    64 bytes from 10.0.0.2: icmp_seq=2 ttl=64 time=18.0 ms\n\n\
                    2 packets transmitted, 2 received, 0% packet loss, time 2ms\n";

        assert_eq!(round_trips(text), [125.0, 18_000.0]);
    }
}
