//! Images and containers that are none.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use limpet_protocol::spec::ImageSource;
use tokio::sync::Notify;

use crate::control_loop::Images;
use crate::image::PreparedImage;
use crate::runtime::fake::FakeRuntime;
use crate::runtime::{
    ContainerId, ContainerRequest, ExecId, ExecRequest, Runtime, RuntimeError, RuntimeEvent,
};

/// Every image but `absent` is there; `far` has to be fetched; `quits` asks for SIGQUIT.
pub(super) struct FakeImages {
    /// Whether every answer is still to come.
    pub(super) hangs: bool,
}

impl Images for FakeImages {
    fn missing(
        &self,
        image: ImageSource,
    ) -> impl Future<Output = Result<u64, String>> + Send + 'static {
        let far = image.reference.starts_with("far");
        let absent = image.reference.starts_with("absent");
        std::future::ready(match absent {
            true => Err("no such image".to_owned()),
            false => Ok(if far { 1000 } else { 0 }),
        })
    }

    fn here(
        &self,
        image: ImageSource,
    ) -> impl Future<Output = Result<Option<Arc<PreparedImage>>, String>> + Send + 'static {
        let hangs = self.hangs;
        let missing = ["absent", "far"].iter().any(|name| image.reference.starts_with(name));
        let image = self.prepare(image);
        async move {
            if hangs {
                std::future::pending().await
            }
            if missing { Ok(None) } else { image.await.map(Some) }
        }
    }

    fn prepare(
        &self,
        image: ImageSource,
    ) -> impl Future<Output = Result<Arc<PreparedImage>, String>> + Send + 'static {
        std::future::ready(if image.reference.starts_with("absent") {
            Err("no such image".to_owned())
        } else {
            let digest = format!("sha256:{}", "0".repeat(64));
            let mut config = oci_spec::image::ImageConfiguration::default();
            if image.reference.starts_with("quits") {
                let mut inner = oci_spec::image::Config::default();
                inner.set_stop_signal(Some("SIGQUIT".to_owned()));
                config.set_config(Some(inner));
            }
            Ok(Arc::new(PreparedImage { digest, config, check: None, layers: Vec::new() }))
        })
    }

    fn retain(
        &self,
        digests: HashSet<String>,
    ) -> impl FnOnce() -> Result<(), String> + Send + 'static {
        move || if digests.is_empty() { Err("nothing was kept".to_owned()) } else { Ok(()) }
    }
}

/// The fake runtime, also in the hands of the test.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(super) fake: Arc<Mutex<FakeRuntime>>,
    pub(super) news: Arc<Notify>,
}

impl Shared {
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut FakeRuntime) -> T) -> T {
        let result = change(&mut self.fake.lock().unwrap());
        self.news.notify_one();
        result
    }
}

impl Runtime for Shared {
    fn start(&mut self, request: &ContainerRequest) -> Result<(), RuntimeError> {
        self.change(|fake| fake.start(request))
    }
    fn stop(&mut self, id: &ContainerId, signal: i32, grace_ms: u64) -> Result<(), RuntimeError> {
        self.change(|fake| fake.stop(id, signal, grace_ms))
    }
    fn remove(&mut self, id: &ContainerId) -> Result<(), RuntimeError> {
        self.change(|fake| fake.remove(id))
    }
    fn exec(&mut self, request: ExecRequest) -> Result<ExecId, RuntimeError> {
        self.change(|fake| fake.exec(request))
    }
    fn kill_exec(&mut self, exec: ExecId, signal: i32) -> Result<(), RuntimeError> {
        self.change(|fake| fake.kill_exec(exec, signal))
    }
    fn conditions(&self) -> Option<Vec<String>> {
        self.fake.lock().unwrap().conditions.clone()
    }
    async fn next_event(&mut self) -> RuntimeEvent {
        loop {
            let event = self.fake.lock().unwrap().poll_event();
            match event {
                Some(event) => return event,
                None => self.news.notified().await,
            }
        }
    }
}
