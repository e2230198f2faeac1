//! What runs beside the loop: names are answered, neighbours are heard.
//!
//! Both wait until the address that they listen on is free, and end with the network.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use limpet_network::activator::{self, Doors};
use limpet_network::dns;
use limpet_network::names::Names;
use limpet_network::neighbours::{self, Neighbours, Told, View};
use limpet_network::picture::ServiceKey;
use tokio::sync::{mpsc, watch};

use crate::start::chain;

/// Something that runs beside the loop until the network ends or changes.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a task has to tell the loop.
#[derive(Debug)]
pub enum News {
    /// A neighbour said something, or is silent.
    Neighbour(Told),
    /// Somebody waits for an instance of this service.
    Needed(ServiceKey),
    /// Names are not answered, and why; none: they are.
    Names(Option<String>),
}

/// How soon a port that is taken is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(5);
/// What neighbours say waits here.
const TOLD_QUEUE: usize = 16;

/// Answers names until the network ends.
pub(super) async fn answer_names(
    settings: dns::Settings,
    names: watch::Receiver<Arc<Names>>,
    news: mpsc::Sender<News>,
) {
    while names.has_changed().is_ok() {
        let problem = match dns::Server::bind(settings.clone()).await {
            Ok(server) => {
                if news.send(News::Names(None)).await.is_ok() {
                    server.run(names).await;
                }
                return;
            }
            Err(error) => format!("names of services are not answered: {}", chain(&error)),
        };
        if news.send(News::Names(Some(problem))).await.is_err() {
            return;
        }
        tokio::time::sleep(BIND_AGAIN).await;
    }
}

/// Talks to neighbours until the network ends.
pub(super) async fn hear_neighbours(
    settings: neighbours::Settings,
    view: watch::Receiver<Arc<View>>,
    news: mpsc::Sender<News>,
) {
    while !news.is_closed() && view.has_changed().is_ok() {
        match Neighbours::bind(settings.clone()).await {
            Ok(neighbours) => {
                let (told, mut said) = mpsc::channel(TOLD_QUEUE);
                let pass_on = async {
                    while let Some(told) = said.recv().await {
                        if news.send(News::Neighbour(told)).await.is_err() {
                            break;
                        }
                    }
                };
                tokio::join!(neighbours.run(view, told), pass_on);
                return;
            }
            Err(error) => tracing::warn!("other nodes are not heard: {}", chain(&error)),
        }
        tokio::time::sleep(BIND_AGAIN).await;
    }
}

/// Holds connections to services that have no instance until the network ends.
pub(super) async fn hold_connections(
    listen: SocketAddr,
    doors: watch::Receiver<Arc<Doors>>,
    news: mpsc::Sender<News>,
) {
    while !news.is_closed() && doors.has_changed().is_ok() {
        let (needed, mut heard) = mpsc::channel(TOLD_QUEUE);
        let pass_on = async {
            while let Some(service) = heard.recv().await {
                if news.send(News::Needed(service)).await.is_err() {
                    break;
                }
            }
        };
        match tokio::join!(activator::run(listen, doors.clone(), needed), pass_on).0 {
            Ok(()) => return,
            Err(error) => tracing::warn!("connections are not held at {listen}: {error}"),
        }
        tokio::time::sleep(BIND_AGAIN).await;
    }
}
