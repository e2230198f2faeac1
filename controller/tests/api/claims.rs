//! Ports of the whole fleet and fixed addresses: of all who want one at the same moment one has it, and the
//! others are told who.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{World, application};

fn path(name: &str) -> String {
    format!("/v1/applications/{name}")
}

fn publishing(name: &str, published: Value) -> Value {
    let mut body = application(name, "busybox", 1);
    body["services"]["web"]["spec"]["ports"] = json!([{ "target": 80, "published": published }]);
    body
}

async fn apply(world: &World, name: &str, published: Value) -> (u16, Value) {
    world.call(Method::PUT, &path(name), Some(publishing(name, published))).await
}

#[tokio::test]
async fn of_all_who_want_a_port_at_the_same_moment_one_has_it() {
    let world = World::new().await;
    let names: Vec<String> = (0..6).map(|number| format!("a{number}")).collect();
    let tries = names.iter().map(|name| apply(&world, name, json!([8080, 8080])));
    let answers = futures_util::future::join_all(tries).await;
    let owner = answers.iter().position(|(status, _)| *status == 200).unwrap();
    for (name, (status, answer)) in names.iter().zip(&answers) {
        if *name == names[owner] {
            continue;
        }
        let told = answer["message"].as_str().unwrap();
        assert_eq!(*status, 409, "{answer}");
        let expected = format!("on every node by {}.web already", names[owner]);
        assert!(told.contains(&expected), "{told}");
    }
    // Planning says the same, and whoever goes leaves it to others.
    let next = &names[(owner + 1) % names.len()];
    let body = publishing(next, json!([8080, 8080]));
    let (status, plan) = world.call(Method::POST, "/v1/plan", Some(body)).await;
    assert!(status == 409 && plan["message"].as_str().unwrap().contains("already"), "{plan}");
    assert_eq!(world.call(Method::DELETE, &path(&names[owner]), None).await.0, 200);
    assert_eq!(apply(&world, next, json!([8080, 8080])).await.0, 200);
}

#[tokio::test]
async fn ports_of_a_range_are_all_different_and_stay() {
    let world = World::new().await;
    let names: Vec<String> = (0..4).map(|number| format!("a{number}")).collect();
    let tries = names.iter().map(|name| apply(&world, name, json!([8000, 8003])));
    let answers = futures_util::future::join_all(tries).await;
    // Who was overtaken too often asks again.
    for (name, (status, answer)) in names.iter().zip(answers) {
        if status != 200 {
            assert_eq!(
                (status, apply(&world, name, json!([8000, 8003])).await.0),
                (409, 200),
                "{answer}"
            );
        }
    }
    let full = apply(&world, "late", json!([8000, 8003])).await;
    assert!(
        full.0 == 409 && full.1["message"].as_str().unwrap().contains("widen the range"),
        "{full:?}"
    );
    for name in &names {
        let (_, again) = apply(&world, name, json!([8000, 8003])).await;
        assert_eq!(again["unchanged"], json!(["web"]), "{again}");
    }
}

#[tokio::test]
async fn a_fixed_address_is_kept_from_second_instances_and_others() {
    let world = World::new().await;
    let fixed = |name: &str, address: &str| {
        let mut body = application(name, "busybox", 1);
        let network = json!({ "networks": { "back": { "ipv4_address": address } } });
        body["services"]["web"]["spec"]["network"] = network;
        body
    };
    let put = async |name: &str, address: &str| {
        world.call(Method::PUT, &path(name), Some(fixed(name, address))).await
    };
    assert_eq!(put("shop", "172.28.0.9").await.0, 200);
    let (status, told) = put("blog", "172.28.0.9").await;
    assert!(
        status == 409 && told["message"].as_str().unwrap().contains("shop.web already"),
        "{told}"
    );
    let (status, told) = put("blog", "10.129.0.9").await;
    assert!(status == 400 && told["message"].as_str().unwrap().contains("10.128.0.0/10"), "{told}");
    let two = json!({ "services": { "web": { "replicas": 2 } } });
    let (status, told) = world.call(Method::PATCH, &path("shop"), Some(two)).await;
    assert!(
        status == 400 && told["message"].as_str().unwrap().contains("for one instance"),
        "{told}"
    );
}
