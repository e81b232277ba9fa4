//! `docs/performance.md`, written from a run.

use std::fmt::Write as _;

use crate::aead::{AeadSpeed, PACKET_BYTES};
use crate::contender::Kind;
use crate::filter::FilterSpeed;
use crate::goals::goals;
use crate::metric::{Better, Metric};
use crate::rough::{Fault, ROUND_TRIP_MS, STREAM_MEGABITS_MAX, STREAMS};
use crate::run::{Entry, Run};

mod revoke;
mod scale;

/// The whole page.
pub fn page(run: &Run) -> String {
    let mut text = String::new();
    text.push_str(HEAD);
    if !run.note.is_empty() {
        let _ = writeln!(text, "> {}\n", run.note);
    }
    if run.machine.load_before > LOAD_MAX {
        text.push_str(BUSY);
    }
    text.push_str(
        "![Bars of the most telling rows; the tables below have every figure](performance.svg)\n\n",
    );
    push_goals(&mut text, run);
    push_machine(&mut text, run);
    push_entries(&mut text, run);
    push_figures(&mut text, run);
    push_aead(&mut text, &run.aead);
    push_filter(&mut text, &run.filter);
    push_full(&mut text, run);
    scale::push(&mut text, &run.scale);
    revoke::push(&mut text, &run.revocations);
    push_rough(&mut text, run);
    text.push_str(METHOD);
    push_failures(&mut text, run);
    text
}

fn push_goals(text: &mut String, run: &Run) {
    let goals = goals(run);
    if goals.is_empty() {
        return;
    }
    text.push_str(
        "## What it set out to reach\n\n| goal | measured | ratio | |\n| --- | --- | ---: | --- |\n",
    );
    for goal in goals {
        let verdict = if goal.is_met() { "met" } else { "**not met**" };
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {verdict} |",
            goal.what, goal.measured, goal.ratio
        );
    }
    text.push('\n');
}

fn push_machine(text: &mut String, run: &Run) {
    let machine = &run.machine;
    let _ = writeln!(
        text,
        "## Machine\n\n{} CPUs ({}; {}), {} MiB, Linux {}, {}. Both ends and whatever makes the load share it: read \
         the ratios, not the absolute figures. Load in the minute before: {:.2}. Begun {}, {} rounds, iperf3 for {} s \
         each time, {} min in all.\n",
        machine.cpus,
        machine.cpu,
        machine.features.join(", "),
        machine.memory_mib,
        machine.kernel,
        machine.system,
        machine.load_before,
        run.began,
        run.rounds,
        run.seconds,
        run.took_s.div_ceil(60),
    );
}

fn push_entries(text: &mut String, run: &Run) {
    text.push_str("## Who took part\n\n| | version | cipher | MTU inside |\n| --- | --- | --- | ---: |\n");
    for entry in &run.entries {
        let title = entry.kind.title();
        let _ = match &entry.absent {
            Some(why) => writeln!(text, "| {title} | did not take part: {} | | |", escaped(why)),
            None => writeln!(
                text,
                "| {title} | {} | {} | {} |",
                entry.version,
                entry.kind.cipher(),
                entry.mtu_bytes
            ),
        };
    }
    text.push('\n');
}

fn push_figures(text: &mut String, run: &Run) {
    text.push_str(
        "## Figures\n\nMedian of the rounds, smallest and largest in parentheses. *× best other* is the median divided \
         by the best median of the other tunnels, those that are not ours.\n\n",
    );
    for (title, metrics) in TABLES {
        let present: Vec<&Entry> = run
            .entries
            .iter()
            .filter(|entry| entry.absent.is_none())
            .collect();
        let _ = writeln!(text, "### {title}\n");
        text.push_str("| |");
        for metric in metrics {
            let arrow = match metric.better() {
                Better::More => "more is better",
                Better::Less => "less is better",
            };
            let _ = write!(
                text,
                " {}, {} ({arrow}) | × best other |",
                metric.title(),
                metric.unit().symbol()
            );
        }
        text.push_str("\n| --- |");
        text.push_str(&" ---: | ---: |".repeat(metrics.len()));
        text.push('\n');
        for entry in present {
            let cells: Vec<String> = metrics
                .iter()
                .map(|&metric| cell(run, entry.kind, metric))
                .collect();
            let _ = writeln!(text, "| {} | {} |", entry.kind.title(), cells.join(" | "));
        }
        text.push('\n');
    }
}

fn cell(run: &Run, kind: Kind, metric: Metric) -> String {
    let Some(spread) = run.spread(kind, metric) else {
        return "– | –".to_owned();
    };
    let show = |value| metric.unit().show(value);
    let figure = format!(
        "{} ({}–{})",
        show(spread.median),
        show(spread.min),
        show(spread.max)
    );
    let best = run.best(metric, |other| other.is_peer() && other != kind);
    let ratio = best.map_or("–".to_owned(), |(_, best)| {
        format!("{:.2}", spread.median / best)
    });
    format!("{figure} | {ratio}")
}

fn push_aead(text: &mut String, speeds: &[AeadSpeed]) {
    if speeds.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "## The ciphers by themselves\n\n{PACKET_BYTES} bytes on one core that does nothing else.\n\n\
         | | seal, ns | open, ns | sealing alone, Gbit/s |\n| --- | ---: | ---: | ---: |"
    );
    for speed in speeds {
        let open = speed.open_ns.map_or("–".to_owned(), |ns| format!("{ns:.0}"));
        let _ = writeln!(
            text,
            "| {} | {:.0} | {open} | {:.1} |",
            speed.name,
            speed.seal_ns,
            speed.seal_gigabits()
        );
    }
    text.push('\n');
}

fn push_filter(text: &mut String, speeds: &[FilterSpeed]) {
    if speeds.is_empty() {
        return;
    }
    text.push_str(
        "## The filter by itself\n\nTo check and judge one packet, when the next is of another flow and nothing is in \
         the CPU's caches but by chance; in a batch of one flow it is less.\n\n| rules | flows | ns |\n\
         | ---: | ---: | ---: |\n",
    );
    for speed in speeds {
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} |",
            speed.rules, speed.flows, speed.judge_ns
        );
    }
    text.push('\n');
}

fn push_full(text: &mut String, run: &Run) {
    if run.full.is_empty() {
        return;
    }
    text.push_str(
        "## Very many rules and live flows\n\nTwo pairs of nodes in turns: one TCP stream, →, and 64-byte datagrams, \
         which the last of the rules allows. Median, smallest and largest.\n\n\
         | rules | live flows | TCP, Gbit/s | datagrams/s |\n| ---: | ---: | ---: | ---: |\n",
    );
    for full in [false, true] {
        let Some(one) = run.full.iter().find(|reading| (reading.rules > 1) == full) else {
            continue;
        };
        let tcp = run.full_spread(|reading| reading.gigabits, full);
        let datagrams = run.full_spread(|reading| reading.datagrams, full);
        if let (Some(tcp), Some(datagrams)) = (tcp, datagrams) {
            let _ = writeln!(
                text,
                "| {} | {} | {:.2} ({:.2}–{:.2}) | {:.0} ({:.0}–{:.0}) |",
                one.rules,
                one.flows,
                tcp.median,
                tcp.min,
                tcp.max,
                datagrams.median,
                datagrams.min,
                datagrams.max
            );
        }
    }
    text.push('\n');
}

fn push_rough(text: &mut String, run: &Run) {
    if run.rough.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "## Over a network that loses, doubles and reorders\n\n{STREAMS} TCP streams, →, CUBIC, that want {} Mbit/s \
         together, over a program that carries frame by frame with a round trip of {ROUND_TRIP_MS} ms. Offloads of the \
         outer interfaces are off for both, so that a fault strikes one full-size packet of TCP at a time, inside a \
         tunnel or not; frames below 200 bytes, acknowledgements, it leaves alone. Mbit/s that arrived: median, \
         smallest and largest, and the share of what arrives without a fault. Under loss the rate follows the size of \
         packets, which is smaller in a tunnel.\n",
        STREAMS * STREAM_MEGABITS_MAX
    );
    let titles = Fault::ALL.map(Fault::title).join(" | ");
    let _ = writeln!(
        text,
        "| | {titles} |\n| --- |{}",
        " ---: |".repeat(Fault::ALL.len())
    );
    for (kind, title) in [(Kind::Ringfence, "ringfence"), (Kind::Veth, "plain TCP")] {
        let cells = Fault::ALL.map(|fault| rough_cell(run, kind, fault));
        let _ = writeln!(text, "| {title} | {} |", cells.join(" | "));
    }
    text.push('\n');
}

fn rough_cell(run: &Run, kind: Kind, fault: Fault) -> String {
    let (spread, share) = (run.rough_spread(kind, fault), run.rough_share(kind, fault));
    let (Some(spread), Some(share)) = (spread, share) else {
        return "–".to_owned();
    };
    format!(
        "{:.0} ({:.0}–{:.0}), {:.0} %",
        spread.median,
        spread.min,
        spread.max,
        share * 100.0
    )
}

fn push_failures(text: &mut String, run: &Run) {
    if run.failures.is_empty() {
        return;
    }
    text.push_str("\n## What gave no figure\n\n");
    for failure in &run.failures {
        let _ = writeln!(text, "- {failure}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

const TABLES: [(&str, &[Metric]); 7] = [
    (
        "TCP",
        &[
            Metric::TcpOneForward,
            Metric::TcpOneReverse,
            Metric::TcpEightForward,
            Metric::TcpEightReverse,
        ],
    ),
    (
        "CPU time of a gigabyte (one TCP stream, →)",
        &[
            Metric::CpuSender,
            Metric::CpuReceiver,
            Metric::CpuBoth,
            Metric::CpuMachine,
        ],
    ),
    ("UDP", &[Metric::UdpFull, Metric::UdpSmall]),
    (
        "Request and response",
        &[Metric::RoundTripRate, Metric::RoundTripP99],
    ),
    (
        "Ping while nothing else happens",
        &[Metric::IdleP50, Metric::IdleP99, Metric::IdleP999],
    ),
    (
        "Ping while one TCP stream runs the same way",
        &[Metric::LoadedP50, Metric::LoadedP99, Metric::LoadedP999],
    ),
    ("Memory", &[Metric::Memory]),
];

/// With a load above this, others had a CPU for a good part of the time.
const LOAD_MAX: f64 = 0.5;

const BUSY: &str =
    "> **The machine was busy with something else when this run began: do not rely on its figures.**\n\n";

const HEAD: &str = "\
# Performance: side by side with other tunnels

Written by `make bench` from `performance.json`; do not edit. Ringfence runs as it is run in earnest: enrolled at its
controller, with policy, flow table and counters on. The others run with their defaults and no filter of their own
beyond what they always do.

";

const METHOD: &str = "\
## Method

- Each tunnel joins two network namespaces of its own, made by `tests/lab`: veth, one bridge, outer MTU 1500. All of
  them are up during the whole run, and only one carries load. → is from the left namespace to the right.
- The bridge is the same for all, but a program that sends datagram by datagram crosses it more often than one that
  hands the kernel many at once, and pays a little more CPU time for it than over a bare veth.
- Turns: for each measurement of each round, every tunnel is measured before the next measurement begins (A B C A B C).
- TCP: iperf3; what arrived counts. CPU time: user and system time of the tunnel programs from `/proc/PID/stat`, and the
  machine's busy time from `/proc/stat`, during a stream; a gigabyte is 10^9 bytes of payload. Work that the kernel does
  for a tunnel outside of its program's system calls shows in the machine's figure alone.
- UDP: a sender of our own that calls send(2) for each datagram and never waits, and a receiver that calls recv(2);
  iperf3 sends fewer small datagrams than some tunnels carry. Payload that arrives while the sender sends counts.
- Request and response: one byte each way over one TCP connection, one at a time.
- Ping: every 2 ms; receive times are the kernel's. Percentiles are of one round's pings, then the median of the rounds.
- Memory: `VmRSS` after each round's load, the larger of the two ends.
- Newest versions: `wireguard-go` and `nebula` from Debian's unstable suite if they can be had there, otherwise from the
  installed one; `boringtun-cli` and `gotatun-cli` from the Rust registry. `scripts/bench-peers.sh` installs them.
";
