//! What nodes tell each other through the tunnel: which instances they run and which of them are ready.
//!
//! In: what this node runs, and who its peers are. Out: what each peer runs, as it says itself. No
//! controller is in between, so a change is known while none is there, and in milliseconds.
//!
//! Each node connects to each peer and tells it everything at once when something changes; between
//! changes it gives signs of life. So two connections lead to and fro, and each is the business of the one
//! who made it. Who a connection is from says its address, which the tunnel has proved. A connection that
//! ends says nothing (an agent may be replaced); a peer that is silent for too long is gone.

mod heard;
mod hearing;
mod screen;
mod stream;
mod teller;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use limpet_protocol::id::{NetworkName, NodeId};
use limpet_protocol::network::{Neighbour, NeighbourInstance, Subnet};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use hearing::Hearing;

/// Where nodes listen for each other, on their gateway addresses: the port that Docker Swarm and Serf use
/// for the same purpose.
pub const PORT: u16 = 7946;

/// How often a node gives a sign of life at its own site. Instances of a node that lost its power are passed
/// over after [`MISSED`] of these; it costs 0.5 KB/s of a local network for each peer.
const NEAR: Duration = Duration::from_secs(1);
/// The same between sites, where links may be paid for by the megabyte: 4 MB a day for each peer.
const FAR: Duration = Duration::from_secs(10);
/// How many signs of life may be missing: one that is lost comes again after TCP's 200 ms at least.
const MISSED: u32 = 3;

/// Where to listen.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node's gateway address with [`PORT`].
    pub listen: SocketAddr,
    /// The fleet's pools: an address in one of them belongs to the node whose subnet it is in.
    pub pools: Vec<Subnet>,
}

/// All that is to be told and to whom. The newest counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The instances of this node, with all their networks.
    pub own: Vec<NeighbourInstance>,
    /// The peers.
    pub peers: BTreeMap<NodeId, NeighbourPeer>,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourPeer {
    /// Its gateway address: where it listens and where it comes from.
    pub gateway: IpAddr,
    /// The ranges of its instances.
    pub subnets: Vec<Subnet>,
    /// The networks that both take part in: of instances in no others nothing is told or believed.
    pub networks: BTreeSet<NetworkName>,
    /// Whether it is at the same site, where a sign of life each second costs nothing.
    pub near: bool,
}

impl NeighbourPeer {
    /// How often it is given a sign of life.
    const fn every(&self) -> Duration {
        if self.near { NEAR } else { FAR }
    }
}

/// What became known: what a peer runs now, or nothing any more since it is silent or no peer.
pub type Told = (NodeId, Option<Neighbour>);

/// Why there is nobody to talk to.
#[derive(Debug, thiserror::Error)]
pub enum NeighboursError {
    /// Somebody else listens there, or the address is not the node's.
    #[error("listen for other nodes on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// A node that listens to its neighbours.
#[derive(Debug)]
pub struct Neighbours {
    settings: Settings,
    listener: TcpListener,
}

impl Neighbours {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`NeighboursError::Listen`].
    pub async fn bind(settings: Settings) -> Result<Self, NeighboursError> {
        let address = settings.listen;
        let failed = |source| NeighboursError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        Ok(Self { settings, listener })
    }

    /// Tells and listens until one of the channels is closed or the future is dropped: that ends all that
    /// it began.
    pub async fn run(self, view: watch::Receiver<Arc<View>>, told: mpsc::Sender<Told>) {
        Hearing::new(self.settings, view, told).run(self.listener).await;
    }
}
