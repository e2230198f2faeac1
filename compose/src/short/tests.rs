//! One table a key with a short syntax: what is written, what becomes of it.

use serde_json::{Value, json};

use crate::canonical;
use crate::diagnostic::Problems;
use crate::node::Source;
use crate::yaml;

/// A service's key in the long syntax, or the first error.
fn long(key: &str, text: &str) -> Result<Value, String> {
    let whole = format!("services: {{s: {{image: i, {key}: {text}}}}}\n");
    let source = Source::new("t.yaml".to_owned(), whole);
    let mut document = yaml::parse(&source).map_err(|error| error.one_line())?.remove(0);
    let mut problems = Problems::default();
    canonical::document(&mut document, &mut problems);
    match problems.errors.first() {
        Some(error) => Err(error.one_line()),
        None => Ok(document.to_json()["services"]["s"][key].clone()),
    }
}

fn table(key: &str, rows: &[(&str, Value)]) {
    for (text, expected) in rows {
        assert_eq!(long(key, text).as_ref(), Ok(expected), "{key}: {text}");
    }
}

fn wrong(key: &str, texts: &[&str]) {
    for text in texts {
        let error = long(key, text).expect_err(text);
        assert!(error.contains(&format!("services.s.{key}")), "{error}");
    }
}

fn port(target: u32, published: Option<&str>, address: Option<&str>, protocol: &str) -> Value {
    let mut port = json!({"mode": "ingress", "target": target, "protocol": protocol});
    if let Some(published) = published {
        port["published"] = json!(published);
    }
    if let Some(address) = address {
        port["host_ip"] = json!(address);
    }
    port
}

#[test]
fn ports() {
    let rows = [
        ("[3000]", json!([port(3000, None, None, "tcp")])),
        ("['8000:80']", json!([port(80, Some("8000"), None, "tcp")])),
        ("[8000:80/udp]", json!([port(80, Some("8000"), None, "udp")])),
        ("['127.0.0.1:8000:80']", json!([port(80, Some("8000"), Some("127.0.0.1"), "tcp")])),
        ("['127.0.0.1::80']", json!([port(80, None, Some("127.0.0.1"), "tcp")])),
        ("['[::1]:1:2']", json!([port(2, Some("1"), Some("::1"), "tcp")])),
        ("['3-4']", json!([port(3, None, None, "tcp"), port(4, None, None, "tcp")])),
        (
            "['13-14:3-4']",
            json!([port(3, Some("13"), None, "tcp"), port(4, Some("14"), None, "tcp")]),
        ),
        ("['8000-9000:80']", json!([port(80, Some("8000-9000"), None, "tcp")])),
        ("[{target: '80', published: 8080}]", json!([port(80, Some("8080"), None, "tcp")])),
    ];
    table("ports", &rows);
    wrong(
        "ports",
        &["[x]", "['1:x']", "['80/abc']", "['1-3:1-2']", "['4-3']", "['99999']", "['a:1:2']", "80"],
    );
    wrong("ports", &["['0-65535']", "[true]", "[{target: x}]", "[{taget: 1}]", "['::::']"]);
}

#[test]
fn volumes() {
    let bind = |source: &str, target: &str| {
        json!({"type": "bind", "source": source, "target": target,
               "bind": {"create_host_path": true}})
    };
    let mut read_only = bind("/a", "/b");
    read_only["read_only"] = json!(true);
    let mut labelled = bind("~/a", "/b");
    labelled["bind"]["selinux"] = json!("z");
    let rows = [
        ("['./a:/b']", json!([bind("./a", "/b")])),
        ("['/a:/b:ro']", json!([read_only])),
        ("['~/a:/b:rw,z']", json!([labelled])),
        ("['v:/b']", json!([{"type": "volume", "source": "v", "target": "/b", "volume": {}}])),
        ("['/b']", json!([{"type": "volume", "target": "/b", "volume": {}}])),
        (
            "[{type: tmpfs, target: /t, tmpfs: {size: 64m}}]",
            json!([{"type": "tmpfs", "target": "/t", "tmpfs": {"size": "67108864"}}]),
        ),
    ];
    table("volumes", &rows);
    wrong(
        "volumes",
        &["[':/b']", "['a:b']", "['b']", "['/a:/b:ro:x']", "[{type: bind, target: /a}]"],
    );
    wrong("volumes", &["[{target: /a}]", "[{type: bnd, source: /a, target: /b}]", "[7]", "[[]]"]);
}

#[test]
fn lists_and_mappings() {
    table(
        "environment",
        &[
            ("[A=1, B, 'C=x=y']", json!({"A": "1", "B": null, "C": "x=y"})),
            (
                "{A: 1, B: , C: true, D: 1.10, E: 022}",
                json!({"A": "1", "B": null, "C": "true", "D": "1.10", "E": "022"}),
            ),
        ],
    );
    wrong("environment", &["[=1]", "[[]]", "x", "{A: []}"]);
    table(
        "extra_hosts",
        &[
            ("[a=1.2.3.4, 'b:::1', 'c=[::1]']", json!(["a=1.2.3.4", "b=::1", "c=::1"])),
            ("{a: 1.2.3.4, b: [x, y]}", json!(["a=1.2.3.4", "b=x", "b=y"])),
        ],
    );
    wrong("extra_hosts", &["[a]", "{a: {}}", "a"]);
    table(
        "depends_on",
        &[
            ("[a]", json!({"a": {"condition": "service_started", "required": true}})),
            (
                "{a: {condition: service_healthy, restart: true, required: false}}",
                json!({"a": {"condition": "service_healthy", "restart": true, "required": false}}),
            ),
        ],
    );
    wrong("depends_on", &["{a: {condition: service_helthy}}", "a", "{a: 1}"]);
    table("networks", &[("[a]", json!({"a": {}})), ("{a: }", json!({"a": null}))]);
    table("dns", &[("1.1.1.1", json!(["1.1.1.1"])), ("[a, b]", json!(["a", "b"]))]);
    table("tmpfs", &[("/a", json!(["/a"])), ("['/a:size=1m']", json!(["/a:size=1m"]))]);
    table(
        "env_file",
        &[
            ("a.env", json!([{"path": "a.env", "required": true}])),
            (
                "[a, {path: b, required: false, format: raw}]",
                json!([{"path": "a", "required": true},
                {"path": "b", "required": false, "format": "raw"}]),
            ),
        ],
    );
    wrong("env_file", &["[1]", "{}"]);
}

#[test]
fn the_rest() {
    table(
        "command",
        &[
            ("a 'b c'", json!(["a", "b c"])),
            ("[a, 1, true]", json!(["a", "1", "true"])),
            ("[]", json!([])),
            ("''", json!([])),
            ("", json!(null)),
        ],
    );
    wrong("command", &["{a: b}", "\"a 'b\"", "[[]]", "true"]);
    table(
        "healthcheck",
        &[
            (
                "{test: a b, interval: 90s}",
                json!({"test": ["CMD-SHELL", "a b"], "interval": "1m30s"}),
            ),
            ("{test: [CMD, a]}", json!({"test": ["CMD", "a"]})),
        ],
    );
    wrong("healthcheck", &["{interval: 10}", "{tst: a}"]);
    table(
        "ulimits",
        &[
            ("{nofile: 5}", json!({"nofile": {"soft": 5, "hard": 5}})),
            ("{nofile: {soft: 1, hard: '2'}}", json!({"nofile": {"soft": 1, "hard": 2}})),
        ],
    );
    let device = |source: &str, target: &str, permissions: &str| json!([{"source": source, "target": target, "permissions": permissions}]);
    table(
        "devices",
        &[
            ("['/dev/a']", device("/dev/a", "/dev/a", "rwm")),
            ("['/dev/a:/dev/b']", device("/dev/a", "/dev/b", "rwm")),
            ("['/dev/a:/dev/b:r']", device("/dev/a", "/dev/b", "r")),
            ("['/dev/a:rw']", device("/dev/a", "/dev/a", "rw")),
        ],
    );
    wrong("devices", &["['/dev/a:/dev/b:x']", "['a:b:c:d']"]);
    table("build", &[(".", json!({"context": "."}))]);
    table("extends", &[("a", json!({"service": "a"}))]);
    table("mem_limit", &[("1.5g", json!("1610612736")), ("1024", json!("1024"))]);
    wrong("mem_limit", &["1x", "[]", "lots"]);
    table("cpus", &[("0.5", json!(0.5)), ("'.5'", json!(0.5)), ("2", json!(2))]);
    wrong("cpus", &["many", "true", ".inf"]);
    table("stop_grace_period", &[("1h", json!("1h0m0s"))]);
    table("tty", &[("yes", json!(true)), ("'false'", json!(false))]);
    wrong("tty", &["maybe"]);
    table("user", &[("1000", json!("1000")), ("'a:b'", json!("a:b"))]);
}

#[test]
fn unknown_keys_are_named_with_their_neighbour() {
    let error = long("imgae", "x").unwrap_err();
    assert_eq!(
        error,
        "t.yaml:1:26: error: services.s.imgae: unknown key `imgae`; did you mean `image`?"
    );
    assert!(long("x-mine", "[1, {a: b}]").is_ok());
    assert!(long("zzzz", "1").unwrap_err().contains("begin with `x-`"));
    let error = long("deploy", "{replica: 2}").unwrap_err();
    assert!(error.contains("did you mean `replicas`?"), "{error}");
}
