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
use limpet_protocol::spec::*;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tokio::sync::mpsc;

use super::node::{Node, PATIENCE, exe};

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
}

impl Life {
    async fn new() -> Self {
        Self { node: Node::new().await, generation: 0, seen: Seen::default() }
    }

    /// Writes an assignment of one instance for each of these specs.
    fn want(&mut self, specs: &[Spec], order: UpdateOrder) {
        self.generation += 1;
        let specs: Vec<_> = specs.iter().map(|spec| (codec::encode(spec).unwrap(), spec)).collect();
        let share = |(bytes, spec): &(Vec<u8>, &Spec)| {
            let (application, service) = (spec.application.clone(), spec.service.clone());
            let hash = spec_hash(bytes);
            let share = AssignedService::new(application, service, hash, vec![Slot(1)]);
            AssignedService { order, ..share }
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
            paths,
            facts: limpet_agent::load::facts(&Default::default()),
            node: "n1".parse().unwrap(),
            boot: 1,
            seal_key,
            stop_on_exit: false,
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

/// Makes the one container sick once it has begun; its successor is not.
async fn is_replaced_when_sick(life: &mut Life, mut web: Spec) {
    let script = format!("busybox rm -f /shared/sick; touch /shared/begun; {IDLE}");
    web.process.command = Some(["/bin/sh", "-c", &script].map(str::to_owned).into());
    life.want(&[web], UpdateOrder::StopFirst);
    let life = &*life;
    let seen = life
        .while_agent_runs(async {
            life.until("test.web.1.1 runs").await;
            while !life.shared().join("begun").exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            std::fs::write(life.shared().join("sick"), "").unwrap();
            let seen = life.until("test.web.1.2 runs").await;
            // It stays: several checks have passed.
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert_eq!(life.seen.lock().unwrap().make_contiguous(), [""; 0]);
            seen
        })
        .await;
    assert_eq!(
        seen,
        ["stop test.web.1.1", "test.web.1.1 ended", "start test.web.1.2", "test.web.1.2 runs"]
    );
}

#[tokio::test]
async fn an_unhealthy_container_is_replaced() {
    let mut life = Life::new().await;
    let mut web = life.spec("web", IDLE);
    web.healthcheck = shell("test ! -e /shared/sick || { echo it is sick; exit 3; }");
    is_replaced_when_sick(&mut life, web).await;
    life.end().await;
}

#[tokio::test]
async fn the_image_s_own_check_counts() {
    let mut life = Life::new().await;
    let check = ImageCheck {
        command: ["test", "!", "-e", "/shared/sick"].map(str::to_owned).to_vec(),
        interval_ms: Some(100),
        retries: Some(2),
        ..ImageCheck::default()
    };
    let image = PreparedImage { check: Some(Arc::new(check)), ..(*life.node.image).clone() };
    life.node.image = Arc::new(image);
    let web = life.spec("web", IDLE);
    is_replaced_when_sick(&mut life, web).await;
    life.end().await;
}

#[tokio::test]
async fn a_hanging_check_is_killed_and_stalls_nobody() {
    let mut life = Life::new().await;
    let mut web = life.spec("web", IDLE);
    web.healthcheck = shell("trap '' TERM INT; echo stuck; while :; do sleep 1; done");
    web.healthcheck.as_mut().unwrap().timeout_ms = Some(300);
    let mut db = life.spec("db", IDLE);
    db.healthcheck = shell("touch /shared/db-was-checked");
    life.want(&[db, web], UpdateOrder::StopFirst);
    life.while_agent_runs(async {
        let seen = life.until("stop test.web.1.1").await;
        assert_eq!(seen.iter().filter(|it| *it == "kill a check").count(), 2, "{seen:?}");
        assert!(life.shared().join("db-was-checked").exists());
        life.until("test.web.1.2 runs").await;
    })
    .await;
    life.end().await;
}

#[tokio::test]
async fn a_check_that_floods_is_read_to_its_end() {
    let mut life = Life::new().await;
    let mut web = life.spec("web", IDLE);
    web.healthcheck = shell("yes flood | head -c 1000000; touch /shared/read-to-the-end");
    life.want(&[web], UpdateOrder::StopFirst);
    life.while_agent_runs(async {
        life.until("test.web.1.1 runs").await;
        let done = life.shared().join("read-to-the-end");
        while !done.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    life.end().await;
}

#[tokio::test]
async fn a_dependant_waits_until_its_dependency_is_healthy() {
    let mut life = Life::new().await;
    let mut db = life.spec("db", IDLE);
    db.healthcheck = shell("test -e /shared/healthy");
    db.healthcheck.as_mut().unwrap().start_period_ms = Some(60_000);
    db.healthcheck.as_mut().unwrap().start_interval_ms = Some(50);
    let mut web = life.spec("web", IDLE);
    web.depends_on.push(Dependency {
        service: "db".parse().unwrap(),
        condition: DependencyCondition::ServiceHealthy,
        restart: false,
        required: true,
    });
    life.want(&[db, web], UpdateOrder::StopFirst);
    life.while_agent_runs(async {
        life.until("test.db.1.1 runs").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(life.seen.lock().unwrap().make_contiguous(), [""; 0]);
        std::fs::write(life.shared().join("healthy"), "").unwrap();
        life.until("test.web.1.1 runs").await;
    })
    .await;
    life.end().await;
}

/// A server on a port of the container's own network, which nobody else can reach.
fn server(life: &Life, service: &str) -> Spec {
    let script = "mkdir -p /tmp/www; busybox httpd -p 8080 -h /tmp/www; \
                  while [ ! -e /shared/ready ]; do sleep 0.02; done; echo ok > /tmp/www/health; ";
    life.spec(service, &format!("{script} {IDLE}"))
}

#[tokio::test]
async fn probes_are_made_in_the_network_of_the_container() {
    let mut life = Life::new().await;
    let get =
        ProbeAction::Http { port: 8080, path: "/health".to_owned(), headers: Default::default() };
    let mut db = server(&life, "db");
    db.probes.startup = probe(ProbeAction::Tcp { port: 8080 });
    db.probes.startup.as_mut().unwrap().failure_threshold = 100;
    db.probes.ready = probe(get);
    let mut web = life.spec("web", IDLE);
    web.depends_on.push(Dependency {
        service: "db".parse().unwrap(),
        condition: DependencyCondition::ServiceHealthy,
        restart: false,
        required: true,
    });
    // Nobody listens there in this one: it is never ready, and another's server does not help it.
    let mut alone = life.spec("alone", IDLE);
    alone.probes.live = probe(ProbeAction::Tcp { port: 8080 });
    life.want(&[alone, db, web], UpdateOrder::StopFirst);
    life.while_agent_runs(async {
        let seen = life.until("stop test.alone.1.1").await;
        assert!(seen.contains(&"test.db.1.1 runs".to_owned()), "{seen:?}");
        assert!(!seen.contains(&"start test.web.1.1".to_owned()), "{seen:?}");
        std::fs::write(life.shared().join("ready"), "").unwrap();
        life.until("test.web.1.1 runs").await;
    })
    .await;
    life.end().await;
}

#[tokio::test]
async fn start_first_keeps_the_old_one_until_the_new_one_is_ready() {
    let mut life = Life::new().await;
    let old = life.spec("web", IDLE);
    let get =
        ProbeAction::Http { port: 8080, path: "/health".to_owned(), headers: Default::default() };
    let mut new = server(&life, "web");
    new.probes.startup = probe(ProbeAction::Tcp { port: 8080 });
    new.probes.startup.as_mut().unwrap().failure_threshold = 100;
    new.probes.ready = probe(get);
    life.want(std::slice::from_ref(&old), UpdateOrder::StartFirst);
    life.while_agent_runs(life.until("test.web.1.1 runs")).await;
    // The new assignment is there when the agent comes back; the old container is adopted.
    life.want(&[new], UpdateOrder::StartFirst);
    life.while_agent_runs(async {
        life.until("test.web.1.2 runs").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(life.seen.lock().unwrap().make_contiguous(), [""; 0], "two live in one slot");
        std::fs::write(life.shared().join("ready"), "").unwrap();
        let seen = life.until("test.web.1.1 ended").await;
        assert_eq!(seen, ["stop test.web.1.1", "test.web.1.1 ended"]);
    })
    .await;
    // Back to the old version: the new one goes only when the old one runs again.
    life.want(&[old], UpdateOrder::StartFirst);
    let seen = life.while_agent_runs(life.until("test.web.1.2 ended")).await;
    assert_eq!(
        seen,
        ["start test.web.1.3", "test.web.1.3 runs", "stop test.web.1.2", "test.web.1.2 ended"]
    );
    life.end().await;
}

/// The last run is long ago, so that one is due as soon as the agent is there.
#[tokio::test(flavor = "current_thread")]
async fn a_missed_run_of_a_schedule_is_made_up_for_by_a_real_container_once() {
    let mut life = Life::new().await;
    let out = life.shared().join("runs");
    let mut spec = life.spec("backup", "echo run >> /shared/runs");
    spec.restart.condition = RestartCondition::OnFailure;
    spec.schedule = Some(Schedule {
        cron: "@monthly".to_owned(),
        zone: String::new(),
        missed: MissedRuns::Once,
        deadline_ms: None,
        overlap: Overlap::Forbid,
    });
    life.want(&[spec], UpdateOrder::StopFirst);
    let record = r#"{"runs":{"test.backup.1":{"schedule":"@monthly|","last_s":1735689601}}}"#;
    std::fs::write(life.node.paths.data.join("runs.json"), record).unwrap();
    life.while_agent_runs(life.until("test.backup.1.1 ended")).await;
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "run\n");
    // The agent starts again: the run is over and not due again.
    life.while_agent_runs(tokio::time::sleep(Duration::from_secs(1))).await;
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "run\n", "it is not repeated");
}
