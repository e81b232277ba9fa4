//! Messages read back as written, and nothing else does anything.

use proptest::prelude::*;
use ringfence_model::{AccessId, CandidateKind};

use super::*;
use crate::access::{AccessErrand, AccessWish};
use crate::account::{LocalGain, LocalProof, LocalSecret};
use crate::api::{AccessState, AccessView, ApprovalView};
use crate::flow_spool::tests::flow_report;
use crate::login::{AuthorizationCode, FactorAsk, LoginMethod, SessionFacts};
use crate::netmap::tests::{any_netmap, name, netmap, revision, segment};
use crate::{
    DrillPart, FRAME_BYTES_MAX, FrameDecoder, NETMAP_BYTES_MAX, Probe, ProbeOutcome, ProbeVerdict,
    ReportedFact, ReportedValue, SeenFlow,
};

fn candidate() -> Candidate {
    Candidate {
        address: "[2001:db8::1]:51820".parse().unwrap(),
        kind: CandidateKind::Host,
    }
}

fn to_controller() -> Vec<ToController> {
    vec![
        ToController::Hello(Hello {
            capability: CAPABILITY,
            version: "0.1.0".into(),
            revision: Some(revision(7)),
            netmap_hash: Some([9; 32]),
            listen_port: 51820,
            epoch: 5,
            lane_ports: vec![51821, 40001],
        }),
        ToController::RegisterKey(RegisterKey {
            perimeter: name("a"),
            public_key: PublicKey::from_bytes([4; 32]),
            signature: vec![1, 2, 3],
        }),
        ToController::Candidates(vec![candidate()]),
        ToController::Enforced(Enforced {
            revision: revision(7),
            took_us: 12,
        }),
        ToController::NetmapRefused(NetmapRefused {
            revision: revision(7),
            why: "no".into(),
        }),
        ToController::Renew(Renew { csr_der: vec![1] }),
        ToController::ProbeResult(ProbeReport {
            id: 1,
            results: vec![ProbeOutcome {
                verdict: ProbeVerdict::Silent,
                src: Some(candidate().address),
                took_us: 1,
                detail: String::new(),
            }],
        }),
        ToController::DrillResult(DrillReport {
            id: 1,
            answered: 9,
            quiet_us: 400_000,
            failure: String::new(),
        }),
        ToController::Seen(SeenAnswer {
            id: 1,
            seen: vec![true, false],
        }),
        ToController::Pong(Ping { id: 3 }),
        ToController::FlowRecords(FlowRecords {
            stream: 7,
            first: 3,
            records: vec![flow_report(1), flow_report(2)],
        }),
        ToController::Posture(PostureReport {
            facts: vec![
                reported("disk.encrypted", ReportedValue::Bool(true)),
                reported("os.id", ReportedValue::Text("debian".into())),
                reported("os.version", ReportedValue::Version("12".into())),
                reported("os.security_update", ReportedValue::AgoMs(86_400_000)),
                reported("firewall.active", ReportedValue::Missing("no nftables".into())),
            ],
        }),
    ]
    .into_iter()
    .chain(asks_of_people())
    .chain(words_of_tpms())
    .collect()
}

/// What people at a node ask.
fn asks_of_people() -> [ToController; 6] {
    [
        ToController::LoginStart(LoginStart {
            id: 1,
            provider: Some(name("corp")),
            method: LoginMethod::Loopback { port: 4242 },
            step_up: true,
        }),
        ToController::LoginCode(LoginCode {
            id: 1,
            code: AuthorizationCode("c".to_owned().into()),
            state: "s".into(),
            issuer: Some("https://login.example.com".into()),
        }),
        ToController::EndLogin(EndLogin { id: 1 }),
        ToController::AskSession(AskSession { id: 2, end: true }),
        ToController::LocalLogin(LocalLogin {
            id: 4,
            name: Some(name("ada")),
            proof: LocalProof {
                set_up: None,
                password: Some(LocalSecret::new("correct horse")),
                code: Some(LocalSecret::new("123456")),
            },
        }),
        ToController::AskAccess(AskAccess {
            id: 3,
            errand: AccessErrand::Request(AccessWish {
                perimeter: name("ledger"),
                to: name("db"),
                ports: vec!["tcp/5432".parse().unwrap()],
                for_s: 7200,
                reason: "stuck".into(),
                break_glass: true,
            }),
        }),
    ]
}

fn words_of_tpms() -> [ToController; 2] {
    [
        ToController::TpmOffer(TpmOffer {
            endorsement: vec![1; 120],
            certificate: Some(vec![2; 900]),
            attestation: vec![3; 90],
        }),
        ToController::TpmProof(TpmProof {
            id: 4,
            quote: vec![5; 140],
            signature: vec![6; 72],
            missing: Some("gone".into()),
        }),
    ]
}

fn challenge_of_a_tpm() -> ToNode {
    ToNode::TpmChallenge(TpmChallenge {
        id: 4,
        credential: vec![7; 68],
        secret: vec![8; 68],
    })
}

fn reported(name: &str, value: ReportedValue) -> ReportedFact {
    ReportedFact {
        name: name.into(),
        value,
        age_ms: 40,
        signer: None,
    }
}

fn to_node() -> Vec<ToNode> {
    let old = netmap(1, [("a", segment(1, 2..4))]);
    let new = netmap(2, [("a", segment(1, [3])), ("b", segment(2, [2]))]);
    vec![
        ToNode::Welcome(Welcome {
            capability: 1,
            mesh: name("acme"),
            wall: UnixMillis(1),
        }),
        ToNode::Delta(Delta::between(&old, &new)),
        ToNode::Full(old),
        ToNode::PeerCandidates(PeerCandidates {
            peer: NodeId(2),
            candidates: vec![candidate()],
            epoch: 5,
            lane_ports: vec![51821, 40001],
        }),
        ToNode::Lease(Lease {
            revision: revision(2),
        }),
        ToNode::Renewed(Renewed {
            certificate_chain_pem: "x".into(),
        }),
        ToNode::Probe(ProbeOrder {
            id: 1,
            perimeter: None,
            probes: vec![
                Probe::TcpConnect {
                    dst: candidate().address,
                },
                Probe::Handshake {
                    public_key: PublicKey::from_bytes([4; 32]),
                    endpoints: vec![candidate().address],
                },
            ],
            wait_ms: 1000,
        }),
        ToNode::Drill(DrillOrder {
            id: 1,
            perimeter: Name::parse("ledger").unwrap(),
            part: DrillPart::Send {
                dst: candidate().address,
            },
            wait_ms: 1000,
        }),
        ToNode::AskSeen(SeenQuestion {
            id: 1,
            perimeter: name("a"),
            flows: vec![SeenFlow {
                protocol: 6,
                src: candidate().address,
                dst: candidate().address,
            }],
        }),
        ToNode::Refused(Refused { reason: "no".into() }),
        ToNode::Goodbye(Goodbye {
            reason: "removed".into(),
        }),
        ToNode::Ping(Ping { id: 3 }),
        ToNode::FlowRecordsTaken(FlowRecordsTaken {
            stream: 7,
            through: 5,
        }),
        ToNode::PostureOrder(PostureOrder {
            facts: vec!["disk.encrypted".into(), "process.auditd".into()],
            every_ms: 20_000,
        }),
    ]
    .into_iter()
    .chain(about_people())
    .collect()
}

/// What it says of logins, and to a TPM.
fn about_people() -> [ToNode; 6] {
    [
        challenge_of_a_tpm(),
        ToNode::LoginStarted(LoginStarted {
            id: 1,
            url: "https://login.example.com/auth?x=y".into(),
            user_code: Some("WDJB-MJHT".into()),
            state: Some("s".into()),
            expires_in_s: 600,
        }),
        ToNode::LoginDone(LoginDone {
            id: 1,
            session: Some(session_facts()),
            why: String::new(),
        }),
        ToNode::LocalLoginDone(LocalLoginDone {
            id: 4,
            gain: LocalGain {
                session: Some(session_facts()),
                factor: Some(LocalSecret::new("otpauth://totp/x")),
                recovery: vec![LocalSecret::new("abcd")],
            },
            why: String::new(),
        }),
        ToNode::SessionAnswer(SessionAnswer {
            id: 2,
            session: None,
            why: "no".into(),
        }),
        ToNode::AccessAnswer(AccessAnswer {
            id: 3,
            access: vec![access_view()],
            why: String::new(),
        }),
    ]
}

fn access_view() -> AccessView {
    AccessView {
        id: AccessId(17),
        standing: AccessState::Open,
        perimeter: name("ledger"),
        node: name("laptop"),
        node_id: NodeId(2),
        user: Some("corp/ada".into()),
        name: Some("ada@example.com".into()),
        email: None,
        to: name("db"),
        ports: vec!["tcp/5432".parse().unwrap()],
        for_seconds: 7200,
        reason: "stuck".into(),
        break_glass: true,
        asked_by: "ada@example.com".into(),
        asked_ms: UnixMillis(1),
        answer_by_ms: None,
        approvals: vec![ApprovalView {
            by: "bob".into(),
            reason: None,
            at_ms: UnixMillis(2),
        }],
        approvals_needed: 1,
        since_ms: Some(UnixMillis(2)),
        until_ms: Some(UnixMillis(3)),
        review_by_ms: None,
    }
}

fn session_facts() -> SessionFacts {
    SessionFacts {
        provider: name("corp"),
        name: "ada@example.com".into(),
        email: Some("ada@example.com".into()),
        groups: vec!["dba".into()],
        mfa_at_ms: Some(UnixMillis(1)),
        expires_ms: UnixMillis(2),
        factor_asks: vec![FactorAsk {
            perimeter: name("ledger"),
            to: name("db"),
            services: vec!["tcp/5432".parse().unwrap()],
            within_s: 3600,
            ends_ms: Some(UnixMillis(3_600_001)),
        }],
    }
}

#[test]
fn a_code_shows_nothing_of_itself() {
    let code = AuthorizationCode("hunter2".to_owned().into());

    assert!(!format!("{code:?}").contains("hunter2"));
    let secret = LocalSecret::new("hunter2");
    assert!(!format!("{secret:?}").contains("hunter2"));
}

fn frame(bytes: &[u8]) -> Frame {
    let mut decoder = FrameDecoder::new();
    decoder.push(bytes);
    decoder.next_frame().unwrap().unwrap()
}

/// All frames of both directions.
fn frames() -> Vec<Vec<u8>> {
    let up = to_controller()
        .into_iter()
        .map(|message| message.encode().unwrap());
    let down = to_node().into_iter().map(|message| message.encode().unwrap());
    up.chain(down).collect()
}

fn decode_both(frame: &Frame) {
    let _ = ToController::decode(frame);
    let _ = ToNode::decode(frame);
}

#[test]
fn every_message_reads_back_as_written() {
    for message in to_controller() {
        assert_eq!(
            ToController::decode(&frame(&message.encode().unwrap())),
            Ok(Some(message))
        );
    }
    for message in to_node() {
        assert_eq!(
            ToNode::decode(&frame(&message.encode().unwrap())),
            Ok(Some(message))
        );
    }
}

#[test]
fn unknown_kinds_are_skipped_and_neither_end_takes_the_other_ends() {
    let newer = Frame {
        kind: 999,
        body: vec![0xff; 10],
    };
    assert_eq!(ToNode::decode(&newer), Ok(None));
    assert_eq!(ToController::decode(&newer), Ok(None));
    for message in to_node() {
        assert_eq!(ToController::decode(&frame(&message.encode().unwrap())), Ok(None));
    }
}

#[test]
fn a_newer_sender_may_add_fields() {
    #[derive(Serialize)]
    struct NewerLease {
        revision: Revision,
        reason: &'static str,
    }
    let body = NewerLease {
        revision: revision(4),
        reason: "new in 2",
    };
    let newer = frame(&encode_body(FRAME_BYTES_MAX, 105, "Lease", &body).unwrap());

    let lease = ToNode::Lease(Lease {
        revision: revision(4),
    });
    assert_eq!(ToNode::decode(&newer), Ok(Some(lease)));
}

#[test]
fn a_netmap_beyond_the_bound_is_an_error_not_a_cut_message() {
    let huge = ToNode::Refused(Refused {
        reason: "x".repeat(NETMAP_BYTES_MAX),
    });

    assert!(matches!(
        huge.encode(),
        Err(MessageError::Frame(FrameError::TooLong { .. }))
    ));
}

#[test]
fn as_many_rules_as_a_policy_may_have_fit_one_message_if_each_is_for_two_peers_and_one_port() {
    let mut crowded = segment(1, 2..4);
    let rule = crowded.rules[0].clone();
    let numbered = (0..ringfence_policy::RULES_MAX as u32).map(|number| ringfence_policy::Rule {
        id: ringfence_model::RuleId(number),
        services: vec![format!("tcp/{}", 10_000 + number).parse().unwrap()],
        ..rule.clone()
    });
    crowded.rules = numbered.collect();

    let encoded = ToNode::Full(netmap(1, [("a", crowded)])).encode();

    assert!(encoded.is_ok(), "{encoded:?}");
}

#[test]
fn bytes_after_the_end_of_a_body_are_refused() {
    let mut frame = frame(&ToController::Pong(Ping { id: 3 }).encode().unwrap());
    frame.body.push(0);

    assert!(matches!(
        ToController::decode(&frame),
        Err(MessageError::Body { kind: "Pong", .. })
    ));
}

#[test]
fn registrations_for_different_purposes_never_share_bytes() {
    let key = PublicKey::from_bytes([4; 32]);
    let of = |mesh: &str, node, perimeter: &str| {
        registration_bytes(&name(mesh), NodeId(node), &name(perimeter), &key)
    };

    let all = [
        of("a", 1, "b"),
        of("a", 2, "b"),
        of("b", 1, "a"),
        of("a", 1, "bb"),
        of("ab", 1, "b"),
    ];

    for (place, bytes) in all.iter().enumerate() {
        assert!(!all[place + 1..].contains(bytes));
    }
}

#[test]
fn deeply_nested_bodies_do_not_overflow_the_stack() {
    for opener in [0x81, 0x9f, 0xa1, 0xbf, 0xc1, 0xd9] {
        let body = vec![opener; FRAME_BYTES_MAX];
        for kind in [1, 3, 7, 102, 103, 107] {
            decode_both(&Frame {
                kind,
                body: body.clone(),
            });
        }
    }
}

#[test]
fn a_claimed_length_allocates_nothing_that_has_not_arrived() {
    // Arrays, maps, texts and byte strings that claim 2^60 elements.
    for opener in [0x9b, 0xbb, 0x7b, 0x5b] {
        let mut body = vec![opener];
        body.extend((1_u64 << 60).to_be_bytes());
        for kind in 1..=22 {
            decode_both(&Frame {
                kind,
                body: body.clone(),
            });
        }
        for kind in 101..=121 {
            decode_both(&Frame {
                kind,
                body: body.clone(),
            });
        }
    }
}

proptest! {
    #[test]
    fn any_netmap_survives_the_wire(map in any_netmap()) {
        let message = ToNode::Full(map);
        prop_assert_eq!(ToNode::decode(&frame(&message.encode().unwrap())), Ok(Some(message)));
    }

    #[test]
    fn random_bodies_never_panic(kind in prop_oneof![0_u16..24, 100_u16..126, any::<u16>()], body in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_both(&Frame { kind, body });
    }

    #[test]
    fn truncated_and_flipped_messages_never_panic(which in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 0..6)) {
        let frames = frames();
        let mut bytes = which.get(&frames).clone();
        for (place, bit) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let mut decoder = FrameDecoder::new();
        decoder.push(&bytes);
        if let Ok(Some(frame)) = decoder.next_frame() {
            decode_both(&frame);
        }
    }

    #[test]
    fn a_truncated_body_is_refused(which in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>()) {
        let frames = frames();
        let bytes: &Vec<u8> = which.get(&frames);
        let mut frame = frame(bytes);
        frame.body.truncate(cut.index(frame.body.len()));
        let up = ToController::decode(&frame);
        let down = ToNode::decode(&frame);
        prop_assert!(!matches!(up, Ok(Some(_))) && !matches!(down, Ok(Some(_))));
    }
}

#[test]
fn renewal_is_due_at_two_thirds() {
    let due = |wall| Renew::is_due(UnixMillis(1_000), UnixMillis(4_000), UnixMillis(wall));

    assert!(!due(0) && !due(2_999));
    assert!(due(3_000) && due(9_999));
}
