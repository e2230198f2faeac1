//! The stage of the loop's stories: a broker process, a controller that signs, a node's folders.

mod broker;
mod fakes;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use limpet_protocol::assignment::{AssignedService, Assignment, Generation};
use limpet_protocol::broker_url::BrokerUrl;
use limpet_protocol::codec;
use limpet_protocol::event::{Event as NodeEvent, EventBatch, EventKind};
use limpet_protocol::id::{NodeId, Slot, SpecHash};
use limpet_protocol::message::{Ask, JoinReply, NodeFacts, NodePresence, Signed};
use limpet_protocol::phase::Phase;
use limpet_protocol::report::{Exit, InstanceStatus, Report};
use limpet_protocol::spec::{ImageSource, Spec};
use limpet_protocol::topic::{Topic, controller_call_filter, controller_filters};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::config::{AgentArgs, Config};
use crate::control_loop::{ControlLoop, Memory, Parts};
use crate::ledger::{Ledger, boot, spec_hash};
use crate::link::{Link, LinkSettings};
use crate::load::devices::Devices;
use crate::runtime::fake::{FakeCall, FakeExec, FakeRuntime};
use crate::runtime::{ContainerId, ExecOutcome, RuntimePaths};

pub(super) use broker::Broker;
use fakes::{FakeImages, Shared};

pub(super) const TOKEN: &str = "a-token";
/// Longer than any pause of the link at the beginning of a row of failures.
const DEADLINE: Duration = Duration::from_secs(20);

pub(super) fn node() -> NodeId {
    "n1".parse().unwrap()
}

pub(super) fn config(broker: &Broker, data: &str) -> Config {
    Config::load(&AgentArgs {
        controller: Some(broker.url().to_string()),
        join_token: Some(TOKEN.to_owned()),
        data: Some(format!("/tmp/{data}").into()),
        ..AgentArgs::default()
    })
    .unwrap()
}

/// A controller of a few lines.
pub(super) struct Controller {
    key: Ed25519KeyPair,
    client: AsyncClient,
    event_loop: EventLoop,
    /// What was said while nobody waited for it; of reports only the newest.
    unheard: Vec<(Topic, Bytes)>,
    /// The newest session that was heard of the node.
    pub(super) session: u64,
}

impl Controller {
    pub(super) async fn connect(broker: &Broker) -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
        let (client, event_loop) = client_of(broker);
        let mut controller = Self { key, client, event_loop, unheard: Vec::new(), session: 0 };
        controller.listen().await;
        controller
    }

    pub(super) async fn reconnect(&mut self, broker: &Broker) {
        (self.client, self.event_loop) = client_of(broker);
        self.unheard.clear();
        self.listen().await;
    }

    async fn listen(&mut self) {
        let filters = controller_filters().into_iter().chain([controller_call_filter()]);
        for filter in filters {
            self.client.try_subscribe(filter, QoS::AtLeastOnce).unwrap();
        }
        let mut acknowledged = 0;
        while acknowledged < 6 {
            let event = self.poll().await;
            acknowledged += usize::from(matches!(event, Event::Incoming(Packet::SubAck(_))));
        }
    }

    /// The next event of the connection. What the node said is put aside.
    async fn poll(&mut self) -> Event {
        let event = tokio::time::timeout(DEADLINE, self.event_loop.poll()).await;
        let Ok(event) = event else { panic!("nothing happens; unheard: {:?}", self.unheard) };
        let event = event.expect("the broker lives");
        if let Event::Incoming(Packet::Publish(publish)) = &event {
            let topic: Topic = std::str::from_utf8(&publish.topic).unwrap().parse().unwrap();
            if matches!(topic, Topic::Have(_)) {
                self.unheard.retain(|(other, _)| *other != topic);
            }
            self.unheard.push((topic, publish.payload.clone()));
        }
        event
    }

    pub(super) fn welcome(&self) -> JoinReply {
        JoinReply::Accepted {
            node: node(),
            secret: "secret".to_owned(),
            controller_key: self.key.public_key().as_ref().to_vec(),
            image_port: 7080,
            image_host: None,
        }
    }

    pub(super) async fn say(&mut self, topic: &Topic, payload: Vec<u8>) {
        let retained = topic.is_retained();
        self.client.try_publish(topic.to_string(), QoS::AtLeastOnce, retained, payload).unwrap();
        // One turn of the client's loop sends it.
        while !matches!(self.poll().await, Event::Outgoing(rumqttc::Outgoing::Publish(_))) {}
    }

    pub(super) async fn publish_spec(&mut self, spec: &(SpecHash, Vec<u8>)) {
        self.say(&Topic::Spec(spec.0), spec.1.clone()).await;
    }

    /// Wants one instance of each of these services.
    pub(super) async fn want(&mut self, number: u64, specs: &[(SpecHash, Vec<u8>)]) {
        self.want_shares(number, specs.iter().map(share).collect()).await;
    }

    /// Wants these.
    pub(super) async fn want_shares(&mut self, number: u64, services: Vec<AssignedService>) {
        let signed = signed(&self.key, number, services);
        self.say(&Topic::Want(node()), signed).await;
    }

    /// The same, signed by another.
    pub(super) fn forged(&self, number: u64, specs: &[(SpecHash, Vec<u8>)]) -> Vec<u8> {
        let services = specs.iter().map(share).collect();
        signed(&Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap(), number, services)
    }

    /// Waits for a message.
    pub(super) async fn hear<T>(&mut self, mut find: impl FnMut(Topic, &[u8]) -> Option<T>) -> T {
        let begun = tokio::time::Instant::now();
        loop {
            for at in 0..self.unheard.len() {
                let (topic, payload) = &self.unheard[at];
                if let Some(found) = find(topic.clone(), payload) {
                    self.unheard.remove(at);
                    return found;
                }
            }
            assert!(begun.elapsed() < DEADLINE, "not heard: {:?}", self.unheard);
            self.poll().await;
        }
    }

    pub(super) async fn hear_presence(&mut self, online: bool) {
        let session = self
            .hear(|topic, payload| {
                let Topic::Up(_) = topic else { return None };
                let presence: NodePresence = codec::decode(payload).unwrap();
                assert_eq!(presence.facts.is_some(), presence.online);
                (presence.online == online).then_some(presence.session)
            })
            .await;
        self.session = session;
    }

    pub(super) async fn hear_report(&mut self, holds: impl Fn(&Report) -> bool) -> Report {
        self.hear(|topic, payload| {
            let Topic::Have(_) = topic else { return None };
            let report: Report = codec::decode(payload).unwrap();
            holds(&report).then_some(report)
        })
        .await
    }

    /// Waits until an instance of `web` is so far in that attempt.
    pub(super) async fn hear_phase(&mut self, attempt: u32, phase: Phase) -> InstanceStatus {
        let is = |i: &&InstanceStatus| {
            i.instance.service.as_str() == "web" && i.attempt == attempt && i.phase == phase
        };
        let report = self.hear_report(|report| report.instances.iter().any(|i| is(&i))).await;
        report.instances.iter().find(is).unwrap().clone()
    }

    pub(super) async fn hear_ask(&mut self) -> Ask {
        self.hear(|topic, payload| {
            matches!(topic, Topic::Ask(_)).then(|| codec::decode(payload).unwrap())
        })
        .await
    }

    pub(super) async fn hear_batch(&mut self) -> EventBatch {
        self.hear(|topic, payload| {
            matches!(topic, Topic::Event(_)).then(|| codec::decode(payload).unwrap())
        })
        .await
    }

    /// The first event of the next batch with one of a kind.
    pub(super) async fn hear_event(&mut self, kind: EventKind) -> NodeEvent {
        self.hear(|topic, payload| {
            let Topic::Event(_) = topic else { return None };
            let batch: EventBatch = codec::decode(payload).unwrap();
            batch.events.into_iter().find(|event| event.kind == kind)
        })
        .await
    }

    /// The messages of the next events of a kind.
    pub(super) async fn hear_events(&mut self, kind: EventKind) -> Vec<String> {
        self.hear(|topic, payload| {
            let Topic::Event(_) = topic else { return None };
            let batch: EventBatch = codec::decode(payload).unwrap();
            let of_kind = batch.events.into_iter().filter(|event| event.kind == kind);
            let messages: Vec<String> = of_kind.map(|event| event.message).collect();
            (!messages.is_empty()).then_some(messages)
        })
        .await
    }
}

fn client_of(broker: &Broker) -> (AsyncClient, EventLoop) {
    let url = broker.url();
    let mut options = MqttOptions::new("controller", url.host, url.port);
    options.set_outgoing_inflight_upper_limit(16).set_max_packet_size(Some(256 * 1024));
    AsyncClient::new(options, 16)
}

/// One instance of a spec.
pub(super) fn share((hash, bytes): &(SpecHash, Vec<u8>)) -> AssignedService {
    let spec: Spec = codec::decode(bytes).unwrap();
    AssignedService::new(spec.application, spec.service, *hash, vec![Slot(1)])
}

fn signed(key: &Ed25519KeyPair, number: u64, services: Vec<AssignedService>) -> Vec<u8> {
    let generation = Generation { epoch: 1, number };
    let assignment = Assignment { node: node(), generation, services, network: None };
    let payload = codec::encode(&assignment).unwrap();
    let signature = key.sign(&Signed::signed_text(&payload)).as_ref().to_vec();
    codec::encode(&Signed { payload, signature }).unwrap()
}

/// A spec of `shop.<service>` and its hash.
pub(super) fn spec(service: &str, version: u32) -> (SpecHash, Vec<u8>) {
    spec_with(service, |spec| spec.image.reference = format!("{service}:{version}"))
}

/// The same, changed.
pub(super) fn spec_with(service: &str, change: impl FnOnce(&mut Spec)) -> (SpecHash, Vec<u8>) {
    let image = ImageSource::new(format!("{service}:1"));
    let mut spec = Spec::new("shop".parse().unwrap(), service.parse().unwrap(), image);
    change(&mut spec);
    let bytes = codec::encode(&spec).unwrap();
    (spec_hash(&bytes), bytes)
}

/// What the test can do to a running agent.
pub(super) struct Handle {
    runtime: Shared,
    end: mpsc::Sender<()>,
}

impl Handle {
    pub(super) fn exit(&self, id: &ContainerId, exit: Exit) {
        self.runtime.change(|fake| fake.exit(id, exit));
    }

    /// The next keeper says that the node lacks something.
    pub(super) fn lack(&self, condition: &str) {
        self.runtime.change(|fake| fake.conditions = Some(vec![condition.to_owned()]));
    }

    /// What checks of a service do from now on.
    pub(super) fn script(&self, service: &str, output: &str, outcome: Option<ExecOutcome>) {
        let script = FakeExec { output: output.to_owned(), outcome };
        self.runtime.change(|fake| fake.exec_script.insert(service.to_owned(), script));
    }

    pub(super) fn lose_keeper(&self) {
        self.runtime.change(FakeRuntime::lose_keeper);
    }

    pub(super) async fn end(&self) {
        self.end.send(()).await.unwrap();
    }

    pub(super) fn calls(&self) -> Vec<FakeCall> {
        self.runtime.fake.lock().unwrap().calls.clone()
    }

    pub(super) async fn wait(&self, holds: impl Fn(&mut FakeRuntime) -> bool) {
        let wait = async {
            while !holds(&mut self.runtime.fake.lock().unwrap()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("it happens in time");
    }
}

/// A node's folders and containers, over restarts of its agent.
pub(super) struct Node {
    folder: TempDir,
    runtime: Arc<Mutex<FakeRuntime>>,
    pub(super) stop_on_exit: bool,
    pub(super) images_hang: bool,
    /// What is said of the machine.
    pub(super) look: crate::control_loop::Look,
}

impl Node {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("run")).unwrap();
        std::fs::create_dir(folder.path().join("dev")).unwrap();
        Self {
            folder,
            runtime: Arc::default(),
            stop_on_exit: false,
            images_hang: false,
            look: |_| Vec::new(),
        }
    }

    /// Its devices.
    pub(super) fn dev(&self) -> std::path::PathBuf {
        self.folder.path().join("dev")
    }

    /// The folder that outlives a reboot.
    pub(super) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// Power off and on: no container and no memory-backed file is left.
    pub(super) fn reboot(&self) {
        *self.runtime.lock().unwrap() = FakeRuntime::default();
        let run = self.folder.path().join("run");
        std::fs::remove_dir_all(&run).unwrap();
        std::fs::create_dir(&run).unwrap();
    }

    pub(super) fn begin(&self, broker: &Broker) -> (impl Future<Output = Shared> + use<>, Handle) {
        self.begin_at(broker.url())
    }

    pub(super) fn begin_at(
        &self,
        broker: BrokerUrl,
    ) -> (impl Future<Output = Shared> + use<>, Handle) {
        let (data, run) = (self.folder.path().join("data"), self.folder.path().join("run"));
        let key = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
        let ledger = Ledger::open(&data, node(), key.public_key().as_ref().to_vec()).unwrap();
        let loaded = ledger.load().unwrap();
        assert_eq!(loaded.problems, Vec::<String>::new());
        let boot = boot::count(&data, "a-boot", 0).unwrap().count;
        let runtime = Shared { fake: self.runtime.clone(), news: Arc::default() };
        {
            let mut fake = runtime.fake.lock().unwrap();
            let containers = fake.containers.values().cloned().collect();
            let calls = std::mem::take(&mut fake.calls);
            *fake = FakeRuntime::new(containers);
            fake.calls = calls;
        }
        let settings = LinkSettings { broker, node: node(), secret: "secret".to_owned(), boot };
        let runs_file = crate::ledger::runs::RunsFile::of(&data);
        let (record, problem) = runs_file.read();
        assert_eq!(problem, None);
        let runs = (runs_file, record);
        let control_loop = ControlLoop::new(Parts {
            runtime: runtime.clone(),
            images: FakeImages { hangs: self.images_hang },
            link: Link::new(settings),
            seal_key: ledger.seal_key("secret"),
            network: crate::network::Networking::off(None),
            ledger: (ledger, loaded),
            memory: Memory::open(&run, boot),
            runs,
            paths: RuntimePaths { run, data, cgroup_parent: "/limpet-test".to_owned() },
            facts: NodeFacts {
                devices: Some(crate::load::devices::found_in(&self.dev())),
                ..crate::load::facts(&Default::default(), "/none")
            },
            devices: Devices::watch(&self.dev()),
            look: self.look,
            node: node(),
            boot,
            stop_on_exit: self.stop_on_exit,
        });
        let (end, told) = mpsc::channel(1);
        (control_loop.run(told), Handle { runtime, end })
    }
}
