//! Images: loaded by people, resolved at apply, pulled by nodes.

use limpet_images::{ImageBuilder, Layer};
use limpet_oci::Digest;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::world::{SECRET, World, application};

fn archive() -> Vec<u8> {
    let mut layer = Layer::new();
    layer.folder("bin", 0o755).file("bin/a", 0o755, &[7; 100_000]);
    let mut builder = ImageBuilder::new("limpet-test:1");
    builder.layer(&layer).command(&["/bin/a"]);
    builder.archive()
}

async fn load(world: &World, body: Vec<u8>) -> (u16, Value) {
    let answer = world.request(Method::POST, "/v1/images").body(body).send().await.unwrap();
    world.check(&Method::POST, "/v1/images", answer).await
}

fn pull(world: &World, method: Method, path: &str) -> RequestBuilder {
    world.http.request(method, world.url(path)).basic_auth("n1", Some(SECRET))
}

#[tokio::test]
async fn an_image_is_loaded_resolved_pulled_and_removed() {
    let world = World::new().await;
    let (status, list) = load(&world, archive()).await;
    assert_eq!((status, &list["items"][0]["reference"]), (201, &json!("limpet-test:1")), "{list}");
    let digest = list["items"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(world.get("/v1/images").await.1["items"], list["items"]);
    world
        .call(Method::PUT, "/v1/applications/shop", Some(application("shop", "limpet-test:1", 1)))
        .await;
    // What a client says about the digest does not count.
    let mut other = application("other", "elsewhere:1", 1);
    other["services"]["web"]["spec"]["image"]["digest"] = json!(digest);
    other["services"]["web"]["spec"]["image"]["from_controller"] = json!(true);
    world.call(Method::PUT, "/v1/applications/other", Some(other)).await;
    check_stored(&world, &digest);
    let path = format!("/v1/images/{digest}");
    let (status, error) = world.call(Method::DELETE, &path, None).await;
    assert!(
        status == 409 && error["message"].as_str().unwrap().contains("application shop"),
        "{error}"
    );
    pulls(&world, &digest).await;
    world.call(Method::DELETE, "/v1/applications/shop", None).await;
    assert_eq!(world.call(Method::DELETE, &path, None).await.0, 204);
    assert_eq!(world.call(Method::DELETE, &path, None).await.0, 404);
    assert_eq!(world.call(Method::DELETE, "/v1/images/x", None).await.0, 400);
}

fn check_stored(world: &World, digest: &str) {
    use limpet_controller::store::records::ApplicationRecord;
    use limpet_controller::store::{Key, MAX_VALUE_BYTES};
    let image = |name: &str| {
        let entry = world.store.get(&Key::Application(name.parse().unwrap())).unwrap().unwrap();
        let record: ApplicationRecord =
            limpet_protocol::codec::decode_within(&entry.value, MAX_VALUE_BYTES).unwrap();
        record.application.services.values().next().unwrap().spec.image.clone()
    };
    let ours = image("shop");
    assert_eq!((ours.digest.as_deref(), ours.from_controller), (Some(digest), true));
    let theirs = image("other");
    assert_eq!((theirs.digest, theirs.from_controller), (None, false));
}

async fn pulls(world: &World, digest: &str) {
    let version = pull(world, Method::GET, "/v2/").send().await.unwrap();
    assert_eq!(version.status(), 200);
    for reference in ["1", digest] {
        let path = format!("/v2/library/limpet-test/manifests/{reference}");
        let answer = pull(world, Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["docker-content-digest"], digest);
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let bytes = answer.bytes().await.unwrap();
        assert_eq!(Digest::of(&bytes).to_string(), digest);
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(manifest["mediaType"], json!(kind));
        let head = pull(world, Method::HEAD, &path).send().await.unwrap();
        assert_eq!(head.headers()["content-length"], bytes.len().to_string().as_str());
        assert_eq!(head.headers()["docker-content-digest"], digest);
        blobs(world, &manifest).await;
    }
    errors(world, digest).await;
}

async fn blobs(world: &World, manifest: &Value) {
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let path = format!("/v2/limpet-test/blobs/{layer}");
    let whole = pull(world, Method::GET, &path).send().await.unwrap();
    assert_eq!(whole.headers()["docker-content-digest"], layer);
    let whole = whole.bytes().await.unwrap();
    assert_eq!(Digest::of(&whole).to_string(), layer);
    let head = pull(world, Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], whole.len().to_string().as_str());
    let rest = pull(world, Method::GET, &path).header("range", "bytes=10-").send().await.unwrap();
    assert_eq!(rest.status(), 206);
    assert_eq!(
        rest.headers()["content-range"],
        format!("bytes 10-{}/{}", whole.len() - 1, whole.len()).as_str()
    );
    assert_eq!(rest.bytes().await.unwrap(), whole[10..]);
    let beyond =
        pull(world, Method::GET, &path).header("range", "bytes=999999999-").send().await.unwrap();
    assert_eq!(beyond.status(), 416);
}

async fn errors(world: &World, digest: &str) {
    let absent = Digest::of(b"absent");
    for (method, path, status, code) in [
        (Method::GET, "/v2/a/manifests/1".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (Method::GET, format!("/v2/a/blobs/{absent}"), 404, "BLOB_UNKNOWN"),
        (Method::GET, "/v2/a/blobs/sha256:..%2E".to_owned(), 400, "DIGEST_INVALID"),
        (Method::GET, "/v2/_catalog".to_owned(), 404, "NAME_UNKNOWN"),
    ] {
        let answer = pull(world, method, &path).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["errors"][0]["code"], code, "{path}");
    }
    let push = pull(world, Method::PUT, "/v2/a/manifests/1").send().await.unwrap();
    assert_eq!(push.status(), 405);
    let path = format!("/v2/a/manifests/{digest}");
    let wrong =
        world.http.get(world.url(&path)).basic_auth("n1", Some("wrong")).send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    assert!(wrong.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic"));
    let admin = world.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(admin.status(), 401, "a person's token is not a node's");
    let node = world.http.get(world.url("/v1/nodes")).basic_auth("n1", Some(SECRET));
    assert_eq!(node.send().await.unwrap().status(), 401, "a node's secret is no token");
}

#[tokio::test]
async fn bad_archives_are_refused_and_leave_nothing() {
    let world = World::new().await;
    let sound = archive();
    for body in
        [Vec::new(), b"no archive".to_vec(), sound[..sound.len() / 2].to_vec(), vec![0; 10_240]]
    {
        let (status, error) = load(&world, body).await;
        assert_eq!(status, 400, "{error}");
    }
    assert_eq!(world.get("/v1/images").await.1["items"], json!([]));
    assert_eq!(load(&world, sound).await.0, 201);
}
