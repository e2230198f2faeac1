//! The life of a board: it joins, runs what it is given within its limits, and goes on after a power cut,
//! with a network and without.

use limpet_images::board::Board;
use limpet_images::{ImageBuilder, Layer};
use limpet_oci::Platform;
use limpet_tests::board::{EmulatedBoard, HOST, Wire, busybox, wait_for_board};
use limpet_tests::fleet::Fleet;

const COMPOSE: &str = "
services:
  clock:
    image: tide:1
    command: [sh, -c, 'uname -m; cat /etc/variant; while sleep 1; do date; done']
    mem_limit: 32m
    pids_limit: 20
  hog:
    image: tide:1
    command: [sh, -c, 'sleep 1; tail /dev/zero']
    mem_limit: 16m
    restart: 'no'
  pump:
    image: tide:1
    command: [sh, -c, 'while :; do if [ -e /tmp/flood ]; then i=0; while [ $$i -lt 2000 ]; do i=$$((i+1)); done; else sleep 1; fi; done']
    deploy:
      resources: {limits: {cpus: '0.2', memory: 16M}}
      x-autoscale: {min: 1, max: 3, cpu: 50%, down: {window: 0s}}
";

/// An image for a PC and for a board, which differ.
fn tide(board: &str, architecture: &str) -> Vec<u8> {
    let variant = |platform: &str, program: &[u8]| {
        let mut layer = Layer::new();
        for folder in ["bin", "dev", "etc", "proc", "sys"] {
            layer.folder(folder, 0o755);
        }
        layer.folder("tmp", 0o1777).file("bin/busybox", 0o755, program);
        for applet in ["sh", "sleep", "date", "uname", "cat", "tail", "touch", "rm"] {
            layer.hard_link(&format!("bin/{applet}"), "bin/busybox");
        }
        layer.file("etc/variant", 0o644, format!("variant {platform}\n").as_bytes());
        let mut builder = ImageBuilder::new("tide:1");
        let platform: Platform = platform.parse().unwrap();
        builder.platforms(&[platform]).layer(&layer).environment("PATH=/bin");
        builder
    };
    let of_board = variant(board, &busybox(architecture));
    let other = if board == "linux/amd64" { "linux/arm64" } else { "linux/amd64" };
    variant(other, b"#!/bin/false\n").archive_with(&[&of_board])
}

/// A board that has joined and runs what it was given, each within its limits.
fn begin(kind: Board, platform: &str, architecture: &str, machine: &str) -> (Fleet, EmulatedBoard) {
    let fleet = Fleet::start();
    let token = fleet.limpet_json(&["token", "create"]);
    let token = token["token"].as_str().unwrap();
    let broker = format!("mqtt://{HOST}:{}", fleet.mqtt_port());
    let settings =
        ["--host-name", "pump", "--controller", &broker, "--token", token, "--label", "site=north"];
    let mut board = EmulatedBoard::make(kind, &fleet.folder().join("board"), &settings);
    fleet.load_image(&tide(platform, architecture));

    board.switch_on(Wire::Plugged);
    let node = wait_ready(&fleet);
    assert_eq!(node["labels"]["site"], "north", "{node}");
    assert!(node["platform"].as_str().unwrap().starts_with(platform), "{node}");
    if kind == Board::RaspiArm64 {
        let lacks = || fleet.limpet(&["node", "ls"]).contains("no clock runs").then_some(());
        wait_for_board("the node to say that it has no clock", lacks);
    }

    fleet.apply("sea", COMPOSE, &[]);
    wait_for_board("the clock to run", || running(&fleet, "clock"));
    wait_for_board("the word of the right variant", || {
        let said = fleet.limpet(&["logs", "sea.clock"]);
        (said.contains(machine) && said.contains(&format!("variant {platform}"))).then_some(())
    });
    wait_for_board("the hog to be stopped by its limit", || {
        let all = fleet.instances();
        let hog = all.iter().find(|it| it["service"] == "hog")?;
        hog["reason"].as_str()?.contains("memory").then_some(())
    });
    let limit = board.shell("cat /sys/fs/cgroup/limpet/sea.clock.1.*/memory.max");
    assert!(limit.contains("33554432"), "{limit}");
    is_filtered(&fleet, &mut board);
    let root = board.shell("touch /etc/x; grep -c . /proc/swaps; mount | grep ' / '");
    assert!(root.contains("Read-only file system"), "{root}");
    let card = board.shell("df -m /var/lib/limpet | tail -n 1");
    let mebibytes: u64 = card.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(mebibytes > 150, "the state has the whole card: {card}");
    (fleet, board)
}

fn life(kind: Board, platform: &str, architecture: &str, machine: &str) {
    let (fleet, mut board) = begin(kind, platform, architecture, machine);
    follows_its_load(&fleet);

    // In the middle of a deploy.
    fleet.apply("sea", &COMPOSE.replace("32m", "48m"), &[]);
    goes_on_without_a_network(&mut board);

    board.pull_the_plug();
    board.switch_on(Wire::Plugged);
    board.wait_console("board ready");
    wait_for_board("what was deployed last", || {
        let found = board.shell("cat /sys/fs/cgroup/limpet/sea.clock.1.*/memory.max");
        found.contains("50331648").then_some(())
    });
    wait_for_board("the clock to run", || running(&fleet, "clock"));
}

/// The system call filter holds a container that the agent started, and what is executed in it. A user
/// namespace is what the kernel itself would grant.
fn is_filtered(fleet: &Fleet, board: &mut EmulatedBoard) {
    let first = "$(head -n 1 /sys/fs/cgroup/limpet/sea.clock.1.*/cgroup.procs)";
    let started = board.shell(&format!("grep Seccomp: /proc/{first}/status"));
    assert!(started.contains("Seccomp:\t2"), "{started}");
    let script = "busybox unshare -U true 2>&1; busybox grep Seccomp: /proc/self/status";
    let tried = fleet.limpet(&["exec", "sea.clock.1", "--", "sh", "-c", script]);
    assert!(tried.contains("Operation not permitted"), "{tried}");
    assert!(tried.contains("Seccomp:\t2"), "{tried}");
    let nodes = fleet.limpet(&["node", "ls"]);
    assert!(!nodes.contains("system call filter"), "{nodes}");
}

/// The plug is pulled, and the board comes up without a network.
fn goes_on_without_a_network(board: &mut EmulatedBoard) {
    board.pull_the_plug();
    board.switch_on(Wire::None);
    board.wait_console("board ready");
    wait_for_board("the clock to run without a network", || {
        let found = board.shell("cat /sys/fs/cgroup/limpet/sea.clock.1.*/memory.max");
        (found.contains("33554432") || found.contains("50331648")).then_some(())
    });
}

/// Load up: more instances; load down: one again.
fn follows_its_load(fleet: &Fleet) {
    let pumps = || {
        let all = fleet.instances();
        let is_pump = |it: &&serde_json::Value| it["service"] == "pump" && it["phase"] == "running";
        all.iter().filter(is_pump).count()
    };
    wait_for_board("one pump", || (pumps() == 1).then_some(()));
    fleet.limpet(&["exec", "sea.pump.1", "--", "touch", "/tmp/flood"]);
    wait_for_board("a second pump in the flood", || (pumps() > 1).then_some(()));
    fleet.limpet(&["exec", "sea.pump.1", "--", "rm", "/tmp/flood"]);
    wait_for_board("one pump after the flood", || (pumps() == 1).then_some(()));
}

fn wait_ready(fleet: &Fleet) -> serde_json::Value {
    wait_for_board("the board to be ready", || {
        let nodes = fleet.limpet_json(&["node", "ls"]);
        let mut nodes = nodes.as_array()?.iter();
        nodes.find(|node| node["node"] == "pump" && node["status"] == "ready").cloned()
    })
}

fn running(fleet: &Fleet, service: &str) -> Option<()> {
    let all = fleet.instances();
    all.iter().find(|it| it["service"] == service && it["phase"] == "running").map(|_| ())
}

#[test]
#[ignore = "boots an emulated board: tests/boards"]
fn a_64_bit_arm_board_lives_through_power_cuts() {
    life(Board::VirtArm64, "linux/arm64", "arm64", "aarch64");
}

#[test]
#[ignore = "boots an emulated board: tests/boards"]
fn a_raspberry_pi_lives_through_power_cuts() {
    life(Board::RaspiArm64, "linux/arm64", "arm64", "aarch64");
}

#[test]
#[ignore = "boots an emulated board: tests/boards"]
fn a_pc_with_cgroup_v2_lives_through_power_cuts() {
    life(Board::VirtAmd64, "linux/amd64", "amd64", "x86_64");
}

/// One slow processor: what is shown on the other boards is left out. QEMU's stands still now and then, a minute after
/// its start.
#[test]
#[ignore = "boots an emulated board: tests/boards"]
fn a_raspberry_pi_zero_goes_on_after_a_power_cut() {
    let (_fleet, mut board) = begin(Board::RaspiZero, "linux/arm/v6", "armel", "armv6l");
    goes_on_without_a_network(&mut board);
}
