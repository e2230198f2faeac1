//! Containers find and reach each other: names, balancing, isolation, published ports, other nodes.
//!
//! Each node is a network namespace of its own; whoever asks from outside does so at the hub.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use limpet_tests::fleet::Fleet;
use limpet_tests::process::wait_for;

const PATIENCE: Duration = Duration::from_secs(5);

/// A fleet with nodes at a site and the images that the services here are made of.
fn fleet(nodes: &[&str]) -> Fleet {
    let mut fleet = Fleet::on_a_site();
    fleet.load_image(&limpet_images::demo_archive());
    fleet.load_image(&limpet_images::shell_archive().unwrap());
    for node in nodes {
        fleet.add_node(node, &[&format!("role={node}")]);
    }
    fleet
}

/// A service of the demo image that says who it is on port 8080.
fn web(name: &str, more: &str) -> String {
    format!(
        "
  {name}:
    image: limpet-demo
    command: [web, '0.0.0.0:8080']
    x-probe: {{ready: {{tcp: {{port: 8080}}, interval: 100ms}}}}
    stop_grace_period: 1s
{more}"
    )
}

/// A service to ask from.
fn client(name: &str, more: &str) -> String {
    format!(
        "
  {name}:
    image: shell
    command: [sleep, '100000']
    stop_grace_period: 0s
{more}"
    )
}

fn on(node: &str, replicas: u32) -> String {
    format!(
        "    deploy: {{replicas: {replicas}, placement: {{constraints: [node.labels.role == {node}]}}}}\n"
    )
}

/// What a shell in an instance writes; none if it fails.
fn shell(fleet: &Fleet, instance: &str, script: &str) -> Option<String> {
    let output = fleet.try_limpet(&["exec", instance, "--", "bash", "-c", script]);
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Who answered, and how often; `nobody` if nobody did.
type Answers = BTreeMap<String, u32>;

/// A shell command that asks a web server once and writes what it says, or `nobody`.
fn asking(host: &str, port: u16) -> String {
    let talk = format!(
        r"exec 3<> /dev/tcp/{host}/{port} && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3"
    );
    format!(r#"timeout 3 bash -c "{talk}" 2> /dev/null | grep '^hello from' || echo nobody"#)
}

/// Who answers an instance that asks `count` times.
fn who_answers(fleet: &Fleet, instance: &str, (host, port): (&str, u16), count: u32) -> Answers {
    let asking = asking(host, port);
    let script = format!("for i in {{1..{count}}}; do {asking}; done");
    let said = shell(fleet, instance, &script).unwrap_or_default();
    let mut answers = Answers::new();
    for line in said.lines() {
        *answers.entry(line.trim_start_matches("hello from ").to_owned()).or_default() += 1;
    }
    answers
}

/// What an HTTP server says to somebody at a place of the site.
fn get(fleet: &Fleet, place: &str, address: &str) -> Result<String, String> {
    let address: SocketAddr = address.parse().unwrap();
    let said = |error: std::io::Error| error.to_string();
    fleet.site().at(place, || {
        let mut connection = TcpStream::connect_timeout(&address, PATIENCE).map_err(said)?;
        connection.set_read_timeout(Some(PATIENCE)).map_err(said)?;
        connection.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").map_err(said)?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).map_err(said)?;
        let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned();
        Ok(body.trim_start_matches("hello from ").to_owned())
    })
}

#[test]
fn on_a_node_services_find_each_other_and_only_those_of_their_networks() {
    let fleet = fleet(&["n1"]);
    let networks = "\nnetworks: {front: {}, back: {internal: true}}\n";
    let compose = format!(
        "services:{}{}{}{}{networks}",
        web("web", "    deploy: {replicas: 3}\n    networks: {front: {aliases: [shop]}}\n"),
        web("db", "    networks: [back]\n"),
        client(
            "both",
            "    networks: [front, back]\n    sysctls: {net.ipv4.ip_unprivileged_port_start: 7}\n",
        ),
        client("outer", "    networks: [front]\n"),
    );
    fleet.apply("shop", &compose, &["--wait"]);
    // Its sysctls are there, and no hindrance to what is run in it later.
    let first_port = shell(&fleet, "both", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start");
    assert_eq!(first_port.as_deref(), Some("7\n"));

    // By its name, its alias, and an instance's name; evenly over what is ready.
    let all =
        BTreeMap::from(["shop.web.1", "shop.web.2", "shop.web.3"].map(|it| (it.to_owned(), 4)));
    assert_eq!(who_answers(&fleet, "both", ("web", 8080), 12), all);
    assert_eq!(who_answers(&fleet, "outer", ("shop", 8080), 12), all);
    let second = BTreeMap::from([("shop.web.2".to_owned(), 1)]);
    assert_eq!(who_answers(&fleet, "outer", ("shop-web-2", 8080), 1), second);

    // `back` is for its members.
    assert!(who_answers(&fleet, "both", ("db", 8080), 1).contains_key("shop.db.1"));
    assert_eq!(shell(&fleet, "outer", "getent hosts db"), None, "the name is not known there");
    let address = wait_for("the address of db", || {
        let all = fleet.instances();
        all.iter().find(|it| it["service"] == "db")?["address"].as_str().map(str::to_owned)
    });
    let direct = |instance| who_answers(&fleet, instance, (&address, 8080), 1);
    assert!(direct("both").contains_key("shop.db.1"));
    assert!(direct("outer").contains_key("nobody"), "nor does the address lead there");

    // Neither the broker nor anything else of the node is reached.
    let broker = (fleet.site().host(), fleet.mqtt_port());
    let connect = format!("timeout 3 bash -c 'exec 3<> /dev/tcp/{}/{}'", broker.0, broker.1);
    assert_eq!(shell(&fleet, "outer", &connect), None);

    // What dies leaves, and what takes its place comes.
    fleet.limpet(&["stop", "shop.web"]);
    wait_for("nobody to answer", || {
        let answers = who_answers(&fleet, "outer", ("web", 8080), 1);
        answers.contains_key("nobody").then_some(())
    });
    fleet.limpet(&["start", "shop.web"]);
    wait_for("all to answer again", || {
        let answers = who_answers(&fleet, "outer", ("web", 8080), 3);
        (answers.keys().eq(all.keys())).then_some(())
    });

    // Nothing is left of it.
    fleet.limpet(&["rm", "shop"]);
    wait_for("the node's own devices to be all", || {
        let devices = fleet.site().devices("n1");
        devices.iter().all(|it| ["lo", "uplink"].contains(&it.as_str())).then_some(())
    });
}

#[test]
fn published_ports_lead_to_instances_here_and_elsewhere() {
    let fleet = fleet(&["n1", "n2"]);
    let ports =
        "    ports:\n      - '8000:8080'\n      - {target: 8080, published: 8001, mode: host}\n";
    let compose = format!(
        "services:{}{}",
        web("web", &format!("{ports}{}", on("n1", 1))),
        client("other", &on("n2", 1)),
    );
    fleet.apply("shop", &compose, &["--wait"]);
    let [one, two] = ["n1", "n2"].map(|node| fleet.site().address(node));
    let answers =
        |place: &str, address: &str, port: u16| get(&fleet, place, &format!("{address}:{port}"));
    let web = Ok("shop.web.1".to_owned());
    assert_eq!(answers("hub", &one, 8000), web);
    assert_eq!(answers("hub", &one, 8001), web);
    assert_eq!(answers("n1", "127.0.0.1", 8000), web, "the node itself too");
    // A node of the application that does not run it leads to one that does.
    wait_for("the other node to lead there", || (answers("hub", &two, 8000) == web).then_some(()));
    assert!(answers("hub", &two, 8001).is_err(), "`mode: host` is for the instance's node alone");
    assert!(answers("hub", &one, 8080).is_err(), "what is not published is not reached");
}

#[test]
fn nodes_reach_each_other_also_without_a_controller_and_after_a_partition() {
    let mut fleet = fleet(&["n1", "n2"]);
    let compose = format!("services:{}{}", web("web", &on("n1", 2)), client("ask", &on("n2", 1)),);
    fleet.apply("shop", &compose, &["--wait"]);
    let asks = |fleet: &Fleet| who_answers(fleet, "ask", ("web", 8080), 4);
    let both = BTreeMap::from(["shop.web.1", "shop.web.2"].map(|it| (it.to_owned(), 2)));
    wait_for("both to answer from the other node", || (asks(&fleet) == both).then_some(()));

    // Parted and joined again.
    fleet.site().part("n1", "n2");
    wait_for("nobody to answer", || asks(&fleet).contains_key("nobody").then_some(()));
    fleet.site().join("n1", "n2");
    wait_for("both to answer again", || (asks(&fleet) == both).then_some(()));

    // The controller is gone; an instance dies and is replaced, and the other node follows. What asks
    // writes down who answered: nobody can look in without a controller.
    let script = format!("while true; do {}; sleep 0.1; done > /tmp/answers", asking("web", 8080));
    shell(&fleet, "ask", &format!("({script}) > /dev/null 2>&1 &"));
    fleet.kill_controller();
    let pid = fleet.node_mut("n1").container_pids()[0];
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    wait_for("another process in its place", || {
        let pids = fleet.node_mut("n1").container_pids();
        (pids.len() == 2 && !pids.contains(&pid)).then_some(())
    });
    // What it wrote since, read from outside.
    let asker = fleet.node("n2").container_pids()[0];
    let answers = || std::fs::read_to_string(format!("/proc/{asker}/root/tmp/answers")).unwrap();
    let before = answers().len();
    wait_for("both to answer while there is no controller", || {
        let said = answers();
        let new = &said[before..];
        (new.contains("shop.web.1") && new.contains("shop.web.2")).then_some(())
    });
    fleet.start_controller();
    fleet.wait_ready("n2");
    wait_for("both to answer, one of them anew", || (asks(&fleet) == both).then_some(()));
}

#[test]
fn an_agent_that_starts_again_finds_its_network_as_it_was() {
    let mut fleet = fleet(&["n1"]);
    let compose = format!(
        "services:{}{}\nnetworks: {{default: {{enable_ipv6: true}}}}\n",
        web("web", "    deploy: {replicas: 2}\n"),
        client("ask", ""),
    );
    fleet.apply("shop", &compose, &["--wait"]);
    let both = BTreeMap::from(["shop.web.1", "shop.web.2"].map(|it| (it.to_owned(), 2)));
    let asks = |fleet: &Fleet| who_answers(fleet, "ask", ("web", 8080), 4);
    assert_eq!(asks(&fleet), both);
    let address = |fleet: &Fleet| shell(fleet, "ask", "cat /etc/hosts; getent ahosts web");
    let before = address(&fleet);
    assert!(before.as_ref().is_some_and(|it| it.contains("\nfd")), "{before:?}");
    fleet.node_mut("n1").kill_agent();
    fleet.start_agent("n1");
    fleet.wait_ready("n1");
    wait_for("both to answer", || (asks(&fleet) == both).then_some(()));
    assert_eq!(address(&fleet), before);
}

#[test]
fn a_service_can_share_the_network_of_another() {
    let fleet = fleet(&["n1"]);
    let compose = format!(
        "services:{}{}",
        web("web", ""),
        client("beside", "    network_mode: service:web\n"),
    );
    fleet.apply("shop", &compose, &["--wait"]);
    let answer = BTreeMap::from([("shop.web.1".to_owned(), 1)]);
    assert_eq!(who_answers(&fleet, "beside", ("127.0.0.1", 8080), 1), answer);
}

#[test]
fn a_connection_to_another_node_outlives_the_agents() {
    let mut fleet = fleet(&["n1", "n2"]);
    // Labels of the first start are not those of the next.
    let on = |node| format!("    deploy: {{placement: {{constraints: [node.id == {node}]}}}}\n");
    let compose = format!("services:{}{}", web("web", &on("n1")), client("ask", &on("n2")));
    fleet.apply("shop", &compose, &["--wait"]);
    wait_for("an answer from the other node", || {
        who_answers(&fleet, "ask", ("web", 8080), 1).contains_key("shop.web.1").then_some(())
    });
    // A request that takes as long as the agents need to end and to begin again.
    let talk = r"exec 3<> /dev/tcp/web/8080 && printf 'GET / HTTP/1.0\r\n' >&3 && : > /tmp/talks
        until [ -e /tmp/go ]; do printf 'x: y\r\n' >&3; sleep 0.2; done
        printf '\r\n' >&3; cat <&3 > /tmp/said; : > /tmp/over";
    shell(&fleet, "ask", &format!("({talk}) > /dev/null 2>&1 &"));
    let is_there = |fleet: &Fleet, file: &str| shell(fleet, "ask", &format!("[ -e {file} ]"));
    wait_for("a connection", || is_there(&fleet, "/tmp/talks"));
    for node in ["n1", "n2"] {
        fleet.node_mut(node).kill_agent();
        fleet.start_agent(node);
        fleet.wait_ready(node);
    }
    shell(&fleet, "ask", ": > /tmp/go");
    wait_for("the end of the connection", || is_there(&fleet, "/tmp/over"));
    let said = shell(&fleet, "ask", "cat /tmp/said").unwrap();
    assert!(said.contains("hello from shop.web.1"), "{said}");
}
