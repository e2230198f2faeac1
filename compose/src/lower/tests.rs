//! One table a part of the spec: what the file says, what the application has, or the error.

use limpet_protocol::application::{Application, Attribute, Mode, Service};
use limpet_protocol::spec::{
    MountSource, NetworkMode, Probe, ProbeAction, PullPolicy, RestartCondition, Spec,
};

use crate::{LoadOptions, MemoryFiles, Project, load};

fn project(text: &str) -> Project {
    let files = MemoryFiles::new().with("compose.yaml", text);
    let environment = [("HOME", "/home/me"), ("OUT", "side")];
    let environment = environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let options = LoadOptions { environment, ..LoadOptions::default() };
    load(&options, &files).unwrap_or_else(|errors| panic!("{text}: {errors:#?}"))
}

fn application(text: &str) -> Application {
    project(text).to_application().unwrap_or_else(|errors| panic!("{text}: {errors:#?}"))
}

fn whole(keys: &str) -> String {
    format!(
        "name: app\nservices: {{s: {{image: i, {keys}}}}}\nvolumes: {{v: , n: {{name: own}}, \
             e: {{external: true}}}}\n"
    )
}

fn service(keys: &str) -> Service {
    application(&whole(keys)).services.into_values().next().unwrap()
}

fn spec(keys: &str) -> Spec {
    service(keys).spec
}

fn refused(keys: &str, reasons: &[&str]) {
    let errors = project(&whole(keys)).to_application().expect_err(keys);
    let lines: Vec<String> = errors.iter().map(|error| error.one_line()).collect();
    for reason in reasons {
        assert!(lines.iter().any(|line| line.contains(reason)), "{keys}: {reason}: {lines:#?}");
    }
    assert!(lines.iter().all(|line| line.starts_with("compose.yaml:2:")), "{lines:#?}");
}

fn warned(keys: &str, reason: &str) {
    let project = project(&whole(keys));
    assert!(project.to_application().is_ok(), "{keys}");
    let lines: Vec<String> = project.warnings.iter().map(|one| one.one_line()).collect();
    assert!(lines.iter().any(|line| line.contains(reason)), "{keys}: {lines:#?}");
}

#[test]
fn process() {
    let process = spec(
        "command: a b, entrypoint: [], environment: [A=1, OUT, NONE], working_dir: /w, \
         user: 10:20, group_add: [1, x], hostname: h, domainname: d.e, init: true, tty: true, \
         stdin_open: true, oom_score_adj: 500, ulimits: {nofile: {soft: 1, hard: -1}}",
    )
    .process;
    assert_eq!(process.command.unwrap(), ["a", "b"]);
    assert_eq!(process.entrypoint.unwrap(), [""; 0]);
    let environment: Vec<_> = process.environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(environment, ["A=1", "OUT=side"]);
    assert_eq!(process.user.as_deref(), Some("10:20"));
    assert_eq!(process.group_add, ["1", "x"]);
    assert!(process.init && process.tty && process.stdin_open);
    assert_eq!(process.oom_score_adj, 500);
    assert_eq!((process.ulimits["nofile"].soft, process.ulimits["nofile"].hard), (1, -1));
    assert_eq!(spec("command: , tty: false").process, Default::default());
    refused("oom_score_adj: -5", &["services.s.oom_score_adj", "from 0 to 1000"]);
    refused("ulimits: {nofle: 1, core: {soft: 2, hard: 1}}", &["did you mean `nofile`", "above"]);
    refused("working_dir: rel, hostname: 'a b'", &["absolute path", "host name"]);
}

#[test]
fn resources() {
    let resources = spec(
        "deploy: {resources: {limits: {cpus: '0.5', memory: 64m, pids: 9}, \
         reservations: {cpus: 0.25, memory: 32m}}}, cpu_shares: 512, cpuset: '0-2,4', \
         shm_size: 1m",
    )
    .resources;
    assert_eq!(resources.memory_limit_bytes, Some(64 << 20));
    assert_eq!(resources.memory_reservation_bytes, Some(32 << 20));
    assert_eq!(
        (resources.cpu_limit_millis, resources.cpu_reservation_millis),
        (Some(500), Some(250))
    );
    assert_eq!((resources.cpu_shares, resources.cpuset.as_deref()), (Some(512), Some("0-2,4")));
    assert_eq!((resources.pids_limit, resources.shm_size_bytes), (Some(9), Some(1 << 20)));
    let old = spec("mem_limit: 64m, mem_reservation: 1m, cpus: 2, pids_limit: -1").resources;
    assert_eq!((old.memory_limit_bytes, old.cpu_limit_millis), (Some(64 << 20), Some(2000)));
    assert_eq!((old.memory_reservation_bytes, old.pids_limit), (Some(1 << 20), None));
    assert_eq!(spec("cpu_quota: 50000").resources.cpu_limit_millis, Some(500));
    assert_eq!(spec("cpu_quota: 50, cpu_period: 1000").resources.cpu_limit_millis, Some(50));
    assert_eq!(spec("mem_limit: -1").resources, Default::default());
    let same = "mem_limit: 1g, deploy: {resources: {limits: {memory: 1024m}}}";
    assert_eq!(spec(same).resources.memory_limit_bytes, Some(1 << 30));
    refused(
        "mem_limit: 1g, cpus: 1, pids_limit: 1, \
         deploy: {resources: {limits: {memory: 2g, cpus: 2, pids: 2}}}",
        &["services.s.mem_limit", "services.s.cpus", "services.s.pids_limit"],
    );
    refused("cpus: 1, cpu_quota: 1000", &["thousandths"]);
    refused("mem_limit: 1m, mem_reservation: 2m", &["more memory is reserved"]);
    refused("cpuset: a-b, pids_limit: -2, cpus: -1", &["0-2,4", "from -1", "number of CPUs"]);
}

#[test]
fn security() {
    let security = spec(
        "privileged: true, read_only: true, cap_add: [CAP_NET_ADMIN, sys_time], cap_drop: [ALL], \
         security_opt: ['seccomp=unconfined', 'no-new-privileges:false'], pid: host, ipc: host, \
         sysctls: {net.core.somaxconn: 1}",
    )
    .security;
    assert!(security.privileged && security.read_only && security.seccomp_unconfined);
    assert!(security.allow_new_privileges && security.host_pid && security.host_ipc);
    assert_eq!(
        (security.cap_add, security.cap_drop),
        (vec!["NET_ADMIN".to_owned(), "SYS_TIME".to_owned()], vec!["ALL".to_owned()],)
    );
    assert_eq!(security.sysctls["net.core.somaxconn"], "1");
    let plain = spec("security_opt: [no-new-privileges, 'seccomp:unconfined'], ipc: private");
    assert!(plain.security.seccomp_unconfined && !plain.security.allow_new_privileges);
    refused("security_opt: ['apparmor=x', 'seccomp=./f.json']", &["apparmor=x", "f.json"]);
    refused("cap_add: [NET_ADMN]", &["did you mean `NET_ADMIN`?"]);
    refused("pid: 'service:x', ipc: 'service:x'", &["services.s.pid", "services.s.ipc"]);
    refused("sysctls: [vm.swappiness=1]", &["whole node"]);
}

#[test]
fn mounts() {
    let spec = spec(
        "volumes: ['./a:/a:ro', '~/b:/b', 'v:/c', 'n:/d', 'e:/e', \
         {type: bind, source: /x, target: /f, bind: {create_host_path: false}}, \
         {type: tmpfs, target: /g, tmpfs: {size: 1m, mode: 1777}}], \
         tmpfs: ['/h:size=2m,mode=700,ro', /i], devices: ['/dev/a:/dev/b:r']",
    );
    let shown: Vec<String> = spec
        .mounts
        .iter()
        .map(|mount| {
            let source = match &mount.source {
                MountSource::Bind { path, create } => format!("{path} {create}"),
                MountSource::Volume { name, .. } => name.clone(),
                MountSource::Tmpfs { size_bytes, mode } => format!("{size_bytes:?} {mode:?}"),
            };
            format!("{} {source}{}", mount.target, if mount.read_only { " ro" } else { "" })
        })
        .collect();
    assert_eq!(
        shown,
        [
            "/a /project/a true ro",
            "/b /home/me/b true",
            "/c app_v",
            "/d own",
            "/e e",
            "/f /x false",
            "/g Some(1048576) Some(1023)",
            "/h Some(2097152) Some(448) ro",
            "/i None None",
        ]
    );
    let device = &spec.devices[0];
    assert_eq!(
        (device.host_path.as_str(), device.container_path.as_str(), device.permissions.as_str()),
        ("/dev/a", "/dev/b", "r")
    );
    warned("volumes: [/data/x]", "app_s_data-x");
    warned("tmpfs: ['/a:noexec']", "noexec");
    refused("volumes: ['v:/a'], tmpfs: [/a]", &["mounted at /a already"]);
    refused("tmpfs: [a, '/b:size=x', '/..', /]", &["absolute", "is no size", "\"/..\"", "\"/\""]);
    refused("volumes: [{type: npipe, source: a, target: /b}]", &["no mounts of type"]);
    refused("volumes: [{type: volume, source: v, target: /b, volume: {subpath: a}}]", &["subpath"]);
    refused("devices: ['vendor.com/class=x']", &["CDI"]);
}

#[test]
fn network() {
    let network = spec(
        "network_mode: host, dns: [1.1.1.1], dns_search: a.b, \
         extra_hosts: ['a:::1', 'g:host-gateway']",
    )
    .network;
    assert_eq!(network.mode, NetworkMode::Host);
    assert_eq!(
        (network.extra_hosts["a"].as_str(), network.extra_hosts["g"].as_str()),
        ("::1", "host-gateway"),
        "what the node is called only the node knows"
    );
    assert_eq!((network.dns[0].as_str(), network.dns_search[0].as_str()), ("1.1.1.1", "a.b"));
    assert_eq!(spec("network_mode: none").network.mode, NetworkMode::Isolated);
    warned("ports: [80], network_mode: host", "are those of the node");
    warned("ports: [80], network_mode: none", "nothing reaches them");
    refused("extra_hosts: ['a:b'], dns: [x]", &["NAME=ADDRESS", "services.s.dns[0]"]);
    warned("extra_hosts: ['a:host-gateway']", "x-node-access: true");
    refused("network_mode: none, extra_hosts: ['a:host-gateway']", &["no way to the node"]);
}

#[test]
fn restart_stop_and_log() {
    use RestartCondition::{Any, None as Never, OnFailure};
    for (keys, condition, attempts) in [
        ("", Any, None),
        ("restart: 'no'", Never, None),
        ("restart: no", Never, None),
        ("restart: always", Any, None),
        ("restart: unless-stopped", Any, None),
        ("restart: on-failure", OnFailure, None),
        ("restart: on-failure:3", OnFailure, Some(3)),
        ("deploy: {restart_policy: {condition: none}}", Never, None),
        ("deploy: {restart_policy: {condition: on-failure, max_attempts: 2}}", OnFailure, Some(2)),
    ] {
        let restart = spec(keys).restart;
        assert_eq!((restart.condition, restart.max_attempts), (condition, attempts), "{keys}");
        assert_eq!((restart.delay_ms, restart.window_ms), (0, 0));
    }
    let policy = spec("deploy: {restart_policy: {delay: 5s, window: 2m}}").restart;
    assert_eq!((policy.delay_ms, policy.window_ms), (5000, 120_000));
    warned("restart: 'no', deploy: {restart_policy: {}}", "wins");
    refused("restart: sometimes", &["services.s.restart"]);
    refused("restart: on-failure:x", &["services.s.restart"]);
    let stop = spec("stop_signal: SIGINT, stop_grace_period: 1m30s").stop;
    assert_eq!((stop.signal, stop.grace_period_ms), (Some(2), 90_000));
    refused("stop_signal: SIGWHAT", &["there is no signal"]);
    let log = spec("logging: {driver: local, options: {max-size: 1m, max-file: 3}}").log;
    assert_eq!((log.max_file_bytes, log.max_files), (1 << 20, 3));
    warned("logging: {driver: syslog, options: {tag: x}}", "logging.driver");
    warned("logging: {driver: local, options: {tag: x}}", "logging.options.tag");
    refused("logging: {options: {max-size: big}}", &["logging.options.max-size"]);
}

#[test]
fn image() {
    let image = spec("platform: linux/arm/v7, pull_policy: always").image;
    assert_eq!((image.reference.as_str(), image.pull), ("i", PullPolicy::Always));
    assert_eq!(image.platform.as_deref(), Some("linux/arm/v7"));
    assert_eq!(spec("pull_policy: if_not_present").image.pull, PullPolicy::Missing);
    warned("pull_policy: every_12h", "taken as `missing`");
    warned("build: .", "services.s.build");
    refused("pull_policy: build", &["does not build"]);
    refused("platform: windows/amd64", &["linux/ARCHITECTURE"]);
    let none = project("services:\n  a: {user: x}\n  b: {build: .}\n").to_application();
    let lines: Vec<_> = none.unwrap_err().iter().map(|error| error.one_line()).collect();
    assert!(lines[0].starts_with("compose.yaml:2:6: error: services.a: `image` is missing"));
    assert!(lines[1].starts_with("compose.yaml:3:7: error: services.b.build: Limpet does not"));
}

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
fn what_would_misbehave_is_refused_by_name() {
    refused(
        "runtime: x, gpus: all, volumes_from: [a], use_api_socket: true, \
         post_start: [{command: a}], device_cgroup_rules: ['c 1:3 mr']",
        &[
            "s.runtime",
            "s.gpus",
            "s.volumes_from",
            "s.use_api_socket",
            "s.post_start",
            "s.device_c",
        ],
    );
    refused("user: \"a\\0b\", environment: {\"A\\0\": b}", &["s.user: a text must", "a name must"]);
    warned("deploy: {x-autoscale: {min: 1}}", "services.s.deploy.x-autoscale");
    let text = "services: {s: {image: i}}\nvolumes: {v: {driver: nfs, driver_opts: {a: b}}}\n";
    let errors = project(text).to_application().unwrap_err();
    let keys: Vec<_> = errors.iter().filter_map(|error| error.key_path()).collect();
    assert_eq!(keys, ["volumes.v.driver", "volumes.v.driver_opts"]);
}

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
fn published_ports() {
    let ports = |list: &str| {
        let ports = spec(&format!("ports: {list}")).ports;
        let text = |port: &limpet_protocol::spec::PublishedPort| {
            let published = port.published.map_or("any".to_owned(), |(a, b)| format!("{a}-{b}"));
            let address = port.host_ip.clone().unwrap_or_default();
            let mode = if port.host_mode { " host" } else { "" };
            let protocol = if port.udp { "udp" } else { "tcp" };
            format!("{address}:{published}>{}/{protocol}{mode}", port.target)
        };
        ports.iter().map(text).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        ports("[80, '8080:80', '127.0.0.1:53:53/udp']"),
        ":any>80/tcp :8080-8080>80/tcp 127.0.0.1:53-53>53/udp"
    );
    assert_eq!(ports("['8000-8001:80-81']"), ":8000-8000>80/tcp :8001-8001>81/tcp");
    assert_eq!(ports("['8000-8009:80', '80', '80']"), ":8000-8009>80/tcp :any>80/tcp");
    let long = "[{target: 80, published: '8080', mode: host, host_ip: '::1', protocol: udp}]";
    assert_eq!(ports(long), "::1:8080-8080>80/udp host");
    for (list, reason) in [
        ("[{target: 0}]", "no port from 1 to 65535"),
        ("[{target: 80, published: '9-8'}]", "no range of ports"),
        ("[{target: 80, mode: hosts}]", "no mode hosts"),
        ("[{target: 80, protocol: icmp}]", "no protocol icmp"),
        ("[{target: 80, host_ip: me}]", "is no address of a node"),
        ("['224.0.0.1:80:80']", "stands for many machines"),
        ("['9:9/sctp']", "services.s.ports[0]: ports of sctp are not forwarded"),
    ] {
        refused(&format!("ports: {list}"), &[reason]);
    }
    assert!(project(&whole("ports: [80], expose: [80, '90-91/udp']")).warnings.is_empty());
    refused("expose: [web]", &["services.s.expose[0]: expected a port such as 8080"]);
    refused("ports: ['1-1025:1-1025']", &["more than 1024 ports"]);
}

fn contents_of(text: &str) -> (Application, Vec<crate::ContentSource>) {
    let options = crate::LoadOptions {
        files: vec!["compose.yaml".into()],
        project_name: Some("shop".to_owned()),
        environment: [("TOKEN".to_owned(), "hunter2".to_owned())].into(),
        ..Default::default()
    };
    let files = crate::MemoryFiles::new().with("compose.yaml", text);
    let project = crate::load(&options, &files).unwrap();
    assert!(!format!("{project:?}").contains("hunter2"), "a secret is not printed");
    assert!(!project.to_yaml().contains("hunter2"));
    (project.to_application().unwrap(), project.contents().to_vec())
}

#[test]
fn configs_and_secrets_in_short_and_long_syntax() {
    use crate::{ContentFrom, ContentKind};
    let (application, sources) = contents_of(
        "services:
  a:
    image: i
    configs: [app, {source: inline, target: etc/x.conf, uid: '33', gid: '29', mode: 0o777}]
    secrets: [token, {source: cert, target: tls.pem, mode: 0440}, {source: cert, target: /etc/tls.pem}]
configs:
  app: {file: ./app.conf}
  inline: {content: 'port ${PORT:-80}'}
  unused: {file: ./none}
secrets:
  token: {environment: TOKEN}
  cert: {external: true, name: site-cert}
",
    );
    let spec = &application.services.values().next().unwrap().spec;
    let shown = |mounts: &[limpet_protocol::spec::ContentMount]| -> Vec<String> {
        let show = |m: &limpet_protocol::spec::ContentMount| {
            format!("{} {} {}:{} {:o}", m.name, m.target, m.uid, m.gid, m.mode)
        };
        mounts.iter().map(show).collect()
    };
    assert_eq!(shown(&spec.configs), ["app /app 0:0 444", "inline /etc/x.conf 33:29 555"]);
    assert_eq!(
        shown(&spec.secrets),
        [
            "token /run/secrets/token 0:0 444",
            "cert /run/secrets/tls.pem 0:0 440",
            "cert /etc/tls.pem 0:0 444"
        ]
    );
    let found: Vec<(ContentKind, &str)> =
        sources.iter().map(|source| (source.kind, source.name.as_str())).collect();
    use ContentKind::{Config, Secret};
    assert_eq!(found, [(Config, "app"), (Config, "inline"), (Secret, "cert"), (Secret, "token")]);
    assert_eq!(sources[0].from, ContentFrom::File("/project/app.conf".into()));
    let ContentFrom::Text(text) = &sources[1].from else { panic!() };
    assert_eq!(text.expose(), "port 80");
    assert_eq!(sources[2].from, ContentFrom::External("site-cert".parse().unwrap()));
    let ContentFrom::Text(text) = &sources[3].from else { panic!() };
    assert_eq!(text.expose(), "hunter2");
}

#[test]
fn configs_and_secrets_that_cannot_be() {
    for (service, top, expected) in [
        ("secrets: [s]", "secrets: {s: {}}", "expected one source of content, found nothing"),
        (
            "configs: [s]",
            "configs: {s: {file: ./a, content: b}}",
            "expected one source of content, found file and content",
        ),
        ("secrets: [s]", "secrets: {s: {environment: NOPE}}", "the variable NOPE is not set"),
        ("secrets: [s]", "secrets: {s: {external: true, name: 'a b'}}", "is no name for it"),
        ("secrets: [{source: s, uid: root}]", "secrets: {s: {file: ./a}}", "the number of a user"),
        ("secrets: [{source: s, mode: 9}]", "secrets: {s: {file: ./a}}", "permission bits"),
        ("secrets: [{source: s, target: ../x}]", "secrets: {s: {file: ./a}}", "no path of a file"),
        (
            "secrets: [s, {source: s}]",
            "secrets: {s: {file: ./a}}",
            "something is mounted at /run/secrets/s already",
        ),
        ("secrets: [s]", "secrets: {s: {file: ./a, driver: vault}}", "cannot honour this key"),
    ] {
        let text = format!("services: {{a: {{image: i, {service}}}}}\n{top}\n");
        let options = crate::LoadOptions {
            files: vec!["compose.yaml".into()],
            project_name: Some("shop".to_owned()),
            ..Default::default()
        };
        let files = crate::MemoryFiles::new().with("compose.yaml", &text);
        let said = match crate::load(&options, &files) {
            Ok(project) => project.to_application().unwrap_err(),
            Err(said) => said,
        };
        let said: Vec<String> = said.iter().map(crate::Diagnostic::one_line).collect();
        assert!(said.iter().any(|line| line.contains(expected)), "{text}: {said:#?}");
    }
}

#[test]
fn smaller_keys_that_are_honoured() {
    let found = spec(
        "annotations: {a: b}, dns_opt: ['ndots:1'], mem_limit: 64m, memswap_limit: 96m, \
         mem_swappiness: 7, volumes: [{type: volume, source: v, target: /d, volume: {nocopy: true}}]",
    );
    assert_eq!(found.annotations["a"], "b");
    assert_eq!(found.network.dns_opt, ["ndots:1"]);
    assert_eq!(found.resources.memory_and_swap_bytes, Some(96 << 20));
    assert_eq!(found.resources.memory_swappiness, Some(7));
    let volume = MountSource::Volume { name: "app_v".to_owned(), no_copy: true };
    assert_eq!(found.mounts[0].source, volume);
    let unlimited = spec("mem_limit: 64m, memswap_limit: -1").resources;
    assert_eq!(unlimited.memory_and_swap_bytes, Some(-1));
    refused("memswap_limit: 96m", &["swap is limited together with memory"]);
    refused("mem_limit: 64m, memswap_limit: 32m", &["less than memory alone"]);
    refused("mem_swappiness: 101", &["from 0 to 100"]);
    refused("dns_opt: ['a b']", &["expected an option such as ndots:1"]);
    refused("pid: 'service:web'", &["`host`"]);
    refused("ipc: 'container:x'", &["`host`"]);
    warned("uts: host", "use `hostname`");
}
