//! What nodes are told of networks: addresses that they keep, services, peers with keys.

use limpet_protocol::application::Placement;
use limpet_protocol::assignment::Assignment;
use limpet_protocol::message::Mesh;
use limpet_protocol::network::NodeNetwork;
use limpet_protocol::spec::{Dependency, DependencyCondition, PublishedPort};

use super::super::fake_agent::facts;
use super::*;

/// A service of the shop in its default network, on one node.
fn networked(name: &str, node: &str) -> Service {
    let mut service = service("shop", name, 1);
    service.spec.network.networks.insert("shop_default".parse().unwrap(), Default::default());
    service.placement = on(node);
    service
}

fn on(node: &str) -> Placement {
    let constraint = Constraint { attribute: Attribute::Id, equal: true, value: node.to_owned() };
    Placement { constraints: vec![constraint], ..Placement::default() }
}

fn of(services: Vec<Service>) -> Application {
    let services = services.into_iter().map(|it| (it.spec.service.clone(), it));
    Application { name: "shop".parse().unwrap(), services: services.collect() }
}

/// `SUBNET | SERVICE ... | PEER@ENDPOINTS ...`
fn told(assignment: &Assignment) -> String {
    let Some(network) = &assignment.network else { return "-".to_owned() };
    let NodeNetwork { subnet, services, peers, .. } = network;
    let services: Vec<&str> = services.iter().map(|it| it.service.as_str()).collect();
    let peers: Vec<String> = peers
        .iter()
        .map(|peer| {
            let endpoints: Vec<String> = peer.endpoints.iter().map(ToString::to_string).collect();
            format!("{}@{}", peer.node, endpoints.join(","))
        })
        .collect();
    format!("{subnet} | {} | {}", services.join(" "), peers.join(" "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_keep_their_addresses_and_know_whom_they_need() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut a = rig.agent(&token, "a").await;
    let mut b = rig.agent(&token, "b").await;
    rig.apply(of(vec![networked("web", "a"), networked("db", "b")])).await;
    let both = ["10.129.0.0/24", "10.129.1.0/24"];
    let has_peer = |it: &Assignment| it.network.as_ref().is_some_and(|it| it.peers.len() == 1);
    let of_a = a.holds(has_peer).await;
    let of_b = b.holds(has_peer).await;
    assert_eq!(told(&of_a), format!("{} | db web | b@192.0.2.7:51821", both[0]));
    assert_eq!(told(&of_b), format!("{} | db web | a@192.0.2.7:51821", both[1]));
    let peer = &of_a.network.as_ref().unwrap().peers[0];
    assert_eq!((&peer.key, peer.subnet), (&b.badge.mesh(1).key, of_b.network.unwrap().subnet));
    assert!(peer.same_site);
    let has = |v: &View| v.instances.iter().filter(|i| i.address.is_some()).count();
    let view = rig.sees("addresses", |v| has(v) == 2).await;
    let addresses: Vec<_> = view.instances.iter().map(|i| i.address.as_deref().unwrap()).collect();
    assert_eq!(addresses, ["10.129.1.2", "10.129.0.2"]);
    let shown = rig.sees("tunnels", |v| {
        v.nodes.len() == 2
            && v.nodes.iter().all(|n| n.network.as_ref().is_some_and(|n| n.tunnel.is_some()))
    });
    let network = shown.await.nodes[0].network.clone().unwrap();
    assert_eq!((network.subnet.as_str(), network.peers), (both[0], 1));
    assert_eq!((network.tunnel.as_deref(), network.endpoints.len()), (Some("userland"), 1));

    // Nothing takes part any more: the addresses stay, also for a controller that starts again.
    let revision = rig.apply(of(vec![service("shop", "idle", 1)])).await;
    a.holds(|it| it.network.is_none()).await;
    rig.settled(revision).await;
    rig = rig.restart(NEVER).await;
    let mut c = rig.agent(&token, "c").await;
    let services = vec![networked("cache", "c"), networked("web", "a"), networked("db", "b")];
    rig.apply(of(services)).await;
    let of_c = c.holds(|it| it.network.as_ref().is_some_and(|it| it.peers.len() == 2)).await;
    assert!(told(&of_c).starts_with("10.129.2.0/24 | cache db web | a@"), "{}", told(&of_c));

    // A node that is removed gives its addresses back.
    drop((a, b));
    rig.commit(Op::Delete(Key::Node("a".parse().unwrap()))).await;
    c.holds(|it| it.network.as_ref().is_some_and(|it| it.peers.len() == 1)).await;
    let mut d = rig.agent(&token, "d").await;
    rig.apply(of(vec![networked("web", "d")])).await;
    let of_d = d.holds(|it| it.network.is_some()).await;
    assert!(told(&of_d).starts_with("10.129.0.0/24 | web"), "{}", told(&of_d));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_a_node_proves_is_told_to_its_peers() {
    let rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut a = rig.agent(&token, "a").await;
    // An agent that is too old to have a key is nobody's peer.
    let badge = joined(rig.address, &token, "b").await;
    let (options, node) = (super::super::fake_agent::options, badge.node.as_str());
    let options = options(rig.address, node, node, &badge.secret);
    let (client, mut eventloop) = rumqttc::v5::AsyncClient::new(options, 16);
    let mut poll = tokio::task::JoinSet::new();
    poll.spawn(async move { while eventloop.poll().await.is_ok() {} });
    let say = async |session: u64, mesh: Option<Mesh>| {
        let presence = NodePresence {
            online: true,
            boot: 1,
            session,
            facts: Some(facts("b")),
            key: None,
            mesh,
        };
        let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
        let topic = Topic::Up(badge.node.clone()).to_string();
        client.publish(topic, qos, true, codec::encode(&presence).unwrap()).await.unwrap();
    };
    say(1, None).await;
    rig.apply(of(vec![networked("web", "a"), networked("db", "b")])).await;
    let first = a.holds(|it| it.network.is_some()).await;
    assert_eq!(told(&first), "10.129.0.0/24 | db web | ");
    let lie = Mesh { key: vec![9; 32], ..badge.mesh(1) };
    say(2, Some(lie)).await;
    say(3, Some(badge.mesh(3))).await;
    let has_peer = |it: &Assignment| it.network.as_ref().is_some_and(|it| it.peers.len() == 1);
    let told_of_b = a.holds(has_peer).await;
    assert_eq!(told_of_b.network.as_ref().unwrap().peers[0].key, badge.mesh(1).key, "no lie");
    // It listens elsewhere: its peers are told.
    say(4, Some(badge.mesh(7))).await;
    a.holds(|it| told(it) == "10.129.0.0/24 | db web | b@192.0.2.7:51827").await;
    let lies = a
        .heard
        .lock()
        .unwrap()
        .iter()
        .any(|it| it.network.iter().flat_map(|it| &it.peers).any(|peer| peer.key == [9; 32]));
    assert!(!lies);
    // An agent that does without networks is nobody's peer any more.
    say(5, None).await;
    a.holds(|it| told(it) == "10.129.0.0/24 | db web | ").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_somebody_out_of_reach_is_told_so() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let _near = rig.agent(&token, "near").await;
    let _far = rig.agent(&token, "far").await;
    let mut web = networked("web", "near");
    web.spec.depends_on.push(Dependency {
        service: "db".parse().unwrap(),
        condition: DependencyCondition::ServiceStarted,
        restart: false,
        required: true,
    });
    let revision = rig.apply(of(vec![web, networked("db", "far")])).await;
    rig.settled(revision).await;
    let view = rig
        .sees("the peer out of reach", |v| {
            v.nodes.iter().any(|n| n.network.as_ref().is_some_and(|n| n.unreachable == ["far"]))
        })
        .await;
    let near = view.nodes.iter().find(|n| n.node == "near").unwrap();
    assert_eq!(
        near.conditions.last().map(String::as_str),
        Some("it does not reach far directly: names stand for instances elsewhere")
    );
    let holds = |v: &View| v.nodes.iter().all(|n| n.wanted_generation == n.observed_generation);
    rig.sees("everybody holds the newest", holds).await;
    let (answer, answered) = oneshot::channel();
    let name = "shop.web.1".to_owned();
    let ask = Request::Explain { subject: crate::answer::Subject::Any, name, answer };
    rig.handle.requests.send(ask).await.unwrap();
    let explained = answered.await.unwrap().1.unwrap();
    let said = explained.summary;
    assert_eq!(said, "shop.db is on far, which near does not reach");
    assert_eq!(rig.wait_event("node_reach_changed").await, 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_of_a_range_stay_where_they_are() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut a = rig.agent(&token, "a").await;
    let web = |replicas: u32, first: u16| {
        let mut web = networked("web", "a");
        web.mode = Mode::Replicated { replicas };
        web.spec.ports = vec![PublishedPort {
            target: 80,
            published: Some((first, 8009)),
            host_ip: None,
            udp: false,
            host_mode: true,
        }];
        of(vec![web])
    };
    let ports = |it: &Assignment| -> Vec<u16> {
        let services = it.network.iter().flat_map(|it| &it.services);
        services.flat_map(|it| &it.ports).map(|port| port.published.unwrap().0).collect()
    };
    rig.apply(web(3, 8000)).await;
    a.holds(|it| ports(it) == [8000, 8001, 8002]).await;
    // Another range lets those stay that are still within it.
    rig.apply(web(3, 8002)).await;
    a.holds(|it| ports(it) == [8002, 8003, 8004]).await;
    let revision = rig.apply(web(2, 8002)).await;
    a.holds(|it| ports(it).len() == 2).await;
    let view = rig.settled(revision).await;
    assert!(view.instances[0].ports.contains(&"8002->80/tcp".to_owned()), "{view:?}");
    let held = ports(&a.held.borrow().as_ref().unwrap().0);
    let generation = a.held.borrow().as_ref().unwrap().0.generation;
    rig = rig.restart(NEVER).await;
    rig.sees("the node", |v| {
        v.nodes.iter().any(|n| n.wanted_generation.ends_with(&format!(".{}", generation.number)))
    })
    .await;
    assert_eq!(rig.store.list(Kind::Subnet).unwrap().1.len(), 1);
    let kept = rig.store.get(&Key::Assignment("a".parse().unwrap())).unwrap().unwrap();
    let kept: Assignment = codec::decode(&kept.value).unwrap();
    assert_eq!((ports(&kept), kept.generation), (held, generation), "nothing was told anew");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_used_up_is_a_reason_and_a_node_that_goes_leaves_room() {
    let dir = tempfile::tempdir().unwrap();
    let small = |settings: &mut Settings| {
        settings.network = ("10.0.0.0/20".parse().unwrap(), 22);
    };
    let mut rig = Rig::start_with(dir, "127.0.0.1:0".parse().unwrap(), small).await;
    let token = rig.token().await;
    let mut agents = vec![];
    for name in ["a", "b", "c", "d"] {
        agents.push(rig.agent(&token, name).await);
    }
    let mut web = networked("web", "a");
    (web.mode, web.placement) = (Mode::Global, Placement::default());
    rig.apply(of(vec![web])).await;
    // The first of four parts has the addresses that stand for services.
    let full = "no suitable node (1 node has no address left in the pool of the fleet)";
    let says = |v: &View| {
        v.instances.iter().any(|i| i.reason.as_deref().is_some_and(|why| why.ends_with(full)))
    };
    let view = rig.sees("the reason", says).await;
    let open = view.instances.iter().find(|i| i.reason.is_some()).unwrap();
    let without =
        open.node.clone().or_else(|| open.reason.as_ref()?.split(' ').next().map(Into::into));
    let without = without.unwrap();
    for agent in &agents {
        let heard = agent.heard.lock().unwrap();
        let bare = heard.iter().any(|it| it.network.is_none() && !it.services.is_empty());
        assert!(!bare, "{} was told of a service before it had addresses", agent.badge.node);
    }
    // The pool stays what it is as long as a node has addresses of it.
    let (dir, listen) = rig.stop().await;
    let other = |settings: &mut Settings| {
        settings.network = ("10.64.0.0/10".parse().unwrap(), 24);
    };
    rig = Rig::start_with(dir, listen, other).await;
    assert_eq!(rig.handle.pool.v4().to_string(), "10.0.0.0/20");
    let gone = ["a", "b", "c", "d"].into_iter().find(|name| *name != without).unwrap();
    rig.commit(Op::Delete(Key::Node(gone.parse().unwrap()))).await;
    let waits = agents.iter().find(|agent| agent.badge.node.as_str() == without).unwrap();
    let mut last = FakeAgent::start(rig.address, waits.badge.clone(), 2).await;
    let given = last.holds(|it| it.network.is_some()).await;
    assert!(told(&given).starts_with("10.0."), "{}", told(&given));
    assert!(told(&given).contains("/22 | web"), "{}", told(&given));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shares_a_network_goes_along() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let mut a = rig.agent(&token, "a").await;
    let mut b = rig.agent(&token, "b").await;
    let pair = |node: &str| {
        let mut side = service("shop", "side", 1);
        side.spec.network.joins = Some("web".parse().unwrap());
        of(vec![networked("web", node), side])
    };
    let has_both = |it: &Assignment| it.services.len() == 2;
    let revision = rig.apply(pair("a")).await;
    a.holds(has_both).await;
    rig.settled(revision).await;
    let revision = rig.apply(pair("b")).await;
    b.holds(has_both).await;
    a.holds(|it| it.services.is_empty()).await;
    rig.settled(revision).await;
    let (answer, answered) = oneshot::channel();
    let name = "shop.side.1".to_owned();
    let ask = Request::Explain { subject: crate::answer::Subject::Any, name, answer };
    rig.handle.requests.send(ask).await.unwrap();
    let chain = answered.await.unwrap().1.unwrap().chain;
    let placement = chain.iter().find(|link| link.link == "placement").unwrap();
    assert_eq!(placement.says, "on node b, where shop.web.1 is, whose network it shares");
    rig.stop().await;
}
