//! What the command does without a controller: help, completion, `config`, and its errors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::Write as _;
use std::process::Stdio;

use support::{limpet, stderr, stdout};

const COMPOSE: &str = "\
name: shop
services:
  web:
    image: nginx:${TAG:-1.27}
    ports: [\"8080:80\"]
    network_mode: host
  worker:
    image: busybox
    command: sleep 60
    deploy:
      replicas: 2
";

fn run(arguments: &[&str]) -> std::process::Output {
    limpet().args(arguments).output().unwrap()
}

#[test]
fn every_verb_has_help_that_ends_well() {
    let verbs = [
        "up",
        "apply",
        "plan",
        "ps",
        "logs",
        "services",
        "apps",
        "events",
        "wait",
        "explain",
        "inspect",
        "scale",
        "stop",
        "start",
        "restart",
        "rm",
        "config",
        "node",
        "image",
        "token",
        "controller",
        "agent",
        "version",
        "completion",
    ];
    let all = stdout(&run(&["--help"]));
    for verb in verbs {
        let output = run(&[verb, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{verb}: {}", stderr(&output));
        assert!(all.contains(&format!("\n  {verb} ")), "{verb} is in the list");
    }
    assert!(all.contains("124"), "the exit codes are told");
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [&["nosuch"][..], &["ps", "--nosuch"], &["token"], &[], &["rm"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = run(&["ps", "--server", "https://example.org"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("http://"), "{}", stderr(&output));
}

#[test]
fn words_that_name_nothing_are_2_and_say_why() {
    let long = "x".repeat(100_000);
    let hostile = ["", ".", "Shop", "../../etc", "a b", "shop.web/1", "sh\u{1b}[2Jop", "-", &long];
    for verb in ["stop", "start", "restart", "scale", "wait", "rm"] {
        for word in hostile {
            let word = if verb == "scale" { format!("{word}=1") } else { word.to_owned() };
            let output = run(&[verb, "--server", "http://127.0.0.1:1", "--", &word]);
            assert_eq!(output.status.code(), Some(2), "{verb} {word:?}: {}", stderr(&output));
        }
        assert_eq!(run(&[verb]).status.code(), Some(2), "{verb} of nothing");
    }
    for number in ["shop=1", "shop.web", "shop.web=-1", "shop.web=99999999999", "shop.web=1x"] {
        let output = run(&["scale", number]);
        assert_eq!(output.status.code(), Some(2), "{number}");
        assert!(stderr(&output).contains("expected"), "{}", stderr(&output));
    }
    assert_eq!(run(&["wait", "shop", "--for", "luck"]).status.code(), Some(2));
}

#[test]
fn completion_is_there_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completion", shell]);
        assert!(output.status.success(), "{shell}");
        assert!(stdout(&output).contains("limpet"), "{shell}");
        assert!(!stdout(&output).contains("keeper"), "{shell}: the keeper is nobody's verb");
    }
}

#[test]
fn nobody_there_is_3_and_says_where_it_looked() {
    // Port 1 is nobody's.
    let output = run(&["ps", "--server", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(3));
    let said = stderr(&output);
    assert!(said.contains("http://127.0.0.1:1 (from --server"), "{said}");
    assert!(said.contains("limpet up"), "{said}");
}

#[test]
fn a_proxy_of_the_environment_is_not_asked() {
    let mut command = limpet();
    command.env("http_proxy", "http://127.0.0.1:9").env("ALL_PROXY", "http://127.0.0.1:9");
    let output = command.args(["ps", "--server", "http://127.0.0.1:1"]).output().unwrap();
    assert!(!stderr(&output).contains("127.0.0.1:9"), "{}", stderr(&output));
}

#[test]
fn config_shows_the_file_as_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("compose.yaml");
    std::fs::write(&file, COMPOSE).unwrap();
    let config = |more: &[&str]| {
        let output = limpet().arg("config").arg("-f").arg(&file).args(more).output().unwrap();
        assert!(output.status.success(), "{more:?}: {}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(config(&["--services"]), "web\nworker\n");
    assert_eq!(config(&["--images"]), "busybox\nnginx:1.27\n");
    assert_eq!(config(&["-q"]), "");
    let json: serde_json::Value = serde_json::from_str(&config(&["--format", "json"])).unwrap();
    assert_eq!(json["name"], "shop");
    assert_eq!(json["services"]["web"]["image"], "nginx:1.27");
    assert_eq!(json["services"]["worker"]["deploy"]["replicas"], 2);
    let yaml = config(&[]);
    assert!(yaml.contains("image: nginx:1.27"), "{yaml}");
    assert!(config(&["-p", "other"]).contains("name: other"));
}

#[test]
fn config_finds_the_file_and_reads_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("compose.yaml"), COMPOSE).unwrap();
    let output =
        limpet().args(["config", "--services"]).current_dir(folder.path()).output().unwrap();
    assert_eq!(stdout(&output), "web\nworker\n", "{}", stderr(&output));

    let mut command = limpet();
    command.args(["config", "-f", "-", "--services"]).current_dir(folder.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let text = "services: {one: {image: a}}\n";
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert_eq!(stdout(&child.wait_with_output().unwrap()), "one\n");
}

#[test]
fn an_error_in_the_file_has_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("compose.yaml");
    std::fs::write(&file, "services:\n  web:\n    imge: nginx\n").unwrap();
    let output = limpet().arg("config").arg("-f").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("compose.yaml:3:5"), "{said}");
    assert!(said.contains("imge"), "{said}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut command = limpet();
    command.args(["completion", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_plan_needs_the_controller_but_first_a_file_without_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("compose.yaml");
    let nobody = ["--server", "http://127.0.0.1:1", "-f"];
    for verb in [&["plan"][..], &["apply", "--dry-run"]] {
        std::fs::write(&file, "name: a\nservices: {one: {image: b}}\n").unwrap();
        let output = limpet().args(verb).args(nobody).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{verb:?}: {}", stderr(&output));
        std::fs::write(&file, "services: {one: {imge: b}}\n").unwrap();
        let output = limpet().args(verb).args(nobody).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{verb:?}");
        assert!(stderr(&output).contains("imge"), "{}", stderr(&output));
    }
}
