//! What the data plane set out to reach against the others, and whether this run shows it.

use crate::aead::PACKET_BYTES;
use crate::contender::Kind;
use crate::full::FullReading;
use crate::metric::{Better, Metric, Unit};
use crate::revoke::{Summary, summaries};
use crate::rough::Fault;
use crate::run::Run;

/// One thing to reach.
pub(crate) struct Goal {
    /// In words.
    pub(crate) what: String,
    /// What was measured, ours first.
    pub(crate) measured: String,
    /// Ours divided by theirs.
    pub(crate) ratio: f64,
    /// What that ratio should be at least, or at most.
    pub(crate) bound: f64,
    /// Which of the two.
    pub(crate) better: Better,
}

impl Goal {
    /// Whether it is reached.
    pub(crate) fn is_met(&self) -> bool {
        match self.better {
            Better::More => self.ratio >= self.bound,
            Better::Less => self.ratio <= self.bound,
        }
    }
}

/// All that this run can tell: those whose contenders took part.
pub(crate) fn goals(run: &Run) -> Vec<Goal> {
    use Metric::{CpuBoth, IdleP50, LoadedP99, UdpSmall};

    let wireguard = |kind: Kind| kind.is_wireguard_peer();
    let chacha = |kind| kind == Kind::NebulaChacha;
    let peer = |kind: Kind| kind.is_peer();
    let boringtun = |kind| kind == Kind::Boringtun;
    let mut goals = Vec::new();
    for metric in TCP {
        let what = format!("{}: at least 3 × the best userspace WireGuard", metric.title());
        goals.push(against(run, &what, metric, 3.0, wireguard));
        let what = format!("{}: ahead of nebula on the same cipher", metric.title());
        goals.push(against(run, &what, metric, 1.0, chacha));
    }
    let rest = [
        (
            "CPU time of a gigabyte: at most 0.4 × the best userspace WireGuard",
            CpuBoth,
            0.4,
        ),
        (
            "64-byte datagrams: at least 2 × the best userspace WireGuard",
            UdpSmall,
            2.0,
        ),
    ];
    for (what, metric, bound) in rest {
        goals.push(against(run, what, metric, bound, wireguard));
    }
    goals.push(against(
        run,
        "64-byte datagrams: ahead of everybody",
        UdpSmall,
        1.0,
        peer,
    ));
    goals.push(against(
        run,
        "idle ping p50: no worse than the best of all",
        IdleP50,
        1.0,
        peer,
    ));
    let what = "ping p99 under a TCP stream: no worse than boringtun's";
    goals.push(against(run, what, LoadedP99, 1.0, boringtun));
    goals.push(without_cipher(run));
    goals.push(filter_full(run));
    goals.push(full(run, "TCP, 1 stream, →", |reading| reading.gigabits));
    goals.push(full(run, "64-byte datagrams", |reading| reading.datagrams));
    goals.extend(Fault::ALL.map(|fault| under(run, fault)));
    goals.extend(
        summaries(&run.revocations)
            .iter()
            .map(|summary| Some(revoked(summary))),
    );
    goals.into_iter().flatten().collect()
}

fn against(run: &Run, what: &str, metric: Metric, bound: f64, fits: impl Fn(Kind) -> bool) -> Option<Goal> {
    let ours = run.spread(Kind::Ringfence, metric)?.median;
    let (best, theirs) = run.best(metric, fits)?;
    Some(Goal {
        what: what.to_owned(),
        measured: measured(
            metric.unit(),
            ours,
            &format!("{} of {}", metric.unit().show(theirs), best.title()),
        ),
        ratio: ours / theirs,
        bound,
        better: metric.better(),
    })
}

fn without_cipher(run: &Run) -> Option<Goal> {
    let metric = Metric::TcpOneForward;
    let without = run.spread(Kind::RingfenceNull, metric)?.median;
    let with = run.spread(Kind::Ringfence, metric)?.median;
    Some(Goal {
        what: "TCP, 1 stream, →, without the cipher: at least 2.5 × that with it".to_owned(),
        measured: measured(metric.unit(), without, &metric.unit().show(with)),
        ratio: without / with,
        bound: 2.5,
        better: metric.better(),
    })
}

fn measured(unit: Unit, ours: f64, theirs: &str) -> String {
    format!("{} against {theirs}, {}", unit.show(ours), unit.symbol())
}

/// What a full filter adds to the time that a packet takes on its way, at the throughput that was measured.
fn filter_full(run: &Run) -> Option<Goal> {
    let [empty, full] = run.filter.as_slice() else {
        return None;
    };
    let gigabits = run.spread(Kind::Ringfence, Metric::TcpOneForward)?.median;
    let packet_ns = PACKET_BYTES as f64 * 8.0 / gigabits;
    // Judged at both ends, on one CPU each at worst, so the slower end sets the pace.
    let added_ns = full.judge_ns - empty.judge_ns;
    Some(Goal {
        what: format!(
            "{} rules and {} flows: at most 1.05 × the time of a full-size packet with 1 and 1",
            full.rules, full.flows
        ),
        measured: format!("{added_ns:.0} ns more in {packet_ns:.0} ns, if each packet is judged by itself"),
        ratio: 1.0 + added_ns / packet_ns,
        bound: 1.05,
        better: Better::Less,
    })
}

/// What very many rules and live flows leave of the throughput, from one end to the other.
fn full(run: &Run, load: &str, of: fn(&FullReading) -> f64) -> Option<Goal> {
    let (one, full) = (
        run.full_spread(of, false)?.median,
        run.full_spread(of, true)?.median,
    );
    let most = run.full.iter().max_by_key(|reading| reading.rules)?;
    Some(Goal {
        what: format!(
            "{load}, with {} rules and {} live flows: at least 0.95 × with 1 and 1",
            most.rules, most.flows
        ),
        measured: format!("{full:.2} against {one:.2}"),
        ratio: full / one,
        bound: 0.95,
        better: Better::More,
    })
}

/// What a fault of the network leaves of the throughput, beside what it leaves to plain TCP.
fn under(run: &Run, fault: Fault) -> Option<Goal> {
    if fault == Fault::None {
        return None;
    }
    let ours = run.rough_share(Kind::Ringfence, fault)?;
    let plain = run.rough_share(Kind::Veth, fault)?;
    Some(Goal {
        what: format!(
            "a network with {}: leaves at least 0.9 × what it leaves to plain TCP",
            fault.title()
        ),
        measured: format!("{:.0} % against {:.0} %", ours * 100.0, plain * 100.0),
        ratio: ours / plain,
        // Packets in the tunnel are 0.94 × as long, and TCP that loses some is as much slower.
        bound: 0.9,
        better: Better::More,
    })
}

/// How soon access that is used ends once it is taken away.
fn revoked(summary: &Summary) -> Goal {
    let [_, p99, _] = summary.cut_ms;
    Goal {
        what: format!(
            "{} while {} nodes are connected: the connection is cut within {CUT_MS:.0} ms (p99 of {})",
            summary.way, summary.connected, summary.count
        ),
        measured: format!("{p99:.0} ms"),
        ratio: p99 / CUT_MS,
        bound: 1.0,
        better: Better::Less,
    }
}

/// A blink of an eye.
const CUT_MS: f64 = 250.0;

const TCP: [Metric; 4] = [
    Metric::TcpOneForward,
    Metric::TcpOneReverse,
    Metric::TcpEightForward,
    Metric::TcpEightReverse,
];
