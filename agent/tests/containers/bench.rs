//! How quick it is, printed; run with `--ignored --nocapture`.

use limpet_agent::runtime::{Runtime, RuntimeEvent};

use super::node::{Node, kill, now};

fn memory(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let wanted = ["Rss:", "Pss:", "Pss_Anon:"];
    let lines = text.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}

fn show(what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let (middle, last) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: p50 {middle:.1} ms, max {last:.1} ms");
}

#[tokio::test]
#[ignore = "prints figures; asserts nothing that a busy machine could break"]
async fn figures() {
    let mut node = Node::new().await;
    let keeper = node.keeper_pid();
    println!("keeper idle: {}", memory(keeper));
    let (mut starts, mut ends, mut removals) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..30 {
        let asked = now();
        let (id, pid) = node.start(Node::spec("exec sleep 1000")).await;
        starts.push(asked.elapsed().as_secs_f64() * 1e3);
        let asked = now();
        kill(pid);
        node.exit_of(&id).await;
        ends.push(asked.elapsed().as_secs_f64() * 1e3);
        let asked = now();
        node.remove(&id).await;
        removals.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    show("make and start 1", starts);
    show("kill to exit event", ends);
    show("remove 1", removals);
    let asked = now();
    let ids: Vec<_> = (0..50).map(|_| node.ask(Node::spec("exec sleep 1000"))).collect();
    for _ in &ids {
        assert!(matches!(node.event().await, RuntimeEvent::Started { .. }));
    }
    println!("50 started in {:.0} ms", asked.elapsed().as_secs_f64() * 1e3);
    println!("keeper with 50: {}", memory(keeper));
    let asked = now();
    for id in &ids {
        node.runtime.remove(id).unwrap();
    }
    for _ in 0..2 * ids.len() {
        node.event().await;
    }
    println!("50 removed in {:.0} ms", asked.elapsed().as_secs_f64() * 1e3);
    println!("keeper after: {}", memory(keeper));
    node.end().await;
}

#[tokio::test]
#[ignore = "prints figures; asserts nothing that a busy machine could break"]
async fn sampling() {
    use limpet_agent::load::sample::{Sampler, Wish};
    use limpet_agent::load::traffic;
    const ROUNDS: u64 = 2_000;
    let mut node = Node::new().await;
    let (mut ids, mut pids) = (vec![], vec![]);
    for _ in 0..50 {
        let (id, pid) = node.start(Node::spec("exec sleep 1000")).await;
        ids.push(id);
        pids.push(pid);
    }
    let before = processor_ns();
    (0..ROUNDS).for_each(|_| pids.iter().for_each(|pid| assert!(traffic::of(*pid).is_some())));
    let one = (processor_ns() - before) / ROUNDS;
    // Every two seconds, and only where a policy or a person asks for it.
    let share = one as f64 / 2.0 / 1e9 * 100.0;
    println!(
        "50 containers, bytes over the network: {} µs a look, {share:.3} % of a core",
        one / 1_000
    );
    for (what, measured) in [("processor", (true, false)), ("processor and memory", (true, true))] {
        let mut sampler = Sampler::default();
        let wish = |id: &limpet_agent::runtime::ContainerId| Wish {
            id: id.clone(),
            ready: true,
            measured,
        };
        let mut look = |at_ms| sampler.read(&node.paths, ids.iter().map(wish).collect(), at_ms);
        assert!(look(0).containers.values().all(|sample| sample.cpu_us.is_some()));
        let before = processor_ns();
        (1..=ROUNDS).for_each(|round| drop(look(round * 500)));
        let one = (processor_ns() - before) / ROUNDS;
        let share = one as f64 * 2.0 / 1e9 * 100.0;
        println!("50 containers, {what}: {} µs a look, {share:.3} % of a core", one / 1_000);
    }
    for id in &ids {
        node.runtime.remove(id).unwrap();
    }
    for _ in 0..2 * ids.len() {
        node.event().await;
    }
    node.end().await;
}

fn processor_ns() -> u64 {
    clock_ns(rustix::time::ClockId::ThreadCPUTime)
}

/// Processor time of this thread, or of the process.
pub(crate) fn clock_ns(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}
