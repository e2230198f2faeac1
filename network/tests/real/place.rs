//! A place: a thread in a network namespace of its own, in which a test has things done. The namespace
//! has no name, so nothing is left of it when the thread ends, however it ends.

use std::process::Command;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long anything that a test waits for may take, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

type Work = Box<dyn FnOnce() + Send>;

/// The thread and its namespace.
pub(crate) struct Place {
    thread: Option<JoinHandle<()>>,
    work: Option<SyncSender<Work>>,
    id: u32,
}

impl Place {
    /// A namespace with nothing but its loopback device; none where the test may not make one.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let (work, works) = sync_channel::<Work>(1);
        let (told, id) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            unshare();
            told.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            works.iter().for_each(|work| work());
        });
        let id = id.recv().unwrap().try_into().unwrap();
        let place = Self { thread: Some(thread), work: Some(work), id };
        place.ip("link set lo up");
        Some(place)
    }

    /// Has something done here.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (told, result) = sync_channel(1);
        let work = Box::new(move || told.send(work()).unwrap());
        self.work.as_ref().unwrap().send(work).expect("the place is still there");
        result.recv().expect("what was done here did not panic")
    }

    /// Has something asynchronous done here, within a deadline.
    pub(crate) fn run_async<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        self.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let tasks = tokio::task::LocalSet::new();
            let work = async move { tokio::time::timeout(PATIENCE, work()).await };
            tasks.block_on(&runtime.unwrap(), work).expect("it ends in time")
        })
    }

    /// Runs `ip` of iproute2 here.
    pub(crate) fn ip(&self, words: &str) {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            let output = Command::new("ip").args(&words).output().expect("iproute2 is installed");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "ip {}: {said}", words.join(" "));
        });
    }

    /// A wire to another place: a device of the same name on both ends, each with its address.
    pub(crate) fn wire(&self, other: &Self, name: &str, addresses: [&str; 2]) {
        self.ip(&format!("link add {name} type veth peer name {name} netns {}", other.id));
        for (place, address) in [(self, addresses[0]), (other, addresses[1])] {
            place.ip(&format!("address add {address} dev {name} nodad"));
            place.ip(&format!("link set {name} up"));
        }
    }
}

#[expect(unsafe_code, reason = "a namespace for this thread alone: no memory is concerned")]
fn unshare() {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: the flag changes which network the thread sees and nothing else.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.work.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}
