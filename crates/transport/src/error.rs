//! How a connection fails, in the few ways that call for different action.

use quinn::{ApplicationClose, ConnectionError};

use crate::link::CloseReason;

/// Why there is no connection, or no more of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nobody answers at any of the addresses.
    #[error("the controller cannot be reached at {tried}: {why}")]
    Unreachable {
        /// The addresses.
        tried: String,
        /// What happened at the last.
        why: String,
    },
    /// The other end is not who it has to be: its certificate is refused by this end.
    #[error("the other end's certificate is refused: {why}")]
    CertificateRefused {
        /// What is wrong with it.
        why: String,
    },
    /// This end is refused by the other: its certificate, or what it may do.
    #[error("refused by the other end: {why}")]
    Denied {
        /// As the other end gave it.
        why: String,
    },
    /// This end is nobody to the other, or nobody any more: what it was told before does not count either.
    #[error("disowned by the other end: {why}")]
    Disowned {
        /// As the other end gave it.
        why: String,
    },
    /// The other end has too much to do.
    #[error("the other end is busy: {why}")]
    Busy {
        /// As the other end gave it.
        why: String,
    },
    /// Something took too long.
    #[error("{what} took too long")]
    Timeout {
        /// What.
        what: &'static str,
    },
    /// The connection ended.
    #[error("the connection is closed: {why}")]
    Closed {
        /// Why, if the other end said so.
        why: String,
    },
    /// The other end does not speak as it should.
    #[error("the other end does not keep to the protocol: {why}")]
    Protocol {
        /// What it did.
        why: String,
    },
    /// This end is set up wrongly.
    #[error("{0}")]
    Setup(String),
}

impl TransportError {
    /// A certificate refused by rustls, in words that an operator can act on.
    pub(crate) fn certificate_refused(reason: &str) -> Self {
        Self::CertificateRefused { why: plain(reason) }
    }

    /// How much this says about what to do: of several addresses tried, the most telling failure is reported.
    pub(crate) fn telling(&self) -> u8 {
        match self {
            Self::Disowned { .. } => 8,
            Self::Denied { .. } => 7,
            Self::CertificateRefused { .. } => 6,
            Self::Busy { .. } => 5,
            Self::Protocol { .. } => 4,
            Self::Setup(_) => 3,
            Self::Closed { .. } => 2,
            Self::Timeout { .. } => 1,
            Self::Unreachable { .. } => 0,
        }
    }
}

impl From<ConnectionError> for TransportError {
    fn from(error: ConnectionError) -> Self {
        match error {
            // Our TLS stack ended it: what we say about the other end.
            ConnectionError::TransportError(error) => match alert_of(error.code.into()) {
                Some(alert) if is_about_certificates(alert) => Self::certificate_refused(&error.reason),
                Some(_) | None => Self::Protocol {
                    why: error.to_string(),
                },
            },
            // Theirs ended it: what it says about us.
            ConnectionError::ConnectionClosed(close) => match alert_of(close.error_code.into()) {
                Some(alert) if is_about_certificates(alert) => Self::Denied {
                    why: format!("this end's certificate is refused: {}", alert_words(alert)),
                },
                Some(120) => Self::Protocol {
                    why: "it is no Ringfence controller, or of another version".to_owned(),
                },
                Some(alert) => Self::Protocol {
                    why: format!("TLS alert {alert}"),
                },
                // RFC 9000 section 20.1: CONNECTION_REFUSED.
                None if u64::from(close.error_code) == 2 => Self::Busy {
                    why: "it takes no more connections now".to_owned(),
                },
                None => Self::Closed {
                    why: close.to_string(),
                },
            },
            ConnectionError::ApplicationClosed(close) => from_application(&close),
            ConnectionError::TimedOut => Self::Timeout { what: "an answer" },
            ConnectionError::Reset => Self::Closed {
                why: "the other end has restarted".to_owned(),
            },
            ConnectionError::LocallyClosed => Self::Closed {
                why: "closed by this end".to_owned(),
            },
            ConnectionError::VersionMismatch => Self::Protocol {
                why: "it speaks no version of QUIC that this end does".to_owned(),
            },
            ConnectionError::CidsExhausted => Self::Setup("no connection ids are left".to_owned()),
        }
    }
}

fn from_application(close: &ApplicationClose) -> TransportError {
    let why: String = String::from_utf8_lossy(&close.reason)
        .chars()
        .filter(|c| !c.is_control())
        .take(REASON_CHARS_MAX)
        .collect();
    match CloseReason::from_code(close.error_code) {
        Some(CloseReason::Denied) => TransportError::Denied { why },
        Some(CloseReason::Disowned) => TransportError::Disowned { why },
        Some(CloseReason::Busy) => TransportError::Busy { why },
        Some(CloseReason::Protocol) => TransportError::Protocol { why },
        Some(CloseReason::Done) | None => TransportError::Closed { why },
    }
}

/// The TLS alert that a QUIC error code carries (RFC 9001 section 4.8).
fn alert_of(code: u64) -> Option<u8> {
    let alert = code.checked_sub(0x100)?;
    u8::try_from(alert).ok()
}

/// `bad_certificate` to `certificate_unknown`, `unknown_ca`, `access_denied`, `certificate_required` (RFC 8446
/// section 6.2); and `decrypt_error`, which a chain that another authority of the same name signed comes to.
fn is_about_certificates(alert: u8) -> bool {
    matches!(alert, 42..=46 | 48 | 49 | 51 | 116)
}

fn alert_words(alert: u8) -> &'static str {
    match alert {
        43 => "its kind is not supported",
        44 => "it is revoked",
        45 => "it is expired or not valid yet; check the clocks",
        48 | 51 => "another authority signed it, perhaps that of another mesh",
        116 => "none was shown",
        _ => "it does not hold",
    }
}

/// rustls's words, in ours where an operator meets them.
fn plain(reason: &str) -> String {
    let reason = reason.trim_start_matches("invalid peer certificate: ");
    if reason.contains("UnknownIssuer") || reason.contains("BadSignature") {
        return "another authority signed it, perhaps that of another mesh".to_owned();
    }
    if reason.contains("Expired") || reason.contains("expired") {
        return format!("it is expired; check the clocks ({reason})");
    }
    if reason.contains("NotValidYet") || reason.contains("not valid yet") {
        return format!("it is not valid yet; check the clocks ({reason})");
    }
    reason.to_owned()
}

/// The longest text taken from the other end.
const REASON_CHARS_MAX: usize = 300;
