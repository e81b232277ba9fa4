//! The only `unsafe` of Ringfence: system calls that no safe crate wraps. Each block says why it is sound.
#![expect(
    unsafe_code,
    reason = "no safe wrapper exists for the ioctls of TUN devices and for IPV6_DONTFRAG"
)]

mod tun;
mod udp;

pub(crate) use tun::{TunFeatures, TunQueue, open_tun, set_tun_offload};
pub(crate) use udp::allow_ipv6_fragments;
