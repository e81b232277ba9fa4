//! Makers, what they certify, and what they do not.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SubjectPublicKeyInfo,
};
use ringfence_controlplane::TpmName;
use ringfence_tpm::EccPublic;
use ringfence_tpm::soft::SoftKeys;
use time::OffsetDateTime;

use super::*;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

struct Maker {
    certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Maker {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = at(0);
        params.not_after = at(4_000_000_000);
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    fn certify(&self, key: &EccPublic, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])];
        params.not_before = at(1_000_000_000);
        params.not_after = at(3_000_000_000);
        change(&mut params);
        let key = SubjectPublicKeyInfo::from_der(&key.spki_der()).unwrap();
        params.signed_by(&key, &self.issuer).unwrap().der().to_vec()
    }
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

fn key(number: u8) -> EccPublic {
    EccPublic::endorsement(&SoftKeys::new(number, 9).offer(None).endorsement).unwrap()
}

fn judged(makers: &[&Maker], certificate: Option<Vec<u8>>) -> TpmMaker {
    let makers: Vec<Vec<u8>> = makers.iter().map(|maker| maker.certificate.clone()).collect();
    let tpm = ProvedTpm {
        name: TpmName::of(&key(1)),
        endorsement: key(1),
        certificate,
    };
    judge(&makers, &tpm, NOW)
}

#[test]
fn a_key_that_a_trusted_maker_certified_is_trusted() {
    let (maker, other) = (Maker::new(), Maker::new());
    let certificate = maker.certify(&key(1), |_| {});
    let without_usage = maker.certify(&key(1), |params| params.extended_key_usages.clear());

    assert_eq!(judged(&[&other, &maker], Some(certificate)), TpmMaker::Trusted);
    assert_eq!(judged(&[&maker], Some(without_usage)), TpmMaker::Trusted);
}

#[test]
fn nothing_else_is() {
    let (maker, other) = (Maker::new(), Maker::new());
    let honest = maker.certify(&key(1), |_| {});
    let critical = |params: &mut CertificateParams| {
        let mut odd = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        odd.set_criticality(true);
        params.custom_extensions.push(odd);
    };
    let mut flipped = honest.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let cases = [
        ("no certificate", &maker, None),
        ("another maker", &other, Some(honest.clone())),
        ("another key", &maker, Some(maker.certify(&key(2), |_| {}))),
        (
            "over",
            &maker,
            Some(maker.certify(&key(1), |params| params.not_after = at(1_700_000_000))),
        ),
        (
            "for servers",
            &maker,
            Some(maker.certify(&key(1), |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            })),
        ),
        ("not understood", &maker, Some(maker.certify(&key(1), critical))),
        ("changed", &maker, Some(flipped)),
        ("cut", &maker, Some(honest[..100].to_vec())),
        ("no certificate at all", &maker, Some(vec![0x30, 0x82])),
    ];

    for (case, trusted, certificate) in cases {
        let judged = judged(&[trusted], certificate);
        assert!(matches!(judged, TpmMaker::Unknown(_)), "{case}");
    }
    assert!(matches!(judged(&[], Some(honest)), TpmMaker::Unknown(_)));
}
