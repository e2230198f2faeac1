//! The embedded broker against honest clients, impostors and plain attackers.

use std::net::SocketAddr;
use std::time::Duration;

use limpet_protocol::codec;
use limpet_protocol::message::JoinReply;
use limpet_protocol::topic::Topic;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, PubAckReason, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::auth;
use crate::dispatch::fake_agent::{PATIENCE, facts, options};
use crate::store::records::{NodeRecord, TokenPurpose, TokenRecord};
use crate::store::{Key, Op, Transaction};

struct Rig {
    broker: RunningBroker,
    address: SocketAddr,
    token: String,
    secret: String,
    store: Store,
    _dir: tempfile::TempDir,
}

async fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("limpet.redb")).unwrap();
    let (token, secret) = (auth::make_secret().unwrap(), auth::make_secret().unwrap());
    let join = TokenRecord {
        purpose: TokenPurpose::Join,
        description: String::new(),
        created_ms: 0,
        expires_ms: None,
    };
    let mut ops = vec![Op::Put(Key::Token(auth::hash(&token)), codec::encode(&join).unwrap())];
    for name in ["n1", "n2"] {
        let record = NodeRecord {
            node: name.parse().unwrap(),
            secret_sha256: auth::hash(&format!("{secret}{name}")),
            labels: std::collections::BTreeMap::new(),
            facts: facts(name),
            joined_ms: 0,
            availability: Default::default(),
            seal_key: None,
            mesh: None,
        };
        let key = Key::Node(name.parse().unwrap());
        ops.push(Op::Put(key, codec::encode(&record).unwrap()));
    }
    store.commit(Transaction { ops, ..Transaction::default() }).await.unwrap();
    let broker = start("127.0.0.1:0".parse().unwrap(), store.clone()).await.unwrap();
    let address = broker.local_addr;
    Rig { broker, address, token, secret, store, _dir: dir }
}

impl Rig {
    fn node(&self, name: &str) -> MqttOptions {
        options(self.address, name, name, &format!("{}{name}", self.secret))
    }

    fn controller(&self) -> MqttOptions {
        let Login { user, password } = &self.broker.controller;
        options(self.address, user, user, password)
    }
}

/// A client that was let in, or not.
async fn connect(options: MqttOptions) -> Option<(AsyncClient, EventLoop)> {
    let (client, mut eventloop) = AsyncClient::new(options, 64);
    let event = tokio::time::timeout(PATIENCE, eventloop.poll()).await.expect("an answer");
    event.ok().map(|_| (client, eventloop))
}

async fn packet(eventloop: &mut EventLoop) -> Option<Packet> {
    loop {
        match tokio::time::timeout(PATIENCE, eventloop.poll()).await.expect("an answer") {
            Ok(Event::Incoming(packet)) => return Some(packet),
            Ok(Event::Outgoing(_)) => {}
            Err(_) => return None,
        }
    }
}

async fn may_subscribe(client: &(AsyncClient, EventLoop), filter: &str) {
    client.0.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
}

/// Whether the broker grants a subscription.
async fn granted(client: &mut (AsyncClient, EventLoop), filter: &str) -> bool {
    may_subscribe(client, filter).await;
    loop {
        match packet(&mut client.1).await {
            Some(Packet::SubAck(ack)) => {
                return matches!(ack.return_codes[0], SubscribeReasonCode::Success(_));
            }
            Some(_) => {}
            None => return false,
        }
    }
}

/// Whether the broker takes a message.
async fn taken(client: &mut (AsyncClient, EventLoop), topic: &str) -> bool {
    client.0.publish(topic, QoS::AtLeastOnce, false, "x").await.unwrap();
    loop {
        match packet(&mut client.1).await {
            Some(Packet::PubAck(ack)) => {
                return matches!(
                    ack.reason,
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers
                );
            }
            Some(_) => {}
            None => return false,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_proves_it_gets_in() {
    let rig = rig().await;
    let secret = format!("{}n1", rig.secret);
    let at = |id: &str, user: &str, password: &str| options(rig.address, id, user, password);
    assert!(connect(rig.node("n1")).await.is_some());
    assert!(connect(rig.controller()).await.is_some());
    assert!(connect(at("join-abc", "join", &rig.token)).await.is_some());
    for (what, options) in [
        ("no login", MqttOptions::new("n1", rig.address.ip().to_string(), rig.address.port())),
        ("a wrong secret", at("n1", "n1", "wrong")),
        ("an empty secret", at("n1", "n1", "")),
        ("another's client id", at("n2", "n1", &secret)),
        ("the controller's client id", at("controller", "n1", &secret)),
        ("another's user", at("n1", "n2", &secret)),
        ("the controller with a node's secret", at("controller", "controller", &secret)),
        ("a wrong token", at("join-abc", "join", "wrong")),
        ("a token with a node's client id", at("n1", "join", &rig.token)),
        ("a token as a node", at("n1", "n1", &rig.token)),
        ("a token without session", at("join-", "join", &rig.token)),
        ("a node that is none", at("n3", "n3", &secret)),
        ("a name that is none", at("../n1", "../n1", &secret)),
    ] {
        assert!(connect(options).await.is_none(), "{what}");
    }
    for topic in ["limpet/v1/n/n2/up", "limpet/v1/n/n1/event", "limpet/v1/ctl", "else"] {
        let mut options = rig.node("n1");
        options.set_last_will(LastWill::new(topic, "x", QoS::AtLeastOnce, true, None));
        assert!(connect(options).await.is_none(), "a will on {topic}");
    }
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_says_and_hears_only_its_own() {
    let rig = rig().await;
    let mut node = connect(rig.node("n1")).await.unwrap();
    let hash = "ab".repeat(32);
    for filter in limpet_protocol::topic::agent_filters(&"n1".parse().unwrap()) {
        assert!(granted(&mut node, &filter).await, "{filter}");
    }
    assert!(granted(&mut node, &format!("limpet/v1/spec/{hash}")).await);
    for filter in [
        "#",
        "+/#",
        "limpet/#",
        "limpet/v1/#",
        "limpet/v1/n/#",
        "limpet/v1/n/n1/#",
        "limpet/v1/n/n2/want",
        "limpet/v1/n/+/want",
        "limpet/v1/n/n2/call/+/in",
        "limpet/v1/spec/#",
        "limpet/v1/spec/+",
        "limpet/v1/join/+/out",
        "limpet/v1/join/abc/in",
        "$SYS/#",
        "$share/g/limpet/v1/n/n1/want",
        "other",
    ] {
        // A refusal may also cost the connection; then a new one asks for the next.
        let granted = granted(&mut node, filter).await;
        assert!(!granted, "{filter}");
        if packetless(&mut node).await {
            node = connect(rig.node("n1")).await.unwrap();
        }
    }
    for topic in ["up", "have", "event", "ask", "call/abc/out"] {
        assert!(taken(&mut node, &format!("limpet/v1/n/n1/{topic}")).await, "{topic}");
    }
    for topic in [
        "limpet/v1/ctl",
        "limpet/v1/n/n1/want",
        "limpet/v1/n/n1/ack",
        "limpet/v1/n/n1/call/abc/in",
        "limpet/v1/n/n2/up",
        "limpet/v1/n/n2/have",
        "limpet/v1/join/abc/in",
        "$SYS/x",
        "other",
    ] {
        assert!(!taken(&mut node, topic).await, "{topic}");
        if packetless(&mut node).await {
            node = connect(rig.node("n1")).await.unwrap();
        }
    }
    let mut joining = connect(options(rig.address, "join-abc", "join", &rig.token)).await.unwrap();
    assert!(granted(&mut joining, "limpet/v1/join/abc/out").await);
    assert!(taken(&mut joining, "limpet/v1/join/abc/in").await);
    assert!(!granted(&mut joining, "limpet/v1/join/+/out").await);
    assert!(!taken(&mut joining, "limpet/v1/join/abcd/in").await);
    rig.broker.shutdown().await;
}

/// Whether the connection is gone: a subscription that is granted to everybody is not answered.
async fn packetless(node: &mut (AsyncClient, EventLoop)) -> bool {
    !granted(node, "limpet/v1/ctl").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_retained_where_it_does_not_belong() {
    let rig = rig().await;
    let mut node = connect(rig.node("n1")).await.unwrap();
    for topic in ["event", "up"] {
        let topic = format!("limpet/v1/n/n1/{topic}");
        node.0.publish(topic, QoS::AtLeastOnce, true, "x").await.unwrap();
        while !matches!(packet(&mut node.1).await, Some(Packet::PubAck(_))) {}
    }
    let mut controller = connect(rig.controller()).await.unwrap();
    may_subscribe(&controller, "limpet/v1/n/+/event").await;
    may_subscribe(&controller, "limpet/v1/n/+/up").await;
    loop {
        if let Some(Packet::Publish(publish)) = packet(&mut controller.1).await {
            assert_eq!(publish.topic.as_ref(), b"limpet/v1/n/n1/up");
            break;
        }
    }
    rig.broker.shutdown().await;
}

async fn raw(address: SocketAddr, bytes: &[u8]) -> usize {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = vec![];
    let talk = async {
        // The broker may hang up in the middle of it.
        if stream.write_all(bytes).await.is_ok() && stream.shutdown().await.is_ok() {
            return stream.read_to_end(&mut answer).await.unwrap_or(0);
        }
        0
    };
    tokio::time::timeout(PATIENCE, talk).await.expect("the broker hangs up")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_rudeness_do_not_hurt_others() {
    let rig = rig().await;
    let mut node = connect(rig.node("n1")).await.unwrap();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 4096],
        &[0x10, 0xff, 0xff, 0xff, 0x7f],
        &[0x10, 0x00],
        &[0x30, 0x02, 0x00, 0x00],
        &[],
    ] {
        raw(rig.address, bytes).await;
    }
    // CONNECT and at once RST, 300 times, the same client id.
    let connect_packet =
        b"\x10\x1c\x00\x04MQTT\x05\xc2\x00\x3c\x00\x00\x02n1\x00\x02n1\x00\x05wrong";
    for _ in 0..300 {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(connect_packet).await.unwrap();
        stream.set_zero_linger().unwrap();
        drop(stream);
    }
    assert!(taken(&mut node, "limpet/v1/n/n1/event").await, "the node is still there");
    // A packet that is too large ends its sender's connection, and only that.
    let mut rude = connect(rig.node("n2")).await.unwrap();
    let large = vec![0; MAX_PACKET_BYTES + 1];
    rude.0.publish("limpet/v1/n/n2/have", QoS::AtLeastOnce, true, large).await.unwrap();
    let gone = async {
        loop {
            match packet(&mut rude.1).await {
                None | Some(Packet::Disconnect(_)) => return,
                Some(Packet::PubAck(ack)) => {
                    assert!(!matches!(ack.reason, PubAckReason::Success), "it was taken");
                    return;
                }
                Some(_) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the large packet is refused");
    assert!(taken(&mut node, "limpet/v1/n/n1/event").await);
    assert!(connect(rig.node("n2")).await.is_some());
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_port_is_named_and_a_shut_down_broker_frees_its_own() {
    let rig = rig().await;
    let again = start(rig.address, rig.store.clone()).await;
    assert!(matches!(again, Err(BrokerError::PortInUse { listen }) if listen == rig.address));
    let error = again.err().unwrap().to_string();
    assert!(error.contains(&rig.address.to_string()), "{error}");
    rig.broker.shutdown().await;
    let free = async {
        loop {
            match start(rig.address, rig.store.clone()).await {
                Ok(broker) => return broker,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let broker = tokio::time::timeout(PATIENCE, free).await.expect("the port is free again");
    assert_ne!(broker.controller, Login { user: CONTROLLER_USER.into(), password: String::new() });
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_reach_the_controller() {
    let rig = rig().await;
    let mut controller = connect(rig.controller()).await.unwrap();
    for filter in limpet_protocol::topic::controller_filters() {
        assert!(granted(&mut controller, &filter).await, "{filter}");
    }
    assert!(!granted(&mut controller, "#").await);
    let mut node = connect(rig.node("n1")).await.unwrap();
    assert!(taken(&mut node, "limpet/v1/n/n1/ask").await);
    loop {
        if let Some(Packet::Publish(publish)) = packet(&mut controller.1).await {
            let topic: Topic = std::str::from_utf8(&publish.topic).unwrap().parse().unwrap();
            assert_eq!(topic, Topic::Ask("n1".parse().unwrap()));
            break;
        }
    }
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_removed_is_sent_away_and_stays_away() {
    let rig = rig().await;
    let mut node = connect(rig.node("n1")).await.unwrap();
    let mut other = connect(rig.node("n2")).await.unwrap();
    assert!(granted(&mut node, "limpet/v1/n/n1/want").await);
    let ops = vec![Op::Delete(Key::Node("n1".parse().unwrap()))];
    rig.store.commit(Transaction { ops, ..Transaction::default() }).await.unwrap();
    let gone = async { while packet(&mut node.1).await.is_some() {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("its connection ends");
    assert!(connect(rig.node("n1")).await.is_none(), "its secret opens nothing any more");
    assert!(taken(&mut other, "limpet/v1/n/n2/event").await, "others stay");
    rig.broker.shutdown().await;
}

/// A token that lets publish figures of `shop`.
async fn metrics_token(rig: &Rig, expires_ms: Option<u64>) -> String {
    let token = auth::make_secret().unwrap();
    let purpose = TokenPurpose::Metrics("shop".parse().unwrap());
    let record = TokenRecord { purpose, description: String::new(), created_ms: 0, expires_ms };
    let ops = vec![Op::Put(Key::Token(auth::hash(&token)), codec::encode(&record).unwrap())];
    rig.store.commit(Transaction { ops, ..Transaction::default() }).await.unwrap();
    token
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_measures_publishes_figures_of_one_application_and_nothing_else() {
    let rig = rig().await;
    let token = metrics_token(&rig, None).await;
    let ended = metrics_token(&rig, Some(1)).await;
    let at = |id: &str, user: &str, password: &str| options(rig.address, id, user, password);
    let claimed = format!("metrics/{}", auth::hash(&token));
    for (what, options) in [
        ("a join token", at("metrics-1", "metrics", &rig.token)),
        ("a token that has ended", at("metrics-1", "metrics", &ended)),
        ("another's client id", at("n1", "metrics", &token)),
        ("the broker's own name for it", at("metrics-1", &claimed, &token)),
        ("a node", at("n1", "n1", &token)),
        ("joining", at("join-abc", "join", &token)),
    ] {
        assert!(connect(options).await.is_none(), "{what}");
    }
    let mut measures = connect(at("metrics-1", "metrics", &token)).await.unwrap();
    assert!(taken(&mut measures, "limpet/v1/m/shop/web/jobs_open").await);
    assert!(!granted(&mut measures, "limpet/v1/m/shop/web/jobs_open").await);
    for topic in ["m/bank/web/jobs_open", "m/shop/web", "m/shop/web/a/b", "n/n1/up", "ctl", "x"] {
        let mut measures = connect(at("metrics-2", "metrics", &token)).await.unwrap();
        assert!(!taken(&mut measures, &format!("limpet/v1/{topic}")).await, "{topic}");
    }
    let mut options = at("metrics-3", "metrics", &token);
    let topic = "limpet/v1/m/shop/web/jobs_open";
    options.set_last_will(LastWill::new(topic, "0", QoS::AtLeastOnce, false, None));
    assert!(connect(options).await.is_none(), "a will: nobody knows of when it is");
    // Once the token is gone the connection that is there says nothing more.
    let mut measures = connect(at("metrics-1", "metrics", &token)).await.unwrap();
    assert!(taken(&mut measures, topic).await);
    let ops = vec![Op::Delete(Key::Token(auth::hash(&token)))];
    rig.store.commit(Transaction { ops, ..Transaction::default() }).await.unwrap();
    assert!(!taken(&mut measures, topic).await);
    rig.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_figure_is_passed_on_and_not_kept() {
    let rig = rig().await;
    let token = metrics_token(&rig, None).await;
    let topic = "limpet/v1/m/shop/web/jobs_open";
    let mut node = connect(rig.node("n1")).await.unwrap();
    assert!(granted(&mut node, topic).await);
    let mut measures = connect(options(rig.address, "metrics-1", "metrics", &token)).await.unwrap();
    measures.0.publish(topic, QoS::AtLeastOnce, true, "42").await.unwrap();
    while !matches!(packet(&mut measures.1).await, Some(Packet::PubAck(_))) {}
    loop {
        if let Some(Packet::Publish(publish)) = packet(&mut node.1).await {
            assert_eq!(publish.payload.as_ref(), b"42");
            break;
        }
    }
    let mut late = connect(rig.node("n2")).await.unwrap();
    may_subscribe(&late, topic).await;
    // What is kept comes before the answer to the next question.
    loop {
        match packet(&mut late.1).await {
            Some(Packet::SubAck(_)) => break,
            Some(Packet::Publish(_)) | None => panic!("it was kept"),
            Some(_) => {}
        }
    }
    measures.0.publish(topic, QoS::AtLeastOnce, false, "43").await.unwrap();
    while !matches!(packet(&mut measures.1).await, Some(Packet::PubAck(_))) {}
    loop {
        if let Some(Packet::Publish(publish)) = packet(&mut late.1).await {
            assert_eq!(publish.payload.as_ref(), b"43", "nothing of before");
            break;
        }
    }
    rig.broker.shutdown().await;
}

#[test]
fn names_that_mean_something_are_reserved() {
    for (name, reserved) in
        [("controller", true), ("join", true), ("join-a", true), ("joiner", false), ("pi", false)]
            .into_iter()
            .chain([("metrics", true), ("metrics-1", true), ("metrics1", false)])
    {
        assert_eq!(is_reserved(&name.parse().unwrap()), reserved, "{name}");
    }
    let refused = JoinReply::Refused { reason: String::new() };
    assert!(codec::encode(&refused).is_ok());
}
