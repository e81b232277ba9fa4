//! The netmap on disk, and when the controller last spoke: the files of `ringfence_control::saved`.
//!
//! **Invariant:** a restart never lengthens a lease. What is removed here stays removed, whatever happens to the power.

use ringfence_control::Netmap;
use ringfence_control::saved::{
    Moment, Peers, Saved, SavedDamaged, netmap_file, peers_file, read_peers, read_saved, word_file,
};
use ringfence_model::UnixMillis;

use crate::clock;
use crate::state::{StateDir, StateError};

/// This moment on both clocks.
pub(crate) fn moment_now() -> Moment {
    let boot = clock::since_boot();
    // Without a boot id (no /proc) two boots cannot be told apart: an empty one never equals another.
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Moment {
        boot_id: boot_id.trim().to_owned(),
        boot_ms: u64::try_from(boot.as_millis()).unwrap_or(u64::MAX),
        wall: wall_now(),
    }
}

/// The wall clock.
pub(crate) fn wall_now() -> UnixMillis {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Writes the netmap down. If that fails the old one is removed, which a full disk allows: better no netmap after a
/// restart than one with a peer that was revoked.
pub(crate) fn save_netmap(state: &StateDir, netmap: &Netmap) -> Result<(), StateError> {
    let written = write(state, NETMAP, netmap_file(netmap));
    if written.is_err() {
        state.remove(NETMAP)?;
    }
    written
}

/// Writes down that the controller spoke at `moment`.
pub(crate) fn save_word(state: &StateDir, moment: Moment) -> Result<(), StateError> {
    write(state, WORD, word_file(moment))
}

/// Forgets that the controller ever spoke: after a restart every lease is over.
pub(crate) fn forget_word(state: &StateDir) -> Result<(), StateError> {
    state.remove(WORD)
}

/// Writes down what is known of peers.
pub(crate) fn save_peers(state: &StateDir, peers: &Peers) -> Result<(), StateError> {
    write(state, PEERS, peers_file(peers))
}

/// What was known of peers; nothing if the file is of no use, for the controller says it again.
pub(crate) fn load_peers(state: &StateDir) -> Peers {
    let text = state.read(PEERS).ok().flatten();
    read_peers(text.as_deref().map(str::as_bytes))
}

/// Writes down on which ports this node's lanes after the first are.
pub(crate) fn save_lane_ports(state: &StateDir, ports: &[u16]) -> Result<(), StateError> {
    let words: Vec<String> = ports.iter().map(u16::to_string).collect();
    state.write(LANE_PORTS, format!("{}\n", words.join(" ")).as_bytes())
}

/// On which ports they were; none if the file is of no use, for others do as well.
pub(crate) fn load_lane_ports(state: &StateDir) -> Vec<u16> {
    let text = state.read(LANE_PORTS).ok().flatten().unwrap_or_default();
    let ports: Result<_, _> = text.split_whitespace().map(str::parse).collect();
    ports.unwrap_or_default()
}

/// Forgets all of it.
pub(crate) fn forget(state: &StateDir) -> Result<(), StateError> {
    state.remove(NETMAP)?;
    state.remove(WORD)?;
    state.remove(PEERS)
}

/// What was saved.
pub(crate) fn load(state: &StateDir, now: &Moment) -> Result<Option<Saved>, StateError> {
    let Some(netmap) = state.read(NETMAP)? else {
        return Ok(None);
    };
    let word = state.read(WORD).ok().flatten();
    let word = word.as_deref().map(str::as_bytes);
    read_saved(netmap.as_bytes(), word, now).map_err(|error| damaged(NETMAP, &error))
}

fn write(state: &StateDir, file: &str, bytes: Result<Vec<u8>, SavedDamaged>) -> Result<(), StateError> {
    let bytes = bytes.map_err(|error| damaged(file, &error))?;
    state.write(file, &bytes)
}

fn damaged(file: &str, error: &SavedDamaged) -> StateError {
    StateError::Damaged {
        path: file.into(),
        why: error.to_string(),
    }
}

const NETMAP: &str = "netmap.json";
const WORD: &str = "last-word.json";
const PEERS: &str = "peers.json";
const LANE_PORTS: &str = "lane-ports";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use ringfence_model::{Name, NodeId, Revision};

    use super::*;

    fn netmap() -> Netmap {
        Netmap {
            mesh: Name::parse("acme").unwrap(),
            node: NodeId(3),
            name: Name::parse("db-1").unwrap(),
            revision: Revision { term: 1, n: 9 },
            issued_at: UnixMillis(5),
            segments: BTreeMap::new(),
        }
    }

    fn fresh() -> (tempfile::TempDir, StateDir) {
        let parent = tempfile::tempdir().unwrap();
        let state = StateDir::create(&parent.path().join("state")).unwrap();
        (parent, state)
    }

    #[test]
    fn a_netmap_reads_back_and_its_lease_is_over_without_a_word() {
        let (_parent, state) = fresh();
        save_netmap(&state, &netmap()).unwrap();
        save_word(&state, moment_now()).unwrap();

        let saved = load(&state, &moment_now()).unwrap().unwrap();
        assert_eq!(saved.netmap, netmap());
        assert!(saved.since_word < Duration::from_mins(1));

        for broken in [Some(b"{broken"), None] {
            match broken {
                Some(bytes) => state.write(WORD, bytes).unwrap(),
                None => forget_word(&state).unwrap(),
            }
            let saved = load(&state, &moment_now()).unwrap().unwrap();
            assert_eq!(saved.since_word, Duration::MAX);
        }
    }

    #[test]
    fn ports_of_lanes_read_back_or_are_none() {
        let (_parent, state) = fresh();
        assert!(load_lane_ports(&state).is_empty());

        save_lane_ports(&state, &[51821, 40123]).unwrap();
        assert_eq!(load_lane_ports(&state), [51821, 40123]);

        state.write(LANE_PORTS, b"51821 70000").unwrap();
        assert!(load_lane_ports(&state).is_empty());
    }

    #[test]
    fn a_damaged_netmap_is_an_error_and_a_forgotten_one_is_none() {
        let (_parent, state) = fresh();
        state.write(NETMAP, b"{\"format\":1,").unwrap();
        assert!(load(&state, &moment_now()).is_err());

        forget(&state).unwrap();

        assert!(load(&state, &moment_now()).unwrap().is_none());
    }
}
