//! The connection to the controller: kept, and made anew whenever it is lost.
//!
//! **Invariant:** attempts back off with jitter, so a mesh does not fall upon a controller that comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use ringfence_control::{ToController, ToNode};
use ringfence_model::Name;
use ringfence_transport::{ControlClient, ControlConfig, TransportError};

use crate::identity::Identity;

/// What happens on the way to the controller.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A connection is up. Dropping `outgoing` closes it.
    Connected {
        /// The controller's address.
        address: String,
        /// Takes what to say, in order.
        outgoing: mpsc::Sender<ToController>,
    },
    /// The controller spoke.
    Message(ToNode),
    /// The controller says that this node is none of its mesh's. [`Self::Lost`] follows.
    Disowned,
    /// There is no connection: it ended, or an attempt failed.
    Lost {
        /// For people.
        why: String,
    },
}

/// Where the controller is and who we are.
pub(crate) struct Target {
    /// `host:port` of each controller.
    pub(crate) controllers: Vec<String>,
    /// The mesh it must speak for.
    pub(crate) mesh: Name,
    /// The newest certificate.
    pub(crate) identity: watch::Receiver<Arc<Identity>>,
}

/// Keeps a connection for as long as somebody listens to `events`.
pub(crate) async fn keep(target: Target, events: mpsc::Sender<LinkEvent>) {
    let mut failures = 0_u32;
    let mut last_known = None;
    loop {
        let began = Instant::now();
        let (why, cap) = match attempt(&target, last_known.as_deref(), failures).await {
            Ok(client) => {
                last_known = Some(client.remote.to_string());
                (converse(client, &events).await, BACKOFF_MAX)
            }
            Err(error) => {
                if matches!(error, TransportError::Disowned { .. })
                    && events.send(LinkEvent::Disowned).await.is_err()
                {
                    return;
                }
                (error.to_string(), patience(&error))
            }
        };
        // What held for a while was no failure; what ends at once over and over is.
        failures = if began.elapsed() >= STABLE_AFTER {
            0
        } else {
            failures.saturating_add(1)
        };
        if events.send(LinkEvent::Lost { why }).await.is_err() {
            return;
        }
        tokio::time::sleep(backoff(failures, cap, jitter())).await;
    }
}

/// One round over all controllers.
///
/// And over the address where one was last: names stop resolving when the network changes, and where the file that says
/// who resolves them is replaced ([`crate::confinement`]).
async fn attempt(
    target: &Target,
    last_known: Option<&str>,
    failures: u32,
) -> Result<ControlClient, TransportError> {
    let mut last = TransportError::Setup("no controller is known".to_owned());
    for controller in &target.controllers {
        last = match reach(target, controller, failures).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
    }
    let Some(known) = last_known.filter(|known| target.controllers.iter().all(|named| named != known)) else {
        return Err(last);
    };
    match reach(target, known, failures).await {
        // Why the names lead nowhere says more.
        Err(TransportError::Unreachable { .. }) => Err(last),
        reached => reached,
    }
}

async fn reach(target: &Target, controller: &str, failures: u32) -> Result<ControlClient, TransportError> {
    let identity = Arc::clone(&target.identity.borrow());
    let config = ControlConfig {
        controllers: &[controller.to_owned()],
        mesh: &target.mesh,
        ca_pem: &identity.ca_pem,
        certificate_chain_pem: &identity.chain_pem,
        key: &identity.key,
    };
    match tokio::time::timeout(attempt_time(failures), ControlClient::connect(config)).await {
        Ok(connected) => connected,
        Err(_) => Err(TransportError::Unreachable {
            tried: controller.to_owned(),
            why: "nobody answers".to_owned(),
        }),
    }
}

/// Carries messages both ways until the connection ends, and says why it did.
async fn converse(client: ControlClient, events: &mpsc::Sender<LinkEvent>) -> String {
    let ControlClient {
        mut sender,
        mut receiver,
        remote,
    } = client;
    let (outgoing, mut queue) = mpsc::channel(OUTGOING_MAX);
    if events
        .send(LinkEvent::Connected {
            address: remote.to_string(),
            outgoing,
        })
        .await
        .is_err()
    {
        return "this node is stopping".to_owned();
    }
    // A task of its own, for a message half-sent must not be given up when another arrives.
    let mut writer = tokio::spawn(async move {
        while let Some(message) = queue.recv().await {
            sender.send(&message).await?;
        }
        Ok::<(), TransportError>(())
    });
    let why = loop {
        tokio::select! {
            received = receiver.recv() => match received {
                Ok(Some(message)) => {
                    if events.send(LinkEvent::Message(message)).await.is_err() {
                        break "this node is stopping".to_owned();
                    }
                }
                Ok(None) => break "the controller closed the connection".to_owned(),
                Err(error) => break error.to_string(),
            },
            ended = &mut writer => break match ended {
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(())) | Err(_) => "this node closed the connection".to_owned(),
            },
        }
    };
    writer.abort();
    why
}

/// A refusal does not pass in seconds; an absence may.
fn patience(error: &TransportError) -> Duration {
    match error {
        TransportError::Denied { .. }
        | TransportError::Disowned { .. }
        | TransportError::CertificateRefused { .. }
        | TransportError::Setup(_) => BACKOFF_REFUSED_MAX,
        TransportError::Unreachable { .. }
        | TransportError::Busy { .. }
        | TransportError::Timeout { .. }
        | TransportError::Closed { .. }
        | TransportError::Protocol { .. } => BACKOFF_MAX,
    }
}

/// Short, so that a controller that comes back is found soon; every fourth attempt is long, for slow lines.
fn attempt_time(failures: u32) -> Duration {
    if failures % 4 == 3 {
        ATTEMPT_LONG
    } else {
        ATTEMPT_SHORT
    }
}

/// Doubles from [`BACKOFF_MIN`] up to `cap`; `jitter` in 0..=255 picks between half of it and all.
fn backoff(failures: u32, cap: Duration, jitter: u8) -> Duration {
    let doubled =
        BACKOFF_MIN.saturating_mul(1_u32.checked_shl(failures.min(DOUBLINGS_MAX)).unwrap_or(u32::MAX));
    let whole = doubled.min(cap);
    whole / 2 + whole / 2 * u32::from(jitter) / 255
}

fn jitter() -> u8 {
    let mut byte = [0];
    // Without randomness every node waits alike, and still connects.
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

/// Messages to the controller that may wait; past it the connection is given up, and made anew.
const OUTGOING_MAX: usize = 1024;
const ATTEMPT_SHORT: Duration = Duration::from_secs(2);
const ATTEMPT_LONG: Duration = Duration::from_secs(8);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const BACKOFF_REFUSED_MAX: Duration = Duration::from_secs(15);
const DOUBLINGS_MAX: u32 = 10;
const STABLE_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_cap_and_spreads() {
        assert_eq!(backoff(0, BACKOFF_MAX, 255), BACKOFF_MIN);
        assert_eq!(backoff(1, BACKOFF_MAX, 255), BACKOFF_MIN * 2);
        assert_eq!(backoff(40, BACKOFF_MAX, 255), BACKOFF_MAX);
        assert_eq!(backoff(40, BACKOFF_MAX, 0), BACKOFF_MAX / 2);
        assert_eq!(backoff(u32::MAX, BACKOFF_REFUSED_MAX, 255), BACKOFF_REFUSED_MAX);
    }

    #[test]
    fn most_attempts_are_short() {
        assert_eq!(
            (0..4)
                .filter(|failures| attempt_time(*failures) == ATTEMPT_SHORT)
                .count(),
            3
        );
    }
}
