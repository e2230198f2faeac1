//! A node that comes to the end of its memory: services give way in their order before the kernel chooses, and
//! have it back.
//!
//! The node's memory is what its containers may have together, a limit of their cgroup.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use limpet_tests::fleet::Fleet;
use limpet_tests::process::wait_for;

use crate::published::Measuring;

const MIB: u64 = 1 << 20;
/// What the node has, and what each instance takes of it.
const LIMIT: u64 = 192 * MIB;
const EACH: u64 = 20;
/// What the eater leaves to the others at least, so that nothing is killed whatever the machine does.
const LEAVES: u64 = 5 * MIB;
/// How long a service that gave way may take to come back: a minute with room, and what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(240);

/// The cgroup of all containers of a node, with a limit.
struct Node {
    folder: PathBuf,
}

impl Node {
    fn limited(cgroup: &str) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let root = if v1.is_dir() { v1 } else { Path::new("/sys/fs/cgroup") };
        let folder = root.join(&cgroup[1..]);
        std::fs::create_dir_all(&folder).unwrap();
        let node = Self { folder };
        let name = if v1.is_dir() { "memory.limit_in_bytes" } else { "memory.max" };
        std::fs::write(node.folder.join(name), LIMIT.to_string()).unwrap();
        node
    }

    /// What is left, as the agent counts it.
    fn left(&self) -> u64 {
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).ok();
        let used = read("memory.usage_in_bytes").or_else(|| read("memory.current")).unwrap();
        let stat = read("memory.stat").unwrap();
        let field = |name: &str| -> Option<u64> {
            stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        let files =
            |kind: &str| field(&format!("total_{kind} ")).or_else(|| field(&format!("{kind} ")));
        let files = files("active_file").unwrap() + files("inactive_file").unwrap();
        LIMIT.saturating_sub(used.trim().parse::<u64>().unwrap().saturating_sub(files))
    }

    /// How often the kernel chose.
    fn killed(&self) -> u64 {
        let below = std::fs::read_dir(&self.folder).unwrap().flatten().map(|entry| entry.path());
        let kills = below.chain([self.folder.clone()]).filter_map(|folder| {
            let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
            let text = read("memory.oom_control").or_else(|| read("memory.events"))?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
        });
        kills.sum()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // What still runs in it is the fleet's to end, and then it removes it too.
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Two services that follow a figure and hold memory as long as they live, and one that takes what it is told to.
fn compose(shared: &Path) -> String {
    let holds = format!(
        "[sh, -c, \"trap 'exit 0' TERM; dd if=/dev/zero of=/dev/shm/much bs=1048576 count={EACH}; \
         while :; do sleep 0.2; done\"]"
    );
    let eats = "[sh, -c, \"trap 'exit 0' TERM; has=0; while :; do n=$$(cat /shared/size); \
                if [ $$n -lt $$has ]; then rm -f /dev/shm/much; fi; \
                if [ $$n -ne $$has ]; then dd if=/dev/zero of=/dev/shm/much conv=notrunc bs=1048576 count=$$n; has=$$n; fi; \
                sleep 0.1; done\"]";
    let follows = |priority: i32| {
        format!(
            "image: busybox
    command: {holds}
    stop_grace_period: 2s
    deploy:
      x-priority: {priority}
      x-autoscale: {{min: 1, max: 3, metrics: [{{topic: jobs_open, average: 10}}]}}"
        )
    };
    format!(
        "services:
  low:
    {}
  high:
    {}
  eater:
    image: busybox
    command: {eats}
    shm_size: 512m
    volumes: [\"{}:/shared\"]
",
        follows(-1),
        follows(5),
        shared.display()
    )
}

/// How many of a service run.
fn count(instances: &[serde_json::Value], service: &str) -> usize {
    let of_it = |it: &&serde_json::Value| it["service"] == service && it["phase"] == "running";
    instances.iter().filter(of_it).count()
}

#[test]
fn the_lowest_priority_gives_way_first_and_has_it_back() {
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::busybox_archive(None).unwrap());
    let node = Node::limited(&fleet.cgroup_of("n1"));
    fleet.add_node("n1", &[]);
    let inspected = fleet.limpet(&["node", "inspect", "n1"]);
    assert!(inspected.contains("192"), "the limit is its memory: {inspected}");
    let shared = fleet.folder().join("shared");
    std::fs::create_dir_all(&shared).unwrap();
    let size = shared.join("size");
    let eat = |mebibytes: u64| {
        std::fs::write(shared.join("new"), mebibytes.to_string()).unwrap();
        std::fs::rename(shared.join("new"), &size).unwrap();
    };
    eat(0);
    let token = fleet.limpet(&["token", "create", "--metrics", "shop"]);
    let measuring = ["low", "high"].map(|it| Measuring::start(&fleet, token.trim(), it));
    measuring.iter().for_each(|it| it.say("30"));
    fleet.apply("shop", &compose(&shared), &["--wait"]);
    let numbers = || {
        let instances = fleet.instances();
        (count(&instances, "low"), count(&instances, "high"))
    };
    wait_for("three of each", || (numbers() == (3, 3)).then_some(()));
    eats_until_both_gave(&node, eat, numbers);
    let events = fleet.limpet(&["events"]);
    assert!(events.contains("memory is short on the node"), "{events}");
    let top = fleet.limpet(&["top", "--no-stream"]);
    assert!(top.contains("192.00 MiB"), "{top}");
    let explained = fleet.limpet(&["explain", "shop.low"]);
    assert!(explained.contains("n1 is short of memory or too hot"), "{explained}");
    let begun = Instant::now();
    eat(0);
    while numbers() != (3, 3) {
        assert!(begun.elapsed() < PATIENCE, "it comes back: {:?}", numbers());
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(node.killed(), 0, "the kernel never had to choose");
    let instances = fleet.instances();
    let restarted = instances.iter().filter(|it| it["service"] == "eater" && it["attempt"] != 1);
    assert_eq!(restarted.count(), 0, "{instances:?}");
}

/// Takes memory bit by bit until the higher one has given way too. Nothing falls below its least, and the higher
/// one gives nothing while the lower one could.
fn eats_until_both_gave(node: &Node, eat: impl Fn(u64), numbers: impl Fn() -> (usize, usize)) {
    let (begun, mut eaten) = (Instant::now(), 0);
    loop {
        let (low, high) = numbers();
        assert!(low >= 1 && high >= 1, "{low} and {high}");
        assert!(high == 3 || low == 1, "{low} of the lower priority, {high} of the higher");
        if (low, high) == (1, 2) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{low} and {high} after {eaten} MiB");
        if node.left() > LEAVES + 2 * MIB {
            eaten += 2;
            eat(eaten);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
