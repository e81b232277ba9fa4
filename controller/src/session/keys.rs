//! What a node asks to have recorded of its keys: one for a segment, and a new certificate for its identity's.

use std::time::{Duration, Instant};

use anyhow::Result;
use ringfence_control::{RegisterKey, Renew, Renewed, ToNode, registration_bytes};
use ringfence_controlplane::{Actor, Command, Refusal};
use ringfence_transport::verify_signature;

use super::Session;
use crate::ca::SigningRequest;
use crate::core::{CommitError, wall_now};

impl Session {
    pub(super) async fn register_key(&mut self, registration: RegisterKey) -> Result<()> {
        let RegisterKey {
            perimeter,
            public_key,
            signature,
        } = registration;
        let signed = registration_bytes(&self.context.mesh, self.node, &perimeter, &public_key);
        if !verify_signature(&self.identity.public_key_der, &signed, &signature) {
            return self
                .refuse(format!(
                    "the key for {perimeter} is not signed by this node's identity"
                ))
                .await;
        }
        let command = Command::RegisterKey {
            node: self.node,
            perimeter: perimeter.clone(),
            public_key,
        };
        match self
            .context
            .core
            .commit(Actor::node(self.node, "control"), command)
            .await?
        {
            Ok(_) | Err(CommitError::Refused(Refusal::Unchanged)) => Ok(()),
            Err(error) => {
                self.refuse(format!("the key for {perimeter} is not taken: {error}"))
                    .await
            }
        }
    }

    /// A new certificate for the same key: who the node is does not change.
    pub(super) async fn renew(&mut self, renew: &Renew) -> Result<()> {
        // Each is an entry in the log, which never shrinks.
        if self.renewed_at.is_some_and(|at| at.elapsed() < RENEWAL_EVERY) {
            return self
                .refuse("its certificate was renewed a moment ago: is this node's clock right?".to_owned())
                .await;
        }
        let request = match SigningRequest::from_der(&renew.csr_der) {
            Ok(request) => request,
            Err(error) => return self.refuse(error.to_string()).await,
        };
        if request.public_key_der() != self.identity.public_key_der {
            return self
                .refuse("a certificate is renewed for the key it was made for".to_owned())
                .await;
        }
        self.renewed_at = Some(Instant::now());
        let certificate = self
            .context
            .authority
            .sign_node(&request, self.node, wall_now())?;
        let command = Command::RecordCertificate {
            node: self.node,
            serial: certificate.serial,
            not_after: certificate.not_after,
        };
        let recorded = self
            .context
            .core
            .commit(Actor::system("ca", "renewal"), command)
            .await?;
        if let Err(error) = recorded {
            return self
                .refuse(format!("the certificate is not renewed: {error}"))
                .await;
        }
        let renewed = Renewed {
            certificate_chain_pem: certificate.chain_pem,
        };
        self.sender.send(&ToNode::Renewed(renewed)).await?;
        Ok(())
    }
}

/// A node asks once in sixteen hours.
const RENEWAL_EVERY: Duration = Duration::from_mins(1);
