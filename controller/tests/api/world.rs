//! A store, an API and a server in this process, with a control loop played by the test.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use limpet_controller::api::types::{InstanceView, NodeNetworkView, NodeView, ServiceView};
use limpet_controller::api::{Api, document, server};
use limpet_controller::auth;
use limpet_controller::control_loop::{Handle, Request, View};
use limpet_controller::network::pool::{Pool, unique_local};
use limpet_controller::store::records::{NodeRecord, TokenPurpose, TokenRecord};
use limpet_controller::store::{Key, Op, Store, Transaction};
use limpet_oci::ImageLayout;
use limpet_protocol::codec;
use limpet_protocol::message::NodeFacts;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const TOKEN: &str = "the-admin-token";
pub(crate) const SECRET: &str = "the-secret-of-n1";

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) address: SocketAddr,
    pub(crate) http: reqwest::Client,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) shutdown: CancellationToken,
    _server: JoinSet<()>,
    document: Value,
    /// Which answers were checked: `get /v1/nodes 200`.
    pub(crate) checked: Mutex<BTreeSet<String>>,
    _folder: tempfile::TempDir,
}

async fn put(store: &Store, key: Key, value: Vec<u8>) {
    let ops = vec![Op::Put(key, value)];
    store.commit(Transaction { ops, ..Transaction::default() }).await.unwrap();
}

async fn fill(store: &Store) {
    let record = TokenRecord {
        purpose: TokenPurpose::Admin,
        description: "test".to_owned(),
        created_ms: 1,
        expires_ms: None,
    };
    put(store, Key::Token(auth::hash(TOKEN)), codec::encode(&record).unwrap()).await;
    let facts = NodeFacts {
        agent_version: "1".to_owned(),
        hostname: "n1".to_owned(),
        os: "linux".to_owned(),
        architecture: "arm64".to_owned(),
        variant: String::new(),
        kernel: "6".to_owned(),
        cpu_millis: 1000,
        memory_bytes: 1,
        labels: std::collections::BTreeMap::new(),
        conditions: Vec::new(),
        devices: None,
        stages: false,
    };
    let record = NodeRecord {
        node: "n1".parse().unwrap(),
        secret_sha256: auth::hash(SECRET),
        labels: std::collections::BTreeMap::new(),
        facts,
        joined_ms: 1,
        availability: Default::default(),
        seal_key: None,
        mesh: None,
    };
    put(store, Key::Node("n1".parse().unwrap()), codec::encode(&record).unwrap()).await;
}

/// A client that asks nobody else. In a build of the whole workspace reqwest can do TLS, and then wants to
/// know with which library.
pub(crate) fn http_client() -> reqwest::Client {
    // An error says that another test has set it: as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        fill(&store).await;
        let images = Arc::new(ImageLayout::open(&folder.path().join("images")).unwrap());
        let (view, view_seen) = watch::channel(Arc::new(View::default()));
        let (requests_in, requests) = mpsc::channel(4);
        let pool = Pool::new("10.128.0.0/10".parse().unwrap(), 24, unique_local("api")).unwrap();
        let handle = Handle { view: view_seen, requests: requests_in, pool };
        let shutdown = CancellationToken::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Api::new(store.clone(), images, handle, shutdown.clone()).router();
        let mut server = JoinSet::new();
        server.spawn(server::serve(listener, router, shutdown.clone()));
        Self {
            store,
            address,
            http: http_client(),
            view,
            requests,
            shutdown,
            _server: server,
            document: serde_json::from_str(&document()).unwrap(),
            checked: Mutex::default(),
            _folder: folder,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(path)).bearer_auth(TOKEN)
    }

    /// Sends, checks the answer against the document, and gives it.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let request = self.request(method.clone(), path);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        self.check(&method, path, request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn check(
        &self,
        method: &Method,
        path: &str,
        answer: reqwest::Response,
    ) -> (u16, Value) {
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        let value =
            if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        let template = self.template(path);
        let method = method.as_str().to_lowercase();
        let responses = &self.document["paths"][&template][&method]["responses"];
        let response = &responses[status.to_string()];
        assert!(
            response.is_object(),
            "{method} {path} gives {status}, which is not described: {value}"
        );
        match response["content"]["application/json"]["schema"].as_object() {
            Some(schema) => self.validate(&json!(schema), &value, path),
            None => assert_eq!(value, Value::Null, "{method} {path} {status} has no body"),
        }
        self.checked.lock().unwrap().insert(format!("{method} {template} {status}"));
        (status, value)
    }

    /// Whether a value is what the document calls so.
    pub(crate) fn validate_named(&self, name: &str, value: &Value) {
        self.validate(&json!({ "$ref": format!("#/components/schemas/{name}") }), value, name);
    }

    fn validate(&self, schema: &Value, value: &Value, what: &str) {
        let schema = json!({ "components": self.document["components"], "allOf": [schema] });
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{what}: {errors:?} in {value}");
    }

    fn template(&self, path: &str) -> String {
        let path = path.split('?').next().unwrap();
        let fits = |template: &&String| {
            let (one, other) = (template.split('/'), path.split('/'));
            one.clone().count() == other.clone().count()
                && one.zip(other).all(|(one, other)| one.starts_with('{') || one == other)
        };
        let paths = self.document["paths"].as_object().unwrap();
        paths.keys().find(fits).unwrap_or_else(|| panic!("{path} is not described")).clone()
    }

    /// Every operation that the document describes: `get /v1/nodes`.
    pub(crate) fn operations(&self) -> Vec<String> {
        let paths = self.document["paths"].as_object().unwrap();
        let of = |(path, item): (&String, &Value)| -> Vec<String> {
            item.as_object().unwrap().keys().map(|method| format!("{method} {path}")).collect()
        };
        paths.iter().flat_map(of).collect()
    }

    /// Shows a node and an instance of `shop.web` on it.
    pub(crate) fn show(&self, status: &str) {
        let view = View {
            revision: self.store.revision(),
            nodes: vec![Arc::new(node_view(status))],
            instances: vec![
                Arc::new(instance_view(Some("n1"), 1)),
                Arc::new(instance_view(None, 2)),
            ],
            services: vec![("shop".to_owned(), Arc::new(service_view()))],
        };
        self.view.send_replace(Arc::new(view));
    }
}

pub(crate) fn application(name: &str, image: &str, replicas: u32) -> Value {
    json!({
        "name": name,
        "services": { "web": {
            "spec": { "application": name, "service": "web", "image": { "reference": image } },
            "mode": { "replicated": { "replicas": replicas } }
        } }
    })
}

fn service_view() -> ServiceView {
    ServiceView {
        name: "web".to_owned(),
        mode: "replicated".to_owned(),
        image: "busybox".to_owned(),
        wanted: 2,
        running: 1,
        ready: 1,
        completed: 0,
        stopped: false,
        settled: true,
        reasons: Vec::new(),
        rollout: None,
        scale: None,
    }
}

fn instance_view(node: Option<&str>, slot: u32) -> InstanceView {
    InstanceView {
        instance: format!("shop.web.{slot}"),
        application: "shop".to_owned(),
        service: "web".to_owned(),
        slot,
        node: node.map(str::to_owned),
        attempt: 1,
        image: "busybox".to_owned(),
        phase: "running".to_owned(),
        since_ms: 1,
        reason: None,
        exit_code: Some(-1),
        out_of_memory: false,
        current: true,
        health: None,
        ready: None,
        address: Some("10.129.0.2".to_owned()),
        ports: vec!["8080->80/tcp".to_owned()],
    }
}

fn node_view(status: &str) -> NodeView {
    NodeView {
        node: "n1".to_owned(),
        status: status.to_owned(),
        availability: "active".to_owned(),
        hostname: "n1".to_owned(),
        platform: "linux/arm64".to_owned(),
        agent_version: "1".to_owned(),
        kernel: "6".to_owned(),
        cpu_millis: 1000,
        cpu_reserved_millis: 0,
        memory_bytes: 1,
        memory_reserved_bytes: 0,
        labels: [("site".to_owned(), "north".to_owned())].into(),
        given_labels: [].into(),
        instances: 1,
        wanted_generation: "1.1".to_owned(),
        observed_generation: String::new(),
        last_contact_ms: 1,
        conditions: Vec::new(),
        devices: vec!["/dev/ttyUSB0".to_owned()],
        joined_ms: 1,
        network: Some(NodeNetworkView {
            subnet: "10.129.0.0/24".to_owned(),
            subnet6: "fd00::/64".to_owned(),
            tunnel: Some("kernel".to_owned()),
            endpoints: vec!["192.0.2.7:51820".to_owned()],
            peers: 2,
            unreachable: vec!["n2".to_owned()],
            left_out: 0,
        }),
    }
}
