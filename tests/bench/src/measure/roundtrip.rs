//! Request and response: one byte there and back over one TCP connection, the next when the last is back.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::ECHO_PORT;
use crate::contender::Contender;
use crate::metric::Metric;
use crate::summary::percentile;

pub(super) fn run(contender: &Contender, lasting: Duration) -> Result<Vec<(Metric, f64)>> {
    let to = SocketAddr::new(contender.right.address, ECHO_PORT);
    let _echo = contender.right.host.serve(to)?;
    let mut stream = contender.left.host.tcp_connect(to, LOST)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOST))?;

    let mut micros = Vec::new();
    let began = Instant::now();
    while began.elapsed() < lasting {
        let asked = Instant::now();
        stream.write_all(&[0x5a])?;
        stream.read_exact(&mut [0])?;
        micros.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    let rate = micros.len() as f64 / began.elapsed().as_secs_f64();
    let p99 = percentile(&micros, 0.99).context("at least one byte came back")?;
    Ok(vec![(Metric::RoundTripRate, rate), (Metric::RoundTripP99, p99)])
}

const LOST: Duration = Duration::from_secs(3);
