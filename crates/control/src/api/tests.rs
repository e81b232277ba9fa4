//! The published shapes, as JSON.

use ringfence_model::{Labels, Revision, UnixMillis};
use serde_json::json;

use super::*;

#[test]
fn an_apply_request_needs_only_files() {
    let request: ApplyRequest =
        serde_json::from_value(json!({"files": [{"name": "a.toml", "text": ""}]})).unwrap();

    assert_eq!(
        (request.dry_run, request.prune, request.base),
        (false, false, None)
    );
    assert_eq!(
        serde_json::to_value(&request).unwrap(),
        json!({"files": [{"name": "a.toml", "text": ""}], "dry_run": false, "prune": false})
    );
}

#[test]
fn a_misspelt_field_is_refused_not_ignored() {
    let wrong = json!({"files": [], "dryrun": true});

    assert!(serde_json::from_value::<ApplyRequest>(wrong).is_err());
}

#[test]
fn revisions_are_text() {
    let report = ChangeReport {
        revision: Revision { term: 1, n: 42 },
        changes: Vec::new(),
        more_changes: 0,
    };

    let json = serde_json::to_value(&report).unwrap();

    assert_eq!(
        json,
        json!({"revision": "1.42", "changes": [], "more_changes": 0})
    );
    assert_eq!(serde_json::from_value::<ChangeReport>(json).unwrap(), report);
    assert!(serde_json::from_value::<ChangeReport>(json!({"revision": "latest"})).is_err());
}

#[test]
fn a_token_request_has_defaults_that_limit() {
    let request: CreateTokenRequest = serde_json::from_value(json!({"labels": {"role": "db"}})).unwrap();

    assert_eq!(request.labels, Labels::parse_pairs(["role=db"]).unwrap());
    assert_eq!((request.ttl_seconds, request.uses), (3600, 1));
}

#[test]
fn a_created_token_is_not_printed_by_debug() {
    let token = CreatedToken {
        id: ringfence_model::TokenId(7),
        token: "rft_secret".into(),
        expires_ms: UnixMillis(1),
        revision: Revision::ZERO,
    };

    assert!(!format!("{token:?}").contains("rft_secret"));
}

#[test]
fn a_problem_reads_what_any_server_may_send() {
    let foreign: Problem = serde_json::from_value(json!({"title": "Not Found"})).unwrap();
    let ours = Problem::new(
        409,
        "stale-base",
        "The base is not the latest revision",
        "apply again",
    );

    assert_eq!(foreign.kind, "about:blank");
    assert_eq!(ours.code(), "stale-base");
    assert_eq!(
        serde_json::to_value(&ours).unwrap()["type"],
        "urn:ringfence:problem:stale-base"
    );
}
