//! Every acknowledged write is there after kill -9, at any moment, again and again.
//!
//! A child process (this program again) writes and says on a pipe what the store acknowledged. The
//! parent kills it, opens the store and compares.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use limpet_controller::store::{Key, Kind, Op, Revision, Store, Transaction, WatchError};

const STORE: &str = "LIMPET_CRASH_TEST_STORE";
const ROUNDS: u32 = 25;
const WRITERS: u64 = 8;

/// What the child does; does nothing in the parent.
#[test]
fn child() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(Path::new(&path)).unwrap();
        let (_, entries) = store.list(Kind::Node).unwrap();
        let last = entries.iter().map(|(_, entry)| count(&entry.value)).max().unwrap_or(0);
        let writers = (0..WRITERS).map(|writer| write(store.clone(), writer, last + 1));
        futures_util::future::join_all(writers).await;
    });
}

async fn write(store: Store, writer: u64, from: u64) {
    let key = Key::Node(format!("n{writer}").parse().unwrap());
    for number in from.. {
        let value = [&number.to_be_bytes()[..], &[7; 400]].concat();
        let ops = vec![Op::Put(key.clone(), value)];
        let revision = store.commit(Transaction { ops, ..Transaction::default() }).await.unwrap();
        // One write call for each line: a line is there whole or not at all.
        let line = format!("ack {} {writer} {number}\n", revision.0);
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
}

fn count(value: &[u8]) -> u64 {
    u64::from_be_bytes(value[..8].try_into().unwrap())
}

/// Killed also when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(path: &Path) -> Killed {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(STORE, path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Killed(child)
}

/// Revision → (writer, number), of all that was acknowledged until the child was killed.
fn acknowledged(path: &Path, live_for: Duration) -> BTreeMap<u64, (u64, u64)> {
    let mut child = start(path);
    let mut lines = BufReader::new(child.0.stderr.take().unwrap());
    let mut text = String::new();
    lines.read_line(&mut text).unwrap();
    assert!(text.starts_with("ack "), "the child says: {text}");
    // The time is the randomness of this test, not a wait for something.
    std::thread::sleep(live_for);
    child.0.kill().unwrap();
    for line in lines.lines() {
        text += &line.unwrap();
        text.push('\n');
    }
    let parse = |line: &str| -> Option<(u64, (u64, u64))> {
        let mut words = line.strip_prefix("ack ")?.split(' ').map(|word| word.parse().unwrap());
        Some((words.next()?, (words.next()?, words.next()?)))
    };
    text.lines().filter_map(parse).collect()
}

/// The log as far as it is kept: revision → (writer, number), without a gap.
async fn log(store: &Store) -> BTreeMap<u64, (u64, u64)> {
    let mut from = Revision(0);
    if let Err(WatchError::Compacted { oldest }) = store.watch(from).check() {
        from = oldest;
    }
    let mut watch = store.watch(from);
    let mut seen = BTreeMap::new();
    for expected in from.0 + 1..=store.revision().0 {
        let change = watch.next().await.unwrap();
        assert_eq!(change.revision.0, expected, "the log has a gap");
        let writer = change.key.name()[1..].parse().unwrap();
        seen.insert(expected, (writer, count(&change.value.unwrap())));
    }
    seen
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut total = 0;
    for round in 0..ROUNDS {
        // Spread over the life of a commit; the exact moment is the scheduler's.
        let live_for = Duration::from_micros(u64::from(round * 7919 % 60_000));
        let acknowledged = acknowledged(&path, live_for);
        let store = Store::open(&path).unwrap();
        let newest = acknowledged.keys().next_back().copied().unwrap_or(0);
        assert!(store.revision().0 >= newest, "round {round}: revision {newest} is lost");
        let log = log(&store).await;
        let oldest = log.keys().next().copied().unwrap_or(u64::MAX);
        for (revision, write) in acknowledged.range(oldest..) {
            assert_eq!(log.get(revision), Some(write), "round {round}, revision {revision}");
        }
        for (writer, number) in acknowledged.values() {
            let key = Key::Node(format!("n{writer}").parse().unwrap());
            let there = store.get(&key).unwrap().map_or(0, |entry| count(&entry.value));
            assert!(there >= *number, "round {round}: n{writer} is at {there}, not {number}");
        }
        total += acknowledged.len();
    }
    assert!(total > usize::try_from(ROUNDS).unwrap(), "only {total} writes were tested");
}
