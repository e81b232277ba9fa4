//! A netmap as a node finds it on its disk, put in force for what is left of its leases.

use std::time::Duration;

use ringfence_control::{Delta, Netmap};
use ringfence_dataplane::{Dataplane, DataplaneConfig, Restored};
use ringfence_model::UnixMillis;

use crate::fixture::{key, netmap, start};
use crate::script::Script;

pub(crate) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let how = script.byte();
    let Ok(map) = serde_json::from_slice::<Netmap>(script.rest()) else {
        return;
    };
    let base = netmap(1);
    let mut delta = Delta::between(&base, &map);
    if let Ok(made) = delta.apply(&base) {
        assert_eq!(
            made.content_hash(),
            map.content_hash(),
            "a delta gives its result or an error"
        );
    }
    delta.revision = base.revision;
    let _ = delta.apply(&base);
    let now = start();
    let mut node = Dataplane::new(DataplaneConfig::default(), [6; 32]);
    let restored = Restored {
        since_word: match how & 3 {
            0 => Duration::ZERO,
            1 => Duration::from_secs(30),
            2 => Duration::from_secs(1 << 40),
            _ => Duration::MAX,
        },
        wall: UnixMillis(u64::from(how >> 2) << 58),
    };
    let sound = map.check().is_ok();
    let names: Vec<_> = map.segments.keys().cloned().collect();
    let taken = node.restore(map, restored, now).is_ok();
    assert!(sound || !taken, "what contradicts itself is not put in force");
    for name in &names {
        node.set_key(name, key(1), now);
    }
    for later in [0, 1, 61, 100_000] {
        node.handle_timeout(now + Duration::from_secs(later));
        let _ = node.status(now);
        while node.poll_transmit().is_some() || node.poll_tun().is_some() || node.poll_event().is_some() {}
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let saved = |how: u8, map: &Netmap| {
        let json = serde_json::to_vec(map).expect("a netmap is plain data");
        [vec![how], json].concat()
    };
    let mut empty = netmap(3);
    empty.segments.clear();
    vec![
        ("fresh", saved(0, &netmap(2))),
        ("half-a-lease", saved(1, &netmap(2))),
        ("no-word", saved(0xff, &netmap(2))),
        ("no-segment", saved(0, &empty)),
    ]
}
