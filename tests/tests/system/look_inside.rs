//! Looking into containers: commands, files, figures and output, by the real command line.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Child, Command, Output, Stdio};

use limpet_tests::fleet::Fleet;
use limpet_tests::process::wait_for;
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

fn fleet(compose: &str) -> Fleet {
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::busybox_archive(None).unwrap());
    fleet.add_node("n1", &[]);
    fleet.apply("shop", compose, &["--wait"]);
    fleet
}

const IDLE: &str =
    "services: {web: {image: busybox, command: [sleep, '100000'], stop_grace_period: 0s}}";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code, standard output and standard error.
fn told(output: &Output) -> (i32, String, String) {
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = piped(&mut command);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}

fn piped(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Memory of a process that is its own, in bytes.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_command_runs_in_a_container() {
    let mut fleet = fleet(IDLE);
    let run = |arguments: &[&str]| told(&fleet.try_limpet(&[&["exec"], arguments].concat()));
    let (code, out, errors) = run(&["web", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((code, out.as_str(), errors.as_str()), (7, "out\n", "err\n"));
    let flags = ["-u", "nobody", "-w", "/tmp", "-e", "A=b", "shop.web.1"];
    let (code, out, _) = run(&[&flags[..], &["sh", "-c", "id -u; pwd; echo $A"]].concat());
    assert_eq!((code, out.as_str()), (0, "65534\n/tmp\nb\n"));
    // Nothing reads the test's standard input.
    assert_eq!(run(&["web", "cat"]).0, 0);
    for (command, code) in [("/no/such", 127), ("/etc/passwd", 126)] {
        let (found, _, errors) = run(&["web", "--", command]);
        assert!(found == code && errors.contains(command), "{found} {errors}");
    }
    let (code, _, errors) = run(&["nothing", "--", "true"]);
    assert!(code == 125 && errors.starts_with("limpet: "), "{code} {errors}");
    let (code, _, errors) = run(&["-w", "/no/such", "web", "--", "true"]);
    assert!(code == 125 && errors.contains("/no/such"), "{code} {errors}");
    assert_eq!(run(&["web", "--", "sh", "-c", "kill -9 $$"]).0, 137);

    // More input than every buffer on the way, and its end.
    let input: Vec<u8> = (0..1_000_000_u32).map(|number| b'a' + (number % 26) as u8).collect();
    let echoed = with_input(fleet.limpet_command(&["exec", "-i", "web", "--", "cat"]), &input);
    assert!(echoed.status.success() && echoed.stdout == input, "{}", text(&echoed.stderr));
    // A command that does not read its input ends all the same.
    let deaf = with_input(fleet.limpet_command(&["exec", "-i", "web", "--", "true"]), &input);
    assert_eq!(told(&deaf).0, 0);

    slow_readers_harm_nobody(&mut fleet);

    // Signals go to the command, and who goes away takes it along.
    let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let mut asked = piped(&mut fleet.limpet_command(&["exec", "web", "--", "sh", "-c", script]));
    let mut ready = [0; 6];
    asked.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let pid = rustix::process::Pid::from_child(&asked);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let (code, out, _) = told(&asked.wait_with_output().unwrap());
    assert_eq!((code, out.as_str()), (9, "caught\n"));
    let before = fleet.node_mut("n1").container_pids();
    let mut gone = piped(&mut fleet.limpet_command(&["exec", "web", "--", "sleep", "1000"]));
    let node = fleet.node_mut("n1");
    wait_for("the command to run", || (node.container_pids().len() > before.len()).then_some(()));
    gone.kill().unwrap();
    gone.wait().unwrap();
    wait_for("the command to end", || (node.container_pids() == before).then_some(()));
}

/// Commands that flood and are not read, while others go on.
fn slow_readers_harm_nobody(fleet: &mut Fleet) {
    const ROOM: u64 = 24 * 1024 * 1024;
    let pids = [fleet.controller().pid(), fleet.node_mut("n1").agent().pid()];
    let before = pids.map(memory);
    let mut floods: Vec<Child> = (0..4)
        .map(|_| piped(&mut fleet.limpet_command(&["exec", "web", "--", "yes", "flood"])))
        .collect();
    for flood in &mut floods {
        let mut first = [0; 6];
        flood.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    }
    for _ in 0..5 {
        assert_eq!(fleet.limpet(&["exec", "web", "--", "echo", "quick"]), "quick\n");
    }
    let after = pids.map(memory);
    assert!(
        after.iter().zip(before).all(|(after, before)| *after < before + ROOM),
        "{before:?} {after:?}"
    );
    fleet.wait_ready("n1");
    for mut flood in floods {
        flood.kill().unwrap();
        flood.wait().unwrap();
    }
}

/// A terminal of the test's own: its controlling side, and the other.
fn terminal(rows: u16, columns: u16) -> (File, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let controlling = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controlling).unwrap();
    unlockpt(&controlling).unwrap();
    let name = ptsname(&controlling, Vec::new()).unwrap();
    let other = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    resize(&controlling, rows, columns);
    (controlling.into(), other.into())
}

fn resize(controlling: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(controlling, size).unwrap();
}

#[test]
fn a_shell_has_a_terminal() {
    let fleet = fleet(IDLE);
    let (mut controlling, other) = terminal(31, 97);
    let settings = |fd: &OwnedFd| format!("{:?}", tcgetattr(fd).unwrap());
    let before = settings(&other);
    let mut child = fleet
        .limpet_command(&["exec", "-it", "web", "--", "sh"])
        .stdin(other.try_clone().unwrap())
        .stdout(other.try_clone().unwrap())
        .stderr(other.try_clone().unwrap())
        .spawn()
        .unwrap();
    let reader = controlling.try_clone().unwrap();
    let (heard, hear) = std::sync::mpsc::sync_channel(1024);
    std::thread::spawn(move || {
        let mut reader = reader;
        let mut buffer = [0; 4096];
        while let Ok(count) = reader.read(&mut buffer)
            && heard.send(buffer[..count].to_vec()).is_ok()
        {}
    });
    let mut seen = String::new();
    let mut expect = |what: &str| {
        wait_for(&format!("{what:?} on the terminal"), || {
            seen.push_str(&hear.try_iter().map(|bytes| text(&bytes)).collect::<String>());
            let at = seen.find(what)?;
            seen.drain(..at + what.len());
            Some(())
        });
    };
    expect("#");
    controlling.write_all(b"stty size; tty; echo $TERM\r").unwrap();
    expect("31 97");
    expect("/dev/pts/");
    expect("xterm");
    // A resize is told by the terminal; this one controls nobody, so the test tells.
    resize(&controlling, 40, 120);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
    controlling
        .write_all(b"while [ \"$(stty size)\" != '40 120' ]; do :; done; echo res''ized\r")
        .unwrap();
    expect("resized");
    // Ctrl-C is the command's.
    controlling.write_all(b"sleep 1000\r").unwrap();
    expect("sleep 1000");
    controlling.write_all(b"\x03echo inter''rupted\r").unwrap();
    expect("interrupted");
    controlling.write_all(b"exit 5\r").unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(5));
    assert_eq!(settings(&other), before, "the terminal is as it was");
}

#[test]
fn files_go_in_and_out_and_links_lead_nowhere() {
    let fleet = fleet(IDLE);
    let at = |name: &str| fleet.folder().join(name);
    let shown = |name: &str| at(name).display().to_string();
    let cp = |from: &str, to: &str| told(&fleet.try_limpet(&["cp", from, to]));
    let good = |from: &str, to: &str| {
        let (code, out, errors) = cp(from, to);
        assert_eq!((code, out + &errors), (0, String::new()), "cp {from} {to}");
    };
    let run = |script: &str| fleet.limpet(&["exec", "web", "--", "sh", "-c", script]);
    fs::create_dir_all(at("tree/sub")).unwrap();
    let large: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number.wrapping_mul(number) >> 3).to_le_bytes()[0])
        .collect();
    fs::write(at("tree/large"), &large).unwrap();
    fs::write(at("tree/sub/tool"), "#!/bin/sh\necho works\n").unwrap();
    fs::set_permissions(at("tree/sub/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("sub/tool", at("tree/link")).unwrap();

    good(&shown("tree"), "web:/tmp");
    good(&shown("tree"), "web:/tmp/new");
    good(&shown("tree/."), "web:/tmp/contents");
    good(&shown("tree/large"), "web:/tmp/renamed");
    assert_eq!(run("/tmp/tree/sub/tool; /tmp/new/link; /tmp/contents/link"), "works\n".repeat(3));
    assert_eq!(
        run("stat -c '%u %g %a' /tmp/tree/sub/tool; cmp /tmp/renamed /tmp/tree/large"),
        "0 0 755\n"
    );
    good("shop.web.1:/tmp/tree", &shown("back"));
    good("web:/tmp/renamed", &shown(""));
    assert_eq!(fs::read(at("back/large")).unwrap(), large);
    assert_eq!(fs::read(at("renamed")).unwrap(), large);
    assert_eq!(fs::read_link(at("back/link")).unwrap().to_str(), Some("sub/tool"));
    let tar = fleet.try_limpet(&["cp", "web:/tmp/tree/sub", "-"]).stdout;
    let into = with_input(fleet.limpet_command(&["cp", "-", "web:/var"]), &tar);
    assert!(into.status.success(), "{}", text(&into.stderr));
    assert_eq!(run("/var/sub/tool"), "works\n");

    // Links of the container into the node's files.
    fs::create_dir(at("host")).unwrap();
    fs::write(at("host/secret"), "secret").unwrap();
    run(&format!(
        "ln -s {0} /trap; ln -s {0}/secret /file; ln -s /proc/1/root /magic",
        shown("host")
    ));
    for from in ["web:/trap/secret", "web:/magic/etc/passwd", "web:/trap/../secret", "web:/nothing"]
    {
        let (code, _, errors) = cp(from, &shown("stolen"));
        assert!(code != 0 && errors.contains("in the container"), "{from}: {code} {errors}");
        assert!(!at("stolen").exists());
    }
    fs::write(at("new"), "new").unwrap();
    assert_ne!(cp(&shown("new"), "web:/trap/new").0, 0);
    good(&shown("new"), "web:/file");
    assert_eq!(run("cat /file"), "new");
    assert_eq!(fs::read_to_string(at("host/secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(at("host")).unwrap().count(), 1);
    assert_ne!(cp(&shown("none"), "web:/tmp").0, 0);
    assert_ne!(cp(&shown("new"), &shown("newer")).0, 0);
}

#[test]
fn figures_and_output_show_what_goes_on() {
    let compose = "services: {burn: {image: busybox, command: [sh, -c, 'while :; do :; done'], deploy: {resources: {limits: {memory: 64M}}}, stop_grace_period: 0s}, idle: {image: busybox, command: [sleep, '100000'], stop_grace_period: 0s}}";
    let mut fleet = fleet(compose);
    let rows = fleet.limpet_json(&["top", "--no-stream"]);
    let row = |name: &str| {
        let rows = rows.as_array().unwrap();
        rows.iter().find(|row| row["instance"] == name).unwrap_or_else(|| panic!("{rows:?}"))
    };
    let burn = row("shop.burn.1");
    assert!(burn["cpu_percent"].as_f64().unwrap() > 3.0, "{burn}");
    assert_eq!(burn["memory_limit_bytes"], 64 << 20);
    assert!(burn["memory_bytes"].as_u64().unwrap() > 0 && burn["pids"] == 1, "{burn}");
    assert!(row("shop.idle.1")["cpu_percent"].as_f64().unwrap() < 1.0, "{rows}");
    let table = fleet.limpet(&["top", "--no-stream", "burn"]);
    assert!(table.contains("shop.burn.1") && !table.contains("idle"), "{table}");

    // Output, also of instances that come later.
    let talk = |word: &str, replicas: u32| {
        format!(
            "services: {{talk: {{image: busybox, command: [sh, -c, 'echo {word} of $$HOSTNAME; sleep 100000'], deploy: {{replicas: {replicas}}}, stop_grace_period: 0s}}}}"
        )
    };
    fleet.apply("story", &talk("first", 1), &["--wait"]);
    wait_for("the first words", || {
        fleet.limpet(&["logs", "talk"]).contains("first of").then_some(())
    });
    let stamped = fleet.limpet(&["logs", "talk", "-t", "--since", "1h"]);
    let time = stamped.split(' ').next().unwrap();
    assert!(time.ends_with('Z') && time.len() == 24, "{stamped}");
    assert_eq!(fleet.limpet(&["logs", "talk", "--since", "2100-01-01T00:00:00Z"]), "");
    assert_eq!(fleet.try_limpet(&["logs", "talk", "--since", "whenever"]).status.code(), Some(2));
    let file = fleet.folder().join("followed");
    let mut follower = fleet
        .limpet_command(&["logs", "-f", "story"])
        .stdout(File::create(&file).unwrap())
        .spawn()
        .unwrap();
    let shown = || fs::read_to_string(&file).unwrap();
    wait_for("what was there", || shown().contains("first of").then_some(()));
    fleet.apply("story", &talk("second", 2), &["--wait"]);
    for slot in [1, 2] {
        let words = format!("second of story.talk.{slot}");
        wait_for(&words, || shown().contains(&words).then_some(()));
    }
    // A node that goes takes its instances along, and they are shown where they come up.
    fleet.add_node("n2", &[]);
    let count = || shown().matches("second of").count();
    let before = count();
    fleet.node_mut("n1").kill_agent();
    wait_for("the replacements' words", || (count() > before).then_some(()));
    follower.kill().unwrap();
    follower.wait().unwrap();
}
