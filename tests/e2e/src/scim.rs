//! A company's directory: who works there, told to a controller by SCIM (RFC 7644).

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::api::Answer;
use crate::mesh::Mesh;

/// The SCIM client of a provider.
pub struct Scim {
    token: String,
}

impl Scim {
    /// Gets a token for a provider.
    ///
    /// # Errors
    /// When there is no such provider.
    pub fn open(mesh: &Mesh, provider: &str) -> Result<Self> {
        let token = mesh.cli(["scim", "token", provider])?.text()?;
        Ok(Self {
            token: token.trim().to_owned(),
        })
    }

    /// Says anything.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn say(&self, mesh: &Mesh, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let headers = format!(
            "Host: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/scim+json\r\n",
            mesh.address(),
            self.token
        );
        let path = format!("/scim/v2{path}");
        mesh.api()?
            .raw(method, &path, &headers, body.to_string().as_bytes())
    }

    /// Makes a resource, and gives its id.
    ///
    /// # Errors
    /// When it is refused.
    pub fn make(&self, mesh: &Mesh, path: &str, resource: &Value) -> Result<String> {
        let made = self.say(mesh, "POST", path, resource)?.ok()?.json()?;
        let id = made["id"].as_str().context("what is made has an id")?;
        Ok(id.to_owned())
    }

    /// Changes a resource by one operation.
    ///
    /// # Errors
    /// When it is refused.
    pub fn patch(&self, mesh: &Mesh, path: &str, operation: &Value) -> Result<Answer> {
        let body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [operation],
        });
        self.say(mesh, "PATCH", path, &body)?.ok()
    }
}
