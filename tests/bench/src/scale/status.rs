//! What asking a node with very many peers takes, and what it does to the packets that it carries meanwhile.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ringfence_e2e::Node;
use serde::{Deserialize, Serialize};

use super::round;
use crate::measure::ping;
use crate::summary::percentile;

/// What it takes, and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusReading {
    /// Peers that the node listed.
    pub peers: u32,
    /// `ringfence status`, in milliseconds.
    pub text_ms: f64,
    /// The lines it printed.
    pub text_lines: u32,
    /// `ringfence status --json`, in milliseconds.
    pub json_ms: f64,
    /// The bytes it printed.
    pub json_bytes: u64,
    /// `wg show`, in milliseconds.
    pub wg_ms: f64,
    /// Pings through the node while nobody asks: the middle one, in microseconds.
    pub quiet_p50_us: f64,
    /// The one of a hundred that took longest.
    pub quiet_p99_us: f64,
    /// The same while its status is asked for ten times a second.
    pub asked_p50_us: f64,
    /// The one of a hundred that took longest.
    pub asked_p99_us: f64,
    /// Of all.
    pub asked_max_us: f64,
    /// Of all while nobody asked.
    pub quiet_max_us: f64,
}

/// Asks `node`, and pings `peer` through it.
pub(super) fn reading(node: &Node, peer: Ipv4Addr) -> Result<StatusReading> {
    let (text_ms, text) = timed(|| node.local(["status"])?.text())?;
    let (json_ms, json) = timed(|| node.local(["status", "--json"])?.text())?;
    let (wg_ms, wg) = timed(|| node.host().command("wg").arg("show").text())?;
    let peers = wg.lines().filter(|line| line.starts_with("peer: ")).count();
    let pinged = || ping::round_trips_from(node.host(), IpAddr::V4(peer), PINGED);
    // The first makes the session.
    pinged()?;
    let quiet = pinged()?;
    let done = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let asking = scope.spawn(|| ask_in_a_loop(&node.socket(), &done));
        let asked = pinged();
        done.store(true, Ordering::Relaxed);
        asking.join().ok().context("whoever asked panicked")??;
        asked
    })?;
    let of = |micros: &[f64], share| percentile(micros, share).context("pings were answered");
    Ok(StatusReading {
        peers: u32::try_from(peers)?,
        text_ms,
        text_lines: u32::try_from(text.lines().count())?,
        json_ms,
        json_bytes: json.len() as u64,
        wg_ms,
        quiet_p50_us: of(&quiet, 0.5)?,
        quiet_p99_us: of(&quiet, 0.99)?,
        asked_p50_us: of(&asked, 0.5)?,
        asked_p99_us: of(&asked, 0.99)?,
        asked_max_us: of(&asked, 1.0)?,
        quiet_max_us: of(&quiet, 1.0)?,
    })
}

/// Asks as `ringfence status` does, ten times a second.
fn ask_in_a_loop(socket: &Path, done: &AtomicBool) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        let began = Instant::now();
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(b"{\"request\":\"status\"}\n")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        ensure!(answer.ends_with("}\n"), "the answer is whole");
        thread::sleep(ASKED_EVERY.saturating_sub(began.elapsed()));
    }
    Ok(())
}

/// In milliseconds.
fn timed<T>(work: impl Fn() -> Result<T>) -> Result<(f64, T)> {
    let began = Instant::now();
    let result = work()?;
    Ok((round(began.elapsed().as_secs_f64() * 1e3), result))
}

const PINGED: Duration = Duration::from_secs(4);
const ASKED_EVERY: Duration = Duration::from_millis(100);
