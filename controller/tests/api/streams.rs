//! Events, watches and logs: what comes, in which order, and how it resumes and ends.

use std::time::Duration;

use futures_util::StreamExt as _;
use limpet_controller::control_loop::Request;
use limpet_controller::store::Revision;
use limpet_controller::store::records::EventRecord;
use limpet_protocol::call::{CallIn, CallOut, Stream};
use limpet_protocol::limits::CALL_WINDOW;
use reqwest::Method;
use serde_json::Value;

use crate::world::{World, application};

const LIMIT: Duration = Duration::from_secs(10);

/// Reads a stream until it has so many lines that begin with `prefix`.
struct Lines {
    answer: reqwest::Response,
    text: String,
}

impl Lines {
    fn of(answer: reqwest::Response) -> Self {
        assert_eq!(answer.status(), 200);
        Self { answer, text: String::new() }
    }

    /// The next line that is not empty and no comment; none at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.text = rest;
                if !line.is_empty() && !line.starts_with(':') {
                    return Some(line);
                }
                continue;
            }
            let chunk = tokio::time::timeout(LIMIT, self.answer.chunk()).await.expect("in time");
            self.text += std::str::from_utf8(&chunk.unwrap()?).unwrap();
        }
    }

    /// The next event: its id and data.
    async fn event(&mut self) -> (Option<String>, Value) {
        let (mut id, mut data) = (None, None);
        while data.is_none() || !self.text.starts_with('\n') {
            let line = self.next().await.expect("an event");
            match line.split_once(": ").unwrap() {
                ("id", text) => id = Some(text.to_owned()),
                ("data", text) => data = Some(serde_json::from_str(text).unwrap()),
                ("event", _) => {}
                other => panic!("{other:?}"),
            }
        }
        (id, data.unwrap())
    }
}

fn event(message: &str) -> EventRecord {
    EventRecord { message: message.to_owned(), kind: "other".to_owned(), ..EventRecord::default() }
}

#[tokio::test]
async fn events_go_on_and_resume() {
    let world = World::new().await;
    world.store.append_events(vec![event("1"), event("2")]).await.unwrap();
    let open = |last: &'static str| {
        let request =
            world.request(Method::GET, "/v1/events").header("accept", "text/event-stream");
        request.header("last-event-id", last).send()
    };
    let mut lines = Lines::of(open("1").await.unwrap());
    let (id, shown) = lines.event().await;
    assert_eq!((id.as_deref(), shown["message"].as_str()), (Some("2"), Some("2")));
    world.validate_named("EventView", &shown);
    world.store.append_events(vec![event("3")]).await.unwrap();
    assert_eq!(lines.event().await.1["id"], 3);
    assert_eq!(open("x").await.unwrap().status(), 400);
    world.shutdown.cancel();
    assert_eq!(lines.next().await, None, "a shutdown ends streams");
}

#[tokio::test]
async fn a_watch_shows_changes_and_says_when_they_are_compacted() {
    let world = World::new().await;
    let from = world.store.revision().0;
    let path = format!("/v1/watch?from={from}");
    let mut lines = Lines::of(world.request(Method::GET, &path).send().await.unwrap());
    world.call(Method::PUT, "/v1/applications/shop", Some(application("shop", "a", 1))).await;
    // Tokens are not shown.
    world.call(Method::POST, "/v1/tokens", Some(serde_json::json!({}))).await;
    world.call(Method::DELETE, "/v1/applications/shop", None).await;
    for (revision, op) in [(from + 1, "put"), (from + 3, "delete")] {
        let (id, change) = lines.event().await;
        world.validate_named("ChangeView", &change);
        assert_eq!(id, Some(revision.to_string()));
        assert_eq!((change["op"].as_str(), change["name"].as_str()), (Some(op), Some("shop")));
    }
    world.store.compact(Revision(from + 2)).await.unwrap();
    assert_eq!(world.get(&path).await.0, 410);
    assert_eq!(world.get("/v1/watch?from=99999").await.0, 410);
}

#[tokio::test]
async fn logs_flow_by_credit_and_a_reader_that_goes_ends_the_call() {
    let mut world = World::new().await;
    world.show("ready");
    let path = "/v1/instances/shop.web.1/logs?tail=5&follow=true&since_ms=7";
    let asked = world.request(Method::GET, path).send();
    let serve = async {
        let Some(Request::Call { node, first, answers, mut more, opened }) =
            world.requests.recv().await
        else {
            panic!("no call")
        };
        let expected = CallIn::Logs {
            instance: "shop.web.1".parse().unwrap(),
            tail: Some(5),
            follow: true,
            credit: CALL_WINDOW,
            since_ms: Some(7),
            timestamps: false,
        };
        assert_eq!((node.as_str(), first), ("n1", expected));
        opened.send(Ok(())).unwrap();
        let mut credit = CALL_WINDOW;
        for sequence in 0..100 {
            while credit == 0 {
                match more.recv().await {
                    Some(CallIn::Credit { chunks }) => credit += chunks,
                    other => panic!("{other:?}"),
                }
            }
            credit -= 1;
            let data = format!("line {sequence}\n").into_bytes();
            let chunk = CallOut::Chunk { sequence, stream: Stream::Stdout, data };
            answers.try_send(chunk).expect("credit is room");
        }
        (answers, more)
    };
    let read = async {
        let mut lines = Lines::of(asked.await.unwrap());
        for number in 0..100 {
            let line: Value = serde_json::from_str(&lines.next().await.unwrap()).unwrap();
            assert_eq!(line["text"], format!("line {number}\n"));
        }
        lines
    };
    let ((answers, mut more), lines) = tokio::join!(serve, read);
    drop(lines);
    let gone = async {
        while !matches!(more.recv().await, Some(CallIn::Cancel) | None) {}
        answers.closed().await;
    };
    tokio::time::timeout(LIMIT, gone).await.expect("the call is cancelled");
}

#[tokio::test]
async fn logs_say_what_stands_in_the_way() {
    let mut world = World::new().await;
    world.show("ready");
    for name in ["shop.web.9", "nonsense", "a.b.c"] {
        let (status, _) = world.get(&format!("/v1/instances/{name}/logs")).await;
        assert_eq!(status, 404, "{name}");
    }
    assert_eq!(world.get("/v1/instances/shop.web.1/logs?tail=-1").await.0, 400);
    let (status, error) = world.get("/v1/instances/shop.web.2/logs").await;
    assert!(status == 503 && error["message"].as_str().unwrap().contains("no node yet"), "{error}");
    let path = world.url("/v1/instances/shop.web.1/logs");
    let asked = world.http.get(path).bearer_auth(crate::world::TOKEN).send();
    let refuse = async {
        if let Some(Request::Call { opened, .. }) = world.requests.recv().await {
            opened.send(Err("node n1 is busy".to_owned())).unwrap();
        }
    };
    let ((), answer) = tokio::join!(refuse, asked);
    assert_eq!(answer.unwrap().status(), 503);
    world.show("unreachable");
    let (status, error) = world.get("/v1/instances/shop.web.1/logs").await;
    assert!(
        status == 503 && error["message"].as_str().unwrap().contains("cannot be reached"),
        "{error}"
    );
    // A node that is lost while somebody reads ends the output with a word.
    world.show("ready");
    let url = world.url("/v1/instances/shop.web.1/logs?follow=true");
    let asked = world.http.get(url).bearer_auth(crate::world::TOKEN).send();
    let open = async {
        let Some(Request::Call { opened, answers, more, .. }) = world.requests.recv().await else {
            panic!("no call")
        };
        opened.send(Ok(())).unwrap();
        (answers, more)
    };
    let (_call, answer) = tokio::join!(open, asked);
    world.show("unreachable");
    let text = tokio::time::timeout(LIMIT, answer.unwrap().bytes_stream().collect::<Vec<_>>())
        .await
        .unwrap();
    let text: Vec<u8> = text.into_iter().flat_map(|chunk| chunk.unwrap().to_vec()).collect();
    let line: Value = serde_json::from_slice(&text).unwrap();
    world.validate_named("LogLine", &line);
    assert_eq!(line["stream"], "error");
}
