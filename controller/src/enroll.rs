//! Lets machines in that hold a join token, or a token of their platform.

use ringfence_controlplane::{
    Actor, Change, Command, Event, Identity, Refusal, RefusalKind, TokenHash, WorkloadCommand,
};
use ringfence_model::Name;
use ringfence_transport::{
    EnrollAsk, EnrollAttempt, EnrollRefusal, EnrollRefusalCode, EnrollRequest, EnrollResponse,
    WorkloadEnrollRequest,
};

use crate::ca::SigningRequest;
use crate::core::{CommitError, wall_now};
use crate::identity::{WorkloadError, Workloads};
use crate::session::SessionContext;

/// What every enrolment needs.
#[derive(Clone)]
pub struct EnrollContext {
    /// Core, CA and mesh.
    pub session: SessionContext,
    /// Whose tokens let workloads in.
    pub workloads: Workloads,
    /// Where the node will find this controller.
    pub controllers: Vec<String>,
}

/// Decides one attempt and answers it.
pub async fn serve(context: EnrollContext, attempt: EnrollAttempt) {
    let remote = attempt.remote;
    let (by, answer) = match &attempt.request {
        EnrollAsk::Token(request) => {
            let by = format!("join token {}", request.token_id);
            (by, by_token(&context, request).await)
        }
        EnrollAsk::Workload(request) => {
            let by = format!("workload issuer {}", request.issuer);
            (by, by_workload(&context, request).await)
        }
    };
    match &answer {
        Ok(response) => {
            tracing::info!(%remote, by, node = %response.node, name = %response.name, "node enrolled");
        }
        Err(refusal) => {
            tracing::warn!(%remote, by, why = refusal.message, "enrolment refused");
        }
    }
    if let Err(error) = attempt.answer(&answer).await {
        tracing::info!(%remote, by, %error, "the answer to an enrolment was not taken");
    }
}

/// A machine that asks: its key is proved to be its own.
struct Asking {
    signing: SigningRequest,
    identity: Identity,
    name: Name,
}

impl Asking {
    fn new(csr_der: &[u8], name: Option<&Name>) -> Result<Self, EnrollRefusal> {
        let signing = SigningRequest::from_der(csr_der)
            .map_err(|error| refusal(EnrollRefusalCode::BadRequest, error.to_string()))?;
        let identity = Identity::from_spki(&signing.public_key_der())
            .map_err(|error| refusal(EnrollRefusalCode::BadRequest, error.to_string()))?;
        let name = match name {
            Some(name) => name.clone(),
            None => name_of_key(&identity)?,
        };
        Ok(Self {
            signing,
            identity,
            name,
        })
    }
}

async fn by_token(context: &EnrollContext, request: &EnrollRequest) -> Result<EnrollResponse, EnrollRefusal> {
    let asking = Asking::new(&request.csr_der, request.name.as_ref())?;
    let command = Command::Enroll {
        token: request.token_id,
        secret_hash: TokenHash::of_secret(request.token_secret.expose()),
        name: asking.name,
        identity: asking.identity,
    };
    let actor = Actor::token(request.token_id, "enroll");
    let change = commit(context, actor, command).await?;
    issue(context, &asking.signing, &change).await
}

async fn by_workload(
    context: &EnrollContext,
    request: &WorkloadEnrollRequest,
) -> Result<EnrollResponse, EnrollRefusal> {
    let asking = Asking::new(&request.csr_der, request.name.as_ref())?;
    let actor = Actor::workload(&request.issuer, "enroll");
    let verified = context
        .workloads
        .verify(&request.issuer, request.jwt.expose())
        .await;
    let verified = match verified {
        Ok(verified) => verified,
        Err(error) => {
            record(context, actor, &request.issuer, &error).await;
            return Err(unverified(&error));
        }
    };
    let command = WorkloadCommand::Admit {
        verified: Box::new(verified),
        name: asking.name,
        identity: asking.identity,
    };
    let change = commit(context, actor, Command::Workloads(command)).await?;
    issue(context, &asking.signing, &change).await
}

/// Notes a token that proves nothing in the audit trail. That it cannot be written lets nobody in.
async fn record(context: &EnrollContext, actor: Actor, issuer: &Name, error: &WorkloadError) {
    if !error.is_auditable() {
        return;
    }
    let command = Command::RecordRefusal {
        method: "workload.admit".to_owned(),
        subject: issuer.to_string(),
        reason: error.to_string(),
    };
    match context.session.core.commit(actor, command).await {
        // The hour's share of refusals is written already.
        Ok(Ok(_) | Err(CommitError::Refused(_))) => {}
        Ok(Err(error)) => tracing::error!(%error, "a refused enrolment cannot be recorded"),
        Err(error) => tracing::error!(%error, "a refused enrolment cannot be recorded"),
    }
}

async fn commit(context: &EnrollContext, actor: Actor, command: Command) -> Result<Change, EnrollRefusal> {
    let change = context.session.core.commit(actor, command).await;
    change
        .map_err(|gone| internal(&gone))?
        .map_err(|error| refused(&error))
}

async fn issue(
    context: &EnrollContext,
    signing: &SigningRequest,
    change: &Change,
) -> Result<EnrollResponse, EnrollRefusal> {
    let enrolled = change.events.iter().find_map(|event| match event {
        Event::NodeEnrolled { node } => Some((node.id, node.name.clone())),
        _ => None,
    });
    let (node, name) = enrolled.ok_or_else(|| internal(&"no node was made"))?;
    let authority = &context.session.authority;
    let certificate = authority
        .sign_node(signing, node, wall_now())
        .map_err(|error| internal(&error))?;
    let command = Command::RecordCertificate {
        node,
        serial: certificate.serial,
        not_after: certificate.not_after,
    };
    let recorded = context
        .session
        .core
        .commit(Actor::system("ca", "enroll"), command)
        .await;
    recorded
        .map_err(|gone| internal(&gone))?
        .map_err(|error| internal(&error))?;
    Ok(EnrollResponse {
        node,
        name,
        mesh: context.session.mesh.clone(),
        certificate_chain_pem: certificate.chain_pem,
        ca_pem: ringfence_transport::pem_of(authority.certificate()),
        controllers: context.controllers.clone(),
    })
}

/// A name for a machine that asks for none: from its key, so that it is the same when it asks again.
fn name_of_key(identity: &Identity) -> Result<Name, EnrollRefusal> {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(identity.spki());
    Name::parse(&format!("node-{}", hex::encode(&digest[..4]))).map_err(|error| internal(&error))
}

fn refused(error: &CommitError) -> EnrollRefusal {
    let code = match error {
        CommitError::Refused(refusal) => match refusal {
            Refusal::NoToken(_) | Refusal::TokenForged { .. } => EnrollRefusalCode::TokenUnknown,
            Refusal::TokenUsed { .. } => EnrollRefusalCode::TokenUsed,
            Refusal::TokenExpired { .. } => EnrollRefusalCode::TokenExpired,
            Refusal::TokenRevoked { .. } => EnrollRefusalCode::TokenRevoked,
            Refusal::NameTaken { .. } => EnrollRefusalCode::NameTaken,
            Refusal::Workload(refused) if refused.kind() == RefusalKind::Denied => {
                EnrollRefusalCode::WorkloadRefused
            }
            _ => EnrollRefusalCode::BadRequest,
        },
        CommitError::Store(_) | CommitError::Broken(_) => EnrollRefusalCode::Internal,
    };
    refusal(code, error.to_string())
}

fn unverified(error: &WorkloadError) -> EnrollRefusal {
    let code = match error {
        WorkloadError::NoIssuer(_) | WorkloadError::UnknownKey | WorkloadError::Token(_) => {
            EnrollRefusalCode::WorkloadRefused
        }
        WorkloadError::Issuer(_) => EnrollRefusalCode::IssuerUnreachable,
        WorkloadError::Core(_) => EnrollRefusalCode::Internal,
    };
    refusal(code, error.to_string())
}

fn internal(error: &dyn std::fmt::Display) -> EnrollRefusal {
    refusal(EnrollRefusalCode::Internal, error.to_string())
}

fn refusal(code: EnrollRefusalCode, message: String) -> EnrollRefusal {
    EnrollRefusal { code, message }
}
