//! One control connection as a pair: what sends messages, and what receives them.
//!
//! **Invariant:** a connection lives as long as its sender, its receiver and nothing else; when both are gone it is
//! closed and its place in the server's count is free.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use crate::TransportError;
use crate::admission::canonical;
use ringfence_control::{FrameDecoder, Message};

/// Sends messages.
pub struct Sender<M> {
    stream: SendStream,
    link: Arc<Link>,
    messages: PhantomData<fn(M)>,
}

/// Receives messages.
pub struct Receiver<M> {
    stream: RecvStream,
    decoder: FrameDecoder,
    /// By when the frame that has begun must be whole.
    deadline: Option<Instant>,
    link: Arc<Link>,
    messages: PhantomData<fn() -> M>,
}

/// Closes a connection from elsewhere, without keeping it open.
#[derive(Clone)]
pub struct LinkHandle(Weak<Link>);

/// Why this end closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// There is no more to say.
    Done,
    /// The other end may not be here.
    Denied,
    /// The other end is nobody here, or nobody any more: what it was told before does not count either.
    Disowned,
    /// There is too much to do.
    Busy,
    /// The other end does not keep to the protocol.
    Protocol,
}

/// What keeps a connection open.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    /// The client's socket, or the server's count of connections.
    #[expect(dead_code, reason = "held, not read")]
    pub(crate) holds: Holds,
}

/// What a connection holds while it lives.
pub(crate) enum Holds {
    Client(#[expect(dead_code, reason = "kept open by being held")] quinn::Endpoint),
    Server(#[expect(dead_code, reason = "given back by being dropped")] OwnedSemaphorePermit),
}

impl CloseReason {
    pub(crate) const fn code(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Done => 0,
            Self::Denied => 1,
            Self::Busy => 2,
            Self::Protocol => 3,
            Self::Disowned => 4,
        })
    }

    pub(crate) fn from_code(code: VarInt) -> Option<Self> {
        let all = [
            Self::Done,
            Self::Denied,
            Self::Busy,
            Self::Protocol,
            Self::Disowned,
        ];
        all.into_iter().find(|reason| reason.code() == code)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.close(CloseReason::Done.code(), b"");
    }
}

impl LinkHandle {
    /// Closes the connection, if it still is one. The other end is told why.
    pub fn close(&self, reason: CloseReason, why: &str) {
        if let Some(link) = self.0.upgrade() {
            link.connection.close(reason.code(), why.as_bytes());
        }
    }

    pub(crate) fn of(link: &Arc<Link>) -> Self {
        Self(Arc::downgrade(link))
    }

    /// Returns once the connection is closed, by whichever end.
    pub async fn closed(&self) {
        let connection = self.0.upgrade().map(|link| link.connection.clone());
        if let Some(connection) = connection {
            connection.closed().await;
        }
    }

    /// Where the other end is now; it may move.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.0
            .upgrade()
            .map(|link| canonical(link.connection.remote_address()))
    }
}

impl<M: Message> Sender<M> {
    pub(crate) fn new(stream: SendStream, link: Arc<Link>) -> Self {
        Self {
            stream,
            link,
            messages: PhantomData,
        }
    }

    /// Sends one message. Waits while the other end is slow, up to [`SEND_TIMEOUT`]
    /// or, for a long one, [`FRAME_TIMEOUT`], so a reader that stopped costs no
    /// memory.
    ///
    /// Not to be cancelled: half a frame would be all that follows.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub async fn send(&mut self, message: &M) -> Result<(), TransportError> {
        let frame = message.encode().map_err(|error| TransportError::Protocol {
            why: error.to_string(),
        })?;
        let patience = if frame.len() > LONG_BYTES {
            FRAME_TIMEOUT
        } else {
            SEND_TIMEOUT
        };
        let written = timeout(patience, self.stream.write_all(&frame)).await;
        written
            .map_err(|_| TransportError::Timeout { what: "sending" })?
            .map_err(|error| from_write(error, &self.link.connection))
    }

    /// Waits a little for what was sent to arrive, then closes and says why: dropping would lose the last message.
    pub async fn close(mut self, reason: CloseReason, why: &str) {
        // Fails only when it is closed already, and then there is nothing to wait for.
        if self.stream.finish().is_ok() {
            let _ = timeout(LAST_WORDS_TIMEOUT, self.stream.stopped()).await;
        }
        self.link.connection.close(reason.code(), why.as_bytes());
    }

    /// Something to close the connection with from elsewhere.
    pub fn handle(&self) -> LinkHandle {
        LinkHandle::of(&self.link)
    }

    /// Sends what is no message.
    #[cfg(test)]
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .await
            .expect("the test keeps the connection open");
    }
}

impl<M: Message> Receiver<M> {
    pub(crate) fn new(stream: RecvStream, link: Arc<Link>) -> Self {
        Self {
            stream,
            decoder: FrameDecoder::with_limit(M::BODY_BYTES_MAX),
            deadline: None,
            link,
            messages: PhantomData,
        }
    }

    /// The next message; `None` when the other end has closed in good order. Messages of unknown kinds are skipped.
    ///
    /// May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub async fn recv(&mut self) -> Result<Option<M>, TransportError> {
        loop {
            let frame = self.decoder.next_frame().map_err(|error| self.broken(&error))?;
            if let Some(frame) = frame {
                self.deadline = None;
                match M::decode(&frame).map_err(|error| self.broken(&error))? {
                    Some(message) => return Ok(Some(message)),
                    None => continue,
                }
            }
            if !self.read_more().await? {
                return Ok(None);
            }
        }
    }

    /// Something to close the connection with from elsewhere.
    pub fn handle(&self) -> LinkHandle {
        LinkHandle::of(&self.link)
    }

    /// Reads what has arrived; `false` at the end.
    async fn read_more(&mut self) -> Result<bool, TransportError> {
        if self.decoder.is_at_boundary() {
            self.deadline = None;
        } else {
            self.deadline
                .get_or_insert_with(|| Instant::now() + FRAME_TIMEOUT);
        }
        let read = self.stream.read_chunk(READ_BYTES, true);
        let chunk = match self.deadline {
            Some(deadline) => timeout_at(deadline, read).await.map_err(|_| {
                self.link
                    .connection
                    .close(CloseReason::Protocol.code(), b"a message took too long");
                TransportError::Timeout { what: "a message" }
            })?,
            None => read.await,
        };
        match chunk {
            Ok(Some(chunk)) => {
                self.decoder.push(&chunk.bytes);
                Ok(true)
            }
            Ok(None) if self.decoder.is_at_boundary() => self.finished().await,
            Ok(None) => Err(TransportError::Closed {
                why: "in the middle of a message".to_owned(),
            }),
            Err(error) => self.ended(from_read(error, &self.link.connection)),
        }
    }

    /// The stream has ended; why the connection does follows it.
    async fn finished(&self) -> Result<bool, TransportError> {
        match timeout(LAST_WORDS_TIMEOUT, self.link.connection.closed()).await {
            Ok(error) => self.ended(error.into()),
            Err(_) => Ok(false),
        }
    }

    fn ended(&self, error: TransportError) -> Result<bool, TransportError> {
        let in_good_order = matches!(&error, TransportError::Closed { why } if why.is_empty());
        if in_good_order && self.decoder.is_at_boundary() {
            return Ok(false);
        }
        Err(error)
    }

    fn broken(&self, error: &dyn std::error::Error) -> TransportError {
        let why = error.to_string();
        self.link
            .connection
            .close(CloseReason::Protocol.code(), why.as_bytes());
        TransportError::Protocol { why }
    }
}

pub(crate) fn from_write(error: WriteError, connection: &Connection) -> TransportError {
    match error {
        WriteError::ConnectionLost(error) => error.into(),
        WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => closed(connection),
    }
}

pub(crate) fn from_read(error: ReadError, connection: &Connection) -> TransportError {
    match error {
        ReadError::ConnectionLost(error) => error.into(),
        ReadError::Reset(_)
        | ReadError::ClosedStream
        | ReadError::IllegalOrderedRead
        | ReadError::ZeroRttRejected => closed(connection),
    }
}

/// The stream is gone; the connection may know why.
fn closed(connection: &Connection) -> TransportError {
    connection.close_reason().map_or_else(
        || TransportError::Closed {
            why: "the stream was given up".to_owned(),
        },
        TransportError::from,
    )
}

/// How long a message may take to be taken from us.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a message may take from its first byte to its last: a full netmap over a slow line, but not for ever.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer messages are a few netmaps of thousands of peers.
const LONG_BYTES: usize = 1024 * 1024;
/// How long the other end has to take the last message.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
const READ_BYTES: usize = 64 * 1024;
