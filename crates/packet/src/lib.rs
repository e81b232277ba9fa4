//! Checked views of IP packets, and the few packets Ringfence writes itself.
//!
//! [`Packet::parse`] is the only way in: what it returns has been measured against its own length fields, so later
//! code reads it without asking again. What it refuses is a [`Malformed`], counted by the caller, never an error.
//!
//! **Invariant:** no input panics, and nothing here keeps a packet: views borrow, builders return new bytes.
#![deny(missing_docs)]

mod build;
mod checksum;
mod flow;
mod icmp_error;
mod ipv4;
mod ipv6;
pub mod offload;
mod packet;
mod transport;

pub use build::{
    PAYLOAD_BYTES_MAX, TcpSegment, echo_reply, echo_request, tcp_reset, tcp_reset_answering, tcp_segment,
    udp_datagram,
};
pub use checksum::{checksum, ones_sum, pseudo_header_sum};
pub use flow::{Flow, Protocol};
pub use icmp_error::{administratively_prohibited, administratively_prohibited_flow, packet_too_big};
pub use packet::{Fragment, FragmentKey, Malformed, Packet, Position, Tail};
pub use transport::{IcmpKind, TcpFlags, TcpView};
