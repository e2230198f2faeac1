//! The HTTP server: connections in, requests to the router.
//!
//! Every connection has limits: how many there are, how long a head may take, how large it may be.
//! TLS will come between [`accept`] and the connection.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections at the same time: nodes that fetch images, people that watch.
const MAX_CONNECTIONS: usize = 1_024;
/// How long the head of a request may take, and how long a connection may wait for the next one.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Header lines of a request.
const MAX_HEADERS: usize = 64;
/// How long requests may take to end at a shutdown. Streams end at once.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);
/// How long to wait after an accept failed, as it does when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// What a connection does once a request has made something else of it. Its task goes on in the
/// connection's own, and ends with it.
#[derive(Clone, Default)]
pub(super) struct AfterUpgrade(Arc<Mutex<Option<BoxFuture>>>);

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

impl AfterUpgrade {
    /// Does this once the answer is sent.
    pub(super) fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(work));
    }

    fn take(&self) -> Option<BoxFuture> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Serves until `shutdown`, then lets requests end for a bounded time.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            // Cancel-safe: only forgets connections that ended.
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
            // Cancel-safe: a connection is taken only together with its place.
            (stream, peer, place) = accept(&listener, &places) => {
                let stop = shutdown.clone();
                connections.spawn(connection((stream, peer), place, router.clone(), stop));
            }
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_LIMIT, all_ended).await.is_err() {
        tracing::warn!("some requests did not end in {SHUTDOWN_LIMIT:?} and are cut off");
    }
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            std::future::pending::<()>().await;
            continue;
        };
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    (stream, peer): (TcpStream, SocketAddr),
    place: OwnedSemaphorePermit,
    router: Router,
    stop: CancellationToken,
) {
    // Small answers must not wait for more; if it cannot be set they are only slower.
    drop(stream.set_nodelay(true));
    let after = AfterUpgrade::default();
    let router = router.layer(axum::Extension(Peer(peer))).layer(axum::Extension(after.clone()));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    let service = TowerToHyperService::new(router);
    let serving = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a connection broke");
    }
    if let Some(work) = after.take() {
        work.await;
    }
    drop(place);
}
