//! One connection's dealings with the TPM of its node: offer, challenge, proof, and again.
//!
//! **Invariant:** a proof counts once, for the newest challenge of this connection, within [`ANSWER_WAIT`] of it.

use std::time::{Duration, Instant};

use ringfence_control::{TpmChallenge, TpmOffer, TpmProof};
use ringfence_tpm::{Answer, CERTIFICATE_BYTES_MAX, EccPublic, Offer, PUBLIC_BYTES_MAX, challenge, verify};
use zeroize::Zeroizing;

use super::tpm::TpmName;

/// One connection's dealings with the TPM of its node.
#[derive(Default)]
pub struct Attestation {
    offer: Option<Offer>,
    offered_at: Option<Instant>,
    asked: Option<Asked>,
    /// When the next challenge is due.
    due: Option<Instant>,
    last_id: u64,
}

struct Asked {
    id: u64,
    secret: Zeroizing<[u8; 32]>,
    at: Instant,
}

/// What a challenge is made of; drawn anew for each.
#[derive(Default)]
pub struct ChallengeEntropy {
    /// What the TPM has to tell.
    pub secret: Zeroizing<[u8; 32]>,
    /// The ephemeral key that carries it.
    pub ephemeral: Zeroizing<[u8; 32]>,
}

/// What came of a proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attested {
    /// A TPM with this endorsement key is in the node's machine now.
    Proved(ProvedTpm),
    /// It is not shown that one is, and why.
    Failed(String),
    /// It answers nothing that waits for an answer.
    Ignored,
}

/// A TPM that proved itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvedTpm {
    /// The name of its endorsement key.
    pub name: TpmName,
    /// That key.
    pub endorsement: EccPublic,
    /// What its maker says of the key, if anything. Not verified yet.
    pub certificate: Option<Vec<u8>>,
}

impl Attestation {
    /// The node shows what TPM it has; a challenge is due at once. Offers that come too fast are not taken: each costs
    /// the controller some work.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn handle_offer(&mut self, offer: TpmOffer, now: Instant) -> Result<(), String> {
        if self.offered_at.is_some_and(|at| now < at + OFFERS_EVERY) {
            return Ok(());
        }
        self.offered_at = Some(now);
        self.offer = None;
        self.asked = None;
        self.due = None;
        let is_long = offer.endorsement.len() > PUBLIC_BYTES_MAX
            || offer.attestation.len() > PUBLIC_BYTES_MAX
            || offer
                .certificate
                .as_ref()
                .is_some_and(|der| der.len() > CERTIFICATE_BYTES_MAX);
        if is_long {
            return Err("the node offered more than a TPM has".to_owned());
        }
        let offer = Offer {
            endorsement: offer.endorsement,
            certificate: offer.certificate,
            attestation: offer.attestation,
        };
        EccPublic::endorsement(&offer.endorsement).map_err(|error| error.to_string())?;
        EccPublic::attestation(&offer.attestation).map_err(|error| error.to_string())?;
        self.offer = Some(offer);
        self.due = Some(now);
        Ok(())
    }

    /// When [`Self::handle_timeout`] is to be called; `None` if there is no TPM to challenge.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The next challenge, if it is due; the one after it comes `every`.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        every: Duration,
        entropy: &ChallengeEntropy,
    ) -> Option<TpmChallenge> {
        self.due.filter(|due| now >= *due)?;
        self.due = Some(now + every.max(CHALLENGES_EVERY));
        let offer = self.offer.as_ref()?;
        let made = challenge(offer, &entropy.secret, &entropy.ephemeral).ok()?;
        self.last_id += 1;
        self.asked = Some(Asked {
            id: self.last_id,
            secret: entropy.secret.clone(),
            at: now,
        });
        Some(TpmChallenge {
            id: self.last_id,
            credential: made.credential,
            secret: made.secret,
        })
    }

    /// The next challenge is due now: what its proof comes to may have changed.
    pub fn hasten(&mut self, now: Instant) {
        if let Some(due) = &mut self.due {
            *due = now.min(*due);
        }
    }

    /// What a proof comes to, for a node that is bound so: see [`ringfence_control::tpm_binding`].
    pub fn handle_proof(&mut self, proof: &TpmProof, binding: &[u8], now: Instant) -> Attested {
        if let Some(why) = &proof.missing {
            self.asked = None;
            return Attested::Failed(plain(why));
        }
        let Some(asked) = self.asked.take_if(|asked| asked.id == proof.id) else {
            return Attested::Ignored;
        };
        let Some(offer) = &self.offer else {
            return Attested::Ignored;
        };
        if now > asked.at + ANSWER_WAIT {
            return Attested::Failed("its TPM answered too late".to_owned());
        }
        let answer = Answer {
            quote: proof.quote.clone(),
            signature: proof.signature.clone(),
        };
        let verified = verify(offer, &asked.secret, binding, &answer);
        let endorsement = EccPublic::endorsement(&offer.endorsement);
        match (verified, endorsement) {
            (Ok(()), Ok(endorsement)) => Attested::Proved(ProvedTpm {
                name: TpmName::of(&endorsement),
                endorsement,
                certificate: offer.certificate.clone(),
            }),
            (Err(error), _) => Attested::Failed(error.to_string()),
            (_, Err(error)) => Attested::Failed(error.to_string()),
        }
    }
}

/// A node's words as they are kept: bounded, and harmless in a terminal.
fn plain(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(WHY_BYTES_MAX)];
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A TPM takes a second or two for its part; a busy one some more.
const ANSWER_WAIT: Duration = Duration::from_mins(1);
/// How often a TPM is asked at most: each challenge takes it about a second.
const CHALLENGES_EVERY: Duration = Duration::from_secs(3);
const OFFERS_EVERY: Duration = Duration::from_secs(1);
const WHY_BYTES_MAX: usize = 200;
