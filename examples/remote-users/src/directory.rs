//! The company's directory: ada works there, in the group `dba`, or does not any more.

use anyhow::Result;
use ringfence_e2e::{Mesh, Scim};
use serde_json::json;

/// A directory that has sent everyone.
pub(crate) struct Directory {
    scim: Scim,
    ada: String,
}

impl Directory {
    /// Gets a token for the provider `corp`, and sends ada and her group.
    pub(crate) fn open(mesh: &Mesh) -> Result<Self> {
        let scim = Scim::open(mesh, "corp")?;
        let ada = json!({ "userName": "ada@example.com", "externalId": "ada", "active": true });
        let ada = scim.make(mesh, "/Users", &ada)?;
        let dba = json!({ "displayName": "dba", "members": [{ "value": ada }] });
        scim.make(mesh, "/Groups", &dba)?;
        Ok(Self { scim, ada })
    }

    /// Ada works there, or does not any more.
    pub(crate) fn set_active(&self, mesh: &Mesh, is_active: bool) -> Result<()> {
        let replace = json!({ "op": "replace", "path": "active", "value": is_active });
        let path = format!("/Users/{}", self.ada);
        self.scim.patch(mesh, &path, &replace).map(drop)
    }
}
