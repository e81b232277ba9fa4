//! `ringfence status` and `ringfence ping`: this machine's node, asked through its socket.

use std::time::Duration;

use ringfence_control::SessionFacts;
use ringfence_control::local::{
    LocalRequest, LocalResponse, PeerStatus, PingReport, SegmentStatus, StatusReport,
};
use ringfence_model::UnixMillis;
use serde::Serialize;

use super::person;
use crate::args::{PingArgs, StatusArgs};
use crate::failure::{Exit, Failure};
use crate::local;
use crate::output::{Output, list};
use crate::when;

/// What the node says of itself, and the controller of the person at it.
#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    report: StatusReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<SessionFacts>,
}

pub(super) fn status(args: &StatusArgs, output: &mut Output) -> Result<(), Failure> {
    match local::ask(&args.socket.socket, &LocalRequest::Status, ANSWER_WAIT)? {
        LocalResponse::Status(report) => {
            let peers_max = if args.all { usize::MAX } else { PEERS_SHOWN };
            let person = person_at(&report, args);
            output.answer(&Status { report, person }, |status| {
                status_text(status, peers_max)
            });
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

pub(super) fn unexpected(response: &LocalResponse) -> Failure {
    let kind = match response {
        LocalResponse::Status(_) => "status",
        LocalResponse::Ping(_) => "ping",
        LocalResponse::LoginStarted { .. } => "login",
        LocalResponse::Session { .. } => "session",
        LocalResponse::LocalLogin(_) => "local login",
        LocalResponse::Access { .. } => "access",
        LocalResponse::Why { .. } => "why",
        LocalResponse::Version { .. } => "version",
        LocalResponse::Error(_) => "error",
    };
    Failure::failed(format_args!(
        "the node answered something else than was asked: {kind}"
    ))
}

/// Who is logged in here. The controller knows it, so while it is not there nobody does.
fn person_at(report: &StatusReport, args: &StatusArgs) -> Option<SessionFacts> {
    if !report.controller.connected {
        return None;
    }
    match local::ask(&args.socket.socket, &LocalRequest::WhoAmI, PERSON_WAIT) {
        Ok(LocalResponse::Session { session }) => session,
        // The node's own status is told all the same.
        Ok(_) | Err(_) => None,
    }
}

fn status_text(status: &Status, peers_max: usize) -> String {
    let Status { report, person } = status;
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
    if let Some(person) = person {
        text += &format!("\nperson: {}\n", person::text(person, when::now()));
    }
    for segment in &report.segments {
        text += &segment_text(segment, peers_max);
    }
    text
}

fn segment_text(segment: &SegmentStatus, peers_max: usize) -> String {
    let lease = match segment.lease_seconds {
        0 => "\x1b[31mended: the segment is closed until the controller speaks\x1b[0m".to_owned(),
        left => when::seconds(left),
    };
    let in_session = segment
        .peers
        .iter()
        .filter(|peer| peer.latest_handshake.is_some());
    let mut text = format!(
        "\nperimeter: {}\n  interface: {}\n  public key: {}\n  addresses: {}\n  revision: {}\n  lease left: {lease}\n  \
         peers: {}, {} with a session\n",
        segment.perimeter,
        segment.interface,
        segment
            .public_key
            .map_or_else(|| "none yet".to_owned(), |key| key.to_string()),
        list(&segment.addresses),
        segment.revision,
        segment.peers.len(),
        in_session.count(),
    );
    for peer in latest(&segment.peers, peers_max) {
        text += &peer_text(peer);
    }
    let left_out = segment.peers.len().saturating_sub(peers_max);
    if left_out > 0 {
        text += &format!("\n  and {left_out} peers more, heard of less lately: --all or --json lists them\n");
    }
    text
}

/// All peers if there are no more than `max`; otherwise those whose handshakes are the latest. In order of name.
fn latest(peers: &[PeerStatus], max: usize) -> Vec<&PeerStatus> {
    let mut shown: Vec<&PeerStatus> = peers.iter().collect();
    if shown.len() > max {
        shown.sort_by_key(|peer| std::cmp::Reverse(peer.latest_handshake));
        shown.truncate(max);
        shown.sort_by(|a, b| a.node.cmp(&b.node));
    }
    shown
}

fn peer_text(peer: &PeerStatus) -> String {
    let handshake = peer.latest_handshake.map_or_else(
        || "never".to_owned(),
        |seconds| when::at(UnixMillis(seconds * 1000)),
    );
    format!(
        "\n  peer: {}\n    public key: {}\n    addresses: {}\n    endpoint: {}\n    latest handshake: {handshake}\n    transfer: {} received, {} sent\n",
        peer.node,
        peer.public_key,
        list(&peer.addresses),
        peer.endpoint
            .map_or_else(|| "-".to_owned(), |endpoint| endpoint.to_string()),
        when::bytes(peer.rx_bytes),
        when::bytes(peer.tx_bytes),
    )
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
/// A controller that does not answer must not make `status` slow.
const PERSON_WAIT: Duration = Duration::from_secs(2);
const PING_WAIT_MS: u64 = 1000;
/// Peers of one perimeter that a person is shown unless they ask for all.
const PEERS_SHOWN: usize = 50;

#[cfg(test)]
mod tests {
    use ringfence_control::PeerKind;
    use ringfence_model::{Name, NodeId, PublicKey, Revision};

    use super::*;

    fn peer(number: u64, latest_handshake: Option<u64>) -> PeerStatus {
        PeerStatus {
            node: Name::parse(&format!("n{number:05}")).unwrap(),
            id: NodeId(number),
            kind: PeerKind::Node,
            public_key: PublicKey::from_bytes([9; 32]),
            addresses: Vec::new(),
            endpoint: None,
            latest_handshake,
            rx_bytes: 0,
            tx_bytes: 0,
        }
    }

    fn segment(peers: Vec<PeerStatus>) -> SegmentStatus {
        SegmentStatus {
            perimeter: Name::parse("shop").unwrap(),
            interface: "rf-shop".into(),
            public_key: None,
            addresses: Vec::new(),
            revision: Revision { term: 1, n: 1 },
            lease_seconds: 60,
            peers,
        }
    }

    #[test]
    fn of_very_many_peers_those_heard_of_lately_are_shown_and_the_others_counted() {
        let peers = (0..10_000).map(|number| peer(number, (number >= 9_990).then_some(number)));
        let text = segment_text(&segment(peers.collect()), PEERS_SHOWN);

        assert!(text.contains("  peers: 10000, 10 with a session\n"), "{text}");
        assert_eq!(text.matches("\n  peer: ").count(), PEERS_SHOWN);
        assert_eq!(text.matches("latest handshake: never").count(), PEERS_SHOWN - 10);
        for number in 9_990..10_000 {
            assert!(text.contains(&format!("  peer: n{number:05}\n")), "{text}");
        }
        assert!(
            text.ends_with("\n  and 9950 peers more, heard of less lately: --all or --json lists them\n")
        );
    }

    #[test]
    fn few_peers_are_all_shown_in_order_of_name() {
        let peers: Vec<PeerStatus> = (0..50).map(|number| peer(number, Some(100 - number))).collect();
        let text = segment_text(&segment(peers), PEERS_SHOWN);

        let names = text.lines().filter_map(|line| line.strip_prefix("  peer: "));
        let names: Vec<&str> = names.collect();
        assert_eq!(names.len(), 50);
        assert!(names.is_sorted());
        assert!(!text.contains("--all"), "{text}");
    }
}
