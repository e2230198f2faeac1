//! One table a part of the spec: what the file says, what the application has, or the error.

use limpet_protocol::application::{Application, Attribute, Mode, Service};
use limpet_protocol::spec::{
    MountSource, NetworkMode, Probe, ProbeAction, PullPolicy, RestartCondition, Spec,
};

mod contents;
mod deploy;
mod health;
mod hooks;

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
    for bad in ["../a", "/a", "a//b", "."] {
        let keys = format!(
            "volumes: [{{type: volume, source: v, target: /b, volume: {{subpath: '{bad}'}}}}]"
        );
        refused(&keys, &["expected a path within the volume"]);
    }
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
fn what_would_misbehave_is_refused_by_name() {
    refused(
        "runtime: x, gpus: all, volumes_from: [a], use_api_socket: true, \
         device_cgroup_rules: ['c 1:3 mr']",
        &["s.runtime", "s.gpus", "s.volumes_from", "s.use_api_socket", "s.device_c"],
    );
    refused("user: \"a\\0b\", environment: {\"A\\0\": b}", &["s.user: a text must", "a name must"]);
    warned("deploy: {x-offline: {min: 1}}", "services.s.deploy.x-offline");
    let text = "services: {s: {image: i}}\nvolumes: {v: {driver: nfs, driver_opts: {a: b}}}\n";
    let errors = project(text).to_application().unwrap_err();
    let keys: Vec<_> = errors.iter().filter_map(|error| error.key_path()).collect();
    assert_eq!(keys, ["volumes.v.driver", "volumes.v.driver_opts"]);
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

#[test]
fn smaller_keys_that_are_honoured() {
    let found = spec(
        "annotations: {a: b}, dns_opt: ['ndots:1'], mem_limit: 64m, memswap_limit: 96m, \
         mem_swappiness: 7, volumes: [{type: volume, source: v, target: /d, volume: {nocopy: true, subpath: a/b}}]",
    );
    assert_eq!(found.annotations["a"], "b");
    assert_eq!(found.network.dns_opt, ["ndots:1"]);
    assert_eq!(found.resources.memory_and_swap_bytes, Some(96 << 20));
    assert_eq!(found.resources.memory_swappiness, Some(7));
    let volume = MountSource::Volume {
        name: "app_v".to_owned(),
        no_copy: true,
        subpath: Some("a/b".to_owned()),
    };
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
