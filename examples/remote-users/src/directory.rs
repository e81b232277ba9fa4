//! The company's directory: who works there, told to the controller by SCIM (RFC 7644).

use anyhow::{Context as _, Result};
use ringfence_e2e::Mesh;
use serde_json::{Value, json};

/// A directory that has sent everyone.
pub(crate) struct Directory {
    token: String,
    ada: String,
}

impl Directory {
    /// Gets a token for the provider `corp`, and sends ada and her group.
    pub(crate) fn open(mesh: &Mesh) -> Result<Self> {
        let token = mesh.cli(["scim", "token", "corp"])?.text()?.trim().to_owned();
        let mut directory = Self {
            token,
            ada: String::new(),
        };
        let ada = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "userName": "ada@example.com",
            "externalId": "ada",
            "active": true,
        });
        let sent = directory.send(mesh, "POST", "/scim/v2/Users", &ada)?;
        sent["id"]
            .as_str()
            .context("a user gets an id")?
            .clone_into(&mut directory.ada);
        let group = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
            "displayName": "dba",
            "members": [{ "value": directory.ada }],
        });
        directory.send(mesh, "POST", "/scim/v2/Groups", &group)?;
        Ok(directory)
    }

    /// Ada works there, or does not any more.
    pub(crate) fn set_active(&self, mesh: &Mesh, is_active: bool) -> Result<()> {
        let patch = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{ "op": "replace", "path": "active", "value": is_active }],
        });
        let path = format!("/scim/v2/Users/{}", self.ada);
        self.send(mesh, "PATCH", &path, &patch).map(drop)
    }

    fn send(&self, mesh: &Mesh, method: &str, path: &str, body: &Value) -> Result<Value> {
        let headers = format!(
            "Host: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/scim+json\r\n",
            mesh.address(),
            self.token
        );
        let answer = mesh
            .api()?
            .raw(method, path, &headers, body.to_string().as_bytes())?;
        let answer = answer.ok()?;
        Ok(answer.json().unwrap_or(Value::Null))
    }
}
