//! What `deploy.x-autoscale` says, and what is said of what is wrong in it.

use limpet_protocol::application::{Mode, Service};
use limpet_protocol::scale::{MetricSource, Pace, Per, Select, Target};

use crate::{LoadOptions, MemoryFiles, load};

fn read(keys: &str) -> Result<Service, Vec<String>> {
    let text = format!("name: app\nservices:\n  s: {{image: i, {keys}}}\n");
    let files = MemoryFiles::new().with("compose.yaml", &text);
    let lines = |errors: Vec<crate::Diagnostic>| {
        errors.iter().map(|error| error.one_line()).collect::<Vec<String>>()
    };
    let project = load(&LoadOptions::default(), &files).map_err(lines)?;
    let application = project.to_application().map_err(lines)?;
    application.services.into_values().next().ok_or_else(Vec::new)
}

const LIMITS: &str = "resources: {limits: {cpus: '0.5', memory: 64m}}";

fn scaled(keys: &str) -> Service {
    read(&format!("deploy: {{{LIMITS}, x-autoscale: {{{keys}}}}}")).unwrap()
}

#[test]
fn the_whole_of_a_policy() {
    let service = scaled(
        "min: 2, max: 6, cpu: 60%, memory: 75, connections: 100, network: 2m, per: node, \
         up: {window: 0s, step: 100%, pods: 4, every: 15s}, down: {window: 60s, step: 1}, \
         metrics: [{name: queue, http: {port: 9090, service: broker}, value: 0.5}, \
         {name: seen_total, labels: {path: /a}, http: {port: 80, path: /m}, per_second: true, average: 20}]",
    );
    assert_eq!(service.mode, Mode::Replicated { replicas: 1 }, "on one node");
    let policy = service.autoscale.unwrap();
    assert_eq!((policy.per, policy.min, policy.max), (Per::Node, 2, 6));
    assert_eq!((policy.cpu_percent, policy.memory_percent), (Some(60), Some(75)));
    assert_eq!(policy.up, Pace::up(), "the defaults of Kubernetes, written out");
    let down = Pace { window_ms: 60_000, instances: Some(1), every_ms: 15_000, ..Pace::down() };
    assert_eq!(policy.down, down);
    let [connections, network, queue, seen] = &policy.metrics[..] else { panic!("{policy:?}") };
    assert_eq!(connections.source, MetricSource::Connections);
    assert_eq!(connections.target, Target::Average(100_000));
    assert_eq!((&network.source, network.per_second), (&MetricSource::Network, true));
    assert_eq!(network.target, Target::Average(2_097_152_000));
    let broker = Some("broker".parse().unwrap());
    let path = "/metrics".to_owned();
    assert_eq!(queue.source, MetricSource::Http { service: broker, port: 9090, path });
    assert_eq!(queue.target, Target::Value(500));
    assert_eq!((seen.labels["path"].as_str(), seen.per_second), ("/a", true));
    assert_eq!(seen.target, Target::Average(20_000));
}

#[test]
fn a_figure_from_a_topic() {
    let service = read(
        "network_mode: none, deploy: {x-autoscale: {min: 0, max: 3, metrics: [{topic: jobs_open, average: 2.5}]}}",
    );
    let policy = service.unwrap().autoscale.unwrap();
    let [metric] = &policy.metrics[..] else { panic!("{policy:?}") };
    assert_eq!((metric.name.as_str(), &metric.source), ("jobs_open", &MetricSource::Topic));
    assert_eq!(metric.target, Target::Average(2_500));
}

#[test]
fn what_is_wrong_with_a_topic() {
    for (metric, expected) in [
        ("topic: a/b, value: 1", "the metric \"a/b\" cannot be"),
        ("topic: q, name: p, value: 1", "either asked for with `http`"),
        ("topic: q, per_second: true, value: 1", "as one number"),
        ("topic: q", "`average` or `value`"),
    ] {
        let keys =
            format!("deploy: {{{LIMITS}, x-autoscale: {{max: 2, metrics: [{{{metric}}}]}}}}");
        let errors = read(&keys).expect_err(metric);
        assert!(errors.iter().any(|line| line.contains(expected)), "{metric}: {errors:#?}");
    }
}

#[test]
fn what_is_not_said() {
    let policy = scaled("max: 3, cpu: 60%").autoscale.unwrap();
    assert_eq!((policy.min, policy.per), (1, Per::Node));
    assert_eq!((policy.up, policy.down), (Pace::up(), Pace::down()));
    let policy = scaled("max: 3, cpu: 60%, down: {window: 10s}, up: {select: disabled}");
    let policy = policy.autoscale.unwrap();
    assert_eq!(policy.down, Pace { window_ms: 10_000, ..Pace::down() });
    assert_eq!(policy.up, Pace { select: Select::Disabled, ..Pace::up() });
    let whole = scaled("min: 2, max: 3, cpu: 60%, per: application");
    assert_eq!(whole.mode, Mode::Replicated { replicas: 2 }, "it begins with the least");
    assert_eq!(read("command: x").unwrap().autoscale, None);
    let reserved =
        "deploy: {resources: {reservations: {cpus: '0.1'}}, x-autoscale: {max: 2, cpu: 90%}}";
    assert!(read(reserved).unwrap().autoscale.is_some());
}

#[test]
fn what_is_wrong_is_named_where_it_stands() {
    let limited = |keys: &str| format!("deploy: {{{LIMITS}, x-autoscale: {{{keys}}}}}");
    let with =
        |more: &str, keys: &str| format!("{more}, deploy: {{{LIMITS}, x-autoscale: {{{keys}}}}}");
    for (keys, expected) in [
        ("deploy: {x-autoscale: yes}".to_owned(), "x-autoscale: expected some of min, max, cpu"),
        (limited("min: 1, cpu: 60%"), "`max` is missing"),
        (limited("min: 4, max: 2, cpu: 60%"), "x-autoscale.min: the least, 4, is more than"),
        (limited("min: 0, max: 0, cpu: 60%"), "x-autoscale.max: at most none"),
        (limited("max: 5000, cpu: 60%"), "5000 are too many, at most 999"),
        (limited("max: two, cpu: 60%"), "x-autoscale.max: expected a whole number"),
        (limited("max: 2"), "there is no target"),
        (limited("max: 2, cpu: fast"), "x-autoscale.cpu: expected a share such as 60%"),
        (limited("max: 2, cpu: 0%"), "x-autoscale.cpu: a target of 0 %"),
        (limited("max: 2, cpuu: 60%"), "did you mean `cpu`?"),
        ("deploy: {x-autoscale: {max: 2, cpu: 60%}}".to_owned(), "cpu: 60 % of what?"),
        ("deploy: {x-autoscale: {max: 2, memory: 60%}}".to_owned(), "memory: 60 % of what?"),
        (limited("max: 2, cpu: 60%, per: pod"), "x-autoscale.per: expected node or application"),
        (limited("max: 2, cpu: 60%, up: {step: much}"), "up.step: expected a number such as 1"),
        (limited("max: 2, cpu: 60%, up: {step: 1, pods: 2}"), "is a number of instances too"),
        (limited("max: 2, cpu: 60%, down: {window: 2h}"), "x-autoscale.down: 7200000 ms are too"),
        (limited("max: 2, cpu: 60%, down: {windw: 2s}"), "did you mean `window`?"),
        (limited("max: 2, metrics: {}"), "metrics: expected a list of metrics"),
        (
            limited("max: 2, metrics: [{name: q, average: 1}]"),
            "metrics[0]: `http` or `topic` is missing",
        ),
        (limited("max: 2, metrics: [{name: q, http: {port: 1}}]"), "`average` or `value`"),
        (limited("max: 2, metrics: [{name: q, http: {port: 0}, value: 1}]"), "http.port: expected"),
        (limited("max: 2, metrics: [{name: q, http: {port: 1}, value: 0}]"), "a target of 0"),
        (with("scale: 1000", "max: 2, cpu: 60%"), "1000 are too many"),
        (
            with("scale: 5", "max: 2, cpu: 60%, per: application"),
            "5 instances are not within 1 to 2",
        ),
        (limited("max: 2, network: fast"), "x-autoscale.network: expected bytes a second"),
        (with("network_mode: none", "min: 0, max: 2, cpu: 60%"), "with no instance nothing tells"),
        (
            with("ports: [{target: 80, published: 80, mode: host}]", "max: 2, cpu: 60%"),
            "port 80 of the node can be had by one instance only",
        ),
        (
            format!(
                "deploy: {{mode: replicated-job, {LIMITS}, x-autoscale: {{max: 2, cpu: 60%}}}}"
            ),
            "runs that end are not scaled",
        ),
        (
            format!(
                "deploy: {{x-schedule: {{cron: '@daily'}}, {LIMITS}, x-autoscale: {{max: 2, cpu: 60%}}}}"
            ),
            "runs that end are not scaled",
        ),
        (
            format!(
                "deploy: {{mode: global, {LIMITS}, x-autoscale: {{max: 2, cpu: 60%, per: application}}}}"
            ),
            "a global service has one instance on each node",
        ),
    ] {
        let errors = read(&keys).expect_err(&keys);
        assert!(
            errors.iter().any(|line| line.contains(expected)),
            "{keys}: {expected}: {errors:#?}"
        );
        assert!(errors.iter().all(|line| line.starts_with("compose.yaml:3:")), "{errors:#?}");
    }
}
