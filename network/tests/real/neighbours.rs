//! Nodes that tell each other what they run, through real tunnels.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use limpet_network::neighbours::{NeighbourPeer, Neighbours, PORT, Settings, Told, View};
use limpet_protocol::id::NodeId;
use limpet_protocol::network::{Neighbour, NeighbourInstance};
use tokio::sync::{mpsc, watch};

use crate::place::PATIENCE;
use crate::tunnel::node::{Node, pair};

/// A node that talks.
struct Talking {
    view: Option<watch::Sender<Arc<View>>>,
    told: Receiver<(Told, Instant)>,
    thread: Option<JoinHandle<()>>,
}

impl Talking {
    fn begin(node: &Node, view: View) -> Self {
        let (view, looked) = watch::channel(Arc::new(view));
        let (tell, told) = sync_channel(16);
        let settings = Settings {
            listen: SocketAddr::new(node.address, PORT),
            pools: vec!["10.128.0.0/10".parse().unwrap(), "fd00::/48".parse().unwrap()],
        };
        let talk = async move {
            let (say, mut said) = mpsc::channel(4);
            let neighbours = Neighbours::bind(settings).await.unwrap();
            let pass_on = async {
                while let Some(told) = said.recv().await {
                    tell.send((told, clock())).unwrap();
                }
            };
            tokio::join!(neighbours.run(looked, say), pass_on);
        };
        let thread = node.place.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            std::thread::spawn(move || runtime.unwrap().block_on(talk))
        });
        Self { view: Some(view), told, thread: Some(thread) }
    }

    fn change(&self, view: View) {
        self.view.as_ref().unwrap().send_replace(Arc::new(view));
    }

    fn next(&self) -> Told {
        self.next_with_time().0
    }

    fn next_with_time(&self) -> (Told, Instant) {
        self.told.recv_timeout(PATIENCE).expect("something is told")
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        drop(self.view.take());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

#[expect(clippy::disallowed_methods, reason = "a test measures")]
fn clock() -> Instant {
    Instant::now()
}

fn name(number: u8) -> NodeId {
    format!("n{number}").parse().unwrap()
}

/// What a node runs, each instance with the network it is in.
fn view(number: u8, instances: &[(&str, &str)], peers: &[u8]) -> View {
    let instance = |(at, (id, network)): (usize, &(&str, &str))| NeighbourInstance {
        instance: id.parse().unwrap(),
        attempt: 1,
        addresses: vec![[10, 129, number, u8::try_from(at).unwrap() + 2].into()],
        networks: vec![network.parse().unwrap()],
        hostname: None,
        ready: true,
    };
    let peer = |number: u8| NeighbourPeer {
        gateway: [10, 129, number, 1].into(),
        subnets: vec![format!("10.129.{number}.0/24").parse().unwrap()],
        networks: ["front".parse().unwrap()].into(),
        near: true,
    };
    View {
        own: instances.iter().enumerate().map(instance).collect(),
        peers: peers.iter().map(|number| (name(*number), peer(*number))).collect(),
    }
}

fn ids(told: &Told) -> Option<Vec<String>> {
    let Neighbour { instances } = told.1.as_ref()?;
    Some(instances.iter().map(|instance| instance.instance.to_string()).collect())
}

fn joined() -> Option<[Node; 2]> {
    let [a, b] = pair()?;
    a.know(&[b.peer()]);
    b.know(&[a.peer()]);
    Some([a, b])
}

const WEB: (&str, &str) = ("shop.web.1", "front");
const API: (&str, &str) = ("shop.api.1", "front");
const SECRET: (&str, &str) = ("shop.db.1", "back");

#[test]
fn changes_are_known_at_once_and_only_to_whom_they_concern() {
    let Some([a, b]) = joined() else { return };
    let one = Talking::begin(&a, view(1, &[WEB, SECRET], &[2]));
    let two = Talking::begin(&b, view(2, &[], &[1]));
    assert_eq!(one.next(), (name(2), Some(Neighbour { instances: vec![] })));
    let told = two.next();
    assert_eq!((&told.0, ids(&told)), (&name(1), Some(vec!["shop.web.1".into()])));
    let mut latencies = vec![];
    for turn in 0..50 {
        let instances = if turn % 2 == 0 { vec![WEB, API] } else { vec![WEB] };
        let began = clock();
        one.change(view(1, &instances, &[2]));
        let (told, at) = two.next_with_time();
        assert_eq!(ids(&told).unwrap().len(), instances.len());
        latencies.push(at - began);
    }
    latencies.sort_unstable();
    println!("a change is known after {:?} (median), {:?} (longest)", latencies[25], latencies[49]);
    // One that is no peer any more is gone at once, and comes back.
    two.change(view(2, &[], &[]));
    assert_eq!(two.next(), (name(1), None));
    two.change(view(2, &[], &[1]));
    assert_eq!(ids(&two.next()), Some(vec!["shop.web.1".into()]));
}

#[test]
fn a_peer_that_is_silent_is_gone_until_it_is_heard_again() {
    let Some([a, b]) = joined() else { return };
    let one = Talking::begin(&a, view(1, &[WEB], &[2]));
    let two = Talking::begin(&b, view(2, &[API], &[1]));
    assert_eq!(ids(&one.next()), Some(vec!["shop.api.1".into()]));
    assert_eq!(ids(&two.next()), Some(vec!["shop.web.1".into()]));
    a.place.ip("link set wire down");
    assert_eq!((one.next(), two.next()), ((name(2), None), (name(1), None)));
    // Meanwhile things change.
    one.change(view(1, &[WEB, API], &[2]));
    a.place.ip("link set wire up");
    assert_eq!(ids(&two.next()), Some(vec!["shop.web.1".into(), "shop.api.1".into()]));
    assert_eq!(ids(&one.next()), Some(vec!["shop.api.1".into()]));
}

#[test]
fn an_agent_that_is_replaced_is_not_missed() {
    let Some([a, b]) = joined() else { return };
    let one = Talking::begin(&a, view(1, &[WEB], &[2]));
    let two = Talking::begin(&b, view(2, &[], &[1]));
    assert_eq!(ids(&two.next()), Some(vec!["shop.web.1".into()]));
    drop(one);
    let one = Talking::begin(&a, view(1, &[WEB, API], &[2]));
    assert_eq!(ids(&two.next()), Some(vec!["shop.web.1".into(), "shop.api.1".into()]));
    drop(one);
    // Nobody takes its place: it is gone after the time.
    assert_eq!(two.next(), (name(1), None));
}

#[test]
fn nobody_speaks_for_another_and_nonsense_is_not_believed() {
    let Some([a, b]) = joined() else { return };
    let two = Talking::begin(&b, view(2, &[], &[1]));
    a.place.ip("address add 10.129.1.77/32 dev lo");
    let message = |instances: &[(&str, &str)], number| {
        let state = Neighbour { instances: view(number, instances, &[]).own };
        let message =
            limpet_protocol::network::NeighbourMessage { within_ms: 1000, state: Some(state) };
        let bytes = limpet_protocol::codec::encode(&message).unwrap();
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes.as_slice()].concat()
    };
    let to = SocketAddr::new(b.address, PORT);
    let gateway = a.address;
    // From an address that is no node's; from the right one, but of another's containers, and garbage.
    let stranger = message(&[WEB], 1);
    a.converse("10.129.1.77".parse().unwrap(), to, stranger);
    a.converse(gateway, to, vec![0xff; 100]);
    a.converse(gateway, to, [&[0, 0, 0, 9][..], &[0x5b; 9]].concat());
    a.converse(gateway, to, message(&[API], 3));
    assert_eq!(two.next(), (name(1), Some(Neighbour { instances: vec![] })));
    a.converse(gateway, to, message(&[WEB], 1));
    assert_eq!(ids(&two.next()), Some(vec!["shop.web.1".into()]));
    let any: IpAddr = [10, 129, 1, 2].into();
    a.converse(gateway, to, message(&[], 1));
    assert_eq!(ids(&two.next()), Some(vec![]), "{any} is not there any more");
}
