//! The whole API as it answers: who is let in, and that every no is a problem document.

use axum::body::Body;
use axum::http::{Method, Request, Response, header};
use http_body_util::BodyExt as _;
use ringfence_control::api::PROBLEM_CONTENT_TYPE;
use ringfence_controlplane::{Actor, Controller};
use ringfence_model::Name;
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;

use super::*;
use crate::core::{Core, entry_of, wall_now};
use crate::identity::ClientSecrets;
use crate::store::{Log as _, SqliteLog};

mod roles;

const TOKEN: &str = "rfa_test";

/// A controller on a disk of its own, without the network.
pub(super) struct Api {
    router: Router,
    pub(super) core: CoreHandle,
    flows: Flows,
    store: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl Api {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SqliteLog::create(&dir.path().join("store.sqlite")).unwrap();
        let actor = Actor::system("init", "init");
        let (controller, change) =
            Controller::found(Name::parse("acme").unwrap(), &actor, wall_now(), [1; 32]);
        let entry = entry_of(&change).unwrap();
        log.append(ringfence_model::Revision::ZERO, &entry).unwrap();
        let core = Core::spawn(controller, Box::new(log)).unwrap();
        let flows = Flows::spawn(dir.path().join("flows.sqlite")).unwrap();
        Self {
            router: router(state_of(core.clone(), flows.clone())),
            core,
            flows,
            store: dir.path().join("store.sqlite"),
            _dir: dir,
        }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> (StatusCode, String, serde_json::Value) {
        let response: Response<Body> = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let kind = response.headers().get(header::CONTENT_TYPE);
        let kind = kind.map(|kind| kind.to_str().unwrap().to_owned());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
        (status, kind.unwrap_or_default(), body)
    }
}

fn state_of(core: CoreHandle, flows: Flows) -> ApiState {
    ApiState {
        logins: Logins::new(core.clone(), ClientSecrets::new("/not/there".into())),
        workloads: Workloads::new(core.clone()),
        accounts: LocalAccounts::in_memory(core.clone(), Name::parse("acme").unwrap()).unwrap(),
        core,
        flows,
        sessions: Sessions::default(),
        gate: Arc::new(Gate::new(Sha256::digest(TOKEN).into(), Vec::new())),
        join: Arc::new(JoinFacts {
            controllers: vec!["192.0.2.1:7443".to_owned()],
            ca_fingerprint: [2; 32],
        }),
    }
}

pub(super) fn request(method: Method, path: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "192.0.2.1:7443")
        .header(header::CONTENT_TYPE, "application/json")
}

pub(super) fn with_token(method: Method, path: &str) -> axum::http::request::Builder {
    request(method, path).header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
}

#[tokio::test]
async fn every_no_is_a_problem_document_with_the_requests_id() {
    let api = Api::new();
    let long = "x".repeat(BODY_BYTES_MAX + 1);
    let empty = Body::empty;
    let odd = [
        (404, with_token(Method::GET, "/api/v1/nothing").body(empty())),
        (405, with_token(Method::PUT, "/api/v1/nodes").body(empty())),
        (400, with_token(Method::GET, "/api/v1/nodes/%ff%fe").body(empty())),
        (
            400,
            with_token(Method::GET, "/api/v1/audit?since_ms=x").body(empty()),
        ),
        (
            400,
            with_token(Method::POST, "/api/v1/explain").body(Body::from("{")),
        ),
        (
            413,
            with_token(Method::POST, "/api/v1/explain").body(Body::from(long)),
        ),
        (401, request(Method::GET, "/api/v1/nodes").body(empty())),
    ];

    for (expected, request) in odd {
        let (status, kind, body) = api.send(request.unwrap()).await;

        assert_eq!(status.as_u16(), expected, "{body}");
        assert_eq!(kind, PROBLEM_CONTENT_TYPE, "{body}");
        assert_eq!(body["status"], expected);
        assert!(
            body["request_id"].is_string() && body["detail"].is_string(),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_change_names_its_request_in_the_audit_log() {
    let api = Api::new();
    let create = with_token(Method::POST, "/api/v1/tokens")
        .header("x-request-id", "deploy-42")
        .body(Body::from(r#"{"labels":{"role":"db"}}"#))
        .unwrap();

    let (status, _, created) = api.send(create).await;
    let audit = with_token(Method::GET, "/api/v1/audit")
        .body(Body::empty())
        .unwrap();
    let (_, _, list) = api.send(audit).await;

    assert_eq!(status, StatusCode::OK, "{created}");
    let text = list.to_string();
    assert!(
        text.contains("deploy-42") && text.contains("token.create"),
        "{text}"
    );
    let token = created["token"].as_str().unwrap();
    assert!(!text.contains(token), "the log holds the token");
}

#[tokio::test]
async fn the_audit_is_whole_until_somebody_rewrites_an_entry_or_forges_a_snapshot() {
    let api = Api::new();
    let create = with_token(Method::POST, "/api/v1/tokens");
    let create = create.body(Body::from(r#"{"labels":{"role":"db"}}"#)).unwrap();
    let (status, ..) = api.send(create).await;
    assert_eq!(status, StatusCode::OK);
    let verify = || {
        with_token(Method::GET, "/api/v1/audit/verify")
            .body(Body::empty())
            .unwrap()
    };
    let (_, _, whole) = api.send(verify()).await;
    assert_eq!(
        (&whole["ok"], &whole["entries"]),
        (&true.into(), &2.into()),
        "{whole}"
    );

    // A controller that came from a forged snapshot: it stands at the right entry, with a token nobody made.
    let forged = api
        .core
        .with(|core| {
            let text = String::from_utf8(core.controller().snapshot().to_bytes()).unwrap();
            let forged = text.replace(r#""role":"db""#, r#""role":"x""#);
            assert_ne!(text, forged);
            ringfence_controlplane::Snapshot::from_bytes(forged.as_bytes()).unwrap()
        })
        .await
        .unwrap();
    let forged = Controller::load(Some(forged), []).unwrap();
    let log = SqliteLog::open(&api.store).unwrap();
    let other = Api {
        router: router(state_of(
            Core::spawn(forged, Box::new(log)).unwrap(),
            Flows::spawn(api.store.with_file_name("flows.sqlite")).unwrap(),
        )),
        ..Api::new()
    };
    let (_, _, answer) = other.send(verify()).await;
    assert_eq!(answer["ok"], false, "{answer}");
    assert!(
        answer["broken"]["why"].as_str().unwrap().contains("forged"),
        "{answer}"
    );

    let raw = rusqlite::Connection::open(&api.store).unwrap();
    raw.execute_batch(
        "DROP TRIGGER change_is_append_only_update; UPDATE change SET body = replace(body, 'admin', 'alice') WHERE n = 2",
    )
    .unwrap();
    let (_, _, altered) = api.send(verify()).await;
    assert_eq!(altered["ok"], false, "{altered}");
    assert_eq!(altered["broken"]["revision"], "1.2");
}
