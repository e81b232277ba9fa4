//! Whole REST requests, through the router as it stands behind the listener: path, query, headers and body.
//!
//! The core's clock and its randomness are the system's here: ids and times differ from run to run, verdicts do not.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use ringfence_control::api::{PREFIX, PROBLEM_CONTENT_TYPE};
use ringfence_controller::api::{ApiState, Gate, JoinFacts, router};
use ringfence_controller::core::{Core, CoreHandle, entry_of};
use ringfence_controller::flows::Flows;
use ringfence_controller::identity::{ClientSecrets, LocalAccounts, Logins, Workloads};
use ringfence_controller::sessions::Sessions;
use ringfence_controller::store::{Entry, Loaded, Log, StoreError, StoredSnapshot};
use ringfence_model::{Name, Revision, UnixMillis};
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;

use crate::fixture::POLICY;
use crate::rest::founded;
use crate::script::{Script, piece};

pub(crate) fn run(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.expect("a runtime needs no rights").block_on(ask(input));
}

async fn ask(input: &[u8]) {
    let core = core();
    let router = router(state(core.clone()));
    let mut script = Script::new(input);
    for _ in 0..REQUESTS_MAX {
        if script.is_over() {
            break;
        }
        let how = script.byte();
        let Some(request) = request(how, script.piece(), script.piece()) else {
            continue;
        };
        let what = format!("{} {}", request.method(), request.uri());
        let before = core.revision().await.expect("the core runs");
        let status = answered(&what, request, router.clone()).await;
        let changed = core.revision().await.expect("the core runs") != before;
        assert!(!changed || is_admin(how), "{what}: without the token");
        assert!(
            !changed || status.is_success(),
            "{what}: {status}, and yet a change"
        );
    }
}

/// The answer's status, once the rest of it is as the API promises.
async fn answered(what: &str, request: Request<Body>, router: axum::Router) -> StatusCode {
    let head = request.method() == Method::HEAD;
    let response = router.oneshot(request).await.expect("it always answers");
    let status = response.status();
    assert!(!status.is_server_error(), "{what}: {status}");
    let kind = response.headers().get(header::CONTENT_TYPE).cloned();
    let body = response
        .into_body()
        .collect()
        .await
        .expect("the body is there")
        .to_bytes();
    if status.is_client_error() && !head {
        assert_eq!(
            kind.expect("a problem has a type"),
            PROBLEM_CONTENT_TYPE,
            "{what}"
        );
        serde_json::from_slice::<serde_json::Value>(&body).expect("a problem is JSON");
    }
    status
}

fn request(how: u8, path: &[u8], body: &[u8]) -> Option<Request<Body>> {
    let path = std::str::from_utf8(path).ok()?;
    // It would wait for a revision that never comes.
    if path.contains("/wait") {
        return None;
    }
    let mut request = Request::builder()
        .method(METHODS[usize::from(how) % METHODS.len()].clone())
        .uri(format!("{PREFIX}/{path}"))
        .header(header::HOST, "192.0.2.1:7443");
    if is_admin(how) {
        request = request.header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
    }
    if how & ODD_TYPE == 0 {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    request.body(Body::from(body.to_vec())).ok()
}

fn is_admin(how: u8) -> bool {
    how & STRANGER == 0
}

/// A controller with the fixture's mesh, and a log in memory.
pub(crate) fn core() -> CoreHandle {
    let (controller, changes, _) = founded();
    let entries = changes.iter().map(|change| entry_of(change).expect("plain data"));
    let log = Memory(entries.collect());
    Core::spawn(controller, Box::new(log)).expect("a thread")
}

pub(crate) fn state(core: CoreHandle) -> ApiState {
    ApiState {
        logins: Logins::new(core.clone(), ClientSecrets::new("/not/there".into())),
        workloads: Workloads::new(core.clone()),
        accounts: LocalAccounts::in_memory(core.clone(), Name::parse("acme").expect("a name"))
            .expect("memory"),
        core,
        flows: Flows::in_memory().expect("a thread"),
        sessions: Sessions::default(),
        gate: Arc::new(Gate::new(Sha256::digest(TOKEN).into(), Vec::new())),
        join: Arc::new(JoinFacts {
            controllers: vec!["192.0.2.1:7443".to_owned()],
            ca_fingerprint: [2; 32],
        }),
    }
}

/// A log that forgets everything at the end.
#[derive(Clone)]
struct Memory(Vec<Entry>);

impl Log for Memory {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(Loaded {
            snapshot: None,
            entries: self.0.clone(),
            newest: None,
        })
    }

    fn append(&mut self, _expected: Revision, entry: &Entry) -> Result<(), StoreError> {
        self.0.push(entry.clone());
        Ok(())
    }

    fn save_snapshot(&mut self, _snapshot: &StoredSnapshot) -> Result<(), StoreError> {
        Ok(())
    }

    fn entries_since(&mut self, _since: UnixMillis, limit: usize) -> Result<Vec<Entry>, StoreError> {
        Ok(self.0[self.0.len().saturating_sub(limit)..].to_vec())
    }

    fn visit_all(&mut self, visit: &mut dyn FnMut(&Entry) -> bool) -> Result<(), StoreError> {
        let _ = self.0.iter().all(visit);
        Ok(())
    }

    fn reader(&self) -> Result<Box<dyn Log>, StoreError> {
        Ok(Box::new(self.clone()))
    }

    fn release_reserve(&mut self) -> bool {
        false
    }

    fn admin_token_hash(&mut self) -> Result<Option<[u8; 32]>, StoreError> {
        Ok(None)
    }

    fn set_admin_token_hash(&mut self, _hash: &[u8; 32]) -> Result<(), StoreError> {
        Ok(())
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let one = |how: u8, path: &str, body: &str| {
        let [path, body] = [path, body].map(|text| piece(text.as_bytes()));
        [vec![how], path, body].concat()
    };
    let text = POLICY.replace("5432", "5433");
    let apply = serde_json::json!({ "files": [{ "name": "ledger.toml", "text": text }] }).to_string();
    let lists = [
        "perimeters",
        "nodes",
        "tokens",
        "peers",
        "audit?limit=2",
        "audit/verify",
        "revisions/latest",
        "openapi.json",
        "health",
    ];
    let (rename, to) = (r#"{"name":"db-2"}"#, "nodes/db-2");
    let explain = r#"{"from":"app","to":"db","service":"tcp/5432"}"#;
    vec![
        ("lists", lists.map(|path| one(GET, path, "")).concat()),
        ("rehearsal", one(POST, "perimeters?dry_run=true", &apply)),
        ("apply", one(POST, "perimeters", &apply)),
        (
            "rename",
            [one(PATCH, "nodes/db", rename), one(DELETE, to, "")].concat(),
        ),
        ("remove", one(DELETE, "perimeters/ledger", "").repeat(2)),
        ("explain", one(POST, "explain", explain)),
        (
            "token",
            one(POST, "tokens", r#"{"labels":{"role":"db"},"uses":1}"#),
        ),
        ("stranger", one(DELETE | STRANGER, "nodes/db", "")),
        ("not-json", one(POST | ODD_TYPE, "explain", "{")),
        ("odd-path", one(GET, "nodes/%ff%00?x=%zz", "")),
    ]
}

const METHODS: [Method; 8] = [
    Method::GET,
    Method::POST,
    Method::PATCH,
    Method::DELETE,
    Method::PUT,
    Method::HEAD,
    Method::OPTIONS,
    Method::TRACE,
];
const GET: u8 = 0;
const POST: u8 = 1;
const PATCH: u8 = 2;
const DELETE: u8 = 3;
/// Bits of the byte that chooses the method, above it.
const STRANGER: u8 = 0x08;
const ODD_TYPE: u8 = 0x10;
/// The administrator's.
pub(crate) const TOKEN: &str = "rfa_fuzz";
const REQUESTS_MAX: usize = 12;
