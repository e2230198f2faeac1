//! Tables of what a spec becomes.

use std::sync::Arc;

use limpet_protocol::id::SpecHash;
use limpet_protocol::spec::*;
use serde_json::{Value, json};

use super::*;
use crate::image::PreparedImage;

const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

fn facts() -> NodeFacts {
    NodeFacts {
        version: String::new(),
        bounding_capabilities: ALL_CAPABILITIES & !(1 << 24),
        hard_limits: [("nofile", Some(20_000)), ("core", None)]
            .map(|(name, limit)| (name.to_owned(), limit))
            .into(),
        oom_score_adj: 100,
        controllers: ["cpu", "cpuset", "memory", "pids", "devices"].map(str::to_owned).into(),
        counts_swap: true,
        seccomp: true,
        processors: 2,
    }
}

fn spec() -> Spec {
    Spec::new("shop".parse().unwrap(), "web".parse().unwrap(), ImageSource::new("web"))
}

fn planned(spec: Spec, image: Value) -> Result<(Plan, Value), Unsupported> {
    planned_in(spec, image, None)
}

fn planned_in(
    spec: Spec,
    image: Value,
    network: Option<ContainerNetwork>,
) -> Result<(Plan, Value), Unsupported> {
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": image,
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    let request = ContainerRequest {
        id: "shop.web.1.3".parse().unwrap(),
        spec: Arc::new(spec),
        spec_hash: SpecHash([0; 32]),
        image: Arc::new(PreparedImage {
            digest: String::new(),
            check: None,
            config: serde_json::from_value(config).unwrap(),
            layers: vec!["/layers/b".into(), "/layers/a".into()],
        }),
        network,
    };
    let paths = RuntimePaths {
        run: "/run/limpet".into(),
        data: "/var/lib/limpet".into(),
        cgroup_parent: "/limpet".to_owned(),
    };
    let plan = plan(&request, &facts(), &paths)?;
    let config: Value = serde_json::from_slice(&plan.config.0).unwrap();
    let whole: oci_spec::runtime::Spec = serde_json::from_value(config.clone()).unwrap();
    assert!(whole.linux().is_some());
    Ok((plan, config))
}

fn image() -> Value {
    json!({"Cmd": ["serve"], "Entrypoint": ["/entry"], "Env": ["PATH=/bin", "A=image", "B=image"]})
}

#[test]
fn the_defaults_are_safe() {
    let (plan, config) = planned(spec(), image()).unwrap();
    let process = &config["process"];
    assert_eq!(process["noNewPrivileges"], json!(true));
    assert_eq!(process["oomScoreAdj"], json!(100));
    let bounding = process["capabilities"]["bounding"].as_array().unwrap();
    assert_eq!(bounding.len(), 14);
    assert!(!bounding.contains(&json!("CAP_SYS_ADMIN")));
    assert_eq!(process["capabilities"].get("inheritable"), None);
    assert_eq!(process["rlimits"], json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 20000}]));
    let linux = &config["linux"];
    assert_eq!(linux["cgroupsPath"], json!("/limpet/shop.web.1.3"));
    assert_eq!(linux["resources"]["pids"]["limit"], json!(2048));
    let first = &linux["resources"]["devices"][0];
    assert_eq!((&first["allow"], &first["access"]), (&json!(false), &json!("rwm")));
    assert_eq!(linux["seccomp"]["defaultAction"], json!("SCMP_ACT_ERRNO"));
    assert!(linux["maskedPaths"].as_array().unwrap().contains(&json!("/proc/kcore")));
    let targets: Vec<&str> = config["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["destination"].as_str().unwrap())
        .collect();
    assert!(!targets.iter().any(|target| target.starts_with("/sys/fs/cgroup")), "{targets:?}");
    assert!(targets.contains(&"/etc/resolv.conf"));
    assert!(plan.own_network && !plan.open_stdin);
    assert_eq!(plan.hostname, "shop.web.1\n");
}

#[test]
fn what_is_run_follows_docker() {
    let some = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let table = [
        (None, None, vec!["/entry", "serve"]),
        (None, some(&["other"]), vec!["/entry", "other"]),
        (some(&["/own"]), None, vec!["/own"]),
        (some(&["/own"]), some(&["x"]), vec!["/own", "x"]),
        (some(&[]), some(&["x"]), vec!["x"]),
        (None, some(&[]), vec!["/entry"]),
    ];
    for (entrypoint, command, expected) in table {
        let mut spec = spec();
        (spec.process.entrypoint, spec.process.command) = (entrypoint, command);
        let (_, config) = planned(spec, image()).unwrap();
        assert_eq!(config["process"]["args"], json!(expected));
    }
    let error = planned(spec(), json!({})).unwrap_err();
    assert!(error.0.contains("set `command`"), "{error}");
}

#[test]
fn the_service_has_the_last_word_on_the_environment() {
    let mut spec = spec();
    spec.process.environment =
        [("B", "service"), ("C", "x=y")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let (_, config) = planned(spec, image()).unwrap();
    let expected = ["PATH=/bin", "HOSTNAME=shop.web.1", "A=image", "B=service", "C=x=y"];
    assert_eq!(config["process"]["env"], json!(expected));
}

#[test]
fn capabilities_are_added_and_dropped() {
    let chosen = |add: &[&str], drop: &[&str], privileged: bool| {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let mut spec = spec();
        spec.security = Security {
            cap_add: owned(add),
            cap_drop: owned(drop),
            privileged,
            ..Security::default()
        };
        let (_, config) = planned(spec, image())?;
        Ok(config["process"]["capabilities"]["bounding"].as_array().unwrap().len())
    };
    let table: [(&[&str], &[&str], bool, usize); 8] = [
        (&["NET_ADMIN"], &[], false, 15),
        (&["cap_net_admin"], &["ALL"], false, 1),
        (&[], &["ALL"], false, 0),
        (&[], &["MKNOD", "NET_RAW"], false, 12),
        (&["ALL"], &["SYS_ADMIN"], false, 39),
        // The keeper itself has it not.
        (&["SYS_RESOURCE"], &[], false, 14),
        (&[], &[], true, 40),
        (&["CHOWN"], &["CHOWN"], false, 14),
    ];
    for (add, drop, privileged, expected) in table {
        assert_eq!(
            chosen(add, drop, privileged),
            Ok::<_, Unsupported>(expected),
            "{add:?} {drop:?}"
        );
    }
    assert!(chosen(&["FLY"], &[], false).unwrap_err().0.contains("FLY"));
}

#[test]
fn limits_become_cgroup_values() {
    let mut spec = spec();
    spec.resources = Resources {
        memory_limit_bytes: Some(32 << 20),
        memory_reservation_bytes: Some(16 << 20),
        cpu_limit_millis: Some(500),
        cpu_shares: Some(512),
        cpuset: Some("1".to_owned()),
        pids_limit: Some(2),
        ..Resources::default()
    };
    let (_, config) = planned(spec.clone(), image()).unwrap();
    let resources = &config["linux"]["resources"];
    assert_eq!(
        resources["memory"],
        json!({"limit": 32 << 20, "reservation": 16 << 20, "swap": 64 << 20})
    );
    assert_eq!(
        resources["cpu"],
        json!({"quota": 50_000, "period": 100_000, "shares": 512, "cpus": "1"})
    );
    assert_eq!(resources["pids"]["limit"], json!(16));
    spec.resources.memory_limit_bytes = Some(1 << 20);
    assert!(planned(spec, image()).unwrap_err().0.contains("6m"));
}

#[test]
fn what_cannot_be_had_is_refused_with_advice() {
    type Change = fn(&mut Spec);
    let table: [(Change, &str); 3] = [
        (
            |spec| drop(spec.security.sysctls.insert("vm.swappiness".into(), "1".into())),
            "on the node itself",
        ),
        (
            |spec| spec.process.ulimits = [("fun".into(), Ulimit { soft: 1, hard: 1 })].into(),
            "nofile",
        ),
        (
            |spec| drop(spec.network.extra_hosts.insert("h".into(), "host-gateway".into())),
            "network_mode: host",
        ),
    ];
    for (change, advice) in table {
        let mut spec = spec();
        change(&mut spec);
        let error = planned(spec, image()).unwrap_err();
        assert!(error.0.contains(advice), "{error}");
    }
}

#[test]
fn privileged_and_unconfined_open_what_they_say() {
    let mut open = spec();
    open.security.seccomp_unconfined = true;
    let (_, config) = planned(open, image()).unwrap();
    assert_eq!(config["linux"].get("seccomp"), None);
    assert_eq!(config["process"]["noNewPrivileges"], json!(true));
    let mut open = spec();
    open.security.privileged = true;
    let (_, config) = planned(open, image()).unwrap();
    assert_eq!(config["linux"].get("maskedPaths"), None);
    assert_eq!(config["process"].get("noNewPrivileges"), None);
    assert_eq!(config["linux"]["resources"]["devices"][0]["allow"], json!(true));
}

#[test]
fn a_network_that_is_there_is_joined_and_its_names_are_asked_for() {
    let mut spec = spec();
    spec.network.extra_hosts = [("node".into(), "host-gateway".into())].into();
    spec.network.dns = vec!["9.9.9.9".into()];
    let network = ContainerNetwork {
        namespace: "/proc/7/fd/9".into(),
        addresses: vec!["10.129.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
        gateway: "10.129.0.1".parse().ok(),
    };
    let (plan, config) = planned_in(spec, image(), Some(network)).unwrap();
    let namespaces = config["linux"]["namespaces"].as_array().unwrap();
    assert!(namespaces.contains(&json!({"type": "network", "path": "/proc/7/fd/9"})));
    assert_eq!(plan.resolv_conf.as_deref(), Some("nameserver 10.129.0.1\n"));
    assert_eq!(plan.resolv_search, "limpet");
    assert_eq!(
        plan.hosts,
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         10.129.0.5\tshop.web.1\nfd00::5\tshop.web.1\n10.129.0.1\tnode\n"
    );
}
