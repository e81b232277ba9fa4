//! Tells the four messages apart (whitepaper section 5.4), before anything costs anything.

use crate::output::MessageKind;
use crate::slots::PeerSlot;

/// What a datagram claims to be. Nothing is authentic yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Names its receiver by `mac1` alone.
    Initiation,
    /// Names its receiver by the index we put in our initiation.
    Response {
        /// That index.
        receiver: ReceiverIndex,
    },
    /// Names its receiver by the index we put in our handshake message.
    CookieReply {
        /// That index.
        receiver: ReceiverIndex,
    },
    /// Names its receiver by the index of the session.
    Data {
        /// That index.
        receiver: ReceiverIndex,
        /// The nonce, and the place in the replay window.
        counter: u64,
    },
}

/// Names one session of one peer: the peer's slot in the upper 24 bits, the session below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceiverIndex(pub(crate) u32);

impl ReceiverIndex {
    /// The peer's slot.
    pub(crate) fn slot(self) -> PeerSlot {
        PeerSlot::from_receiver_index(self.0)
    }
}

impl Claim {
    /// Reads the head of a datagram. `None` if it is no WireGuard message.
    pub(crate) fn read(datagram: &[u8]) -> Option<Self> {
        let claim = match (kind(datagram)?, datagram.len()) {
            (MessageKind::HandshakeInitiation, INITIATION_BYTES) => Self::Initiation,
            (MessageKind::HandshakeResponse, RESPONSE_BYTES) => Self::Response {
                receiver: index_at(datagram, 8)?,
            },
            (MessageKind::CookieReply, COOKIE_REPLY_BYTES) => Self::CookieReply {
                receiver: index_at(datagram, 4)?,
            },
            (MessageKind::Data, DATA_BYTES_MIN..) => Self::Data {
                receiver: index_at(datagram, 4)?,
                counter: counter(datagram)?,
            },
            (
                MessageKind::HandshakeInitiation
                | MessageKind::HandshakeResponse
                | MessageKind::CookieReply
                | MessageKind::Data,
                _,
            ) => return None,
        };
        Some(claim)
    }
}

/// The peer that a datagram claims to be a data message of. If it opens, it is.
pub fn data_slot(datagram: &[u8]) -> Option<PeerSlot> {
    match Claim::read(datagram)? {
        Claim::Data { receiver, .. } => Some(receiver.slot()),
        Claim::Initiation | Claim::Response { .. } | Claim::CookieReply { .. } => None,
    }
}

/// The message type: one byte, then three that are zero.
pub(crate) fn kind(datagram: &[u8]) -> Option<MessageKind> {
    match datagram.first_chunk::<4>()? {
        [1, 0, 0, 0] => Some(MessageKind::HandshakeInitiation),
        [2, 0, 0, 0] => Some(MessageKind::HandshakeResponse),
        [3, 0, 0, 0] => Some(MessageKind::CookieReply),
        [4, 0, 0, 0] => Some(MessageKind::Data),
        _ => None,
    }
}

/// The index that the sender of a handshake message chose for itself.
pub(crate) fn sender_index(datagram: &[u8]) -> Option<ReceiverIndex> {
    index_at(datagram, 4)
}

/// The counter of a data message.
pub(crate) fn counter(datagram: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*datagram.get(8..)?.first_chunk()?))
}

/// The index in a message at a given place.
pub(crate) fn index_at(datagram: &[u8], offset: usize) -> Option<ReceiverIndex> {
    Some(ReceiverIndex(u32::from_le_bytes(
        *datagram.get(offset..)?.first_chunk()?,
    )))
}

/// Length of a handshake initiation.
pub(crate) const INITIATION_BYTES: usize = 148;
/// Length of a handshake response.
pub(crate) const RESPONSE_BYTES: usize = 92;
/// Length of a cookie reply.
pub(crate) const COOKIE_REPLY_BYTES: usize = 64;
/// Length of a keepalive: header and tag alone.
pub(crate) const DATA_BYTES_MIN: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u8, len: usize) -> Vec<u8> {
        let mut datagram = vec![0; len];
        datagram[0] = kind;
        datagram
    }

    #[test]
    fn only_exact_lengths_are_handshake_messages() {
        for (kind, len) in [(1, 148), (2, 92), (3, 64)] {
            assert!(Claim::read(&message(kind, len)).is_some());
            assert_eq!(Claim::read(&message(kind, len - 1)), None);
            assert_eq!(Claim::read(&message(kind, len + 1)), None);
        }
    }

    #[test]
    fn reserved_bytes_must_be_zero() {
        let mut datagram = message(4, 64);
        datagram[2] = 1;

        assert_eq!(Claim::read(&datagram), None);
    }

    #[test]
    fn a_data_message_names_slot_and_counter() {
        let mut datagram = message(4, 32);
        datagram[4..8].copy_from_slice(&0x0012_3407_u32.to_le_bytes());
        datagram[8..16].copy_from_slice(&77_u64.to_le_bytes());

        let Some(Claim::Data { receiver, counter }) = Claim::read(&datagram) else {
            panic!("a data message")
        };

        assert_eq!(receiver.slot(), PeerSlot::from_receiver_index(0x0012_34ff));
        assert_eq!(counter, 77);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(datagram in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Claim::read(&datagram);
            let _ = sender_index(&datagram);
        }
    }
}
