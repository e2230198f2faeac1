//! Whatever is sent, the answer is an error with a body, and the next request is answered.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::World;

const PATHS: [&str; 15] = [
    "/v1/applications/shop",
    "/v1/applications",
    "/v1/instances",
    "/v1/instances/shop.web.1/logs",
    "/v1/nodes/n1",
    "/v1/events",
    "/v1/watch",
    "/v1/tokens",
    "/v1/plan",
    "/v1/tokens/abcdefabcdef",
    "/v1/images",
    "/v1/images/sha256:00",
    "/v2/a/manifests/b",
    "/v2/",
    "/v1/version",
];

fn paths() -> impl Strategy<Value = String> {
    let known = proptest::sample::select(&PATHS[..]).prop_map(str::to_owned);
    let query = "[a-z_]{0,12}=[0-9a-z%+-]{0,12}";
    prop_oneof![
        4 => known.clone(),
        4 => (known, query).prop_map(|(path, query)| format!("{path}?if_revision={query}&{query}")),
        2 => "/v1/(applications|nodes|tokens|images|instances)/[a-zA-Z0-9.%_-]{1,40}",
        1 => "/[a-z0-9/%.]{0,40}",
    ]
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        proptest::collection::vec(any::<u8>(), 0..300),
        Just(b"{\"name\":\"shop\",\"services\":{\"web\":{\"spec\":{}}}}".to_vec()),
        Just([b"[".repeat(100_000)].concat()),
        Just(b"{\"ttl_seconds\":18446744073709551615}".to_vec()),
        Just(b"{\"ttl_seconds\":1e999,\"purpose\":null}".to_vec()),
    ]
}

fn methods() -> impl Strategy<Value = Method> {
    let all = [
        Method::GET,
        Method::HEAD,
        Method::PUT,
        Method::POST,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
    ];
    proptest::sample::select(all.to_vec())
}

#[tokio::test]
async fn garbage_gets_an_error_and_nothing_breaks() {
    let world = World::new().await;
    world.show("unreachable");
    let mut runner = TestRunner::default();
    let strategy = (methods(), paths(), bodies());
    for _ in 0..600 {
        let (method, path, body) = strategy.new_tree(&mut runner).unwrap().current();
        // reqwest refuses what is no URL at all.
        let Ok(url) = reqwest::Url::parse(&world.url(&path)) else { continue };
        let request = world.request(method.clone(), "/").build().unwrap();
        let mut request = request;
        *request.url_mut() = url;
        *request.body_mut() = Some(body.into());
        let what = format!("{method} {path}");
        let answer = world.http.execute(request).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        let status = answer.status();
        assert!(status.as_u16() < 500 || status == 503, "{what}: {status}");
        let is_stream =
            answer.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream");
        if is_stream || method == Method::HEAD {
            continue;
        }
        let body = answer.bytes().await.unwrap();
        if status.is_client_error() && !path.starts_with("/v2") {
            let error: serde_json::Value =
                serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{what}: {e}"));
            world.validate_named("ErrorBody", &error);
        }
    }
    assert_eq!(world.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn bytes_that_are_no_http_end_their_connection_only() {
    let world = World::new().await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500));
    for bytes in [&b"\x16\x03\x01\x02\x00garbage\r\n\r\n"[..], long.as_bytes(), many.as_bytes()] {
        let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
        // The server may close before it has read all.
        drop(stream.write_all(bytes).await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    assert_eq!(world.get("/healthz").await.0, 200);
}
