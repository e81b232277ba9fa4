//! Tries flows over the real network, as the controller asks on behalf of `ringfence verify`.
//!
//! **Invariant:** a probe is an ordinary packet of this host: it passes the same walls as any program's, goes nowhere
//! but to members of a perimeter that this node is in, and one order's work is bounded in number and time. Only a
//! stranger's handshake, which is the same few bytes wherever it goes, is sent to the underlay.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use ringfence_control::{Probe, ProbeOrder, ProbeOutcome, ProbeReport, ProbeVerdict};
use ringfence_model::{OverlayAddresses, PerimeterPrefixes, PrivateKey};

use crate::echo::Echo;

/// The segment an order is for.
#[derive(Clone)]
pub(crate) struct Ground {
    /// Where probes start.
    pub(crate) addresses: OverlayAddresses,
    /// Where they may go.
    pub(crate) prefixes: PerimeterPrefixes,
}

/// Carries out an order; probes run side by side. They start in this node's segment, if the order names one.
pub(crate) async fn carry_out(order: ProbeOrder, ground: Option<Ground>) -> ProbeReport {
    let wait = Duration::from_millis(order.wait_ms.clamp(1, ProbeOrder::WAIT_MS_MAX));
    let seats = Arc::new(Semaphore::new(PROBES_AT_ONCE));
    let mut running = JoinSet::new();
    let count = order.probes.len();
    for (index, probe) in order.probes.into_iter().take(ProbeOrder::PROBES_MAX).enumerate() {
        let (seats, ground) = (Arc::clone(&seats), ground.clone());
        running.spawn(async move {
            let _seat = seats.acquire_owned().await;
            (index, attempt(probe, ground.as_ref(), wait).await)
        });
    }
    let mut results = vec![failed("the probe was not carried out"); count];
    while let Some(ended) = running.join_next().await {
        if let Ok((index, outcome)) = ended {
            results[index] = outcome;
        }
    }
    ProbeReport {
        id: order.id,
        results,
    }
}

async fn attempt(probe: Probe, ground: Option<&Ground>, wait: Duration) -> ProbeOutcome {
    if let Some(dst) = destination(&probe)
        && !ground.is_some_and(|ground| ground.prefixes.iter().any(|prefix| prefix.contains(dst)))
    {
        return failed("the probe leads out of every perimeter that this node is in");
    }
    let overlay = ground.map(|ground| ground.addresses);
    let started = Instant::now();
    let tried = match probe {
        Probe::TcpConnect { dst } => connect_tcp(dst, overlay, wait).await,
        Probe::UdpSend { dst } => send_udp(dst, overlay, wait).await,
        Probe::Ping { dst } => ping(dst, overlay, wait).await,
        Probe::Handshake {
            public_key,
            endpoints,
        } => {
            let mut random = [0; 32];
            match getrandom::fill(&mut random) {
                Ok(()) => {
                    let stranger = PrivateKey::from_random(random);
                    let initiation = ringfence_dataplane::initiation_to(&stranger, public_key);
                    knock(&initiation, &endpoints, wait).await
                }
                Err(error) => Err(io::Error::other(error)),
            }
        }
    };
    let mut outcome = tried.unwrap_or_else(|error| failed(&error.to_string()));
    outcome.took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    outcome
}

/// Where a probe of the overlay goes.
fn destination(probe: &Probe) -> Option<IpAddr> {
    match probe {
        Probe::TcpConnect { dst } | Probe::UdpSend { dst } => Some(dst.ip()),
        Probe::Ping { dst } => Some(*dst),
        Probe::Handshake { .. } => None,
    }
}

async fn connect_tcp(
    dst: SocketAddr,
    overlay: Option<OverlayAddresses>,
    wait: Duration,
) -> io::Result<ProbeOutcome> {
    let socket = if dst.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.bind(source(dst, overlay))?;
    let src = socket.local_addr()?;
    Ok(match tokio::time::timeout(wait, socket.connect(dst)).await {
        Ok(Ok(_stream)) => outcome(ProbeVerdict::Answered, Some(src), ""),
        Ok(Err(error)) => from_error(&error, src),
        Err(_) => outcome(ProbeVerdict::Silent, Some(src), ""),
    })
}

async fn send_udp(
    dst: SocketAddr,
    overlay: Option<OverlayAddresses>,
    wait: Duration,
) -> io::Result<ProbeOutcome> {
    let socket = UdpSocket::bind(source(dst, overlay)).await?;
    socket.connect(dst).await?;
    let src = socket.local_addr()?;
    if let Err(error) = socket.send(UDP_PAYLOAD).await {
        return Ok(from_error(&error, src));
    }
    // A connected socket hears the ICMP errors that come back for it.
    let mut answer = [0; 64];
    Ok(match tokio::time::timeout(wait, socket.recv(&mut answer)).await {
        Ok(Ok(_)) => outcome(ProbeVerdict::Answered, Some(src), ""),
        Ok(Err(error)) => from_error(&error, src),
        Err(_) => outcome(ProbeVerdict::Silent, Some(src), ""),
    })
}

async fn ping(dst: IpAddr, overlay: Option<OverlayAddresses>, wait: Duration) -> io::Result<ProbeOutcome> {
    let echo = Echo::to(dst, source(SocketAddr::new(dst, 0), overlay).ip())?;
    let src = echo.src();
    Ok(match tokio::time::timeout(wait, echo.exchange()).await {
        Ok(Ok(())) => outcome(ProbeVerdict::Answered, Some(src), ""),
        Ok(Err(error)) => from_error(&error, src),
        Err(_) => outcome(ProbeVerdict::Silent, Some(src), ""),
    })
}

/// Sends a stranger's initiation to every endpoint from a port of its own; any answer at all is one too many.
async fn knock(initiation: &[u8], endpoints: &[SocketAddr], wait: Duration) -> io::Result<ProbeOutcome> {
    let mut doors = JoinSet::new();
    for endpoint in endpoints.iter().copied().take(ENDPOINTS_MAX) {
        let initiation = initiation.to_vec();
        doors.spawn(async move { knock_one(&initiation, endpoint, wait).await });
    }
    let (mut verdict, mut last_error, mut sent) = (ProbeVerdict::Silent, None, false);
    while let Some(ended) = doors.join_next().await {
        match ended.map_err(io::Error::other)? {
            Ok(ProbeVerdict::Answered) => {
                return Ok(outcome(ProbeVerdict::Answered, None, "a stranger was answered"));
            }
            Ok(ProbeVerdict::Refused) => (verdict, sent) = (ProbeVerdict::Refused, true),
            Ok(ProbeVerdict::Silent | ProbeVerdict::Prohibited | ProbeVerdict::Failed) => sent = true,
            Err(error) => last_error = Some(error),
        }
    }
    match last_error {
        Some(error) if !sent => Err(error),
        Some(_) | None if sent => Ok(outcome(verdict, None, "")),
        Some(_) | None => Ok(failed("there is no endpoint to try")),
    }
}

async fn knock_one(initiation: &[u8], endpoint: SocketAddr, wait: Duration) -> io::Result<ProbeVerdict> {
    let socket = UdpSocket::bind(source(endpoint, None)).await?;
    socket.connect(endpoint).await?;
    socket.send(initiation).await?;
    let mut answer = [0; 256];
    match tokio::time::timeout(wait, socket.recv(&mut answer)).await {
        Ok(Ok(_)) => Ok(ProbeVerdict::Answered),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(ProbeVerdict::Refused),
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(ProbeVerdict::Silent),
    }
}

/// The segment's own address, so that the packet leaves through its device; any for one without a segment.
fn source(dst: SocketAddr, overlay: Option<OverlayAddresses>) -> SocketAddr {
    let address = match (overlay, dst.ip()) {
        (Some(addresses), ip) => addresses.same_family(ip),
        (None, IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
        (None, IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(address, 0)
}

/// ICMP "administratively prohibited" reaches a program as `EHOSTUNREACH` over IPv4 (code 13) and `EACCES` over IPv6.
fn from_error(error: &io::Error, src: SocketAddr) -> ProbeOutcome {
    let verdict = match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => ProbeVerdict::Refused,
        Some(libc::EHOSTUNREACH | libc::EACCES | libc::EPERM) => ProbeVerdict::Prohibited,
        Some(libc::ETIMEDOUT) => ProbeVerdict::Silent,
        Some(_) | None => ProbeVerdict::Failed,
    };
    outcome(verdict, Some(src), &error.to_string())
}

fn outcome(verdict: ProbeVerdict, src: Option<SocketAddr>, detail: &str) -> ProbeOutcome {
    ProbeOutcome {
        verdict,
        src,
        took_us: 0,
        detail: detail.to_owned(),
    }
}

fn failed(why: &str) -> ProbeOutcome {
    outcome(ProbeVerdict::Failed, None, why)
}

/// Probes of one order on their way at once; the others wait for their turn.
const PROBES_AT_ONCE: usize = 256;
/// Endpoints one handshake probe tries.
const ENDPOINTS_MAX: usize = 16;
const UDP_PAYLOAD: &[u8] = b"ringfence verify";

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(100);

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[tokio::test]
    async fn no_probe_leads_out_of_the_perimeter() {
        let ground = Ground {
            addresses: OverlayAddresses {
                v4: "100.64.0.1".parse().unwrap(),
                v6: "fd00:1::1".parse().unwrap(),
            },
            prefixes: PerimeterPrefixes {
                v4: vec!["100.64.0.0/22".parse().unwrap()],
                v6: "fd00:1::/64".parse().unwrap(),
            },
        };
        let listener = tokio::net::TcpListener::bind(loopback(0)).await.unwrap();
        let dst = listener.local_addr().unwrap();

        for ground in [None, Some(&ground)] {
            let outcome = attempt(Probe::TcpConnect { dst }, ground, WAIT).await;
            assert_eq!(outcome.verdict, ProbeVerdict::Failed);
            assert!(outcome.detail.contains("leads out"), "{}", outcome.detail);
        }
    }

    #[tokio::test]
    async fn an_open_and_a_shut_tcp_port_are_told_apart() {
        let listener = tokio::net::TcpListener::bind(loopback(0)).await.unwrap();
        let dst = listener.local_addr().unwrap();

        assert_eq!(
            connect_tcp(dst, None, WAIT).await.unwrap().verdict,
            ProbeVerdict::Answered
        );
        drop(listener);
        let refused = connect_tcp(dst, None, WAIT).await.unwrap();
        assert_eq!(refused.verdict, ProbeVerdict::Refused);
        assert!(refused.src.is_some_and(|src| src.port() != 0));
    }

    #[tokio::test]
    async fn a_door_that_answers_is_told_from_a_silent_one() {
        let silent = UdpSocket::bind(loopback(0)).await.unwrap();
        let chatty = UdpSocket::bind(loopback(0)).await.unwrap();
        let (silent_at, chatty_at) = (silent.local_addr().unwrap(), chatty.local_addr().unwrap());
        tokio::spawn(async move {
            let mut buffer = [0; 256];
            let (_, src) = chatty.recv_from(&mut buffer).await.unwrap();
            chatty.send_to(b"hello", src).await.unwrap();
        });

        assert_eq!(
            knock(b"x", &[silent_at], WAIT).await.unwrap().verdict,
            ProbeVerdict::Silent
        );
        assert_eq!(
            knock(b"x", &[silent_at, chatty_at], WAIT).await.unwrap().verdict,
            ProbeVerdict::Answered
        );
        assert_eq!(
            knock(b"x", &[], WAIT).await.unwrap().verdict,
            ProbeVerdict::Failed
        );
    }

    #[test]
    fn errors_of_the_kernel_are_read_as_verdicts() {
        for (errno, verdict) in [
            (libc::ECONNREFUSED, ProbeVerdict::Refused),
            (libc::EHOSTUNREACH, ProbeVerdict::Prohibited),
            (libc::EACCES, ProbeVerdict::Prohibited),
            (libc::ENETUNREACH, ProbeVerdict::Failed),
        ] {
            assert_eq!(
                from_error(&io::Error::from_raw_os_error(errno), loopback(1)).verdict,
                verdict
            );
        }
    }
}
