//! One command for every lane of a node, and one answer of all theirs.
//!
//! **Invariant:** what a lane has not done is not answered: a revision counts as enforced once every lane enforces it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::sync::oneshot;

use ringfence_control::PeerCandidates;
use ringfence_control::local::{PeerStatus, SegmentStatus};
use ringfence_dataplane::NetmapRefused;
use ringfence_model::{Candidate, PrivateKey};

use super::{Command, DataplaneStatus, PeersStatus};

impl Command {
    /// The same for each of `lanes`, in order; fewer if it concerns the first alone.
    pub(crate) fn for_lanes(self, lanes: usize) -> Vec<Self> {
        match self {
            Self::Netmap { netmap, answer } => merged(lanes, answer, all_took_it)
                .into_iter()
                .map(|answer| Self::Netmap {
                    netmap: netmap.clone(),
                    answer,
                })
                .collect(),
            Self::Restore {
                netmap,
                restored,
                answer,
            } => merged(lanes, answer, all_took_it)
                .into_iter()
                .map(|answer| Self::Restore {
                    netmap: netmap.clone(),
                    restored,
                    answer,
                })
                .collect(),
            Self::Lease => (0..lanes).map(|_| Self::Lease).collect(),
            Self::EndLeases => (0..lanes).map(|_| Self::EndLeases).collect(),
            Self::Shutdown => (0..lanes).map(|_| Self::Shutdown).collect(),
            Self::PeerCandidates(told) => (0..lanes)
                .map(|lane| Self::PeerCandidates(in_lane(&told, lane)))
                .collect(),
            Self::Key { perimeter, key } => (0..lanes)
                .map(|_| Self::Key {
                    perimeter: perimeter.clone(),
                    key: another(&key),
                })
                .collect(),
            // Lanes of one peer are one machine: the first answers for it.
            ping @ Self::Ping { .. } => vec![ping],
            Self::Status(answer) => merged(lanes, answer, add_up)
                .into_iter()
                .map(Self::Status)
                .collect(),
            Self::Peers {
                perimeter,
                after,
                answer,
            } => merged(lanes, answer, add_peers)
                .into_iter()
                .map(|answer| Self::Peers {
                    perimeter: perimeter.clone(),
                    after,
                    answer,
                })
                .collect(),
            Self::Seen {
                perimeter,
                flows,
                answer,
            } => merged(lanes, answer, seen_by_any)
                .into_iter()
                .map(|answer| Self::Seen {
                    perimeter: perimeter.clone(),
                    flows: flows.clone(),
                    answer,
                })
                .collect(),
        }
    }
}

/// A place for the answer of each lane; once all are there, `merge` makes the one that is waited for.
fn merged<T: Send + 'static>(
    lanes: usize,
    answer: oneshot::Sender<T>,
    merge: fn(Vec<T>) -> T,
) -> Vec<oneshot::Sender<T>> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..lanes).map(|_| oneshot::channel()).unzip();
    tokio::spawn(async move {
        let mut answers = Vec::with_capacity(lanes);
        for receiver in receivers {
            // A lane that has ended takes the node with it: whoever waits learns that from the place being gone.
            let Ok(answer) = receiver.await else { return };
            answers.push(answer);
        }
        let _ = answer.send(merge(answers));
    });
    senders
}

fn all_took_it(answers: Vec<Result<(), NetmapRefused>>) -> Result<(), NetmapRefused> {
    answers.into_iter().collect()
}

fn seen_by_any(answers: Vec<Vec<bool>>) -> Vec<bool> {
    let mut answers = answers.into_iter();
    let mut seen = answers.next().unwrap_or_default();
    for other in answers {
        for (seen, other) in seen.iter_mut().zip(other) {
            *seen |= other;
        }
    }
    seen
}

/// What the lanes say of themselves, as of one node. Where a peer is and how long a lease runs is the first one's word.
fn add_up(answers: Vec<DataplaneStatus>) -> DataplaneStatus {
    let mut answers = answers.into_iter();
    let mut all = answers.next().unwrap_or_default();
    for lane in answers {
        for (reason, count) in lane.drops {
            *all.drops.entry(reason).or_default() += count;
        }
        let mut segments: BTreeMap<_, _> = lane
            .segments
            .into_iter()
            .map(|segment| (segment.perimeter.clone(), segment))
            .collect();
        for segment in &mut all.segments {
            if let Some(other) = segments.remove(&segment.perimeter) {
                add_segment(segment, &other);
            }
        }
    }
    all
}

fn add_segment(segment: &mut SegmentStatus, other: &SegmentStatus) {
    segment.lease_seconds = segment.lease_seconds.min(other.lease_seconds);
    segment.revision = segment.revision.min(other.revision);
}

/// What the lanes say of some peers. A peer that one of them does not have yet, or any more, counts as the others say.
fn add_peers(answers: Vec<PeersStatus>) -> PeersStatus {
    let mut answers = answers.into_iter();
    let mut all = answers.next().unwrap_or_default();
    for lane in answers {
        all.lanes.extend(lane.lanes);
        let mut others: BTreeMap<_, PeerStatus> =
            lane.peers.into_iter().map(|peer| (peer.id, peer)).collect();
        for peer in &mut all.peers {
            if let Some(other) = others.remove(&peer.id) {
                peer.rx_bytes += other.rx_bytes;
                peer.tx_bytes += other.tx_bytes;
                peer.latest_handshake = peer.latest_handshake.max(other.latest_handshake);
            }
        }
    }
    all
}

/// Where one lane of a peer may be reached: where the first may be, at the port of that lane. Nowhere, if it has none.
fn in_lane(told: &PeerCandidates, lane: usize) -> PeerCandidates {
    let Some(further) = lane.checked_sub(1) else {
        return told.clone();
    };
    let mut candidates: Vec<Candidate> = Vec::new();
    if let Some(port) = told.lane_ports.get(further) {
        for candidate in &told.candidates {
            let address = SocketAddr::new(candidate.address.ip(), *port);
            if !candidates.iter().any(|known| known.address == address) {
                candidates.push(Candidate {
                    address,
                    kind: candidate.kind,
                });
            }
        }
    }
    PeerCandidates {
        candidates,
        ..told.clone()
    }
}

/// Each lane wipes its own.
fn another(key: &PrivateKey) -> PrivateKey {
    PrivateKey::from_random(*key.expose())
}

#[cfg(test)]
mod tests {
    use ringfence_control::PeerKind;
    use ringfence_model::{CandidateKind, Name, NodeId, PublicKey};

    use super::*;
    use crate::command::LaneTraffic;

    #[test]
    fn a_lane_of_a_peer_is_at_its_own_port_wherever_the_peer_may_be() {
        let candidate = |text: &str| Candidate {
            address: text.parse().unwrap(),
            kind: CandidateKind::Host,
        };
        let told = PeerCandidates {
            peer: NodeId(7),
            candidates: ["192.0.2.1:51820", "[2001:db8::1]:51820", "192.0.2.1:9"]
                .map(candidate)
                .into(),
            epoch: 5,
            lane_ports: vec![51821],
        };

        assert_eq!(in_lane(&told, 0), told);
        let second = in_lane(&told, 1);
        assert_eq!(
            second.candidates,
            ["192.0.2.1:51821", "[2001:db8::1]:51821"].map(candidate)
        );
        assert_eq!(second.epoch, 5);
        assert!(in_lane(&told, 2).candidates.is_empty());
    }

    #[tokio::test]
    async fn nothing_is_answered_before_every_lane_has() {
        let (answer, mut merged_answer) = oneshot::channel();
        let mut answers = merged(2, answer, all_took_it).into_iter();

        answers.next().unwrap().send(Ok(())).unwrap();
        tokio::task::yield_now().await;
        assert!(merged_answer.try_recv().is_err());

        answers.next().unwrap().send(Ok(())).unwrap();
        assert_eq!(merged_answer.await, Ok(Ok(())));
    }

    #[tokio::test]
    async fn a_lane_that_ended_answers_for_none() {
        let (answer, merged_answer) = oneshot::channel();
        let mut answers = merged(2, answer, all_took_it).into_iter();

        answers.next().unwrap().send(Ok(())).unwrap();
        drop(answers);

        assert!(merged_answer.await.is_err());
    }

    #[test]
    fn counters_of_lanes_add_up() {
        let lane = || DataplaneStatus {
            drops: BTreeMap::from([("no_route".to_owned(), 2)]),
            ..DataplaneStatus::default()
        };

        assert_eq!(add_up(vec![lane(), lane()]).drops["no_route"], 4);
        assert_eq!(
            seen_by_any(vec![vec![true, false, false], vec![false, false, true]]),
            [true, false, true]
        );
    }

    #[test]
    fn a_peer_has_what_all_lanes_carried_for_it_and_a_lane_what_it_carried() {
        let peer = |id, rx_bytes, latest_handshake| PeerStatus {
            node: Name::parse(&format!("peer-{id}")).unwrap(),
            id: NodeId(id),
            kind: PeerKind::Node,
            public_key: PublicKey::from_bytes([9; 32]),
            addresses: Vec::new(),
            endpoint: None,
            latest_handshake,
            rx_bytes,
            tx_bytes: 1,
        };
        let lane = |peers: Vec<PeerStatus>| PeersStatus {
            lanes: vec![LaneTraffic {
                rx_bytes: peers.iter().map(|peer| peer.rx_bytes).sum(),
                tx_bytes: 0,
            }],
            peers,
        };

        let all = add_peers(vec![
            lane(vec![peer(1, 5, None), peer(2, 7, Some(8))]),
            lane(vec![peer(2, 3, Some(9))]),
        ]);

        assert_eq!(
            all.peers,
            [
                peer(1, 5, None),
                PeerStatus {
                    tx_bytes: 2,
                    ..peer(2, 10, Some(9))
                }
            ]
        );
        let received: Vec<u64> = all.lanes.iter().map(|lane| lane.rx_bytes).collect();
        assert_eq!(received, [12, 3]);
    }
}
