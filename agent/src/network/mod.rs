//! Network: the containers of this node get addresses, names and ways to each other.
//!
//! In: the node's network as the assignment has it, the containers and how they fare, what neighbours
//! say. Out: a namespace for each container that starts, rules in the kernel, answers to questions for
//! names, and what neighbours and the controller are told. What is decided is drawn in [`draw`] and
//! made of it in the crate `limpet-network`; this folder holds the state and does what was decided.
//!
//! It is called by the control loop alone. Calls to the kernel take a few milliseconds at most; names
//! and neighbours are tasks that the loop spawns ([`Task`]).

mod draw;
mod node;
mod remembered;
mod start;
mod tasks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use limpet_network::datapath::{Datapath, DatapathError, Lack};
use limpet_network::picture::ServiceKey;
use limpet_network::tag::Tag;
use limpet_network::tunnel::PrivateKey;
use limpet_protocol::assignment::Assignment;
use limpet_protocol::id::NodeId;
use limpet_protocol::message::Mesh;
use limpet_protocol::network::{NetworkReport, NodeNetwork};
use limpet_protocol::spec::{NetworkMode, Spec};
use tokio::sync::mpsc;

use crate::config::NetworkConfig;
use crate::reconcile::Observed;
use crate::runtime::{ContainerId, ContainerNetwork};
use draw::{Attached, Followed, Traits};
use node::Node;
use remembered::Remembered;
pub use tasks::{News, Task};

/// What tasks tell waits here; the loop reads it in every turn.
const NEWS_QUEUE: usize = 64;
/// How soon what the kernel or a socket refused is tried again.
const AGAIN_MS: u64 = 5_000;

/// What the network is made of.
#[derive(Debug)]
pub struct Settings {
    /// Which node this is.
    pub node: NodeId,
    /// What the configuration says.
    pub config: NetworkConfig,
    /// What other nodes know it by.
    pub key: PrivateKey,
    /// Proof for the controller that the key is this node's ([`limpet_seal::prove_mesh`]).
    pub proof: Vec<u8>,
    /// The memory-backed folder, and which boot of the node this is.
    pub run: (PathBuf, u64),
    /// Host and port of the broker, and those of the controller's HTTP server.
    pub masters: [(String, u16); 2],
}

/// Where the node and its masters are.
#[derive(Debug)]
pub struct Located {
    masters: BTreeSet<SocketAddr>,
    /// The node's addresses that lead to the broker.
    own: BTreeSet<IpAddr>,
}

/// The network of the node's containers, or why there is none.
#[derive(Debug)]
pub struct Networking {
    on: Option<Box<On>>,
    conditions: Vec<String>,
}

/// A network that the kernel can have.
#[derive(Debug)]
struct On {
    settings: Settings,
    tag: Tag,
    datapath: Datapath,
    /// What the assignment gave; none before it gave any.
    node: Option<Node>,
    remembered: Remembered,
    /// Containers that have a device.
    attached: BTreeMap<ContainerId, Attached>,
    /// Networks of containers that are being made.
    starting: BTreeMap<ContainerId, start::Starting>,
    /// A namespace that was made ahead.
    spare: Option<limpet_network::datapath::Prepared>,
    /// Whether devices of an earlier run of the agent were looked for: until then no rules are changed.
    adopted: bool,
    guarded: BTreeSet<SocketAddr>,
    own: BTreeSet<IpAddr>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
    /// Something changed since the last picture was drawn.
    dirty: bool,
    /// When something that was refused is tried again.
    again_ms: Option<u64>,
    /// What was refused last, for people.
    problem: Option<String>,
    /// Why names are not answered.
    names_problem: Option<String>,
}

impl Networking {
    /// No networks: containers have their loopback devices alone.
    #[must_use]
    pub fn off(reason: Option<String>) -> Self {
        Self { on: None, conditions: reason.into_iter().collect() }
    }

    /// Finds out what the kernel can do. Nothing is changed yet.
    #[must_use]
    pub fn open(settings: Settings) -> Self {
        let tag = Tag::of(&settings.node);
        let (datapath, lacks) = match Datapath::open(tag) {
            Ok(opened) => opened,
            Err(error) => {
                let why = crate::start::chain(&error);
                return Self::off(Some(format!("containers get no networks: {why}")));
            }
        };
        let conditions: Vec<String> = lacks.iter().map(ToString::to_string).collect();
        if !lacks.iter().copied().all(Lack::is_bearable) {
            return Self { on: None, conditions };
        }
        let on = On {
            remembered: Remembered::new(&settings.run.0, settings.run.1),
            settings,
            tag,
            datapath,
            node: None,
            attached: BTreeMap::new(),
            starting: BTreeMap::new(),
            spare: None,
            adopted: false,
            guarded: BTreeSet::new(),
            own: BTreeSet::new(),
            news: mpsc::channel(NEWS_QUEUE),
            names_problem: None,
            dirty: false,
            again_ms: None,
            problem: None,
        };
        Self { on: Some(Box::new(on)), conditions }
    }

    /// Whether containers would have networks if the controller had given the node addresses.
    #[must_use]
    pub fn lacks_addresses(&self) -> bool {
        self.on.as_ref().is_some_and(|on| on.node.is_none())
    }

    /// What the node lacks, for people.
    pub fn conditions(&self) -> impl Iterator<Item = String> {
        let on = self.on.iter();
        let problems = on.flat_map(|on| [&on.problem, &on.names_problem]).flatten();
        self.conditions.iter().chain(problems).cloned()
    }

    /// Takes over the network of an assignment.
    pub fn follow(&mut self, assignment: &Assignment) {
        let Some(on) = &mut self.on else { return };
        on.follow(assignment.network.as_ref());
        if let Some(node) = &mut on.node {
            node.set_followed(Followed::of(assignment));
        }
    }

    /// Finds out where broker and controller are; none where nobody wants to know.
    pub fn locate(&self) -> Option<impl Future<Output = Located> + Send + use<>> {
        let masters = self.on.as_ref()?.settings.masters.clone();
        Some(async move {
            let mut located = Located { masters: BTreeSet::new(), own: BTreeSet::new() };
            for (host, port) in masters {
                if let Ok(found) = tokio::net::lookup_host((host.as_str(), port)).await {
                    located.masters.extend(found);
                }
            }
            located.own = located.masters.iter().filter_map(|to| way_to(*to).ok()).collect();
            located
        })
    }

    /// Takes over where everybody is: containers do not get to the masters unless their service has
    /// access to the node. Whether other nodes reach this one elsewhere now.
    pub fn located(&mut self, located: Located) -> bool {
        let Some(on) = &mut self.on else { return false };
        on.dirty |= on.guarded != located.masters;
        on.guarded = located.masters;
        let news = on.own != located.own;
        on.own = located.own;
        news
    }

    /// Makes the networks of containers that are about to be started, and lets their packets pass.
    pub fn prepare<'a>(&mut self, starts: impl Iterator<Item = (&'a ContainerId, &'a Spec)>) {
        if let Some(on) = &mut self.on {
            let wanted = starts.filter(|(_, spec)| wants_network(spec));
            let mut any = false;
            for (id, spec) in wanted {
                any |= on.prepare(id, spec);
            }
            if any {
                on.redraw();
            }
        }
    }

    /// The network that was made for a container; none where it gets none.
    ///
    /// # Errors
    /// Why it could not be made, for a person to read.
    pub fn of(
        &mut self,
        id: &ContainerId,
        spec: &Spec,
        observed: &Observed,
    ) -> Result<Option<ContainerNetwork>, String> {
        if let Some(service) = &spec.network.joins {
            let (other, pid) = start::joined(id, service, observed)?;
            let on = self.on.as_ref().and_then(|on| Some((on.attached.get(&other)?, on)));
            return Ok(Some(ContainerNetwork {
                namespace: format!("/proc/{pid}/ns/net").into(),
                addresses: on.map_or(vec![], |(attached, _)| start::all(&attached.addresses)),
                gateway: on.and_then(|(_, on)| Some(IpAddr::V4(on.node.as_ref()?.gateway.v4))),
            }));
        }
        match &mut self.on {
            Some(on) if wants_network(spec) => on.network_of(id).map(Some),
            _ => Ok(None),
        }
    }

    /// A container was made, or could not be: it holds its namespace itself.
    pub fn made(&mut self, id: &ContainerId) {
        if let Some(on) = &mut self.on {
            on.starting.remove(id);
        }
    }

    /// Finds devices that an earlier run of the agent made.
    pub fn adopt(&mut self) {
        if let Some(on) = &mut self.on
            && !on.adopted
        {
            on.adopt();
        }
    }

    /// What a task tells. Cancelling loses nothing: it is a channel.
    pub async fn next_news(&mut self) -> News {
        match &mut self.on {
            Some(on) => match on.news.1.recv().await {
                Some(news) => news,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Takes over what a task told; a service that somebody waits for.
    pub fn hear(&mut self, news: News) -> Option<ServiceKey> {
        let on = self.on.as_mut()?;
        match news {
            News::Needed(service) => return Some(service),
            News::Neighbour((node, said)) => {
                let own = on.node.as_mut()?;
                if own.heard(node, said) {
                    on.dirty = true;
                    on.remembered.write(own.neighbours());
                }
            }
            News::Names(problem) => on.names_problem = problem,
        }
        None
    }

    /// Takes over how containers fare and does all that follows. Returns tasks to be spawned and when to
    /// be called again.
    pub fn update(&mut self, observed: &Observed, now_ms: u64) -> (Vec<Task>, Option<u64>) {
        let Some(on) = &mut self.on else { return (vec![], None) };
        on.look_at(observed);
        on.dirty |= on.node.as_mut().is_some_and(|node| node.doubt(now_ms));
        let again = on.again_ms.is_some_and(|at_ms| at_ms <= now_ms);
        if (on.dirty || again) && on.adopted {
            on.again_ms = None;
            on.problem = None;
            on.redraw();
        }
        let node = on.node.as_mut().filter(|_| on.adopted);
        let tasks = node.map_or(vec![], |node| node.begin_tasks(&on.news.0, now_ms));
        if on.problem.is_some() && on.again_ms.is_none() {
            on.again_ms = Some(now_ms.saturating_add(AGAIN_MS));
        }
        on.prepare_ahead();
        let node = on.node.as_ref();
        let patience = node.and_then(|node| node.patience_ends_ms(now_ms));
        let doubt = node.and_then(Node::doubt_ends_ms);
        (tasks, [on.again_ms, patience, doubt].into_iter().flatten().min())
    }

    /// What the controller is told; none while there is no network.
    #[must_use]
    pub fn report(&self, now_ms: u64) -> Option<NetworkReport> {
        let on = self.on.as_ref()?;
        let node = on.node.as_ref()?;
        Some(node.report(&on.attached, now_ms))
    }

    /// How other nodes reach this one; none if it has no network.
    #[must_use]
    pub fn mesh(&self) -> Option<Mesh> {
        let on = self.on.as_ref()?;
        let Settings { key, proof, config, .. } = &on.settings;
        let own = on.own.iter().map(|address| SocketAddr::new(*address, config.mesh_port));
        Some(Mesh {
            key: key.public().0.to_vec(),
            proof: proof.clone(),
            endpoints: own.chain(config.mesh_endpoints.iter().copied()).collect(),
        })
    }

    /// Removes everything from the kernel: the containers are gone and so is the agent.
    pub fn remove(&mut self) {
        if let Some(on) = &mut self.on {
            on.node = None;
            on.spare = None;
            if let Err(error) = on.datapath.remove() {
                tracing::warn!("remove the network: {}", crate::start::chain(&error));
            }
        }
    }
}

/// Which of the node's addresses a packet to somebody would come from. Nothing is sent.
fn way_to(to: SocketAddr) -> std::io::Result<IpAddr> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// Whether a container gets a device.
#[must_use]
pub fn wants_network(spec: &Spec) -> bool {
    let network = &spec.network;
    network.mode == NetworkMode::Isolated && network.joins.is_none() && !network.networks.is_empty()
}

impl On {
    fn follow(&mut self, network: Option<&NodeNetwork>) {
        self.dirty = true;
        match (network, &mut self.node) {
            (Some(network), Some(node)) if node.goes_on_with(network) => node.follow(network),
            (Some(network), _) => {
                let said = self.remembered.read();
                self.node = Some(Node::new(network.clone(), &self.attached, said));
            }
            (None, None) => self.dirty = false,
            (None, Some(node)) => {
                if let Err(problem) = node.close_tunnel() {
                    tracing::warn!("{problem}");
                }
                self.node = None;
                self.spare = None;
                let removed = self.datapath.remove();
                self.remember(removed, "remove the network");
            }
        }
    }

    /// Takes over which containers are there and how they fare.
    fn look_at(&mut self, observed: &Observed) {
        let mut gone = vec![];
        for (id, attached) in &mut self.attached {
            let Some(container) = observed.container(id).filter(|it| it.is_live()) else {
                gone.push(id.clone());
                continue;
            };
            let ready = container.is_well();
            self.dirty |= attached.ready != ready;
            attached.ready = ready;
            if attached.traits.is_none()
                && let Some(spec) = &container.spec
            {
                attached.traits = Some(Traits::of(spec));
                self.dirty = true;
            }
        }
        for id in gone {
            self.detach(&id);
        }
    }

    fn detach(&mut self, id: &ContainerId) {
        self.starting.remove(id);
        let Some(attached) = self.attached.remove(id) else { return };
        self.dirty = true;
        if let Some(node) = &mut self.node {
            node.give_back(id);
        }
        self.datapath.detach(&attached.device);
    }

    /// Draws the picture and makes rules, names and news of it.
    fn redraw(&mut self) {
        self.dirty = false;
        let Some(node) = &mut self.node else { return };
        let done = node.redraw(&mut self.datapath, self.tag, (&self.attached, &self.guarded));
        if let Err(problem) = done.and_then(|()| node.open_tunnel(self.tag, &self.settings)) {
            tracing::warn!("{problem}");
            self.problem = Some(problem);
        }
    }

    fn remember(&mut self, result: Result<(), DatapathError>, attempt: &str) {
        if let Err(error) = result {
            tracing::warn!("{attempt}: {}", crate::start::chain(&error));
        }
    }
}
