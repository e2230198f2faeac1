//! Every endpoint, in success and in error, answers as the OpenAPI document says.

use limpet_controller::auth;
use limpet_controller::store::Revision;
use limpet_controller::store::records::EventRecord;
use reqwest::Method;
use serde_json::{Value, json};

use crate::contents;
use crate::world::{SECRET, World, application};

const APP: &str = "/v1/applications/shop";

fn message(body: &Value) -> &str {
    body["message"].as_str().unwrap()
}

#[tokio::test]
async fn every_answer_is_as_described() {
    let mut world = World::new().await;
    plain(&world).await;
    applications(&world).await;
    tokens(&world).await;
    contents::all(&world).await;
    fleet(&world).await;
    node_changes(&world).await;
    crate::verbs::explanations(&mut world).await;
    crate::verbs::plans(&mut world).await;
    wrong_tokens(&world).await;
    // Streams and images have tests of their own.
    let checked = world.checked.lock().unwrap().clone();
    for operation in world.operations() {
        let seen = |class: char| {
            checked.iter().any(|it| {
                it.strip_prefix(&format!("{operation} "))
                    .is_some_and(|status| status.starts_with(class))
            })
        };
        let streams = ["/logs", "/watch", "/images", "/exec", "/files", "/load"]
            .iter()
            .any(|path| operation.contains(path));
        assert!(seen('2') || streams, "{operation} was not tried in success");
        let cannot_fail = operation.ends_with("healthz") || operation.ends_with("readyz");
        assert!(seen('4') || cannot_fail || streams, "{operation} was not tried in error");
    }
}

async fn plain(world: &World) {
    assert_eq!(world.get("/healthz").await.0, 200);
    assert_eq!(world.get("/readyz").await.0, 200);
    let (status, version) = world.get("/v1/version").await;
    assert_eq!((status, version["revision"].as_u64()), (200, Some(world.store.revision().0)));
    let event = EventRecord {
        kind: "started".to_owned(),
        message: "it is".to_owned(),
        ..EventRecord::default()
    };
    world.store.append_events(vec![event.clone(), event]).await.unwrap();
    assert_eq!(world.get("/v1/events").await.1["items"].as_array().unwrap().len(), 2);
    let (_, events) = world.get("/v1/events?since=1&limit=5").await;
    assert_eq!(events["items"][0]["id"], 2);
    let (status, error) = world.get("/v1/events?since=x").await;
    assert_eq!(
        (status, message(&error)),
        (400, "in the query: since: invalid digit found in string")
    );
}

async fn applications(world: &World) {
    let (status, made) =
        world.call(Method::PUT, APP, Some(application("shop", "busybox", 2))).await;
    assert_eq!((status, &made["added"]), (200, &json!(["web"])));
    let before = world.store.revision();
    let (_, same) = world.call(Method::PUT, APP, Some(application("shop", "busybox", 2))).await;
    assert_eq!((&same["unchanged"], &same["revision"]), (&json!(["web"]), &made["revision"]));
    assert_eq!(world.store.revision(), before, "nothing is written");
    // The loop has not seen it: it must not pass as settled.
    let (_, view) = world.get(APP).await;
    assert_eq!(view["services"][0]["settled"], false);
    world.show("ready");
    let (_, view) = world.get(APP).await;
    assert_eq!(view["services"][0]["settled"], true);
    let changed = format!("{APP}?if_revision={}", made["revision"]);
    let (_, outcome) =
        world.call(Method::PUT, &changed, Some(application("shop", "busybox", 3))).await;
    assert_eq!(outcome["changed"], json!(["web"]));
    let (status, error) =
        world.call(Method::PUT, &changed, Some(application("shop", "x", 3))).await;
    assert_eq!((status, error["code"].as_str()), (409, Some("conflict")), "{error}");
    assert_eq!(
        world
            .call(Method::PUT, &format!("{APP}?if_revision=0"), Some(application("shop", "x", 3)))
            .await
            .0,
        409
    );
    wrong_applications(world).await;
    crate::verbs::patches(world).await;
    crate::verbs::rollouts(world).await;
    assert_eq!(world.get("/v1/applications").await.1["items"].as_array().unwrap().len(), 1);
    assert_eq!(world.get("/v1/applications/none").await.0, 404);
    assert_eq!(world.get("/v1/applications/N%2Fone").await.0, 404);
    let (status, outcome) = world.call(Method::DELETE, APP, None).await;
    assert_eq!((status, &outcome["removed"]), (200, &json!(["web"])));
    assert_eq!(world.call(Method::DELETE, APP, None).await.0, 404);
    assert!(world.store.revision() > Revision(0));
}

async fn wrong_applications(world: &World) {
    let with = |path: &str, value: Value| {
        let mut body = application("shop", "busybox", 1);
        *body.pointer_mut(path).unwrap() = value;
        body
    };
    let web = "/services/web";
    let having = |key: &str, value: Value| {
        let mut body = application("shop", "busybox", 1);
        body["services"]["web"][key] = value;
        body
    };
    let spec = |key: &str, value: Value| {
        let mut spec = application("shop", "busybox", 1)["services"]["web"]["spec"].take();
        spec[key] = value;
        having("spec", spec)
    };
    let volume = json!({ "volume": { "name": "v", "subpath": "../x" } });
    let window = json!({ "window": { "opens": "0 2 * *", "length_ms": 60_000 } });
    let table = [
        (
            spec("hooks", json!({ "pre_stop": [{ "command": [] }] })),
            "services.web.spec.hooks.pre_stop: a hook needs a command",
        ),
        (
            spec("mounts", json!([{ "target": "/a", "source": volume }])),
            "services.web.spec.mounts: \"../x\" is no path within a volume",
        ),
        (having("waves", window), "services.web.waves.window: 4 fields; five are needed"),
        (application("other", "a", 1), "name: is \"other\", but the path says \"shop\""),
        (json!({ "name": "shop", "services": {} }), "services: there are none"),
        (
            with(&format!("{web}/spec/image/reference"), json!("A B")),
            "services.web.spec.image.reference: ",
        ),
        (
            with(&format!("{web}/mode/replicated/replicas"), json!(10_001)),
            "services.web.mode.replicated.replicas: 10001",
        ),
        (
            with(&format!("{web}/spec/service"), json!("db")),
            "services.web.spec.service: must be web",
        ),
        (
            with(&format!("{web}/spec"), json!(1)),
            "the body is not as expected: invalid type: integer `1`",
        ),
        (json!([]), "at line 1 column"),
    ];
    for (body, expected) in table {
        let (status, error) = world.call(Method::PUT, APP, Some(body)).await;
        assert_eq!(status, 400, "{error}");
        assert!(message(&error).contains(expected), "{error} should say {expected:?}");
    }
    let mut large = application("shop", "busybox", 1);
    large["services"]["web"]["labels"] = json!({ "a": "x".repeat(5_000_000) });
    assert_eq!(world.call(Method::PUT, APP, Some(large)).await.0, 413);
    let mut large = application("shop", "busybox", 1);
    large["services"]["web"]["spec"]["labels"] = json!({ "a": "x".repeat(70_000) });
    let (status, error) = world.call(Method::PUT, APP, Some(large)).await;
    assert!(
        status == 400 && message(&error).contains("services.web.spec: is too large"),
        "{error}"
    );
    let huge = world.request(Method::PUT, APP).body(" ".repeat(9_000_000)).send().await.unwrap();
    assert_eq!(world.check(&Method::PUT, APP, huge).await.0, 413);
}

async fn tokens(world: &World) {
    let (status, made) =
        world.call(Method::POST, "/v1/tokens", Some(json!({ "ttl_seconds": 60 }))).await;
    assert_eq!((status, made["purpose"].as_str()), (201, Some("join")));
    let token = made["token"].as_str().unwrap();
    assert!(limpet_controller::auth::verify_join(&world.store, token).is_ok());
    for (body, expected) in [
        (json!({ "purpose": "root" }), "purpose: \"root\" is none"),
        (json!({ "ttl_seconds": 0 }), "ttl_seconds"),
        (json!({ "ttl_seconds": -1 }), "at line 1 column"),
        (json!({ "description": "x".repeat(600) }), "description"),
    ] {
        let (status, error) = world.call(Method::POST, "/v1/tokens", Some(body)).await;
        assert!(status == 400 && message(&error).contains(expected), "{error}");
    }
    let (_, list) = world.get("/v1/tokens").await;
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    assert!(!list.to_string().contains(token), "a list has no tokens");
    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(world.call(Method::DELETE, &path, None).await.0, 204);
    assert_eq!(world.call(Method::DELETE, &path, None).await.0, 404);
    assert_eq!(world.call(Method::DELETE, "/v1/tokens/a", None).await.0, 404);
    let last = format!("/v1/tokens/{}", &limpet_controller::auth::hash(crate::world::TOKEN)[..12]);
    assert_eq!(world.call(Method::DELETE, &last, None).await.0, 409);
}

async fn fleet(world: &World) {
    world.show("ready");
    assert_eq!(world.get("/v1/nodes").await.1["items"].as_array().unwrap().len(), 1);
    assert_eq!(world.get("/v1/nodes/n1").await.0, 200);
    assert_eq!(world.get("/v1/nodes/n2").await.0, 404);
    for (query, count) in
        [("", 2), ("?node=n1", 1), ("?application=shop&service=web", 2), ("?service=db", 0)]
    {
        let (_, list) = world.get(&format!("/v1/instances{query}")).await;
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{query}");
    }
}

async fn node_changes(world: &World) {
    const NODE: &str = "/v1/nodes/n1";
    let patch = |body: Value| world.call(Method::PATCH, NODE, Some(body));
    let (status, outcome) =
        patch(json!({ "labels": { "site": "north", "rack": "7" }, "availability": "pause" })).await;
    assert_eq!((status, outcome["availability"].as_str()), (200, Some("pause")));
    assert_eq!(outcome["given_labels"], json!({ "site": "north", "rack": "7" }));
    let before = world.store.revision();
    let (_, same) = patch(json!({ "labels": { "site": "north", "none": null } })).await;
    assert_eq!(same["revision"], outcome["revision"], "nothing is written");
    assert_eq!(world.store.revision(), before);
    let (_, outcome) = patch(json!({ "labels": { "site": null }, "availability": "active" })).await;
    assert_eq!(outcome["given_labels"], json!({ "rack": "7" }), "{outcome}");
    assert_eq!(outcome["availability"], "active");
    let many: serde_json::Map<_, _> = (0..65).map(|at| (format!("l{at}"), json!(""))).collect();
    for (body, expected) in [
        (json!({ "availability": "sleep" }), "write active, pause or drain"),
        (json!({ "labels": { "a b": "" } }), "labels: \"a b\": ' ' at position 1"),
        (json!({ "labels": { "a": "x".repeat(300) } }), "the value has 300 bytes"),
        (json!({ "labels": many }), "66 are too many, at most 64"),
        (json!({ "label": {} }), "unknown field `label`"),
    ] {
        let (status, error) = patch(body).await;
        assert!(status == 400 && message(&error).contains(expected), "{error}");
    }
    for nobody in ["/v1/nodes/n2", "/v1/nodes/N%2F2"] {
        assert_eq!(world.call(Method::PATCH, nobody, Some(json!({}))).await.0, 404);
        assert_eq!(world.call(Method::DELETE, nobody, None).await.0, 404);
    }
    world.show("ready");
    let (status, error) = world.call(Method::DELETE, NODE, None).await;
    assert!(status == 409 && message(&error).contains("limpet node drain n1"), "{error}");
    assert_eq!(world.call(Method::DELETE, &format!("{NODE}?force=maybe"), None).await.0, 400);
    world.show("lost");
    assert!(auth::verify_node(&world.store, &"n1".parse().unwrap(), SECRET).is_ok());
    assert_eq!(world.call(Method::DELETE, NODE, None).await.0, 200);
    assert!(auth::verify_node(&world.store, &"n1".parse().unwrap(), SECRET).is_err());
    assert_eq!(world.call(Method::DELETE, NODE, None).await.0, 404);
}

async fn wrong_tokens(world: &World) {
    for operation in world.operations() {
        let (method, path) = operation.split_once(' ').unwrap();
        if ["/healthz", "/readyz"].contains(&path) {
            continue;
        }
        let path = path.replace(['{', '}'], "");
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let request = world.http.request(method.clone(), world.url(&path)).bearer_auth("wrong");
        let answer = request.send().await.unwrap();
        assert!(answer.headers().contains_key("www-authenticate"));
        let (status, _) = world.check(&method, &path, answer).await;
        assert!(status == 401 || status == 429, "{status}");
    }
    let without = world.http.get(world.url("/v1/nodes")).send().await.unwrap();
    world.check(&Method::GET, "/v1/nodes", without).await;
    // A valid one passes whatever others from the same address do.
    assert_eq!(world.get("/v1/nodes").await.0, 200);
}
