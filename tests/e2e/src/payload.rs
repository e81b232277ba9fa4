//! Bytes of no pattern that both ends can make, sent through a tunnel and compared one by one where they arrive.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ringfence_lab::Host;

/// A TCP connection with both its ends.
pub struct StreamPair {
    /// The end that opened it.
    pub client: TcpStream,
    /// The end that accepted it.
    pub server: TcpStream,
}

/// Two UDP sockets connected with each other.
pub struct DatagramPair {
    /// The end that sent first.
    pub client: UdpSocket,
    /// The end with the known port.
    pub server: UdpSocket,
}

/// The bytes that one seed stands for (xorshift64*).
pub struct Payload(u64);

impl StreamPair {
    /// Connects `client` to `at`, an address of `server`.
    ///
    /// # Errors
    /// When it does not get through.
    pub fn open(client: &Host, server: &Host, at: SocketAddr) -> Result<Self> {
        let listener = server.tcp_listen(at)?;
        let opened = client.tcp_connect(at, PATIENCE);
        let client = opened.with_context(|| format!("{} to {at}", client.name()))?;
        let (server, _) = listener.accept()?;
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE))?;
            end.set_write_timeout(Some(PATIENCE))?;
        }
        Ok(Self { client, server })
    }

    /// Sends `bytes` bytes each way at once, in writes of every size up to `write_bytes_max`.
    ///
    /// # Errors
    /// When they do not arrive, or not as they were sent; the error says where they differ.
    pub fn exchange(&self, bytes: usize, write_bytes_max: usize) -> Result<()> {
        let there = Payload::fresh()?;
        let back = Payload::fresh()?;
        thread::scope(|scope| {
            let (a, b) = (&self.client, &self.server);
            let tasks = [
                scope.spawn(|| send(a, there.copy(), bytes, write_bytes_max)),
                scope.spawn(|| send(b, back.copy(), bytes, write_bytes_max)),
                scope.spawn(|| receive(b, there.copy(), bytes).context("at the server")),
                scope.spawn(|| receive(a, back.copy(), bytes).context("at the client")),
            ];
            let results = tasks.map(|task| task.join().map_err(|_| anyhow::anyhow!("a thread panicked")));
            results.into_iter().try_for_each(|result| result?)
        })
    }
}

impl DatagramPair {
    /// A socket on `client` that talks with one at `at`, an address of `server`.
    ///
    /// # Errors
    /// When the first datagram does not get through.
    pub fn open(client: &Host, server: &Host, at: SocketAddr) -> Result<Self> {
        let any: SocketAddr = if at.is_ipv4() {
            ([0; 4], 0).into()
        } else {
            ([0_u16; 8], 0).into()
        };
        let pair = Self {
            client: client.udp_bind(any)?,
            server: server.udp_bind(at)?,
        };
        pair.client.connect(at)?;
        for end in [&pair.client, &pair.server] {
            end.set_read_timeout(Some(PATIENCE))?;
        }
        pair.client.send(b"hello")?;
        let (_, from) = pair.server.recv_from(&mut [0; 16])?;
        pair.server.connect(from)?;
        Ok(pair)
    }

    /// Sends one datagram of each of these sizes each way, a few at a time.
    ///
    /// # Errors
    /// When one does not arrive, or not in its turn, or not as it was sent.
    pub fn exchange(&self, sizes: &[usize]) -> Result<()> {
        for (from, to, whither) in [
            (&self.client, &self.server, "to the server"),
            (&self.server, &self.client, "to the client"),
        ] {
            for sizes in sizes.chunks(AT_ONCE) {
                let payload = Payload::fresh()?;
                let mut sent = payload.copy();
                for size in sizes {
                    from.send(&sent.take(*size))?;
                }
                expect_datagrams(to, payload, sizes).context(whither)?;
            }
        }
        Ok(())
    }
}

impl Payload {
    /// Bytes that were not there before.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn fresh() -> Result<Self> {
        Ok(Self(u64::from_ne_bytes(crate::random_bytes()?) | 1))
    }

    /// The same bytes again.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(self.0)
    }

    /// The next `bytes` of it.
    pub fn take(&mut self, bytes: usize) -> Vec<u8> {
        let words = (0..bytes.div_ceil(8)).flat_map(|_| self.next().to_ne_bytes());
        words.take(bytes).collect()
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Receives one datagram of each of these sizes, which together are `payload`.
///
/// # Errors
/// When one does not arrive, or not in its turn, or not as it was sent.
pub fn expect_datagrams(socket: &UdpSocket, mut payload: Payload, sizes: &[usize]) -> Result<()> {
    let mut buffer = vec![0; 65_536];
    for (index, size) in sizes.iter().enumerate() {
        let length = socket
            .recv(&mut buffer)
            .with_context(|| format!("datagram {index}, of {size} bytes, is missing"))?;
        ensure!(
            buffer[..length] == payload.take(*size),
            "datagram {index}, sent with {size} bytes and received with {length}, is another"
        );
    }
    Ok(())
}

fn send(mut stream: &TcpStream, mut payload: Payload, bytes: usize, write_bytes_max: usize) -> Result<()> {
    let mut sizes = payload.copy();
    let all = payload.take(bytes);
    let mut left = all.as_slice();
    while !left.is_empty() {
        let size = 1 + sizes.next() as usize % write_bytes_max;
        let (now, later) = left.split_at(size.min(left.len()));
        stream.write_all(now).context("sending")?;
        left = later;
    }
    Ok(())
}

fn receive(mut stream: &TcpStream, mut payload: Payload, bytes: usize) -> Result<()> {
    let all = payload.take(bytes);
    let mut got = 0;
    let mut buffer = vec![0; CHUNK_BYTES];
    while got < bytes {
        let length = stream
            .read(&mut buffer)
            .with_context(|| format!("after {got} bytes of {bytes}"))?;
        ensure!(length > 0, "it ended after {got} bytes of {bytes}");
        let (ours, theirs) = (&all[got..], &buffer[..length]);
        ensure!(
            ours.starts_with(theirs),
            "one of the bytes {got} to {} of {bytes} is another",
            got + length
        );
        got += length;
    }
    Ok(())
}

/// How long nothing may happen before it is a failure.
const PATIENCE: Duration = Duration::from_secs(20);
/// Datagrams under way at once: a socket's buffer holds so many of 64 KiB no longer, but these sizes are mixed.
const AT_ONCE: usize = 12;
const CHUNK_BYTES: usize = 65_536;
