//! Has this machine's TPM attest to the controller that it is there.
//!
//! A thread of its own talks to the TPM, which may take seconds: none of it holds up packets or the control side.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::WeakSender;

use ringfence_control::{ToController, TpmChallenge, TpmOffer, TpmProof};
use ringfence_tpm::{Answer, Challenge, Offer};

use crate::tpm::TpmPlace;

/// How the control side reaches the thread. Without a TPM there is none, and nothing to say.
#[derive(Clone)]
pub(crate) struct Attestor(Option<SyncSender<AttestInput>>);

/// One thing for the thread to know.
pub(crate) enum AttestInput {
    /// The controller takes offers here. Held weakly: the connection is the control side's to end.
    Connected(WeakSender<ToController>),
    /// It asks for a proof.
    Challenge(TpmChallenge),
    /// The connection is gone.
    Disconnected,
}

struct AttestThread {
    inputs: Receiver<AttestInput>,
    place: TpmPlace,
    /// What quotes are made for: see [`ringfence_control::tpm_binding`].
    binding: Vec<u8>,
    link: Option<WeakSender<ToController>>,
    /// When to offer the TPM again; `None` while the controller knows which it is.
    offer_at: Option<Instant>,
    /// The log has it that the TPM does not answer.
    is_told: bool,
}

impl Attestor {
    /// Starts the thread, which ends with the last handle.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn spawn(place: Option<&TpmPlace>, binding: Vec<u8>) -> std::io::Result<Self> {
        let Some(place) = place else {
            return Ok(Self(None));
        };
        let (sender, inputs) = sync_channel(INPUTS_MAX);
        let mut thread = AttestThread {
            inputs,
            place: place.clone(),
            binding,
            link: None,
            offer_at: None,
            is_told: false,
        };
        std::thread::Builder::new()
            .name("attest".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self(Some(sender)))
    }

    /// Tells the thread. One that is so far behind misses it, and proves nothing: that passes no check.
    pub(crate) fn tell(&self, input: AttestInput) {
        if let Self(Some(inputs)) = self
            && inputs.try_send(input).is_err()
        {
            tracing::error!("the TPM does not answer: this node proves nothing by it");
        }
    }
}

impl AttestThread {
    fn run(&mut self) {
        loop {
            let input = match self.offer_at {
                Some(at) => self
                    .inputs
                    .recv_timeout(at.saturating_duration_since(Instant::now())),
                None => self.inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match input {
                Ok(AttestInput::Connected(link)) => {
                    self.link = Some(link);
                    self.offer();
                }
                Ok(AttestInput::Challenge(challenge)) => self.answer(challenge),
                Ok(AttestInput::Disconnected) => {
                    self.link = None;
                    self.offer_at = None;
                }
                Err(RecvTimeoutError::Timeout) => self.offer(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn offer(&mut self) {
        let offered = self.place.open().and_then(|mut tpm| Ok(tpm.offer()?));
        let message = match offered {
            Ok(offer) => {
                let Offer {
                    endorsement,
                    certificate,
                    attestation,
                } = offer;
                self.offer_at = None;
                self.is_told = false;
                ToController::TpmOffer(TpmOffer {
                    endorsement,
                    certificate,
                    attestation,
                })
            }
            Err(error) => self.missing(0, &error),
        };
        self.say(message);
    }

    fn answer(&mut self, asked: TpmChallenge) {
        let challenge = Challenge {
            credential: asked.credential,
            secret: asked.secret,
        };
        let tpm = self.place.open();
        let answered = tpm.and_then(|mut tpm| Ok(tpm.answer(&challenge, &self.binding)?));
        let message = match answered {
            Ok(Answer { quote, signature }) => ToController::TpmProof(TpmProof {
                id: asked.id,
                quote,
                signature,
                missing: None,
            }),
            Err(error) => self.missing(asked.id, &error),
        };
        self.say(message);
    }

    fn missing(&mut self, id: u64, error: &anyhow::Error) -> ToController {
        let why = format!("{error:#}");
        // Another may be there next time. Challenges that come meanwhile do not put it off.
        let again = Instant::now() + OFFER_RETRY;
        self.offer_at = Some(self.offer_at.filter(|at| *at > Instant::now()).unwrap_or(again));
        if !self.is_told {
            self.is_told = true;
            tracing::warn!(
                why,
                "the TPM attests nothing: this node passes no check that asks for it"
            );
        }
        ToController::TpmProof(TpmProof {
            id,
            quote: Vec::new(),
            signature: Vec::new(),
            missing: Some(why),
        })
    }

    fn say(&mut self, message: ToController) {
        let Some(link) = self.link.as_ref().and_then(WeakSender::upgrade) else {
            return;
        };
        if link.try_send(message).is_err() {
            self.offer_at = Some(Instant::now() + OFFER_RETRY);
        }
    }
}

/// How often a TPM that did not answer is tried again.
const OFFER_RETRY: Duration = Duration::from_secs(5);
const INPUTS_MAX: usize = 16;
