//! Commands, files and figures: what the API makes of a node's answers, with the node played here.

use std::time::Duration;

use limpet_controller::api::frames::{Frame, UPGRADE};
use limpet_controller::api::types::ExecEnd;
use limpet_controller::control_loop::Request;
use limpet_protocol::call::{CallIn, CallOut, InstanceLoad, Stream};
use limpet_protocol::load::Pressure;
use limpet_protocol::scale::{Figure, Missing, ScaleLimit, ScaleReport};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use crate::world::World;

const LIMIT: Duration = Duration::from_secs(10);
const WEB: &str = "/v1/instances/shop.web.1";

struct Node {
    first: CallIn,
    answers: mpsc::Sender<CallOut>,
    more: mpsc::Receiver<CallIn>,
}

impl Node {
    /// The next call of the API, which is let through.
    async fn called(world: &mut World) -> Self {
        let call = tokio::time::timeout(LIMIT, world.requests.recv()).await.unwrap();
        let Some(Request::Call { first, answers, more, opened, .. }) = call else { panic!() };
        opened.send(Ok(())).unwrap();
        Self { first, answers, more }
    }

    async fn say(&self, answer: CallOut) {
        self.answers.send(answer).await.unwrap();
    }

    async fn hear(&mut self) -> Option<CallIn> {
        tokio::time::timeout(LIMIT, self.more.recv()).await.expect("a message in time")
    }
}

fn exec(world: &World) -> RequestBuilder {
    world
        .request(Method::POST, &format!("{WEB}/exec"))
        .header("connection", "upgrade")
        .header("upgrade", UPGRADE)
}

fn chunk(sequence: u64, data: &[u8]) -> CallOut {
    CallOut::Chunk { sequence, stream: Stream::Stdout, data: data.to_vec() }
}

async fn message(answer: reqwest::Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    (status, body["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_exec_is_frames_both_ways() {
    let mut world = World::new().await;
    world.show("ready");
    let body = json!({"command": ["sh"], "input": true, "terminal": {"rows": 3, "columns": 4}});
    let asked = exec(&world).json(&body).send();
    let node = async {
        let node = Node::called(&mut world).await;
        node.say(CallOut::Credit { chunks: 1 }).await;
        node
    };
    let (answer, mut node) = tokio::join!(asked, node);
    let CallIn::Exec(call) = &node.first else { panic!("{:?}", node.first) };
    assert!(call.command == ["sh"] && call.input, "{call:?}");
    assert_eq!(call.terminal.map(|size| (size.rows, size.columns)), Some((3, 4)));
    let mut connection = answer.unwrap().upgrade().await.unwrap();
    let next = Frame::read(&mut connection).await.unwrap();
    assert_eq!(next, Some(Frame::Credit(1)));
    for frame in [Frame::Input(b"hi".to_vec()), Frame::Resize(5, 6), Frame::Signal(2)] {
        frame.write(&mut connection).await.unwrap();
    }
    assert_eq!(node.hear().await, Some(CallIn::Input { sequence: 0, data: b"hi".to_vec() }));
    assert!(matches!(node.hear().await, Some(CallIn::Resize(size)) if size.rows == 5));
    assert_eq!(node.hear().await, Some(CallIn::Signal { number: 2 }));
    // Delivered twice, and then the end.
    for answer in [chunk(0, b"out"), chunk(0, b"out"), chunk(1, b"more")] {
        node.say(answer).await;
    }
    node.say(CallOut::End { error: None, exit_code: Some(3) }).await;
    let mut frames = Vec::new();
    while let Some(frame) = Frame::read(&mut connection).await.unwrap() {
        frames.push(frame);
    }
    let end = ExecEnd { exit_code: Some(3), error: None };
    world.validate_named("ExecEnd", &serde_json::to_value(&end).unwrap());
    let output = |data: &[u8]| Frame::Output(data.to_vec());
    assert_eq!(frames, [output(b"out"), output(b"more"), Frame::End(end)]);
}

#[tokio::test]
async fn input_without_credit_and_a_closed_connection_end_an_exec() {
    let mut world = World::new().await;
    world.show("ready");
    for hostile in [true, false] {
        let asked = exec(&world).json(&json!({"command": ["cat"], "input": true})).send();
        let node = async {
            let node = Node::called(&mut world).await;
            node.say(CallOut::Credit { chunks: 0 }).await;
            node
        };
        let (answer, mut node) = tokio::join!(asked, node);
        let mut connection = answer.unwrap().upgrade().await.unwrap();
        if hostile {
            Frame::Input(b"x".to_vec()).write(&mut connection).await.unwrap();
        } else {
            connection.shutdown().await.unwrap();
        }
        assert_eq!(node.hear().await, Some(CallIn::Cancel));
    }
}

#[tokio::test]
async fn an_exec_says_what_stands_in_the_way() {
    let mut world = World::new().await;
    world.show("ready");
    let post = |path: &str| world.request(Method::POST, path).json(&json!({"command": ["x"]}));
    let (status, text) = message(post(&format!("{WEB}/exec")).send().await.unwrap()).await;
    assert!(status == 400 && text.contains("Upgrade"), "{status} {text}");
    let (status, text) =
        message(exec(&world).json(&json!({"command": []})).send().await.unwrap()).await;
    assert!(status == 400 && text.contains("command"), "{status} {text}");
    let (status, _) =
        message(exec(&world).json(&json!({"cmd": ["x"]})).send().await.unwrap()).await;
    assert_eq!(status, 400);
    let asked = exec(&world).json(&json!({"command": ["x"]})).send();
    let node = async {
        let node = Node::called(&mut world).await;
        node.say(CallOut::end(Some("the agent is too old".to_owned()))).await;
    };
    let (answer, ()) = tokio::join!(asked, node);
    let (status, text) = message(answer.unwrap()).await;
    assert!(status == 503 && text == "the agent is too old", "{status} {text}");
}

#[tokio::test]
async fn files_stream_out_and_in_for_credit() {
    let mut world = World::new().await;
    world.show("ready");
    let asked = world.request(Method::GET, &format!("{WEB}/files?path=/etc")).send();
    let node = async {
        let node = Node::called(&mut world).await;
        for answer in [chunk(0, b"ta"), chunk(1, b"r"), CallOut::end(None)] {
            node.say(answer).await;
        }
        node.first
    };
    let (answer, first) = tokio::join!(asked, node);
    assert!(matches!(first, CallIn::Read { path, .. } if path == "/etc"));
    assert_eq!(answer.unwrap().bytes().await.unwrap(), &b"tar"[..]);

    // What is missing breaks the stream off: it must not look whole.
    let asked = world.request(Method::GET, &format!("{WEB}/files?path=/etc")).send();
    let node = async {
        let node = Node::called(&mut world).await;
        node.say(chunk(0, b"ta")).await;
        node.say(chunk(2, b"r")).await;
    };
    let (answer, ()) = tokio::join!(asked, node);
    let whole = match answer {
        Ok(answer) => answer.bytes().await.is_ok(),
        Err(_) => false,
    };
    assert!(!whole);

    let asked = world.request(Method::GET, &format!("{WEB}/files?path=/none")).send();
    let node = async {
        let node = Node::called(&mut world).await;
        node.say(CallOut::end(Some("it is not there".to_owned()))).await;
    };
    let (answer, ()) = tokio::join!(asked, node);
    assert_eq!(message(answer.unwrap()).await, (400, "it is not there".to_owned()));

    let body = vec![7; 40_000];
    let path = format!("{WEB}/files?path=/srv&contents=true");
    let asked = world.request(Method::PUT, &path).body(body.clone()).send();
    let node = async {
        let mut node = Node::called(&mut world).await;
        assert!(matches!(node.first, CallIn::Write { contents: true, .. }));
        let mut taken = Vec::new();
        loop {
            node.say(CallOut::Credit { chunks: 1 }).await;
            match node.hear().await {
                Some(CallIn::Input { sequence: _, data }) => taken.extend(data),
                Some(CallIn::InputEnd) => break,
                other => panic!("{other:?}"),
            }
        }
        node.say(CallOut::end(None)).await;
        taken
    };
    let (answer, taken) = tokio::join!(asked, node);
    assert_eq!(answer.unwrap().status(), 204);
    assert!(taken == body);
    assert_eq!(world.get(&format!("{WEB}/files")).await.0, 400);
    assert_eq!(world.get("/v1/instances/shop.web.9/files?path=/").await.0, 404);
}

#[tokio::test]
async fn load_is_asked_of_nodes() {
    let mut world = World::new().await;
    world.show("ready");
    let asked = world.request(Method::GET, "/v1/load?nodes=n1,n9").send();
    let node = async {
        let node = Node::called(&mut world).await;
        assert_eq!(node.first, CallIn::Load);
        let load = InstanceLoad {
            instance: "shop.web.1".parse().unwrap(),
            at_ms: 1,
            cpu_us: 2,
            memory_bytes: 3,
            memory_limit_bytes: None,
            pids: 4,
            pids_limit: Some(5),
            received_bytes: Some(6),
            sent_bytes: None,
            pressure: Some(Pressure { cpu: 7, memory: 8, io: 9 }),
        };
        node.say(CallOut::Load(vec![load])).await;
        node.say(CallOut::end(None)).await;
        let node = Node::called(&mut world).await;
        assert_eq!(node.first, CallIn::Scales);
        let figure = Figure {
            metric: "jobs_open".to_owned(),
            value: None,
            missing: Some(Missing::Old),
            target: 10_000,
            wish: None,
        };
        let scale = ScaleReport {
            application: "shop".parse().unwrap(),
            service: "web".parse().unwrap(),
            running: 2,
            wish: 3,
            limit: ScaleLimit::Most,
            idle: vec![],
            figures: vec![figure],
        };
        node.say(CallOut::Scales(vec![scale])).await;
        node.say(CallOut::end(None)).await;
        // An agent that does not know the third question is as good as none that says nothing.
        let node = Node::called(&mut world).await;
        assert_eq!(node.first, CallIn::Node);
        node.say(CallOut::end(Some("unknown".to_owned()))).await;
    };
    let (answer, ()) = tokio::join!(asked, node);
    let list: Value = answer.unwrap().json().await.unwrap();
    world.validate_named("LoadList", &list);
    assert_eq!((&list["items"][0]["cpu_us"], &list["items"][0]["node"]), (&json!(2), &json!("n1")));
    assert_eq!(list["items"][0]["received_bytes"], json!(6));
    assert_eq!(list["items"][0]["pressure"]["io"], json!(9));
    assert_eq!(list["nodes"], json!([]));
    let scale = &list["scales"][0];
    assert_eq!((&scale["service"], &scale["wish"]), (&json!("shop.web"), &json!(3)));
    assert_eq!(scale["figures"][0]["missing"], json!(Missing::Old.as_str()));
    assert_eq!(list["unanswered"], json!({"n9": "it cannot be reached"}));
    assert_eq!(world.get("/v1/load?nodes=N%20").await.0, 400);
}
