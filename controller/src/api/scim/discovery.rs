//! What this SCIM service can (RFC 7644 section 4): asked with a token, like all of it.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::list::{self, COUNT_MAX};
use super::{Caller, answer};

pub(super) async fn service_provider(caller: Caller) -> Response {
    let cannot = json!({ "supported": false });
    let body = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": { "supported": true },
        "bulk": { "supported": false, "maxOperations": 0, "maxPayloadSize": 0 },
        "filter": { "supported": true, "maxResults": COUNT_MAX },
        "changePassword": cannot,
        "sort": cannot,
        "etag": cannot,
        "authenticationSchemes": [{
            "type": "oauthbearertoken",
            "name": "Bearer token",
            "description": "The token that `ringfence scim token` prints for a provider",
        }],
        "meta": {
            "resourceType": "ServiceProviderConfig",
            "location": format!("{}/ServiceProviderConfig", caller.base),
        },
    });
    answer(StatusCode::OK, &body)
}

pub(super) async fn resource_types(caller: Caller) -> Response {
    let types = [("User", "/Users", USER), ("Group", "/Groups", GROUP)];
    let resources = types.into_iter().map(|(name, endpoint, schema)| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": name,
            "name": name,
            "endpoint": endpoint,
            "schema": schema,
            "meta": {
                "resourceType": "ResourceType",
                "location": format!("{}/ResourceTypes/{name}", caller.base),
            },
        })
    });
    list::whole(&resources.collect::<Vec<Value>>())
}

/// The attributes that are kept, and no others.
pub(super) async fn schemas(_: Caller) -> Response {
    let user = json!({
        "schemas": [SCHEMA],
        "id": USER,
        "name": "User",
        "attributes": [
            attribute("userName", "string", json!({ "required": true, "uniqueness": "server" })),
            attribute("displayName", "string", json!({})),
            attribute("active", "boolean", json!({})),
            attribute("emails", "complex", json!({ "multiValued": true, "subAttributes": [
                attribute("value", "string", json!({})),
                attribute("type", "string", json!({})),
                attribute("primary", "boolean", json!({})),
            ] })),
        ],
    });
    let group = json!({
        "schemas": [SCHEMA],
        "id": GROUP,
        "name": "Group",
        "attributes": [
            attribute("displayName", "string", json!({ "required": true, "uniqueness": "server" })),
            attribute("members", "complex", json!({ "multiValued": true, "subAttributes": [
                attribute("value", "string", json!({ "mutability": "immutable" })),
                attribute("$ref", "reference", json!({ "mutability": "immutable", "referenceTypes": ["User"] })),
                attribute("type", "string", json!({ "mutability": "immutable", "canonicalValues": ["User"] })),
            ] })),
        ],
    });
    list::whole(&[user, group])
}

/// An attribute as RFC 7643 section 7 describes one, with what is not as usual.
fn attribute(name: &str, kind: &str, unusual: Value) -> Value {
    let mut attribute = json!({
        "name": name,
        "type": kind,
        "multiValued": false,
        "required": false,
        "caseExact": false,
        "mutability": "readWrite",
        "returned": "default",
        "uniqueness": "none",
    });
    if let (Some(fields), Value::Object(unusual)) = (attribute.as_object_mut(), unusual) {
        fields.extend(unusual);
    }
    attribute
}

pub(super) const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
pub(super) const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:Schema";
