//! What anybody may send, and a TPM that answers anything.

use std::io;

use proptest::prelude::*;
use zeroize::Zeroizing;

use crate::soft::SoftKeys;
use crate::{Answer, AnswerError, Challenge, Channel, EccPublic, Offer, Sealed, Tpm, challenge, verify};

fn key(byte: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([byte; 32])
}

/// A TPM that answers with these bytes, behind a head that fits them or in their place.
struct Oddity {
    answers: Vec<Vec<u8>>,
    is_framed: bool,
}

impl Channel for Oddity {
    fn exchange(&mut self, _: &[u8]) -> io::Result<Vec<u8>> {
        let body = self.answers.pop().ok_or(io::ErrorKind::UnexpectedEof)?;
        if !self.is_framed {
            return Ok(body);
        }
        let tag: u16 = 0x8001 + u16::from(body.len() % 2 == 0);
        let whole = 10 + body.len() as u32;
        let head = [&tag.to_be_bytes()[..], &whole.to_be_bytes(), &[0; 4]].concat();
        Ok([head, body].concat())
    }
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

/// Bytes with some buffers in them whose lengths are right.
fn buffers() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        bytes(12),
        bytes(200).prop_map(|data| [&(data.len() as u16).to_be_bytes()[..], &data].concat()),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_answer_of_a_tpm_is_a_panic(answers in prop::collection::vec(buffers(), 0..9), is_framed: bool, which in 0..4) {
        let mut tpm = Tpm::new(Oddity { answers, is_framed }, [7; 32]);
        let sealed = sealed();
        let odd = Challenge { credential: vec![1; 70], secret: vec![2; 68] };
        match which {
            0 => drop(tpm.seal(&[1; 32])),
            1 => prop_assert!(tpm.unseal(&sealed).is_err()),
            2 => drop(tpm.offer()),
            _ => drop(tpm.answer(&odd, b"node")),
        }
    }

    #[test]
    fn what_a_node_offers_and_answers_is_read_whole_or_refused(endorsement in bytes(200), attestation in bytes(200), quote in buffers(), signature in buffers()) {
        let honest = SoftKeys::new(1, 2);
        let offer = Offer { endorsement, certificate: None, attestation };
        prop_assert!(challenge(&offer, &key(3), &key(4)).is_err());
        let answer = Answer { quote, signature };
        prop_assert!(verify(&offer, &key(3), b"node", &answer).is_err());
        prop_assert!(verify(&honest.offer(None), &key(3), b"node", &answer).is_err());
    }

    #[test]
    fn a_public_area_with_one_bit_changed_is_no_key_of_that_kind(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let offer = SoftKeys::new(1, 2).offer(None);
        for (bytes, parse) in [
            (offer.endorsement, EccPublic::endorsement as fn(&[u8]) -> _),
            (offer.attestation, EccPublic::attestation),
        ] {
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= 1_u8 << bit;
            // Another bit of a coordinate is another point, and seldom one of the curve's: then it is another key.
            prop_assert_ne!(parse(&changed).map(|key| key.name()), parse(&bytes).map(|key| key.name()));
        }
    }

    #[test]
    fn what_is_sealed_reads_back_and_nothing_else_does(data in bytes(400)) {
        if let Ok(read) = Sealed::from_bytes(&data) {
            prop_assert_eq!(&read.to_bytes(), &data);
        }
        let whole = sealed().to_bytes();
        prop_assert_eq!(Sealed::from_bytes(&whole).unwrap(), sealed());
        let cut = data.len() % whole.len();
        prop_assert!(Sealed::from_bytes(&whole[..cut]).is_err());
    }
}

fn sealed() -> Sealed {
    let parts = [&[0, 11][..], &[5; 32], &[0, 3, 1, 2, 3], &[0, 2, 4, 5]].concat();
    Sealed::from_bytes(&parts).unwrap()
}

#[test]
fn an_answer_proves_one_tpm_for_one_challenge_and_one_node() {
    let (tpm, other) = (SoftKeys::new(1, 2), SoftKeys::new(3, 4));
    let offer = tpm.offer(None);
    let asked = challenge(&offer, &key(5), &key(6)).unwrap();
    let answer = tpm.answer(&asked, b"node").unwrap();

    assert_eq!(verify(&offer, &key(5), b"node", &answer), Ok(()));
    assert_eq!(
        verify(&offer, &key(9), b"node", &answer),
        Err(AnswerError::Another)
    );
    assert_eq!(
        verify(&offer, &key(5), b"edon", &answer),
        Err(AnswerError::Another)
    );
    let others = other.offer(None);
    assert_eq!(
        verify(&others, &key(5), b"node", &answer),
        Err(AnswerError::Signature)
    );
    assert!(other.answer(&asked, b"node").is_err());
}

#[test]
fn an_attestation_key_outside_the_tpm_learns_no_secret() {
    let (tpm, outside) = (SoftKeys::new(1, 2), SoftKeys::new(1, 4));
    // Made for the endorsement key and the attestation key inside.
    let asked = challenge(&tpm.offer(None), &key(5), &key(6)).unwrap();

    assert!(outside.answer(&asked, b"node").is_err());
}

#[test]
fn keys_of_other_kinds_are_neither() {
    let offer = SoftKeys::new(1, 2).offer(None);

    assert!(EccPublic::endorsement(&offer.attestation).is_err());
    assert!(EccPublic::attestation(&offer.endorsement).is_err());
    assert!(challenge(&offer, &key(5), &key(0)).is_err(), "no ephemeral key");
}
