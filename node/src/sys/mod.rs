//! The only `unsafe` of Ringfence: system calls that no safe crate wraps. Each block says why it is sound.
#![expect(unsafe_code, reason = "TUNSETIFF has no safe wrapper")]

mod tun;

pub(crate) use tun::open_tun;
