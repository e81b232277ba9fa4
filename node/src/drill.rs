//! Takes part in a drill: keeps a flow of datagrams going in a segment, or answers one, as the controller asks.
//!
//! **Invariant:** both ends are ordinary sockets of this host: what they send passes the same walls as any program's. Each
//! lasts for a bounded time, goes nowhere but to a member of the segment it is in, and answers from its overlay address
//! alone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval, timeout_at};

use ringfence_control::{DrillOrder, DrillReport};

use crate::probe::Ground;

/// Holds the port of an order to answer.
///
/// # Errors
/// If this node is not in the segment, or another program holds the port.
pub(crate) fn hold(ground: Option<&Ground>, port: u16) -> io::Result<UdpSocket> {
    let ground = ground.ok_or_else(|| io::Error::other(NOT_IN))?;
    let socket = std::net::UdpSocket::bind((own_address(ground), port))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Sends back what comes until `wait` is over.
pub(crate) async fn answer(socket: UdpSocket, wait: Duration) {
    let until = tokio::time::Instant::now() + wait;
    let mut datagram = [0; DATAGRAM_BYTES];
    while let Ok(received) = timeout_at(until, socket.recv_from(&mut datagram)).await {
        // An error is of one datagram, such as that its sender has gone: the flow may go on.
        if let Ok((length, from)) = received {
            let _ = socket.send_to(&datagram[..length], from).await;
        }
    }
}

/// Keeps the flow going until its answers stay away: how many came, and how long ago the last one did.
///
/// # Errors
/// If this node is not in the segment, or `dst` is not.
pub(crate) async fn send(
    ground: Option<&Ground>,
    dst: SocketAddr,
    wait: Duration,
) -> io::Result<(u64, Duration)> {
    let ground = ground.ok_or_else(|| io::Error::other(NOT_IN))?;
    if !ground.prefixes.iter().any(|prefix| prefix.contains(dst.ip())) {
        return Err(io::Error::other("the drill leads out of the perimeter"));
    }
    let socket = UdpSocket::bind((own_address(ground), 0)).await?;
    socket.connect(dst).await?;
    let began = Instant::now();
    let mut every = interval(Duration::from_millis(DrillOrder::SEND_EVERY_MS));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0_u64;
    let mut answered = 0;
    let mut last = None;
    let mut datagram = [0; DATAGRAM_BYTES];
    while began.elapsed() < wait && last.is_none_or(|last: Instant| last.elapsed() < QUIET) {
        tokio::select! {
            _ = every.tick() => {
                number += 1;
                // What is refused is what is measured.
                let _ = socket.send(&number.to_be_bytes()).await;
            }
            received = socket.recv(&mut datagram) => {
                if received.is_ok() {
                    answered += 1;
                    last = Some(Instant::now());
                }
            }
        }
    }
    Ok((answered, last.unwrap_or(began).elapsed()))
}

/// What to say of a part that came to its end.
pub(crate) fn report(id: u64, outcome: &io::Result<(u64, Duration)>) -> DrillReport {
    let (answered, quiet) = outcome.as_ref().copied().unwrap_or_default();
    DrillReport {
        id,
        answered,
        quiet_us: u64::try_from(quiet.as_micros()).unwrap_or(u64::MAX),
        failure: outcome
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

/// How long a part lasts.
pub(crate) fn length(order: &DrillOrder) -> Duration {
    Duration::from_millis(order.wait_ms.clamp(1, DrillOrder::WAIT_MS_MAX))
}

/// The address of the perimeter that every member has, on hosts without IPv6 too.
fn own_address(ground: &Ground) -> Ipv4Addr {
    ground.addresses.v4
}

const NOT_IN: &str = "this node is not in the perimeter of the drill";
const QUIET: Duration = Duration::from_millis(DrillOrder::QUIET_MS);
const DATAGRAM_BYTES: usize = 8;
