//! How many instances there are, where, in which order, and how they are updated.

use super::*;

#[test]
fn how_many_and_where() {
    let one = |keys| service(keys).mode;
    assert_eq!(one(""), Mode::Replicated { replicas: 1 });
    assert_eq!(one("scale: 3"), Mode::Replicated { replicas: 3 });
    assert_eq!(one("deploy: {replicas: '0'}"), Mode::Replicated { replicas: 0 });
    assert_eq!(one("deploy: {mode: global}"), Mode::Global);
    let service = service(
        "labels: {c: 1}, deploy: {labels: [s=1], placement: {max_replicas_per_node: 2, \
         preferences: [{spread: node.labels.zone}], constraints: [node.labels.site==a b, \
         'node.platform.arch != x86_64', node.id == n, node.hostname==h, node.platform.os==linux]}}",
    );
    let placement = &service.placement;
    assert_eq!((placement.max_replicas_per_node, placement.spread[0].as_str()), (Some(2), "zone"));
    let shown: Vec<_> =
        placement.constraints.iter().map(|c| (&c.attribute, c.equal, c.value.as_str())).collect();
    assert_eq!(
        shown,
        [
            (&Attribute::Label("site".to_owned()), true, "a b"),
            (&Attribute::Architecture, false, "x86_64"),
            (&Attribute::Id, true, "n"),
            (&Attribute::Hostname, true, "h"),
            (&Attribute::Os, true, "linux"),
        ]
    );
    assert_eq!((service.labels["s"].as_str(), service.spec.labels["c"].as_str()), ("1", "1"));
    refused("deploy: {mode: globl}", &["services.s.deploy.mode"]);
    refused("scale: 2, deploy: {replicas: 3}", &["services.s.scale"]);
    refused("deploy: {mode: global, replicas: 3}", &["once on each node"]);
    refused("deploy: {replicas: 99999}", &["from 0 to 10000"]);
    let bad = "deploy: {placement: {constraints: [node.role == manager, a, node.id==, x.y == 1]}}";
    refused(bad, &["label the nodes", "is no constraint", "no value", "no attribute"]);
    refused("deploy: {placement: {preferences: [{spread: zone}]}}", &["node.labels.KEY"]);
}

#[test]
fn updates() {
    use limpet_protocol::application::FailureAction::{Continue, Pause, Rollback};
    use limpet_protocol::application::UpdatePolicy;
    use limpet_protocol::assignment::UpdateOrder::{StartFirst, StopFirst};
    let plain = service("deploy: {update_config: {}}");
    assert_eq!((plain.update, plain.rollback), (UpdatePolicy::default(), UpdatePolicy::default()));
    let service = service(
        "deploy: {update_config: {parallelism: 2, delay: 10s, failure_action: rollback, \
         monitor: 1m, max_failure_ratio: 0.25, order: start-first}, \
         rollback_config: {parallelism: 0, failure_action: continue, monitor: 0s}}",
    );
    let update = UpdatePolicy {
        parallelism: 2,
        delay_ms: 10_000,
        failure_action: Rollback,
        monitor_ms: 60_000,
        max_failure_ppm: 250_000,
        order: StartFirst,
    };
    assert_eq!(service.update, update);
    let back = service.rollback;
    assert_eq!((back.parallelism, back.failure_action, back.monitor_ms), (0, Continue, 0));
    assert_eq!((back.order, UpdatePolicy::default().failure_action), (StopFirst, Pause));
    refused(
        "deploy: {update_config: {parallelism: -1, delay: 8d, max_failure_ratio: 2, \
         failure_action: stop}, rollback_config: {failure_action: rollback}}",
        &["from 0 to", "longer than a week", "from 0 to 1", "pause, continue or", "rolled back"],
    );
}

#[test]
fn waves() {
    use limpet_protocol::application::{Portion, Wave};
    assert_eq!(service("deploy: {update_config: {}}").waves, None);
    let found = service(
        "deploy: {x-rollout: {waves: [{nodes: node.labels.ring == canary}, {percent: 25%}, \
         {nodes: [node.labels.site == a, node.platform.arch == arm]}], success: 95%, \
         abort: {failures: 10%}, max_unavailable: 2}}",
    );
    assert_eq!(found.update.max_failure_ppm, 1_000_000, "the waves say what is too much");
    let waves = found.waves.unwrap();
    assert!(matches!(&waves.waves[0], Wave::Nodes(all) if all[0].value == "canary"));
    assert_eq!(waves.waves[1], Wave::Percent(25));
    assert!(matches!(&waves.waves[2], Wave::Nodes(all) if all.len() == 2));
    assert_eq!((waves.success_percent, waves.abort), (95, Some(Portion::Percent(10))));
    assert_eq!(waves.max_unavailable, Some(Portion::Count(2)));
    let both = "deploy: {update_config: {max_failure_ratio: 0.1}, x-rollout: {success: 90%}}";
    assert_eq!(service(both).update.max_failure_ppm, 100_000);
    refused(
        "deploy: {x-rollout: {waves: [{percent: 0%}, {nodes: ring}, {}, {percent: 5%, nodes: x}], \
         success: many, abort: {failures: -1, x: 1}, max_unavailable: 101%, pace: 1}}",
        &[
            "share such as 25%",
            "is no constraint",
            "either `nodes` or `percent`",
            "share such as 95%",
            "x-rollout.abort.failures",
            "no key \"x\"",
            "x-rollout.max_unavailable",
            "no key \"pace\"",
        ],
    );
    refused("deploy: {x-rollout: fast}", &["expected a mapping"]);
}

#[test]
fn dependencies() {
    let application = application(
        "services:\n  a: {image: i, depends_on: {b: {condition: service_completed_successfully, \
         restart: true}, c: {condition: service_healthy}, gone: {condition: service_started, \
         required: false}}}\n  b: {image: i}\n  c: {image: i}\n",
    );
    let a = application.services.values().next().unwrap();
    let shown: Vec<String> = a
        .spec
        .depends_on
        .iter()
        .map(|one| format!("{} {:?} {} {}", one.service, one.condition, one.restart, one.required))
        .collect();
    assert_eq!(shown, ["b ServiceCompletedSuccessfully true true", "c ServiceHealthy false true"]);
}

#[test]
fn jobs_run_to_an_end() {
    let job = |completions, parallelism| Mode::ReplicatedJob { completions, parallelism };
    let rows = [
        ("deploy: {mode: replicated-job}", job(1, 1)),
        ("deploy: {mode: replicated-job, replicas: 5}", job(5, 5)),
        ("scale: 4, deploy: {mode: replicated-job, x-job: {parallelism: 2}}", job(4, 2)),
        ("deploy: {mode: replicated-job, x-job: {completions: 9, parallelism: 3}}", job(9, 3)),
        ("deploy: {mode: global-job}", Mode::GlobalJob),
    ];
    for (keys, mode) in rows {
        assert_eq!(service(keys).mode, mode, "{keys}");
    }
    let restart = |keys: &str| {
        let policy = spec(&format!("deploy: {{mode: replicated-job, {keys}}}")).restart;
        (policy.condition, policy.max_attempts)
    };
    use RestartCondition::{None as Never, OnFailure};
    assert_eq!(restart("x-job: {}"), (OnFailure, None));
    assert_eq!(restart("x-job: {retries: 3}"), (OnFailure, Some(3)));
    assert_eq!(restart("x-job: {retries: 0}"), (Never, None));
    assert_eq!(restart("restart_policy: {max_attempts: 2}"), (OnFailure, Some(2)));
    assert_eq!(restart("restart_policy: {condition: none}"), (Never, None));
    let wrong = [
        ("deploy: {mode: global-job, replicas: 2}", "once on each node"),
        ("deploy: {mode: global-job, x-job: {completions: 2}}", "once on each node"),
        ("deploy: {mode: replicated-job, restart_policy: {condition: any}}", "a job ends"),
        ("restart: always, deploy: {mode: replicated-job}", "a job ends"),
        ("deploy: {mode: replicated-job, update_config: {delay: 1s}}", "a job is not updated"),
        ("deploy: {x-job: {retries: 1}}", "is no job"),
        ("deploy: {mode: replicated-job, x-job: {complections: 2}}", "did you mean `completions`"),
        ("deploy: {mode: replicated-job, x-job: {parallelism: 0}}", "from 1 to"),
        ("deploy: {mode: replicated-job, replicas: 2, x-job: {completions: 3}}", "2 replicas"),
    ];
    for (keys, reason) in wrong {
        refused(keys, &[reason]);
    }
}

#[test]
fn priorities_and_volumes_are_facts_of_placing() {
    assert_eq!(service("deploy: {x-priority: -5}").priority, -5);
    assert_eq!(service("").priority, 0);
    refused("deploy: {x-priority: high}", &["services.s.deploy.x-priority"]);
    assert!(service("deploy: {x-volumes: move}").placement.leaves_volumes);
    assert!(!service("deploy: {x-volumes: keep}").placement.leaves_volumes);
    refused("deploy: {x-volumes: stay}", &["services.s.deploy.x-volumes"]);
}

#[test]
fn windows_of_waves() {
    let window = |keys: &str| {
        let waves = service(&format!("deploy: {{x-rollout: {{window: {{{keys}}}}}}}")).waves;
        let window = waves.unwrap().window.unwrap();
        (window.opens, window.length_ms, window.zone)
    };
    let zone = "CET-1CEST,M3.5.0,M10.5.0/3";
    assert_eq!(
        window(&format!("opens: '0 2 * * mon-fri', for: 3h, time_zone: '{zone}'")),
        ("0 2 * * mon-fri".to_owned(), 10_800_000, zone.to_owned())
    );
    assert_eq!(window("opens: '@daily', for: 90m").1, 5_400_000);
    for (keys, reason) in [
        ("opens: '0 2 * * *'", "a window needs `opens` and `for`"),
        ("opens: '0 2 * *', for: 1h", "five are needed"),
        ("opens: '0 2 * * *', for: 30s", "from a minute to a week"),
        ("opens: '0 2 * * *', for: 1h, time_zone: Nowhere", "there is no time zone"),
        ("opens: '0 2 * * *', for: 1h, until: 3", "there is no key \"until\""),
    ] {
        refused(&format!("deploy: {{x-rollout: {{window: {{{keys}}}}}}}"), &[reason]);
    }
}
