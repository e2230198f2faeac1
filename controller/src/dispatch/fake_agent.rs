//! An agent without containers, for tests: real MQTT, real joining, real checks of what it gets;
//! every instance that it is given "runs" at once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use limpet_protocol::assignment::{AssignedService, Assignment};
use limpet_protocol::call::{CallIn, CallOut, Stream};
use limpet_protocol::codec;
use limpet_protocol::id::{InstanceId, NodeId, SessionId, SpecHash};
use limpet_protocol::message::{
    Ask, JoinReply, JoinRequest, Mesh, NodeFacts, NodePresence, Signed,
};
use limpet_protocol::network::{NetworkReport, TunnelKind};
use limpet_protocol::phase::Phase;
use limpet_protocol::report::{InstanceStatus, Report};
use limpet_protocol::scale::{Per, ScaleLimit, ScaleReport, Scaling};
use limpet_protocol::topic::{Topic, agent_filters};
use ring::hmac;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Filter, LastWill, Packet};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn facts(hostname: &str) -> NodeFacts {
    NodeFacts {
        agent_version: "0.1.0".into(),
        hostname: hostname.into(),
        os: "linux".into(),
        architecture: "arm64".into(),
        variant: "v8".into(),
        kernel: "6.1".into(),
        cpu_millis: 4000,
        memory_bytes: 1 << 30,
        labels: [("site".to_owned(), "north".to_owned())].into(),
        conditions: vec![],
        devices: None,
        stages: false,
    }
}

/// What a node has after joining.
#[derive(Debug, Clone)]
pub(crate) struct Badge {
    pub(crate) node: NodeId,
    pub(crate) secret: String,
    pub(crate) controller_key: Vec<u8>,
}

impl Badge {
    /// How others reach it: another port in each session, and a key that its name stands for.
    pub(crate) fn mesh(&self, session: u64) -> Mesh {
        let key = Sha256::digest(self.node.as_str()).to_vec();
        let proof = limpet_seal::prove_mesh(&Sha256::digest(&self.secret).into(), &self.node, &key);
        let port = 51_820 + u16::try_from(session).unwrap();
        Mesh { key, proof, endpoints: vec![SocketAddr::from(([192, 0, 2, 7], port))] }
    }
}

pub(crate) fn options(broker: SocketAddr, id: &str, user: &str, password: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, broker.ip().to_string(), broker.port());
    options.set_credentials(user, password);
    options.set_outgoing_inflight_upper_limit(16);
    options.set_max_packet_size(Some(256 * 1024));
    options
}

/// Joins as an agent does.
pub(crate) async fn join(broker: SocketAddr, token: &str, name: &str, session: &str) -> JoinReply {
    let session: SessionId = session.parse().unwrap();
    let options = options(broker, &format!("join-{session}"), "join", token);
    let (client, mut eventloop) = AsyncClient::new(options, 16);
    let out = Topic::JoinOut(session.clone()).to_string();
    client.subscribe(&out, QoS::AtLeastOnce).await.unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &Sha256::digest(token.as_bytes()));
    let proof = hmac::sign(&key, session.as_str().as_bytes()).as_ref().to_vec();
    let request = JoinRequest { wanted: name.parse().unwrap(), facts: facts(name), proof };
    let request = codec::encode(&request).unwrap();
    let mut again = tokio::time::interval(Duration::from_millis(500));
    let speak = async {
        loop {
            again.tick().await;
            let topic = Topic::JoinIn(session.clone()).to_string();
            client.publish(topic, QoS::AtLeastOnce, false, request.clone()).await.unwrap();
        }
    };
    let hear = async {
        loop {
            if let Event::Incoming(Packet::Publish(publish)) = eventloop.poll().await.unwrap() {
                return codec::decode(&publish.payload).unwrap();
            }
        }
    };
    // Side by side: a poll that is dropped in the middle of a connect would connect once more, and
    // the second connection ends the first.
    let reply = async {
        tokio::select! {
            reply = hear => reply,
            () = speak => unreachable!("it speaks without end"),
        }
    };
    tokio::time::timeout(PATIENCE, reply).await.expect("a reply to the join request")
}

pub(crate) async fn joined(broker: SocketAddr, token: &str, name: &str) -> Badge {
    match join(broker, token, name, &format!("s{}", name.replace('-', ""))).await {
        JoinReply::Accepted { node, secret, controller_key, .. } => {
            Badge { node, secret, controller_key }
        }
        JoinReply::Refused { reason } => panic!("refused: {reason}"),
    }
}

/// A running agent. Dropped, its connection breaks without a word and the broker says its will.
pub(crate) struct FakeAgent {
    pub(crate) badge: Badge,
    pub(crate) client: AsyncClient,
    /// The newest assignment that it took over, and when.
    pub(crate) held: watch::Receiver<Option<(Assignment, tokio::time::Instant)>>,
    /// How many assignments came in, also those that are no news.
    pub(crate) heard: Arc<Mutex<Vec<Assignment>>>,
    pub(crate) acks: watch::Receiver<Option<limpet_protocol::event::Cursor>>,
    /// What callers said.
    pub(crate) calls: watch::Receiver<Vec<CallIn>>,
    /// How many instances it thinks the load asks for, of services that follow it.
    wish: Arc<Mutex<u32>>,
    task: JoinHandle<()>,
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Mind {
    badge: Badge,
    client: AsyncClient,
    boot: u64,
    session: u64,
    sequence: u64,
    held: watch::Sender<Option<(Assignment, tokio::time::Instant)>>,
    acks: watch::Sender<Option<limpet_protocol::event::Cursor>>,
    heard: Arc<Mutex<Vec<Assignment>>>,
    calls: watch::Sender<Vec<CallIn>>,
    wish: Arc<Mutex<u32>>,
    specs: BTreeSet<SpecHash>,
    phase: Phase,
}

impl FakeAgent {
    pub(crate) async fn start(broker: SocketAddr, badge: Badge, session: u64) -> Self {
        Self::start_with(broker, badge, session, Phase::Running).await
    }

    pub(crate) async fn start_with(
        broker: SocketAddr,
        badge: Badge,
        session: u64,
        phase: Phase,
    ) -> Self {
        let mut options = options(broker, badge.node.as_str(), badge.node.as_str(), &badge.secret);
        let presence = |online| NodePresence {
            online,
            boot: 1,
            session,
            facts: online.then(|| facts(badge.node.as_str())),
            key: None,
            mesh: online.then(|| badge.mesh(session)),
        };
        let up = Topic::Up(badge.node.clone()).to_string();
        let will = codec::encode(&presence(false)).unwrap();
        options.set_last_will(LastWill::new(up.clone(), will, QoS::AtLeastOnce, true, None));
        let (client, eventloop) = AsyncClient::new(options, 256);
        let (held_in, held) = watch::channel(None);
        let (acks_in, acks) = watch::channel(None);
        let (calls_in, calls) = watch::channel(vec![]);
        let heard = Arc::default();
        let wish = Arc::default();
        let mind = Mind {
            badge: badge.clone(),
            client: client.clone(),
            boot: 1,
            session,
            sequence: 0,
            held: held_in,
            acks: acks_in,
            heard: Arc::clone(&heard),
            calls: calls_in,
            wish: Arc::clone(&wish),
            specs: BTreeSet::new(),
            phase,
        };
        let birth = codec::encode(&presence(true)).unwrap();
        let filters = agent_filters(&badge.node).map(|f| Filter::new(f, QoS::AtLeastOnce));
        client.subscribe_many(filters).await.unwrap();
        client.publish(up, QoS::AtLeastOnce, true, birth).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own task, ended with the agent")]
        let task = tokio::spawn(mind.run(eventloop));
        Self { badge, client, held, heard, acks, calls, wish, task }
    }

    pub(crate) async fn publish(&self, topic: Topic, payload: Vec<u8>) {
        let retain = topic.is_retained();
        self.client.publish(topic.to_string(), QoS::AtLeastOnce, retain, payload).await.unwrap();
    }

    /// The load asks for so many instances from now on.
    pub(crate) async fn wish(&self, number: u32) {
        *self.wish.lock().unwrap() = number;
        // What it is told again it reports of again.
        let ask = Ask { want: true, specs: vec![], secrets: vec![], configs: vec![] };
        self.publish(Topic::Ask(self.badge.node.clone()), codec::encode(&ask).unwrap()).await;
    }

    /// Waits until it holds an assignment that is as asked for.
    pub(crate) async fn holds(&mut self, what: impl Fn(&Assignment) -> bool) -> Assignment {
        let asked = |held: &Option<(Assignment, _)>| held.as_ref().is_some_and(|(a, _)| what(a));
        match tokio::time::timeout(PATIENCE, self.held.wait_for(asked)).await {
            Ok(found) => return found.expect("the agent runs").as_ref().unwrap().0.clone(),
            Err(_late) => {}
        }
        panic!("the assignment in time, not {:?}", self.held.borrow().as_ref().map(|held| &held.0))
    }
}

impl Mind {
    async fn run(mut self, mut eventloop: EventLoop) {
        loop {
            let Ok(event) = eventloop.poll().await else { return };
            match event {
                Event::Incoming(Packet::ConnAck(ack)) => {
                    assert_eq!(ack.code, ConnectReturnCode::Success);
                }
                Event::Incoming(Packet::Publish(publish)) => {
                    let topic = std::str::from_utf8(&publish.topic).unwrap().parse().unwrap();
                    self.hear(topic, &publish.payload);
                }
                _ => {}
            }
        }
    }

    fn hear(&mut self, topic: Topic, payload: &[u8]) {
        match topic {
            Topic::Want(_) => self.want(payload),
            Topic::Spec(hash) if !payload.is_empty() => {
                assert_eq!(SpecHash(Sha256::digest(payload).into()), hash);
                self.specs.insert(hash);
                self.report();
            }
            Topic::Ack(_) => {
                self.acks.send_replace(Some(codec::decode(payload).unwrap()));
            }
            Topic::CallIn(_, session) => self.called(session, payload),
            _ => {}
        }
    }

    fn want(&mut self, payload: &[u8]) {
        let signed: Signed = codec::decode(payload).unwrap();
        let key = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ED25519,
            &self.badge.controller_key,
        );
        key.verify(&Signed::signed_text(&signed.payload), &signed.signature).unwrap();
        let assignment: Assignment = codec::decode(&signed.payload).unwrap();
        assert_eq!(assignment.node, self.badge.node);
        self.heard.lock().unwrap().push(assignment.clone());
        let newer = self
            .held
            .borrow()
            .as_ref()
            .is_none_or(|(held, _)| held.generation < assignment.generation);
        if !newer {
            return self.report();
        }
        for share in &assignment.services {
            if !self.specs.contains(&share.spec) {
                let topic = Topic::Spec(share.spec).to_string();
                self.client.try_subscribe(topic, QoS::AtLeastOnce).unwrap();
            }
        }
        self.held.send_replace(Some((assignment, tokio::time::Instant::now())));
        self.report();
    }

    fn report(&mut self) {
        let Some((assignment, _)) = self.held.borrow().clone() else { return };
        self.sequence += 1;
        let mut instances = vec![];
        let mut scales = vec![];
        for share in &assignment.services {
            let slots = match &share.scale {
                None => share.slots.clone(),
                Some(scaling) => {
                    let wish = *self.wish.lock().unwrap();
                    scales.push(scaled(share, scaling, wish));
                    let idle = &scales.last().unwrap().idle;
                    let homes = share.slots.iter().filter(|slot| !idle.contains(slot));
                    let more = scaling.policy.per == Per::Node;
                    let beside = (1..scales.last().unwrap().running)
                        .filter_map(|count| share.slots[0].beside(count))
                        .filter(|_| more);
                    homes.copied().chain(beside).collect()
                }
            };
            for slot in &slots {
                let there = self.specs.contains(&share.spec);
                instances.push(InstanceStatus {
                    instance: InstanceId {
                        application: share.application.clone(),
                        service: share.service.clone(),
                        slot: *slot,
                    },
                    attempt: 1,
                    spec: share.spec,
                    phase: if there { self.phase } else { Phase::Waiting },
                    reason: None,
                    last_exit: None,
                    since_ms: 1,
                    health: None,
                    ready: None,
                    failures: 0,
                });
            }
        }
        let report = Report {
            boot: self.boot,
            sequence: self.session * 1_000_000 + self.sequence,
            observed: Some(assignment.generation),
            network: network(&assignment, &instances),
            instances,
            staged: vec![],
            no_image: vec![],
            scales,
        };
        let topic = Topic::Have(self.badge.node.clone()).to_string();
        let bytes = codec::encode(&report).unwrap();
        self.client.try_publish(topic, QoS::AtLeastOnce, true, bytes).unwrap();
    }

    /// Answers a call for logs with as many lines as there is credit, and with an end if asked to
    /// tail none.
    fn called(&mut self, session: SessionId, payload: &[u8]) {
        let said: CallIn = codec::decode(payload).unwrap();
        self.calls.send_modify(|calls| calls.push(said.clone()));
        let answers = match said {
            CallIn::Logs { credit, tail, .. } => {
                let chunk = |sequence: u16| CallOut::Chunk {
                    sequence: u64::from(sequence),
                    stream: Stream::Stdout,
                    data: b"hello\n".to_vec(),
                };
                let end = (tail == Some(0)).then_some(CallOut::end(None));
                (0..credit).map(chunk).chain(end).collect()
            }
            CallIn::Cancel => vec![CallOut::end(None)],
            _ => vec![],
        };
        let topic = Topic::CallOut(self.badge.node.clone(), session).to_string();
        for answer in answers {
            let bytes = codec::encode(&answer).unwrap();
            self.client.try_publish(&topic, QoS::AtLeastOnce, false, bytes).unwrap();
        }
    }
}

/// As many of a share as the load asks for, within its bounds: the first of its slots.
fn scaled(share: &AssignedService, scaling: &Scaling, wish: u32) -> ScaleReport {
    let running = wish.saturating_sub(scaling.elsewhere).clamp(scaling.least, scaling.most);
    let idle = share.slots.iter().skip(usize::try_from(running).unwrap()).copied().collect();
    ScaleReport {
        application: share.application.clone(),
        service: share.service.clone(),
        running,
        wish,
        limit: ScaleLimit::default(),
        idle,
        figures: vec![],
    }
}

/// Every instance has the next address of its node; a peer whose name begins with `far` does not answer.
fn network(assignment: &Assignment, instances: &[InstanceStatus]) -> Option<NetworkReport> {
    let network = assignment.network.as_ref()?;
    let address = |(index, status): (u128, &InstanceStatus)| {
        (status.instance.clone(), network.subnet.nth(index).unwrap())
    };
    let far = network.peers.iter().filter(|peer| peer.node.as_str().starts_with("far"));
    Some(NetworkReport {
        addresses: (2..).zip(instances).map(address).collect(),
        unreachable: far.map(|peer| peer.node.clone()).collect(),
        tunnel: Some(TunnelKind::Userland),
    })
}
