//! WireGuard by hand (whitepaper section 5.4): an initiator that keeps no rule, with any key, counter and bytes.
//!
//! Not by boringtun, so that what it gets wrong is not wrong at both ends.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput as _, KeyInit as _, Update as _};
use blake2::{Blake2s256, Blake2sMac, Digest as _};
use ringfence_e2e::{key_from, random_bytes};
use ringfence_lab::Host;
use x25519_dalek::{PublicKey, StaticSecret};

/// One end of a tunnel that does as it likes.
pub(crate) struct Rogue {
    pub(crate) socket: UdpSocket,
    pub(crate) to: SocketAddr,
    key: StaticSecret,
    peer: PublicKey,
    session: Option<Session>,
}

/// The keys of one handshake.
pub(crate) struct Session {
    send: [u8; 32],
    receive: [u8; 32],
    /// The index that the other end chose.
    pub(crate) index: u32,
    /// The next honest counter.
    pub(crate) counter: u64,
}

/// An initiation that waits for its response.
pub(crate) struct Initiation {
    pub(crate) datagram: Vec<u8>,
    chain: [u8; 32],
    hash: [u8; 32],
    ephemeral: StaticSecret,
}

impl Rogue {
    /// On `host` with `key`, towards the segment with `public_key` at `to`.
    pub(crate) fn new(host: &Host, key: [u8; 32], public_key: &str, to: SocketAddr) -> Self {
        Self {
            socket: host.udp_bind(([0; 4], 0).into()).unwrap(),
            to,
            key: StaticSecret::from(key),
            peer: PublicKey::from(key_from(public_key).unwrap()),
            session: None,
        }
    }

    /// Handshake and session; the time from question to answer, or `None` if there was no answer in time.
    pub(crate) fn shake(&mut self, wait: Duration) -> Option<Duration> {
        let initiation = self.initiation();
        let began = Instant::now();
        self.send_raw(&initiation.datagram);
        while let Some(left) = wait.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
            let answer = self.hear(left)?;
            let took = began.elapsed();
            if let Some(session) = self.finish(&initiation, &answer) {
                self.session = Some(session);
                return Some(took);
            }
        }
        None
    }

    /// Whatever answers a new initiation within a second or so.
    pub(crate) fn initiation_answered(&self) -> Option<Vec<u8>> {
        // What came before is no answer.
        while self.hear(Duration::from_millis(50)).is_some() {}
        self.send_raw(&self.initiation().datagram);
        self.hear(Duration::from_millis(1200))
    }

    /// A new handshake initiation, valid in every part.
    pub(crate) fn initiation(&self) -> Initiation {
        initiation(&self.key, &self.peer)
    }

    /// What the response to `initiation` makes; `None` if `answer` is none.
    pub(crate) fn finish(&self, initiation: &Initiation, answer: &[u8]) -> Option<Session> {
        if answer.len() != 92 || answer[..4] != [2, 0, 0, 0] {
            return None;
        }
        let ephemeral: [u8; 32] = answer[12..44].try_into().ok()?;
        let theirs = PublicKey::from(ephemeral);
        let chain = kdf(&initiation.chain, &ephemeral)[0];
        let mut hash = hash(&[&initiation.hash, &ephemeral]);
        let chain = kdf(&chain, initiation.ephemeral.diffie_hellman(&theirs).as_bytes())[0];
        let chain = kdf(&chain, self.key.diffie_hellman(&theirs).as_bytes())[0];
        let [chain, tau, key] = kdf(&chain, &[0; 32]);
        hash = self::hash(&[&hash, &tau]);
        open(&key, 0, &answer[44..60], &hash)?;
        let [send, receive, _] = kdf(&chain, &[]);
        Some(Session {
            send,
            receive,
            index: u32::from_le_bytes(answer[4..8].try_into().ok()?),
            counter: 0,
        })
    }

    pub(crate) fn session(&self) -> &Session {
        self.session.as_ref().unwrap()
    }

    /// Seals a packet with the next honest counter.
    pub(crate) fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let session = self.session.as_mut().unwrap();
        session.counter += 1;
        let counter = session.counter - 1;
        self.seal_at(counter, packet)
    }

    /// Seals a packet with any counter, padded as the protocol wants it.
    pub(crate) fn seal_at(&self, counter: u64, packet: &[u8]) -> Vec<u8> {
        let session = self.session();
        let mut padded = packet.to_vec();
        padded.resize(packet.len().next_multiple_of(16), 0);
        let mut datagram = vec![4, 0, 0, 0];
        datagram.extend(session.index.to_le_bytes());
        datagram.extend(counter.to_le_bytes());
        datagram.extend(seal(&session.send, counter, &padded, &[]));
        datagram
    }

    pub(crate) fn send(&mut self, packet: &[u8]) {
        let datagram = self.seal(packet);
        self.send_raw(&datagram);
    }

    pub(crate) fn send_raw(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.to).unwrap();
    }

    /// The next datagram that comes, if one does in time.
    pub(crate) fn hear(&self, wait: Duration) -> Option<Vec<u8>> {
        self.socket
            .set_read_timeout(Some(wait.max(Duration::from_millis(1))))
            .unwrap();
        let mut buffer = vec![0; 65_536];
        let length = self.socket.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// The next packet out of the tunnel that is not empty, if one comes in time.
    pub(crate) fn receive(&self, wait: Duration) -> Option<Vec<u8>> {
        let began = Instant::now();
        while let Some(left) = wait.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
            let datagram = self.hear(left)?;
            if datagram.len() < 16 || datagram[..4] != [4, 0, 0, 0] {
                continue;
            }
            let counter = u64::from_le_bytes(datagram[8..16].try_into().unwrap());
            if let Some(packet) = open(&self.session().receive, counter, &datagram[16..], &[])
                && !packet.is_empty()
            {
                return Some(packet);
            }
        }
        None
    }
}

/// An initiation from `key` to `peer` (section 5.4.2).
pub(crate) fn initiation(key: &StaticSecret, peer: &PublicKey) -> Initiation {
    let ephemeral = StaticSecret::from(random_bytes::<32>().unwrap());
    let public = PublicKey::from(&ephemeral);
    let chain = hash(&[CONSTRUCTION]);
    let mut transcript = hash(&[&hash(&[&chain, IDENTIFIER]), peer.as_bytes()]);
    let mut datagram = vec![1, 0, 0, 0];
    datagram.extend(random_bytes::<4>().unwrap());
    datagram.extend(public.as_bytes());
    let chain = kdf(&chain, public.as_bytes())[0];
    transcript = hash(&[&transcript, public.as_bytes()]);

    let [chain, cipher, _] = kdf(&chain, ephemeral.diffie_hellman(peer).as_bytes());
    let sealed = seal(&cipher, 0, PublicKey::from(key).as_bytes(), &transcript);
    transcript = hash(&[&transcript, &sealed]);
    datagram.extend(sealed);

    let [chain, cipher, _] = kdf(&chain, key.diffie_hellman(peer).as_bytes());
    let sealed = seal(&cipher, 0, &tai64n(), &transcript);
    transcript = hash(&[&transcript, &sealed]);
    datagram.extend(sealed);

    datagram.extend(mac1(peer, &datagram));
    datagram.extend([0; 16]);
    Initiation {
        datagram,
        chain,
        hash: transcript,
        ephemeral,
    }
}

/// `mac1` of a handshake message to `peer` (section 5.4.4).
pub(crate) fn mac1(peer: &PublicKey, message: &[u8]) -> [u8; 16] {
    let key = hash(&[b"mac1----", peer.as_bytes()]);
    let mut mac = Blake2sMac::<U16>::new_from_slice(&key).unwrap();
    mac.update(message);
    mac.finalize_fixed().into()
}

fn tai64n() -> [u8; 12] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut stamp = [0; 12];
    stamp[..8].copy_from_slice(&((1 << 62) + 37 + now.as_secs()).to_be_bytes());
    stamp[8..].copy_from_slice(&now.subsec_nanos().to_be_bytes());
    stamp
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Blake2s256::new();
    for part in parts {
        blake2::Digest::update(&mut hash, part);
    }
    hash.finalize().into()
}

/// RFC 2104.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let pad = |with: u8| -> [u8; 64] { std::array::from_fn(|at| key.get(at).copied().unwrap_or(0) ^ with) };
    let mut inner: Vec<&[u8]> = Vec::new();
    let (inside, outside) = (pad(0x36), pad(0x5c));
    inner.push(&inside);
    inner.extend(parts);
    hash(&[&outside, &hash(&inner)])
}

/// The whitepaper's KDF₃; its first outputs are those of KDF₁ and KDF₂.
fn kdf(key: &[u8; 32], input: &[u8]) -> [[u8; 32]; 3] {
    let secret = hmac(key, &[input]);
    let first = hmac(&secret, &[&[1]]);
    let second = hmac(&secret, &[&first, &[2]]);
    let third = hmac(&secret, &[&second, &[3]]);
    [first, second, third]
}

fn seal(key: &[u8; 32], counter: u64, plain: &[u8], aad: &[u8]) -> Vec<u8> {
    let mut bytes = plain.to_vec();
    let cipher = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).unwrap());
    cipher
        .seal_in_place_append_tag(nonce(counter), Aad::from(aad), &mut bytes)
        .unwrap();
    bytes
}

fn open(key: &[u8; 32], counter: u64, sealed: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = sealed.to_vec();
    let cipher = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).unwrap());
    let plain = cipher
        .open_in_place(nonce(counter), Aad::from(aad), &mut bytes)
        .ok()?;
    Some(plain.to_vec())
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
