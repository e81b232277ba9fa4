//! A TCP connection through a tunnel, watched at both ends: whether it works, and how and when it ended.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ringfence_lab::{Host, wait_until};

use crate::api::Answer;

/// An open connection.
pub struct Live {
    client: End,
    server: End,
}

/// How an end of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// When it was told.
    pub at: Instant,
    /// How: `None` is a connection closed in good order.
    pub error: Option<ErrorKind>,
}

struct End {
    stream: TcpStream,
    bytes: Arc<AtomicUsize>,
    // Taken when it is asked how it ended.
    reader: Option<JoinHandle<Cut>>,
}

impl Live {
    /// Opens a connection from `client` to `port` at `address` of `server`, and sends a word each way.
    ///
    /// # Errors
    /// When it does not get through.
    pub fn open(client: &Host, server: &Host, address: IpAddr, port: u16) -> Result<Self> {
        let listener = server.tcp_listen(SocketAddr::new(address, port))?;
        let stream = client
            .tcp_connect(SocketAddr::new(address, port), CONNECT_WAIT)
            .with_context(|| format!("{} to {address} port {port}", client.name()))?;
        let (accepted, _) = listener.accept()?;
        let live = Self {
            client: End::watch(stream)?,
            server: End::watch(accepted)?,
        };
        live.exchange(CONNECT_WAIT)?;
        Ok(live)
    }

    /// Sends a word each way and waits until both arrived.
    ///
    /// # Errors
    /// When they do not in time.
    pub fn exchange(&self, wait: Duration) -> Result<()> {
        let before = (self.client.received(), self.server.received());
        (&self.client.stream).write_all(b"ping")?;
        (&self.server.stream).write_all(b"pong")?;
        wait_until(wait, "a word each way on a live connection", || {
            self.client.received() > before.0 && self.server.received() > before.1
        })?;
        Ok(())
    }

    /// Whether neither end has been told of an end.
    pub fn is_open(&self) -> bool {
        !self.client.has_ended() && !self.server.has_ended()
    }

    /// Waits until both ends have been told of the end: the client's, then the server's.
    ///
    /// # Errors
    /// When one of them is not told in time.
    pub fn wait_cut(mut self, wait: Duration) -> Result<(Cut, Cut)> {
        wait_until(wait, "both ends to be told of the end", || {
            self.client.has_ended() && self.server.has_ended()
        })
        .with_context(|| {
            let (client, server) = (self.client.has_ended(), self.server.has_ended());
            format!("client told: {client}, server told: {server}")
        })?;
        Ok((self.client.cut()?, self.server.cut()?))
    }

    /// Waits until both ends have been reset, soon after an administrator was answered.
    ///
    /// # Errors
    /// When one of them is told of another end, of none, or late.
    pub fn cut_by(self, answer: &Answer) -> Result<()> {
        let (client, server) = self.wait_cut(CONNECT_WAIT)?;
        for (end, cut) in [("client", client), ("server", server)] {
            ensure!(cut.is_reset(), "the {end} was told {cut:?}, not reset");
            let late = cut.at.saturating_duration_since(answer.at);
            ensure!(
                late <= CUT_MAX,
                "the {end} was reset {late:?} after the API's answer"
            );
        }
        Ok(())
    }
}

impl Cut {
    /// Whether it was a reset, not a close and not a time-out.
    pub fn is_reset(self) -> bool {
        self.error == Some(ErrorKind::ConnectionReset)
    }
}

impl End {
    fn watch(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        let mut reading = stream.try_clone()?;
        let bytes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 1024];
            loop {
                let error = match reading.read(&mut buffer) {
                    Ok(0) => None,
                    Ok(length) => {
                        count.fetch_add(length, Ordering::Relaxed);
                        continue;
                    }
                    Err(error) => Some(error.kind()),
                };
                return Cut {
                    at: Instant::now(),
                    error,
                };
            }
        });
        let reader = Some(reader);
        Ok(Self {
            stream,
            bytes,
            reader,
        })
    }

    fn has_ended(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn cut(&mut self) -> Result<Cut> {
        let reader = self.reader.take().context("asked once")?;
        reader.join().ok().context("the reader panicked")
    }

    fn received(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // Ends the reader too.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// From the API's answer to the reset, at either end.
const CUT_MAX: Duration = Duration::from_millis(200);
