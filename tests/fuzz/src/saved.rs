//! A node's own files as they are after a crash, or after somebody wrote into them: `netmap.json`, `last-word.json` and
//! `peers.json`.

use std::time::Duration;

use ringfence_control::saved::{Moment, read_peers, read_saved};
use ringfence_model::UnixMillis;
use serde_json::{Value, json};

use crate::fixture::{WALL, netmap};
use crate::script::{Script, piece};

pub(crate) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let [map, word, known] = [script.piece(), script.piece(), script.rest()];
    let _ = read_peers(Some(known));
    let word = Some(word).filter(|word| !word.is_empty());
    let Ok(Some(saved)) = read_saved(map, word, &now()) else {
        return;
    };
    let told = word.and_then(elapsed);
    assert!(
        saved.since_word == Duration::MAX || Some(saved.since_word) == told,
        "a lease goes on by the clock that counts alone: {:?}, not {told:?}",
        saved.since_word
    );
}

/// How long ago the word is, by the clock that counts; read in another way than the node reads it.
fn elapsed(word: &[u8]) -> Option<Duration> {
    let word: Value = serde_json::from_slice(word).ok()?;
    let moment = &word["last_word"];
    let now = now();
    let elapsed = if moment["boot_id"] == now.boot_id {
        now.boot_ms.checked_sub(moment["boot_ms"].as_u64()?)
    } else {
        now.wall.0.checked_sub(moment["wall"].as_u64()?)
    };
    elapsed.map(Duration::from_millis)
}

fn now() -> Moment {
    Moment {
        boot_id: "boot".to_owned(),
        boot_ms: 1_000_000,
        wall: UnixMillis(WALL.0 + 1_000),
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let map = json!({ "format": 1, "netmap": netmap(2) });
    let word = |boot_id: &str, boot_ms: u64, wall: u64| {
        let moment = json!({ "boot_id": boot_id, "boot_ms": boot_ms, "wall": wall });
        json!({ "format": 1, "last_word": moment })
    };
    let candidates = json!({ "0000000000000002": [{ "address": "192.0.2.1:1", "kind": "host" }] });
    let sessions = json!({ "ledger": ["0000000000000002"] });
    let known = json!({ "format": 1, "peers": { "candidates": candidates, "sessions": sessions } });
    let files = |map: &Value, word: &Value, known: &Value| {
        let [map, word, known] = [map, word, known].map(|file| file.to_string().into_bytes());
        [piece(&map), piece(&word), known].concat()
    };
    let newer = json!({ "format": 2, "netmap": 1 });
    vec![
        ("same-boot", files(&map, &word("boot", 999_000, WALL.0), &known)),
        ("earlier-boot", files(&map, &word("other", 5, WALL.0), &known)),
        (
            "from-the-future",
            files(&map, &word("other", 5, u64::MAX), &known),
        ),
        (
            "clock-set-back",
            files(&map, &word("boot", 1_000_001, WALL.0), &known),
        ),
        ("no-word", files(&map, &Value::Null, &Value::Null)),
        ("newer-format", files(&newer, &Value::Null, &known)),
    ]
}
