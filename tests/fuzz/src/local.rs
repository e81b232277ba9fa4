//! A node's local socket, from both ends: the node reads requests, the command line reads answers.

use ringfence_control::local::{LocalRequest, LocalResponse, PINGS_MAX};

pub(crate) fn run(input: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<LocalRequest>(input) {
        let written = serde_json::to_vec(&request).expect("plain data always encodes");
        assert!(!written.contains(&b'\n'), "a request is one line");
        assert_eq!(serde_json::from_slice(&written).ok(), Some(request));
    }
    if let Ok(response) = serde_json::from_slice::<LocalResponse>(input) {
        let written = serde_json::to_vec(&response).expect("plain data always encodes");
        assert!(!written.contains(&b'\n'), "an answer is one line");
        assert_eq!(serde_json::from_slice(&written).ok(), Some(response));
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let ping =
        format!(r#"{{"request":"ping","peer":"db-1","perimeter":"ledger","count":{PINGS_MAX},"wait_ms":9}}"#);
    let status = r#"{"response":"status","node":"db","id":"0000000000000001","mesh":"acme","version":"0.1.0",
        "listen_port":1,"controller":{"connected":false,"error":"gone"},"segments":[],"drops":{"no_route":1}}"#;
    vec![
        ("status", br#"{"request":"status"}"#.to_vec()),
        ("ping", ping.into_bytes()),
        ("version", br#"{"response":"version","version":"0.1.0"}"#.to_vec()),
        ("report", status.as_bytes().to_vec()),
        (
            "error",
            br#"{"response":"error","code":"denied","message":"no"}"#.to_vec(),
        ),
    ]
}
