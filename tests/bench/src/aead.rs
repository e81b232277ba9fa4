//! How fast this CPU seals and opens by itself: what no tunnel with that cipher can exceed on one core.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use ringfence_e2e::random_bytes;
use serde::{Deserialize, Serialize};

/// One cipher of one library.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AeadSpeed {
    /// Whose, and which.
    pub name: String,
    /// Nanoseconds to seal [`PACKET_BYTES`].
    pub seal_ns: f64,
    /// Nanoseconds to open them; `None` where it was not measured.
    pub open_ns: Option<f64>,
}

impl AeadSpeed {
    /// What that makes for one core that seals and does nothing else, in Gbit/s.
    pub fn seal_gigabits(&self) -> f64 {
        PACKET_BYTES as f64 * 8.0 / self.seal_ns
    }
}

/// All of them, each for about a second.
///
/// # Errors
/// When a library refuses its own work.
pub fn speeds() -> Result<Vec<AeadSpeed>> {
    let mut speeds = vec![
        aws_lc("aws-lc-rs, ChaCha20-Poly1305", &CHACHA20_POLY1305)?,
        aws_lc("aws-lc-rs, AES-256-GCM", &AES_256_GCM)?,
        tunn()?,
    ];
    for (name, cipher) in [
        ("openssl, ChaCha20-Poly1305", "chacha20-poly1305"),
        ("openssl, AES-256-GCM", "aes-256-gcm"),
    ] {
        // Not there is no failure: it is one more to compare with.
        speeds.extend(openssl(name, cipher));
    }
    Ok(speeds)
}

fn aws_lc(name: &str, algorithm: &'static Algorithm) -> Result<AeadSpeed> {
    let key = UnboundKey::new(algorithm, &random_bytes::<32>()?)
        .ok()
        .context("a key")?;
    let key = LessSafeKey::new(key);
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    let mut packet = vec![0x5a; PACKET_BYTES];
    let mut last_tag = None;
    let seal_ns = nanoseconds_each(|| {
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::empty(), &mut packet);
        last_tag = tag.ok();
    });
    let mut sealed = vec![0x5a; PACKET_BYTES];
    key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed)
        .ok()
        .context("sealed")?;
    let mut buffer = sealed.clone();
    let mut opened = true;
    // The copy that keeps the sealed packet whole is some 20 ns of this.
    let open_ns = nanoseconds_each(|| {
        buffer.copy_from_slice(&sealed);
        opened &= key.open_in_place(nonce(), Aad::empty(), &mut buffer).is_ok();
    });
    if last_tag.is_none() || !opened {
        bail!("{name} does not open what it sealed");
    }
    Ok(AeadSpeed {
        name: name.to_owned(),
        seal_ns,
        open_ns: Some(open_ns),
    })
}

/// boringtun's session as released: ring's cipher, its own framing, counters and replay window.
fn tunn() -> Result<AeadSpeed> {
    let (mut left, mut right) = session()?;
    let packet = ipv4_packet();
    let mut sealed = vec![vec![0; PACKET_BYTES + ROOM_BYTES]; BATCH];
    let mut lengths = vec![0; BATCH];
    let mut out = vec![0; PACKET_BYTES + ROOM_BYTES];
    let (mut sealing, mut opening, mut count) = (Duration::ZERO, Duration::ZERO, 0);
    while sealing + opening < LONG_ENOUGH * 2 {
        let began = Instant::now();
        for (datagram, length) in sealed.iter_mut().zip(&mut lengths) {
            let TunnResult::WriteToNetwork(written) = left.encapsulate(&packet, datagram) else {
                bail!("boringtun did not seal");
            };
            *length = written.len();
        }
        sealing += began.elapsed();
        let began = Instant::now();
        for (datagram, length) in sealed.iter().zip(&lengths) {
            let opened = right.decapsulate(None, &datagram[..*length], &mut out);
            if !matches!(opened, TunnResult::WriteToTunnelV4(..)) {
                bail!("boringtun did not open what it sealed");
            }
        }
        opening += began.elapsed();
        count += BATCH;
    }
    let each = |time: Duration| time.as_secs_f64() * 1e9 / count as f64;
    Ok(AeadSpeed {
        name: "boringtun session (ring, ChaCha20-Poly1305)".to_owned(),
        seal_ns: each(sealing),
        open_ns: Some(each(opening)),
    })
}

fn session() -> Result<(Tunn, Tunn)> {
    let secrets = [
        StaticSecret::from(random_bytes::<32>()?),
        StaticSecret::from(random_bytes::<32>()?),
    ];
    let publics = [PublicKey::from(&secrets[0]), PublicKey::from(&secrets[1])];
    let [first, second] = secrets;
    let mut left = Tunn::new(first, publics[1], None, None, 1, None);
    let mut right = Tunn::new(second, publics[0], None, None, 2, None);
    let mut buffers = [vec![0; 2048], vec![0; 2048], vec![0; 2048]];
    let [one, two, three] = &mut buffers;
    let TunnResult::WriteToNetwork(initiation) = left.format_handshake_initiation(one, false) else {
        bail!("boringtun began no handshake");
    };
    let TunnResult::WriteToNetwork(response) = right.decapsulate(None, initiation, two) else {
        bail!("boringtun did not answer a handshake");
    };
    let TunnResult::WriteToNetwork(keepalive) = left.decapsulate(None, response, three) else {
        bail!("boringtun did not finish a handshake");
    };
    right.decapsulate(None, keepalive, &mut vec![0; 2048]);
    Ok((left, right))
}

/// A header that says how long the packet is, so that it is not trimmed, and nothing else.
fn ipv4_packet() -> Vec<u8> {
    let mut packet = vec![0; PACKET_BYTES];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(PACKET_BYTES as u16).to_be_bytes());
    packet
}

fn openssl(name: &str, cipher: &str) -> Option<AeadSpeed> {
    let bytes = PACKET_BYTES.to_string();
    let args = [
        "speed", "-elapsed", "-seconds", "1", "-bytes", &bytes, "-mr", "-evp", cipher,
    ];
    let output = Command::new("openssl").args(args).output().ok()?;
    let bytes_per_second = openssl_rate(&String::from_utf8_lossy(&output.stdout))?;
    Some(AeadSpeed {
        name: name.to_owned(),
        seal_ns: PACKET_BYTES as f64 / bytes_per_second * 1e9,
        open_ns: None,
    })
}

/// The last field of `+F:25:ChaCha20-Poly1305:1756530000.00`: bytes a second.
fn openssl_rate(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("+F:"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

fn nanoseconds_each(mut act: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < LONG_ENOUGH {
        for _ in 0..BATCH {
            act();
        }
        count += BATCH;
    }
    began.elapsed().as_secs_f64() * 1e9 / count as f64
}

/// A packet that fills a tunnel of the usual MTU.
pub const PACKET_BYTES: usize = 1420;
const ROOM_BYTES: usize = 64;
const BATCH: usize = 256;
const LONG_ENOUGH: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssl_is_read_in_bytes_a_second() {
        let text = "+DT:ChaCha20-Poly1305:1:1420\n+R:1:x\n+H:1420\n+F:25:ChaCha20-Poly1305:1775000000.00\n";

        assert_eq!(openssl_rate(text), Some(1_775_000_000.0));
        assert_eq!(openssl_rate("openssl: unknown option"), None);
    }

    #[test]
    fn a_nanosecond_a_bit_is_a_gigabit_a_second() {
        let speed = AeadSpeed {
            name: String::new(),
            seal_ns: 11_360.0,
            open_ns: None,
        };

        assert_eq!(speed.seal_gigabits(), 1.0);
    }
}
