//! Datagrams sent as fast as they are taken, counted where they arrive.
//!
//! iperf3 asks the clock and polls between two datagrams and sends fewer than some tunnels carry, so this is a sender
//! of its own: one thread calls send(2), one recv(2), a datagram each time, as most programs do.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::UDP_PORT;
use crate::contender::Contender;

/// Datagrams a second that arrived.
pub(crate) fn flood(contender: &Contender, payload_bytes: usize, lasting: Duration) -> Result<f64> {
    let to = SocketAddr::new(contender.right.address, UDP_PORT);
    let receiver = contender.right.host.udp_bind(to)?;
    receiver.set_read_timeout(Some(STOP_INTERVAL))?;
    let sender = contender
        .left
        .host
        .udp_bind(SocketAddr::new(contender.left.address, 0))?;
    // Connected on the left host's network: a socket stays in the namespace it was made in.
    sender.connect(to)?;

    let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
    let rate = thread::scope(|scope| {
        scope.spawn(|| receive(&receiver, &stop, &received));
        scope.spawn(|| send(&sender, payload_bytes, &stop));
        thread::sleep(WARM_UP);
        let (began, before) = (Instant::now(), received.load(Ordering::Relaxed));
        thread::sleep(lasting);
        // Counted while the sender still sends, so that what queues hold does not add to the rate.
        let arrived = received.load(Ordering::Relaxed) - before;
        let rate = arrived as f64 / began.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        rate
    });
    // What is still on its way should not disturb the next measurement.
    thread::sleep(DRAIN);
    ensure!(rate > 0.0, "no datagram arrived");
    Ok(rate)
}

fn send(socket: &UdpSocket, payload_bytes: usize, stop: &AtomicBool) {
    let payload = vec![0x5a; payload_bytes];
    while !stop.load(Ordering::Relaxed) {
        // A full queue is part of the exercise.
        let _ = socket.send(&payload);
    }
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, received: &AtomicU64) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv(&mut buffer) {
            Ok(_) => {
                received.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

const WARM_UP: Duration = Duration::from_millis(200);
const DRAIN: Duration = Duration::from_millis(200);
const STOP_INTERVAL: Duration = Duration::from_millis(20);
