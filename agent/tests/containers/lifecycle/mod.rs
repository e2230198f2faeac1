//! The whole agent but its link: an assignment in the ledger, the real loop, real containers. What the
//! loop asked of the runtime and what came back is kept in its order.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use limpet_agent::control_loop::{ControlLoop, Images, Memory, Parts};
use limpet_agent::image::{ImageCheck, PreparedImage};
use limpet_agent::ledger::runs::RunsFile;
use limpet_agent::ledger::{Accepted, KeptSpec, Ledger, spec_hash};
use limpet_agent::link::{Link, LinkSettings};
use limpet_agent::load::devices::Devices;
use limpet_agent::runtime::keeper_client::KeeperRuntime;
use limpet_agent::runtime::{
    ContainerId, ContainerRequest, ExecId, ExecRequest, Runtime, RuntimeError, RuntimeEvent,
};
use limpet_protocol::assignment::{AssignedService, Assignment, Generation, UpdateOrder};
use limpet_protocol::codec;
use limpet_protocol::id::Slot;
use limpet_protocol::message::Signed;
use limpet_protocol::scale::Scaling;
use limpet_protocol::spec::*;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tokio::sync::mpsc;

mod checks;
mod hooks;
mod order;
mod restarts;
mod scaling;

use super::node::{Node, PATIENCE, exe, now};

/// The real runtime, and what it was asked and told.
struct Watched {
    runtime: KeeperRuntime,
    seen: Seen,
}

type Seen = Arc<Mutex<VecDeque<String>>>;

impl Watched {
    fn note(&self, what: String) {
        self.seen.lock().unwrap().push_back(what);
    }
}

impl Runtime for Watched {
    fn start(&mut self, request: &ContainerRequest) -> Result<(), RuntimeError> {
        self.note(format!("start {}", request.id));
        self.runtime.start(request)
    }
    fn stop(&mut self, id: &ContainerId, signal: i32, grace_ms: u64) -> Result<(), RuntimeError> {
        self.note(format!("stop {id}"));
        self.runtime.stop(id, signal, grace_ms)
    }
    fn remove(&mut self, id: &ContainerId) -> Result<(), RuntimeError> {
        self.runtime.remove(id)
    }
    fn exec(&mut self, request: ExecRequest) -> Result<ExecId, RuntimeError> {
        self.runtime.exec(request)
    }
    fn kill_exec(&mut self, exec: ExecId, signal: i32) -> Result<(), RuntimeError> {
        self.note("kill a check".to_owned());
        self.runtime.kill_exec(exec, signal)
    }
    fn conditions(&self) -> Option<Vec<String>> {
        self.runtime.conditions()
    }
    async fn next_event(&mut self) -> RuntimeEvent {
        let event = self.runtime.next_event().await;
        match &event {
            RuntimeEvent::Started { id, .. } => self.note(format!("{id} runs")),
            RuntimeEvent::Exited { id, .. } => self.note(format!("{id} ended")),
            RuntimeEvent::CreateFailed { reason, .. } => self.note(format!("failed: {reason}")),
            _ => {}
        }
        event
    }
}

/// The one image.
struct OneImage(Arc<PreparedImage>);

impl Images for OneImage {
    fn here(
        &self,
        _: ImageSource,
    ) -> impl Future<Output = Result<Option<Arc<PreparedImage>>, String>> + Send + 'static {
        std::future::ready(Ok(Some(self.0.clone())))
    }
    fn prepare(
        &self,
        _: ImageSource,
    ) -> impl Future<Output = Result<Arc<PreparedImage>, String>> + Send + 'static {
        std::future::ready(Ok(self.0.clone()))
    }
    fn missing(
        &self,
        _: ImageSource,
    ) -> impl Future<Output = Result<u64, String>> + Send + 'static {
        std::future::ready(Ok(0))
    }
    fn retain(&self, _: HashSet<String>) -> impl FnOnce() -> Result<(), String> + Send + 'static {
        || Ok(())
    }
}

/// A node with a ledger; its agent can be started and ended.
struct Life {
    node: Node,
    generation: u64,
    seen: Seen,
    /// How the service `web` follows its load.
    scale: Option<Scaling>,
}

impl Life {
    async fn new() -> Self {
        Self { node: Node::new().await, generation: 0, seen: Seen::default(), scale: None }
    }

    /// Writes an assignment of one instance for each of these specs.
    fn want(&mut self, specs: &[Spec], order: UpdateOrder) {
        self.generation += 1;
        let specs: Vec<_> = specs.iter().map(|spec| (codec::encode(spec).unwrap(), spec)).collect();
        let share = |(bytes, spec): &(Vec<u8>, &Spec)| {
            let (application, service) = (spec.application.clone(), spec.service.clone());
            let hash = spec_hash(bytes);
            let share = AssignedService::new(application, service, hash, vec![Slot(1)]);
            let scale = self.scale.clone().filter(|_| spec.service.as_str() == "web");
            AssignedService { order, scale, ..share }
        };
        let assignment = Assignment {
            node: "n1".parse().unwrap(),
            generation: Generation { epoch: 1, number: self.generation },
            services: specs.iter().map(share).collect(),
            network: None,
        };
        let payload = codec::encode(&assignment).unwrap();
        let signature = key().sign(&Signed::signed_text(&payload)).as_ref().to_vec();
        let signed = codec::encode(&Signed { payload, signature }).unwrap();
        let kept = |(bytes, spec): (Vec<u8>, &Spec)| {
            let spec = Arc::new(spec.clone());
            (spec_hash(&bytes), KeptSpec { bytes: bytes.into(), spec })
        };
        let specs = specs.into_iter().map(kept).collect();
        let accepted = Accepted { signed, assignment, specs, contents: Default::default() };
        self.ledger().store(&accepted).unwrap();
    }

    fn ledger(&self) -> Ledger {
        let key = key().public_key().as_ref().to_vec();
        Ledger::open(&self.node.paths.data, "n1".parse().unwrap(), key).unwrap()
    }

    /// Runs the agent as long as the story goes on.
    async fn while_agent_runs<T>(&self, story: impl Future<Output = T>) -> T {
        let ledger = self.ledger();
        let (loaded, seal_key) = (ledger.load().unwrap(), ledger.seal_key("secret"));
        let settings = LinkSettings {
            broker: "mqtt://127.0.0.1:1".parse().unwrap(),
            node: "n1".parse().unwrap(),
            secret: "secret".to_owned(),
            boot: 1,
        };
        let paths = self.node.paths.clone();
        let agent = ControlLoop::new(Parts {
            runtime: Watched {
                runtime: KeeperRuntime::connect(paths.clone(), exe()),
                seen: self.seen.clone(),
            },
            images: OneImage(self.node.image.clone()),
            link: Link::new(settings),
            ledger: (ledger, loaded),
            memory: Memory::open(&paths.run, 1),
            runs: (RunsFile::of(&paths.data), RunsFile::of(&paths.data).read().0),
            devices: Devices::watch(std::path::Path::new(limpet_agent::load::DEV)),
            look: |_| Vec::new(),
            paths,
            facts: limpet_agent::load::facts(&Default::default(), "/none"),
            node: "n1".parse().unwrap(),
            boot: 1,
            seal_key,
            stop_on_exit: false,
            network: limpet_agent::network::Networking::off(None),
        });
        let (end, told) = mpsc::channel(1);
        let story = async {
            let result = tokio::time::timeout(PATIENCE * 2, story).await;
            end.send(()).await.unwrap();
            result
        };
        let (_, result) = tokio::join!(agent.run(told), story);
        let seen = || format!("{:?}; {}", self.seen.lock().unwrap(), self.node.keeper_log());
        result.unwrap_or_else(|_| panic!("it did not happen in time: {}", seen()))
    }

    /// Waits until that was seen, and answers all that was seen up to there.
    async fn until(&self, what: &str) -> Vec<String> {
        loop {
            {
                let mut seen = self.seen.lock().unwrap();
                if let Some(at) = seen.iter().position(|it| it == what) {
                    return seen.drain(..=at).collect();
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until all of these were seen, in any order, and answers all that was seen.
    async fn until_all(&self, all: &[String]) -> Vec<String> {
        loop {
            {
                let mut seen = self.seen.lock().unwrap();
                if all.iter().all(|what| seen.contains(what)) {
                    return seen.drain(..).collect();
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A folder that containers see at `/shared`.
    fn shared(&self) -> PathBuf {
        let folder = self.node.folder().join("shared");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn spec(&self, service: &str, script: &str) -> Spec {
        let mut spec = Node::spec(script);
        spec.service = service.parse().unwrap();
        spec.stop.grace_period_ms = 200;
        spec.mounts.push(Mount {
            target: "/shared".to_owned(),
            source: MountSource::Bind {
                path: self.shared().to_string_lossy().into_owned(),
                create: false,
            },
            read_only: false,
        });
        spec
    }

    async fn end(mut self) {
        // The agent of the story was another client of the keeper.
        let (paths, exe) = (self.node.paths.clone(), exe());
        self.node.runtime = KeeperRuntime::connect(paths, exe);
        self.node.snapshot().await;
        self.node.end().await;
    }
}

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap()
}

fn shell(line: &str) -> Option<HealthCheck> {
    Some(HealthCheck {
        test: HealthTest::Shell(line.to_owned()),
        interval_ms: Some(100),
        timeout_ms: Some(5_000),
        retries: Some(2),
        start_period_ms: None,
        start_interval_ms: None,
    })
}

fn probe(action: ProbeAction) -> Option<Probe> {
    Some(Probe {
        action,
        initial_delay_ms: 0,
        interval_ms: 100,
        timeout_ms: 2_000,
        success_threshold: 1,
        failure_threshold: 2,
    })
}

const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

/// A server on a port of the container's own network, which nobody else can reach.
fn server(life: &Life, service: &str) -> Spec {
    let script = "mkdir -p /tmp/www; busybox httpd -p 8080 -h /tmp/www; \
                  while [ ! -e /shared/ready ]; do sleep 0.02; done; echo ok > /tmp/www/health; ";
    life.spec(service, &format!("{script} {IDLE}"))
}
