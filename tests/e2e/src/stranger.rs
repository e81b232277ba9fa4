//! A WireGuard end of our own making: it sends whatever it likes to a node, and tells what comes back.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::noise::{Tunn, TunnResult};
use ringfence_lab::Host;
use x25519_dalek::{PublicKey, StaticSecret};

/// Talks WireGuard to one segment of one node, with whatever key it was given.
pub struct Stranger {
    tunnel: Tunn,
    socket: UdpSocket,
    to: SocketAddr,
}

impl Stranger {
    /// A stranger on `host` with a key of its own, towards the segment that has `public_key` (base64) at `to`.
    ///
    /// # Errors
    /// When the key is none or the host has no socket left.
    pub fn new(host: &Host, private_key: [u8; 32], public_key: &str, to: SocketAddr) -> Result<Self> {
        let from: SocketAddr = if to.is_ipv4() {
            ([0; 4], 0).into()
        } else {
            ([0_u16; 8], 0).into()
        };
        let index = u32::from_le_bytes(random_bytes::<4>()?) >> 8;
        let peer = PublicKey::from(key_from(public_key)?);
        Ok(Self {
            tunnel: Tunn::new(StaticSecret::from(private_key), peer, None, None, index, None),
            socket: host.udp_bind(from)?,
            to,
        })
    }

    /// A handshake initiation, as it goes on the wire.
    ///
    /// # Errors
    /// When boringtun makes none.
    pub fn initiation(&mut self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; BUFFER_BYTES];
        match self.tunnel.format_handshake_initiation(&mut buffer, true) {
            TunnResult::WriteToNetwork(datagram) => Ok(datagram.to_vec()),
            _ => bail!("no initiation was made"),
        }
    }

    /// Sends a handshake initiation and tells whether it was answered in time, by anything at all.
    ///
    /// # Errors
    /// When the answer is no WireGuard.
    pub fn shake(&mut self, wait: Duration) -> Result<bool> {
        let initiation = self.initiation()?;
        self.send_datagram(&initiation)?;
        let Some(answer) = self.hear(wait)? else {
            return Ok(false);
        };
        self.take(&answer)?;
        Ok(true)
    }

    /// Sends an IP packet through the session that [`Self::shake`] made.
    ///
    /// # Errors
    /// When there is none.
    pub fn send(&mut self, packet: &[u8]) -> Result<()> {
        let sealed = self.seal(packet)?;
        self.send_datagram(&sealed)
    }

    /// An IP packet as it goes on the wire.
    ///
    /// # Errors
    /// When there is no session.
    pub fn seal(&mut self, packet: &[u8]) -> Result<Vec<u8>> {
        let mut buffer = vec![0; BUFFER_BYTES];
        // The protocol pads to 16 bytes (whitepaper 5.4.6); the receiver cuts by the length in the IP header.
        let mut padded = packet.to_vec();
        padded.resize(packet.len().next_multiple_of(16), 0);
        match self.tunnel.encapsulate(&padded, &mut buffer) {
            TunnResult::WriteToNetwork(datagram) if datagram.first() == Some(&4) => Ok(datagram.to_vec()),
            _ => bail!("there is no session to send through"),
        }
    }

    /// The next IP packet out of the tunnel, if one comes in time.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn receive(&mut self, wait: Duration) -> Result<Option<Vec<u8>>> {
        let until = Instant::now() + wait;
        while let Some(left) = until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            let Some(datagram) = self.hear(left)? else {
                return Ok(None);
            };
            if let Some(packet) = self.take(&datagram)? {
                return Ok(Some(packet));
            }
        }
        Ok(None)
    }

    /// Sends any bytes at all.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn send_datagram(&self, datagram: &[u8]) -> Result<()> {
        self.socket.send_to(datagram, self.to)?;
        Ok(())
    }

    /// The next datagram that comes back, if one does in time.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn hear(&self, wait: Duration) -> Result<Option<Vec<u8>>> {
        self.socket
            .set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        match self.socket.recv(&mut buffer) {
            Ok(length) => Ok(Some(buffer[..length].to_vec())),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error).context("the stranger's socket"),
        }
    }

    /// Gives a datagram to boringtun, sends what it wants sent, and returns the packet that was inside.
    fn take(&mut self, datagram: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; BUFFER_BYTES];
        match self.tunnel.decapsulate(Some(self.to.ip()), datagram, &mut buffer) {
            TunnResult::WriteToNetwork(answer) => {
                self.socket.send_to(answer, self.to)?;
                Ok(None)
            }
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Ok(Some(packet.to_vec()))
            }
            TunnResult::Done => Ok(None),
            TunnResult::Err(error) => bail!("the datagram is no answer: {error:?}"),
        }
    }
}

/// The bytes of a key as `wg` writes it.
///
/// # Errors
/// When it is none.
pub fn key_from(base64: &str) -> Result<[u8; 32]> {
    let bytes = STANDARD.decode(base64.trim())?;
    bytes.try_into().ok().context("a key has 32 bytes")
}

/// A key as `wg` writes it.
pub fn base64_of(key: [u8; 32]) -> String {
    STANDARD.encode(key)
}

/// The public key of a private one, as `wg` writes it.
pub fn public_key_of(private_key: [u8; 32]) -> String {
    base64_of(*PublicKey::from(&StaticSecret::from(private_key)).as_bytes())
}

/// Fresh from the system.
///
/// # Errors
/// When it has none to give.
pub fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .ok()
        .context("the system gives no randomness")?;
    Ok(bytes)
}

const BUFFER_BYTES: usize = 65_536;
