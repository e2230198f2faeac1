//! The whole controller: it starts, answers, ends, and comes up again with what it had.

use std::path::Path;

use limpet_controller::config::{Broker, Config, ControllerArgs};
use limpet_controller::{Ready, RunError, run};
use reqwest::Method;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::world::application;

fn config(data: &Path) -> Config {
    let any = "127.0.0.1:0".parse().unwrap();
    let args = ControllerArgs {
        data: Some(data.to_owned()),
        api_listen: Some(any),
        mqtt_listen: Some(any),
        ..ControllerArgs::default()
    };
    args.resolve().unwrap()
}

struct Running {
    ready: Ready,
    stop: CancellationToken,
    task: JoinSet<Result<(), RunError>>,
}

async fn start(config: Config) -> Running {
    let (sender, ready) = oneshot::channel();
    let stop = CancellationToken::new();
    let mut task = JoinSet::new();
    task.spawn(run(config, sender, stop.clone()));
    match ready.await {
        Ok(ready) => Running { ready, stop, task },
        Err(_) => panic!("{:?}", task.join_next().await),
    }
}

impl Running {
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> serde_json::Value {
        let url = format!("http://{}{path}", self.ready.api);
        let http = crate::world::http_client();
        let request = http.request(method, url).bearer_auth(&self.ready.admin_token);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.task.join_next().await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn it_starts_ends_and_finds_its_state_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = start(config(&data)).await;
    first.call(Method::PUT, "/v1/applications/shop", Some(application("shop", "a", 1))).await;
    let before = first.call(Method::GET, "/v1/version", None).await;
    let token = first.ready.admin_token.clone();
    let client = std::fs::read_to_string(&first.ready.client_file).unwrap();
    assert!(client.contains(&token) && client.contains(&first.ready.api.to_string()), "{client}");
    first.stop().await;
    let second = start(config(&data)).await;
    assert_eq!(second.ready.admin_token, token);
    assert_eq!(second.call(Method::GET, "/v1/version", None).await, before);
    let list = second.call(Method::GET, "/v1/applications", None).await;
    assert_eq!(list["items"][0]["name"], "shop");
    second.stop().await;
}

#[tokio::test]
async fn what_stands_in_the_way_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let first = start(config(&folder.path().join("a"))).await;
    let refused = |config: Config| async {
        let (ready, _) = oneshot::channel();
        run(config, ready, CancellationToken::new()).await.unwrap_err()
    };
    let same_data = refused(config(&folder.path().join("a"))).await;
    assert!(
        same_data.to_string().contains("another controller uses the data folder"),
        "{same_data}"
    );
    let other = config(&folder.path().join("b"));
    let same_api = refused(Config { api_listen: first.ready.api, ..other.clone() }).await;
    assert!(same_api.to_string().starts_with("--api-listen"), "{same_api}");
    let same_mqtt = refused(Config { broker: first.ready.mqtt.clone(), ..other.clone() }).await;
    assert!(matches!(first.ready.mqtt, Broker::Embedded(_)));
    assert!(same_mqtt.to_string().starts_with("--mqtt-listen"), "{same_mqtt}");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let no_folder = refused(Config { data: file.join("c"), ..other.clone() }).await;
    assert!(no_folder.to_string().contains("--data"), "{no_folder}");
    std::fs::write(folder.path().join("b/store.redb"), "no store").unwrap();
    let damaged = refused(other).await;
    assert!(damaged.to_string().contains("store.redb is damaged"), "{damaged}");
    first.stop().await;
}
