//! The whole controller, from its configuration to its end.
//!
//! In: a [`Config`] and the token that ends it. Out: [`Ready`] when it answers, and at the end
//! nothing, or the sentence that says what stands in the way. The order matters: the store's lock
//! comes first, so that a second controller on one folder changes nothing; the broker goes last, so
//! that the control loop can say goodbye.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use limpet_oci::ImageLayout;
use limpet_oci::layout::LayoutError;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, server};
use crate::auth::admin::{self, AdminError};
use crate::broker::{self, BrokerError, Login, RunningBroker};
use crate::claims;
use crate::config::{Broker, Config};
use crate::control_loop::{self, Handle, LoopError, Settings};
use crate::store::{CommitError, Store, StoreError};

/// The store's file in the data folder.
const STORE_FILE: &str = "store.redb";
/// The folder of images in the data folder.
const IMAGES_FOLDER: &str = "images";
/// Our client id at a broker that is not our own; the cluster's id follows.
const CLIENT_PREFIX: &str = "limpet-controller-";

/// A controller that answers.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Where the API answers; the port is the real one if 0 was asked for.
    pub api: SocketAddr,
    /// Where the broker is; likewise.
    pub mqtt: Broker,
    /// The token that opens the API.
    pub admin_token: String,
    /// The file that has it and the address, for the command line.
    pub client_file: PathBuf,
}

/// Why the controller does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data folder cannot be made.
    #[error("cannot make the data folder {} (--data)", path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What applications have for themselves cannot be kept.
    #[error("cannot note the ports and addresses of applications")]
    Claims(#[from] CommitError),
    /// The images cannot be read.
    #[error("cannot use the images in the data folder")]
    Images(#[from] LayoutError),
    /// The first token cannot be made or kept.
    #[error("cannot make the token for the command line")]
    Admin(#[from] AdminError),
    /// Somebody else has the API's port.
    #[error(
        "--api-listen {listen}: the port is in use; stop the other program or choose another port"
    )]
    PortInUse {
        /// Where.
        listen: SocketAddr,
    },
    /// The API's address cannot be had for another reason.
    #[error("--api-listen {listen}: cannot listen there")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The broker does not run.
    #[error("--mqtt-listen")]
    Broker(#[from] BrokerError),
    /// The control loop cannot begin or ended before its time.
    #[error("the control loop ended")]
    Loop(#[from] LoopError),
    /// A task of the controller panicked; the log has more.
    #[error("the control loop broke: please report it with the log")]
    Panicked,
}

/// Runs a controller until `shutdown` and leaves nothing behind.
///
/// # Errors
/// [`RunError`] says what stands in the way, by the option that changes it.
pub async fn run(
    config: Config,
    ready: oneshot::Sender<Ready>,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let parts = Parts::open(&config).await?;
    let Parts { store, images, admin_token, listener, api, broker } = parts;
    let stop = shutdown.child_token();
    // Also ends the loop's task if this future is dropped.
    let _guard = stop.clone().drop_guard();
    let settings = settings(&config, &store, api.port(), broker.as_ref());
    let started = control_loop::start(settings, store.clone(), stop.clone());
    let (control, control_task) = match started {
        Ok(started) => started,
        Err(error) => {
            end_broker(broker).await;
            return Err(error.into());
        }
    };
    let client_file = admin::write_client_file(
        &config.data,
        &format!("http://{}", reachable(api)),
        &admin_token,
    )?;
    let mqtt = broker.as_ref().map_or(config.broker, |it| Broker::Embedded(it.local_addr));
    tracing::info!(%api, ?mqtt, data = %config.data.display(), "the controller is ready");
    // Nobody has to listen.
    drop(ready.send(Ready { api, mqtt, admin_token, client_file }));
    let ended = serve(store, images, control, (listener, control_task), stop).await;
    end_broker(broker).await;
    ended
}

/// What has to be there before anything begins.
struct Parts {
    store: Store,
    images: Arc<ImageLayout>,
    admin_token: String,
    listener: TcpListener,
    api: SocketAddr,
    broker: Option<RunningBroker>,
}

impl Parts {
    async fn open(config: &Config) -> Result<Self, RunError> {
        make_folder(&config.data)?;
        let store = Store::open(&config.data.join(STORE_FILE))?;
        claims::complete(&store).await?;
        let images = Arc::new(ImageLayout::open(&config.data.join(IMAGES_FOLDER))?);
        let admin_token = admin::ensure_token(&store, &config.data).await?;
        let listener = listen(config.api_listen).await?;
        let api = listener
            .local_addr()
            .map_err(|source| RunError::Listen { listen: config.api_listen, source })?;
        let broker = match &config.broker {
            Broker::Embedded(listen) => Some(broker::start(*listen, store.clone()).await?),
            Broker::External(_) => None,
        };
        Ok(Self { store, images, admin_token, listener, api, broker })
    }
}

/// The folder is its owner's alone: it holds keys and tokens.
fn make_folder(path: &Path) -> Result<(), RunError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| RunError::Data { path: path.to_owned(), source })
}

async fn listen(listen: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(listen).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => RunError::PortInUse { listen },
        _ => RunError::Listen { listen, source },
    })
}

fn settings(
    config: &Config,
    store: &Store,
    image_port: u16,
    broker: Option<&RunningBroker>,
) -> Settings {
    let (broker_host, broker_port, broker_login, client_id) = match (&config.broker, broker) {
        (_, Some(broker)) => {
            let address = reachable(broker.local_addr);
            let host = match address {
                SocketAddr::V4(address) => address.ip().to_string(),
                SocketAddr::V6(address) => format!("[{}]", address.ip()),
            };
            (host, address.port(), Some(broker.controller.clone()), broker::CONTROLLER_USER.into())
        }
        (Broker::External(url), None) => {
            let login = url.login.clone().map(|(user, password)| Login { user, password });
            let client_id = format!("{CLIENT_PREFIX}{}", store.identity().cluster_id());
            (url.host.clone(), url.port, login, client_id)
        }
        (Broker::Embedded(listen), None) => {
            (listen.ip().to_string(), listen.port(), None, broker::CONTROLLER_USER.into())
        }
    };
    let image_host = config.image_host.clone();
    let lost_after = config.lost_after;
    let network = config.network;
    Settings {
        lost_after,
        network,
        broker_host,
        broker_port,
        broker_login,
        client_id,
        image_port,
        image_host,
    }
}

/// The address under which this machine reaches what listens everywhere.
#[must_use]
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            address.set_ip(Ipv4Addr::LOCALHOST.into())
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into())
        }
        _ => {}
    }
    address
}

type ControlTask = JoinHandle<Result<(), LoopError>>;

/// Runs the API beside the loop; when one ends, so does the other.
async fn serve(
    store: Store,
    images: Arc<ImageLayout>,
    control: Handle,
    (listener, control_task): (TcpListener, ControlTask),
    stop: CancellationToken,
) -> Result<(), RunError> {
    let router = Api::new(store, images, control, stop.clone()).router();
    let controlling = async {
        let ended = control_task.await;
        stop.cancel();
        ended
    };
    let ((), ended) = tokio::join!(server::serve(listener, router, stop.clone()), controlling);
    match ended {
        Ok(ended) => Ok(ended?),
        Err(_) => Err(RunError::Panicked),
    }
}

async fn end_broker(broker: Option<RunningBroker>) {
    if let Some(broker) = broker {
        broker.shutdown().await;
    }
}
