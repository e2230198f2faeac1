//! The controller's own MQTT connection, the same for the embedded and any other broker.
//!
//! In: state and messages, by the [`Bus`] handle. Out: [`BusEvent`]s. Two tasks:
//! *poll* drives the connection and only forwards, since publishing from it could lock up with a
//! full queue; *publish* hands over what the [`Outbox`] holds. After each connect everything is
//! subscribed and all state is published again: the client library forgets what was under way, and
//! the broker may have forgotten everything.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use limpet_protocol::limits::MAX_PACKET_BYTES;
use limpet_protocol::topic::{Topic, controller_call_filter, controller_filters};
use ring::rand::{SecureRandom, SystemRandom};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, LastWill, Packet, Publish, PublishProperties, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::outbox::{Outbox, Outgoing};
use crate::broker::Login;

/// How often a silent connection is tested.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A poll that takes longer hangs in a peer that reads nothing; the library has no limit of its own.
const POLL_LIMIT: Duration = Duration::from_secs(30);
/// Publishes under way: a change for the whole fleet should not wait for single answers.
const IN_FLIGHT: u16 = 1000;
/// Requests between the two tasks. Few, for what is in there is lost with the connection.
const REQUESTS: usize = 64;
/// Waits between attempts to connect: the first, doubled up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long a command stays valid: nobody waits longer for the start of its answer.
const MESSAGE_EXPIRY_SECONDS: u32 = 30;
/// How long the last words may take at shutdown.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// What comes in.
#[derive(Debug)]
pub enum BusEvent {
    /// The connection is there.
    Up,
    /// The connection is gone.
    Down,
    /// A message on a topic of Limpet's.
    Message {
        /// Where.
        topic: Topic,
        /// What, not yet decoded.
        payload: Bytes,
    },
}

/// How the connection is made.
#[derive(Debug, Clone)]
pub struct BusSettings {
    /// Host name or address of the broker; an IPv6 address in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User name and password, if the broker wants them.
    pub login: Option<Login>,
    /// The client id; one connection at a time may have it.
    pub client_id: String,
    /// What the broker says when the controller is gone without a word.
    pub will: (Topic, Bytes),
}

/// How state and messages go out. Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub struct Bus {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    outbox: Mutex<Outbox>,
    more: Notify,
}

impl Bus {
    /// Connects, and goes on connecting until shut down; its tasks are in the set.
    #[must_use]
    pub fn start(
        settings: &BusSettings,
        events: mpsc::Sender<BusEvent>,
        shutdown: CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (client, eventloop) = AsyncClient::new(options(settings), REQUESTS);
        let bus = Self { shared: Arc::default() };
        let poll = Poll {
            bus: bus.clone(),
            client: client.clone(),
            events,
            place: place(settings),
            is_new: false,
        };
        tasks.spawn(poll.run(eventloop, shutdown.clone()));
        tasks.spawn(bus.clone().publish(client, shutdown));
        bus
    }

    /// Wants this state at a topic, from now on.
    pub fn set(&self, topic: Topic, payload: Bytes) {
        self.outbox().set(topic, payload);
        self.shared.more.notify_one();
    }

    /// Wants nothing at a topic any more.
    pub fn clear(&self, topic: &Topic) {
        self.outbox().clear(topic);
        self.shared.more.notify_one();
    }

    /// Publishes a topic's state again; whether there is any.
    #[must_use]
    pub fn again(&self, topic: &Topic) -> bool {
        let known = self.outbox().again(topic);
        self.shared.more.notify_one();
        known
    }

    /// Sends a message that is no state; whether it could be queued.
    #[must_use]
    pub fn send(&self, topic: Topic, payload: Bytes) -> bool {
        let queued = self.outbox().send(topic, payload);
        self.shared.more.notify_one();
        queued
    }

    /// Whether the connection is there.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.outbox().is_online()
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // The lock is held for single steps that do not panic; a poisoned one is still whole.
        self.shared.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn publish(self, client: AsyncClient, shutdown: CancellationToken) {
        loop {
            let next = self.outbox().next();
            let Some(outgoing) = next else {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.shared.more.notified() => continue,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = hand_over(&client, outgoing) => {}
            }
        }
    }
}

async fn hand_over(client: &AsyncClient, outgoing: Outgoing) {
    let Outgoing { topic, payload, retain } = outgoing;
    let properties = PublishProperties {
        message_expiry_interval: (!retain).then_some(MESSAGE_EXPIRY_SECONDS),
        ..PublishProperties::default()
    };
    let topic = topic.to_string();
    let done =
        client.publish_with_properties(&topic, QoS::AtLeastOnce, retain, payload, properties).await;
    if let Err(error) = done {
        // Only possible when the poll task has ended: at shutdown.
        tracing::debug!(topic, %error, "not published");
    }
}

/// The task that drives the connection.
struct Poll {
    bus: Bus,
    client: AsyncClient,
    events: mpsc::Sender<BusEvent>,
    place: String,
    /// The connection is new: nothing is subscribed yet.
    is_new: bool,
}

impl Poll {
    async fn run(mut self, mut eventloop: EventLoop, shutdown: CancellationToken) {
        let mut wait = FIRST_WAIT;
        loop {
            let polled = tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.farewell(eventloop).await,
                polled = timeout(POLL_LIMIT, eventloop.poll()) => polled,
            };
            let trouble = match polled {
                Ok(Ok(event)) => {
                    wait = FIRST_WAIT;
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return self.farewell(eventloop).await,
                        () = self.take(event) => continue,
                    }
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => {
                    eventloop.clean();
                    format!("nothing could be sent or received for {POLL_LIMIT:?}")
                }
            };
            self.down(&trouble, wait).await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(jittered(wait)) => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => self.is_new = true,
            Event::Incoming(Packet::Publish(publish)) => self.forward(publish).await,
            Event::Incoming(Packet::SubAck(ack)) => self.check_subscriptions(&ack),
            Event::Incoming(Packet::Disconnect(bye)) => {
                tracing::warn!(broker = self.place, reason = ?bye.reason_code, "the broker says goodbye");
            }
            _ => {}
        }
        if self.is_new {
            self.greet().await;
        }
    }

    /// Subscribes, and lets everything be published. The queue of requests may be full of what was
    /// meant for the last connection, and only this task empties it: never wait here, the next
    /// event comes when there is room.
    async fn greet(&mut self) {
        let filters = controller_filters()
            .into_iter()
            .chain([controller_call_filter()])
            .map(|filter| Filter::new(filter, QoS::AtLeastOnce));
        if self.client.try_subscribe_many(filters).is_err() {
            return;
        }
        self.is_new = false;
        tracing::info!(broker = self.place, "connected to the broker");
        self.bus.outbox().connected();
        self.bus.shared.more.notify_one();
        self.tell(BusEvent::Up).await;
    }

    async fn down(&mut self, trouble: &str, wait: Duration) {
        self.is_new = false;
        let was_up = {
            let mut outbox = self.bus.outbox();
            let was_up = outbox.is_online();
            outbox.disconnected();
            was_up
        };
        if was_up {
            tracing::warn!(broker = self.place, trouble, "the connection to the broker is gone");
            self.tell(BusEvent::Down).await;
        } else if wait == FIRST_WAIT {
            tracing::warn!(broker = self.place, trouble, "cannot connect to the broker; trying on");
        }
    }

    async fn forward(&self, publish: Publish) {
        let topic = std::str::from_utf8(&publish.topic).ok().and_then(|text| text.parse().ok());
        let Some(topic) = topic else {
            tracing::debug!(topic = ?publish.topic, "a message on a topic that is none of Limpet's");
            return;
        };
        self.tell(BusEvent::Message { topic, payload: publish.payload }).await;
    }

    fn check_subscriptions(&self, ack: &SubAck) {
        let refused =
            ack.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
        if let Some(code) = refused {
            tracing::error!(
                broker = self.place,
                ?code,
                "the broker refuses a subscription: let the controller's user read and write {}/#",
                limpet_protocol::topic::ROOT
            );
        }
    }

    async fn tell(&self, event: BusEvent) {
        // The loop is gone only at shutdown.
        if self.events.send(event).await.is_err() {
            tracing::debug!("a message after the end of the control loop");
        }
    }

    /// Says that the controller goes, so that nobody has to wait for the will.
    async fn farewell(self, mut eventloop: EventLoop) {
        let (topic, payload) = match eventloop.options.last_will() {
            Some(will) => (will.topic, will.message),
            None => return,
        };
        let retain = true;
        let said = self.client.try_publish(
            String::from_utf8_lossy(&topic),
            QoS::AtLeastOnce,
            retain,
            payload,
        );
        if said.is_err() || self.client.try_disconnect().is_err() || !self.bus.is_up() {
            return;
        }
        let drain = async { while eventloop.poll().await.is_ok() {} };
        if timeout(FAREWELL_LIMIT, drain).await.is_err() {
            tracing::debug!(broker = self.place, "the broker did not take the farewell");
        }
    }
}

fn place(settings: &BusSettings) -> String {
    format!("{}:{}", settings.host, settings.port)
}

fn options(settings: &BusSettings) -> MqttOptions {
    let BusSettings { host, port, login, client_id, will } = settings;
    let mut options = MqttOptions::new(client_id, host, *port);
    if let Some(login) = login {
        options.set_credentials(&login.user, &login.password);
    }
    let (topic, payload) = will;
    let retain = true;
    let will = LastWill::new(topic.to_string(), payload.clone(), QoS::AtLeastOnce, retain, None);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_start(true)
        .set_last_will(will)
        .set_max_packet_size(u32::try_from(MAX_PACKET_BYTES).ok())
        .set_outgoing_inflight_upper_limit(IN_FLIGHT)
        .set_receive_maximum(Some(IN_FLIGHT));
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    options
}

/// Between half and all of a wait, so that several do not come back at one moment.
fn jittered(wait: Duration) -> Duration {
    let mut byte = [0];
    // Without random bytes the wait is merely not jittered.
    let part = SystemRandom::new().fill(&mut byte).map_or(255, |()| u32::from(byte[0]));
    wait / 2 + wait / 2 * part / 255
}
