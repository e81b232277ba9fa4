//! A machine with a token becomes a node, or hears why not.

use super::*;
use crate::enroll::{Door, knock, tell_of_age};
use crate::{EnrollAsk, PlatformToken, enroll_workload};
use ringfence_model::TokenId;

/// What a machine asked with.
struct Asked {
    token_id: TokenId,
    secret: [u8; 32],
    name: Option<Name>,
}

/// Answers one enrolment.
async fn answer_one(server: &mut Server, mesh: &Mesh) -> (Asked, Result<(), TransportError>) {
    let Some(Incoming::Enroll(attempt)) = within(server.accept()).await else {
        panic!("an enrolment was expected");
    };
    let EnrollAsk::Token(request) = &attempt.request else {
        panic!("a join token was expected");
    };
    let asked = Asked {
        token_id: request.token_id,
        secret: *request.token_secret.expose(),
        name: request.name.clone(),
    };
    let answer = Ok(response(mesh, mesh.sign_csr(&request.csr_der, 9, VALID)));
    let answered = within(attempt.answer(&answer)).await;
    (asked, answered)
}

fn response(mesh: &Mesh, certificate_chain_pem: String) -> EnrollResponse {
    EnrollResponse {
        node: NodeId(9),
        name: Name::parse("db-1").unwrap(),
        mesh: mesh.name.clone(),
        certificate_chain_pem,
        ca_pem: mesh.ca_pem(),
        controllers: vec!["192.0.2.1:7777".into()],
    }
}

#[tokio::test]
async fn a_machine_with_a_token_becomes_a_node_and_can_open_control() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let at = address(&server);
    let key = IdentityKey::generate().unwrap();
    let token = mesh.token(at);

    let name = Some(Name::parse("db-1").unwrap());
    let (enrolled, (asked, answered)) = tokio::join!(
        within(enroll(&token, &key, name.clone())),
        answer_one(&mut server, &mesh)
    );

    let enrolled = enrolled.unwrap();
    assert_eq!(answered, Ok(()));
    assert_eq!((asked.token_id, asked.name), (token.id, name));
    assert_eq!(&asked.secret, token.secret.expose());
    assert_eq!(enrolled.response.node, NodeId(9));
    let member = crate::tests::Member {
        key,
        chain_pem: enrolled.response.certificate_chain_pem,
    };
    let (client, (facts, ..)) = tokio::join!(mesh.connect(&member, at), accept(&mut server));
    assert!(client.is_ok());
    assert_eq!(facts.node, NodeId(9));
}

#[tokio::test]
async fn a_refused_token_comes_back_with_its_reason() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let token = mesh.token(address(&server));
    let key = IdentityKey::generate().unwrap();
    let refuse = async {
        let Some(Incoming::Enroll(attempt)) = server.accept().await else {
            panic!("an enrolment was expected");
        };
        let refusal = EnrollRefusal {
            code: EnrollRefusalCode::TokenUsed,
            message: "this token has been used".into(),
        };
        attempt.answer(&Err(refusal)).await
    };

    let (enrolled, answered) = tokio::join!(within(enroll(&token, &key, None)), within(refuse));

    answered.unwrap();
    let Err(EnrollError::Refused(refusal)) = enrolled else {
        panic!("it has to be refused");
    };
    assert_eq!(refusal.code, EnrollRefusalCode::TokenUsed);
}

#[tokio::test]
async fn a_controller_that_the_token_does_not_name_never_hears_the_secret() {
    let ours = Mesh::new("acme");
    let impostor = Mesh::new("acme");
    let mut server = impostor.server();
    let token = ours.token(address(&server));
    let key = IdentityKey::generate().unwrap();

    let error = tokio::select! {
        enrolled = within(enroll(&token, &key, None)) => enrolled.err().unwrap(),
        incoming = server.accept() => panic!("it heard the secret: {}", incoming.is_some()),
    };

    let EnrollError::Transport(TransportError::CertificateRefused { why }) = error else {
        panic!("{error}");
    };
    assert!(
        why.contains("another authority than the join token names"),
        "{why}"
    );
}

#[tokio::test]
async fn showing_the_right_authority_beside_the_wrong_leaf_does_not_help() {
    let ours = Mesh::new("acme");
    let impostor = Mesh::new("acme");
    let mut server = impostor.server();
    let (mut chain, key) = impostor.controller_identity(VALID);
    chain[1] = ours.ca.clone();
    server.set_certificate(chain, key).unwrap();
    let token = ours.token(address(&server));
    let key = IdentityKey::generate().unwrap();

    let error = tokio::select! {
        enrolled = within(enroll(&token, &key, None)) => enrolled.err().unwrap(),
        incoming = server.accept() => panic!("it heard the secret: {}", incoming.is_some()),
    };

    assert!(
        matches!(
            error,
            EnrollError::Transport(TransportError::CertificateRefused { .. })
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_for_another_key_is_not_kept() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let token = mesh.token(address(&server));
    let key = IdentityKey::generate().unwrap();
    let answer = async {
        let Some(Incoming::Enroll(attempt)) = server.accept().await else {
            panic!("an enrolment was expected");
        };
        let other = mesh.member(9, VALID);
        attempt.answer(&Ok(response(&mesh, other.chain_pem))).await
    };

    let (enrolled, _) = tokio::join!(within(enroll(&token, &key, None)), within(answer));

    assert!(matches!(
        enrolled,
        Err(EnrollError::Transport(TransportError::Protocol { .. }))
    ));
}

#[tokio::test]
async fn an_enrolment_that_says_nothing_or_nonsense_is_ended() {
    let mesh = Mesh::new("acme");
    let limits = ServerLimits {
        handshake_timeout: Duration::from_millis(300),
        ..ServerLimits::default()
    };
    let server = mesh.server_with(VALID, limits);
    let silent = stranger(&mesh, address(&server), ALPN_ENROLL).await;
    let wrong = stranger(&mesh, address(&server), ALPN_ENROLL).await;
    let huge = stranger(&mesh, address(&server), ALPN_ENROLL).await;
    let (mut send, _receive) = wrong.open_bi().await.unwrap();
    send.write_all(&[0, 0, 0, 1, 0, 1, 0xff]).await.unwrap();
    let (mut send, _receive) = huge.open_bi().await.unwrap();
    send.write_all(&[0, 1, 0, 1, 0, 1]).await.unwrap();

    for connection in [silent, wrong, huge] {
        let ended = TransportError::from(within(connection.closed()).await);
        assert!(matches!(ended, TransportError::Protocol { .. }), "{ended}");
    }
}

#[tokio::test]
async fn one_address_cannot_try_without_end() {
    let mesh = Mesh::new("acme");
    let limits = ServerLimits {
        enroll_burst: 1,
        enroll_every: Duration::from_hours(1),
        ..ServerLimits::default()
    };
    let mut server = mesh.server_with(VALID, limits);
    let token = mesh.token(address(&server));
    let key = IdentityKey::generate().unwrap();
    let (first, _) = tokio::join!(within(enroll(&token, &key, None)), answer_one(&mut server, &mesh));

    let second = within(enroll(&token, &key, None)).await;

    assert!(first.is_ok());
    assert!(
        matches!(second, Err(EnrollError::Transport(TransportError::Busy { .. }))),
        "{:?}",
        second.err()
    );
}

#[tokio::test]
async fn a_workload_becomes_a_node_by_the_word_of_its_platform() {
    let mesh = Mesh::new("acme");
    let mut server = mesh.server();
    let key = IdentityKey::generate().unwrap();
    let locator = mesh.locator(address(&server));
    let jwt = PlatformToken::parse("eyJh.eyJz.c2ln").unwrap();

    let answered = async {
        let Some(Incoming::Enroll(attempt)) = within(server.accept()).await else {
            panic!("an enrolment was expected");
        };
        assert!(!format!("{:?}", attempt.request).contains("eyJz"));
        let EnrollAsk::Workload(request) = &attempt.request else {
            panic!("a workload was expected");
        };
        assert_eq!(request.jwt.expose(), "eyJh.eyJz.c2ln");
        assert_eq!((request.issuer.as_str(), &request.name), ("prod", &None));
        let answer = Ok(response(&mesh, mesh.sign_csr(&request.csr_der, 9, VALID)));
        attempt.answer(&answer).await
    };
    let (enrolled, answered) = tokio::join!(within(enroll_workload(&locator, jwt, &key, None)), answered);

    assert_eq!(answered, Ok(()));
    assert_eq!(enrolled.unwrap().response.node, NodeId(9));
}

#[tokio::test]
async fn a_controller_that_knows_no_such_request_is_said_to_be_older() {
    let mesh = Mesh::new("acme");
    let server = mesh.server();
    let key = IdentityKey::generate().unwrap();
    let locator = mesh.locator(address(&server));
    let door = Door {
        controllers: &locator.controllers,
        ca_fingerprint: locator.ca_fingerprint,
        mesh: &locator.mesh,
    };

    let refused = within(knock(&door, (99, &"a request of a later version"), &key)).await;

    let told = tell_of_age(refused.err().unwrap()).to_string();
    assert!(told.contains("update the controller"), "{told}");
}
