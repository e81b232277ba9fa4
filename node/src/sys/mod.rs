//! The only `unsafe` of Ringfence: system calls that no safe crate wraps. Each block says why it is sound.
#![expect(
    unsafe_code,
    reason = "no safe wrapper exists for the ioctls of TUN devices, for IPV6_DONTFRAG, for adjtimex, for close_range and for what a child does before it becomes a program"
)]

mod clock;
mod exec;
mod tun;
mod udp;

pub(crate) use clock::is_clock_synchronized;
pub(crate) use exec::{close_on_exec, die_with_parent, keep_open};
pub(crate) use tun::{TunFeatures, TunQueue, open_tun, set_tun_offload};
pub(crate) use udp::allow_ipv6_fragments;
