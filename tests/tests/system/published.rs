//! Services follow a figure that is published on a topic: up, down, from none and back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use limpet_tests::fleet::{Broker, Fleet};
use limpet_tests::process::wait_for;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, MqttOptions};
use tokio::sync::oneshot;

const TOPIC: &str = "limpet/v1/m/shop/worker/jobs_open";
/// How often whoever measures says it again.
const EVERY: Duration = Duration::from_millis(300);

/// Who measures: says the same again and again until it is told another, over every connection that it gets.
pub(crate) struct Measuring {
    value: Arc<Mutex<&'static str>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Measuring {
    /// Publishes figures of a service of `shop`.
    pub(crate) fn start(fleet: &Fleet, token: &str, service: &str) -> Self {
        let client = format!("metrics-{service}");
        let topic = format!("limpet/v1/m/shop/{service}/jobs_open");
        let mut options = MqttOptions::new(client, "127.0.0.1", fleet.mqtt_port());
        options.set_credentials("metrics", token);
        let value = Arc::new(Mutex::new("0"));
        let (end, ended) = oneshot::channel();
        let said = value.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    () = publish(options, &topic, &said) => {}
                    _ = ended => {}
                }
            });
        });
        Self { value, end: Some(end), thread: Some(thread) }
    }

    pub(crate) fn say(&self, value: &'static str) {
        *self.value.lock().unwrap() = value;
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn publish(options: MqttOptions, topic: &str, value: &Mutex<&'static str>) {
    let (client, mut events) = AsyncClient::new(options, 8);
    let mut again = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            event = events.poll() => if event.is_err() {
                // Nobody is there just now.
                again.tick().await;
            },
            _ = again.tick() => {
                let value = *value.lock().unwrap();
                // Of a full queue the next one is as good.
                let _ = client.try_publish(topic, QoS::AtLeastOnce, true, value);
            }
        }
    }
}

fn compose(per: &str) -> String {
    format!(
        "
services:
  worker:
    image: limpet-demo
    command: [clock]
    stop_grace_period: 1s
    deploy:
      x-autoscale:
        per: {per}
        min: 0
        max: 3
        metrics: [{{topic: jobs_open, average: 10}}]
        down: {{window: 1s}}
"
    )
}

fn fleet(broker: Broker, nodes: &[&str]) -> Fleet {
    let mut fleet = Fleet::with(broker);
    fleet.load_image(&limpet_images::demo_archive());
    for node in nodes {
        fleet.add_node(node, &[]);
    }
    fleet
}

fn runs(fleet: &Fleet, nodes: &[&str], count: usize) {
    wait_for(&format!("{count} containers"), || {
        let running: usize = nodes.iter().map(|node| fleet.node(node).container_pids().len()).sum();
        (running == count).then_some(())
    });
}

fn explained(fleet: &Fleet, what: &str) -> String {
    wait_for(what, || {
        let text = fleet.limpet(&["explain", "shop.worker"]);
        text.contains(what).then_some(text)
    })
}

#[test]
fn from_none_up_and_down_by_what_is_published() {
    let mut fleet = fleet(Broker::Embedded, &["n1"]);
    fleet.apply("shop", &compose("node"), &["--wait"]);
    runs(&fleet, &["n1"], 0);
    let text = explained(&fleet, "nothing was published yet");
    assert!(text.contains(TOPIC), "{text}");
    let token = fleet.limpet(&["token", "create", "--metrics", "shop"]);
    assert!(fleet.limpet(&["token", "ls"]).contains("metrics of shop"));
    let measuring = Measuring::start(&fleet, token.trim(), "worker");
    measuring.say("25");
    runs(&fleet, &["n1"], 3);
    measuring.say("5.5");
    runs(&fleet, &["n1"], 1);
    let home = fleet.node("n1").container_pids();
    // Nothing is taken away for what is no number.
    measuring.say("NaN");
    explained(&fleet, "what was published is no decimal number");
    let top = fleet.limpet(&["top", "--no-stream"]);
    assert!(top.contains("jobs_open ?/10 (what was published is no decimal number)"), "{top}");
    assert_eq!(fleet.node("n1").container_pids(), home);
    // The broker goes and comes back with the controller; the node listens again.
    fleet.kill_controller();
    measuring.say("15");
    assert_eq!(fleet.node("n1").container_pids(), home);
    fleet.start_controller();
    fleet.wait_ready("n1");
    runs(&fleet, &["n1"], 2);
    measuring.say("0");
    runs(&fleet, &["n1"], 0);
}

#[test]
fn with_a_broker_of_its_own_a_figure_is_followed_without_a_controller() {
    let mut fleet = fleet(Broker::Mosquitto, &["n1"]);
    fleet.apply("shop", &compose("node"), &["--wait"]);
    wait_for("the image to be there", || {
        fleet.limpet(&["events"]).contains("limpet-demo is there").then_some(())
    });
    fleet.kill_controller();
    let measuring = Measuring::start(&fleet, "whatever", "worker");
    measuring.say("25");
    runs(&fleet, &["n1"], 3);
    measuring.say("1");
    runs(&fleet, &["n1"], 1);
    measuring.say("0");
    runs(&fleet, &["n1"], 0);
}

/// Says a figure two thousand times a second: far more than anybody needs, and no more than a connection takes on
/// a busy machine. What does not fit into one waits in the broker, and what is behind it too.
async fn flood(options: MqttOptions, topic: &str) {
    const BURST: usize = 20;
    let (client, mut events) = AsyncClient::new(options, 2 * BURST);
    let mut again = tokio::time::interval(Duration::from_millis(10));
    loop {
        tokio::select! {
            event = events.poll() => if event.is_err() {
                again.tick().await;
            },
            _ = again.tick() => for _ in 0..BURST {
                let _ = client.try_publish(topic, QoS::AtMostOnce, false, "15");
            },
        }
    }
}

#[test]
fn thousands_of_figures_a_second_stall_nobody() {
    let mut fleet = fleet(Broker::Mosquitto, &["n1"]);
    fleet.apply("shop", &compose("node"), &["--wait"]);
    let (end, ended) = oneshot::channel::<()>();
    let port = fleet.mqtt_port();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let options = |name: &str| MqttOptions::new(name, "127.0.0.1", port);
        runtime.unwrap().block_on(async {
            tokio::select! {
                () = flood(options("flood-1"), TOPIC) => {}
                () = flood(options("flood-2"), TOPIC) => {}
                _ = ended => {}
            }
        });
    });
    let meanwhile = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runs(&fleet, &["n1"], 2);
        // What needs jobs and checks of the agent gets them.
        let checked = "services: {calm: {image: limpet-demo, command: [web, '127.0.0.1:8099'], \
                       network_mode: none, x-probe: {ready: {tcp: {port: 8099}, interval: 1s}}}}";
        fleet.apply("calm", checked, &["--wait"]);
        let top = fleet.limpet(&["top", "--no-stream"]);
        assert!(top.contains("calm.calm.1"), "it answers: {top}");
        assert!(top.contains("jobs_open") && !top.contains("jobs_open ?"), "{top}");
    }));
    drop(end);
    let _ = thread.join();
    meanwhile.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert!(!fleet.node_mut("n1").agent().output().contains("panicked"));
}

#[test]
fn over_the_fleet_as_many_run_as_the_figure_asks_for() {
    let nodes = ["n1", "n2"];
    let fleet = fleet(Broker::Embedded, &nodes);
    fleet.apply("shop", &compose("application"), &["--wait"]);
    runs(&fleet, &nodes, 0);
    let token = fleet.limpet(&["token", "create", "--metrics", "shop"]);
    let measuring = Measuring::start(&fleet, token.trim(), "worker");
    measuring.say("15");
    runs(&fleet, &nodes, 2);
    explained(&fleet, "2 over the fleet, between 0 and 3: ");
    measuring.say("29");
    runs(&fleet, &nodes, 3);
    measuring.say("0");
    runs(&fleet, &nodes, 0);
}
