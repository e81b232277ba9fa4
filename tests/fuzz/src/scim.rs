//! SCIM requests, as an identity provider sends them: whatever they say, a refusal speaks SCIM and changes nothing, and
//! the directory of another provider stays as it is.
//!
//! The core's clock and its randomness are the system's here, as in `routes.rs`: a script names people and groups by the
//! order in which they came.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use ringfence_control::api::{PREFIX, SCIM_ROUTE};
use ringfence_controller::api::router;
use ringfence_controller::core::CoreHandle;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::routes;
use crate::script::{Script, piece};

pub(crate) fn run(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.expect("a runtime needs no rights").block_on(ask(input));
}

async fn ask(input: &[u8]) {
    let mut corp = Directory::start().await;
    let bystander = corp.of_other().await;
    let mut script = Script::new(input);
    for _ in 0..REQUESTS_MAX {
        if script.is_over() {
            break;
        }
        let (how, which) = (script.byte(), script.byte());
        let Some(request) = corp.request((how, which), script.piece(), script.piece()) else {
            continue;
        };
        let what = format!("{} {}", request.method(), request.uri());
        let before = corp.core.revision().await.expect("the core runs");
        let (status, answer) = corp.answered(&what, request).await;
        let changed = corp.core.revision().await.expect("the core runs") != before;
        assert!(!changed || !is_stranger(how), "{what}: without the token");
        assert!(
            !changed || status.is_success(),
            "{what}: {status}, and yet a change"
        );
        if status == StatusCode::CREATED && corp.ids.len() < IDS_MAX {
            let id = answer["id"].as_str().expect("what was made has an id");
            corp.ids.push(id.to_owned());
        }
        if changed {
            corp.look_at_everything().await;
        }
    }
    assert_eq!(corp.of_other().await, bystander, "another provider's directory");
}

/// The directory of `corp`, with Ada and a group that she is in, beside that of another provider.
struct Directory {
    core: CoreHandle,
    router: axum::Router,
    token: String,
    other_token: String,
    /// Who and what there is, in order.
    ids: Vec<String>,
}

impl Directory {
    async fn start() -> Self {
        let core = routes::core();
        let router = router(routes::state(core.clone()));
        let mut corp = Self {
            core,
            router,
            token: String::new(),
            other_token: String::new(),
            ids: Vec::new(),
        };
        corp.token = corp.provider("corp").await;
        corp.other_token = corp.provider("other").await;
        let ada = person("ada");
        let made = corp.make(&corp.token, "Users", &ada).await;
        corp.ids.push(made);
        let group = json!({ "displayName": "dba", "members": [{ "value": corp.ids[0] }] });
        let made = corp.make(&corp.token, "Groups", &group).await;
        corp.ids.push(made);
        corp.make(&corp.other_token, "Users", &ada).await;
        corp
    }

    /// Makes a provider, and gives its token.
    async fn provider(&self, name: &str) -> String {
        let add = json!({ "name": name, "issuer": "https://login.example.com", "client_id": name });
        let paths = [
            (format!("{PREFIX}/providers"), add.to_string()),
            (format!("{PREFIX}/providers/{name}/scim-token"), String::new()),
        ];
        let mut token = Value::Null;
        for (path, body) in paths {
            let request = request(&Method::POST, &path, routes::TOKEN, JSON, body.into_bytes());
            let (status, answer) = self.send(request.expect("a good request")).await;
            assert_eq!(status, StatusCode::OK, "{path}: {answer}");
            token = answer["token"].clone();
        }
        token.as_str().expect("a token").to_owned()
    }

    async fn make(&self, token: &str, what: &str, body: &Value) -> String {
        let path = format!("{SCIM_ROUTE}/{what}");
        let request = request(&Method::POST, &path, token, SCIM, body.to_string().into_bytes());
        let (status, made) = self.send(request.expect("a good request")).await;
        assert_eq!(status, StatusCode::CREATED, "{path}: {made}");
        made["id"].as_str().expect("an id").to_owned()
    }

    fn request(&self, (how, which): (u8, u8), query: &[u8], body: &[u8]) -> Option<Request<Body>> {
        let method = &METHODS[usize::from(how) % METHODS.len()];
        let query = self.filled(std::str::from_utf8(query).ok()?);
        let path = RESOURCES[usize::from(which) % RESOURCES.len()];
        let path = path.replace("ID", &self.ids[usize::from(which >> 3) % self.ids.len()]);
        let path = format!("{SCIM_ROUTE}/{path}{query}");
        let token = if is_stranger(how) {
            "rfs_guessed"
        } else {
            self.token.as_str()
        };
        let kind = if how & ODD_TYPE == 0 { SCIM } else { "text/plain" };
        // What is no text is a body too.
        let body = match std::str::from_utf8(body) {
            Ok(text) => self.filled(text).into_bytes(),
            Err(_) => body.to_vec(),
        };
        request(method, &path, token, kind, body)
    }

    /// With ids in place of `{0}`, `{1}`, …
    fn filled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (n, id) in self.ids.iter().enumerate() {
            text = text.replace(&format!("{{{n}}}"), id);
        }
        text
    }

    /// The answer to a request, once it is as SCIM has it.
    async fn answered(&self, what: &str, request: Request<Body>) -> (StatusCode, Value) {
        let is_head = request.method() == Method::HEAD;
        let (status, answer) = self.send(request).await;
        assert!(!status.is_server_error(), "{what}: {status} {answer}");
        if status.is_client_error() && !is_head {
            let error = json!(["urn:ietf:params:scim:api:messages:2.0:Error"]);
            assert_eq!(answer["schemas"], error, "{what}: {answer}");
            assert_eq!(answer["status"], status.as_str(), "{what}: {answer}");
        }
        (status, answer)
    }

    /// Everyone and every group, one by one: what was taken in can be told again.
    async fn look_at_everything(&self) {
        for kind in ["Users", "Groups"] {
            let all = self.listed(&self.token, kind).await;
            for resource in all["Resources"].as_array().expect("a list") {
                let id = resource["id"].as_str().expect("each has an id");
                let one = self.listed(&self.token, &format!("{kind}/{id}")).await;
                assert_eq!(&one, resource, "{kind}/{id}");
            }
        }
    }

    async fn of_other(&self) -> [Value; 2] {
        [
            self.listed(&self.other_token, "Users").await,
            self.listed(&self.other_token, "Groups").await,
        ]
    }

    async fn listed(&self, token: &str, what: &str) -> Value {
        let path = format!("{SCIM_ROUTE}/{what}");
        let request = request(&Method::GET, &path, token, SCIM, Vec::new());
        let (status, answer) = self.send(request.expect("a good request")).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.router.clone().oneshot(request);
        let response = response.await.expect("it always answers");
        let status = response.status();
        let body = response.into_body().collect();
        let body = body.await.expect("the body is there").to_bytes();
        let answer = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).expect("an answer is JSON")
        };
        (status, answer)
    }
}

fn request(method: &Method, path: &str, token: &str, kind: &str, body: Vec<u8>) -> Option<Request<Body>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "192.0.2.1:7443")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, kind)
        .body(Body::from(body))
        .ok()
}

fn is_stranger(how: u8) -> bool {
    how & STRANGER != 0
}

fn person(name: &str) -> Value {
    let address = format!("{name}@example.com");
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": address,
        "externalId": format!("00u{name}"),
        "displayName": name,
        "emails": [{ "primary": true, "value": address, "type": "work" }],
        "active": true,
    })
}

/// One request of a script.
fn one(how: u8, which: u8, query: &str, body: &str) -> Vec<u8> {
    let [query, body] = [query, body].map(|text| piece(text.as_bytes()));
    [vec![how, which], query, body].concat()
}

fn patch(which: u8, operations: &Value) -> Vec<u8> {
    let body = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": operations,
    });
    one(PATCH, which, "", &body.to_string())
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let ask = |which: u8, query: &str| one(GET, which, query, "");
    let okta = json!([{ "op": "replace", "value": { "active": false } }]);
    let entra = json!([
        { "op": "Replace", "path": "active", "value": "False" },
        { "op": "Add", "path": "emails[type eq \"work\"].value", "value": "a@example.com" },
        { "op": "Remove", "path": "emails[primary eq true]" },
        { "op": "Add", "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager", "value": "x" },
    ]);
    let members = json!([
        { "op": "add", "path": "members", "value": [{ "value": "{2}" }, { "value": "{0}" }] },
        { "op": "remove", "path": "members[value eq \"{0}\"]" },
        { "op": "replace", "path": "displayName", "value": "db-admins" },
    ]);
    let bob = person("bob").to_string();
    let group = |member: &str| json!({ "displayName": "ops", "members": [{ "value": member }] }).to_string();
    let filter = "?filter=userName%20eq%20%22Ada@example.com%22&startIndex=1&count=10";
    vec![
        ("person", one(POST, USERS, "", &bob).repeat(2)),
        (
            "okta",
            [ask(USERS, filter), patch(USER, &okta), ask(USER, "")].concat(),
        ),
        ("entra", [patch(USER, &entra), one(PUT, USER, "", &bob)].concat()),
        (
            "members",
            [
                one(POST, USERS, "", &bob),
                patch(GROUP, &members),
                ask(GROUP, "?excludedAttributes=members"),
            ]
            .concat(),
        ),
        (
            "group",
            [
                one(POST, GROUPS, "", &group("{0}")),
                one(PUT, GROUP, "", &group("nobody")),
            ]
            .concat(),
        ),
        (
            "remove",
            [one(DELETE, USER, "", ""), one(DELETE, GROUP, "", "").repeat(2)].concat(),
        ),
        (
            "by-member",
            ask(
                GROUPS,
                "?filter=id%20eq%20%22{1}%22%20and%20members%20eq%20%22{0}%22",
            ),
        ),
        (
            "discovery",
            [ask(4, ""), ask(5, ""), ask(6, ""), ask(7, "")].concat(),
        ),
        ("stranger", one(DELETE | STRANGER, USER, "", "")),
        (
            "odd",
            [
                one(POST | ODD_TYPE, USERS, "", "{}"),
                one(PUT, USER, "", "["),
                patch(USER, &json!({})),
            ]
            .concat(),
        ),
    ]
}

const METHODS: [Method; 6] = [
    Method::GET,
    Method::POST,
    Method::PATCH,
    Method::DELETE,
    Method::PUT,
    Method::HEAD,
];
const GET: u8 = 0;
const POST: u8 = 1;
const PATCH: u8 = 2;
const DELETE: u8 = 3;
const PUT: u8 = 4;
/// Bits of the byte that chooses the method: multiples of six, so that they choose none.
const STRANGER: u8 = 0x60;
const ODD_TYPE: u8 = 0x18;
const RESOURCES: [&str; 8] = [
    "Users",
    "Groups",
    "Users/ID",
    "Groups/ID",
    "ServiceProviderConfig",
    "ResourceTypes",
    "Schemas",
    "Nonsense/ID",
];
/// The byte that chooses the resource, and above it the id: of Ada, 0, and of her group, 1.
const USERS: u8 = 0;
const GROUPS: u8 = 1;
const USER: u8 = 2;
const GROUP: u8 = 3 | 1 << 3;
const JSON: &str = "application/json";
const SCIM: &str = "application/scim+json";
const REQUESTS_MAX: usize = 12;
const IDS_MAX: usize = 8;
