//! The loop: connections come in, what is said on them is judged, and what is news is passed on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use limpet_protocol::id::NodeId;
use limpet_protocol::network::NeighbourMessage;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::heard::Heard;
use super::{NeighbourPeer, Settings, Told, View, screen, stream, teller};

/// Messages of all peers that wait for the loop.
const MAX_WAITING: usize = 16;
/// How long to wait when no connection can be accepted: the process has no descriptors left.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// All that the loop knows.
pub(super) struct Hearing {
    settings: Settings,
    view: watch::Receiver<Arc<View>>,
    told: mpsc::Sender<Told>,
    heard: Heard,
    tellers: BTreeMap<NodeId, Teller>,
    /// The newest connection of each peer: an older one is of a peer that began anew.
    readers: BTreeMap<NodeId, AbortHandle>,
    tasks: JoinSet<()>,
}

/// The task that tells a peer.
struct Teller {
    peer: NeighbourPeer,
    task: AbortHandle,
    awake: Arc<Notify>,
}

/// Something that was said.
type Said = (NodeId, NeighbourMessage);

impl Hearing {
    pub(super) fn new(
        settings: Settings,
        view: watch::Receiver<Arc<View>>,
        told: mpsc::Sender<Told>,
    ) -> Self {
        Self {
            settings,
            view,
            told,
            heard: Heard::default(),
            tellers: BTreeMap::new(),
            readers: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    pub(super) async fn run(mut self, listener: TcpListener) {
        let (say, mut said) = mpsc::channel(MAX_WAITING);
        let mut news = self.take_view();
        loop {
            for told in news {
                if self.told.send(told).await.is_err() {
                    return;
                }
            }
            // All arms may be cancelled: none has done anything before it is ready.
            news = tokio::select! {
                changed = self.view.changed() => match changed {
                    Ok(()) => self.take_view(),
                    Err(_) => return,
                },
                () = self.told.closed() => return,
                Some((node, message)) = said.recv() => self.hear(&node, message),
                () = until(self.heard.next_end()) => self.expire(),
                accepted = listener.accept() => {
                    match accepted {
                        Ok((stream, from)) => self.accept(stream, from.ip(), &say),
                        Err(_) => sleep(ACCEPT_AGAIN_AFTER).await,
                    }
                    vec![]
                }
                Some(_) = self.tasks.join_next() => vec![],
            };
        }
    }

    /// Begins to tell new peers, stops telling those that are none any more, and asks anew what is
    /// believed.
    fn take_view(&mut self) -> Vec<Told> {
        let view = Arc::clone(&self.view.borrow_and_update());
        self.tellers.retain(|node, teller| {
            let stays = view.peers.get(node) == Some(&teller.peer);
            if !stays {
                teller.task.abort();
            }
            stays
        });
        for (node, peer) in &view.peers {
            if !self.tellers.contains_key(node) {
                let awake = Arc::new(Notify::new());
                let own = self.settings.listen.ip();
                let tell = teller::tell(own, peer.clone(), self.view.clone(), Arc::clone(&awake));
                let task = self.tasks.spawn(tell);
                self.tellers.insert(node.clone(), Teller { peer: peer.clone(), task, awake });
            }
        }
        self.readers.retain(|node, reader| {
            let stays = view.peers.contains_key(node) && !reader.is_finished();
            if !stays {
                reader.abort();
            }
            stays
        });
        let pools = &self.settings.pools;
        self.heard
            .believe_again(|node, said| Some(screen::believed(said, view.peers.get(node)?, pools)))
    }

    fn hear(&mut self, node: &NodeId, message: NeighbourMessage) -> Vec<Told> {
        let view = Arc::clone(&self.view.borrow());
        let Some(peer) = view.peers.get(node) else { return vec![] };
        let within = Duration::from_millis(message.within_ms.into());
        let pools = &self.settings.pools;
        let said = (message.state, within);
        let believe = |said: &_| screen::believed(said, peer, pools);
        let told = self.heard.hear(node, said, Instant::now(), believe);
        if !self.heard.knows(node) {
            self.hang_up(node);
        }
        told.into_iter().collect()
    }

    /// Passes on who is gone.
    fn expire(&mut self) -> Vec<Told> {
        let told = self.heard.expire(Instant::now());
        for (node, _) in &told {
            self.hang_up(node);
        }
        told
    }

    /// Ends a peer's connection: on the next it says everything again. On one that outlived its silence it
    /// would give signs of life only.
    fn hang_up(&mut self, node: &NodeId) {
        if let Some(reader) = self.readers.remove(node) {
            reader.abort();
        }
    }

    /// Listens to a peer. Anybody else is turned away.
    fn accept(&mut self, stream: TcpStream, from: IpAddr, say: &mpsc::Sender<Said>) {
        let view = Arc::clone(&self.view.borrow());
        let Some(node) = view.peers.iter().find(|(_, peer)| peer.gateway == from).map(|it| it.0)
        else {
            return;
        };
        let task = self.tasks.spawn(listen(stream, node.clone(), say.clone()));
        if let Some(older) = self.readers.insert(node.clone(), task) {
            older.abort();
        }
        if let Some(teller) = self.tellers.get(node) {
            teller.awake.notify_one();
        }
    }
}

/// Hands over what is said on a connection, until it ends or says what is no message.
async fn listen(mut stream: TcpStream, node: NodeId, say: mpsc::Sender<Said>) {
    while let Ok(message) = stream::read(&mut stream).await {
        if say.send((node.clone(), message)).await.is_err() {
            return;
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
