//! The client against a server of a few lines.

use http_body_util::Full;
use hyper::service::service_fn;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::https_server_config;
use crate::tests::{EXPIRED, Hours, Mesh, VALID, within};

/// Answers every request with `status` and what was asked.
async fn serve(mesh: &Mesh, hours: Hours, status: u16) -> SocketAddr {
    let (chain, key) = mesh.controller_identity(hours);
    let acceptor = TlsAcceptor::from(Arc::new(https_server_config(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(tcp).await else {
                continue;
            };
            let service =
                service_fn(move |request| async move { Ok::<_, hyper::Error>(echo(request, status).await) });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service);
            tokio::spawn(connection);
        }
    });
    address
}

async fn echo(request: Request<hyper::body::Incoming>, status: u16) -> Response<Full<Bytes>> {
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let (authorization, host) = (header(AUTHORIZATION), header(HOST));
    let path = request.uri().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let echo = json!({
        "title": "echo",
        "authorization": authorization,
        "host": host,
        "path": path,
        "body": serde_json::from_slice::<Value>(&body).unwrap_or(Value::Null),
    });
    let body = Full::new(Bytes::from(echo.to_string()));
    Response::builder().status(status).body(body).unwrap()
}

fn client(mesh: &Mesh, address: SocketAddr) -> ApiClient {
    let token = Zeroizing::new("rfa_secret\n".to_owned());
    ApiClient::new(&address.to_string(), &mesh.ca_pem(), token).unwrap()
}

#[tokio::test]
async fn a_request_arrives_with_token_host_and_body() {
    let mesh = Mesh::new("acme");
    let address = serve(&mesh, VALID, 200).await;
    let body = json!({"name": "x"});

    let echo: Value = within(client(&mesh, address).call(Method::POST, "/api/v1/a?b=c", Some(&body)))
        .await
        .unwrap();

    assert_eq!(echo["authorization"], "Bearer rfa_secret");
    assert_eq!(echo["host"], address.to_string());
    assert_eq!((&echo["path"], &echo["body"]), (&json!("/api/v1/a?b=c"), &body));
}

#[tokio::test]
async fn connections_are_tls_1_3_with_a_post_quantum_key_exchange() {
    let mesh = Mesh::new("acme");
    let address = serve(&mesh, VALID, 200).await;

    let stream = within(client(&mesh, address).open(address)).await.unwrap();

    let (_, tls) = stream.get_ref();
    assert_eq!(tls.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let group = tls.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn statuses_become_the_errors_they_stand_for() {
    let mesh = Mesh::new("acme");
    for (status, denied) in [(401, true), (403, true), (404, false), (409, false), (500, false)] {
        let address = serve(&mesh, VALID, status).await;

        let answer = within(client(&mesh, address).call::<Value>(Method::GET, "/", None::<&()>)).await;

        match answer.unwrap_err() {
            ApiError::Denied(problem) => assert!(denied && problem.status == status),
            ApiError::Problem(problem) => assert!(!denied && problem.status == status),
            ApiError::Transport(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn another_authority_and_an_expired_certificate_are_refused_with_the_reason() {
    let mesh = Mesh::new("acme");
    let other = Mesh::new("acme");
    let foreign = serve(&other, VALID, 200).await;
    let stale = serve(&mesh, EXPIRED, 200).await;

    for (address, reason) in [(foreign, "another authority"), (stale, "expired")] {
        let error = within(client(&mesh, address).request(Method::GET, "/", None::<&()>))
            .await
            .unwrap_err();
        let TransportError::CertificateRefused { why } = error else {
            panic!("{error}");
        };
        assert!(why.contains(reason), "{why}");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_no_tls_is_not() {
    let mesh = Mesh::new("acme");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        while let Ok((mut tcp, _)) = listener.accept().await {
            let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();

    let nobody = within(client(&mesh, closed).request(Method::GET, "/", None::<&()>)).await;
    let no_tls = within(client(&mesh, plain).request(Method::GET, "/", None::<&()>)).await;

    assert!(
        matches!(nobody, Err(TransportError::Unreachable { .. })),
        "{nobody:?}"
    );
    assert!(
        matches!(no_tls, Err(TransportError::Protocol { .. })),
        "{no_tls:?}"
    );
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_timeout() {
    let mesh = Mesh::new("acme");
    let (chain, key) = mesh.controller_identity(VALID);
    let acceptor = TlsAcceptor::from(Arc::new(https_server_config(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let held = acceptor.accept(tcp).await;
        std::future::pending::<()>().await;
        drop(held);
    });

    let client = client(&mesh, address).with_timeout(Duration::from_millis(100));
    let answer = within(client.request(Method::GET, "/", None::<&()>)).await;

    assert_eq!(answer, Err(TransportError::Timeout { what: "the answer" }));
}
