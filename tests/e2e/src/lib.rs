//! Drives the real binaries in networks made by `ringfence-lab`: a [`Mesh`] of one controller and [`Node`]s.
//!
//! Used by the tests beside it and by the examples. It knows the programs as their users do: by command lines, exit
//! codes, JSON and sockets. What attacks them ([`Stranger`], [`packet`]) is written apart from what defends them.

mod api;
mod binary;
mod cable;
mod crowd;
mod device;
mod live;
mod mesh;
mod node;
mod office;
pub mod packet;
mod payload;
mod policy;
mod postgres;
mod scim;
mod stranger;
mod tpm;

pub use api::{Answer, Api};
pub use binary::binary;
pub use cable::{Cable, Faults};
pub use crowd::{Crowd, CrowdSessions};
pub use device::Device;
pub use live::{Cut, Live};
pub use mesh::{Mesh, MeshOptions, at};
pub use node::{Node, NodeOptions, Overlay};
pub use office::{ISSUER, Login, MFA, Office, SECRET, Script};
pub use payload::{DatagramPair, Payload, StreamPair, expect_datagrams};
pub use policy::{Allow, perimeter};
pub use postgres::{Postgres, Session};
pub use scim::Scim;
pub use stranger::{Stranger, base64_of, key_from, public_key_of, random_bytes};
pub use tpm::SoftTpm;
