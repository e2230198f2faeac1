//! The same with a broker that is not the controller's own, and that forgets.

use std::process::{Child, Command, Stdio};

use super::*;

/// Debian's mosquitto on a free port of the loopback, ended with the test.
struct Mosquitto {
    child: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Mosquitto {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let text = format!("listener {} 127.0.0.1\nallow_anonymous true\n", address.port());
        std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        let child = Self::run(dir.path());
        let mosquitto = Self { child, address, dir };
        mosquitto.listens().await;
        mosquitto
    }

    fn run(dir: &std::path::Path) -> Child {
        Command::new("/usr/sbin/mosquitto")
            .arg("-c")
            .arg(dir.join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is needed for this test: apt-get install mosquitto")
    }

    async fn listens(&self) {
        let up = async {
            while tokio::net::TcpStream::connect(self.address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, up).await.expect("mosquitto listens");
    }

    /// Kills it and starts it again on the same port, without memory.
    async fn killed_and_back(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::run(self.dir.path());
        self.listens().await;
        self
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let (killed, waited) = (self.child.kill(), self.child.wait());
        assert!(killed.is_ok() && waited.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_story_with_mosquitto() {
    let mosquitto = Mosquitto::start().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("limpet.redb")).unwrap();
    let shutdown = CancellationToken::new();
    let address = mosquitto.address;
    let settings = settings(address, None, NEVER);
    let (handle, task) = control_loop::start(settings, store.clone(), shutdown.clone()).unwrap();
    let mut rig = Rig { store, broker: None, address, handle, task, shutdown, dir };
    story_of_one_node(&mut rig).await;
    // A broker that forgets everything: what is retained is published again.
    let token = rig.token().await;
    rig.apply(shop(1)).await;
    let _mosquitto = mosquitto.killed_and_back().await;
    let mut agent = rig.agent(&token, "other").await;
    agent.holds(|_| true).await;
    rig.stop().await;
}
