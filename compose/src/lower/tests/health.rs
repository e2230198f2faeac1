//! Health checks and probes, and who waits for them.

use super::*;

#[test]
fn health_checks() {
    use limpet_protocol::spec::HealthTest::{self, Command, Image, None as Nothing, Shell};
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let test = |keys: &str| -> HealthTest { spec(keys).healthcheck.unwrap().test };
    for (keys, expected) in [
        (
            "healthcheck: {test: wget -q localhost || exit 1}",
            Shell("wget -q localhost || exit 1".into()),
        ),
        (
            "healthcheck: {test: [CMD, wget, -q, localhost]}",
            Command(words(&["wget", "-q", "localhost"])),
        ),
        ("healthcheck: {test: [CMD-SHELL, a | b]}", Shell("a | b".into())),
        ("healthcheck: {test: [NONE]}", Nothing),
        ("healthcheck: {disable: true}", Nothing),
        ("healthcheck: {test: a, disable: true}", Nothing),
        ("healthcheck: {test: a, disable: false}", Shell("a".into())),
        ("healthcheck: {interval: 5s}", Image),
        ("healthcheck: {test: []}", Image),
    ] {
        assert_eq!(test(keys), expected, "{keys}");
    }
    assert_eq!(spec("").healthcheck, None);
    let whole = spec(
        "healthcheck: {test: a, interval: 1m30s, timeout: 500ms, retries: 5, start_period: 40s, \
         start_interval: 2s}",
    );
    let check = whole.healthcheck.unwrap();
    let times =
        [check.interval_ms, check.timeout_ms, check.start_period_ms, check.start_interval_ms];
    assert_eq!(times, [Some(90_000), Some(500), Some(40_000), Some(2_000)]);
    assert_eq!(check.retries, Some(5));
    refused(
        "healthcheck: {test: [wget, x]}",
        &["s.healthcheck.test: expected NONE, CMD or CMD-SHELL"],
    );
    refused("healthcheck: {test: [CMD]}", &["s.healthcheck.test: CMD is followed by"]);
    refused(
        "healthcheck: {test: [CMD-SHELL, a, b]}",
        &["s.healthcheck.test: CMD-SHELL is followed"],
    );
    refused("healthcheck: {test: [NONE, a]}", &["s.healthcheck.test: NONE is followed by"]);
    refused("healthcheck: {test: a, retries: -1}", &["s.healthcheck.retries"]);
}

#[test]
fn probes() {
    let probes = spec(
        "x-probe: {startup: {tcp: {port: 5432}, interval: 1s, failure_threshold: 60}, live: {command: \
         [pg_isready, -q]}, ready: {http: {port: 8080, path: /health?deep=1, headers: {Host: shop, \
         X-Probe: 1}}, initial_delay: 500ms, timeout: 2s, success_threshold: 2}}",
    )
    .probes;
    let numbers = |probe: &Option<Probe>| {
        let it = probe.as_ref().unwrap();
        let times = (it.initial_delay_ms, it.interval_ms, it.timeout_ms);
        (times, it.success_threshold, it.failure_threshold)
    };
    // The defaults are those of Kubernetes.
    assert_eq!(numbers(&probes.live), ((0, 10_000, 1_000), 1, 3));
    assert_eq!(numbers(&probes.startup), ((0, 1_000, 1_000), 1, 60));
    assert_eq!(numbers(&probes.ready), ((500, 10_000, 2_000), 2, 3));
    let words = ["pg_isready", "-q"].map(str::to_owned).to_vec();
    assert_eq!(probes.live.unwrap().action, ProbeAction::Command(words));
    let headers = [("Host", "shop"), ("X-Probe", "1")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let http = ProbeAction::Http {
        port: 8080,
        path: "/health?deep=1".to_owned(),
        headers: headers.into(),
    };
    assert_eq!(probes.ready.unwrap().action, http);
    let short = spec("x-probe: {ready: {http: {port: 80}}}").probes.ready.unwrap().action;
    assert!(matches!(short, ProbeAction::Http { path, .. } if path == "/"));
    assert_eq!(spec("x-probes: {ready: 1}, x-other: [1]").probes, Default::default());
    for (keys, reason) in [
        ("x-probe: 1", "s.x-probe: expected some of startup, live, ready"),
        ("x-probe: {redy: {tcp: {port: 1}}}", "s.x-probe.redy: unknown key `redy`"),
        ("x-probe: {ready: {}}", "s.x-probe.ready: expected one of http, tcp, command, found none"),
        (
            "x-probe: {ready: {tcp: {port: 1}, command: [a]}}",
            "s.x-probe.ready: expected one of http, tcp, command, found tcp and command",
        ),
        ("x-probe: {ready: {tcp: {port: 0}}}", "s.x-probe.ready.tcp.port: expected a port"),
        ("x-probe: {ready: {tcp: {}}}", "s.x-probe.ready.tcp: `port` is missing"),
        ("x-probe: {ready: {http: {port: 1, path: health}}}", "http.path: expected a path"),
        ("x-probe: {ready: {http: {port: 1, path: \"/a b\"}}}", "http.path: expected a path"),
        (
            "x-probe: {ready: {http: {port: 1, headers: {\"a b\": c}}}}",
            "http.headers.a b: \"a b\" is no header",
        ),
        (
            "x-probe: {ready: {http: {port: 1, headers: {a: \"b\\r\\nc: d\"}}}}",
            "http.headers.a: \"a\" is no header",
        ),
        ("x-probe: {ready: {command: a b}}", "s.x-probe.ready.command: expected a program"),
        (
            "x-probe: {ready: {tcp: {port: 1}, interval: 1ms}}",
            "ready.interval: expected a duration",
        ),
        ("x-probe: {ready: {tcp: {port: 1}, timeout: 0s}}", "ready.timeout: expected a duration"),
        ("x-probe: {ready: {tcp: {port: 1}, failure_threshold: 0}}", "failure_threshold: expected"),
        (
            "x-probe: {live: {tcp: {port: 1}, success_threshold: 2}}",
            "live.success_threshold: only a ready probe",
        ),
    ] {
        refused(keys, &[reason]);
    }
}

#[test]
fn who_waits_for_the_healthy_needs_somebody_who_can_be() {
    let of = |on: &str| {
        project(&format!(
            "services:\n  a: {{image: i, depends_on: {{b: {{condition: service_healthy}}}}}}\n  \
             b: {{image: i, {on}}}\n"
        ))
    };
    for fine in [
        "healthcheck: {test: a}",
        "x-probe: {ready: {tcp: {port: 1}}}",
        "healthcheck: {interval: 1s}",
    ] {
        let project = of(fine);
        assert!(project.to_application().is_ok() && project.warnings.is_empty(), "{fine}");
    }
    let unknown = of("");
    assert!(unknown.to_application().is_ok());
    let warning = unknown.warnings.iter().map(|one| one.one_line()).collect::<String>();
    assert!(warning.contains("services.a.depends_on.b: `b` has no `healthcheck`"), "{warning}");
    for never in ["healthcheck: {disable: true}", "healthcheck: {test: [NONE]}"] {
        let errors = of(never).to_application().unwrap_err();
        let line = errors[0].one_line();
        assert!(line.starts_with("compose.yaml:2:"), "{line}");
        assert!(line.contains("`b` has its health check disabled"), "{line}");
    }
}
