//! Certificates and signing requests: DER and PEM that somebody else wrote.

use ringfence_controller::ca::{CertificateAuthority, NewAuthority, SigningRequest};
use ringfence_model::NodeId;
use ringfence_transport::{
    IdentityKey, PeerIdentity, certificates_from_pem, fingerprint, pem_of, verify_signature,
};
use rustls_pki_types::CertificateDer;

use crate::fixture::{WALL, name};
use crate::script::Script;

pub(crate) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    match script.byte() % 4 {
        0 => leaf(script.rest()),
        1 => {
            if let Ok(request) = SigningRequest::from_der(script.rest()) {
                assert!(!request.public_key_der().is_empty());
            }
        }
        2 => {
            let Ok(text) = std::str::from_utf8(script.rest()) else {
                return;
            };
            if let Ok(chain) = certificates_from_pem(text) {
                assert!(!chain.is_empty(), "callers take the first");
                for certificate in &chain {
                    leaf(certificate);
                }
            }
        }
        _ => {
            let key = script.piece();
            let signature = script.piece();
            assert!(
                !verify_signature(key, script.rest(), signature) || signature.len() > 8,
                "such a short thing signs nothing"
            );
        }
    }
}

fn leaf(der: &[u8]) {
    let certificate = CertificateDer::from(der);
    let _ = fingerprint(&certificate);
    let Ok(identity) = PeerIdentity::from_leaf(der) else {
        return;
    };
    let written = identity.id.to_string();
    assert_eq!(written.parse().ok(), Some(identity.id));
    let again = certificates_from_pem(&pem_of(&certificate)).expect("what is written can be read");
    assert_eq!(again, [certificate]);
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let key = IdentityKey::generate().expect("there is entropy");
    let authority = NewAuthority::generate(&name("acme"), WALL).expect("there is entropy");
    let ca = CertificateAuthority::load(name("acme"), &authority.certificate_pem, &authority.key_pem);
    let ca = ca.expect("it was just made");
    let csr = key.csr_der().expect("the key signs");
    let request = SigningRequest::from_der(&csr).expect("it was just made");
    let signed = ca
        .sign_node(&request, NodeId(7), WALL)
        .expect("the authority signs");
    let chain = certificates_from_pem(&signed.chain_pem).expect("it was just made");
    let signature = key.sign(b"message").expect("the key signs");
    let signed_message = [
        crate::script::piece(key.public_key_der()),
        crate::script::piece(&signature),
        b"message".to_vec(),
    ];
    vec![
        ("leaf", [&[0][..], &chain[0]].concat()),
        ("authority", [&[0][..], ca.certificate()].concat()),
        ("request", [vec![1], csr].concat()),
        ("chain", [vec![2], signed.chain_pem.into_bytes()].concat()),
        ("signature", [vec![3], signed_message.concat()].concat()),
    ]
}
