//! The control loop with a real store, a real broker and agents that speak real MQTT.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use limpet_protocol::application::{Application, Attribute, Constraint, Mode, Service};
use limpet_protocol::assignment::Generation;
use limpet_protocol::codec;
use limpet_protocol::event::{Cursor, Event, EventBatch, EventKind};
use limpet_protocol::id::Slot;
use limpet_protocol::message::{Ask, JoinReply, NodePresence};
use limpet_protocol::phase::Phase;
use limpet_protocol::report::Report;
use limpet_protocol::topic::Topic;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fake_agent::{Badge, FakeAgent, PATIENCE, join, joined};
use crate::auth;
use crate::broker::{self, Login, RunningBroker};
use crate::control_loop::{self, Handle, LoopError, Request, Settings, View};
use crate::store::records::{ApplicationRecord, TokenPurpose, TokenRecord};
use crate::store::{Key, Kind, Op, Revision, Store, Transaction};

mod calls;
mod drain;
mod images;
mod leaving;
mod mosquitto;
mod networks;
mod progress;
mod rollouts;
mod scaling;
mod sealing;

/// Longer than any test: nobody is given up by accident.
const NEVER: Duration = Duration::from_secs(3600);

struct Rig {
    store: Store,
    broker: Option<RunningBroker>,
    address: SocketAddr,
    handle: Handle,
    task: JoinHandle<Result<(), LoopError>>,
    shutdown: CancellationToken,
    /// Dropped last.
    dir: tempfile::TempDir,
}

fn settings(address: SocketAddr, login: Option<Login>, lost_after: Duration) -> Settings {
    Settings {
        network: ("10.128.0.0/10".parse().unwrap(), 24),
        lost_after,
        broker_host: address.ip().to_string(),
        broker_port: address.port(),
        broker_login: login,
        client_id: broker::CONTROLLER_USER.to_owned(),
        image_port: 7420,
        image_host: None,
    }
}

impl Rig {
    async fn start(lost_after: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, "127.0.0.1:0".parse().unwrap(), lost_after).await
    }

    /// Waits for an event of a kind; how many there are then.
    async fn wait_event(&self, kind: &str) -> usize {
        let mut newest = self.store.subscribe_events();
        let count = || {
            let events = self.store.events(0, 100).unwrap();
            events.iter().filter(|event| event.kind == kind).count()
        };
        let heard = async {
            while count() == 0 {
                newest.changed().await.unwrap();
            }
            count()
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("the event")
    }

    /// Node `a` runs all of the shop and is cut off, node `b` is there and has nothing.
    async fn cut_off_beside_an_idle_one(&mut self) -> (Badge, FakeAgent) {
        let token = self.token().await;
        let first = self.agent(&token, "a").await;
        self.sees("a", |v| v.nodes.iter().any(|n| n.status == "ready")).await;
        let revision = self.apply(shop(2)).await;
        self.settled(revision).await;
        let mut second = self.agent(&token, "b").await;
        self.sees("both", |v| v.nodes.iter().filter(|n| n.status == "ready").count() == 2).await;
        second.holds(|a| a.services.is_empty()).await;
        let badge = first.badge.clone();
        drop(first);
        self.sees("unreachable", |v| v.nodes[0].status == "unreachable").await;
        (badge, second)
    }

    async fn start_in(dir: tempfile::TempDir, listen: SocketAddr, lost_after: Duration) -> Self {
        Self::start_with(dir, listen, |settings| settings.lost_after = lost_after).await
    }

    async fn start_with(
        dir: tempfile::TempDir,
        listen: SocketAddr,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let store = Store::open(&dir.path().join("limpet.redb")).unwrap();
        let broker = broker::start(listen, store.clone()).await.unwrap();
        let address = broker.local_addr;
        let login = Some(broker.controller.clone());
        let shutdown = CancellationToken::new();
        let mut settings = settings(address, login, NEVER);
        change(&mut settings);
        let (handle, task) =
            control_loop::start(settings, store.clone(), shutdown.clone()).unwrap();
        Self { store, broker: Some(broker), address, handle, task, shutdown, dir }
    }

    /// As if the controller's process ended and a new one began, on the same port.
    async fn restart(self, lost_after: Duration) -> Self {
        let (dir, address) = self.stop().await;
        Self::start_in(dir, address, lost_after).await
    }

    async fn stop(self) -> (tempfile::TempDir, SocketAddr) {
        let Self { store, broker, address, handle, task, shutdown, dir } = self;
        shutdown.cancel();
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
        if let Some(broker) = broker {
            broker.shutdown().await;
        }
        drop(handle);
        drop(store);
        (dir, address)
    }

    async fn commit(&self, op: Op) -> Revision {
        self.store.commit(Transaction { ops: vec![op], ..Transaction::default() }).await.unwrap()
    }

    async fn token(&self) -> String {
        let token = auth::make_secret().unwrap();
        let record = TokenRecord {
            purpose: TokenPurpose::Join,
            description: String::new(),
            created_ms: 0,
            expires_ms: None,
        };
        let value = codec::encode(&record).unwrap();
        self.commit(Op::Put(Key::Token(auth::hash(&token)), value)).await;
        token
    }

    async fn agent(&self, token: &str, name: &str) -> FakeAgent {
        let badge = joined(self.address, token, name).await;
        FakeAgent::start(self.address, badge, 1).await
    }

    async fn apply(&self, application: Application) -> Revision {
        let key = Key::Application(application.name.clone());
        let record = ApplicationRecord {
            application,
            applied_ms: 5,
            change: String::new(),
            changed: vec![],
        };
        self.commit(Op::Put(key, codec::encode(&record).unwrap())).await
    }

    async fn sees(&mut self, what: &str, is: impl Fn(&View) -> bool) -> Arc<View> {
        let mut view = self.handle.view.clone();
        let found = tokio::time::timeout(PATIENCE, view.wait_for(|view| is(view)));
        match found.await {
            Ok(view) => Arc::clone(&view.unwrap()),
            Err(_) => panic!("{what} in time, not {:#?}", self.handle.view.borrow()),
        }
    }

    async fn settled(&mut self, revision: Revision) -> Arc<View> {
        self.sees("everything settled", |view| {
            view.revision >= revision && view.services.iter().all(|(_, service)| service.settled)
        })
        .await
    }
}

fn service(application: &str, name: &str, replicas: u32) -> Service {
    let spec = serde_json::json!({
        "application": application, "service": name, "image": {"reference": "busybox:1"}
    });
    Service::new(serde_json::from_value(spec).unwrap(), Mode::Replicated { replicas })
}

fn shop(replicas: u32) -> Application {
    let web = service("shop", "web", replicas);
    Application { name: "shop".parse().unwrap(), services: [("web".parse().unwrap(), web)].into() }
}

fn placed(view: &View) -> Vec<(String, String)> {
    let instances = view.instances.iter();
    instances.map(|i| (i.instance.clone(), i.node.clone().unwrap_or_default())).collect()
}

async fn story_of_one_node(rig: &mut Rig) {
    let token = rig.token().await;
    let mut agent = rig.agent(&token, "pi").await;
    let view = rig.sees("a ready node", |v| v.nodes.iter().any(|n| n.status == "ready")).await;
    assert_eq!(
        (view.nodes[0].node.as_str(), view.nodes[0].platform.as_str()),
        ("pi", "linux/arm64/v8")
    );
    let revision = rig.apply(shop(2)).await;
    let assignment = agent.holds(|a| !a.services.is_empty()).await;
    assert_eq!(assignment.services[0].slots, [Slot(1), Slot(2)]);
    let view = rig.settled(revision).await;
    assert_eq!(view.instances.len(), 2);
    assert!(view.instances.iter().all(|i| i.phase == "running" && i.current));
    assert_eq!((view.services[0].1.wanted, view.services[0].1.running), (2, 2));
    assert_eq!(view.nodes[0].wanted_generation, view.nodes[0].observed_generation);
    let revision = rig.commit(Op::Delete(Key::Application("shop".parse().unwrap()))).await;
    agent.holds(|a| a.services.is_empty()).await;
    rig.sees("nothing left", |v| v.revision >= revision && v.instances.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn join_apply_run_remove() {
    let mut rig = Rig::start(NEVER).await;
    story_of_one_node(&mut rig).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_nodes_work_is_placed_elsewhere() {
    let mut rig = Rig::start(Duration::from_millis(300)).await;
    let (badge, mut second) = rig.cut_off_beside_an_idle_one().await;
    let taken = second.holds(|a| !a.services.is_empty()).await;
    assert_eq!(taken.services[0].slots, [Slot(1), Slot(2)]);
    rig.sees("b runs it", |v| v.services[0].1.settled && v.nodes[0].status == "lost").await;
    // When it is back it learns that nothing is left for it.
    let mut first = FakeAgent::start(rig.address, badge, 2).await;
    first.holds(|a| a.services.is_empty()).await;
    rig.sees("all well", |v| v.nodes[0].status == "ready" && v.instances.len() == 2).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_nodes_work_is_placed_elsewhere() {
    let mut rig = Rig::start(NEVER).await;
    let (badge, mut second) = rig.cut_off_beside_an_idle_one().await;
    let revision = rig.commit(Op::Delete(Key::Node("a".parse().unwrap()))).await;
    let taken = second.holds(|a| !a.services.is_empty()).await;
    assert_eq!(taken.services[0].slots, [Slot(1), Slot(2)]);
    let view = rig.settled(revision).await;
    assert_eq!((view.nodes.len(), view.instances.len()), (1, 2));
    assert!(auth::verify_node(&rig.store, &badge.node, &badge.secret).is_err());
    assert!(rig.store.get(&Key::Assignment(badge.node)).unwrap().is_none());
    let events = rig.store.events(0, 100).unwrap();
    assert!(events.iter().any(|event| event.kind == "node_removed"), "{events:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_starts_again_changes_nothing() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let agents = [rig.agent(&token, "a").await, rig.agent(&token, "b").await];
    rig.sees("both", |v| v.nodes.iter().filter(|n| n.status == "ready").count() == 2).await;
    let revision = rig.apply(shop(3)).await;
    let before = rig.settled(revision).await;
    let kept = rig.store.list(Kind::Assignment).unwrap().1;
    let badges = agents.map(|agent| agent.badge.clone());
    let mut rig = rig.restart(NEVER).await;
    let view = rig.sees("the instances", |v| v.instances.len() == 3).await;
    assert!(view.instances.iter().all(|i| i.phase == "unknown"), "{view:?}");
    let mut agents = vec![];
    for badge in badges {
        agents.push(FakeAgent::start(rig.address, badge, 2).await);
    }
    let after = rig.settled(revision).await;
    assert_eq!(placed(&before), placed(&after));
    assert_eq!(rig.store.list(Kind::Assignment).unwrap().1, kept);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_unique_and_repeated_requests_get_one_answer() {
    let rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let one = join(rig.address, &token, "pi", "one").await;
    let again = join(rig.address, &token, "pi", "one").await;
    assert_eq!(one, again);
    let other = join(rig.address, &token, "pi", "two").await;
    let reserved = join(rig.address, &token, "controller", "three").await;
    let name = |reply: &JoinReply| match reply {
        JoinReply::Accepted { node, .. } => node.to_string(),
        JoinReply::Refused { reason } => panic!("{reason}"),
    };
    assert_eq!([&one, &other, &reserved].map(name), ["pi", "pi-2", "controller-2"]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_placed_says_why() {
    let mut rig = Rig::start(NEVER).await;
    let revision = rig.apply(shop(1)).await;
    let view = rig.sees("pending", |v| v.revision >= revision && v.instances.len() == 1).await;
    assert_eq!(view.instances[0].phase, "pending");
    assert_eq!(
        view.services[0].1.reasons,
        ["shop.web.1 is pending: no suitable node: no node has joined yet"]
    );
    let token = rig.token().await;
    let _agent = rig.agent(&token, "pi").await;
    rig.settled(revision).await;
    let mut south = shop(1);
    for web in south.services.values_mut() {
        web.placement.constraints = vec![Constraint {
            attribute: Attribute::Label("site".into()),
            equal: true,
            value: "south".into(),
        }];
    }
    rig.apply(south).await;
    let view =
        rig.sees("pending again", |v| v.instances.iter().any(|i| i.phase == "pending")).await;
    let reason = &view.services[0].1.reasons[0];
    assert!(reason.contains("no suitable node (1 node lacks the label site=south)"), "{reason}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_kept_once_and_acknowledged() {
    let rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut agent = rig.agent(&token, "pi").await;
    let event = |sequence| Event {
        sequence,
        at_ms: 1,
        kind: EventKind::OutOfMemory,
        instance: Some("shop.web.1".parse().unwrap()),
        message: format!("event {sequence}"),
    };
    let topic = Topic::Event(agent.badge.node.clone());
    for sequences in [vec![1, 2], vec![1, 2], vec![2, 3]] {
        let events = sequences.into_iter().map(event).collect();
        let batch = EventBatch { boot: 1, events };
        agent.publish(topic.clone(), codec::encode(&batch).unwrap()).await;
    }
    let last = Some(Cursor { boot: 1, sequence: 3 });
    tokio::time::timeout(PATIENCE, agent.acks.wait_for(|ack| *ack == last)).await.unwrap().unwrap();
    let kept = rig.store.events(0, 100).unwrap();
    let kept: Vec<&str> =
        kept.iter().filter(|e| e.kind == "out_of_memory").map(|e| e.message.as_str()).collect();
    assert_eq!(kept, ["event 1", "event 2", "event 3"]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_asks_or_lags_is_told_again() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut agent = rig.agent(&token, "pi").await;
    let revision = rig.apply(shop(1)).await;
    agent.holds(|a| !a.services.is_empty()).await;
    rig.settled(revision).await;
    let heard = agent.heard.lock().unwrap().len();
    let ask = codec::encode(&Ask { want: true, specs: vec![], configs: vec![], secrets: vec![] })
        .unwrap();
    agent.publish(Topic::Ask(agent.badge.node.clone()), ask).await;
    let told = async {
        while agent.heard.lock().unwrap().len() == heard {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it is told again");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_ahead_of_a_restored_store_is_overtaken() {
    let rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut agent = rig.agent(&token, "pi").await;
    let generation = agent.holds(|_| true).await.generation;
    let observed = Some(Generation { number: generation.number + 100, ..generation });
    let report = Report {
        boot: 1,
        sequence: u64::MAX,
        observed,
        instances: vec![],
        staged: vec![],
        network: None,
        no_image: vec![],
        scales: vec![],
    };
    let topic = Topic::Have(agent.badge.node.clone());
    agent.publish(topic, codec::encode(&report).unwrap()).await;
    agent.holds(|a| a.generation.number == generation.number + 101).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_changes_nothing() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut agent = rig.agent(&token, "pi").await;
    let node = agent.badge.node.clone();
    for topic in [
        Topic::Up(node.clone()),
        Topic::Have(node.clone()),
        Topic::Event(node.clone()),
        Topic::Ask(node.clone()),
        Topic::CallOut(node.clone(), "nobody".parse().unwrap()),
    ] {
        for garbage in
            [&b"\xff"[..], b"{}", &[0x9b, 255, 255, 255, 255, 255, 255, 255, 255], &[0x81; 9999]]
        {
            agent.publish(topic.clone(), garbage.to_vec()).await;
        }
    }
    let revision = rig.apply(shop(1)).await;
    agent.holds(|a| !a.services.is_empty()).await;
    rig.settled(revision).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_shot_work_settles_when_it_completed() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let badge = joined(rig.address, &token, "pi").await;
    let _agent = FakeAgent::start_with(rig.address, badge, 1, Phase::Completed).await;
    let mut job = shop(1);
    for web in job.services.values_mut() {
        web.spec.restart.condition = limpet_protocol::spec::RestartCondition::None;
    }
    let revision = rig.apply(job).await;
    let view = rig.settled(revision).await;
    assert_eq!((view.services[0].1.completed, view.services[0].1.running), (1, 0));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apply_reaches_the_node_in_milliseconds() {
    let rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut agent = rig.agent(&token, "pi").await;
    agent.holds(|_| true).await;
    let mut times = vec![];
    for replicas in 1..=20 {
        let started = tokio::time::Instant::now();
        rig.apply(shop(replicas)).await;
        let applied = started.elapsed();
        agent.holds(|a| a.services.iter().any(|s| s.slots.len() == replicas as usize)).await;
        let at = agent.held.borrow().as_ref().unwrap().1;
        times.push((at - started).saturating_sub(applied));
    }
    times.sort();
    println!(
        "commit of the apply → assignment at the node: median {:?}, worst {:?}",
        times[10], times[19]
    );
    assert!(times[10] < Duration::from_millis(100), "{times:?}");
    rig.stop().await;
}
