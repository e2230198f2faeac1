//! Limits are enforced, by what the kernel says and by how containers fare.

use limpet_agent::runtime::Runtime;

use super::node::{Node, now, wait_until};

fn cgroup_file(node: &Node, id: &limpet_agent::runtime::ContainerId, v1: &str, v2: &str) -> String {
    let parent = &node.paths.cgroup_parent;
    let controller = v1.split_once('.').unwrap().0;
    let paths = [
        format!("/sys/fs/cgroup/{controller}{parent}/{id}/{v1}"),
        format!("/sys/fs/cgroup{parent}/{id}/{v2}"),
    ];
    let found = paths.iter().find_map(|path| std::fs::read_to_string(path).ok());
    found.unwrap_or_else(|| panic!("none of {paths:?}")).trim().to_owned()
}

#[tokio::test]
async fn limits_are_in_the_cgroup() {
    let mut node = Node::new().await;
    let mut spec = Node::spec("sleep 1000");
    spec.resources.memory_limit_bytes = Some(32 << 20);
    spec.resources.pids_limit = Some(20);
    spec.resources.cpu_limit_millis = Some(250);
    spec.resources.cpuset = Some("0".to_owned());
    let (id, _) = node.start(spec).await;
    assert_eq!(cgroup_file(&node, &id, "memory.limit_in_bytes", "memory.max"), "33554432");
    assert_eq!(cgroup_file(&node, &id, "pids.max", "pids.max"), "20");
    assert_eq!(
        cgroup_file(&node, &id, "cpu.cfs_quota_us", "cpu.max").split(' ').next(),
        Some("25000")
    );
    assert_eq!(cgroup_file(&node, &id, "cpuset.cpus", "cpuset.cpus"), "0");
    node.remove_running(&id).await;
    node.end().await;
}

#[tokio::test]
async fn swap_is_limited_where_the_kernel_counts_it() {
    let mut node = Node::new().await;
    let mut spec = Node::spec("sleep 1000");
    spec.resources.memory_limit_bytes = Some(32 << 20);
    spec.resources.memory_and_swap_bytes = Some(40 << 20);
    let counted = std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
        .exists()
        || !std::path::Path::new("/sys/fs/cgroup/memory").exists();
    if counted {
        let (id, _) = node.start(spec).await;
        let limit = cgroup_file(&node, &id, "memory.memsw.limit_in_bytes", "memory.swap.max");
        assert!(limit == (40 << 20).to_string() || limit == (8 << 20).to_string(), "{limit}");
        node.remove_running(&id).await;
    } else {
        let id = node.new_id();
        let request = limpet_agent::runtime::ContainerRequest {
            id,
            spec: std::sync::Arc::new(spec),
            spec_hash: limpet_protocol::id::SpecHash([7; 32]),
            image: std::sync::Arc::clone(&node.image),
            network: None,
        };
        let refused = node.runtime.start(&request).unwrap_err();
        assert!(refused.to_string().contains("swapaccount=1"), "{refused}");
    }
    if std::path::Path::new("/sys/fs/cgroup/memory/memory.swappiness").exists() {
        let mut spec = Node::spec("sleep 1000");
        spec.resources.memory_swappiness = Some(7);
        let (id, _) = node.start(spec).await;
        assert_eq!(cgroup_file(&node, &id, "memory.swappiness", "none"), "7");
        node.remove_running(&id).await;
    }
    node.end().await;
}

#[tokio::test]
async fn too_much_memory_is_named() {
    let mut node = Node::new().await;
    // dd's buffer is one piece of memory, all of it written to.
    let mut spec = Node::spec("exec dd if=/dev/zero of=/dev/null bs=64M count=1");
    spec.resources.memory_limit_bytes = Some(16 << 20);
    let (exit, _) = node.run(spec).await;
    assert_eq!((exit.code, exit.out_of_memory), (Some(137), true));
    // A child was killed: the container goes on, and both are told.
    let mut spec = Node::spec("dd if=/dev/zero of=/dev/null bs=64M count=1; exit 0");
    spec.resources.memory_limit_bytes = Some(16 << 20);
    let (exit, _) = node.run(spec).await;
    assert_eq!((exit.code, exit.out_of_memory), (Some(0), true));
    node.end().await;
}

#[tokio::test]
async fn processes_and_cpu_time_are_bounded() {
    let mut node = Node::new().await;
    let mut spec = Node::spec("i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done");
    spec.resources.pids_limit = Some(16);
    let (exit, output) = node.run(spec).await;
    assert_eq!(exit.code, Some(2), "{output}");
    assert!(output.contains("can't fork"), "{output}");

    let mut spec = Node::spec("while :; do :; done");
    spec.resources.cpu_limit_millis = Some(200);
    let (id, pid) = node.start(spec).await;
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let after = stat.rsplit_once(") ").unwrap().1.to_owned();
        after.split(' ').nth(11).unwrap().parse::<u64>().unwrap()
    };
    let (start, before) = (now(), ticks());
    wait_until(|| start.elapsed().as_millis() > 1500);
    let used = (ticks() - before) * 10;
    assert!(used < 600, "{used} ms of CPU time in 1500 ms");
    node.remove_running(&id).await;
    node.end().await;
}

#[tokio::test]
async fn a_fork_bomb_is_stopped_as_a_whole() {
    let mut node = Node::new().await;
    let mut spec = Node::spec("bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1000");
    spec.resources.pids_limit = Some(100);
    spec.resources.cpu_limit_millis = Some(500);
    let (id, _) = node.start(spec).await;
    node.runtime.stop(&id, 15, 200).unwrap();
    assert_eq!(node.exit_of(&id).await.code, Some(137));
    node.remove(&id).await;
    assert_eq!(node.traces(), [""; 0]);
    node.end().await;
}
