//! Published ports on a node whose kernel has no nf_tables: connections are taken here and passed on.
//!
//! In: which ports lead to which endpoints. Out: bytes, to and fro. It costs a copy of every byte and hides
//! the source address, so it is only for nodes that cannot do better; `limpet node ls` says so there.

mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How soon a port that is taken is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(5);

/// A port of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entrance {
    /// Where it is listened.
    pub address: SocketAddr,
    /// UDP and not TCP.
    pub udp: bool,
}

/// Where each port leads, in turn: the endpoints that are ready. With none, connections are refused.
pub type Ways = BTreeMap<Entrance, Vec<SocketAddr>>;

/// A port that is not listened on, and why; it is tried again.
pub type Problem = (Entrance, io::Error);

/// Where one port leads now.
type Endpoints = watch::Receiver<Vec<SocketAddr>>;

/// Passes on until the ways' sender is gone or the future is dropped. Connections that run are not
/// touched when ways change; those of a port that is gone end with it.
pub async fn run(mut ways: watch::Receiver<Arc<Ways>>, problems: mpsc::Sender<Problem>) {
    // The task of a port ends when its sender is dropped.
    let mut open: BTreeMap<Entrance, watch::Sender<Vec<SocketAddr>>> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = Arc::clone(&ways.borrow_and_update());
        open.retain(|entrance, _| wanted.contains_key(entrance));
        for (entrance, endpoints) in wanted.iter() {
            if let Some(sender) = open.get(entrance) {
                sender.send_if_modified(|old| {
                    let differs = old != endpoints;
                    old.clone_from(endpoints);
                    differs
                });
                continue;
            }
            let (sender, receiver) = watch::channel(endpoints.clone());
            tasks.spawn(keep_open(*entrance, receiver, problems.clone()));
            open.insert(*entrance, sender);
        }
        loop {
            tokio::select! {
                changed = ways.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }
}

/// Listens on a port until nobody wants it any more.
async fn keep_open(entrance: Entrance, endpoints: Endpoints, problems: mpsc::Sender<Problem>) {
    let mut wanted = endpoints.clone();
    let gone = async move { while wanted.changed().await.is_ok() {} };
    let serve = async move {
        loop {
            let ended = if entrance.udp {
                udp::serve(entrance.address, endpoints.clone()).await
            } else {
                tcp::serve(entrance.address, endpoints.clone()).await
            };
            // Nobody may listen to problems.
            if let Err(error) = ended {
                problems.send((entrance, error)).await.ok();
            }
            sleep(BIND_AGAIN).await;
        }
    };
    tokio::select! {
        () = gone => {}
        () = serve => {}
    }
}

/// The endpoints in turn, each once, beginning with the next.
fn in_turn(endpoints: &Endpoints, turn: &mut usize) -> Vec<SocketAddr> {
    let mut endpoints = endpoints.borrow().clone();
    if !endpoints.is_empty() {
        let first = *turn % endpoints.len();
        endpoints.rotate_left(first);
        *turn = turn.wrapping_add(1);
    }
    endpoints
}
