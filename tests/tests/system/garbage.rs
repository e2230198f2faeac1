//! Garbage on every door: an error, never a panic, and the rest goes on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use limpet_tests::fleet::{Broker, Fleet};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};

/// Bytes of a simple generator (Marsaglia's xorshift64), so that a failure can be repeated.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Publishes every payload on every topic, as nobody in particular.
async fn publish_all(port: u16, topics: &[String], payloads: &[Vec<u8>]) {
    let mut options = MqttOptions::new("noise", "127.0.0.1", port);
    options.set_max_packet_size(Some(512 * 1024));
    let (client, mut events) = AsyncClient::new(options, 64);
    let expected = topics.len() * payloads.len();
    let publisher = async {
        for topic in topics {
            for payload in payloads {
                client
                    .publish(topic.as_str(), QoS::AtLeastOnce, false, payload.clone())
                    .await
                    .unwrap();
            }
        }
    };
    let poller = async {
        let mut acknowledged = 0;
        while acknowledged < expected {
            if let Event::Incoming(Incoming::PubAck(_)) = events.poll().await.unwrap() {
                acknowledged += 1;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(publisher, poller) })
        .await
        .unwrap();
}

#[test]
fn on_every_topic() {
    // Mosquitto lets anybody speak: the worst broker there is.
    let mut fleet = Fleet::with(Broker::Mosquitto);
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    fleet.apply("shop", "services: {clock: {image: limpet-demo, command: [clock]}}", &["--wait"]);
    let pids = fleet.node_mut("n1").container_pids();
    // A service that follows what anybody says of it.
    let follows = "services: {f: {image: limpet-demo, command: [clock], deploy: {x-autoscale: {max: 9, \
                   metrics: [{topic: noise, average: 1}]}}}}";
    fleet.apply("follow", follows, &["--wait"]);
    let levels =
        ["want", "up", "have", "event", "ack", "ask", "call/abc/in", "call/abc/out", "nonsense"];
    let root = limpet_protocol::topic::ROOT;
    let mut topics: Vec<String> =
        levels.iter().map(|level| format!("{root}/n/n1/{level}")).collect();
    topics.extend([
        format!("{root}/n/nobody/up"),
        format!("{root}/n/nobody/have"),
        format!("{root}/join/abc/in"),
        format!("{root}/m/follow/f/noise"),
        format!("{root}/m/follow/f/else"),
    ]);
    topics.push(format!("{root}/spec/{}", "ab".repeat(32)));
    let mut payloads: Vec<Vec<u8>> = (0..20).map(|seed| noise(seed, 64)).collect();
    payloads.push(vec![]);
    payloads.push(vec![0x81; 10_000]);
    payloads.push(vec![0x9b, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
    payloads.push(noise(99, 100_000));
    tokio::runtime::Runtime::new().unwrap().block_on(publish_all(
        fleet.mqtt_port(),
        &topics,
        &payloads,
    ));
    fleet.wait_ready("n1");
    fleet.apply(
        "shop",
        "services: {clock: {image: limpet-demo, command: [clock], deploy: {replicas: 2}}}",
        &["--wait"],
    );
    fleet.wait_running("clock", 2);
    limpet_tests::process::wait_for("the figure to be no number", || {
        let explained = fleet.limpet(&["explain", "follow.f"]);
        explained.contains("what was published is no decimal number").then_some(())
    });
    assert_eq!(fleet.instances().iter().filter(|it| it["application"] == "follow").count(), 1);
    assert_eq!(
        fleet.node_mut("n1").container_pids().iter().filter(|pid| pids.contains(pid)).count(),
        1
    );
    assert!(!fleet.controller().output().contains("panicked"));
    assert!(!fleet.node_mut("n1").agent().output().contains("panicked"));
}

#[test]
fn on_both_ports() {
    let mut fleet = Fleet::start();
    for port in [fleet.api_port(), fleet.mqtt_port()] {
        for seed in 0..50 {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            // The other side may hang up before it has read everything.
            let _ = socket.write_all(&noise(seed, 2000));
            let _ = socket.read(&mut [0; 64]);
        }
    }
    fleet.limpet(&["version"]);
    fleet.add_node("n1", &[]);
    assert!(!fleet.controller().output().contains("panicked"));
}
