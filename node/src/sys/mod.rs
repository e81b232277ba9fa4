//! The only `unsafe` of Ringfence: system calls that no safe crate wraps. Each block says why it is sound.
#![expect(
    unsafe_code,
    reason = "no safe wrapper exists for the ioctls of TUN devices, for IPV6_DONTFRAG and for adjtimex"
)]

mod clock;
mod tun;
mod udp;

pub(crate) use clock::is_clock_synchronized;
pub(crate) use tun::{TunFeatures, TunQueue, open_tun, set_tun_offload};
pub(crate) use udp::allow_ipv6_fragments;
