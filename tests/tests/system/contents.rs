//! Configs and secrets from a file to a container, and nowhere else.

use std::path::Path;
use std::time::Duration;

use limpet_tests::fleet::{Broker, Fleet};
use limpet_tests::process::wait_for;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tempfile::TempDir;

const FIRST: &str = "correct horse battery staple";
const SECOND: &str = "Tr0ub4dor and 3 hunters";
const NAMED: &str = "the named one goes by the API";
const SECRETS: [&str; 3] = [FIRST, SECOND, NAMED];

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Every file below a folder that has a secret in it.
fn leaks(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).unwrap_or_default();
                let leaked = SECRETS.iter().any(|secret| holds(&bytes, secret));
                found.extend(leaked.then(|| path.display().to_string()));
            }
        }
    }
    found
}

/// Everything that the broker keeps: topics and payloads.
#[tokio::main(flavor = "current_thread")]
async fn retained(port: u16) -> Vec<(String, Vec<u8>)> {
    const END: &str = "limpet-test/end";
    let mut options = MqttOptions::new("curious", "127.0.0.1", port);
    options.set_max_packet_size(Some(256 * 1024));
    let (client, mut connection) = AsyncClient::new(options, 16);
    client.subscribe("#", QoS::AtLeastOnce).await.unwrap();
    let mut found = Vec::new();
    let read = async {
        loop {
            match connection.poll().await.unwrap() {
                Event::Incoming(Packet::SubAck(_)) => {
                    client.publish(END, QoS::AtLeastOnce, false, "").await.unwrap();
                }
                Event::Incoming(Packet::Publish(publish)) => {
                    let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                    if topic == END {
                        return;
                    }
                    found.push((topic, publish.payload.to_vec()));
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("all that is retained");
    found
}

/// What the one container of a node has at a path.
fn in_container(fleet: &mut Fleet, path: &str) -> Option<String> {
    let pid = *fleet.node_mut("n1").container_pids().first()?;
    std::fs::read_to_string(format!("/proc/{pid}/root{path}")).ok()
}

/// A reboot without network, broker and controller: all in memory is gone, the ledger is there.
fn reboot_without_network(fleet: &mut Fleet) {
    fleet.kill_controller();
    fleet.kill_mosquitto();
    let node = fleet.node_mut("n1");
    node.kill_agent();
    let keeper = node.keeper_pid().unwrap();
    for pid in [vec![keeper], node.container_pids()].concat() {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
    wait_for("everything to be dead", || node.container_pids().is_empty().then_some(()));
    let run = node.folder().join("run");
    wait_for("memory to be gone", || std::fs::remove_dir_all(&run).ok());
    fleet.start_agent("n1");
}

fn compose(files: &TempDir) -> String {
    format!(
        "services:
  clock:
    image: limpet-demo
    command: [clock]
    configs: [{{source: app, target: /etc/app.conf}}]
    secrets: [token, named]
configs:
  app: {{content: port 80}}
secrets:
  token: {{file: {}}}
  named: {{external: true}}
",
        files.path().join("token").display()
    )
}

#[test]
fn a_secret_goes_from_a_file_into_a_container_and_nowhere_else() {
    let files = tempfile::tempdir().unwrap();
    let token = files.path().join("token");
    let named = files.path().join("named");
    std::fs::write(&token, FIRST).unwrap();
    std::fs::write(&named, NAMED).unwrap();
    let mut fleet = Fleet::with(Broker::Mosquitto);
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    let refused = fleet.try_limpet(&[
        "apply",
        "-p",
        "shop",
        "-f",
        fleet.write_compose("early", &compose(&files)).to_str().unwrap(),
    ]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("there is no secret named"), "{said}");
    fleet.limpet(&["secret", "create", "named", named.to_str().unwrap()]);
    fleet.apply("shop", &compose(&files), &["--wait"]);
    let before = fleet.wait_running("clock", 1);
    let read = |fleet: &mut Fleet, path| in_container(fleet, path).unwrap();
    assert_eq!(read(&mut fleet, "/run/secrets/token"), FIRST);
    assert_eq!(read(&mut fleet, "/run/secrets/named"), NAMED);
    assert_eq!(read(&mut fleet, "/etc/app.conf"), "port 80");
    let again = fleet.apply("shop", &compose(&files), &[]);
    assert!(again.contains("1 unchanged"), "the same secret restarts nothing: {again}");

    // Another content is another spec, and so a new container.
    std::fs::write(&token, SECOND).unwrap();
    fleet.apply("shop", &compose(&files), &["--wait"]);
    let after = fleet.wait_running("clock", 1);
    assert!(after[0]["attempt"].as_u64() > before[0]["attempt"].as_u64(), "{after:?}");
    wait_for("the new secret alone", || {
        (in_container(&mut fleet, "/run/secrets/token").as_deref() == Some(SECOND)).then_some(())
    });

    reboot_without_network(&mut fleet);
    wait_for("the secret after a reboot", || {
        (in_container(&mut fleet, "/run/secrets/token").as_deref() == Some(SECOND)).then_some(())
    });

    fleet.start_mosquitto();
    fleet.start_controller();
    fleet.wait_ready("n1");
    let listed = fleet.limpet(&["secret", "ls"]);
    assert!(listed.contains("named") && listed.contains("shop.clock"), "{listed}");
    let inspected = fleet.limpet(&["secret", "inspect", "named", "-o", "json"]);
    let events = fleet.limpet(&["events", "-o", "json"]);
    let watched = fleet.limpet(&["apps", "-o", "json"]);
    for text in [&inspected, &events, &watched] {
        assert!(!SECRETS.iter().any(|secret| text.contains(secret)), "{text}");
    }
    let kept = wait_for("the sealed secrets to be there again", || {
        let kept = retained(fleet.mqtt_port());
        let sealed = kept.iter().filter(|(topic, _)| topic.contains("/n/n1/secret/")).count();
        (sealed >= 2).then_some(kept)
    });
    for (topic, payload) in &kept {
        assert!(!SECRETS.iter().any(|secret| holds(payload, secret)), "{topic} tells a secret");
    }
    assert_eq!(leaks(fleet.folder()), [""; 0]);
    let node = fleet.node_mut("n1").folder().to_owned();
    assert_eq!(leaks(&node), [""; 0]);
}

#[test]
fn a_node_that_lost_its_key_gets_its_secrets_sealed_anew() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("token"), FIRST).unwrap();
    std::fs::write(files.path().join("named"), NAMED).unwrap();
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    let named = files.path().join("named");
    fleet.limpet(&["secret", "create", "named", named.to_str().unwrap()]);
    fleet.apply("shop", &compose(&files), &["--wait"]);
    fleet.wait_running("clock", 1);

    let node = fleet.node_mut("n1");
    node.kill_agent();
    let key = node.folder().join("data/seal.key");
    let old = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let pids = node.container_pids();
    fleet.start_agent("n1");
    wait_for("the controller to hear of the new key", || {
        fleet.limpet(&["events"]).contains("sealed anew").then_some(())
    });
    assert_ne!(std::fs::read(&key).unwrap(), old);
    assert_eq!(fleet.node_mut("n1").container_pids(), pids, "what runs is not disturbed");

    // A new container opens what is sealed to the new key.
    let pid = rustix::process::Pid::from_raw(pids[0].cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_for("the next attempt with its secret", || {
        let now = fleet.node_mut("n1").container_pids();
        let is_new = !now.is_empty() && now != pids;
        let secret = in_container(&mut fleet, "/run/secrets/token");
        (is_new && secret.as_deref() == Some(FIRST)).then_some(())
    });
}
