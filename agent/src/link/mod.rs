//! Link: the one outbound MQTT connection.
//!
//! In: what the agent says ([`Link::publish`], [`Link::subscribe`]). Out: [`LinkEvent`]s, and figures when
//! they are asked for ([`Link::take_figures`]). The connection is one task, [`LinkTask::run`], that connects,
//! watches, waits and connects again for ever; the loop never waits for it. Two bounded queues lie between
//! them, and of each figure the newest.
//!
//! Every connection is a clean start: nothing depends on what the broker remembers. The loop
//! subscribes and publishes anew after each [`LinkEvent::Connected`]. What was queued on a connection
//! that broke may be lost or come twice; all messages are states with numbers, so neither does harm.

pub mod join;
mod options;
mod pause;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use limpet_protocol::broker_url::BrokerUrl;
use limpet_protocol::codec;
use limpet_protocol::id::NodeId;
use limpet_protocol::limits::{MAX_METRIC_TOPICS_PER_NODE, MAX_PUBLISHED_BYTES};
use limpet_protocol::message::NodePresence;
use limpet_protocol::topic::{MetricTopic, Topic};
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, LastWill, Packet, RetainForwardRule, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, Event, EventLoop};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use pause::Pause;

/// Messages that wait for the loop. More stay in the broker's and the kernel's buffers.
const EVENT_QUEUE: usize = 64;
/// What the loop may say before the connection has taken it. One reconnect needs about twenty.
const SAY_QUEUE: usize = 64;
/// Requests inside the MQTT client. Small, so that its queue is no second hiding place.
const CLIENT_QUEUE: usize = 8;
/// Filters of one SUBSCRIBE packet: 64 of the longest fit any broker's packet limit.
const FILTERS_PER_PACKET: usize = 64;
/// MQTT's own ping, the only traffic of an idle node. One ping and its answer are 202 bytes with their
/// Ethernet headers, and on a wire as idle as this the kernel asks anew for both addresses each
/// time (ARP, 168 bytes): 296 bytes a minute at this pace. A broker notices a silent node after one
/// and a half times as long (MQTT 5, section 3.1.2.10).
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A connection that neither says nor takes anything for so long is dead: the pings alone make it
/// speak more often.
const SILENCE_LIMIT: Duration = KEEP_ALIVE.saturating_add(Duration::from_secs(40));
/// A connection that lasted so long was a good one: the next pause is short again.
const LASTING: Duration = Duration::from_secs(30);
/// How long the broker may take to close a connection that was ended; less than the last words may.
const BROKER_CLOSES: Duration = Duration::from_secs(1);
/// How long the last words may take at the end.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Who the agent is at the broker, and where that is.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// The broker.
    pub broker: BrokerUrl,
    /// This node: client id, user name and will.
    pub node: NodeId,
    /// The node's password at the controller's own broker.
    pub secret: String,
    /// Which boot this is.
    pub boot: u64,
}

/// What the connection tells the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is there. Nothing is subscribed yet.
    Connected {
        /// Its number in this boot.
        session: u64,
    },
    /// It is not there any more, or could not be made; another try follows.
    Lost {
        /// Why.
        reason: String,
    },
    /// Somebody said something.
    Message {
        /// Where.
        topic: Topic,
        /// What. Anybody may have written it.
        payload: Bytes,
    },
    /// The broker does not let this node listen.
    Refused {
        /// To what.
        filters: Vec<String>,
    },
}

/// The newest of each figure that was published since they were last taken. They are no events: whoever
/// publishes says how often, and only the newest counts.
type Figures = watch::Sender<BTreeMap<MetricTopic, Bytes>>;

#[derive(Debug, PartialEq, Eq)]
enum Say {
    Publish { topic: Topic, payload: Vec<u8> },
    Subscribe { filters: Vec<String> },
    Unsubscribe { filter: String },
    Close,
}

/// There is no room to say more now. What was to be said has to be said later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the link's queue is full")]
pub struct LinkFull;

/// The loop's end of the connection.
#[derive(Debug)]
pub struct Link {
    say: mpsc::Sender<Say>,
    events: mpsc::Receiver<LinkEvent>,
    figures: Figures,
}

impl Link {
    /// A connection that is made as soon as its task runs.
    #[must_use]
    pub fn new(settings: LinkSettings) -> (Self, LinkTask) {
        let (say, said) = mpsc::channel(SAY_QUEUE);
        let (tell, events) = mpsc::channel(EVENT_QUEUE);
        let figures = Figures::new(BTreeMap::new());
        let task = LinkTask { settings, said, tell, figures: figures.clone() };
        (Self { say, events, figures }, task)
    }

    /// Publishes at least once; retained where the topic is one of states.
    ///
    /// # Errors
    /// [`LinkFull`].
    pub fn publish(&self, topic: Topic, payload: Vec<u8>) -> Result<(), LinkFull> {
        self.say.try_send(Say::Publish { topic, payload }).map_err(|_| LinkFull)
    }

    /// Listens.
    ///
    /// # Errors
    /// [`LinkFull`].
    pub fn subscribe(&self, filters: Vec<String>) -> Result<(), LinkFull> {
        for some in filters.chunks(FILTERS_PER_PACKET) {
            let filters = some.to_vec();
            self.say.try_send(Say::Subscribe { filters }).map_err(|_| LinkFull)?;
        }
        Ok(())
    }

    /// Listens no more.
    ///
    /// # Errors
    /// [`LinkFull`].
    pub fn unsubscribe(&self, topic: &Topic) -> Result<(), LinkFull> {
        let filter = topic.to_string();
        self.say.try_send(Say::Unsubscribe { filter }).map_err(|_| LinkFull)
    }

    /// What was published of figures since this was last asked, of each the newest. Anybody may have written it.
    #[must_use]
    pub fn take_figures(&self) -> BTreeMap<MetricTopic, Bytes> {
        self.figures.send_replace(BTreeMap::new())
    }

    /// How many more things can be said now.
    #[must_use]
    pub fn room(&self) -> usize {
        self.say.capacity()
    }

    /// Says what is queued, then ends the connection. The task returns soon after.
    pub fn close(&self) {
        // A full queue means a dead connection: the broker tells of the end by the will.
        if self.say.try_send(Say::Close).is_err() {
            tracing::debug!("the link is closed without last words");
        }
    }

    /// The next thing that happened. Cancel-safe.
    pub async fn next_event(&mut self) -> LinkEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The task has ended; the loop will too.
            None => std::future::pending().await,
        }
    }
}

/// The connection's end: one task for the life of the agent.
#[derive(Debug)]
pub struct LinkTask {
    settings: LinkSettings,
    said: mpsc::Receiver<Say>,
    tell: mpsc::Sender<LinkEvent>,
    figures: Figures,
}

impl LinkTask {
    /// Keeps the connection until it is told to close or the loop is gone.
    pub async fn run(self) {
        let Self { settings, said, tell, figures } = self;
        let options = options::for_node(&settings);
        let (client, event_loop) = AsyncClient::new(options, CLIENT_QUEUE);
        let connection = Connection { settings, tell, figures, event_loop, session: 0 };
        // Publishing has its own future: in the polling one it could wait for itself.
        tokio::select! {
            () = feed(said, &client) => {}
            () = connection.keep() => {}
        }
    }
}

/// Passes on what the loop says, in its order. Ends when the loop does.
async fn feed(mut said: mpsc::Receiver<Say>, client: &AsyncClient) {
    while let Some(say) = said.recv().await {
        let result = match say {
            Say::Publish { topic, payload } => {
                let retain = topic.is_retained();
                client.publish(topic.to_string(), QoS::AtLeastOnce, retain, payload).await
            }
            Say::Subscribe { filters } => {
                client.subscribe_many(filters.into_iter().map(filter)).await
            }
            Say::Unsubscribe { filter } => client.unsubscribe(filter).await,
            Say::Close => {
                if client.disconnect().await.is_ok() {
                    // The polling future sends it and ends first.
                    tokio::time::sleep(CLOSE_LIMIT).await;
                }
                return;
            }
        };
        if let Err(error) = result {
            tracing::warn!("the link refused a request: {error}");
        }
    }
}

/// Figures are worth nothing when they come late, and of one that the broker kept nobody knows how old it is.
fn filter(path: String) -> Filter {
    if !matches!(path.parse(), Ok(Topic::Metric(..))) {
        return Filter::new(path, QoS::AtLeastOnce);
    }
    let mut filter = Filter::new(path, QoS::AtMostOnce);
    filter.retain_forward_rule = RetainForwardRule::Never;
    filter
}

struct Connection {
    settings: LinkSettings,
    tell: mpsc::Sender<LinkEvent>,
    figures: Figures,
    event_loop: EventLoop,
    session: u64,
}

/// How one connection ended.
enum End {
    Broken(String),
    Closed,
}

impl Connection {
    async fn keep(mut self) {
        let mut pause = Pause::default();
        loop {
            self.session = session_after(self.session);
            self.set_will();
            let begun = now();
            let reason = match self.serve().await {
                End::Closed => return,
                End::Broken(reason) => reason,
            };
            if self.tell.send(LinkEvent::Lost { reason }).await.is_err() {
                return;
            }
            if begun.elapsed() >= LASTING {
                pause.reset();
            }
            tokio::time::sleep(pause.next(random_byte())).await;
        }
    }

    /// The broker says it for the node when the connection breaks.
    fn set_will(&mut self) {
        let presence = NodePresence {
            online: false,
            boot: self.settings.boot,
            session: self.session,
            facts: None,
            key: None,
            mesh: None,
        };
        match codec::encode(&presence) {
            Ok(payload) => {
                let topic = Topic::Up(self.settings.node.clone()).to_string();
                let will = LastWill::new(topic, payload, QoS::AtLeastOnce, true, None);
                self.event_loop.options.set_last_will(will);
            }
            Err(error) => tracing::warn!("the will cannot be encoded: {error}"),
        }
    }

    async fn serve(&mut self) -> End {
        loop {
            let event = match tokio::time::timeout(SILENCE_LIMIT, self.event_loop.poll()).await {
                Ok(Ok(event)) => event,
                Ok(Err(error)) => return End::Broken(options::explain(&error)),
                Err(_) => {
                    self.event_loop.clean();
                    return End::Broken(format!("nothing heard for {} s", SILENCE_LIMIT.as_secs()));
                }
            };
            let told = match event {
                Event::Incoming(packet) => self.incoming(packet),
                Event::Outgoing(Outgoing::Disconnect) => {
                    self.wait_for_the_end().await;
                    return End::Closed;
                }
                Event::Outgoing(_) => None,
            };
            if let Some(told) = told
                && self.tell.send(told).await.is_err()
            {
                return End::Closed;
            }
        }
    }

    /// Reads until the broker has closed the connection. Closing it with acknowledgements unread would
    /// make the kernel reset it, and what the broker had not read yet, the last words, would be lost.
    async fn wait_for_the_end(&mut self) {
        let read = async { while self.event_loop.poll().await.is_ok() {} };
        if tokio::time::timeout(BROKER_CLOSES, read).await.is_err() {
            tracing::debug!("the broker did not close the connection");
        }
    }

    /// Keeps the newest, and of it no more than is looked at.
    fn figure(&self, of: MetricTopic, payload: &[u8]) {
        let kept = &payload[..payload.len().min(MAX_PUBLISHED_BYTES + 1)];
        self.figures.send_modify(|all| {
            if all.len() < MAX_METRIC_TOPICS_PER_NODE || all.contains_key(&of) {
                all.insert(of, Bytes::copy_from_slice(kept));
            }
        });
    }

    fn incoming(&mut self, packet: Packet) -> Option<LinkEvent> {
        match packet {
            Packet::ConnAck(_) => Some(LinkEvent::Connected { session: self.session }),
            Packet::Publish(publish) => {
                let topic = std::str::from_utf8(&publish.topic).ok().and_then(|t| t.parse().ok());
                // Nothing that was not subscribed should come; a broker may be wrong or hostile.
                match topic? {
                    Topic::Metric(of) => {
                        self.figure(*of, &publish.payload);
                        None
                    }
                    topic => Some(LinkEvent::Message { topic, payload: publish.payload }),
                }
            }
            Packet::SubAck(ack) => {
                let refused =
                    |code: &&SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
                let count = ack.return_codes.iter().filter(refused).count();
                let filters = ack.return_codes.iter().filter(refused).map(|c| format!("{c:?}"));
                (count > 0).then(|| LinkEvent::Refused { filters: filters.collect() })
            }
            Packet::PubAck(ack) => {
                if !matches!(
                    ack.reason,
                    rumqttc::v5::mqttbytes::v5::PubAckReason::Success
                        | rumqttc::v5::mqttbytes::v5::PubAckReason::NoMatchingSubscribers
                ) {
                    tracing::warn!("the broker refused a message: {:?}", ack.reason);
                }
                None
            }
            _ => None,
        }
    }
}

/// Numbers of connections grow through a boot, also over restarts of the agent, without a file: they
/// are hundredths of a second since the boot.
fn session_after(before: u64) -> u64 {
    uptime_centiseconds().max(before.saturating_add(1))
}

/// Hundredths of a second since the boot; 0 where the kernel does not say.
pub(crate) fn uptime_centiseconds() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime = text.split_whitespace().next().unwrap_or_default();
    uptime.replace('.', "").parse().unwrap_or(0)
}

fn now() -> Instant {
    Instant::now()
}

/// Chance for the jitter of pauses. Without it every pause is the longest of its kind.
pub(crate) fn random_byte() -> u8 {
    use ring::rand::SecureRandom as _;
    let mut byte = [u8::MAX];
    if ring::rand::SystemRandom::new().fill(&mut byte).is_err() {
        tracing::debug!("the kernel gives no random bytes");
    }
    byte[0]
}
