//! The life of a container: start, output, exit code, stop, removal.

use limpet_agent::runtime::{ContainerStatus, Runtime, RuntimeEvent};
use limpet_protocol::report::Exit;

use super::node::{Node, now, wait_until};

#[tokio::test]
async fn a_container_runs_writes_and_ends() {
    let mut node = Node::new().await;
    let (exit, output) = node.run(Node::spec("echo out; echo err >&2; printf rest; exit 7")).await;
    assert_eq!(exit, Exit { code: Some(7), out_of_memory: false });
    assert!(output.contains("out\n") && output.contains("err\n"), "{output:?}");
    assert!(output.contains("rest\n"), "{output:?}");
    node.end().await;
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    let mut node = Node::new().await;
    // What an earlier attempt of the same instance left, which could not be made either.
    let older = node.paths.run.join("logs/test.web.1.1.log");
    std::fs::write(&older, "1 e why\n").unwrap();
    let mut spec = Node::spec("");
    spec.process.command = Some(vec!["/bin/nope".to_owned()]);
    node.ask(spec);
    let RuntimeEvent::CreateFailed { reason, .. } = node.event().await else { panic!() };
    assert!(reason.contains("/bin/nope"), "{reason}");
    assert!(!older.exists(), "only the newest failed attempt keeps its log");

    let mut spec = Node::spec("");
    spec.process.command = Some(vec!["/data/seed".to_owned()]);
    node.ask(spec);
    let RuntimeEvent::CreateFailed { reason, .. } = node.event().await else { panic!() };
    assert!(reason.contains("/data/seed"), "{reason}");

    let mut spec = Node::spec("true");
    spec.process.user = Some("nobody".to_owned());
    let last = node.ask(spec);
    let RuntimeEvent::CreateFailed { reason, .. } = node.event().await else { panic!() };
    assert!(reason.contains("\"nobody\""), "{reason}");
    let traces = node.traces();
    assert!(traces.iter().all(|trace| trace.contains("/logs/")), "{traces:?}");
    let newest = node.paths.run.join(format!("logs/{last}.log"));
    std::fs::write(&newest, "1 e why\n").unwrap();
    node.remove(&last).await;
    assert!(!newest.exists(), "the log goes when the attempt is removed");
    node.end().await;
}

#[tokio::test]
async fn a_stop_is_a_signal_and_then_the_end() {
    let mut node = Node::new().await;
    let polite = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done";
    let (id, _) = node.start(Node::spec(polite)).await;
    wait_until(|| node.log(&id).contains("ready"));
    node.runtime.stop(&id, 15, 20_000).unwrap();
    assert_eq!(node.exit_of(&id).await.code, Some(3));
    assert!(node.log(&id).contains("bye"));
    node.remove(&id).await;

    let deaf = "trap '' TERM; echo ready; while :; do sleep 1; done";
    let (id, _) = node.start(Node::spec(deaf)).await;
    wait_until(|| node.log(&id).contains("ready"));
    let asked = now();
    node.runtime.stop(&id, 15, 300).unwrap();
    assert_eq!(node.exit_of(&id).await.code, Some(137));
    let took = asked.elapsed().as_millis();
    assert!((300..2000).contains(&took), "{took} ms");
    node.remove(&id).await;
    node.end().await;
}

#[tokio::test]
async fn removal_kills_what_runs() {
    let mut node = Node::new().await;
    let (id, _) = node.start(Node::spec("sleep 1000")).await;
    node.runtime.remove(&id).unwrap();
    assert_eq!(node.exit_of(&id).await.code, Some(137));
    assert!(matches!(node.event().await, RuntimeEvent::Removed { .. }));
    assert_eq!(node.traces(), [""; 0]);
    // Asked again, the answer is the same.
    node.remove(&id).await;
    node.end().await;
}

#[tokio::test]
async fn a_flood_is_bounded_and_slows_nobody() {
    let mut node = Node::new().await;
    let (flood, _) = node.start(Node::spec("yes flood-flood-flood-flood")).await;
    let path = node.paths.run.join(format!("logs/{flood}.log.1"));
    wait_until(|| path.exists());
    let asked = now();
    let (exit, output) = node.run(Node::spec("echo quick")).await;
    assert_eq!((exit.code, output.as_str()), (Some(0), "quick\n"));
    assert!(asked.elapsed().as_millis() < 3000, "{:?}", asked.elapsed());
    let sizes: u64 = std::fs::read_dir(node.paths.run.join("logs"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(sizes <= 2 * 256 * 1024, "{sizes}");
    node.remove_running(&flood).await;
    node.end().await;
}

#[tokio::test]
async fn many_start_at_the_same_time() {
    let mut node = Node::new().await;
    let ids: Vec<_> = (0..24).map(|_| node.ask(Node::spec("echo $HOSTNAME; sleep 1000"))).collect();
    for _ in &ids {
        let event = node.event().await;
        assert!(matches!(event, RuntimeEvent::Started { .. }), "{event:?}");
    }
    for id in &ids {
        node.remove_running(id).await;
    }
    assert_eq!(node.traces(), [""; 0]);
    node.end().await;
}

#[tokio::test]
async fn those_that_end_at_once_ran_all_the_same() {
    let mut node = Node::new().await;
    for _ in 0..4 {
        let mut left: Vec<_> = (0..24).map(|_| node.ask(Node::spec("exit 0"))).collect();
        while !left.is_empty() {
            match node.event().await {
                RuntimeEvent::Started { .. } => {}
                RuntimeEvent::Exited { id, exit } => {
                    assert_eq!(exit.code, Some(0), "{id}");
                    node.runtime.remove(&id).unwrap();
                }
                RuntimeEvent::Removed { id } => left.retain(|other| *other != id),
                other => panic!("{other:?}; {}", node.keeper_log()),
            }
        }
    }
    node.end().await;
}

#[tokio::test]
async fn a_hundred_containers_leave_nothing() {
    let mut node = Node::new().await;
    node.run(Node::spec("true")).await;
    let keeper = node.keeper_pid();
    let count = |what: &str| std::fs::read_dir(format!("/proc/{keeper}/{what}")).unwrap().count();
    let mounts = || {
        let text = std::fs::read_to_string(format!("/proc/{keeper}/mountinfo")).unwrap();
        text.lines().count()
    };
    let before = (count("fd"), mounts());
    for number in 0..100 {
        let (exit, _) = node.run(Node::spec(&format!("exit {}", number % 3))).await;
        assert_eq!(exit.code, Some(number % 3));
    }
    // The answer comes a moment before the child that gave it is closed and reaped.
    wait_until(|| count("fd") <= before.0 && mounts() <= before.1);
    assert_eq!(count("task"), 1);
    let children = || std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"));
    wait_until(|| children().unwrap_or_default().is_empty());
    assert_eq!(node.traces(), [""; 0]);
    node.end().await;
}

/// Every regular file below a folder, with its size and when it was written.
fn files(folder: &std::path::Path) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let kept = entry.metadata().unwrap();
        if kept.is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), kept.len(), kept.modified().unwrap()));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_crash_loop_writes_no_content_to_the_data_folder() {
    let mut node = Node::new().await;
    let data = node.paths.data.clone();
    let before = files(&data);
    for attempt in 0..5 {
        let (id, pid) = node.start(Node::spec("echo started; sleep 1000")).await;
        let log = || node.log(&id);
        wait_until(|| log() == "started\n");
        // Empty files, on which the keeper mounts the node's hosts and the like, are names in a folder.
        let written = files(&data).into_iter().filter(|file| !before.contains(file));
        let written: Vec<_> = written.filter(|(_, size, _)| *size > 0).collect();
        assert_eq!(written, [], "attempt {attempt}");
        super::node::kill(pid);
        assert_eq!(node.exit_of(&id).await.code, Some(137));
        node.remove(&id).await;
        assert_eq!(files(&data), before, "attempt {attempt} leaves nothing");
    }
    node.end().await;
}

#[tokio::test]
async fn shutting_down_stops_everything() {
    let mut node = Node::new().await;
    for _ in 0..3 {
        node.start(Node::spec("sleep 1000")).await;
    }
    node.end().await;
}

#[tokio::test]
async fn the_snapshot_has_everything() {
    let mut node = Node::new().await;
    let (running, pid) = node.start(Node::spec("sleep 1000")).await;
    let (ended, _) = node.start(Node::spec("exit 4")).await;
    node.exit_of(&ended).await;
    node.runtime = limpet_agent::runtime::keeper_client::KeeperRuntime::connect(
        node.paths.clone(),
        super::node::exe(),
    );
    let all = node.snapshot().await;
    let status = |id| all.iter().find(|state| state.id == id).map(|state| state.status.clone());
    assert_eq!(status(running), Some(ContainerStatus::Running { pid }));
    let exit = Exit { code: Some(4), out_of_memory: false };
    assert_eq!(status(ended), Some(ContainerStatus::Exited(exit)));
    node.end().await;
}

impl Node {
    /// Removes a container that runs.
    pub(crate) async fn remove_running(&mut self, id: &limpet_agent::runtime::ContainerId) {
        self.runtime.remove(id).unwrap();
        assert_eq!(self.exit_of(id).await.code, Some(137));
        assert!(matches!(self.event().await, RuntimeEvent::Removed { .. }));
    }
}
