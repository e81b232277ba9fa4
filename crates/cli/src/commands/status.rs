//! `ringfence status` and `ringfence ping`: this machine's node, asked through its socket.

use std::time::Duration;

use ringfence_control::local::{LocalRequest, LocalResponse, PingReport, SegmentStatus, StatusReport};
use ringfence_model::UnixMillis;

use crate::args::{PingArgs, StatusArgs};
use crate::failure::{Exit, Failure};
use crate::local;
use crate::output::{Output, list};
use crate::when;

pub(super) fn status(args: &StatusArgs, output: &mut Output) -> Result<(), Failure> {
    match local::ask(&args.socket.socket, &LocalRequest::Status, ANSWER_WAIT)? {
        LocalResponse::Status(report) => {
            output.answer(&report, status_text);
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

pub(super) fn ping(args: PingArgs, output: &mut Output) -> Result<(), Failure> {
    let request = LocalRequest::Ping {
        peer: args.node.strip_prefix("node:").unwrap_or(&args.node).to_owned(),
        perimeter: args.perimeter,
        count: args.count,
        wait_ms: PING_WAIT_MS,
    };
    let longest = Duration::from_millis(PING_WAIT_MS) * (args.count + 1);
    match local::ask(&args.socket.socket, &request, longest + ANSWER_WAIT)? {
        LocalResponse::Ping(report) => {
            let answered = report.rtt_us.iter().any(Option::is_some);
            output.answer(&report, ping_text);
            if answered {
                Ok(())
            } else {
                Err(Failure::told(Exit::Timeout))
            }
        }
        other => Err(unexpected(&other)),
    }
}

fn unexpected(response: &LocalResponse) -> Failure {
    let kind = match response {
        LocalResponse::Status(_) => "status",
        LocalResponse::Ping(_) => "ping",
        LocalResponse::Version { .. } => "version",
        LocalResponse::Error(_) => "error",
    };
    Failure::failed(format_args!(
        "the node answered something else than was asked: {kind}"
    ))
}

fn status_text(report: &StatusReport) -> String {
    let controller = match (&report.controller.connected, &report.controller.error) {
        (true, _) => "\x1b[32mconnected\x1b[0m".to_owned(),
        (false, Some(error)) => format!("\x1b[31mnot connected\x1b[0m: {error}"),
        (false, None) => "\x1b[31mnot connected\x1b[0m".to_owned(),
    };
    let mut text = format!(
        "node: {} ({})\n  mesh: {}\n  controller: {controller}\n  listening port: {}\n",
        report.node, report.id, report.mesh, report.listen_port
    );
    for lane in &report.lanes {
        text += &format!(
            "  lane at port {}: {} received, {} sent\n",
            lane.port,
            when::bytes(lane.rx_bytes),
            when::bytes(lane.tx_bytes)
        );
    }
    for segment in &report.segments {
        text += &segment_text(segment);
    }
    text
}

fn segment_text(segment: &SegmentStatus) -> String {
    let lease = match segment.lease_seconds {
        0 => "\x1b[31mended: the segment is closed until the controller speaks\x1b[0m".to_owned(),
        left => when::seconds(left),
    };
    let mut text = format!(
        "\nperimeter: {}\n  interface: {}\n  public key: {}\n  addresses: {}\n  revision: {}\n  lease left: {lease}\n",
        segment.perimeter,
        segment.interface,
        segment
            .public_key
            .map_or_else(|| "none yet".to_owned(), |key| key.to_string()),
        list(&segment.addresses),
        segment.revision,
    );
    for peer in &segment.peers {
        let handshake = peer.latest_handshake.map_or_else(
            || "never".to_owned(),
            |seconds| when::at(UnixMillis(seconds * 1000)),
        );
        text += &format!(
            "\n  peer: {}\n    public key: {}\n    addresses: {}\n    endpoint: {}\n    latest handshake: {handshake}\n    transfer: {} received, {} sent\n",
            peer.node,
            peer.public_key,
            list(&peer.addresses),
            peer.endpoint
                .map_or_else(|| "-".to_owned(), |endpoint| endpoint.to_string()),
            when::bytes(peer.rx_bytes),
            when::bytes(peer.tx_bytes),
        );
    }
    text
}

fn ping_text(report: &PingReport) -> String {
    let endpoint = report
        .endpoint
        .map_or_else(String::new, |endpoint| format!(" via {endpoint}"));
    let mut text = String::new();
    for (place, rtt) in report.rtt_us.iter().enumerate() {
        let answer = match rtt {
            Some(us) => format!("{}.{:03} ms", us / 1000, us % 1000),
            None => "no answer".to_owned(),
        };
        text += &format!(
            "{} ({}) in {}{endpoint}: {answer} ({}/{})\n",
            report.peer,
            report.address,
            report.perimeter,
            place + 1,
            report.rtt_us.len()
        );
    }
    text
}

const ANSWER_WAIT: Duration = Duration::from_secs(5);
const PING_WAIT_MS: u64 = 1000;
