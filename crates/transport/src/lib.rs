//! QUIC client and server of the control channel, the identities on both ends, what machines join with, and the CLI's HTTPS client.
//!
//! **Invariant:** TLS 1.3 only, no 0-RTT, no resumption: every connection proves its identity anew, and identity is the
//! leaf certificate that signed the handshake, nothing else (red line 6).
#![deny(missing_docs)]

mod admission;
mod certificate;
mod client;
mod coded;
mod enroll;
mod error;
mod https;
mod identity;
mod link;
mod memory;
mod pin;
mod secret_file;
mod server;
mod spiffe;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod workload;

pub use admission::{AttemptLimiter, Pass, Source, UnderWay};
pub use certificate::{PeerIdentity, certificates_from_pem, fingerprint, pem_of, verify_signature};
pub use client::{ControlClient, ControlConfig};
pub use enroll::{
    EnrollAsk, EnrollError, EnrollRefusal, EnrollRefusalCode, EnrollRequest, EnrollResponse, Enrolled,
    WorkloadEnrollRequest, enroll, enroll_workload,
};
pub use error::TransportError;
pub use https::{ApiClient, ApiError, ApiResponse};
pub use hyper::Method;
pub use identity::{IdentityError, IdentityKey};
pub use link::{CloseReason, LinkHandle, Receiver, Sender};
pub use memory::forbid_core_dumps;
pub use secret_file::write_secret;
pub use server::{ControlRequest, EnrollAnswer, EnrollAttempt, Incoming, Server, ServerConfig, ServerLimits};
pub use spiffe::{SpiffeError, SpiffeId};
pub use tls::{SERVER_NAME, https_server_config};
pub use token::{JoinToken, TokenError, TokenSecret};
pub use workload::{JWT_BYTES_MAX, LocatorError, PlatformToken, PlatformTokenError, WorkloadLocator};
