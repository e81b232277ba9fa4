//! The whole mesh in one thread, in virtual time: every failure rehearsed, and an attacker at every door.
//!
//! The shipped state machines (`Controller`, `ControllerSession`, `NodeSession`, `Dataplane`) run here as they are; what
//! this crate adds is everything around them that a test must own: time, the network, disks, processes that die,
//! applications, administrators and attackers. One seed draws it all, so one seed brings it all back.
//!
//! ```text
//! workload.rs ─ asks ─▶ controller.rs ─ serve.rs ══ link.rs ══ obey.rs ─ announce.rs ─▶ machine.rs ◀─▶ apps.rs
//!                        │ disk.rs                    files.rs ─ disk.rs ─ restart.rs    │
//!                        │ record_store.rs                                 records.rs    │
//!                        ▼                                                                ▼ datagrams
//!                     reading.rs ──▶ oracle.rs ◀── every packet taken and delivered   network.rs ─ nat.rs
//!                                    spec.rs, inspect.rs, allowlist.rs                faults.rs, rogue.rs, flood.rs
//! ```
//!
//! # What is promised
//! `oracle.rs` knows what was asked for and what was sent, and nothing of the product's verdicts. At every step:
//! - *ingress, egress*: a packet is taken from or given to an application only if the policy in force at that node
//!   allows it, as an opening or as a part of a conversation that was opened so; *owed*: what is allowed is taken.
//! - *source, destination, replay*: it was sent by whom it says it is from, to whom it reaches, and arrives once.
//! - *lease, age*: never past the lease, and never by a policy that was replaced longer ago than the lease bound.
//! - *allowlist, revocation, silence*: a node knows exactly the peers that a rule joins with it; who is none any more
//!   is gone from the data plane and gets no answer; strangers get none at all.
//! - *cut*: a connection that policy ends is reset at once, at a number that its application believes.
//! - *told*: whoever is connected has been sent every change of its netmap.
//! - *upwards, acknowledgement*: revisions only go up, and none that was acknowledged is forgotten by a restart.
//! - *audit, log*: a request that was answered with success is in the log once, and the log brings the same controller
//!   back, with a snapshot or without. *enrolment*: a token makes as many nodes as it is for.
//! - *records*: a flow record that a node may forget is in the controller's store once, as it was told; one that was
//!   safe on a node's disk is there or in the store, and all that is owed arrives once all is well.
//! - *offload*: what many packets in one are cut into is what was sent (`runs.rs`).
//! - *stream*: a TCP packet that an application gets is whole, and its bytes are those of its place in the stream.
//! - *bounds*: no datagram begets datagrams without end, no table of a core grows past its bound (`bounds.rs`), and
//!   only peers have keys in memory.
//!
//! # What goes wrong
//! - *network*: latency, jitter, loss, duplication, overtaking, partitions both ways and one way, links too narrow for
//!   large datagrams (dropped without a word), NATs of every mapping and filtering of RFC 4787, machines with IPv4,
//!   IPv6 or both, machines that move.
//! - *machines*: they stand still, die at any step of a write, alone or with their kernel, find their disk full, and find
//!   on it what a kill, a power cut or a disk that lies about `fsync` leaves: whole, old, torn or lost (`files.rs`).
//! - *controller*: it dies before and after a change is stored, its log is full, a snapshot is missing, a backup is
//!   restored. The pages of SQLite are not modelled: a transaction is there or not.
//! - *time*: wall clocks of machines and of the controller are set forth and back; certificates of a day are renewed
//!   (`certificates.rs`), which takes runs of a day to see: they are as quiet as they are long.
//!
//! A run has two phases. In the first things go wrong, each kind with odds drawn from the seed (`swarm.rs`). Then all
//! is well, and the mesh must come together within a stated time (`liveness.rs`): *convergence*, *liveness*.
//!
//! That all this would notice is itself tested: `tests/sabotage.rs` switches safeguards off, one at a time.
//!
//! **Invariant:** the same seed gives the same history, on any machine: nothing here or below reads a real clock or
//! draws its own randomness, but for WireGuard's ephemeral keys, which nothing else depends on.
#![deny(missing_docs)]

mod allowlist;
mod announce;
mod apps;
mod backup;
mod bounds;
mod certificates;
pub mod clock;
mod controller;
mod cut;
mod dice;
mod disk;
mod faults;
mod files;
mod flood;
mod inspect;
mod lapse;
mod link;
mod liveness;
mod machine;
mod nat;
mod network;
mod obey;
mod oracle;
mod reading;
mod record_store;
mod records;
mod replay;
mod restart;
mod rogue;
pub mod run;
mod runs;
pub mod sabotage;
mod schedule;
mod serve;
mod spec;
mod state;
mod stream;
mod swarm;
mod trace;
mod violation;
mod workload;
mod world;

pub use swarm::Scale;
pub use violation::Violation;
pub use world::{Stats, World};
