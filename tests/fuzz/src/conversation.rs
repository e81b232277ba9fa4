//! The control channel in both directions: any bytes, any cutting, any order of messages.

use std::fmt::Debug;
use std::time::Instant;

use ringfence_control::{
    ControllerSession, Delta, Frame, FrameDecoder, Goodbye, Hello, HelloFacts, Lease, Message, NodeAction,
    NodeSession, PeerCandidates, Ping, Probe, ProbeOrder, RegisterKey, Renewed, SeenAnswer, SeenQuestion,
    ToController, ToNode, Welcome, encode_frame,
};
use ringfence_controlplane::{
    Actor, Attestation, Attested, ChallengeEntropy, Command, Connection, Controller,
};
use ringfence_dataplane::{Dataplane, DataplaneConfig, Event};
use ringfence_model::{Candidate, CandidateKind, NodeId, Revision};

use crate::fixture::{OUR_ID, ROGUE_ID, WALL, key, name, netmap, perimeter, start};
use crate::rest;
use crate::script::{Script, piece};

/// Cuts the input into pieces and gives the frames in it.
fn frames(input: &[u8]) -> Vec<Frame> {
    let mut script = Script::new(input);
    let cut = usize::from(script.byte()) + 1;
    let stream = script.rest();
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut decoder = FrameDecoder::new();
        let mut frames = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Ok(Some(frame)) = decoder.next_frame() {
                frames.push(frame);
            }
        }
        frames
    };
    let whole = read(&mut std::iter::once(stream));
    assert_eq!(whole, read(&mut stream.chunks(cut)), "cutting changes nothing");
    whole
}

/// The message in a frame, if there is one; it must be the same when written and read again.
fn message<M: Message + PartialEq + Debug>(frame: &Frame) -> Option<M> {
    let message = M::decode(frame).ok().flatten()?;
    // What was read in a short form may be too long in full; then it is refused, not cut.
    if let Ok(bytes) = message.encode() {
        let mut decoder = FrameDecoder::with_limit(M::BODY_BYTES_MAX);
        decoder.push(&bytes);
        let again = decoder
            .next_frame()
            .ok()
            .flatten()
            .expect("one frame was written");
        assert_eq!(M::decode(&again).ok().flatten().as_ref(), Some(&message));
    }
    Some(message)
}

/// What a controller says, to a node with its data plane.
pub(crate) fn to_node(input: &[u8]) {
    let now = start();
    let mut session = NodeSession::new(name("acme"), OUR_ID, None);
    let mut node = Dataplane::new(DataplaneConfig::default(), [5; 32]);
    let facts = HelloFacts {
        version: "0.1.0".to_owned(),
        listen_port: 51820,
        epoch: 1,
        lane_ports: Vec::new(),
    };
    session.hello(facts);
    let mut newest = None;
    for frame in frames(input) {
        let Some(message) = message::<ToNode>(&frame) else {
            continue;
        };
        if session.handle_message(message).is_err() {
            return;
        }
        while let Some(action) = session.poll_action() {
            match action {
                NodeAction::Enforce(netmap) => {
                    let revision = netmap.revision;
                    match node.handle_netmap(*netmap, now) {
                        Ok(()) => session.handle_enforced(revision, 1),
                        Err(refused) => session.handle_not_enforced(revision, refused.to_string()),
                    }
                }
                NodeAction::SetCandidates(told) => {
                    node.handle_peer_candidates(told.peer, &told.candidates, now);
                    node.handle_peer_epoch(told.peer, told.epoch, now);
                }
                NodeAction::ExtendLeases => node.handle_lease(now),
                NodeAction::Send(answer) => assert!(answer.encode().is_ok(), "what a node says can be sent"),
                NodeAction::StoreCertificate { .. }
                | NodeAction::Probe(_)
                | NodeAction::Drill(_)
                | NodeAction::AnswerSeen(_)
                | NodeAction::WatchPosture(_)
                | NodeAction::OfferTpm
                | NodeAction::AnswerTpm(_)
                | NodeAction::OfferFlowRecords
                | NodeAction::ForgetFlowRecords(_)
                | NodeAction::TellLogin(_)
                | NodeAction::Refused { .. }
                | NodeAction::Leave { .. } => {}
            }
            drain(&mut node);
        }
        assert_eq!(session.revision(), node.revision(), "one netmap is in force");
        assert!(session.revision() >= newest, "numbers only go up");
        newest = session.revision();
    }
    node.handle_timeout(now + std::time::Duration::from_secs(1));
    drain(&mut node);
    let _ = node.status(now);
}

fn drain(node: &mut Dataplane) {
    while let Some(event) = node.poll_event() {
        if let Event::KeyNeeded { perimeter } = event {
            node.set_key(&perimeter, key(1), start());
        }
    }
    while node.poll_transmit().is_some() || node.poll_tun().is_some() {}
}

/// What a node says, to a controller.
pub(crate) fn to_controller(input: &[u8]) {
    let now = start();
    let (mut controller, ids) = rest::mesh();
    let node = ids[0];
    let connection = Connection {
        id: 1,
        remote: ([192, 0, 2, 1], 7443).into(),
        since: WALL,
    };
    controller.connected(node, connection, "0.1.0");
    let mut session = ControllerSession::new(node);
    let mut attestation = Attestation::default();
    for frame in frames(input) {
        let Some(message) = message::<ToController>(&frame) else {
            continue;
        };
        let current = controller.netmap(node, WALL).expect("the node is there");
        match message {
            ToController::Hello(hello) => {
                let _ = session.handle_hello(&hello, &name("acme"), &current, WALL, now);
            }
            ToController::RegisterKey(register) => register_key(&mut controller, node, register),
            ToController::Candidates(candidates) => {
                controller.set_candidates(node, &candidates);
                for (_, known) in controller.candidates_for(ids[1]) {
                    assert!(known.candidates.len() <= ringfence_controlplane::CANDIDATES_MAX);
                }
            }
            ToController::Enforced(enforced) => {
                session.handle_enforced(&enforced);
                controller.enforced(node, enforced.revision, enforced.took_us, WALL);
            }
            ToController::NetmapRefused(refused) => {
                let _ = session.handle_refused(&refused, &current, now);
            }
            ToController::Renew(renew) => {
                let _ = ringfence_controller::ca::SigningRequest::from_der(&renew.csr_der);
            }
            ToController::TpmOffer(_) | ToController::TpmProof(_) => hear_tpm(&mut attestation, message, now),
            ToController::ProbeResult(_)
            | ToController::Seen(_)
            | ToController::DrillResult(_)
            | ToController::FlowRecords(_)
            | ToController::Posture(_)
            | ToController::LoginStart(_)
            | ToController::LoginCode(_)
            | ToController::EndLogin(_)
            | ToController::AskSession(_)
            | ToController::AskAccess(_)
            | ToController::AskWhy(_)
            | ToController::LocalLogin(_)
            | ToController::Pong(_) => {}
        }
        assert!(
            session.enforced() <= session.sent(),
            "nobody enforces what was not sent"
        );
        let _ = session.push(&controller.netmap(node, WALL).expect("the node is there"), now);
    }
    rest::look_at_everything(&controller);
}

pub(crate) fn to_node_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let welcome = ToNode::Welcome(Welcome {
        capability: 1,
        mesh: name("acme"),
        wall: WALL,
    });
    let mut next = netmap(2);
    if let Some(segment) = next.segments.get_mut(&perimeter()) {
        segment.rules.pop();
        segment.peers.remove(&ROGUE_ID);
    }
    let full = ToNode::Full(netmap(1));
    let delta = ToNode::Delta(Delta::between(&netmap(1), &next));
    let lease = ToNode::Lease(Lease {
        revision: Revision { term: 1, n: 2 },
    });
    let candidates = ToNode::PeerCandidates(PeerCandidates {
        peer: ROGUE_ID,
        candidates: vec![candidate()],
        epoch: 1,
        lane_ports: Vec::new(),
    });
    let rest = [
        ToNode::Renewed(Renewed {
            certificate_chain_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        }),
        ToNode::Probe(ProbeOrder {
            id: 1,
            perimeter: Some(perimeter()),
            probes: vec![Probe::TcpConnect {
                dst: ([100, 64, 0, 2], 443).into(),
            }],
            wait_ms: 1000,
        }),
        ToNode::AskSeen(SeenQuestion {
            id: 2,
            perimeter: perimeter(),
            flows: Vec::new(),
        }),
        ToNode::Ping(Ping { id: 7 }),
        ToNode::Goodbye(Goodbye {
            reason: "removed".to_owned(),
        }),
    ];
    vec![
        ("full", stream(&[welcome.clone(), full.clone()])),
        ("delta", stream(&[welcome, full, candidates, delta, lease])),
        ("the-rest", stream(&rest)),
        (
            "unknown-kind",
            [vec![3], encode_frame(999, b"later").expect("short")].concat(),
        ),
    ]
}

pub(crate) fn to_controller_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let hello = ToController::Hello(Hello {
        capability: 1,
        version: "0.1.0".to_owned(),
        revision: None,
        netmap_hash: None,
        listen_port: 51820,
        epoch: 1,
        lane_ports: Vec::new(),
    });
    let words = [
        ToController::RegisterKey(ringfence_control::RegisterKey {
            perimeter: perimeter(),
            public_key: key(9).public_key(),
            signature: vec![1; 70],
        }),
        ToController::Candidates(vec![candidate()]),
        ToController::Enforced(ringfence_control::Enforced {
            revision: Revision { term: 1, n: 1 },
            took_us: 12,
        }),
        ToController::NetmapRefused(ringfence_control::NetmapRefused {
            revision: Revision { term: 1, n: 1 },
            why: "no".to_owned(),
        }),
        ToController::Renew(ringfence_control::Renew {
            csr_der: vec![0x30, 0],
        }),
        ToController::Seen(SeenAnswer {
            id: 1,
            seen: vec![true],
        }),
        ToController::Pong(Ping { id: 7 }),
    ];
    vec![
        ("hello", stream(std::slice::from_ref(&hello))),
        (
            "every-word",
            [stream(&[hello]), stream(&words)[1..].to_vec()].concat(),
        ),
        ("too-long", piece(&[0xff; 6])),
    ]
}

fn stream<M: Message>(messages: &[M]) -> Vec<u8> {
    let mut bytes = vec![17];
    for message in messages {
        bytes.extend(message.encode().expect("short"));
    }
    bytes
}

fn candidate() -> Candidate {
    Candidate {
        address: ([198, 51, 100, 7], 51820).into(),
        kind: CandidateKind::Host,
    }
}

fn register_key(controller: &mut Controller, node: NodeId, register: RegisterKey) {
    let command = Command::RegisterKey {
        node,
        perimeter: register.perimeter,
        public_key: register.public_key,
    };
    let actor = Actor::node(node, "fuzz");
    if let Ok(change) = controller.propose(&actor, command, WALL, [1; 32]) {
        controller
            .apply(&change)
            .expect("what was proposed can be applied");
    }
}

/// No bytes are the proof of a TPM that is not there.
fn hear_tpm(attestation: &mut Attestation, message: ToController, now: Instant) {
    match message {
        ToController::TpmOffer(offer) => {
            let drawn = ChallengeEntropy {
                secret: [8; 32].into(),
                ephemeral: [9; 32].into(),
            };
            let _ = attestation.handle_offer(offer, now);
            let _ = attestation.handle_timeout(now, std::time::Duration::from_secs(20), &drawn);
        }
        ToController::TpmProof(proof) => {
            let came = attestation.handle_proof(&proof, b"node", now);
            assert!(!matches!(came, Attested::Proved(_)), "nobody here has a TPM");
        }
        _ => {}
    }
}
