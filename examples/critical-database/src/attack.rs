//! What the intruder tries: a member of the mesh, with root on its own machine and the database's public key in hand.

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use boringtun::noise::{Tunn, TunnResult};
use ringfence_e2e::{Node, Postgres};
use ringfence_lab::Reach;

use crate::cast::{Cast, PAYMENTS, SHOP, database};

/// What came of real WireGuard initiations.
pub(crate) struct Knocks {
    /// Where they went.
    pub(crate) to: SocketAddr,
    /// How many were sent.
    pub(crate) sent: u64,
    /// How many datagrams came back.
    pub(crate) answers: u64,
    /// How long the last one was listened for.
    pub(crate) listened: Duration,
    /// How many the database's node counted as from a key it does not know.
    pub(crate) counted: u64,
}

/// What `psql` on the intruder's machine says.
pub(crate) fn psql(cast: &Cast) -> Result<String> {
    match Postgres::query(cast.intruder.host(), database(cast)?, "SELECT 1") {
        Ok(_) => bail!("the intruder reads the database"),
        Err(error) => {
            let text = format!("{error:#}");
            let line = text.lines().find_map(|line| line.split_once("failed: "));
            Ok(line.map_or(text.clone(), |(_, why)| why.to_owned()))
        }
    }
}

/// Sends the database's machine packets for its overlay addresses in clear, straight over the LAN.
///
/// A Linux host takes packets for any of its addresses on any of its interfaces (RFC 1122 3.3.4.2 calls it the weak
/// model), so this would go around the tunnel.
pub(crate) fn around_the_tunnel(cast: &Cast) -> Result<Vec<(SocketAddr, Reach)>> {
    let host = cast.intruder.host();
    let overlay = cast.db.overlay(PAYMENTS)?;
    let (v4, v6) = (cast.db.host().ipv4(), cast.db.host().ipv6());
    let (v4, v6) = (v4.context("the LAN has IPv4")?, v6.context("the LAN has IPv6")?);
    host.route(&format!("{}/32", overlay.v4), &v4.to_string())?;
    host.route(&format!("{}/128", overlay.v6), &v6.to_string())?;
    let tried = overlay
        .both(5432)
        .map(|to| (to, host.try_tcp(to, SHORT_PATIENCE)));
    for to in [format!("{}/32", overlay.v4), format!("{}/128", overlay.v6)] {
        host.command("ip").args(["route", "del", &to]).text()?;
    }
    Ok(tried.to_vec())
}

/// Knocks at the database's WireGuard port with the intruder's own, enrolled key.
pub(crate) fn knock(cast: &Cast) -> Result<Knocks> {
    let key = key_file(&cast.intruder)?;
    let segment = cast.db.segment(PAYMENTS)?;
    let door = key_of(segment["public_key"].as_str().context("a segment has a key")?)?;
    let port = cast.db.status()?["listen_port"]
        .as_u64()
        .context("a node listens")?;
    let to = SocketAddr::new(cast.db.host().address(), u16::try_from(port)?);
    let before = refused_initiations(&cast.db)?;

    let socket = cast.intruder.host().udp_bind(([0, 0, 0, 0], 0).into())?;
    for index in 1..=KNOCKS {
        socket.send_to(&initiation(key, door, index)?, to)?;
        thread::sleep(KNOCK_INTERVAL);
    }
    let listening = Instant::now();
    let answers = count_datagrams(&socket, LISTEN)?;

    Ok(Knocks {
        to,
        sent: KNOCKS.into(),
        answers,
        listened: listening.elapsed(),
        counted: refused_initiations(&cast.db)? - before,
    })
}

/// A handshake initiation as any WireGuard client sends it: with a right `mac1`, since it knows the public key.
fn initiation(own: [u8; 32], door: [u8; 32], index: u32) -> Result<Vec<u8>> {
    let mut tunnel = Tunn::new(own.into(), door.into(), None, None, index, None);
    let mut buffer = vec![0; INITIATION_BYTES];
    match tunnel.format_handshake_initiation(&mut buffer, false) {
        TunnResult::WriteToNetwork(datagram) => Ok(datagram.to_vec()),
        TunnResult::Done
        | TunnResult::Err(_)
        | TunnResult::WriteToTunnelV4(..)
        | TunnResult::WriteToTunnelV6(..) => bail!("a new tunnel begins with an initiation"),
    }
}

fn count_datagrams(socket: &UdpSocket, during: Duration) -> Result<u64> {
    let deadline = Instant::now() + during;
    let mut count = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(count);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv_from(&mut [0; 2048]) {
            Ok(_) => count += 1,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("the intruder cannot listen"),
        }
    }
}

/// How many initiations a node dropped because it knows no such key. To get that far one must have a right `mac1` and
/// a sender's key that decrypts: so the count also says that the knocks were real.
fn refused_initiations(node: &Node) -> Result<u64> {
    Ok(node.status()?["drops"]["unknown_key"].as_u64().unwrap_or(0))
}

/// The intruder's private key in the shop: its own machine, its own root.
fn key_file(node: &Node) -> Result<[u8; 32]> {
    let path = node.state_dir().join("keys").join(format!("{SHOP}.key"));
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    key_of(text.trim())
}

fn key_of(text: &str) -> Result<[u8; 32]> {
    let bytes = STANDARD.decode(text)?;
    ensure!(bytes.len() == 32, "a key has 32 bytes");
    bytes.try_into().ok().context("just measured")
}

const KNOCKS: u32 = 3;
const KNOCK_INTERVAL: Duration = Duration::from_millis(200);
/// A node on this LAN answers within a few milliseconds.
const LISTEN: Duration = Duration::from_secs(1);
const SHORT_PATIENCE: Duration = Duration::from_millis(500);
/// Whitepaper 5.4.2.
const INITIATION_BYTES: usize = 148;
