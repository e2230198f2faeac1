//! The bytes on the wire, pinned: whoever changes them breaks every node in the field.
//!
//! A change that adds an optional field leaves these bytes as they are. To accept a deliberate
//! change, run with `LIMPET_BLESS=1` and say in `docs/decisions/` how old nodes cope.

use std::fmt::Write as _;
use std::path::Path;

use limpet_protocol::assignment::{AssignedService, Assignment, Generation};
use limpet_protocol::call::{
    CallIn, CallOut, ExecCall, InstanceLoad, Lacking, Stream, TerminalSize,
};
use limpet_protocol::codec;
use limpet_protocol::event::{Cursor, Event, EventBatch, EventKind};
use limpet_protocol::id::{ContentId, Slot, SpecHash};
use limpet_protocol::load::{NodeLoad, NodeRoom, Pressure};
use limpet_protocol::message::{
    Ask, ConfigContent, ControllerPresence, JoinReply, JoinRequest, Mesh, NodeFacts, NodePresence,
    SealKey, SealedSecret, Signed,
};
use limpet_protocol::network::{
    Neighbour, NeighbourInstance, NeighbourMessage, NetworkReport, NetworkedService, NodeNetwork,
    Peer,
};
use limpet_protocol::phase::Phase;
use limpet_protocol::report::{Exit, InstanceStatus, NoImage, Report};
use limpet_protocol::scale::{
    Figure, MetricSource, MetricTarget, Missing, ScaleLimit, ScalePolicy, ScaleReport, Scaling,
    Target,
};
use limpet_protocol::spec::{ContentMount, EndpointMode, ImageSource, Spec};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn facts() -> NodeFacts {
    NodeFacts {
        agent_version: "0.1.0".into(),
        hostname: "pump-7".into(),
        os: "linux".into(),
        architecture: "arm64".into(),
        variant: "v8".into(),
        kernel: "6.12.0".into(),
        cpu_millis: 4000,
        memory_bytes: 1 << 30,
        labels: [("site".to_owned(), "north".to_owned())].into(),
        conditions: vec![],
        devices: None,
        stages: false,
    }
}

fn spec() -> Spec {
    Spec::new("shop".parse().unwrap(), "web".parse().unwrap(), ImageSource::new("busybox:1"))
}

fn status() -> InstanceStatus {
    InstanceStatus {
        instance: "shop.web.1".parse().unwrap(),
        attempt: 2,
        spec: SpecHash([9; 32]),
        phase: Phase::Running,
        reason: None,
        last_exit: Some(Exit { code: Some(137), out_of_memory: true }),
        since_ms: 1_700_000_000_000,
        health: None,
        ready: None,
        failures: 0,
    }
}

/// Writes one line for a message and checks that it reads back as itself.
fn line<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    out: &mut String,
    name: &str,
    message: &T,
) {
    let bytes = codec::encode(message).unwrap();
    assert_eq!(&codec::decode::<T>(&bytes).unwrap(), message, "{name}");
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    writeln!(out, "{name} {hex}").unwrap();
}

fn all_messages() -> String {
    let mut out = String::new();
    state(&mut out);
    enrolment(&mut out);
    calls(&mut out);
    contents(&mut out);
    networks(&mut out);
    out
}

/// What is wanted and what is.
fn state(out: &mut String) {
    let generation = Generation { epoch: 1, number: 7 };
    let service = AssignedService::new(
        "shop".parse().unwrap(),
        "web".parse().unwrap(),
        SpecHash([9; 32]),
        vec![Slot(1), Slot(2)],
    );
    let depends = AssignedService { met: Some(vec![]), ..service.clone() };
    line(out, "share-that-depends", &depends);
    let policy = ScalePolicy { cpu_percent: Some(60), ..ScalePolicy::between(1, 6) };
    let scale = Some(Scaling { least: 1, most: 4, elsewhere: 0, priority: 0, policy });
    line(out, "share-that-scales", &AssignedService { scale, ..service.clone() });
    line(
        out,
        "assignment",
        &Assignment {
            node: "n1".parse().unwrap(),
            generation,
            services: vec![service],
            network: None,
        },
    );
    line(out, "signed", &Signed { payload: vec![1, 2, 3], signature: vec![4; 64] });
    line(out, "spec", &spec());
    line(
        out,
        "report",
        &Report {
            boot: 3,
            sequence: 4,
            observed: Some(generation),
            instances: vec![status()],
            staged: vec![],
            network: None,
            no_image: vec![],
            scales: vec![],
        },
    );
    state_of_images(out, generation);
    state_of_scale(out);
    let event = Event {
        sequence: 1,
        at_ms: 5,
        kind: EventKind::Started,
        instance: Some("shop.web.1".parse().unwrap()),
        message: "started".into(),
    };
    line(out, "events", &EventBatch { boot: 3, events: vec![event] });
    line(out, "cursor", &Cursor { boot: 3, sequence: 1 });
    line(
        out,
        "controller-presence",
        &ControllerPresence { online: true, epoch: 1, key: vec![5; 32] },
    );
    line(
        out,
        "node-presence",
        &NodePresence {
            online: true,
            boot: 3,
            session: 1,
            facts: Some(facts()),
            key: None,
            mesh: None,
        },
    );
    let will =
        NodePresence { online: false, boot: 3, session: 1, facts: None, key: None, mesh: None };
    line(out, "node-will", &will);
}

fn state_of_images(out: &mut String, generation: Generation) {
    let reason = "no such image".to_owned();
    let report = Report {
        boot: 3,
        sequence: 5,
        observed: Some(generation),
        instances: vec![],
        staged: vec![SpecHash([9; 32])],
        network: None,
        no_image: vec![NoImage { spec: SpecHash([8; 32]), reason, tries: 3 }],
        scales: vec![],
    };
    line(out, "report-of-images", &report);
}

fn state_of_scale(out: &mut String) {
    let figure = Figure {
        metric: "cpu".to_owned(),
        value: Some(92_500),
        missing: None,
        target: 60_000,
        wish: Some(3),
    };
    let unheard = Figure {
        metric: "jobs_open".to_owned(),
        value: None,
        missing: Some(Missing::Unheard),
        target: 10_000,
        wish: None,
    };
    let scale = ScaleReport {
        application: "shop".parse().unwrap(),
        service: "web".parse().unwrap(),
        running: 2,
        wish: 3,
        limit: ScaleLimit::Most,
        idle: vec![Slot(7)],
        figures: vec![figure],
    };
    let report = Report {
        boot: 3,
        sequence: 6,
        observed: None,
        instances: vec![],
        staged: vec![],
        network: None,
        no_image: vec![],
        scales: vec![scale.clone()],
    };
    line(out, "report-of-scale", &report);
    line(out, "figure-that-is-missing", &unheard);
    let topic = MetricTarget {
        name: "jobs_open".to_owned(),
        labels: [].into(),
        source: MetricSource::Topic,
        per_second: false,
        target: Target::Average(10_000),
    };
    line(out, "metric-of-a-topic", &topic);
    line(out, "call-scales", &CallIn::Scales);
    line(out, "call-out-scales", &CallOut::Scales(vec![scale]));
}

/// How a node joins, and asks.
fn enrolment(out: &mut String) {
    let request =
        JoinRequest { wanted: "pump-7".parse().unwrap(), facts: facts(), proof: vec![6; 32] };
    line(out, "join-request", &request);
    let accepted = JoinReply::Accepted {
        node: "pump-7".parse().unwrap(),
        secret: "ab".repeat(32),
        controller_key: vec![5; 32],
        image_port: 7600,
        image_host: None,
    };
    line(out, "join-accepted", &accepted);
    line(out, "join-refused", &JoinReply::Refused { reason: "no".into() });
    let specs = vec![SpecHash([9; 32])];
    line(out, "ask", &Ask { want: true, specs, configs: vec![], secrets: vec![] });
}

/// How a person looks in.
fn calls(out: &mut String) {
    let logs = CallIn::Logs {
        instance: "shop.web.1".parse().unwrap(),
        tail: Some(10),
        follow: true,
        credit: 16,
        since_ms: None,
        timestamps: false,
    };
    line(out, "call-logs", &logs);
    line(out, "call-credit", &CallIn::Credit { chunks: 4 });
    line(out, "call-cancel", &CallIn::Cancel);
    line(
        out,
        "call-chunk",
        &CallOut::Chunk { sequence: 0, stream: Stream::Stdout, data: b"hi\n".to_vec() },
    );
    line(out, "call-end", &CallOut::end(None));
    calls_into(out);
}

/// Calls that change or ask more than output.
fn calls_into(out: &mut String) {
    let instance = || "shop.web.1".parse().unwrap();
    let size = TerminalSize { rows: 24, columns: 80 };
    let logs = CallIn::Logs {
        instance: instance(),
        tail: None,
        follow: false,
        credit: 16,
        since_ms: Some(1_700_000_000_000),
        timestamps: true,
    };
    line(out, "call-logs-since", &logs);
    let plain = ExecCall {
        instance: instance(),
        command: vec!["true".into()],
        environment: vec![],
        working_dir: None,
        user: None,
        terminal: None,
        input: false,
        credit: 16,
    };
    line(out, "call-exec", &CallIn::Exec(plain.clone()));
    let whole = ExecCall {
        environment: vec![("A".into(), "b".into())],
        working_dir: Some("/tmp".into()),
        user: Some("web".into()),
        terminal: Some(size),
        input: true,
        ..plain
    };
    line(out, "call-exec-whole", &CallIn::Exec(whole));
    line(out, "call-read", &CallIn::Read { instance: instance(), path: "/a".into(), credit: 16 });
    let write = |contents| CallIn::Write { instance: instance(), path: "/a".into(), contents };
    line(out, "call-write", &write(false));
    line(out, "call-write-contents", &write(true));
    line(out, "call-load", &CallIn::Load);
    line(out, "call-input", &CallIn::Input { sequence: 1, data: b"hi".to_vec() });
    line(out, "call-input-end", &CallIn::InputEnd);
    line(out, "call-resize", &CallIn::Resize(size));
    line(out, "call-signal", &CallIn::Signal { number: 2 });
    line(out, "call-out-credit", &CallOut::Credit { chunks: 4 });
    let load = InstanceLoad {
        instance: instance(),
        at_ms: 5,
        cpu_us: 6,
        memory_bytes: 7,
        memory_limit_bytes: Some(8),
        pids: 9,
        pids_limit: None,
        received_bytes: None,
        sent_bytes: None,
        pressure: None,
    };
    let traffic = InstanceLoad { received_bytes: Some(10), sent_bytes: Some(11), ..load.clone() };
    line(out, "load-with-traffic", &traffic);
    let pressure = Some(Pressure { cpu: 1, memory: 2, io: 3 });
    line(out, "load-with-pressure", &InstanceLoad { pressure, ..traffic });
    line(out, "call-node", &CallIn::Node);
    line(out, "call-out-node", &CallOut::Node(Box::new(node_load())));
    let images = vec![ImageSource::new("nginx:1")];
    line(out, "call-missing", &CallIn::Missing { images });
    let lacking = vec![
        Lacking { bytes: Some(9), error: None },
        Lacking { bytes: None, error: Some("no such image".to_owned()) },
    ];
    line(out, "call-out-missing", &CallOut::Missing(lacking));
    line(out, "call-out-load", &CallOut::Load(vec![load]));
    let not_found = Some("not there".to_owned());
    line(out, "call-end-code", &CallOut::End { error: not_found, exit_code: Some(127) });
}

/// Configs and secrets, and the key that these are sealed to.
fn contents(out: &mut String) {
    line(out, "config", &ConfigContent { content: b"port 80\n".to_vec() });
    let sealed = SealedSecret {
        node: "n1".parse().unwrap(),
        content: ContentId([8; 32]),
        key: vec![7; 32],
        sealed: vec![6; 55],
    };
    line(out, "sealed-secret", &sealed);
    let key = Some(SealKey { public: vec![7; 32], proof: vec![5; 32] });
    let presence =
        NodePresence { online: true, boot: 3, session: 1, facts: Some(facts()), key, mesh: None };
    line(out, "node-presence-with-key", &presence);
    let configs = vec![ContentId([8; 32])];
    let ask = Ask { want: false, specs: vec![], secrets: configs.clone(), configs };
    line(out, "ask-for-contents", &ask);
    let mount = ContentMount {
        name: "token".into(),
        content: ContentId([8; 32]),
        target: "/run/secrets/token".into(),
        uid: 0,
        gid: 33,
        mode: 0o440,
    };
    line(out, "spec-with-secret", &Spec { secrets: vec![mount], ..spec() });
}

/// What nodes are told of networks, what they tell each other, and what they tell of it.
fn networks(out: &mut String) {
    let network = || "shop_back".parse().unwrap();
    let service = NetworkedService {
        application: "shop".parse().unwrap(),
        service: "db".parse().unwrap(),
        networks: [(network(), vec!["database".to_owned()])].into(),
        mode: EndpointMode::Vip,
        ports: vec![],
    };
    let peer = Peer {
        node: "n2".parse().unwrap(),
        key: vec![7; 32],
        endpoints: vec!["192.0.2.2:51820".parse().unwrap()],
        subnet: "10.129.1.0/24".parse().unwrap(),
        subnet6: "fd00:0:0:2::/64".parse().unwrap(),
        same_site: true,
        networks: vec![network()],
    };
    let told = NodeNetwork {
        pool: "10.128.0.0/10".parse().unwrap(),
        subnet: "10.129.0.0/24".parse().unwrap(),
        pool6: "fd00::/48".parse().unwrap(),
        subnet6: "fd00:0:0:1::/64".parse().unwrap(),
        virtual_addresses: "10.128.0.0/16".parse().unwrap(),
        virtual_addresses6: "fd00::/64".parse().unwrap(),
        services: vec![service],
        peers: vec![peer],
    };
    line(out, "node-network", &told);
    let instance = NeighbourInstance {
        instance: "shop.db.1".parse().unwrap(),
        attempt: 2,
        addresses: vec!["10.129.1.5".parse().unwrap()],
        networks: vec![network()],
        hostname: None,
        ready: true,
    };
    let state = Some(Neighbour { instances: vec![instance] });
    line(out, "neighbour", &NeighbourMessage { within_ms: 1000, state });
    line(out, "neighbour-lives", &NeighbourMessage { within_ms: 1000, state: None });
    let report = NetworkReport {
        addresses: [("shop.web.1".parse().unwrap(), "10.129.0.2".parse().unwrap())].into(),
        unreachable: vec!["n2".parse().unwrap()],
        tunnel: None,
    };
    line(out, "network-report", &report);
    let endpoints = vec!["192.0.2.1:51820".parse().unwrap()];
    line(out, "mesh", &Mesh { key: vec![7; 32], proof: vec![5; 32], endpoints });
}

fn node_load() -> NodeLoad {
    NodeLoad {
        busy: 1,
        time: 2,
        memory_bytes: 3,
        available_bytes: 4,
        memory_pressure: Some(5),
        temperature: Some(-6),
        is_slowed: true,
        undervoltage: true,
        disk_free: Some(7),
        room: NodeRoom::Tight,
        cause: Some("it is too hot".to_owned()),
    }
}

#[test]
fn the_bytes_are_those_of_the_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/wire_bytes.txt");
    let now = all_messages();
    if std::env::var_os("LIMPET_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &now).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).expect("tests/golden/wire_bytes.txt is there");
    for (now, pinned) in now.lines().zip(pinned.lines()) {
        assert_eq!(now, pinned);
    }
    assert_eq!(now.lines().count(), pinned.lines().count());
}

#[test]
fn a_newer_neighbour_is_understood() {
    // A map with a key that this version does not know, and without the optional ones.
    #[derive(Serialize)]
    struct NewerCursor {
        b: u64,
        q: u64,
        later: &'static str,
    }
    let bytes = codec::encode(&NewerCursor { b: 1, q: 2, later: "unknown" }).unwrap();
    assert_eq!(codec::decode::<Cursor>(&bytes).unwrap(), Cursor { boot: 1, sequence: 2 });
}
