//! The messages of enrolment, before anybody is known.

use ringfence_controller::ca::SigningRequest;
use ringfence_model::{NodeId, TokenId};
use ringfence_transport::{
    EnrollRefusal, EnrollRefusalCode, EnrollRequest, EnrollResponse, PlatformToken, TokenSecret,
    WorkloadEnrollRequest, certificates_from_pem,
};

use crate::fixture::name;

pub(crate) fn run(input: &[u8]) {
    if let Ok(request) = ciborium::from_reader::<EnrollRequest, _>(input) {
        let shown = format!("{request:?}");
        assert!(!shown.contains("secret"), "a secret is never shown");
        let _ = SigningRequest::from_der(&request.csr_der);
        let written = cbor(&request);
        let again: EnrollRequest = ciborium::from_reader(&*written).expect("what is written can be read");
        assert_eq!(again.csr_der, request.csr_der);
    }
    if let Ok(request) = ciborium::from_reader::<WorkloadEnrollRequest, _>(input) {
        let shown = format!("{request:?}");
        assert!(!shown.contains("jwt:"), "a secret is never shown");
        let _ = PlatformToken::parse(request.jwt.expose());
        let written = cbor(&request);
        let again: WorkloadEnrollRequest =
            ciborium::from_reader(&*written).expect("what is written can be read");
        assert_eq!(again.jwt.expose(), request.jwt.expose());
    }
    if let Ok(response) = ciborium::from_reader::<EnrollResponse, _>(input) {
        let _ = certificates_from_pem(&response.ca_pem);
        let _ = certificates_from_pem(&response.certificate_chain_pem);
        assert_eq!(ciborium::from_reader(&*cbor(&response)).ok(), Some(response));
    }
    if let Ok(refusal) = ciborium::from_reader::<EnrollRefusal, _>(input) {
        let _ = refusal.to_string();
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let request = EnrollRequest {
        token_id: TokenId(7),
        token_secret: TokenSecret::from_random([8; 32]),
        csr_der: vec![0x30, 0x03, 0x02, 0x01, 0x00],
        name: Some(name("db-1")),
    };
    let workload = WorkloadEnrollRequest {
        issuer: name("prod"),
        jwt: PlatformToken::parse("eyJh.eyJz.c2ln").expect("it has three parts"),
        csr_der: vec![0x30, 0x03, 0x02, 0x01, 0x00],
        name: None,
    };
    let response = EnrollResponse {
        node: NodeId(9),
        name: name("db-1"),
        mesh: name("acme"),
        certificate_chain_pem: "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_owned(),
        ca_pem: "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_owned(),
        controllers: vec!["192.0.2.1:7443".to_owned()],
    };
    let refusal = EnrollRefusal {
        code: EnrollRefusalCode::TokenUsed,
        message: "it was used".to_owned(),
    };
    vec![
        ("request", cbor(&request)),
        ("workload", cbor(&workload)),
        ("response", cbor(&response)),
        ("refusal", cbor(&refusal)),
    ]
}

fn cbor(value: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("plain data always encodes");
    bytes
}
