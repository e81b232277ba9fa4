//! What a node's TPM proves, which it is, and what comes of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringfence_control::{
    PostureReport, ReportedFact, ReportedValue, TpmChallenge, TpmOffer, TpmProof, tpm_binding,
};
use ringfence_model::{NodeId, UnixMillis};
use ringfence_tpm::Challenge;
use ringfence_tpm::soft::SoftKeys;
use zeroize::Zeroizing;

use super::world::*;
use crate::{
    Attestation, Attested, ChallengeEntropy, Command, Connection, Controller, PostureCommand, ProvedTpm,
    Refusal, Snapshot, TpmMaker,
};

const ATTESTED: &str = "[[check]]\nname = \"tpm\"\nmax_age = \"1m\"\ntpm.state = \"attested\"\n";
const EVERY: Duration = Duration::from_secs(20);

/// A connection, and the TPM at its other end.
struct Line {
    attestation: Attestation,
    tpm: SoftKeys,
    now: Instant,
    drawn: u8,
}

impl Line {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test is the edge that makes the first instant"
    )]
    fn new(tpm: SoftKeys) -> Self {
        let mut line = Self {
            attestation: Attestation::default(),
            tpm,
            now: Instant::now(),
            drawn: 0,
        };
        line.offer().unwrap();
        line
    }

    fn offer(&mut self) -> Result<(), String> {
        let offer = self.tpm.offer(None);
        let offer = TpmOffer {
            endorsement: offer.endorsement,
            certificate: offer.certificate,
            attestation: offer.attestation,
        };
        self.attestation.handle_offer(offer, self.now)
    }

    fn challenge(&mut self) -> Option<TpmChallenge> {
        self.drawn += 1;
        let entropy = ChallengeEntropy {
            secret: Zeroizing::new([self.drawn; 32]),
            ephemeral: Zeroizing::new([self.drawn + 1; 32]),
        };
        self.attestation.handle_timeout(self.now, EVERY, &entropy)
    }

    fn answer(&self, asked: &TpmChallenge, binding: &[u8]) -> TpmProof {
        let challenge = Challenge {
            credential: asked.credential.clone(),
            secret: asked.secret.clone(),
        };
        let answer = self.tpm.answer(&challenge, binding).unwrap();
        TpmProof {
            id: asked.id,
            quote: answer.quote,
            signature: answer.signature,
            missing: None,
        }
    }

    fn take(&mut self, proof: &TpmProof, binding: &[u8]) -> Attested {
        self.attestation.handle_proof(proof, binding, self.now)
    }

    /// Challenged, answered and believed.
    fn proved(&mut self, binding: &[u8]) -> ProvedTpm {
        let asked = self.challenge().unwrap();
        let proof = self.answer(&asked, binding);
        match self.take(&proof, binding) {
            Attested::Proved(tpm) => tpm,
            other => panic!("{other:?}"),
        }
    }
}

fn is_proved(attested: &Attested) -> bool {
    matches!(attested, Attested::Proved(_))
}

fn is_failed(attested: &Attested) -> bool {
    matches!(attested, Attested::Failed(_))
}

#[test]
fn a_proof_counts_once_and_for_the_newest_challenge_alone() {
    let mut line = Line::new(SoftKeys::new(1, 2));
    let first = line.challenge().unwrap();
    let proof = line.answer(&first, b"node");
    assert_eq!(line.challenge(), None, "the next is not due yet");

    assert!(is_proved(&line.take(&proof, b"node")));
    assert_eq!(line.take(&proof, b"node"), Attested::Ignored, "a replay");

    line.now += EVERY;
    let second = line.challenge().unwrap();
    assert_eq!(
        line.take(&proof, b"node"),
        Attested::Ignored,
        "an answer to the first"
    );
    let forged = TpmProof {
        id: second.id,
        ..proof
    };
    assert!(
        is_failed(&line.take(&forged, b"node")),
        "the first quote once more"
    );
    let proof = line.answer(&second, b"node");
    assert_eq!(
        line.take(&proof, b"node"),
        Attested::Ignored,
        "the challenge is used up"
    );
}

#[test]
fn a_proof_of_another_node_or_by_other_keys_or_too_late_is_none() {
    let mut line = Line::new(SoftKeys::new(1, 2));
    let asked = line.challenge().unwrap();
    let proof = line.answer(&asked, b"another node");
    assert!(is_failed(&line.take(&proof, b"node")));

    line.now += EVERY;
    let asked = line.challenge().unwrap();
    // It knows neither secret nor key.
    let answer = SoftKeys::new(1, 4).quote(&[0; 32]);
    let forged = TpmProof {
        id: asked.id,
        quote: answer.quote,
        signature: answer.signature,
        missing: None,
    };
    assert!(is_failed(&line.take(&forged, b"node")));

    line.now += EVERY;
    let asked = line.challenge().unwrap();
    let proof = line.answer(&asked, b"node");
    line.now += Duration::from_secs(61);
    assert!(is_failed(&line.take(&proof, b"node")));
}

#[test]
fn what_is_no_tpm_or_too_large_is_not_challenged() {
    let mut line = Line::new(SoftKeys::new(1, 2));
    let honest = line.tpm.offer(None);
    let offers = [
        (vec![], honest.attestation.clone(), None),
        (honest.endorsement.clone(), honest.endorsement.clone(), None),
        (vec![0; 300], honest.attestation.clone(), None),
        (honest.endorsement, honest.attestation, Some(vec![0; 5000])),
    ];

    for (endorsement, attestation, certificate) in offers {
        line.now += Duration::from_secs(2);
        let offer = TpmOffer {
            endorsement,
            certificate,
            attestation,
        };
        assert!(line.attestation.handle_offer(offer, line.now).is_err());
        assert_eq!(line.attestation.poll_timeout(), None);
        assert_eq!(line.challenge(), None);
    }
}

#[test]
fn offers_that_come_too_fast_cost_nothing() {
    let mut line = Line::new(SoftKeys::new(1, 2));
    let asked = line.challenge().unwrap();

    for _ in 0..100 {
        line.offer().unwrap();
        assert_eq!(line.challenge(), None);
    }

    let proof = line.answer(&asked, b"node");
    assert!(is_proved(&line.take(&proof, b"node")));
}

#[test]
fn a_binding_names_mesh_node_and_key() {
    let of = |mesh, node, key: &[u8]| tpm_binding(&name(mesh), NodeId(node), key);

    let all = [
        of("acme", 1, b"key"),
        of("acme", 2, b"key"),
        of("acm", 1, b"key"),
        of("acme", 1, b"kez"),
    ];

    for (index, one) in all.iter().enumerate() {
        assert!(all.iter().skip(index + 1).all(|other| other != one));
    }
}

impl World {
    fn bring_up(&mut self, node: NodeId) {
        let connection = Connection {
            id: 1,
            remote: SocketAddr::from(([192, 0, 2, 1], 1)),
            since: self.wall,
        };
        self.controller.connected(node, connection, "0.1.0");
    }

    /// What a proof comes to, as the shell has it.
    fn prove(&mut self, node: NodeId, tpm: &ProvedTpm, maker: TpmMaker) {
        if self.controller.tpm_is_news(node, &tpm.name) {
            let tpm = tpm.name.clone();
            self.system(Command::Posture(PostureCommand::RecordTpm { node, tpm }))
                .unwrap();
        }
        self.judged(node, Ok((tpm.name.clone(), maker)));
    }

    fn judged(&mut self, node: NodeId, came: Result<(crate::TpmName, TpmMaker), String>) {
        if self.controller.tpm_judged(node, 1, came, self.wall) {
            self.system(Command::Posture(PostureCommand::Judge { node }))
                .unwrap();
        }
    }

    fn meets(&self, node: NodeId) -> bool {
        let member = self.controller.state().member(node).unwrap();
        member.facts.posture.contains(&name("tpm"))
    }

    fn finding(&self, node: NodeId) -> String {
        let shown = self.controller.node_posture(node, self.wall).unwrap();
        shown.checks[0].findings[0].says.clone()
    }

    fn with_tpm() -> (Self, NodeId, ProvedTpm) {
        let (mut world, _, app) = Self::with_database();
        world.controller.begin_posture(world.wall);
        let file = file(ATTESTED);
        world
            .admin(Command::Posture(PostureCommand::Apply {
                file,
                may_close: true,
            }))
            .unwrap();
        world.bring_up(app);
        let tpm = Line::new(SoftKeys::new(1, 2)).proved(b"node");
        world.prove(app, &tpm, TpmMaker::Trusted);
        (world, app, tpm)
    }
}

#[test]
fn a_proof_passes_a_check_until_it_is_too_old() {
    let (mut world, app, tpm) = World::with_tpm();
    assert!(world.meets(app));
    let entries = world.log.len();

    world.pass(Duration::from_secs(50));
    world.prove(app, &tpm, TpmMaker::Trusted);
    assert_eq!(world.log.len(), entries, "the same once more is no entry");
    world.pass(Duration::from_secs(50));
    assert!(world.meets(app));
    world.pass(Duration::from_secs(10));
    world.system(Command::Tick).unwrap();

    assert!(!world.meets(app));
}

#[test]
fn a_tpm_that_is_gone_or_of_an_unknown_maker_passes_nothing_at_once() {
    let (mut world, app, tpm) = World::with_tpm();

    world.judged(app, Err("there is no TPM".to_owned()));
    assert!(!world.meets(app));
    assert_eq!(world.finding(app), "tpm.state is not known: there is no TPM");
    world.prove(app, &tpm, TpmMaker::Trusted);
    assert!(world.meets(app));
    world.prove(app, &tpm, TpmMaker::Unknown("who is it".to_owned()));

    assert!(!world.meets(app));
    assert_eq!(world.finding(app), "tpm.state is unknown-maker, must be attested");
}

#[test]
fn another_tpm_passes_nothing_and_is_in_the_log_once() {
    let (mut world, app, own) = World::with_tpm();
    let other = Line::new(SoftKeys::new(3, 4)).proved(b"node");
    let third = Line::new(SoftKeys::new(5, 6)).proved(b"node");

    world.prove(app, &other, TpmMaker::Trusted);

    assert!(!world.meets(app));
    assert!(
        world.finding(app).contains("another TPM"),
        "{}",
        world.finding(app)
    );
    let entries = world.log.len();
    let told = world.log.iter().flat_map(|change| &change.events);
    assert_eq!(told.filter(|event| event.kind() == "tpm-recorded").count(), 2);
    // Nobody fills the log with TPMs of their own making.
    world.prove(app, &third, TpmMaker::Trusted);
    world.prove(app, &other, TpmMaker::Trusted);
    assert_eq!(world.log.len(), entries);
    world.prove(app, &own, TpmMaker::Trusted);
    assert!(world.meets(app));
}

#[test]
fn what_a_node_says_of_its_tpm_counts_for_nothing() {
    let (mut world, app, _) = World::with_tpm();
    world.judged(app, Err("there is no TPM".to_owned()));
    let report = PostureReport {
        facts: vec![ReportedFact {
            name: "tpm.state".into(),
            value: ReportedValue::Text("attested".into()),
            age_ms: 0,
            signer: None,
        }],
    };

    assert!(!world.controller.posture_reported(app, 1, &report, world.wall));

    assert!(!world.meets(app));
    assert!(
        world.controller.posture_order().facts.is_empty(),
        "nor is it asked"
    );
}

#[test]
fn a_restart_of_the_controller_cuts_nobody_off_and_keeps_nothing_past_its_age() {
    let (mut world, app, _) = World::with_tpm();
    let snapshot = Snapshot::from_bytes(&world.controller.snapshot().to_bytes()).unwrap();
    let mut controller = Controller::load(Some(snapshot), []).unwrap();
    controller.begin_posture(world.wall);
    world.controller = controller;
    world.bring_up(app);

    // A report about something else is no word about the TPM.
    world
        .controller
        .posture_reported(app, 1, &PostureReport::default(), world.wall);
    assert!(world.meets(app));
    let end = UnixMillis(world.wall.0 + 60_000);
    assert_eq!(world.controller.poll_timeout(), Some(end));
    world.wall = end;
    world.system(Command::Tick).unwrap();

    assert!(!world.meets(app));
}

#[test]
fn only_the_controller_itself_records_tpms() {
    let (mut world, app, tpm) = World::with_tpm();
    let command = Command::Posture(PostureCommand::RecordTpm {
        node: app,
        tpm: tpm.name,
    });

    let refused = world.admin(command).unwrap_err();

    assert!(!matches!(refused, Refusal::Unchanged), "{refused:?}");
}
