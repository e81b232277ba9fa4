//! The API's own description: OpenAPI 3.1, made from the handlers and the types they answer with.

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(title = "Ringfence", description = "Zero-trust micro-perimeters on a WireGuard mesh: the controller's API."),
    paths(
        super::access::approve,
        super::access::ask,
        super::access::deny,
        super::access::end,
        super::access::list,
        super::access::review,
        super::access::show,
        super::accounts::add,
        super::accounts::list,
        super::accounts::remove,
        super::accounts::reset,
        super::accounts::update,
        super::api_tokens::create,
        super::api_tokens::list,
        super::api_tokens::revoke,
        super::audit::list,
        super::audit::verify,
        super::drills::revoke,
        super::flows::list,
        super::locks::lift,
        super::locks::list,
        super::locks::set,
        super::nodes::list,
        super::nodes::remove,
        super::nodes::show,
        super::nodes::update,
        super::peers::add,
        super::peers::list,
        super::peers::remove,
        super::peers::show,
        super::people::end,
        super::people::sessions,
        super::people::update,
        super::people::users,
        super::perimeters::apply,
        super::perimeters::list,
        super::perimeters::remove,
        super::perimeters::show,
        super::providers::add,
        super::providers::list,
        super::providers::remove,
        super::policy::explain,
        super::policy::verify,
        super::posture::apply,
        super::posture::give,
        super::posture::of_node,
        super::posture::show,
        super::revisions::health,
        super::revisions::latest,
        super::revisions::receipt,
        super::revisions::wait,
        super::scim_tokens::create,
        super::scim_tokens::revoke,
        super::tokens::create,
        super::tokens::list,
        super::tokens::revoke,
        super::workloads::list,
        super::workloads::remove,
        super::workloads::set,
        super::workloads::show,
        super::workloads::test,
    ),
    modifiers(&BearerToken)
)]
struct Document;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "The token in the context file that `ringfence-controller init` writes, or one that `ringfence api-token create` makes",
            ))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("admin", SecurityScheme::Http(scheme));
    }
}

/// Serves the document.
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_openapi_3_1_and_names_every_route() {
        let document = serde_json::to_value(Document::openapi()).unwrap();

        assert_eq!(document["openapi"], "3.1.0");
        let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        assert_eq!(paths.len(), 43, "{paths:?}");
        assert_eq!(
            document["components"]["securitySchemes"]["admin"]["scheme"],
            "bearer"
        );
        assert!(document["components"]["schemas"]["ApplyReport"].is_object());
    }
}
