//! `limpet up`: everything on this machine with one command.
//!
//! In: the arguments. Out: controller and broker in this process, one agent as its child
//! ([`agent_child`]), and on request the demo ([`demo`]), until a signal ends it: then the agent
//! stops its containers, and the controller stops after it. Killed without notice, the containers
//! go on under the keeper, and the next `limpet up` takes them over.

pub mod agent_child;
pub mod controller_part;
pub mod demo;
pub mod greeting;
pub mod layout;
pub mod leftovers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use limpet_controller::api::types::TokenRequest;
use limpet_protocol::network::Subnet;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::Client;
use crate::connection::DEFAULT_DATA;
use crate::exit::{Code, Usage};
use crate::{output, progress};
use agent_child::{AgentChild, AgentFile};
use controller_part::ControllerPart;
use layout::Layout;

/// How long the token lives that lets the agent join.
const TOKEN_SECONDS: u64 = 600;
/// How long the agent may take until its node is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is asked whether it is.
const READY_PERIOD: Duration = Duration::from_millis(50);
/// How long the containers may take to stop: longer than any usual grace period.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);
/// How long they may take to be killed.
const HURRIED_TIMEOUT: Duration = Duration::from_secs(15);

/// Arguments of `limpet up`.
#[derive(Debug, Args)]
#[command(after_help = "\
It stays in the foreground. Ctrl-C stops the containers and everything else; what was applied is kept in the data folder and
runs again with the next `limpet up`. Several can run side by side, each with its own --data, ports and --network-pool.

Examples:
  sudo limpet up                                         and in another terminal: sudo limpet apply -f compose.yaml
  sudo limpet up --demo                                  with an application to look at
  sudo limpet up --data /tmp/l --api-listen 127.0.0.1:0 --mqtt-listen 127.0.0.1:0")]
pub struct UpArgs {
    /// Folder for everything that is kept
    #[arg(long, env = "LIMPET_DATA", value_name = "DIR", default_value = DEFAULT_DATA)]
    data: PathBuf,
    /// Load the demo image and apply the demo application
    #[arg(long)]
    demo: bool,
    /// Where the API listens; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT", default_value = limpet_controller::config::DEFAULT_API_LISTEN)]
    api_listen: SocketAddr,
    /// Where the MQTT broker listens for agents; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT", default_value = limpet_controller::config::DEFAULT_MQTT_LISTEN)]
    mqtt_listen: SocketAddr,
    /// IPv4 addresses of the containers: another pool for each `limpet up` on this machine
    /// [default: 10.128.0.0/10]
    #[arg(long, value_name = "ADDR/BITS")]
    network_pool: Option<Subnet>,
    /// Name of this machine as a node [default: its host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or a filter as limpet_controller=debug,info
    #[arg(long, env = "LIMPET_LOG", value_name = "FILTER", default_value = "warn,mqtt5=error")]
    log: String,
}

/// Runs everything until it is told to end.
#[must_use]
pub fn run(args: &UpArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        // The agent is started by this very thread: its death signal follows the thread, not the process.
        Ok(runtime) => runtime.block_on(up(args)),
        Err(error) => Err(anyhow::Error::from(error).context("start the threads of `limpet up`")),
    };
    match result {
        Ok(()) => Code::Done.into(),
        Err(error) => {
            crate::complain(&format!("{error:#}"));
            Code::of(&error).into()
        }
    }
}

async fn up(args: &UpArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "containers need root; run it as: sudo limpet up"
    );
    start_log(&args.log)?;
    let mut signals = Signals::new().context("listen for signals")?;
    let layout = Layout::of(&data_folder(&args.data)?);
    let mut controller = ControllerPart::start(args, &layout).await?;
    let client = Client::new(controller.connection())?;
    let mut agent = AgentChild::new(layout.clone(), args.log.clone());
    let parts = Parts { args, layout: &layout, client: &client };
    let ending = live(&parts, &mut controller, &mut agent, &mut signals).await;
    let emptied = if let Ending::Broken(_) = ending {
        // Something failed that no container is to blame for: they go on, and are taken over.
        agent.kill();
        Ok(())
    } else {
        stop(&mut agent, &mut signals).await.inspect(|()| leftovers::clear(&layout))
    };
    let stopped = controller.stop().await;
    match ending {
        Ending::Told => emptied.and(stopped),
        Ending::Broken(error) | Ending::Useless(error) => Err(error),
    }
}

/// What the phases of `limpet up` share.
struct Parts<'a> {
    args: &'a UpArgs,
    layout: &'a Layout,
    client: &'a Client,
}

/// Why it ends.
enum Ending {
    /// A signal said so.
    Told,
    /// The controller failed.
    Broken(anyhow::Error),
    /// The agent cannot run here.
    Useless(anyhow::Error),
}

/// Lives until a signal or a failure ends it. Whatever is dropped here is at a point where it waits
/// for something outside; the agent's process stays in `agent`.
async fn live(
    parts: &Parts<'_>,
    controller: &mut ControllerPart,
    agent: &mut AgentChild,
    signals: &mut Signals,
) -> Ending {
    let mqtt = controller.broker();
    let token = match invite(parts, &mqtt).await {
        Ok(token) => token,
        Err(error) => return Ending::Useless(error),
    };
    tokio::select! {
        biased;
        () = signals.next() => Ending::Told,
        error = controller.failed() => Ending::Broken(error),
        error = agent.supervise() => Ending::Useless(error),
        () = welcome(parts, &mqtt, &token) => Ending::Told,
    }
}

/// Makes a token for the agent and writes the agent's configuration; gives the token's id.
async fn invite(parts: &Parts<'_>, mqtt: &str) -> anyhow::Result<String> {
    let request = TokenRequest {
        purpose: "join".into(),
        description: "for the agent of limpet up".into(),
        ttl_seconds: Some(TOKEN_SECONDS),
        ..TokenRequest::default()
    };
    let made = parts.client.create_token(&request).await.context("make a token for the agent")?;
    let file = AgentFile {
        controller: mqtt,
        join_token: &made.token.unwrap_or_default(),
        node_name: parts.args.node_name.as_deref(),
        data: &parts.layout.agent,
        run: &parts.layout.run,
        cgroup_parent: &parts.layout.cgroup_parent,
        stop_on_exit: true,
    };
    agent_child::write_config(parts.layout, &file)?;
    Ok(made.id)
}

/// Waits for the node, says that all is up, and shows the demo if asked. Does not return: what goes
/// wrong here is said, and everything stays up to be looked at.
async fn welcome(parts: &Parts<'_>, mqtt: &str, token: &str) {
    let shown = async {
        let node = ready(parts.client).await?;
        // The node has an identity of its own now.
        parts.client.remove_token(token).await?;
        let facts = greeting::Facts {
            api: parts.client.server(),
            mqtt,
            layout: parts.layout,
            node: &node,
            command: &own_name(),
        };
        output::print(&greeting::text(&facts))?;
        if parts.args.demo {
            demo::run(parts.client).await?;
        }
        Ok::<(), anyhow::Error>(())
    };
    if let Err(error) = shown.await {
        crate::complain(&format!("{error:#}"));
        crate::complain("everything else stays up; Ctrl-C stops it");
    }
    std::future::pending().await
}

/// The name of the node, once it is ready.
async fn ready(client: &Client) -> anyhow::Result<String> {
    let bar = progress::spinner("the agent joins".into());
    let started = tokio::time::Instant::now();
    loop {
        let nodes = client.nodes().await?.items;
        if let Some(node) = nodes.into_iter().find(|node| node.status == "ready") {
            bar.finish_and_clear();
            return Ok(node.node);
        }
        let waited = started.elapsed();
        anyhow::ensure!(waited < READY_TIMEOUT, "the agent has not joined after {waited:.0?}");
        tokio::time::sleep(READY_PERIOD).await;
    }
}

/// Tells the agent to stop its containers and waits for that. A second signal is passed on: then
/// the agent kills what still runs. A third, or too long a silence, leaves the containers to the
/// next `limpet up`.
async fn stop(agent: &mut AgentChild, signals: &mut Signals) -> anyhow::Result<()> {
    let bar = progress::spinner("stopping the containers; Ctrl-C again kills them".into());
    agent.terminate();
    for patience in [STOP_TIMEOUT, HURRIED_TIMEOUT] {
        tokio::select! {
            status = agent.ended() => {
                bar.finish_and_clear();
                anyhow::ensure!(
                    status.is_none_or(|status| status.success()),
                    "the agent failed while it stopped the containers; some may still run"
                );
                return Ok(());
            }
            () = signals.next() => {},
            () = tokio::time::sleep(patience) => {},
        }
        bar.set_message("killing the containers");
        agent.terminate();
    }
    bar.finish_and_clear();
    agent.kill();
    anyhow::bail!("not all containers have stopped; the next `limpet up` takes them over")
}

/// What goes wrong is said on standard error; what goes well is not: a person looks at this terminal.
fn start_log(filter: &str) -> anyhow::Result<()> {
    use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let wrong =
        |error: ParseError| Usage(format!("--log {filter:?}: {error}; write warn, info or debug"));
    let targets: Targets = filter.parse().map_err(wrong)?;
    let log = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE);
    let log = log.with_writer(std::io::stderr);
    let log = log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    log.finish().with(targets).try_init().map_err(|error| anyhow::anyhow!("start the log: {error}"))
}

/// The data folder without links and relative parts, made if it is not there.
fn data_folder(data: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.and_then(|()| data.canonicalize())
        .with_context(|| format!("make the data folder {}", data.display()))
}

fn own_name() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("limpet"));
    let here = std::env::current_dir().unwrap_or_default();
    let search = std::env::var_os("PATH").unwrap_or_default();
    let search: Vec<PathBuf> = std::env::split_paths(&search).collect();
    greeting::command(&program, &here, &search)
}

/// Ctrl-C, SIGTERM, and the end of the terminal.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [a, b, c] = kinds.map(signal);
        Ok(Self([a?, b?, c?]))
    }

    /// The next signal. May be dropped at any time: signals are counted by the kernel's side.
    async fn next(&mut self) {
        let [a, b, c] = &mut self.0;
        tokio::select! {
            _ = a.recv() => {},
            _ = b.recv() => {},
            _ = c.recv() => {},
        }
    }
}
