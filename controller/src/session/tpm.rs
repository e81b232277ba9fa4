//! The TPM of a node's machine: challenged when it is offered, and then again and again for as long as the node is here.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use ringfence_control::{ToNode, TpmOffer, TpmProof, tpm_binding};
use ringfence_controlplane::{
    Actor, Attestation, Attested, ChallengeEntropy, Command, PostureCommand, ProvedTpm, Refusal, TpmMaker,
};
use ringfence_policy::TpmNeeds;

use super::{Next, Session};
use crate::core::{CommitError, Core, wall_now};
use crate::makers;

/// How one connection stands to its node's TPM.
#[derive(Default)]
pub(super) struct Tpm {
    attestation: Attestation,
    /// By what it was last judged.
    needs: TpmNeeds,
}

impl Tpm {
    /// When the next challenge is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.attestation.poll_timeout()
    }
}

impl Session {
    pub(super) async fn take_tpm_offer(&mut self, offer: TpmOffer) -> Result<()> {
        if let Err(why) = self.tpm.attestation.handle_offer(offer, Instant::now()) {
            self.judge_tpm(Err(why)).await?;
        }
        Ok(())
    }

    pub(super) async fn challenge_tpm(&mut self) -> Result<Next> {
        let mut entropy = ChallengeEntropy::default();
        for part in [&mut entropy.secret, &mut entropy.ephemeral] {
            getrandom::fill(&mut part[..]).map_err(|error| anyhow!("no randomness: {error}"))?;
        }
        let every = self.tpm.needs.every.unwrap_or(CHALLENGE_EVERY);
        let challenge = self
            .tpm
            .attestation
            .handle_timeout(Instant::now(), every, &entropy);
        if let Some(challenge) = challenge {
            self.sender.send(&ToNode::TpmChallenge(challenge)).await?;
        }
        Ok(Next::Continue)
    }

    /// What checks ask of TPMs may be something else from now on. A challenge shows what it comes to.
    pub(super) fn order_tpm(&mut self, needs: TpmNeeds) {
        if self.tpm.needs != needs {
            self.tpm.needs = needs;
            self.tpm.attestation.hasten(Instant::now());
        }
    }

    pub(super) async fn take_tpm_proof(&mut self, proof: TpmProof) -> Result<()> {
        let binding = tpm_binding(&self.context.mesh, self.node, &self.identity.public_key_der);
        match self
            .tpm
            .attestation
            .handle_proof(&proof, &binding, Instant::now())
        {
            Attested::Proved(tpm) => self.judge_tpm(Ok(tpm)).await,
            Attested::Failed(why) => self.judge_tpm(Err(why)).await,
            Attested::Ignored => Ok(()),
        }
    }

    async fn judge_tpm(&mut self, came: std::result::Result<ProvedTpm, String>) -> Result<()> {
        let (node, connection) = (self.node, self.connection);
        let came = came.map(|tpm| {
            let maker = makers::judge(&self.tpm.needs.makers, &tpm, wall_now());
            (tpm.name, maker)
        });
        match &came {
            Ok((tpm, TpmMaker::Trusted)) => tracing::debug!(%node, %tpm, "a TPM has proved itself"),
            Ok((tpm, TpmMaker::Unknown(why))) => tracing::debug!(%node, %tpm, why, "a TPM has proved itself"),
            Err(why) if self.is_worth_telling() => {
                tracing::warn!(%node, why, "a node's TPM has not proved itself");
            }
            Err(_) => {}
        }
        let judged = self.context.core.with(move |core| {
            if let Ok((name, _)) = &came
                && core.controller().tpm_is_news(node, name)
            {
                let tpm = name.clone();
                commit(core, PostureCommand::RecordTpm { node, tpm })?;
            }
            if core.note(|controller| controller.tpm_judged(node, connection, came, wall_now())) {
                commit(core, PostureCommand::Judge { node })?;
            }
            Ok::<(), CommitError>(())
        });
        if let Err(error) = judged.await?
            && self.is_worth_telling()
        {
            tracing::error!(node = %self.node, %error, "what a node's TPM comes to cannot be recorded");
        }
        Ok(())
    }
}

fn commit(core: &mut Core, command: PostureCommand) -> Result<(), CommitError> {
    match core.commit(&Actor::system("posture", "tpm"), &Command::Posture(command)) {
        // A node past its pace gains nothing for now.
        Ok(_) | Err(CommitError::Refused(Refusal::Unchanged)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// How often a TPM is challenged that no check asks for: it is pinned, and shown.
const CHALLENGE_EVERY: Duration = Duration::from_mins(5);
