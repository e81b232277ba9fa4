//! The measurements: each puts one kind of load on one tunnel and gives its readings.

pub(crate) mod iperf;
pub(crate) mod ping;
mod roundtrip;
pub(crate) mod udp;

use std::time::Duration;

use anyhow::Result;

use crate::contender::Contender;
use crate::counters::resident_mib;
use crate::metric::Metric;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measurement {
    /// iperf3, one stream, left to right, with CPU time.
    TcpOneForward,
    /// iperf3, one stream, right to left.
    TcpOneReverse,
    /// iperf3, eight streams, left to right.
    TcpEightForward,
    /// iperf3, eight streams, right to left.
    TcpEightReverse,
    /// Datagrams that fill the MTU.
    UdpFull,
    /// Datagrams of 64 bytes.
    UdpSmall,
    /// One byte there and back, over and over.
    RoundTrip,
    /// ping(8) alone.
    PingIdle,
    /// ping(8) beside iperf3.
    PingLoaded,
    /// What the programs hold after all of the above.
    Memory,
}

/// How long loads last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds {
    /// Each run of iperf3, which takes whole seconds.
    pub iperf: u32,
}

impl Measurement {
    /// All of them, in the order they are taken.
    pub const ALL: [Self; 10] = [
        Self::TcpOneForward,
        Self::TcpOneReverse,
        Self::TcpEightForward,
        Self::TcpEightReverse,
        Self::UdpFull,
        Self::UdpSmall,
        Self::RoundTrip,
        Self::PingIdle,
        Self::PingLoaded,
        Self::Memory,
    ];

    /// What the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TcpOneForward => "tcp",
            Self::TcpOneReverse => "tcp-reverse",
            Self::TcpEightForward => "tcp-8",
            Self::TcpEightReverse => "tcp-8-reverse",
            Self::UdpFull => "udp",
            Self::UdpSmall => "udp-small",
            Self::RoundTrip => "round-trip",
            Self::PingIdle => "ping",
            Self::PingLoaded => "ping-loaded",
            Self::Memory => "memory",
        }
    }
}

impl Seconds {
    pub(crate) fn tcp(self) -> Duration {
        Duration::from_secs(self.iperf.into())
    }

    /// The other loads settle at once and need no more than half of that.
    pub(crate) fn other(self) -> Duration {
        (self.tcp() / 2).max(Duration::from_secs(1))
    }
}

/// Takes one measurement.
///
/// # Errors
/// When the tunnel does not carry the load, or a program to measure with is not there.
pub fn measure(
    contender: &Contender,
    measurement: Measurement,
    seconds: Seconds,
) -> Result<Vec<(Metric, f64)>> {
    use iperf::Way::{Forward, Reverse};

    match measurement {
        Measurement::TcpOneForward => {
            let (gigabits, cpu) = iperf::run_counting_cpu(contender, seconds.tcp())?;
            let mut readings = vec![(Metric::TcpOneForward, gigabits)];
            readings.extend(cpu);
            Ok(readings)
        }
        Measurement::TcpOneReverse => {
            let gigabits = iperf::run(contender, 1, Reverse, seconds.tcp())?;
            Ok(vec![(Metric::TcpOneReverse, gigabits)])
        }
        Measurement::TcpEightForward => {
            let gigabits = iperf::run(contender, 8, Forward, seconds.tcp())?;
            Ok(vec![(Metric::TcpEightForward, gigabits)])
        }
        Measurement::TcpEightReverse => {
            let gigabits = iperf::run(contender, 8, Reverse, seconds.tcp())?;
            Ok(vec![(Metric::TcpEightReverse, gigabits)])
        }
        Measurement::UdpFull => {
            let payload = usize::from(contender.mtu_bytes) - UDP_HEADERS_BYTES;
            let rate = udp::flood(contender, payload, seconds.other())?;
            Ok(vec![(Metric::UdpFull, rate * payload as f64 * 8.0 / 1e9)])
        }
        Measurement::UdpSmall => {
            let rate = udp::flood(contender, 64, seconds.other())?;
            Ok(vec![(Metric::UdpSmall, rate)])
        }
        Measurement::RoundTrip => roundtrip::run(contender, seconds.other()),
        Measurement::PingIdle => ping::idle(contender, seconds.other()),
        Measurement::PingLoaded => ping::loaded(contender, seconds.tcp()),
        Measurement::Memory => {
            let pids = [contender.left.pid, contender.right.pid];
            let mut largest = None::<f64>;
            for pid in pids.into_iter().flatten() {
                let mib = resident_mib(pid)?;
                largest = Some(largest.map_or(mib, |largest| largest.max(mib)));
            }
            Ok(largest.map(|mib| (Metric::Memory, mib)).into_iter().collect())
        }
    }
}

/// iperf3's own.
pub(crate) const IPERF_PORT: u16 = 5201;
/// Where datagrams are counted.
pub(crate) const UDP_PORT: u16 = 5202;
/// Where bytes come back.
pub(crate) const ECHO_PORT: u16 = 5203;
/// IPv4 and UDP.
const UDP_HEADERS_BYTES: usize = 20 + 8;
