//! The TLS listener in front of the REST API.
//!
//! **Invariant:** connections are bounded, for everybody together and for each source: one that opens all it can leaves
//! room for the others (red line 8).

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ringfence_transport::{Pass, Source, UnderWay};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Serves `router` until `stop` is true. The certificate is read anew for every connection.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let by_source = UnderWay::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: they come back as connections end.
                tracing::warn!(%error, "no connection was accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let source = Source::of(remote.ip());
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!(%remote, "too many connections to the API");
            continue;
        };
        if by_source.count(source) >= CONNECTIONS_PER_SOURCE_MAX {
            tracing::debug!(%remote, "too many connections to the API from one source");
            continue;
        }
        let held = Held {
            _place: place,
            _share: by_source.begin(source),
        };
        let tls = tls.borrow().clone();
        tokio::spawn(connection(
            stream,
            remote,
            tls,
            router.clone(),
            (held, stop.clone()),
        ));
    }
    // Connections that are being answered end by themselves, and give their places back.
    let _ = places
        .acquire_many(u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX))
        .await;
}

/// What a connection holds while it lives.
struct Held {
    _place: OwnedSemaphorePermit,
    _share: Pass,
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    tls: Arc<ServerConfig>,
    router: Router,
    (_held, mut stop): (Held, watch::Receiver<bool>),
) {
    let handshake = tokio::time::timeout(HANDSHAKE_TIME_MAX, TlsAcceptor::from(tls).accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(%remote, "TLS handshake took too long");
            return;
        }
    };
    let service = TowerToHyperService::new(router.layer(axum::Extension(ConnectInfo(remote))));
    let mut builder = hyper::server::conn::http1::Builder::new();
    // A head that drips in holds a place for so long and no longer.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let whole = async {
        tokio::select! {
            served = served.as_mut() => return served,
            _ = stop.wait_for(|stop| *stop) => served.as_mut().graceful_shutdown(),
        }
        served.await
    };
    match tokio::time::timeout(CONNECTION_TIME_MAX, whole).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%remote, %error, "connection to the API ended"),
        Err(_) => tracing::debug!(%remote, "connection to the API lasted too long"),
    }
}

const CONNECTIONS_MAX: usize = 1024;
/// An administrator's scripts fit in; a flood leaves room for seven other sources.
const CONNECTIONS_PER_SOURCE_MAX: usize = 128;
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longer than the longest request; whoever drips a body is cut off with it.
const CONNECTION_TIME_MAX: Duration = Duration::from_mins(6);
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
