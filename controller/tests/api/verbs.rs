//! The endpoints behind single verbs: scale, stop, start, restart, explain.

use limpet_controller::control_loop::Request;
use limpet_controller::explain::{Explanation, Link, State};
use limpet_controller::store::{Key, Revision};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{World, application};

const APP: &str = "/v1/applications/shop";

fn message(body: &Value) -> &str {
    body["message"].as_str().unwrap()
}

/// With `shop` there, of one service `web`.
pub(crate) async fn patches(world: &World) {
    let patch = async |body: Value| world.call(Method::PATCH, APP, Some(body)).await;
    let (status, outcome) = patch(json!({ "services": { "web": { "replicas": 5 } } })).await;
    assert_eq!((status, &outcome["changed"]), (200, &json!(["web"])), "{outcome}");
    let (_, same) = patch(json!({ "services": { "web": { "replicas": 5 } } })).await;
    assert_eq!((&same["unchanged"], &same["revision"]), (&json!(["web"]), &outcome["revision"]));
    let (_, stopped) = patch(json!({ "every": { "stopped": true } })).await;
    assert_eq!(stopped["changed"], json!(["web"]));
    let (_, view) = world.get(APP).await;
    let web = &view["services"][0];
    assert_eq!((&web["stopped"], &web["wanted"]), (&json!(true), &json!(0)));
    patch(json!({ "every": { "stopped": false, "restart": true } })).await;
    // A file says nothing of restarts, so it undoes none; the client's own idea does not count.
    let mut file = application("shop", "busybox", 5);
    file["services"]["web"]["spec"]["restarts"] = json!(77);
    let (_, applied) = world.call(Method::PUT, APP, Some(file)).await;
    assert_eq!(applied["unchanged"], json!(["web"]));
    wrong_patches(world).await;
}

async fn wrong_patches(world: &World) {
    let moved = world.call(Method::PATCH, &format!("{APP}?if_revision=1"), Some(json!({}))).await;
    assert_eq!(moved.0, 409);
    for (body, expected, said) in [
        (json!({ "services": { "db": {} } }), 404, "there is no service \"db\""),
        (json!({ "services": { "web": { "replicas": 10_001 } } }), 400, "10001 are too many"),
        (json!({ "services": { "web": { "replicas": -1 } } }), 400, "at line 1 column"),
        (json!({ "sevices": {} }), 400, "unknown field"),
    ] {
        let (status, error) = world.call(Method::PATCH, APP, Some(body)).await;
        assert!(status == expected && message(&error).contains(said), "{error}");
    }
    let none = world.call(Method::PATCH, "/v1/applications/none", Some(json!({}))).await;
    assert_eq!(none.0, 404);
}

/// With `shop` there, changed some times, of one service `web`.
pub(crate) async fn rollouts(world: &World) {
    let path = format!("{APP}/rollout");
    let order = async |body: Value| world.call(Method::POST, &path, Some(body)).await;
    assert_eq!(world.get(&path).await.0, 200);
    let (status, history) = world.get(&format!("{path}/history")).await;
    let items = history["items"].as_array().unwrap();
    assert!(status == 200 && items.len() > 2, "{history}");
    assert_eq!((&items[0]["current"], &items[1]["current"]), (&json!(true), &json!(false)));
    assert_eq!(items[0]["change"], "restart: ~web");
    // The one before was stopped; back and forth, each a change of its own.
    let stopped = async || world.get(APP).await.1["services"][0]["stopped"].clone();
    let (status, undone) = order(json!({ "action": "undo" })).await;
    assert_eq!((status, &undone["services"]), (200, &json!(["web"])), "{undone}");
    assert_eq!(stopped().await, json!(true));
    order(json!({ "action": "undo", "service": "web", "to_revision": items[0]["revision"] })).await;
    assert_eq!(stopped().await, json!(false));
    for (body, expected, said) in [
        (json!({ "action": "undo", "to_revision": 1_000_000 }), 404, "is not kept"),
        (json!({ "action": "undo", "service": "db" }), 404, "no service"),
        (json!({ "action": "pause", "to_revision": 1 }), 400, "for `undo` alone"),
        (json!({ "action": "stop" }), 400, "pause, resume or undo"),
    ] {
        let (status, error) = order(body).await;
        assert!(status == expected && message(&error).contains(said), "{error}");
    }
    assert_eq!(world.get("/v1/applications/none/rollout").await.0, 404);
    assert_eq!(world.get("/v1/applications/none/rollout/history").await.0, 404);
    // Ten are kept.
    for replicas in 20..35 {
        let scale = json!({ "every": { "replicas": replicas } });
        world.call(Method::PATCH, APP, Some(scale)).await;
    }
    let (_, history) = world.get(&format!("{path}/history")).await;
    assert_eq!(history["items"].as_array().unwrap().len(), 11, "the current one and ten");
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_made() {
    let world = World::new().await;
    world.call(Method::PUT, APP, Some(application("shop", "busybox", 1))).await;
    let restart = json!({ "every": { "restart": true } });
    let tries = (0..8).map(|_| world.call(Method::PATCH, APP, Some(restart.clone())));
    let answers = futures_util::future::join_all(tries).await;
    let made = answers.iter().filter(|(status, _)| *status == 200).count();
    // Who was overtaken too often is told so; nobody's change is lost.
    assert!(answers.iter().all(|(status, _)| [200, 409].contains(status)), "{answers:?}");
    let key = Key::Application("shop".parse().unwrap());
    let entry = world.store.get(&key).unwrap().unwrap();
    assert_eq!(entry.version, 1 + u64::try_from(made).unwrap());
    assert!(made >= 1);
}

/// Explanations come from the control loop, which the test plays.
pub(crate) async fn explanations(world: &mut World) {
    let (known, known_too) = (explanation(), explanation());
    for (path, answer, status) in [
        ("/v1/explain/shop.web", Some(known.clone()), 200),
        ("/v1/explain/n1?kind=node", Some(known), 200),
        ("/v1/inspect/shop.web", Some(known_too), 200),
        ("/v1/inspect/nosuch", None, 404),
        ("/v1/explain/nosuch", None, 404),
        ("/v1/explain/..%2Fx", None, 404),
    ] {
        let played = async {
            let request = world.requests.recv().await;
            let Some(Request::Explain { answer: to, .. }) = request else { panic!("{request:?}") };
            to.send((Revision(1), answer)).unwrap();
        };
        let url = format!("http://{}{path}", world.address);
        let asked = world.http.get(url).bearer_auth(crate::world::TOKEN).send();
        let ((), given) = tokio::join!(played, asked);
        assert_eq!(world.check(&Method::GET, path, given.unwrap()).await.0, status, "{path}");
    }
    let (status, error) = world.get("/v1/explain/a?kind=luck").await;
    assert!(status == 400 && message(&error).contains("kind"), "{error}");
}

/// Plans are made of a copy of the control loop's planner.
pub(crate) async fn plans(world: &mut World) {
    let body = application("shop", "busybox", 2);
    let played = async {
        let request = world.requests.recv().await;
        let Some(Request::Copy { answer }) = request else { panic!("{request:?}") };
        answer.send((Revision(u64::MAX), Box::default())).unwrap();
    };
    let url = format!("http://{}/v1/plan", world.address);
    let asked = world.http.post(url).bearer_auth(crate::world::TOKEN).json(&body).send();
    let before = world.store.revision();
    let ((), given) = tokio::join!(played, asked);
    let (status, plan) = world.check(&Method::POST, "/v1/plan", given.unwrap()).await;
    assert_eq!((status, &plan["changes"]), (200, &json!(true)), "{plan}");
    assert_eq!(plan["services"][0]["pending"], 2);
    assert_eq!(world.store.revision(), before, "nothing is written");
    let wrong = application("shop", "A B", 1);
    let (status, error) = world.call(Method::POST, "/v1/plan", Some(wrong)).await;
    assert!(status == 400 && message(&error).contains("spec.image.reference"), "{error}");
}

fn explanation() -> Explanation {
    let link = |state| Link {
        link: "image".to_owned(),
        state,
        says: "it is being fetched".to_owned(),
        advice: Some("wait".to_owned()),
    };
    Explanation {
        name: "shop.web".to_owned(),
        kind: "service".to_owned(),
        well: false,
        summary: "it is being fetched".to_owned(),
        advice: None,
        chain: vec![link(State::Ok), link(State::Waiting), link(State::Unknown)],
        parts: Vec::new(),
        more: 0,
    }
}
