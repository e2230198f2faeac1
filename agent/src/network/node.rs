//! The node's own network, from the first assignment that has one until none has: addresses, picture,
//! tunnel, and the tasks that answer names and talk to neighbours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use limpet_network::activator::Doors;
use limpet_network::addresses::{AddressBook, VirtualAddresses, Wish};
use limpet_network::datapath::{Datapath, Gateway};
use limpet_network::names::Names;
use limpet_network::neighbours::{self, NeighbourPeer, View};
use limpet_network::picture::{Addresses, Picture, ServiceKey};
use limpet_network::rules::{Ground, SoleForwarder, ruleset};
use limpet_network::tag::Tag;
use limpet_network::tunnel::{PublicKey, Tunnel, TunnelPeer, TunnelSettings};
use limpet_network::{activator, dns, picture};
use limpet_protocol::id::NodeId;
use limpet_protocol::network::{Neighbour, NetworkReport, NodeNetwork, Peer, Subnet};
use tokio::sync::{mpsc, watch};

use super::Settings;
use super::draw::{self, Attached, Followed, Known};
use super::tasks::{self, News, Task};
use crate::runtime::ContainerId;
use crate::start::chain;

/// How long a peer may be silent before it is told to be unreachable.
const PATIENCE_MS: u64 = 15_000;
/// How long what a peer said to an earlier run of the agent counts before it says it again.
const DOUBT_MS: u64 = 5_000;
/// Which of a subnet's addresses is the node.
const GATEWAY: u128 = 1;

/// See the module.
#[derive(Debug)]
pub(super) struct Node {
    network: NodeNetwork,
    followed: Followed,
    pub(super) gateway: Addresses,
    pub(super) book: AddressBook,
    virtual_book: VirtualAddresses,
    /// How the kernel forwarded before; none before the node has its gateway address.
    stands_on: Option<SoleForwarder>,
    neighbours: BTreeMap<NodeId, Neighbour>,
    /// Peers that said what is known of them to an earlier run of the agent, and until when that counts.
    in_doubt: (BTreeSet<NodeId>, Option<u64>),
    /// Of those the peers that are silent now. Connections to them go on if they speak again, new ones do
    /// not begin.
    silent: BTreeSet<NodeId>,
    /// Since when a peer has been silent.
    silent_since_ms: BTreeMap<NodeId, u64>,
    tunnel: Option<Tunnel>,
    names: watch::Sender<Arc<Names>>,
    view: watch::Sender<Arc<View>>,
    doors: watch::Sender<Arc<Doors>>,
    holds: bool,
    answers_names: bool,
    hears_neighbours: bool,
}

impl Node {
    /// A network in which nothing is done yet. Containers keep the addresses that they have, and what
    /// peers said to an earlier run of the agent counts for a while.
    pub(super) fn new(
        network: NodeNetwork,
        attached: &BTreeMap<ContainerId, Attached>,
        mut neighbours: BTreeMap<NodeId, Neighbour>,
    ) -> Self {
        neighbours.retain(|node, _| network.peers.iter().any(|peer| peer.node == *node));
        let first = draw::addresses(network.subnet, network.subnet6, GATEWAY);
        let gateway = first.unwrap_or(Addresses { v4: std::net::Ipv4Addr::UNSPECIFIED, v6: None });
        let mut node = Self {
            followed: Followed::default(),
            gateway,
            book: AddressBook::new(network.subnet, network.subnet6),
            virtual_book: VirtualAddresses::new(
                network.virtual_addresses,
                network.virtual_addresses6,
            ),
            stands_on: None,
            in_doubt: (neighbours.keys().cloned().collect(), None),
            neighbours,
            silent: BTreeSet::new(),
            silent_since_ms: BTreeMap::new(),
            tunnel: None,
            names: watch::Sender::new(Arc::new(Names::default())),
            view: watch::Sender::new(Arc::new(View::default())),
            doors: watch::Sender::new(Arc::new(Doors::default())),
            holds: false,
            answers_names: false,
            hears_neighbours: false,
            network,
        };
        for (id, attached) in attached {
            node.hold(id, attached.addresses);
        }
        node
    }

    /// Whether another assignment's network changes no address of the node.
    pub(super) fn goes_on_with(&self, network: &NodeNetwork) -> bool {
        let own = |it: &NodeNetwork| {
            (it.subnet, it.subnet6, it.pool, it.pool6, it.virtual_addresses, it.virtual_addresses6)
        };
        own(&self.network) == own(network)
    }

    pub(super) fn follow(&mut self, network: &NodeNetwork) {
        self.network = network.clone();
        let is_peer = |node: &NodeId| network.peers.iter().any(|peer| peer.node == *node);
        self.neighbours.retain(|node, _| is_peer(node));
        self.silent.retain(is_peer);
        self.silent_since_ms.retain(|node, _| is_peer(node));
    }

    /// These services follow their load.
    pub(super) fn set_followed(&mut self, followed: Followed) {
        self.followed = followed;
    }

    /// Takes over what a peer said. Whether that is news.
    pub(super) fn heard(&mut self, node: NodeId, said: Option<Neighbour>) -> bool {
        if !self.network.peers.iter().any(|peer| peer.node == node) {
            return false;
        }
        self.in_doubt.0.remove(&node);
        match said {
            Some(said) => {
                self.silent.remove(&node);
                self.silent_since_ms.remove(&node);
                self.neighbours.insert(node, said.clone()).as_ref() != Some(&said)
            }
            None => self.falls_silent(&node),
        }
    }

    /// Its instances are led to no more until it speaks again. Whether that is news.
    fn falls_silent(&mut self, node: &NodeId) -> bool {
        let Some(known) = self.neighbours.get_mut(node) else { return false };
        known.instances.iter_mut().for_each(|instance| instance.ready = false);
        self.silent.insert(node.clone())
    }

    fn speaks(&self, node: &NodeId) -> bool {
        self.neighbours.contains_key(node) && !self.silent.contains(node)
    }

    /// What is known of the peers.
    pub(super) const fn neighbours(&self) -> &BTreeMap<NodeId, Neighbour> {
        &self.neighbours
    }

    /// Forgets of peers what an earlier run of the agent heard and this one has not for too long.
    /// Whether that is news.
    pub(super) fn doubt(&mut self, now_ms: u64) -> bool {
        let (peers, until_ms) = &mut self.in_doubt;
        if peers.is_empty() {
            *until_ms = None;
            return false;
        }
        if now_ms < *until_ms.get_or_insert(now_ms.saturating_add(DOUBT_MS)) {
            return false;
        }
        *until_ms = None;
        let unheard = std::mem::take(peers);
        unheard.iter().filter(|peer| self.falls_silent(peer)).count() > 0
    }

    pub(super) const fn doubt_ends_ms(&self) -> Option<u64> {
        self.in_doubt.1
    }

    /// A container has these addresses already.
    pub(super) fn hold(&mut self, id: &ContainerId, addresses: Addresses) {
        let wish = Wish { v4: Some(addresses.v4), v6: addresses.v6, six: false };
        if let Err(error) = self.book.take(&(id.instance.clone(), id.attempt), wish) {
            tracing::warn!("{id} has an address that is not free: {error}");
        }
    }

    pub(super) fn give_back(&mut self, id: &ContainerId) {
        self.book.give_back(&(id.instance.clone(), id.attempt));
    }

    /// Whether the node has its gateway address.
    pub(super) const fn stands(&self) -> bool {
        self.stands_on.is_some()
    }

    /// Gives the node its gateway address, once.
    pub(super) fn stand(&mut self, datapath: &mut Datapath) -> Result<SoleForwarder, String> {
        if let Some(stands_on) = self.stands_on {
            return Ok(stands_on);
        }
        let gateway = Gateway {
            addresses: self.gateway,
            pool: self.network.pool,
            pool6: self.network.pool6,
            subnet: self.network.subnet,
            subnet6: self.network.subnet6,
            virtual_addresses: self.network.virtual_addresses,
            virtual_addresses6: self.network.virtual_addresses6,
        };
        let forwarder = datapath.set_gateway(&gateway).map_err(|error| {
            format!("the node cannot be its containers' gateway: {}", chain(&error))
        })?;
        self.stands_on = Some(forwarder);
        Ok(forwarder)
    }

    /// Draws the picture, and makes rules, names and news of it.
    pub(super) fn redraw(
        &mut self,
        datapath: &mut Datapath,
        tag: Tag,
        (attached, guarded): (&BTreeMap<ContainerId, Attached>, &BTreeSet<SocketAddr>),
    ) -> Result<(), String> {
        let sole_forwarder = self.stand(datapath)?;
        let picture = self.picture(attached, guarded);
        let ground = Ground {
            tag,
            tunnel: (!self.network.peers.is_empty()).then(|| tag.tunnel_device()),
            neighbour_port: Some(neighbours::PORT),
            holding_port: (!self.followed.wakes.is_empty()).then_some(activator::PORT),
            sole_forwarder,
        };
        datapath.apply(&ruleset(&picture, &ground)).map_err(|error| {
            format!("rules of the network stay as they were: {}", chain(&error))
        })?;
        self.names.send_replace(Arc::new(Names::of(&picture)));
        let doors = Arc::new(Doors::of(&picture));
        self.doors.send_if_modified(|old| {
            let news = **old != *doors;
            *old = doors;
            news
        });
        let view = Arc::new(self.view_of(&picture));
        self.view.send_if_modified(|old| {
            let news = **old != *view;
            *old = view;
            news
        });
        Ok(())
    }

    fn picture(
        &mut self,
        attached: &BTreeMap<ContainerId, Attached>,
        guarded: &BTreeSet<SocketAddr>,
    ) -> Picture {
        let keys = self.network.services.iter();
        let keys: BTreeSet<ServiceKey> =
            keys.map(|service| (service.application.clone(), service.service.clone())).collect();
        if let Err(error) = self.virtual_book.assign(&keys) {
            tracing::warn!("some services have no virtual address: {error}");
        }
        let virtual_addresses =
            keys.into_iter().filter_map(|key| Some((key.clone(), self.virtual_book.of(&key)?)));
        draw::draw(&Known {
            network: &self.network,
            gateway: self.gateway,
            followed: &self.followed,
            attached,
            virtual_addresses: &virtual_addresses.collect(),
            neighbours: &self.neighbours,
            guarded,
        })
    }

    fn view_of(&self, picture: &picture::Picture) -> View {
        let peers = self.network.peers.iter().filter_map(|peer| {
            let neighbour = NeighbourPeer {
                gateway: peer.subnet.nth(GATEWAY)?,
                subnets: vec![peer.subnet, peer.subnet6],
                networks: peer.networks.iter().cloned().collect(),
                near: peer.same_site,
            };
            Some((peer.node.clone(), neighbour))
        });
        View { own: draw::told(picture).instances, peers: peers.collect() }
    }

    /// Opens the tunnel where there are peers, and tells it of them.
    pub(super) fn open_tunnel(&mut self, tag: Tag, settings: &Settings) -> Result<(), String> {
        let failed = |error| format!("other nodes cannot be reached: {}", chain(&error));
        if self.network.peers.is_empty() {
            return self.close_tunnel();
        }
        let peers: Vec<TunnelPeer> =
            self.network.peers.iter().filter_map(|peer| self.tunnel_peer(peer)).collect();
        let tunnel = match &mut self.tunnel {
            Some(tunnel) => tunnel,
            none => none.insert(
                Tunnel::open(TunnelSettings {
                    device: tag.tunnel_device(),
                    key: settings.key.clone(),
                    port: settings.config.mesh_port,
                    routes: vec![self.network.pool, self.network.pool6],
                    source: Some(self.gateway),
                    kernel: true,
                })
                .map_err(failed)?,
            ),
        };
        tunnel.set_peers(&peers).map_err(failed)
    }

    /// Closes the tunnel for good: dropped, the kernel's would stay for the next agent.
    pub(super) fn close_tunnel(&mut self) -> Result<(), String> {
        let removed = self.tunnel.take().map_or(Ok(()), Tunnel::remove);
        removed.map_err(|error| format!("the tunnel to other nodes stays: {}", chain(&error)))
    }

    /// A peer may send from its subnets, and from fixed addresses of its instances.
    fn tunnel_peer(&self, peer: &Peer) -> Option<TunnelPeer> {
        let key = PublicKey(peer.key.as_slice().try_into().ok()?);
        let pools = [self.network.pool, self.network.pool6];
        let is_fixed = |address: &IpAddr| !pools.iter().any(|pool| pool.contains(*address));
        let instances =
            self.neighbours.get(&peer.node).into_iter().flat_map(|neighbour| &neighbour.instances);
        let fixed = instances
            .flat_map(|instance| instance.addresses.iter().copied().filter(is_fixed))
            .filter_map(|address| {
                Subnet::new(address, if address.is_ipv4() { 32 } else { 128 }).ok()
            });
        let allowed = [peer.subnet, peer.subnet6].into_iter().chain(fixed).collect();
        Some(TunnelPeer { key, endpoints: peer.endpoints.clone(), allowed, keepalive: None })
    }

    /// Begins what runs beside the loop and does not run yet.
    pub(super) fn begin_tasks(&mut self, news: &mpsc::Sender<News>, now_ms: u64) -> Vec<Task> {
        let mut tasks: Vec<Task> = vec![];
        for peer in &self.network.peers {
            if !self.neighbours.contains_key(&peer.node) || self.silent.contains(&peer.node) {
                self.silent_since_ms.entry(peer.node.clone()).or_insert(now_ms);
            }
        }
        if self.stands() && !std::mem::replace(&mut self.answers_names, true) {
            let gateways = super::start::all(&self.gateway).into_iter();
            let settings = dns::Settings {
                listen: gateways.map(|it| SocketAddr::new(it, dns::PORT)).collect(),
                resolv_conf: PathBuf::from("/etc/resolv.conf"),
            };
            tasks.push(Box::pin(tasks::answer_names(
                settings,
                self.names.subscribe(),
                news.clone(),
            )));
        }
        let wakes = !self.followed.wakes.is_empty();
        if self.stands() && wakes && !std::mem::replace(&mut self.holds, true) {
            for gateway in super::start::all(&self.gateway) {
                let listen = SocketAddr::new(gateway, activator::PORT);
                let doors = self.doors.subscribe();
                tasks.push(Box::pin(tasks::hold_connections(listen, doors, news.clone())));
            }
        }
        let has_peers = !self.network.peers.is_empty();
        if self.stands() && has_peers && !std::mem::replace(&mut self.hears_neighbours, true) {
            let settings = neighbours::Settings {
                listen: SocketAddr::new(IpAddr::V4(self.gateway.v4), neighbours::PORT),
                pools: vec![self.network.pool, self.network.pool6],
            };
            tasks.push(Box::pin(tasks::hear_neighbours(
                settings,
                self.view.subscribe(),
                news.clone(),
            )));
        }
        tasks
    }

    fn unreachable(&self, now_ms: u64) -> impl Iterator<Item = &NodeId> {
        let silent = self.silent_since_ms.iter();
        let long = silent.filter(move |(_, since)| now_ms >= since.saturating_add(PATIENCE_MS));
        long.map(|(node, _)| node).filter(|node| !self.speaks(node))
    }

    /// When the next silent peer is told to be unreachable.
    pub(super) fn patience_ends_ms(&self, now_ms: u64) -> Option<u64> {
        let ends = self.silent_since_ms.values().map(|since| since.saturating_add(PATIENCE_MS));
        ends.filter(|at_ms| *at_ms > now_ms).min()
    }

    pub(super) fn report(
        &self,
        attached: &BTreeMap<ContainerId, Attached>,
        now_ms: u64,
    ) -> NetworkReport {
        let addresses = attached
            .iter()
            .map(|(id, attached)| (id.instance.clone(), IpAddr::V4(attached.addresses.v4)));
        NetworkReport {
            addresses: addresses.collect(),
            unreachable: self.unreachable(now_ms).cloned().collect(),
            tunnel: self.tunnel.as_ref().map(Tunnel::kind),
        }
    }
}
