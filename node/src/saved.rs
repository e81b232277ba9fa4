//! The netmap on disk, and when the controller last spoke: what a restart without a controller may count on.
//!
//! **Invariant:** a restart never lengthens a lease. Where the clocks cannot tell how much of it is left, none is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use ringfence_control::Netmap;
use ringfence_model::{Candidate, Name, NodeId, UnixMillis};

use crate::clock;
use crate::state::{FORMAT, StateDir, StateError};

/// One moment on both clocks of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// Names this boot of the kernel.
    boot_id: String,
    /// Time since boot, sleep included: nobody can set it.
    boot_ms: u64,
    /// The wall clock, for a machine that has booted since.
    wall: UnixMillis,
}

/// What a restart can use of what is known of peers, beyond the netmap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peers {
    /// Where they were last said to be.
    pub(crate) candidates: BTreeMap<NodeId, Vec<Candidate>>,
    /// With whom there were sessions. They go on sending into a session that died with the process, until they
    /// notice after 15 s (whitepaper 6.5): a handshake from here tells them at once.
    pub(crate) sessions: BTreeMap<Name, BTreeSet<NodeId>>,
}

/// A netmap to go on with.
#[derive(Debug)]
pub(crate) struct Saved {
    /// The controller's last word.
    pub(crate) netmap: Netmap,
    /// How long ago that was.
    pub(crate) since_word: Duration,
}

#[derive(Serialize, Deserialize)]
struct NetmapFile {
    format: u32,
    netmap: Netmap,
}

#[derive(Serialize, Deserialize)]
struct PeersFile {
    format: u32,
    peers: Peers,
}

#[derive(Serialize, Deserialize)]
struct WordFile {
    format: u32,
    last_word: Moment,
}

impl Moment {
    /// Now.
    pub(crate) fn now() -> Self {
        let boot = clock::since_boot();
        // Without a boot id (no /proc) two boots cannot be told apart: an empty one never equals another.
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            boot_id: boot_id.trim().to_owned(),
            boot_ms: u64::try_from(boot.as_millis()).unwrap_or(u64::MAX),
            wall: wall_now(),
        }
    }

    /// How long before `now` this was; `None` if the clocks do not tell.
    fn until(&self, now: &Self) -> Option<Duration> {
        let same_boot = self.boot_id == now.boot_id && !self.boot_id.is_empty();
        let elapsed_ms = if same_boot {
            now.boot_ms.checked_sub(self.boot_ms)
        } else {
            now.wall.0.checked_sub(self.wall.0)
        };
        elapsed_ms.map(Duration::from_millis)
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
    let file = NetmapFile {
        format: FORMAT,
        netmap: netmap.clone(),
    };
    let written = encode(&file).and_then(|bytes| state.write(NETMAP, &bytes));
    if written.is_err() {
        state.remove(NETMAP)?;
    }
    written
}

/// Writes down that the controller spoke at `moment`.
pub(crate) fn save_word(state: &StateDir, moment: Moment) -> Result<(), StateError> {
    encode(&WordFile {
        format: FORMAT,
        last_word: moment,
    })
    .and_then(|bytes| state.write(WORD, &bytes))
}

/// Forgets that the controller ever spoke: after a restart every lease is over.
pub(crate) fn forget_word(state: &StateDir) -> Result<(), StateError> {
    state.remove(WORD)
}

/// Writes down what is known of peers.
pub(crate) fn save_peers(state: &StateDir, peers: &Peers) -> Result<(), StateError> {
    let file = PeersFile {
        format: FORMAT,
        peers: peers.clone(),
    };
    encode(&file).and_then(|bytes| state.write(PEERS, &bytes))
}

/// What was known of peers; nothing if the file is of no use, for the controller says it again.
pub(crate) fn load_peers(state: &StateDir) -> Peers {
    let text = state.read(PEERS).ok().flatten();
    let file = text.and_then(|text| decode::<PeersFile>(&text).ok());
    file.filter(|file| file.format == FORMAT)
        .map(|file| file.peers)
        .unwrap_or_default()
}

/// Forgets all of it.
pub(crate) fn forget(state: &StateDir) -> Result<(), StateError> {
    state.remove(NETMAP)?;
    state.remove(WORD)?;
    state.remove(PEERS)
}

/// What was saved. A netmap without a usable word counts as past every lease: its segments exist, closed, so that
/// their prefixes stay off the underlay.
pub(crate) fn load(state: &StateDir, now: &Moment) -> Result<Option<Saved>, StateError> {
    let Some(text) = state.read(NETMAP)? else {
        return Ok(None);
    };
    let file: NetmapFile = decode(&text)?;
    if file.format != FORMAT {
        return Ok(None);
    }
    let word = match state.read(WORD) {
        Ok(Some(text)) => decode::<WordFile>(&text).ok(),
        Ok(None) | Err(_) => None,
    };
    let since_word = word
        .filter(|word| word.format == FORMAT)
        .and_then(|word| word.last_word.until(now));
    Ok(Some(Saved {
        netmap: file.netmap,
        since_word: since_word.unwrap_or(Duration::MAX),
    }))
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec(value).map_err(|error| damaged(&error))
}

fn decode<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StateError> {
    serde_json::from_str(text).map_err(|error| damaged(&error))
}

fn damaged(error: &serde_json::Error) -> StateError {
    StateError::Damaged {
        path: NETMAP.into(),
        why: error.to_string(),
    }
}

const NETMAP: &str = "netmap.json";
const WORD: &str = "last-word.json";
const PEERS: &str = "peers.json";

#[cfg(test)]
mod tests {
    use ringfence_model::Revision;

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

    fn moment(boot_id: &str, boot_ms: u64, wall_ms: u64) -> Moment {
        Moment {
            boot_id: boot_id.into(),
            boot_ms,
            wall: UnixMillis(wall_ms),
        }
    }

    fn fresh() -> (tempfile::TempDir, StateDir) {
        let parent = tempfile::tempdir().unwrap();
        let state = StateDir::create(&parent.path().join("state")).unwrap();
        (parent, state)
    }

    #[test]
    fn within_one_boot_the_wall_clock_does_not_count() {
        let word = moment("a", 10_000, 900_000);

        assert_eq!(word.until(&moment("a", 17_000, 1)), Some(Duration::from_secs(7)));
        assert_eq!(word.until(&moment("a", 9_000, 999_000)), None);
    }

    #[test]
    fn after_a_boot_the_wall_clock_counts_unless_it_went_back() {
        let word = moment("a", 10_000, 900_000);

        assert_eq!(
            word.until(&moment("b", 100, 903_000)),
            Some(Duration::from_secs(3))
        );
        assert_eq!(word.until(&moment("b", 100, 899_000)), None);
        assert_eq!(moment("", 1, 5).until(&moment("", 9, 4)), None);
    }

    #[test]
    fn a_netmap_reads_back_with_its_age() {
        let (_parent, state) = fresh();
        save_netmap(&state, &netmap()).unwrap();
        save_word(&state, moment("a", 1_000, 0)).unwrap();

        let saved = load(&state, &moment("a", 5_000, 0)).unwrap().unwrap();

        assert_eq!(saved.netmap, netmap());
        assert_eq!(saved.since_word, Duration::from_secs(4));
    }

    #[test]
    fn without_a_word_every_lease_is_over() {
        let (_parent, state) = fresh();
        save_netmap(&state, &netmap()).unwrap();

        let saved = load(&state, &Moment::now()).unwrap().unwrap();
        assert_eq!(saved.since_word, Duration::MAX);

        state.write(WORD, b"{broken").unwrap();
        let saved = load(&state, &Moment::now()).unwrap().unwrap();
        assert_eq!(saved.since_word, Duration::MAX);
    }

    #[test]
    fn what_is_known_of_peers_reads_back_or_is_nothing() {
        let (_parent, state) = fresh();
        let candidate = Candidate {
            address: "192.0.2.1:51820".parse().unwrap(),
            kind: ringfence_model::CandidateKind::Host,
        };
        let peers = Peers {
            candidates: BTreeMap::from([(NodeId(7), vec![candidate])]),
            sessions: BTreeMap::from([(Name::parse("payments-db").unwrap(), BTreeSet::from([NodeId(7)]))]),
        };

        save_peers(&state, &peers).unwrap();
        assert_eq!(load_peers(&state), peers);

        state.write(PEERS, b"{broken").unwrap();
        assert_eq!(load_peers(&state), Peers::default());
    }

    #[test]
    fn a_damaged_netmap_is_an_error_and_a_forgotten_one_is_none() {
        let (_parent, state) = fresh();
        state.write(NETMAP, b"{\"format\":1,").unwrap();
        assert!(load(&state, &Moment::now()).is_err());

        forget(&state).unwrap();

        assert!(load(&state, &Moment::now()).unwrap().is_none());
    }
}
