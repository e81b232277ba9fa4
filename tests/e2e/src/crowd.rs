//! Very many devices of one perimeter in this process, stock WireGuard clients all: what one node has to know.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use boringtun::noise::{Tunn, TunnResult};
use ringfence_lab::Host;
use serde_json::json;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::mesh::Mesh;
use crate::stranger::{key_from, public_key_of};

/// Devices `crowd-1`, `crowd-2`, … of one perimeter, behind as many addresses as one handshake limit for each asks for.
pub struct Crowd {
    host: Host,
    perimeter: String,
    members: u32,
}

/// Sessions of all members of a [`Crowd`] with one node.
pub struct CrowdSessions {
    tunnels: Vec<Tunn>,
    /// One for each address; members share them.
    sockets: Vec<UdpSocket>,
}

impl Crowd {
    /// Nobody yet. `host` gets the addresses 10.78.0.0/24.
    ///
    /// # Errors
    /// When the host does not take them.
    pub fn on(host: &Host, perimeter: &str) -> Result<Self> {
        let route = ["route", "add", "local", "10.78.0.0/24", "dev", "lo"];
        host.command("ip").args(route).text()?;
        Ok(Self {
            host: host.clone(),
            perimeter: perimeter.to_owned(),
            members: 0,
        })
    }

    /// Adds devices with the label `role=device` at the controller until there are `members`.
    ///
    /// # Errors
    /// When the controller refuses one.
    pub fn grow(&mut self, mesh: &Mesh, members: u32) -> Result<()> {
        let bodies = (self.members + 1..=members).map(|number| {
            json!({
                "name": format!("crowd-{number}"),
                "perimeter": self.perimeter,
                "public_key": public_key_of(key(number)),
                "labels": { "role": "device" },
            })
        });
        mesh.api()?.post_each("/api/v1/peers", bodies)?;
        self.members = members;
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.members
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.members == 0
    }

    /// Has each of them make a session with the node that is at `to` and has `public_key` (base64), no faster than a
    /// node takes handshakes of so many.
    ///
    /// # Errors
    /// When one of them gets no session.
    pub fn connect(&self, public_key: &str, to: SocketAddr) -> Result<CrowdSessions> {
        let peer = PublicKey::from(key_from(public_key)?);
        let sockets = (1..=ADDRESSES).map(|last| {
            let socket = self.host.udp_bind(SocketAddr::from(([10, 78, 0, last], 0)))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(ANSWER_WAIT))?;
            anyhow::Ok(socket)
        });
        let sockets: Vec<UdpSocket> = sockets.collect::<Result<_>>()?;
        let mut tunnels = Vec::new();
        for (number, socket) in (1..=self.members).zip(sockets.iter().cycle()) {
            let began = Instant::now();
            let mut tunnel = Tunn::new(StaticSecret::from(key(number)), peer, None, None, number, None);
            shake(&mut tunnel, socket).with_context(|| format!("crowd-{number}"))?;
            tunnels.push(tunnel);
            thread::sleep(PACE.saturating_sub(began.elapsed()));
        }
        Ok(CrowdSessions { tunnels, sockets })
    }
}

impl CrowdSessions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.tunnels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tunnels.is_empty()
    }

    /// Every one of them sends a keepalive.
    ///
    /// # Errors
    /// When one cannot.
    pub fn speak(&mut self) -> Result<()> {
        let mut buffer = [0; BUFFER_BYTES];
        for (tunnel, socket) in self.tunnels.iter_mut().zip(self.sockets.iter().cycle()) {
            let TunnResult::WriteToNetwork(keepalive) = tunnel.encapsulate(&[], &mut buffer) else {
                bail!("there is no session to speak in");
            };
            socket.send(keepalive)?;
        }
        Ok(())
    }
}

/// A handshake, and the keepalive that confirms it.
fn shake(tunnel: &mut Tunn, socket: &UdpSocket) -> Result<()> {
    let (mut buffer, mut answer) = ([0; BUFFER_BYTES], [0; BUFFER_BYTES]);
    for _ in 0..TRIES {
        let TunnResult::WriteToNetwork(initiation) = tunnel.format_handshake_initiation(&mut buffer, true)
        else {
            bail!("no initiation was made");
        };
        socket.send(initiation)?;
        let Ok(length) = socket.recv(&mut answer) else {
            continue;
        };
        let taken = tunnel.decapsulate(None, &answer[..length], &mut buffer);
        if let TunnResult::WriteToNetwork(keepalive) = taken
            && keepalive.first() == Some(&DATA)
        {
            socket.send(keepalive)?;
            return Ok(());
        }
    }
    bail!("no handshake was answered");
}

/// A key that only this crowd has.
fn key(number: u32) -> [u8; 32] {
    let mut key = [0x77; 32];
    // Not the first and last byte: Curve25519 ignores bits of those.
    key[8..12].copy_from_slice(&number.to_le_bytes());
    key
}

/// A node takes twenty handshakes a second from one source, and sixty at once.
const ADDRESSES: u8 = 250;
/// Between two handshakes: strangers get 256 a second of a segment.
const PACE: Duration = Duration::from_micros(2_500);
const ANSWER_WAIT: Duration = Duration::from_millis(500);
const TRIES: usize = 6;
/// A device sends handshakes and keepalives, nothing longer.
const BUFFER_BYTES: usize = 2048;
/// The type of a data message.
const DATA: u8 = 4;
