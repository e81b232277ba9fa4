//! Events of workloads, applied.

use std::sync::Arc;

use ringfence_model::UnixMillis;

use super::{Misfit, ensure};
use crate::WorkloadEvent;
use crate::state::State;
use crate::workload::WorkloadSource;

impl State {
    pub(super) fn apply_workload_event(
        &mut self,
        event: &WorkloadEvent,
        wall: UnixMillis,
    ) -> Result<(), Misfit> {
        match event {
            WorkloadEvent::WorkloadIssuerSet { issuer, after, .. } => {
                let source = WorkloadSource::try_from(after.clone()).map_err(Misfit::Policy)?;
                ensure(source.issuer.name == *issuer, "the file is of another issuer")?;
                self.workloads.issuers.insert(issuer.clone(), source);
                Ok(())
            }
            WorkloadEvent::WorkloadIssuerRemoved { issuer, .. } => {
                let gone = self.workloads.issuers.remove(issuer).is_some();
                ensure(gone, "there is no such issuer")
            }
            WorkloadEvent::WorkloadAdmitted { node, jwt, until, .. } => {
                ensure(self.nodes.contains_key(node), "there is no such node")?;
                let used = Arc::make_mut(&mut self.workloads.used);
                used.retain(|_, until| *until > wall);
                let before = used.insert(*jwt, *until);
                ensure(before.is_none(), "the token was used before")
            }
        }
    }
}
