//! From a command line to a running agent: logging, checks of the machine, identity, exit codes.
//!
//! In: [`AgentArgs`]. Out: an exit code, and one sentence on standard error when it is not 0. Nothing
//! is changed on the machine before every check has passed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use limpet_protocol::id::NodeId;
use limpet_protocol::message::NodeFacts;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::{AgentArgs, Config, ConfigError, LogFormat, Switch};
use crate::control_loop::{ControlLoop, Memory, Parts, StoreImages};
use crate::image::{ControllerRegistry, ImageError, ImageStore, Registries};
use crate::ledger::identity::{Identity, IdentityError};
use crate::ledger::runs::RunsFile;
use crate::ledger::{Ledger, LedgerError, boot};
use crate::link::join::{JoinError, JoinSettings, join};
use crate::link::{Link, LinkSettings};
use crate::load;
use crate::load::devices::Devices;
use crate::network::{self, Networking};
use crate::runtime::keeper_client::KeeperRuntime;
use crate::runtime::{Runtime as _, RuntimeEvent, RuntimePaths};
use limpet_network::tunnel::PrivateKey;
use sha2::Digest as _;

/// Threads for blocking work: three layers that are fetched or unpacked, one sweep of leftovers or
/// unneeded images, and beside those, which may take minutes, always one for a write of the ledger
/// and one for a name look-up or a short look at what is there. They end when idle.
const MAX_BLOCKING_THREADS: usize = 6;
/// How long the keeper may take to end when it is to end with the agent.
const KEEPER_FAREWELL: std::time::Duration = std::time::Duration::from_secs(5);

/// Why the agent ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration cannot be used.
    #[error("configuration")]
    Config(#[source] ConfigError),
    /// Containers need root.
    #[error("the agent makes containers and must run as root; start it with sudo or as a service")]
    NotRoot,
    /// Containers need cgroups.
    #[error("no cgroup file system is mounted under /sys/fs/cgroup; mount cgroup2 there")]
    NoCgroup,
    /// Two agents on one folder would stop each other's containers.
    #[error("data folder {} is in use by another agent; stop that one, or give --data another folder", path.display())]
    DataInUse {
        /// Which.
        path: PathBuf,
    },
    /// A folder of the agent cannot be made.
    #[error("make folder {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The identity cannot be used.
    #[error("identity")]
    Identity(#[source] IdentityError),
    /// The ledger cannot be used.
    #[error("ledger")]
    Ledger(#[source] LedgerError),
    /// The image store cannot be used.
    #[error("image store")]
    Images(#[source] ImageError),
    /// The node has no identity and nothing to get one with.
    #[error(
        "this node has not joined yet; give --join-token TOKEN, which `limpet token create` makes"
    )]
    NoToken,
    /// The host name is no node name.
    #[error("host name {host:?} makes no node name; give --node-name NAME")]
    NoName {
        /// The host name.
        host: String,
    },
    /// The controller does not want this node.
    #[error("join")]
    Join(#[source] JoinError),
    /// The operating system did not let the agent begin.
    #[error("start the agent's event loop")]
    EventLoop(#[source] io::Error),
}

impl AgentError {
    /// What a script sees; the list is in `limpet-agent --help`.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::NoToken | Self::NoName { .. } => 2,
            Self::NotRoot => 3,
            Self::NoCgroup => 4,
            Self::DataInUse { .. } => 5,
            Self::Identity(_) | Self::Ledger(_) | Self::Images(_) => 6,
            Self::Join(_) => 7,
            Self::Folder { .. } | Self::EventLoop(_) => 1,
        }
    }
}

/// Runs the agent for a command line and says on standard error why it could not.
#[must_use]
pub fn main_with(args: &AgentArgs) -> ExitCode {
    let result = Config::load(args).map_err(AgentError::Config).and_then(|config| run(&config));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("limpet-agent: {}", chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs the agent until it is told to end.
///
/// # Errors
/// [`AgentError`] if it cannot start.
pub fn run(config: &Config) -> Result<ExitCode, AgentError> {
    start_log(config.log_format);
    check_machine()?;
    let _lock = lock_data(&config.data)?;
    make_folder(&config.run)?;
    let identity = Identity::read(&config.data).map_err(AgentError::Identity)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build()
        .map_err(AgentError::EventLoop)?;
    let result = runtime.block_on(live(config, identity));
    // A hung disk must not keep the agent from ending.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

async fn live(config: &Config, identity: Option<Identity>) -> Result<(), AgentError> {
    let mut signals = Signals::new().map_err(AgentError::EventLoop)?;
    let facts = load::facts(&config.labels, &config.cgroup_parent);
    let identity = match identity {
        Some(identity) => identity,
        None => {
            tokio::select! {
                biased;
                () = signals.next() => return Ok(()),
                joined = become_node(config, &facts) => joined?,
            }
        }
    };
    let control_loop = assemble(config, identity, facts)?;
    let (tell, told) = mpsc::channel(1);
    let mut runtime = tokio::select! {
        () = signals.pass_on(tell) => return Ok(()),
        runtime = control_loop.run(told) => runtime,
    };
    if config.stop_on_exit && runtime.shutdown(0).is_ok() {
        let gone = async {
            while !matches!(runtime.next_event().await, RuntimeEvent::KeeperLost { .. }) {}
        };
        if tokio::time::timeout(KEEPER_FAREWELL, gone).await.is_err() {
            tracing::warn!("the keeper did not end within {} s", KEEPER_FAREWELL.as_secs());
        }
    }
    Ok(())
}

/// Joins, and keeps what the controller gave.
async fn become_node(config: &Config, facts: &NodeFacts) -> Result<Identity, AgentError> {
    let token = config.join_token.clone().ok_or(AgentError::NoToken)?;
    let host = load::host_name();
    let by_host = || NodeId::from_host_name(&host);
    let wanted = config.node_name.clone().or_else(by_host);
    let wanted = wanted.ok_or(AgentError::NoName { host })?;
    let broker = config.controller.clone();
    tracing::info!("joining as {wanted} through {broker}");
    let settings = JoinSettings { broker, token, wanted, facts: facts.clone() };
    let identity = join(&settings).await.map_err(AgentError::Join)?;
    identity.write(&config.data).map_err(AgentError::Identity)?;
    tracing::info!("joined as {}", identity.node);
    Ok(identity)
}

/// Reads what the node shall run and puts the loop together. No network up to here.
fn assemble(
    config: &Config,
    identity: Identity,
    facts: NodeFacts,
) -> Result<ControlLoop<KeeperRuntime, StoreImages>, AgentError> {
    let now_s = crate::control_loop::Clock::start().wall_ms() / 1000;
    let counted = boot::count(&config.data, &load::boot_id(), now_s).map_err(AgentError::Ledger)?;
    let ledger = Ledger::open(&config.data, identity.node.clone(), identity.controller_key.clone())
        .map_err(AgentError::Ledger)?;
    let mut loaded = ledger.load().map_err(AgentError::Ledger)?;
    loaded.problems.extend(counted.problem);
    let runs_file = RunsFile::of(&config.data);
    let (runs, problem) = runs_file.read();
    loaded.problems.extend(problem);
    let store = ImageStore::open(&config.data.join("images")).map_err(AgentError::Images)?;
    let images = StoreImages::new(store, registries(config, &identity));
    let paths = RuntimePaths {
        run: config.run.clone(),
        data: config.data.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
    };
    // The name of the running program, also after its file was replaced by a newer one.
    let exe = PathBuf::from("/proc/self/exe");
    let link = Link::new(LinkSettings {
        broker: config.controller.clone(),
        node: identity.node.clone(),
        secret: identity.secret.clone(),
        boot: counted.count,
    });
    let network = networking(config, &identity, (&ledger, counted.count));
    Ok(ControlLoop::new(Parts {
        network,
        runtime: KeeperRuntime::connect(paths.clone(), exe),
        images,
        link,
        seal_key: ledger.seal_key(&identity.secret),
        ledger: (ledger, loaded),
        memory: Memory::open(&config.run, counted.count),
        runs: (runs_file, runs),
        paths,
        facts,
        devices: Devices::watch(Path::new(load::DEV)),
        look: crate::doctor::conditions,
        node: identity.node,
        boot: counted.count,
        stop_on_exit: config.stop_on_exit,
    }))
}

fn networking(config: &Config, identity: &Identity, (ledger, boot): (&Ledger, u64)) -> Networking {
    if config.network.switch == Switch::Off {
        return Networking::off(Some(
            "networks of containers are switched off: services reach nobody unless they have \
             `network_mode: host`"
                .to_owned(),
        ));
    }
    let digest = sha2::Sha256::digest(identity.secret.as_bytes()).into();
    let key = ledger.mesh_key();
    let proof = limpet_seal::prove_mesh(&digest, &identity.node, key.public());
    let key = match PrivateKey::from_bytes(key.private()) {
        Ok(key) => key,
        Err(error) => return Networking::off(Some(format!("containers get no networks: {error}"))),
    };
    let broker = &config.controller;
    let images = identity.image_host.clone().unwrap_or_else(|| broker.host.clone());
    let masters = [(broker.host.clone(), broker.port), (images, identity.image_port)];
    Networking::open(network::Settings {
        node: identity.node.clone(),
        config: config.network.clone(),
        key,
        proof,
        run: (config.run.clone(), boot),
        masters,
    })
}

fn registries(config: &Config, identity: &Identity) -> Registries {
    let host = identity.image_host.clone().unwrap_or_else(|| config.controller.host.clone());
    Registries {
        controller: Some(ControllerRegistry {
            address: format!("{host}:{}", identity.image_port),
            node: identity.node.to_string(),
            secret: identity.secret.clone(),
        }),
        insecure: config.insecure_registries.clone(),
        cas: config.registry_cas.clone(),
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Tells the loop of every signal, for ever.
    async fn pass_on(&mut self, tell: mpsc::Sender<()>) {
        loop {
            self.next().await;
            if tell.send(()).await.is_err() {
                // The loop has ended; its own arm of the select will say so.
                std::future::pending::<()>().await;
            }
        }
    }
}

fn check_machine() -> Result<(), AgentError> {
    if !rustix::process::geteuid().is_root() {
        return Err(AgentError::NotRoot);
    }
    if has_cgroups(Path::new("/sys/fs/cgroup")) { Ok(()) } else { Err(AgentError::NoCgroup) }
}

/// Whether cgroups can be seen there: version 2 itself, or a hierarchy of version 1 one level below.
/// Every cgroup has a `cgroup.procs` (cgroups(7)).
fn has_cgroups(root: &Path) -> bool {
    let is_cgroup = |folder: &Path| folder.join("cgroup.procs").exists();
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten();
    is_cgroup(root) || hierarchies.into_iter().any(|entry| is_cgroup(&entry.path()))
}

/// Takes the data folder for this process; the kernel gives it back when the process ends.
fn lock_data(data: &Path) -> Result<File, AgentError> {
    make_folder(data)?;
    let path = data.join("agent.lock");
    let failed = |source| AgentError::Folder { path: path.clone(), source };
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(AgentError::DataInUse { path: data.to_owned() })
        }
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn make_folder(path: &Path) -> Result<(), AgentError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| AgentError::Folder { path: path.to_owned(), source })
}

/// Log lines go to standard error; `LIMPET_LOG` says how many (error, warn, info, debug, trace).
fn start_log(format: LogFormat) {
    use tracing_subscriber::filter::LevelFilter;
    let level = std::env::var("LIMPET_LOG").ok().and_then(|level| level.parse().ok());
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level.unwrap_or(LevelFilter::INFO))
        .with_target(false);
    let result = match format {
        LogFormat::Text => log.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    // A program that embeds the agent may have set up its own.
    if let Err(error) = result {
        tracing::debug!("the log is set up already: {error}");
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
