//! Starts that cannot succeed: one clear sentence, an exit code, and nothing is changed.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use limpet_tests::fleet::Fleet;
use limpet_tests::process::{free_port, program};

/// Fails with one sentence that has these words, and no panic.
fn refused(output: &Output, words: &[&str]) {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code().is_some_and(|code| code > 0 && code != 101),
        "{:?}: {errors}",
        output.status
    );
    for word in words {
        assert!(errors.contains(word), "{word:?} in {errors}");
    }
    assert!(!errors.contains("panicked"), "{errors}");
}

#[test]
fn a_second_controller_on_one_folder() {
    let fleet = Fleet::start();
    let data = fleet.controller_data();
    let output = Command::new(program("limpet"))
        .args([
            "controller",
            "--api-listen",
            "127.0.0.1:0",
            "--mqtt-listen",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(&data)
        .output()
        .unwrap();
    refused(&output, &[data.to_str().unwrap()]);
    fleet.limpet(&["ps"]);
}

#[test]
fn a_port_that_is_taken() {
    let fleet = Fleet::start();
    let folder = tempfile::tempdir().unwrap();
    for (flag, port) in [("--api-listen", fleet.api_port()), ("--mqtt-listen", fleet.mqtt_port())] {
        let other = if flag == "--api-listen" { "--mqtt-listen" } else { "--api-listen" };
        let output = Command::new(program("limpet"))
            .args([
                "controller",
                flag,
                &format!("127.0.0.1:{port}"),
                other,
                "127.0.0.1:0",
                "--data",
            ])
            .arg(folder.path().join(flag))
            .output()
            .unwrap();
        refused(&output, &[&port.to_string(), flag]);
    }
}

#[test]
fn a_store_that_cannot_be_read() {
    let mut fleet = Fleet::start();
    fleet.kill_controller();
    let data = fleet.controller_data();
    let store = std::fs::read_dir(&data)
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "redb"));
    let store = store.expect("the store is a .redb file");
    let garbage = vec![0xa5; 8192];
    std::fs::write(&store, &garbage).unwrap();
    let output = fleet.controller_command().output().unwrap();
    refused(&output, &[store.to_str().unwrap()]);
    assert_eq!(std::fs::read(&store).unwrap(), garbage, "nothing was changed");
}

#[test]
fn an_agent_that_is_not_root() {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("limpet-agent");
    std::fs::copy(program("limpet-agent"), &binary).unwrap();
    open_for_all(folder.path());
    let output = Command::new(&binary)
        .args(["--controller", "mqtt://127.0.0.1:1", "--join-token", "x", "--data"])
        .arg(folder.path().join("data"))
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    refused(&output, &["root"]);
}

fn open_for_all(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
}

#[test]
fn a_second_agent_on_one_folder() {
    let mut fleet = Fleet::start();
    fleet.add_node("n1", &[]);
    let folder = fleet.node_mut("n1").folder().to_owned();
    let output = Command::new(program("limpet-agent"))
        .args(["--controller", "mqtt://127.0.0.1:1", "--data"])
        .arg(folder.join("data"))
        .arg("--run")
        .arg(folder.join("run"))
        .output()
        .unwrap();
    refused(&output, &[folder.join("data").to_str().unwrap()]);
    fleet.wait_ready("n1");
}

#[test]
fn a_controller_that_is_not_there() {
    let port = free_port();
    let output = Command::new(program("limpet"))
        .args(["ps", "--server", &format!("http://127.0.0.1:{port}"), "--token", "x"])
        .output()
        .unwrap();
    refused(&output, &[&port.to_string()]);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_compose_file_with_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("compose.yaml");
    std::fs::write(&file, "services:\n  web:\n    image: a\n    comand: [x]\n").unwrap();
    let output =
        Command::new(program("limpet")).args(["config", "-f"]).arg(&file).output().unwrap();
    refused(&output, &["compose.yaml", "4", "comand", "command"]);
}

#[test]
fn an_agent_without_cgroups() {
    // In a mount namespace of its own, an empty file system lies over the cgroups.
    let folder = tempfile::tempdir().unwrap();
    let hide = "mount -t tmpfs none /sys/fs/cgroup && exec timeout 20 \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", hide])
        .arg(program("limpet-agent"))
        .args(["--controller", "mqtt://127.0.0.1:1", "--join-token", "x", "--data"])
        .arg(folder.path().join("data"))
        .arg("--run")
        .arg(folder.path().join("run"))
        .output()
        .unwrap();
    refused(&output, &["cgroup"]);
}

#[test]
fn an_agent_whose_identity_cannot_be_read() {
    let mut fleet = Fleet::start();
    fleet.add_node("n1", &[]);
    fleet.node_mut("n1").kill_agent();
    let folder = fleet.node_mut("n1").folder().to_owned();
    let all = std::fs::read_dir(folder.join("data")).unwrap().flatten().map(|e| e.path());
    let identity = all
        .filter(|path| path.to_string_lossy().contains("identity"))
        .find(|path| path.is_file())
        .expect("the identity is a file in the data folder");
    std::fs::write(&identity, b"garbage").unwrap();
    let output = Command::new(program("limpet-agent"))
        .args(["--controller", "mqtt://127.0.0.1:1", "--data"])
        .arg(folder.join("data"))
        .arg("--run")
        .arg(folder.join("run"))
        .output()
        .unwrap();
    refused(&output, &[identity.to_str().unwrap()]);
    assert_eq!(std::fs::read(&identity).unwrap(), b"garbage", "nothing was changed");
}
