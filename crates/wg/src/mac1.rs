//! `mac1`: for which of our keys a handshake message is made (whitepaper section 5.4.4).
//!
//! Our own check, because boringtun's also counts against its rate limit: asking it once for each segment would
//! spend a member's handshakes on finding out where they belong.

use blake2::digest::{FixedOutput as _, KeyInit as _, Update as _, consts::U16};
use blake2::{Blake2s256, Blake2sMac, Digest as _};
use ringfence_model::PublicKey;
use subtle::ConstantTimeEq as _;

/// The key of `mac1` for messages to one public key.
pub(crate) struct Mac1Key(Blake2sMac<U16>);

impl Mac1Key {
    /// Derives it: `HASH(LABEL_MAC1 ‖ receiver's public key)`.
    pub(crate) fn new(receiver: &PublicKey) -> Self {
        let key = Blake2s256::new()
            .chain_update(LABEL_MAC1)
            .chain_update(receiver.as_bytes())
            .finalize();
        Self(Blake2sMac::new_from_slice(&key).expect("BLAKE2s takes keys of up to 32 bytes"))
    }

    /// Whether a handshake message (initiation or response) carries this key's `mac1`.
    pub(crate) fn verify(&self, message: &[u8]) -> bool {
        let Some(mac1_offset) = message.len().checked_sub(MACS_BYTES) else {
            return false;
        };
        let (body, macs) = message.split_at(mac1_offset);
        let mut mac = self.0.clone();
        mac.update(body);
        let expected: [u8; MAC_BYTES] = mac.finalize_fixed().into();
        expected.ct_eq(&macs[..MAC_BYTES]).into()
    }
}

const LABEL_MAC1: &[u8; 8] = b"mac1----";
const MAC_BYTES: usize = 16;
/// `mac1` and `mac2`, the last fields of both handshake messages.
const MACS_BYTES: usize = 2 * MAC_BYTES;

#[cfg(test)]
mod tests {
    use ringfence_model::PrivateKey;

    use super::*;
    use crate::initiation_to;

    #[test]
    fn an_initiation_belongs_to_the_key_it_is_made_for_and_to_no_other() {
        let [ours, other] = [1, 2].map(|n| PrivateKey::from_random([n; 32]).public_key());
        let initiation = initiation_to(&PrivateKey::from_random([3; 32]), ours);

        assert!(Mac1Key::new(&ours).verify(&initiation));
        assert!(!Mac1Key::new(&other).verify(&initiation));
    }

    #[test]
    fn every_flipped_bit_before_mac2_is_noticed() {
        let ours = PrivateKey::from_random([1; 32]).public_key();
        let initiation = initiation_to(&PrivateKey::from_random([3; 32]), ours);

        for bit in 0..(initiation.len() - MAC_BYTES) * 8 {
            let mut flipped = initiation.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!Mac1Key::new(&ours).verify(&flipped), "bit {bit}");
        }
    }

    #[test]
    fn a_short_message_has_no_mac1() {
        let ours = PrivateKey::from_random([1; 32]).public_key();

        assert!(!Mac1Key::new(&ours).verify(&[0; MACS_BYTES - 1]));
    }
}
