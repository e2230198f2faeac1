//! Agent and keeper may die or be replaced; containers and their exit codes stay.

use limpet_agent::runtime::keeper_client::KeeperRuntime;
use limpet_agent::runtime::{ContainerStatus, Runtime, RuntimeEvent};
use limpet_protocol::report::Exit;

use super::node::{Node, exe, kill, wait_until};

const WAITS: &str = "echo up; while ! [ -e /data/go ]; do sleep 0.01; done; echo over; exit 6";

/// Lets a container that waits end: writes into its root as the node sees it.
fn release(pid: u32) {
    std::fs::write(format!("/proc/{pid}/root/data/go"), "").unwrap();
}

#[tokio::test]
async fn an_agent_that_died_finds_its_containers() {
    let mut node = Node::new().await;
    let (first, first_pid) = node.start(Node::spec(WAITS)).await;
    let mut with_signal = Node::spec(WAITS);
    with_signal.stop.signal = Some(3);
    let (second, second_pid) = node.start(with_signal).await;
    // As kill -9 does: the connection is gone without a word.
    node.runtime = KeeperRuntime::connect(node.paths.clone(), exe());
    release(first_pid);
    let proc = format!("/proc/{first_pid}");
    wait_until(|| !std::path::Path::new(&proc).exists());
    let all = node.snapshot().await;
    let status = |id: &_| all.iter().find(|state| state.id == *id).unwrap().status.clone();
    let exit = Exit { code: Some(6), out_of_memory: false };
    assert_eq!(status(&first), ContainerStatus::Exited(exit));
    assert_eq!(status(&second), ContainerStatus::Running { pid: second_pid });
    let signal = |id: &_| all.iter().find(|state| state.id == *id).unwrap().stop_signal;
    assert_eq!((signal(&first), signal(&second)), (Some(15), Some(3)));
    release(second_pid);
    assert_eq!(node.exit_of(&second).await.code, Some(6));
    assert_eq!(node.log(&second), "up\nover\n");
    node.end().await;
}

#[tokio::test]
async fn a_keeper_that_died_is_followed_by_another() {
    let mut node = Node::new().await;
    let (first, first_pid) = node.start(Node::spec(WAITS)).await;
    let (second, second_pid) = node.start(Node::spec(WAITS)).await;
    wait_until(|| node.log(&second) == "up\n");
    kill(node.keeper_pid());
    release(first_pid);
    let stat = format!("/proc/{first_pid}/stat");
    let ended = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    wait_until(ended);
    assert!(matches!(node.event().await, RuntimeEvent::KeeperLost { .. }));
    let all = node.snapshot().await;
    let status = |id: &_| all.iter().find(|state| state.id == *id).unwrap().status.clone();
    assert!(all.iter().all(|state| state.stop_signal == Some(15)), "the record has it");
    let lost = Exit { code: None, out_of_memory: false };
    assert_eq!(status(&first), ContainerStatus::Exited(lost));
    assert_eq!(status(&second), ContainerStatus::Running { pid: second_pid });
    // It writes on: nobody cut its pipe.
    release(second_pid);
    let exit = node.exit_of(&second).await;
    assert!(exit.code.is_none_or(|code| code == 6), "{exit:?}");
    assert_eq!(node.log(&second), "up\nover\n");
    node.remove(&first).await;
    node.remove(&second).await;
    assert_eq!(node.traces(), [""; 0]);
    node.end().await;
}

#[tokio::test]
async fn a_keeper_is_replaced_in_place() {
    let mut node = Node::new().await;
    let (waiting, waiting_pid) = node.start(Node::spec(WAITS)).await;
    let (deaf, _) =
        node.start(Node::spec("trap '' TERM; echo up; while :; do sleep 1; done")).await;
    wait_until(|| node.log(&deaf) == "up\n" && node.log(&waiting) == "up\n");
    node.runtime.stop(&deaf, 15, 1500).unwrap();
    let keeper = node.keeper_pid();
    node.runtime.upgrade(&exe()).unwrap();
    let all = node.snapshot().await;
    assert_eq!(all.len(), 2);
    assert_eq!(node.keeper_pid(), keeper);
    // The stop that was begun goes on.
    assert_eq!(node.exit_of(&deaf).await.code, Some(137));
    release(waiting_pid);
    assert_eq!(node.exit_of(&waiting).await.code, Some(6));
    assert_eq!(node.log(&waiting), "up\nover\n");
    let (exit, _) = node.run(Node::spec("exit 9")).await;
    assert_eq!(exit.code, Some(9));
    // A program that is none changes nothing.
    node.runtime.upgrade(std::path::Path::new("/nowhere")).unwrap();
    let (exit, _) = node.run(Node::spec("exit 8")).await;
    assert_eq!(exit.code, Some(8));
    node.remove(&waiting).await;
    node.remove(&deaf).await;
    node.end().await;
}

#[tokio::test]
async fn what_a_dead_keeper_left_is_cleared() {
    let mut node = Node::new().await;
    let (id, pid) = node.start(Node::spec("sleep 1000")).await;
    kill(node.keeper_pid());
    assert!(matches!(node.event().await, RuntimeEvent::KeeperLost { .. }));
    // Nobody remembers this one.
    std::fs::remove_file(node.paths.run.join(format!("containers/{id}/record"))).ok();
    let _ = node.snapshot().await;
    let gone = |node: &Node| node.traces().iter().all(|trace| trace.contains("/logs/"));
    let known = node.traces().iter().any(|trace| trace.contains("/run/containers/"));
    if known {
        // The next keeper was quicker than the test: then it adopted it.
        node.runtime.remove(&id).unwrap();
    }
    wait_until(|| gone(&node) && !std::path::Path::new(&format!("/proc/{pid}")).exists());
    node.end().await;
}
