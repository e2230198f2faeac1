//! The embedded MQTT broker, so that one command starts everything.
//!
//! In: an address to listen on and the store, which knows who may connect. Out: a [`RunningBroker`] with
//! the address it got and the controller's own access. It keeps everything in memory: the broker
//! is transport and cache, never the truth; what it forgets, the controller and the agents publish
//! again. Who may say and hear what is [`access`]'s business.
//!
//! Only this folder knows the library. The place for TLS is [`start`]: a front that ends TLS, reads
//! the node's name from its certificate and passes the bytes on to the address given here.

mod access;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use limpet_protocol::id::NodeId;
use limpet_protocol::limits::{
    MAX_INSTANCES_PER_NODE, MAX_METRIC_TOPICS_PER_NODE, MAX_PACKET_BYTES,
};
use mqtt5::broker::config::{
    AuthConfig, BrokerConfig, RateLimitConfig, StorageBackend as Backend,
    StorageConfig as StorageSettings,
};
use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::{BrokerShutdownHandle, MqttBroker};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::task::JoinHandle;

use crate::store::{Change, Key, Store, WatchError};
use access::{Access, NoStrayRetained};

/// Clients at the same time: nodes, joining agents and the controller. 36 KiB of memory each.
const MAX_CLIENTS: usize = 4096;
/// Retained messages: three a node and one for each spec.
const MAX_RETAINED: usize = 5 * MAX_CLIENTS;
/// Subscriptions of one client: its own topics, one for each spec that it runs and one for each figure
/// that they follow.
const MAX_SUBSCRIPTIONS: usize = MAX_INSTANCES_PER_NODE + MAX_METRIC_TOPICS_PER_NODE + 16;
/// Messages waiting for one client that reads slowly.
const MAX_QUEUED_MESSAGES: usize = 10_000;
/// Bytes waiting for one client that reads slowly.
const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;
/// Messages in flight to or from one client: the controller hears the whole fleet through one.
const IN_FLIGHT: u16 = 1000;
/// How long a broken session is kept. Nobody relies on it, so only to smooth a reconnect.
const SESSION_EXPIRY: Duration = Duration::from_secs(60);
/// How long a shutdown may take before the broker is dropped.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// The user name of the controller itself.
pub const CONTROLLER_USER: &str = "controller";
/// The user name of agents that have no identity yet; the password is a join token.
pub const JOIN_USER: &str = "join";
/// What the client id of a joining agent begins with; its session id follows.
pub const JOIN_CLIENT_PREFIX: &str = "join-";

/// The user name of whoever measures figures of services; the password is a metrics token.
pub const METRICS_USER: &str = "metrics";
/// What the client id of such a client begins with.
pub const METRICS_CLIENT_PREFIX: &str = "metrics-";

/// Whether a node may have this name: none that the broker knows as something else.
#[must_use]
pub fn is_reserved(node: &NodeId) -> bool {
    let name = node.as_str();
    [CONTROLLER_USER, JOIN_USER, METRICS_USER].contains(&name)
        || [JOIN_CLIENT_PREFIX, METRICS_CLIENT_PREFIX].iter().any(|it| name.starts_with(it))
}

/// Why the broker does not run.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Somebody else has the port.
    #[error(
        "listen for agents on {listen}: the port is in use; stop the other program or choose another port"
    )]
    PortInUse {
        /// Where.
        listen: SocketAddr,
    },
    /// The address cannot be had for another reason.
    #[error("listen for agents on {listen}")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The library refused.
    #[error("start the broker on {listen}")]
    Start {
        /// Where.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: Box<mqtt5::error::MqttError>,
    },
    /// The system gave no random bytes for the controller's password.
    #[error("make the controller's password: the system gives no random bytes")]
    Random,
}

/// How a client of the broker is let in.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// User name and client id.
    pub user: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({}, …)", self.user)
    }
}

/// A broker that runs until it is shut down or dropped.
pub struct RunningBroker {
    /// Where it listens; the port is the real one if 0 was asked for.
    pub local_addr: SocketAddr,
    /// The controller's own access, made anew at each start.
    pub controller: Login,
    stop: BrokerShutdownHandle,
    task: JoinHandle<()>,
}

/// Starts the broker on exactly this address.
///
/// # Errors
/// [`BrokerError`] names the address and what stands in the way.
pub async fn start(listen: SocketAddr, store: Store) -> Result<RunningBroker, BrokerError> {
    probe(listen)?;
    let controller = Login { user: CONTROLLER_USER.to_owned(), password: random_password()? };
    let access = Access::new(store.clone(), &controller);
    let broker = MqttBroker::with_config(settings(listen))
        .await
        .map_err(|source| BrokerError::Start { listen, source: Box::new(source) })?
        .with_auth_provider(Arc::new(access));
    let local_addr = broker.local_addr().unwrap_or(listen);
    let stop = broker.shutdown_handle();
    let mut ready = broker.ready_receiver();
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the broker's one task; RunningBroker joins it"
    )]
    let task = tokio::spawn(run(broker, store));
    // An error means that the task is gone, and then there is nothing to wait for.
    if ready.wait_for(|ready| *ready).await.is_err() {
        tracing::warn!(%local_addr, "the broker ended before it was ready");
    }
    Ok(RunningBroker { local_addr, controller, stop, task })
}

impl std::fmt::Debug for RunningBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunningBroker({})", self.local_addr)
    }
}

impl RunningBroker {
    /// Sends everybody away and waits until it is done, for a bounded time.
    pub async fn shutdown(mut self) {
        self.stop.shutdown();
        if tokio::time::timeout(SHUTDOWN_LIMIT, &mut self.task).await.is_err() {
            tracing::warn!("the broker did not end in {SHUTDOWN_LIMIT:?} and is dropped");
        }
    }
}

impl Drop for RunningBroker {
    fn drop(&mut self) {
        self.stop.shutdown();
        self.task.abort();
    }
}

async fn run(mut broker: MqttBroker, store: Store) {
    let router = broker.router();
    tokio::select! {
        ended = broker.run() => if let Err(error) = ended {
            tracing::error!(error = &error as &dyn std::error::Error, "the broker ended");
        },
        // Never ends before the broker does.
        () = send_removed_away(&router, &store) => {}
    }
}

/// A node that was removed may not come back; this ends the connection that it still has.
async fn send_removed_away(router: &MessageRouter, store: &Store) {
    let mut changes = store.watch(store.revision());
    loop {
        match changes.next().await {
            Ok(Change { key: Key::Node(node), value: None, .. }) => {
                tracing::info!(%node, "the node was removed; its connection ends");
                router.unregister_client(node.as_str()).await;
            }
            Ok(_) => {}
            // So far behind that removals were missed: those nodes are cut off when they connect anew.
            Err(WatchError::Compacted { .. }) => changes = store.watch(store.revision()),
            Err(WatchError::Closed) => return std::future::pending().await,
        }
    }
}

/// Tries the address first: the library's own message does not tell a busy port from other trouble.
fn probe(listen: SocketAddr) -> Result<(), BrokerError> {
    match std::net::TcpListener::bind(listen) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(BrokerError::PortInUse { listen })
        }
        Err(source) => Err(BrokerError::Listen { listen, source }),
    }
}

fn settings(listen: SocketAddr) -> BrokerConfig {
    let storage = StorageSettings::new()
        .with_backend(Backend::Memory)
        .with_max_queued_messages_per_client(MAX_QUEUED_MESSAGES)
        .with_max_queued_bytes_per_client(MAX_QUEUED_BYTES);
    // The library counts failed logins by address and shuts the address out: behind one NAT a single
    // agent with a wrong secret would shut out a whole site. Secrets have 256 bits; nobody guesses one.
    let auth = AuthConfig {
        rate_limit: RateLimitConfig { enabled: false, ..RateLimitConfig::default() },
        ..AuthConfig::default()
    };
    let mut settings = BrokerConfig::new()
        .with_bind_address(listen)
        .with_auth(auth)
        .with_storage(storage)
        .with_max_clients(MAX_CLIENTS)
        .with_max_packet_size(MAX_PACKET_BYTES)
        .with_session_expiry(SESSION_EXPIRY)
        .with_maximum_qos(1)
        .with_max_retained_messages(MAX_RETAINED)
        .with_max_retained_message_size(MAX_PACKET_BYTES)
        .with_max_subscriptions_per_client(MAX_SUBSCRIPTIONS)
        .with_max_outbound_inflight(IN_FLIGHT)
        .with_server_receive_maximum(IN_FLIGHT)
        .with_sys_topics_enabled(false)
        .with_event_handler(Arc::new(NoStrayRetained));
    settings.shared_subscription_available = false;
    settings.topic_alias_maximum = 0;
    settings
}

fn random_password() -> Result<String, BrokerError> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| BrokerError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
