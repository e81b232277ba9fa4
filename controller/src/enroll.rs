//! Lets machines in that hold a join token.

use ringfence_controlplane::{Actor, Command, Event, Identity, Refusal, TokenHash};
use ringfence_model::{Name, NodeId};
use ringfence_transport::{EnrollAttempt, EnrollRefusal, EnrollRefusalCode, EnrollRequest, EnrollResponse};

use crate::ca::SigningRequest;
use crate::core::{CommitError, wall_now};
use crate::session::SessionContext;

/// What every enrolment needs.
#[derive(Clone)]
pub struct EnrollContext {
    /// Core, CA and mesh.
    pub session: SessionContext,
    /// Where the node will find this controller.
    pub controllers: Vec<String>,
}

/// Decides one attempt and answers it.
pub async fn serve(context: EnrollContext, attempt: EnrollAttempt) {
    let (remote, token) = (attempt.remote, attempt.request.token_id);
    let answer = decide(&context, &attempt.request).await;
    match &answer {
        Ok(response) => {
            tracing::info!(%remote, %token, node = %response.node, name = %response.name, "node enrolled");
        }
        Err(refusal) => {
            tracing::warn!(%remote, %token, why = refusal.message, "enrolment refused");
        }
    }
    if let Err(error) = attempt.answer(&answer).await {
        tracing::info!(%remote, %token, %error, "the answer to an enrolment was not taken");
    }
}

async fn decide(context: &EnrollContext, request: &EnrollRequest) -> Result<EnrollResponse, EnrollRefusal> {
    let signing = SigningRequest::from_der(&request.csr_der)
        .map_err(|error| refusal(EnrollRefusalCode::BadRequest, error.to_string()))?;
    let identity = Identity::from_spki(&signing.public_key_der())
        .map_err(|error| refusal(EnrollRefusalCode::BadRequest, error.to_string()))?;
    let name = match &request.name {
        Some(name) => name.clone(),
        None => name_of_key(&identity)?,
    };
    let command = Command::Enroll {
        token: request.token_id,
        secret_hash: TokenHash::of_secret(request.token_secret.expose()),
        name: name.clone(),
        identity,
    };
    let core = &context.session.core;
    let actor = Actor::token(request.token_id, "enroll");
    let change = core
        .commit(actor, command)
        .await
        .map_err(|gone| internal(&gone))?;
    let change = change.map_err(|error| refused(&error))?;
    let enrolled = change.events.iter().find_map(|event| match event {
        Event::NodeEnrolled { node } => Some(node.id),
        _ => None,
    });
    let node = enrolled.ok_or_else(|| internal(&"no node was made"))?;
    issue(context, &signing, node, name).await
}

async fn issue(
    context: &EnrollContext,
    signing: &SigningRequest,
    node: NodeId,
    name: Name,
) -> Result<EnrollResponse, EnrollRefusal> {
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
            _ => EnrollRefusalCode::BadRequest,
        },
        CommitError::Store(_) | CommitError::Broken(_) => EnrollRefusalCode::Internal,
    };
    refusal(code, error.to_string())
}

fn internal(error: &dyn std::fmt::Display) -> EnrollRefusal {
    refusal(EnrollRefusalCode::Internal, error.to_string())
}

fn refusal(code: EnrollRefusalCode, message: String) -> EnrollRefusal {
    EnrollRefusal { code, message }
}
