//! The verbs against a real controller that has no node: what is kept, shown and refused.

mod support;

use support::{Controller, stderr};

const COMPOSE: &str = "\
name: shop
services:
  web: {image: 'nginx:1'}
  worker: {image: busybox, deploy: {replicas: 2}}
";

#[test]
fn an_application_comes_is_shown_and_goes() {
    let controller = Controller::start();
    let file = controller.file("compose.yaml", COMPOSE);
    let applied = controller.ok(&["apply", "-f", &file]);
    assert!(applied.starts_with("shop: 2 added (revision "), "{applied}");
    assert!(applied.contains("\n  + web\n  + worker\n"), "{applied}");
    let again = controller.ok(&["apply", "-f", &file]);
    assert!(again.starts_with("shop: 2 unchanged"), "{again}");

    let less = controller.file("less.yaml", "name: shop\nservices: {web: {image: 'nginx:2'}}\n");
    let changed = controller.ok(&["apply", "-f", &less]);
    assert!(changed.starts_with("shop: 1 changed, 1 removed"), "{changed}");

    assert!(controller.ok(&["apps", "--no-headers"]).starts_with("shop "));
    assert!(controller.ok(&["ls"]).starts_with("NAME"));
    let services = controller.ok(&["services", "shop", "-o", "json"]);
    let services: serde_json::Value = serde_json::from_str(&services).unwrap();
    assert_eq!(services[0]["application"], "shop");
    assert_eq!(services[0]["image"], "nginx:2");

    let removed = controller.ok(&["rm", "shop"]);
    assert!(removed.starts_with("removed shop (web)"), "{removed}");
    assert_eq!(controller.ok(&["apps", "-o", "json"]), "[]\n");
}

#[test]
fn waiting_without_a_node_says_why() {
    let controller = Controller::start();
    let file = controller.file("compose.yaml", COMPOSE);
    let said = controller.fails(124, &["apply", "-f", &file, "--wait=1s"]);
    assert!(said.contains("shop.web.1: pending"), "{said}");
    let said = controller.fails(124, &["wait", "shop", "--timeout", "300ms"]);
    assert!(said.contains("shop"), "{said}");
    let listed: serde_json::Value =
        serde_json::from_str(&controller.ok(&["ps", "-o", "json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert_eq!(controller.ok(&["ps", "-q", "shop"]).lines().count(), 3);
    assert!(controller.ok(&["ps", "-o", "wide"]).contains("CURRENT"));
}

#[test]
fn services_are_scaled_stopped_started_and_restarted() {
    let controller = Controller::start();
    let file = controller.file("compose.yaml", COMPOSE);
    controller.ok(&["apply", "-f", &file]);
    let scaled = controller.ok(&["scale", "shop.web=3", "shop.worker=0"]);
    assert!(scaled.starts_with("shop.web is scaled (revision "), "{scaled}");
    assert!(scaled.contains("\nshop.worker is scaled (revision "), "{scaled}");
    let again = controller.ok(&["scale", "shop.web=3"]);
    assert!(again.starts_with("shop.web is so already"), "{again}");

    let stopped = controller.ok(&["stop", "shop", "--wait=30s"]);
    assert!(stopped.contains("shop.web stops") && stopped.contains("shop.worker stops"));
    let services = controller.ok(&["services", "shop", "-o", "json"]);
    let services: serde_json::Value = serde_json::from_str(&services).unwrap();
    assert_eq!((&services[0]["wanted"], &services[0]["settled"]), (&0.into(), &true.into()));
    let why = services[0]["reasons"][0].as_str().unwrap();
    assert_eq!(why, "stopped by a person: `limpet start shop.web` starts it again");
    assert!(controller.ok(&["services", "shop"]).contains("stopped"));
    assert_eq!(controller.ok(&["ps", "-q", "shop"]), "");
    controller.ok(&["wait", "shop", "--for", "gone", "--timeout", "30s"]);
    controller.ok(&["wait", "shop", "--timeout", "30s"]);

    assert!(controller.ok(&["start", "shop.web"]).starts_with("shop.web starts"));
    let restarted = controller.ok(&["restart", "shop"]);
    assert!(restarted.contains("shop.web restarts") && restarted.contains("shop.worker restarts"));
    let said = controller.fails(124, &["restart", "shop.web", "--wait=300ms"]);
    assert!(said.contains("shop.web.1: pending"), "{said}");
    // An apply starts what was stopped, brings the numbers back, and restarts nothing.
    controller.ok(&["stop", "shop.worker"]);
    let applied = controller.ok(&["apply", "-f", &file]);
    assert!(applied.starts_with("shop: 2 changed"), "{applied}");
    assert!(controller.ok(&["apply", "-f", &file]).starts_with("shop: 2 unchanged"));

    for verb in ["stop", "start", "restart", "wait"] {
        for missing in ["nosuch", "shop.nosuch"] {
            assert!(controller.fails(4, &[verb, missing]).contains("nosuch"), "{verb} {missing}");
        }
    }
    assert!(controller.fails(4, &["scale", "shop.nosuch=1"]).contains("it has web, worker"));
    let said = controller.fails(4, &["restart", "web"]);
    assert!(said.contains("did you mean shop.web?"), "{said}");
    let said = controller.fails(4, &["restart", "shop.web.1"]);
    assert!(said.contains("name its service, shop.web"), "{said}");
}

#[test]
fn a_plan_changes_nothing_and_names_the_revision() {
    let controller = Controller::start();
    let file = controller.file("compose.yaml", COMPOSE);
    let plan = controller.ok(&["plan", "-f", &file]);
    assert!(plan.starts_with("shop (it is not there yet)\n  + web  image nginx:1\n"), "{plan}");
    assert!(plan.contains("? shop.web.1 finds no node"), "{plan}");
    assert!(plan.contains("why: no suitable node: no node has joined yet"), "{plan}");
    assert!(plan.contains("limpet apply --if-revision 0"), "{plan}");
    controller.fails(4, &["wait", "shop"]);
    controller.fails(7, &["plan", "-f", &file, "--exit-code"]);
    controller.ok(&["apply", "-f", &file, "--if-revision", "0"]);

    let other = COMPOSE.replace("nginx:1", "nginx:2").replace("replicas: 2", "replicas: 3");
    let other = controller.file("other.yaml", &other);
    let json = controller.ok(&["plan", "-f", &other, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let revision = json["revision"].to_string();
    let keys = |at: usize| json["services"][at]["keys"][0].clone();
    assert_eq!(keys(0), serde_json::json!({"key": "image", "from": "nginx:1", "to": "nginx:2"}));
    assert_eq!(keys(1), serde_json::json!({"key": "deploy.replicas", "from": "2", "to": "3"}));
    let dry = controller.ok(&["apply", "--dry-run", "-f", &other]);
    assert!(dry.contains("~ web  image nginx:1 → nginx:2"), "{dry}");
    // Somebody else is faster.
    controller.ok(&["scale", "shop.web=2"]);
    let said = controller.fails(6, &["apply", "-f", &other, "--if-revision", &revision]);
    assert!(said.contains("is at revision"), "{said}");
}

#[test]
fn it_explains_why_nothing_runs() {
    let controller = Controller::start();
    let file = controller.file("compose.yaml", COMPOSE);
    controller.ok(&["apply", "-f", &file]);
    let text = controller.ok(&["explain", "shop.web"]);
    assert!(text.starts_with("✗ service shop.web: "), "{text}");
    assert!(text.contains("no node has joined yet"), "{text}");
    assert!(text.contains("→ join a node: `limpet token create`"), "{text}");
    let json = controller.ok(&["explain", "shop.worker.2", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["kind"], &json["well"]), (&"instance".into(), &false.into()));
    assert_eq!(json["chain"][0]["state"], "ok");
    assert_eq!(
        (&json["chain"][1]["link"], &json["chain"][1]["state"]),
        (&"placement".into(), &"broken".into())
    );
    assert_eq!(json["chain"][2]["state"], "unknown");
    let whole = controller.ok(&["explain", "shop"]);
    assert!(whole.starts_with("✗ application shop: 2 of 2 are not as wanted"), "{whole}");
    controller.ok(&["stop", "shop.web"]);
    let stopped = controller.ok(&["explain", "shop.web"]);
    assert!(stopped.starts_with("✗ service shop.web: stopped by a person"), "{stopped}");
    for missing in ["nosuch", "shop.nosuch", "shop.web.99", "../x?y", "a b", "", "ä"] {
        let output = controller.limpet(&["explain", "--", missing]);
        assert_eq!(output.status.code(), Some(4), "{missing:?}: {}", stderr(&output));
    }
    controller.fails(4, &["explain", "shop.web", "--kind", "node"]);
    let seen = controller.ok(&["inspect", "shop.worker.2", "-o", "json"]);
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["wanted"]["worker"]["spec"]["image"]["reference"], "busybox");
    assert_eq!(seen["instances"][0]["phase"], "pending");
    assert_eq!(seen["explanation"]["well"], false);
    assert_eq!(seen["services"][0]["name"], "worker");
    assert!(controller.ok(&["inspect", "shop"]).contains("kind: application"));
    controller.fails(4, &["inspect", "nosuch"]);
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let controller = Controller::start();
    let file = controller.file("compose.yaml", COMPOSE);
    for missing in
        [&["rm", "nosuch"][..], &["ps", "nosuch"], &["logs", "nosuch"], &["wait", "nosuch"]]
    {
        assert!(controller.fails(4, missing).contains("nosuch"), "{missing:?}");
    }
    assert!(controller.fails(4, &["node", "inspect", "nosuch"]).contains("nosuch"));
    let refused = controller.fails(5, &["ps", "--token", "wrong"]);
    assert!(refused.contains("--token or LIMPET_TOKEN"), "{refused}");

    controller.fails(6, &["apply", "-f", &file, "--if-revision", "99"]);
    let first = controller.ok(&["apply", "-f", &file, "--if-revision", "0"]);
    assert!(first.contains("2 added"), "{first}");
    controller.fails(6, &["apply", "-f", &file, "--if-revision", "0"]);
}

#[test]
fn without_a_token_it_says_where_one_was_looked_for() {
    let controller = Controller::start();
    let text = std::fs::read_to_string(controller.data().join("client.toml")).unwrap();
    let server = text.lines().find_map(|line| line.strip_prefix("server = ")).unwrap();
    let mut command = support::limpet();
    let output = command.args(["ps", "--server", server.trim_matches('"')]).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("/nonexistent/client.toml"), "{}", stderr(&output));
}

#[test]
fn tokens_are_made_listed_and_ended() {
    let controller = Controller::start();
    let token = controller.ok(&["token", "create", "--ttl", "1h", "--description", "for pump-7"]);
    assert_eq!(token.lines().count(), 1);
    let list = controller.ok(&["token", "ls"]);
    assert!(list.contains("for pump-7"), "{list}");
    assert!(!list.contains(token.trim()), "the token itself is shown once only");

    let admin = controller.ok(&["token", "create", "--admin", "-o", "json"]);
    let admin: serde_json::Value = serde_json::from_str(&admin).unwrap();
    let (id, secret) = (admin["id"].as_str().unwrap(), admin["token"].as_str().unwrap());
    controller.ok(&["ps", "--token", secret]);
    controller.ok(&["token", "rm", id]);
    controller.fails(5, &["ps", "--token", secret]);
    controller.fails(4, &["token", "rm", id]);
    controller.fails(5, &["ps", "--token", token.trim()]);
}

#[test]
fn images_are_loaded_listed_and_removed() {
    let controller = Controller::start();
    let file = controller.folder().join("demo.tar");
    std::fs::write(&file, limpet_images::demo_archive()).unwrap();
    let loaded = controller.ok(&["image", "load", file.to_str().unwrap(), "--no-headers"]);
    let name = loaded.split_whitespace().next().unwrap().to_owned();
    assert!(name.starts_with("limpet-demo"), "{loaded}");

    let mut command = controller.command();
    command.args(["image", "load", "-"]).stdin(std::fs::File::open(&file).unwrap());
    assert!(command.output().unwrap().status.success(), "loading again changes nothing");

    assert!(controller.ok(&["image", "ls"]).contains(&name));
    controller.ok(&["image", "rm", &name]);
    assert_eq!(controller.ok(&["image", "ls", "-o", "json"]), "[]\n");
    controller.fails(4, &["image", "rm", &name]);
    let bad = controller.file("bad.tar", "not an archive");
    let said = controller.fails(1, &["image", "load", &bad]);
    assert!(said.contains("bad.tar"), "{said}");
    controller.fails(1, &["image", "load", "/nonexistent.tar"]);
}

#[test]
fn nodes_that_are_not_there_are_named() {
    let controller = Controller::start();
    for missing in [
        &["node", "label", "nosuch", "a=b"][..],
        &["node", "cordon", "nosuch"],
        &["node", "uncordon", "nosuch"],
        &["node", "drain", "nosuch", "--wait", "--timeout", "1s"],
        &["node", "rm", "nosuch", "--force"],
    ] {
        assert!(controller.fails(4, missing).contains("nosuch"), "{missing:?}");
    }
    let said = controller.fails(2, &["node", "label", "nosuch", "a b=c"]);
    assert!(said.contains("' ' at position 1"), "{said}");
    controller.fails(2, &["node", "drain", "nosuch", "--timeout", "1s"]);
}

#[test]
fn events_and_nodes_are_lists_too() {
    let controller = Controller::start();
    assert_eq!(controller.ok(&["node", "ls", "-o", "json"]), "[]\n");
    assert_eq!(controller.ok(&["node", "ls", "--no-headers"]), "");
    let events = controller.ok(&["events", "-o", "json"]);
    assert!(serde_json::from_str::<Vec<serde_json::Value>>(&events).is_ok(), "{events}");
    let version = controller.ok(&["version"]);
    assert!(version.contains("controller  "), "{version}");
}

#[test]
fn secrets_and_configs_have_names_and_are_never_shown() {
    const CLEAR: &str = "correct horse battery staple";
    let controller = Controller::start();
    let file = controller.file("password.txt", CLEAR);
    for kind in ["secret", "config"] {
        let made = controller.ok(&[kind, "create", "db-password", &file]);
        assert_eq!(made, format!("{kind} db-password has {} bytes\n", CLEAR.len()));
        let taken = controller.fails(6, &[kind, "create", "db-password", &file]);
        assert!(taken.contains("--replace"), "{taken}");
        let mut command = controller.command();
        command.args([kind, "create", "--replace", "db-password", "-"]);
        command.stdin(std::fs::File::open(&file).unwrap());
        assert!(command.output().unwrap().status.success());
        let listed = controller.ok(&[kind, "ls"]);
        assert!(listed.contains("db-password"), "{listed}");
        let shown = controller.ok(&[kind, "inspect", "db-password"]);
        assert!(shown.contains("used_by: []"), "{shown}");
        assert!(!format!("{listed}{shown}").contains(CLEAR));
    }

    let compose = format!(
        "name: shop\nservices:\n  web:\n    image: nginx\n    secrets: [db-password, token]\n\
         secrets:\n  db-password: {{external: true}}\n  token: {{file: {file}}}\n"
    );
    let compose = controller.file("compose.yaml", &compose);
    let shown = controller.ok(&["config", "-f", &compose]);
    assert!(shown.contains("/run/secrets") || shown.contains("source: token"), "{shown}");
    assert!(!shown.contains(CLEAR));
    controller.ok(&["apply", "-f", &compose]);
    assert!(controller.ok(&["apply", "-f", &compose]).contains("1 unchanged"));
    assert!(controller.ok(&["secret", "ls"]).contains("shop.web"));
    controller.ok(&["secret", "rm", "db-password"]);
    let gone = controller.fails(4, &["apply", "-f", &compose]);
    assert!(gone.contains("there is no secret db-password"), "{gone}");
    controller.fails(4, &["secret", "rm", "db-password"]);

    controller.ok(&["secret", "create", "db-password", &file]);
    std::fs::remove_file(&file).unwrap();
    let missing = controller.fails(1, &["apply", "-f", &compose, "--dry-run"]);
    assert!(missing.contains("secret token") && missing.contains("password.txt"), "{missing}");
    let large = controller.folder().join("large");
    std::fs::write(&large, vec![0; 300_000]).unwrap();
    let refused = controller.fails(1, &["secret", "create", "x", large.to_str().unwrap()]);
    assert!(refused.contains("260096 bytes"), "{refused}");
}
