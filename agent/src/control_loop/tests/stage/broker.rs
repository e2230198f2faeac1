//! A broker process that the stories can kill and start again.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use limpet_protocol::broker_url::BrokerUrl;
use tempfile::TempDir;

use super::DEADLINE;

/// A Mosquitto of its own, gone with the test.
pub(crate) struct Broker {
    port: u16,
    folder: TempDir,
    child: Option<Child>,
    /// Whether it lets everybody in, or nobody.
    open: bool,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::start_as(true)
    }

    pub(crate) fn that_refuses() -> Self {
        Self::start_as(false)
    }

    fn start_as(open: bool) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut broker = Self { port, folder: tempfile::tempdir().unwrap(), child: None, open };
        broker.start_again();
        broker
    }

    pub(crate) fn url(&self) -> BrokerUrl {
        format!("mqtt://127.0.0.1:{}", self.port).parse().unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "a test waits with a deadline")]
    pub(crate) fn start_again(&mut self) {
        let path = self.folder.path().join("mosquitto.conf");
        let (port, open) = (self.port, self.open);
        let config = format!("listener {port} 127.0.0.1\nallow_anonymous {open}\nuser root\n");
        std::fs::write(&path, config).unwrap();
        let child = Command::new("/usr/sbin/mosquitto")
            .arg("-c")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need Debian's package mosquitto");
        self.child = Some(child);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < DEADLINE, "mosquitto did not listen");
            std::thread::yield_now();
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
