//! A handshake from nobody: how `ringfence verify` proves that an outsider gets silence.

use ringfence_model::{PrivateKey, PublicKey};

use crate::clock::stranger_initiation;
use crate::demux;
use crate::output::MessageKind;
use crate::slots::{PeerSlot, STRANGER_SLOT};

/// One valid handshake initiation to `receiver` from a key that it does not know.
///
/// A WireGuard endpoint with `receiver`'s key that is not under load must not answer it. Send it from a socket of
/// its own, or look for [`is_answer`] before handing datagrams to [`crate::WireGuard`].
pub fn initiation_to(stranger: &PrivateKey, receiver: PublicKey) -> Vec<u8> {
    stranger_initiation(stranger, receiver, STRANGER_SLOT)
}

/// Whether a datagram answers an initiation made by [`initiation_to`]: a response, or a cookie reply.
pub fn is_answer(datagram: &[u8]) -> bool {
    let receiver_offset = match demux::kind(datagram) {
        Some(MessageKind::HandshakeResponse) => 8,
        Some(MessageKind::CookieReply) => 4,
        Some(MessageKind::HandshakeInitiation | MessageKind::Data) | None => return false,
    };
    demux::index_at(datagram, receiver_offset)
        .is_some_and(|index| PeerSlot::from_receiver_index(index.0) == STRANGER_SLOT)
}
