//! What very many peers and perimeters cost, on the page.

use std::fmt::Write as _;

use crate::scale::Scale;

pub(super) fn push(text: &mut String, scale: &Scale) {
    if scale.idle.is_empty() {
        return;
    }
    text.push_str(
        "## Very many peers and perimeters\n\nA node, enrolled at its controller, that carries nothing. It is started \
         anew for each number of peers; each is a device of the perimeter, and a stock WireGuard client makes its session. \
         In the last rows one other node is the peer in every perimeter. \
         Memory is resident; a wake-up is a switch to any thread of the node, over 20 s.\n\n\
         | perimeters | peers | sessions | memory, MiB | KiB more for each | wake-ups/s | of them where packets are carried | CPU, ms/s |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for reading in &scale.idle {
        let more = scale
            .more_for_each(reading)
            .map_or("–".to_owned(), |kib| format!("{kib:.1}"));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.1} | {more} | {:.1} | {:.2} | {:.2} |",
            reading.perimeters,
            reading.peers,
            reading.sessions,
            reading.resident_kib as f64 / 1024.0,
            reading.wakeups,
            reading.packet_wakeups,
            reading.cpu_ms
        );
    }
    text.push('\n');
    if let Some(status) = &scale.status {
        let _ = writeln!(
            text,
            "Asked for {} peers, it took `ringfence status` {:.0} ms to print {} lines, `ringfence status --json` {:.0} ms \
             for {:.1} MB, and `wg show` {:.0} ms. A ping through the node, every 2 ms, took {:.0} µs (p50) and {:.0} µs \
             (p99), {:.0} µs at most, while nobody asked; {:.0}, {:.0} and {:.0} µs while ten a second asked for all of \
             it.\n",
            status.peers,
            status.text_ms,
            status.text_lines,
            status.json_ms,
            status.json_bytes as f64 / 1e6,
            status.wg_ms,
            status.quiet_p50_us,
            status.quiet_p99_us,
            status.quiet_max_us,
            status.asked_p50_us,
            status.asked_p99_us,
            status.asked_max_us
        );
    }
}
