//! The local socket: `ringfence status`, `ringfence ping` and `ringfence login` ask here. One JSON request a line, one
//! answer a line.
//!
//! **Invariant:** nothing asked here changes what the node enforces, but by the controller's word.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use ringfence_control::api::AccessView;
use ringfence_control::local::{
    LocalError, LocalErrorCode, LocalRequest, LocalResponse, PINGS_MAX, PeerStatus, PingReport,
    REQUEST_BYTES_MAX, SegmentStatus,
};
use ringfence_control::{LocalGain, LoginCode, LoginStart, LoginStarted, SessionFacts};
use ringfence_model::Name;

use crate::logins::{Logins, SessionWish};
use crate::pings::{PingEnd, Pings};
use crate::report::Reporter;
use crate::unix::{Line, Listener, read_line};

/// Answers on `listener` until the task is dropped.
pub(crate) async fn serve(listener: Listener, desk: Desk) {
    let desk = Arc::new(desk);
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(stream) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    if let Err(error) = desk.converse(stream).await {
                        tracing::debug!(%error, "a local caller went away");
                    }
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a local caller failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers local requests.
pub(crate) struct Desk {
    /// Knows how things are.
    pub(crate) reporter: Reporter,
    /// Sends pings.
    pub(crate) pings: Pings,
    /// Logs people in.
    pub(crate) logins: Logins,
}

/// What to ping.
struct Errand {
    peer: String,
    perimeter: Option<Name>,
    count: u32,
    wait: Duration,
}

impl Desk {
    async fn converse(&self, stream: UnixStream) -> std::io::Result<()> {
        let uid = stream.peer_cred()?.uid();
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        loop {
            let read = read_line(&mut reader, REQUEST_BYTES_MAX);
            let Ok(line) = tokio::time::timeout(IDLE_MAX, read).await else {
                return Ok(());
            };
            let (response, last) = match line? {
                Line::Text(line) => (self.answer(uid, &line).await, false),
                Line::Refused => (refusal(LocalErrorCode::BadRequest, "the line is too long"), true),
                Line::End => return Ok(()),
            };
            let mut bytes = serde_json::to_vec(&response)?;
            bytes.push(b'\n');
            // Whoever asks and does not read must not keep a seat.
            tokio::time::timeout(ANSWER_MAX, writer.write_all(&bytes)).await??;
            if last {
                return Ok(());
            }
        }
    }

    async fn answer(&self, uid: u32, line: &str) -> LocalResponse {
        match serde_json::from_str(line) {
            Err(error) => refusal(LocalErrorCode::BadRequest, error.to_string()),
            Ok(LocalRequest::Version) => LocalResponse::Version {
                version: env!("CARGO_PKG_VERSION").into(),
            },
            Ok(LocalRequest::Status) => match self.reporter.status().await {
                Some(report) => LocalResponse::Status(report),
                None => stopping(),
            },
            Ok(LocalRequest::Ping {
                peer,
                perimeter,
                count,
                wait_ms,
            }) => {
                let wait = Duration::from_millis(wait_ms.clamp(1, WAIT_MS_MAX));
                self.ping(Errand {
                    peer,
                    perimeter,
                    count: count.clamp(1, PINGS_MAX),
                    wait,
                })
                .await
            }
            Ok(LocalRequest::Login {
                provider,
                method,
                step_up,
            }) => {
                let start = LoginStart {
                    id: 0,
                    provider,
                    method,
                    step_up,
                };
                self.logins
                    .begin(uid, start)
                    .await
                    .map_or_else(LocalResponse::Error, started)
            }
            Ok(LocalRequest::LoginCode {
                login,
                code,
                state,
                issuer,
            }) => {
                let code = LoginCode {
                    id: login,
                    code,
                    state,
                    issuer,
                };
                session(self.logins.finish(uid, code).await.map(Some))
            }
            Ok(LocalRequest::LoginWait { login }) => session(self.logins.wait(uid, login).await.map(Some)),
            Ok(LocalRequest::LoginEnd { login }) => {
                session(self.logins.give_up(uid, login).await.map(|()| None))
            }
            Ok(LocalRequest::LocalLogin { name, proof }) => local(self.logins.local(name, proof).await),
            Ok(LocalRequest::WhoAmI) => session(self.logins.session(SessionWish::Look).await),
            Ok(LocalRequest::Logout) => session(self.logins.session(SessionWish::End).await),
            Ok(LocalRequest::Why { question }) => self
                .logins
                .why(question)
                .await
                .map_or_else(LocalResponse::Error, |report| LocalResponse::Why { report }),
            Ok(LocalRequest::Access { errand }) => access(self.logins.access(errand).await),
        }
    }

    async fn ping(&self, errand: Errand) -> LocalResponse {
        let Some(report) = self.reporter.status().await else {
            return stopping();
        };
        let Some((segment, peer)) = find(&report.segments, &errand) else {
            let within = errand
                .perimeter
                .map_or(String::new(), |perimeter| format!(" in perimeter {perimeter}"));
            return refusal(
                LocalErrorCode::NotFound,
                format!("no peer {}{within} on this node", errand.peer),
            );
        };
        let Some(address) = peer.addresses.first() else {
            return refusal(LocalErrorCode::Internal, "the peer has no address");
        };
        let mut report = PingReport {
            peer: peer.node.clone(),
            perimeter: segment.perimeter.clone(),
            address: *address,
            endpoint: peer.endpoint,
            rtt_us: Vec::new(),
        };
        for turn in 0..errand.count {
            if turn > 0 {
                tokio::time::sleep(PING_PAUSE).await;
            }
            match self
                .pings
                .ping(peer.id, Some(segment.perimeter.clone()), errand.wait)
                .await
            {
                PingEnd::Answered(pong) => {
                    report.endpoint = pong.endpoint.or(report.endpoint);
                    report.rtt_us.push(Some(
                        u64::try_from(pong.round_trip.as_micros()).unwrap_or(u64::MAX),
                    ));
                }
                PingEnd::Lost => report.rtt_us.push(None),
                PingEnd::Refused(error) => return refusal(LocalErrorCode::NotFound, error.to_string()),
                PingEnd::Busy => return refusal(LocalErrorCode::Internal, "the node is busy or stopping"),
            }
        }
        LocalResponse::Ping(report)
    }
}

fn find<'a>(segments: &'a [SegmentStatus], errand: &Errand) -> Option<(&'a SegmentStatus, &'a PeerStatus)> {
    let asked = |segment: &&SegmentStatus| {
        errand
            .perimeter
            .as_ref()
            .is_none_or(|name| *name == segment.perimeter)
    };
    segments.iter().filter(asked).find_map(|segment| {
        let named =
            |peer: &&PeerStatus| peer.node.as_str() == errand.peer || peer.id.to_string() == errand.peer;
        segment.peers.iter().find(named).map(|peer| (segment, peer))
    })
}

fn started(started: LoginStarted) -> LocalResponse {
    LocalResponse::LoginStarted {
        login: started.id,
        url: started.url,
        user_code: started.user_code,
        state: started.state,
        expires_in_s: started.expires_in_s,
    }
}

fn session(answer: Result<Option<SessionFacts>, LocalError>) -> LocalResponse {
    answer.map_or_else(LocalResponse::Error, |session| LocalResponse::Session { session })
}

fn local(answer: Result<LocalGain, LocalError>) -> LocalResponse {
    answer.map_or_else(LocalResponse::Error, LocalResponse::LocalLogin)
}

fn access(answer: Result<Vec<AccessView>, LocalError>) -> LocalResponse {
    answer.map_or_else(LocalResponse::Error, |access| LocalResponse::Access { access })
}

fn stopping() -> LocalResponse {
    refusal(LocalErrorCode::Internal, "the node is stopping")
}

fn refusal(code: LocalErrorCode, message: impl Into<String>) -> LocalResponse {
    LocalResponse::Error(LocalError {
        code,
        message: message.into(),
    })
}

/// Local callers at once; the next waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;
/// How long a caller may keep a connection without asking.
const IDLE_MAX: Duration = Duration::from_mins(1);
/// How long a caller may take to read its answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const PING_PAUSE: Duration = Duration::from_millis(200);
const WAIT_MS_MAX: u64 = 60_000;
