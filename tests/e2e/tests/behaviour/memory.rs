//! What is left of dead keys in a running node's memory, read as only root can.
//!
//! A session's keys are known to nobody but the two ends, so they are found the hard way: every place in the node's
//! memory is tried as the key of a datagram that went over the wire.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use chacha20poly1305::aead::{AeadInPlace as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use ringfence_e2e::{Node, Overlay, Stranger, base64_of, key_from, packet};
use ringfence_lab::wait_until;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::stage::{API_TO_DB, BRIEFLY, SHOP, SOON, Shop, allow, policy};

/// Everything a process can write to.
struct Memory(Vec<Area>);

/// One mapping of it.
struct Area {
    from: u64,
    bytes: Vec<u8>,
}

impl Memory {
    fn of(pid: u32) -> Self {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        let areas = maps.lines().filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (range, rights) = (fields.next()?, fields.next()?);
            let (from, to) = range.split_once('-')?;
            let from = u64::from_str_radix(from, 16).ok()?;
            let to = u64::from_str_radix(to, 16).ok()?;
            rights.starts_with("rw").then_some((from, to))
        });
        Self(
            areas
                .filter_map(|(from, to)| Area::read(&memory, from, to))
                .collect(),
        )
    }

    /// Where these bytes are.
    fn places(&self, needle: &[u8]) -> Vec<String> {
        let in_one = |area: &Area| {
            let at = |offset: usize| format!("{:#x} + {offset:#x} of {:#x}", area.from, area.bytes.len());
            let starts = area
                .bytes
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == needle[0]);
            let found = starts.filter(|(offset, _)| area.bytes[*offset..].starts_with(needle));
            found.map(|(offset, _)| at(offset)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(in_one).collect()
    }

    /// The 32 bytes that open this transport data message.
    fn key_of(&self, datagram: &[u8]) -> Option<[u8; 32]> {
        let places = self.0.iter().flat_map(|area| area.bytes.windows(32).step_by(4));
        places
            .filter(|bytes| looks_random(bytes))
            .find(|bytes| opens(bytes, datagram))
            .map(|bytes| bytes.try_into().unwrap())
    }
}

impl Area {
    /// What was never touched is left out.
    fn read(memory: &File, from: u64, to: u64) -> Option<Self> {
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        memory.read_exact_at(&mut bytes, from).ok()?;
        let touched = bytes.iter().any(|byte| *byte != 0);
        touched.then_some(Self { from, bytes })
    }
}

fn looks_random(bytes: &[u8]) -> bool {
    // The ends tell most of it apart: zeros, text, pointers.
    bytes[0] != bytes[1] && bytes[6..8] != [0, 0] && bytes.iter().collect::<BTreeSet<_>>().len() >= 22
}

/// Whitepaper section 5.4.6: type, receiver, counter, sealed packet.
fn opens(key: &[u8], datagram: &[u8]) -> bool {
    let (header, sealed) = datagram.split_at(16);
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&header[8..]);
    let (body, tag) = sealed.split_at(sealed.len() - 16);
    ChaCha20Poly1305::new(key.into())
        .decrypt_in_place_detached(
            Nonce::from_slice(&nonce),
            b"",
            &mut body.to_vec(),
            Tag::from_slice(tag),
        )
        .is_ok()
}

/// A datagram that the database's node sealed, and one that it opened, in a session that only it and this test hold.
struct Wire {
    sent: Vec<u8>,
    received: Vec<u8>,
}

fn converse(shop: &Shop, api: Overlay, private_key: [u8; 32]) -> Wire {
    let db = Shop::at(&shop.db);
    let (key, at) = (shop.db.public_key(SHOP).unwrap(), shop.db.endpoint().unwrap());
    let mut peer = Stranger::new(shop.api.host(), private_key, &key, at).unwrap();
    assert!(peer.shake(SOON).unwrap());
    let received = peer
        .seal(&packet::udp(api.v4(4000), db.v4(53), b"who is there"))
        .unwrap();
    peer.send_datagram(&received).unwrap();
    let sent = loop {
        let datagram = peer.hear(SOON).unwrap().expect("the echo comes back");
        // Not a keepalive.
        if datagram[0] == 4 && datagram.len() > 32 {
            break datagram;
        }
    };
    Wire { sent, received }
}

fn clamped(mut key: [u8; 32]) -> [u8; 32] {
    key[0] &= 0xf8;
    key[31] = (key[31] & 0x7f) | 0x40;
    key
}

/// The number that both ends of a pair make of their static keys, in every handshake.
fn shared(private_key: [u8; 32], public_key: &str) -> [u8; 32] {
    let theirs = PublicKey::from(key_from(public_key).unwrap());
    StaticSecret::from(private_key).diffie_hellman(&theirs).to_bytes()
}

fn memory_of(node: &Node) -> Memory {
    Memory::of(node.running().pid())
}

#[test]
fn dead_keys_are_gone_from_a_running_nodes_memory() {
    let rules = [
        API_TO_DB,
        allow("api", "db", "udp/53"),
        allow("web", "db", "tcp/443"),
    ];
    let mut shop = Shop::open("memory", &rules);
    let db_key = shop.db.private_key(SHOP).unwrap();
    let api_key = shop.api.private_key(SHOP).unwrap();
    let shared = shared(db_key, &shop.api.public_key(SHOP).unwrap());
    let _server = shop.db.host().serve(Shop::at(&shop.db).v4(53)).unwrap();
    let api = Shop::at(&shop.api);
    shop.api.stop().unwrap();

    let wire = converse(&shop, api, api_key);
    let memory = memory_of(&shop.db);
    let sending = memory
        .key_of(&wire.sent)
        .expect("the session's sending key is in use");
    let receiving = memory
        .key_of(&wire.received)
        .expect("the session's receiving key is in use");
    assert!(
        !memory.places(&clamped(db_key)).is_empty(),
        "the scan finds the private key while it is in use"
    );

    shop.mesh.apply_and_wait(&policy(&rules[2..])).unwrap();
    assert!(shop.db.peer(SHOP, "api").unwrap().is_none());
    assert_gone(
        &shop.db,
        &[
            ("the removed peer's sending key", &sending),
            ("the removed peer's receiving key", &receiving),
            ("the removed peer's static shared secret", &shared),
        ],
    );

    let rest = shop.mesh.api().unwrap();
    rest.request("DELETE", "/api/v1/perimeters/shop", None)
        .unwrap()
        .ok()
        .unwrap();
    shop.db.running().wait_for_log("segment removed", SOON).unwrap();
    assert_gone(
        &shop.db,
        &[
            ("the removed segment's private key", &db_key),
            ("the removed segment's private key, clamped", &clamped(db_key)),
            (
                "the removed segment's private key as text",
                &base64_of(db_key).as_bytes()[..20],
            ),
        ],
    );
}

/// The thread that let go of them wipes its stack right after it has said so.
fn assert_gone(node: &Node, secrets: &[(&str, &[u8])]) {
    let mut left = Vec::new();
    let gone = wait_until(BRIEFLY, "dead keys to be gone", || {
        let memory = memory_of(node);
        let places = secrets
            .iter()
            .map(|(what, secret)| (*what, memory.places(secret)));
        left = places.filter(|(_, places)| !places.is_empty()).collect();
        left.is_empty()
    });
    assert!(gone.is_ok(), "{left:?}");
}
