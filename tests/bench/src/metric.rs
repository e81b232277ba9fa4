//! What is measured: its name, its unit, and which way is better.

use serde::{Deserialize, Serialize};

/// One row of the tables. The order is the order of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// One TCP stream, from left to right.
    TcpOneForward,
    /// One TCP stream, from right to left.
    TcpOneReverse,
    /// Eight TCP streams, from left to right.
    TcpEightForward,
    /// Eight TCP streams, from right to left.
    TcpEightReverse,
    /// CPU time of the tunnel program that sends, for each 10^9 bytes of one TCP stream.
    CpuSender,
    /// The same of the one that receives.
    CpuReceiver,
    /// Both together.
    CpuBoth,
    /// All CPU time of the machine for each 10^9 bytes: kernel, tunnels and iperf3.
    CpuMachine,
    /// UDP datagrams that fill the tunnel's MTU, sent as fast as possible: payload that arrives.
    UdpFull,
    /// UDP datagrams of 64 bytes, sent as fast as possible: how many arrive.
    UdpSmall,
    /// Round trips over one TCP connection.
    RoundTripRate,
    /// The slowest of 100 of those.
    RoundTripP99,
    /// Ping while nothing else happens.
    IdleP50,
    /// Ping while nothing else happens.
    IdleP99,
    /// Ping while nothing else happens.
    IdleP999,
    /// Ping while one TCP stream runs the same way.
    LoadedP50,
    /// Ping while one TCP stream runs the same way.
    LoadedP99,
    /// Ping while one TCP stream runs the same way.
    LoadedP999,
    /// Resident memory of one tunnel program after the load, the larger of the two ends.
    Memory,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 10^9 bits of payload a second.
    GigabitsPerSecond,
    /// Seconds of CPU time for 10^9 bytes of payload.
    CpuSecondsPerGigabyte,
    /// Datagrams or round trips a second.
    PerSecond,
    /// Microseconds.
    Microseconds,
    /// 2^20 bytes.
    Mebibytes,
}

/// Which way a figure gets better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    More,
    /// Less is better.
    Less,
}

impl Metric {
    /// All of them, in the order of the page.
    pub const ALL: [Self; 19] = [
        Self::TcpOneForward,
        Self::TcpOneReverse,
        Self::TcpEightForward,
        Self::TcpEightReverse,
        Self::CpuSender,
        Self::CpuReceiver,
        Self::CpuBoth,
        Self::CpuMachine,
        Self::UdpFull,
        Self::UdpSmall,
        Self::RoundTripRate,
        Self::RoundTripP99,
        Self::IdleP50,
        Self::IdleP99,
        Self::IdleP999,
        Self::LoadedP50,
        Self::LoadedP99,
        Self::LoadedP999,
        Self::Memory,
    ];

    /// Its name on the page.
    pub fn title(self) -> &'static str {
        match self {
            Self::TcpOneForward => "TCP, 1 stream, →",
            Self::TcpOneReverse => "TCP, 1 stream, ←",
            Self::TcpEightForward => "TCP, 8 streams, →",
            Self::TcpEightReverse => "TCP, 8 streams, ←",
            Self::CpuSender => "CPU of the sending tunnel program",
            Self::CpuReceiver => "CPU of the receiving tunnel program",
            Self::CpuBoth => "CPU of both tunnel programs",
            Self::CpuMachine => "CPU of the whole machine",
            Self::UdpFull => "UDP, full-size, received",
            Self::UdpSmall => "UDP, 64 bytes, received",
            Self::RoundTripRate => "round trips over one TCP connection",
            Self::RoundTripP99 => "round trip, p99",
            Self::IdleP50 => "ping, idle, p50",
            Self::IdleP99 => "ping, idle, p99",
            Self::IdleP999 => "ping, idle, p99.9",
            Self::LoadedP50 => "ping under a TCP stream, p50",
            Self::LoadedP99 => "ping under a TCP stream, p99",
            Self::LoadedP999 => "ping under a TCP stream, p99.9",
            Self::Memory => "resident memory of one end",
        }
    }

    /// What it counts.
    pub fn unit(self) -> Unit {
        match self {
            Self::TcpOneForward
            | Self::TcpOneReverse
            | Self::TcpEightForward
            | Self::TcpEightReverse
            | Self::UdpFull => Unit::GigabitsPerSecond,
            Self::CpuSender | Self::CpuReceiver | Self::CpuBoth | Self::CpuMachine => {
                Unit::CpuSecondsPerGigabyte
            }
            Self::UdpSmall | Self::RoundTripRate => Unit::PerSecond,
            Self::RoundTripP99
            | Self::IdleP50
            | Self::IdleP99
            | Self::IdleP999
            | Self::LoadedP50
            | Self::LoadedP99
            | Self::LoadedP999 => Unit::Microseconds,
            Self::Memory => Unit::Mebibytes,
        }
    }

    /// Which way it gets better.
    pub fn better(self) -> Better {
        match self.unit() {
            Unit::GigabitsPerSecond | Unit::PerSecond => Better::More,
            Unit::CpuSecondsPerGigabyte | Unit::Microseconds | Unit::Mebibytes => Better::Less,
        }
    }
}

impl Unit {
    /// As it stands behind a figure.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::GigabitsPerSecond => "Gbit/s",
            Self::CpuSecondsPerGigabyte => "CPU-s/GB",
            Self::PerSecond => "/s",
            Self::Microseconds => "µs",
            Self::Mebibytes => "MiB",
        }
    }

    /// A figure, no more exact than it can be.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::GigabitsPerSecond | Self::CpuSecondsPerGigabyte => format!("{value:.2}"),
            Self::PerSecond => thousands(value),
            Self::Microseconds if value >= 1000.0 => thousands(value),
            Self::Microseconds => format!("{value:.0}"),
            Self::Mebibytes => format!("{value:.1}"),
        }
    }
}

impl Better {
    /// The better of two figures.
    pub fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Self::More => a.max(b),
            Self::Less => a.min(b),
        }
    }
}

/// `12,345`.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(Unit::PerSecond.show(263_412.4), "263,412");
        assert_eq!(Unit::PerSecond.show(12.0), "12");
        assert_eq!(Unit::Microseconds.show(18_004.0), "18,004");
        assert_eq!(Unit::GigabitsPerSecond.show(5.604), "5.60");
    }

    #[test]
    fn every_metric_is_listed_once_and_in_order() {
        assert!(Metric::ALL.is_sorted());
        assert_eq!(Metric::ALL[0], Metric::TcpOneForward);
        assert_eq!(Metric::ALL[Metric::ALL.len() - 1], Metric::Memory);
    }
}
