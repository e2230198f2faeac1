//! Networks from the file to the application: what the file says, what the services have, or the error.

use limpet_protocol::application::Application;
use limpet_protocol::spec::{EndpointMode, Network, NetworkMode};

use crate::{LoadOptions, MemoryFiles, load};

/// The application and the warnings of a file in the folder of project `shop`, or the errors.
fn read(text: &str) -> Result<(Application, Vec<String>), Vec<String>> {
    let files = MemoryFiles::new().with("compose.yaml", text);
    let project_name = Some("shop".to_owned());
    let lines = |all: Vec<crate::Diagnostic>| -> Vec<String> {
        all.iter().map(crate::Diagnostic::one_line).collect()
    };
    let project = load(&LoadOptions { project_name, ..LoadOptions::default() }, &files);
    let project = project.map_err(lines)?;
    let application = project.to_application().map_err(lines)?;
    Ok((application, lines(project.warnings)))
}

fn services(services: &str, networks: &str) -> String {
    format!("services: {{{services}}}\nnetworks: {{{networks}}}\n")
}

/// The network of service `a`.
fn network(text: &str) -> Network {
    let (application, _) = read(text).unwrap_or_else(|errors| panic!("{text}: {errors:#?}"));
    application.services[&"a".parse().unwrap()].spec.network.clone()
}

/// `NAME[ALIAS,ALIAS]!6@ADDRESS`: internal is `!`, with IPv6 is `6`.
fn shown(network: &Network) -> String {
    let one =
        |(name, it): (&limpet_protocol::id::NetworkName, &limpet_protocol::spec::Attachment)| {
            let mut text = name.to_string();
            if !it.aliases.is_empty() {
                text = format!("{text}[{}]", it.aliases.join(","));
            }
            text.push_str(if it.internal { "!" } else { "" });
            text.push_str(if it.ipv6 { "6" } else { "" });
            if let Some(address) = it.ipv4_address {
                text = format!("{text}@{address}");
            }
            if let Some(address) = it.ipv6_address {
                text = format!("{text}@{address}");
            }
            text
        };
    network.networks.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn refused(text: &str, expected: &str) {
    let errors = read(text).expect_err(text);
    assert!(errors.iter().any(|line| line.contains(expected)), "{text}: {expected}: {errors:#?}");
    assert!(errors.iter().all(|line| line.starts_with("compose.yaml:")), "{errors:#?}");
}

fn warned(text: &str, expected: &str) {
    let (_, warnings) = read(text).unwrap_or_else(|errors| panic!("{text}: {errors:#?}"));
    assert!(warnings.iter().any(|line| line.contains(expected)), "{text}: {warnings:#?}");
}

#[test]
fn a_service_takes_part_in_what_it_names_or_in_the_default() {
    for (a, top, expected) in [
        ("", "", "shop_default"),
        ("networks: {}", "", "shop_default"),
        ("network_mode: bridge", "", "shop_default"),
        ("network_mode: default", "", "shop_default"),
        ("network_mode: none", "", ""),
        ("network_mode: host", "", ""),
        ("", "default: {name: own, enable_ipv6: true}", "own6"),
        ("", "default: {external: true, name: proxy}", "proxy"),
        ("networks: [back, front]", "back: {internal: true}, front: ", "shop_back! shop_front"),
        ("networks: [default, other]", "other: {external: true}", "other shop_default"),
        (
            "networks: {back: {aliases: [db, api.local, db]}}",
            "back: {driver: overlay}",
            "shop_back[db,api.local]",
        ),
        (
            "networks: {back: {ipv4_address: 172.28.0.9, ipv6_address: 'fd00::9'}}",
            "back: {enable_ipv6: true, ipam: {config: [{subnet: 172.28.0.0/16}, {subnet: 'fd00::/64'}]}}",
            "shop_back6@172.28.0.9@fd00::9",
        ),
        (
            "networks: {far: {ipv4_address: 192.0.2.7}}",
            "far: {external: true, internal: true}",
            "far!@192.0.2.7",
        ),
    ] {
        let found = network(&services(&format!("a: {{image: i, {a}}}"), top));
        assert_eq!(shown(&found), expected, "{a}");
        let host = a.contains("host");
        assert_eq!(found.mode == NetworkMode::Host, host, "{a}");
    }
}

#[test]
fn networks_that_cannot_be_are_refused_where_they_stand() {
    let many: Vec<String> = (0..17).map(|number| format!("n{number}")).collect();
    let all = many.join(": , ");
    let seventeen = format!("networks: [{}]", many.join(", "));
    for (a, top, expected) in [
        ("", "n: {driver: macvlan}", "networks.n.driver: there is no network driver \"macvlan\""),
        ("", "n: {driver: host}", "write `network_mode: host` at the service"),
        ("", "n: {name: 'a b'}", "networks.n.name: \"a b\" is no name for a network"),
        ("", "n: {name: x}, m: {name: x}", "another network of this file is called x"),
        (
            "",
            "n: {ipam: {config: [{subnet: 10.0.0.1/8}]}}",
            "ipam.config[0].subnet: \"10.0.0.1/8\"",
        ),
        (&seventeen, &all, "17 networks, where a service may have 16"),
        ("networks: {n: {aliases: ['a b']}}", "n: ", "networks.n.aliases[0]: \"a b\" is no name"),
        ("networks: {n: {ipv4_address: x}}", "n: ", "expected an IPv4 address"),
        ("networks: {n: {ipv4_address: 172.28.0.9}}", "n: ", "in no subnet of the network shop_n"),
        ("networks: {n: {ipv4_address: 127.0.0.1}}", "n: ", "loopback"),
        (
            "networks: {n: {ipv6_address: 'fd00::1'}}",
            "n: {ipam: {config: [{subnet: 'fd00::/64'}]}}",
            "give the network `enable_ipv6: true`",
        ),
        ("network_mode: 'container:x'", "", "write `network_mode: service:NAME`"),
        ("network_mode: n", "n: ", "name networks under `networks`"),
        ("external_links: [x]", "", "a network with the same `name`"),
    ] {
        refused(&services(&format!("a: {{image: i, {a}}}"), top), expected);
    }
    for (a, top, expected) in [
        ("", "n: {driver_opts: {a: b}}", "networks.n.driver_opts: this key has no effect"),
        ("", "n: {enable_ipv4: false}", "networks.n.enable_ipv4: instances always have"),
        ("", "n: {ipam: {driver: dhcp}}", "networks.n.ipam.driver: addresses are given out"),
        ("networks: {n: {mac_address: '02:00:00:00:00:01'}}", "n: ", "an instance has one device"),
        ("networks: {n: {gw_priority: 1}}", "n: ", "services.a.networks.n.gw_priority"),
    ] {
        warned(&services(&format!("a: {{image: i, {a}}}"), top), expected);
    }
}

#[test]
fn a_fixed_address_has_one_owner_at_a_time() {
    let with = |a: &str, more: &str| {
        services(
            &format!("a: {{image: i, networks: {{n: {{ipv4_address: 10.9.0.7}}{a}}}}}{more}"),
            "n: {ipam: {config: [{subnet: 10.9.0.0/24}]}}, m: {ipam: {config: [{subnet: 10.9.0.0/24}]}}",
        )
    };
    assert!(read(&with("", "")).is_ok());
    assert!(read(&with(", m: {ipv4_address: 10.9.0.7}", "")).is_ok(), "the same in both");
    refused(&with(", m: {ipv4_address: 10.9.0.8}", ""), "another address in another network");
    let twin = ", b: {image: i, networks: {m: {ipv4_address: 10.9.0.7}}}";
    refused(
        &with("", twin),
        "services.b.networks.m.ipv4_address: 10.9.0.7 is the address of service `a`",
    );
    let of = |keys: &str| with("", "").replace("image: i,", &format!("image: i, {keys},"));
    refused(&of("scale: 2"), "several instances cannot have the same address");
    refused(&of("deploy: {mode: global}"), "several instances cannot have the same address");
    refused(&of("deploy: {update_config: {order: start-first}}"), "start-first needs two");
    assert!(
        read(&of("deploy: {mode: replicated-job, replicas: 3, x-job: {parallelism: 1}}")).is_ok()
    );
}

#[test]
fn who_joins_follows_the_other() {
    let pair = |a: &str, b: &str| {
        services(
            &format!("a: {{image: i, network_mode: 'service:b', {a}}}, b: {{image: i, {b}}}"),
            "",
        )
    };
    let (application, warnings) = read(&pair("scale: 2", "scale: 2, ports: [80]")).unwrap();
    let spec = &application.services[&"a".parse().unwrap()].spec;
    assert_eq!(spec.network.joins, Some("b".parse().unwrap()));
    assert!(spec.network.networks.is_empty() && warnings.is_empty());
    assert!(spec.depends_on[0].restart && spec.depends_on[0].service.as_str() == "b");
    let (application, _) = read(&pair("depends_on: [b]", "")).unwrap();
    let spec = &application.services[&"a".parse().unwrap()].spec;
    assert!(spec.depends_on.len() == 1 && spec.depends_on[0].restart);
    for (a, b, expected) in [
        ("ports: [80]", "", "services.a.ports: the service shares the network of `b`"),
        ("hostname: x", "", "services.a.hostname: the service shares"),
        ("dns: [1.1.1.1]", "", "say it of `b`"),
        ("x-bandwidth: {ingress: 1m}", "", "no network of its own that could be limited"),
        ("scale: 2", "", "it has 2 instances, `b` has 1 instance"),
        ("", "deploy: {mode: global}", "it has 1 instance, `b` has one instance on each node"),
        ("", "network_mode: host", "write `network_mode: host` here too"),
        ("", "deploy: {mode: replicated-job}", "not by jobs"),
        ("", "network_mode: 'service:a'", "services wait for each other"),
        ("", "depends_on: [a]", "services wait for each other"),
    ] {
        refused(&pair(a, b), expected);
    }
    let alone = |mode: &str| services(&format!("abc: {{image: i, network_mode: '{mode}'}}"), "");
    refused(&alone("service:acb"), "did you mean `service:abc`");
    refused(&alone("service:x"), "there is no service `x`");
    let chain = "a: {image: i, network_mode: 'service:b'}, b: {image: i, network_mode: 'service:c'}, \
                 c: {image: i}";
    refused(&services(chain, ""), "`b` itself shares the network of `c`");
    let networks = "a: {image: i, network_mode: 'service:b', networks: [n]}, b: {image: i}";
    refused(&services(networks, "n: "), "exclude each other");
}

#[test]
fn a_link_is_a_name_in_common_networks() {
    let text = |web: &str, more: &str| {
        services(
            &format!("a: {{image: i, networks: [x, y]}}, web: {{image: i, {web}}}{more}"),
            "x: , y: ",
        )
    };
    let found = network(&text("networks: [x], links: [a, 'a:database']", ""));
    assert_eq!(shown(&found), "shop_x[database] shop_y");
    let other = ", b: {image: i, networks: [x], links: ['a:database', 'web:w']}";
    assert_eq!(
        shown(&network(&text("networks: [x], links: ['a:database']", other))),
        "shop_x[database] shop_y"
    );
    for (web, more, expected) in [
        ("links: [a]", "", "services.web.links[0]: `web` and `a` have no network in common"),
        ("networks: [x], links: [b]", "", "there is no service `b`"),
        ("networks: [x], links: ['a:b c']", "", "is no name for DNS"),
        ("networks: [x], links: ['a:web']", "", "`web` is `web` in a network"),
        (
            "networks: [x], links: ['a:db']",
            ", b: {image: i, networks: {x: {aliases: [db]}}}",
            "`db` is `b` in a network",
        ),
    ] {
        refused(&text(web, more), expected);
    }
}

#[test]
fn how_a_service_is_reached_and_limited() {
    let of = |keys: &str| network(&services(&format!("a: {{image: i, {keys}}}"), ""));
    assert_eq!(of("").endpoint_mode, EndpointMode::Vip);
    assert_eq!(of("deploy: {endpoint_mode: dnsrr}").endpoint_mode, EndpointMode::Dnsrr);
    let bandwidth = of("x-bandwidth: {ingress: 10m, egress: '512k'}").bandwidth;
    assert_eq!((bandwidth.ingress, bandwidth.egress), (Some(10 << 20), Some(512 << 10)));
    assert_eq!(of("x-bandwidth: {egress: 1000000}").bandwidth.ingress, None);
    assert!(of("x-node-access: true").node_access && !of("x-node-access: false").node_access);
    let one = |keys: &str| services(&format!("a: {{image: i, {keys}}}"), "");
    refused(&one("deploy: {endpoint_mode: rr}"), "expected vip or dnsrr");
    refused(&one("x-bandwidth: 10m"), "services.a.x-bandwidth: expected ingress and egress");
    refused(&one("x-bandwidth: {ingress: 10}"), "expected bytes a second, 1k at least");
    refused(&one("x-bandwidth: {in: 10m}"), "known are ingress, egress");
    refused(&one("x-node-access: maybe"), "services.a.x-node-access: expected true or false");
    warned(&one("network_mode: host, x-node-access: true"), "on the node already");
    warned(&one("network_mode: none, x-node-access: true"), "no way to the node");
}
