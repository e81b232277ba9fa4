//! Traffic between hosts: echo servers, and who reaches whom.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::host::Host;

/// What came of an attempt to reach somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// It works.
    Open,
    /// There is a host, and it says no: TCP reset or ICMP port unreachable.
    Refused,
    /// Somebody on the way says no: ICMP unreachable or prohibited, no route, no neighbour.
    Unreachable,
    /// Nobody says anything.
    Silent,
}

/// An echo server for TCP and UDP on one port, until it is dropped.
pub struct Serving {
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    datagrams: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Serving {
    /// How many TCP connections it has taken.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many datagrams it has received.
    pub fn datagrams(&self) -> usize {
        self.datagrams.load(Ordering::Relaxed)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Host {
    /// Connects from this host.
    ///
    /// # Errors
    /// As [`TcpStream::connect_timeout`].
    pub fn tcp_connect(&self, to: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        self.inside(|| TcpStream::connect_timeout(&to, timeout))
    }

    /// Listens on this host.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn tcp_listen(&self, on: SocketAddr) -> io::Result<TcpListener> {
        self.inside(|| TcpListener::bind(on))
    }

    /// A UDP socket of this host.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub fn udp_bind(&self, on: SocketAddr) -> io::Result<UdpSocket> {
        self.inside(|| UdpSocket::bind(on))
    }

    /// Answers TCP and UDP on `on` with what comes in.
    ///
    /// # Errors
    /// When the port is taken or the address is not this host's.
    pub fn serve(&self, on: SocketAddr) -> Result<Serving> {
        let context = || format!("{} cannot serve {on}", self.name());
        let tcp = self.tcp_listen(on).with_context(context)?;
        let udp = self.udp_bind(tcp.local_addr()?).with_context(context)?;
        tcp.set_nonblocking(true)?;
        udp.set_read_timeout(Some(STOP_INTERVAL))?;

        let stop = Arc::new(AtomicBool::new(false));
        let (connections, datagrams) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads = vec![
            thread::spawn({
                let (stop, connections) = (stop.clone(), connections.clone());
                move || echo_connections(&tcp, &stop, &connections)
            }),
            thread::spawn({
                let (stop, datagrams) = (stop.clone(), datagrams.clone());
                move || echo_datagrams(&udp, &stop, &datagrams)
            }),
        ];
        Ok(Serving {
            stop,
            connections,
            datagrams,
            threads,
        })
    }

    /// Whether a TCP connection from this host is accepted.
    pub fn try_tcp(&self, to: SocketAddr, timeout: Duration) -> Reach {
        match self.tcp_connect(to, timeout) {
            Ok(_) => Reach::Open,
            Err(error) => reach_of(&error),
        }
    }

    /// Whether a datagram from this host to an echo server comes back; it is sent again while there is time.
    pub fn try_udp(&self, to: SocketAddr, timeout: Duration) -> Reach {
        let from: SocketAddr = if to.is_ipv4() {
            ([0; 4], 0).into()
        } else {
            ([0u16; 8], 0).into()
        };
        match self
            .udp_bind(from)
            .and_then(|socket| exchange(&socket, to, timeout))
        {
            Ok(()) => Reach::Open,
            Err(error) => reach_of(&error),
        }
    }

    /// Whether a ping from this host is answered.
    pub fn try_ping(&self, to: IpAddr, timeout: Duration) -> Reach {
        let seconds = format!("{:.2}", timeout.as_secs_f64());
        let ping = self
            .command("ping")
            .args(["-n", "-c1", "-W", &seconds, &to.to_string()]);
        let Ok(output) = ping.timeout(timeout + Duration::from_secs(5)).run() else {
            return Reach::Silent;
        };
        let text = output.all();
        if output.status.success() {
            Reach::Open
        } else if ["nreachable", "rohibited", "iltered"]
            .iter()
            .any(|word| text.contains(word))
        {
            Reach::Unreachable
        } else {
            Reach::Silent
        }
    }
}

fn exchange(socket: &UdpSocket, to: SocketAddr, timeout: Duration) -> io::Result<()> {
    let deadline = Instant::now() + timeout;
    socket.connect(to)?;
    socket.set_read_timeout(Some(RESEND_INTERVAL.min(timeout)))?;
    loop {
        socket.send(b"echo?")?;
        match socket.recv(&mut [0; 64]) {
            Ok(_) => return Ok(()),
            Err(error) if is_timeout(&error) && Instant::now() < deadline => {}
            Err(error) => return Err(error),
        }
    }
}

fn echo_connections(listener: &TcpListener, stop: &AtomicBool, count: &AtomicUsize) {
    let mut streams = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(ACCEPT_INTERVAL);
            continue;
        };
        count.fetch_add(1, Ordering::Relaxed);
        streams.extend(stream.try_clone());
        thread::spawn(move || echo_stream(stream));
    }
    for stream in streams {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

fn echo_stream(mut stream: TcpStream) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let _ = stream.set_nonblocking(false);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

fn echo_datagrams(socket: &UdpSocket, stop: &AtomicBool, count: &AtomicUsize) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn reach_of(error: &io::Error) -> Reach {
    if is_timeout(error) {
        Reach::Silent
    } else if matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
    ) {
        Reach::Refused
    } else {
        Reach::Unreachable
    }
}

const BUFFER_BYTES: usize = 65_536;
const ACCEPT_INTERVAL: Duration = Duration::from_millis(2);
const RESEND_INTERVAL: Duration = Duration::from_millis(250);
const STOP_INTERVAL: Duration = Duration::from_millis(20);
