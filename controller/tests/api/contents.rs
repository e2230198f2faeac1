//! Configs and secrets over the API: a secret goes in and never out.

use limpet_protocol::limits::MAX_CONTENT_BYTES;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{World, application};

const CLEAR: &str = "correct horse battery staple";

async fn send(world: &World, method: Method, path: &str, bytes: Vec<u8>) -> (u16, Value) {
    let answer = world.request(method.clone(), path).body(bytes).send().await.unwrap();
    let (status, body) = world.check(&method, path, answer).await;
    assert!(!body.to_string().contains(CLEAR), "{body}");
    (status, body)
}

fn with_secret(id: &str, target: &str, mode: u32) -> Value {
    let mut body = application("shop", "busybox", 1);
    body["services"]["web"]["spec"]["secrets"] =
        json!([{ "name": "token", "content": id, "target": target, "mode": mode }]);
    body
}

/// Every endpoint, in success and in error.
pub(crate) async fn all(world: &World) {
    for kind in ["configs", "secrets"] {
        one_kind(world, kind).await;
    }
    applied(world).await;
}

async fn one_kind(world: &World, kind: &str) {
    let path = format!("/v1/{kind}");
    let named = format!("{path}/db-password");
    let before = world.store.revision();
    let (status, asked) =
        send(world, Method::POST, &format!("{path}?keep=false"), CLEAR.into()).await;
    assert_eq!((status, asked["bytes"].as_u64()), (200, Some(CLEAR.len() as u64)));
    assert_eq!(world.store.revision(), before, "nothing is kept");
    let (_, kept) = send(world, Method::POST, &path, CLEAR.into()).await;
    assert_eq!(kept, asked, "the same bytes have the same id");
    let sha256 = limpet_controller::auth::hash(CLEAR);
    assert_eq!(
        kept["id"] == sha256.as_str(),
        kind == "configs",
        "the id of a secret tells nothing"
    );
    let (_, empty) = send(world, Method::POST, &path, vec![]).await;
    assert_eq!(empty["bytes"], 0);

    assert_eq!(send(world, Method::PUT, &named, b"old".to_vec()).await.0, 200);
    let (status, error) = send(world, Method::PUT, &named, CLEAR.into()).await;
    assert!(status == 409 && error["message"].as_str().unwrap().contains("--replace"), "{error}");
    let replaced = format!("{named}?replace=true");
    assert_eq!(send(world, Method::PUT, &replaced, CLEAR.into()).await.1, kept);
    let (_, shown) = world.get(&named).await;
    assert_eq!((&shown["id"], &shown["used_by"]), (&kept["id"], &json!([])));
    let (_, list) = world.get(&path).await;
    assert_eq!(list["items"], json!([shown]));

    for (method, path, bytes, expected) in [
        (Method::POST, format!("{path}?keep=x"), 1, 400),
        (Method::POST, path.clone(), MAX_CONTENT_BYTES + 1, 413),
        (Method::POST, path.clone(), 3 * MAX_CONTENT_BYTES, 413),
        (Method::PUT, format!("{path}/a%20b"), 1, 400),
        (Method::GET, format!("{path}/none"), 0, 404),
        (Method::DELETE, format!("{path}/none"), 0, 404),
    ] {
        let (status, error) = send(world, method, &path, vec![0; bytes]).await;
        assert_eq!(status, expected, "{path}: {error}");
    }
    let (_, error) = send(world, Method::POST, &path, vec![0; MAX_CONTENT_BYTES + 1]).await;
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains(&MAX_CONTENT_BYTES.to_string()) && message.contains("image"),
        "{message}"
    );
}

async fn applied(world: &World) {
    let app = "/v1/applications/shop";
    let (_, secret) = world.get("/v1/secrets/db-password").await;
    let id = secret["id"].as_str().unwrap();
    let target = "/run/secrets/token";
    for (id, target, mode, expected) in [
        (&*"0".repeat(64), target, 0o444, "secret token has no content"),
        (id, "run/secrets", 0o444, "is no absolute path"),
        (id, "/run/../etc/x", 0o444, "is no absolute path"),
        (id, target, 0o4755, "are no permission bits"),
    ] {
        let (status, error) =
            world.call(Method::PUT, app, Some(with_secret(id, target, mode))).await;
        let message = error["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(expected), "{error}");
    }
    let body = Some(with_secret(id, target, 0o400));
    assert_eq!(world.call(Method::PUT, app, body).await.0, 200);
    let (_, secret) = world.get("/v1/secrets/db-password").await;
    assert_eq!(secret["used_by"], json!(["shop.web"]));
    for kind in ["configs", "secrets"] {
        let named = format!("/v1/{kind}/db-password");
        assert_eq!(world.call(Method::DELETE, &named, None).await.0, 204);
        assert_eq!(world.call(Method::DELETE, &named, None).await.0, 404);
    }
    assert_eq!(world.call(Method::DELETE, app, None).await.0, 200);
}
