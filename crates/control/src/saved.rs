//! What a node keeps on its disk of the controller's word, and what a restart without a controller may count on.
//!
//! **Invariant:** a restart never lengthens a lease. Where the clocks cannot tell how much of it is left, none is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use ringfence_model::{Candidate, Name, NodeId, UnixMillis};

use crate::netmap::Netmap;

/// One moment on both clocks of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Names this boot of the kernel; empty where that is not known.
    pub boot_id: String,
    /// Time since boot in milliseconds, sleep included: nobody can set it.
    pub boot_ms: u64,
    /// The wall clock, for a machine that has booted since.
    pub wall: UnixMillis,
}

impl Moment {
    /// How long before `now` this was; `None` if the clocks do not tell.
    pub fn until(&self, now: &Self) -> Option<Duration> {
        let same_boot = self.boot_id == now.boot_id && !self.boot_id.is_empty();
        let elapsed_ms = if same_boot {
            now.boot_ms.checked_sub(self.boot_ms)
        } else {
            now.wall.0.checked_sub(self.wall.0)
        };
        elapsed_ms.map(Duration::from_millis)
    }
}

/// What a restart can use of what is known of peers, beyond the netmap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// Where they were last said to be.
    pub candidates: BTreeMap<NodeId, Vec<Candidate>>,
    /// On which further ports they had lanes.
    #[serde(default)]
    pub lane_ports: BTreeMap<NodeId, Vec<u16>>,
    /// With whom there were sessions. They go on sending into a session that died with the process, until they
    /// notice after 15 s (whitepaper 6.5): a handshake from here tells them at once.
    pub sessions: BTreeMap<Name, BTreeSet<NodeId>>,
}

/// A netmap to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The controller's last word.
    pub netmap: Netmap,
    /// How long ago that was.
    pub since_word: Duration,
}

/// A file is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SavedDamaged(pub String);

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

/// The file of a netmap.
///
/// # Errors
/// None that a netmap can cause.
pub fn netmap_file(netmap: &Netmap) -> Result<Vec<u8>, SavedDamaged> {
    encode(&NetmapFile {
        format: FORMAT,
        netmap: netmap.clone(),
    })
}

/// The file that says when the controller last spoke.
///
/// # Errors
/// None that a moment can cause.
pub fn word_file(last_word: Moment) -> Result<Vec<u8>, SavedDamaged> {
    encode(&WordFile {
        format: FORMAT,
        last_word,
    })
}

/// The file of what is known of peers.
///
/// # Errors
/// None that peers can cause.
pub fn peers_file(peers: &Peers) -> Result<Vec<u8>, SavedDamaged> {
    encode(&PeersFile {
        format: FORMAT,
        peers: peers.clone(),
    })
}

/// What the two files come to `now`; `None` if a newer program wrote the netmap. A netmap without a usable word counts
/// as past every lease: its segments exist, closed, so that their prefixes stay off the underlay.
///
/// # Errors
/// [`SavedDamaged`] if the netmap is torn or otherwise not what was written.
pub fn read_saved(netmap: &[u8], word: Option<&[u8]>, now: &Moment) -> Result<Option<Saved>, SavedDamaged> {
    let file: NetmapFile = decode(netmap)?;
    if file.format != FORMAT {
        return Ok(None);
    }
    let since_word = word
        .and_then(|word| decode::<WordFile>(word).ok())
        .filter(|word| word.format == FORMAT)
        .and_then(|word| word.last_word.until(now));
    Ok(Some(Saved {
        netmap: file.netmap,
        since_word: since_word.unwrap_or(Duration::MAX),
    }))
}

/// What was known of peers; nothing if the file is of no use, for the controller says it again.
pub fn read_peers(bytes: Option<&[u8]>) -> Peers {
    let file = bytes.and_then(|bytes| decode::<PeersFile>(bytes).ok());
    file.filter(|file| file.format == FORMAT)
        .map(|file| file.peers)
        .unwrap_or_default()
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, SavedDamaged> {
    serde_json::to_vec(value).map_err(|error| SavedDamaged(error.to_string()))
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, SavedDamaged> {
    serde_json::from_slice(bytes).map_err(|error| SavedDamaged(error.to_string()))
}

/// Version of these files.
const FORMAT: u32 = 2;

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
        let file = netmap_file(&netmap()).unwrap();
        let word = word_file(moment("a", 1_000, 0)).unwrap();

        let saved = read_saved(&file, Some(&word), &moment("a", 5_000, 0))
            .unwrap()
            .unwrap();

        assert_eq!(saved.netmap, netmap());
        assert_eq!(saved.since_word, Duration::from_secs(4));
    }

    /// Wherever a write is cut off, the netmap is refused, and a word that is lost or torn ends every lease.
    #[test]
    fn no_torn_file_opens_anything() {
        let file = netmap_file(&netmap()).unwrap();
        let word = word_file(moment("a", 1_000, 0)).unwrap();
        let now = moment("a", 1_001, 0);

        for length in 0..file.len() {
            assert!(
                read_saved(&file[..length], Some(&word), &now).is_err(),
                "{length} bytes"
            );
        }
        for length in 0..word.len() {
            let saved = read_saved(&file, Some(&word[..length]), &now).unwrap().unwrap();
            assert_eq!(saved.since_word, Duration::MAX, "{length} bytes");
        }
        let saved = read_saved(&file, None, &now).unwrap().unwrap();
        assert_eq!(saved.since_word, Duration::MAX);
    }

    #[test]
    fn what_is_known_of_peers_reads_back_or_is_nothing() {
        let candidate = Candidate {
            address: "192.0.2.1:51820".parse().unwrap(),
            kind: ringfence_model::CandidateKind::Host,
        };
        let peers = Peers {
            candidates: BTreeMap::from([(NodeId(7), vec![candidate])]),
            lane_ports: BTreeMap::from([(NodeId(7), vec![51821])]),
            sessions: BTreeMap::from([(Name::parse("payments-db").unwrap(), BTreeSet::from([NodeId(7)]))]),
        };
        let file = peers_file(&peers).unwrap();

        assert_eq!(read_peers(Some(&file)), peers);
        assert_eq!(read_peers(Some(&file[..file.len() - 1])), Peers::default());
        assert_eq!(read_peers(None), Peers::default());
    }
}
