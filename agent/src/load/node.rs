//! What the node has used and has left, read when somebody asks.

use limpet_protocol::load::{NodeLoad, NodeRoom};

use super::strain::Strain;
use crate::keeper::cgroup::Hierarchies;
use crate::runtime::RuntimePaths;
use crate::scale::node::{NodeSample, Room};

/// Fields of a line of `/proc/stat` that are time of a processor (proc_stat(5)): what follows them, time of guests,
/// is in them already.
const FIELDS: usize = 8;
/// Which of them are no work: idle, and waiting for a disk.
const REST: [usize; 2] = [3, 4];

/// The node as it is now.
#[must_use]
pub fn now(paths: &RuntimePaths) -> NodeLoad {
    let mut strain = Strain::find(&paths.data);
    if let Ok(hierarchies) = Hierarchies::find() {
        strain.find_bounds(&hierarchies, &paths.cgroup_parent);
    }
    let times = times(&std::fs::read_to_string("/proc/stat").unwrap_or_default());
    of(&strain.read(), times.unwrap_or_default())
}

fn of(sample: &NodeSample, (busy, time): (u64, u64)) -> NodeLoad {
    let (room, cause) = sample.room();
    let heat = sample.heat;
    NodeLoad {
        busy,
        time,
        memory_bytes: sample.memory_bytes,
        available_bytes: sample.available_bytes,
        memory_pressure: sample.memory_pressure,
        temperature: heat.map(|heat| heat.now),
        is_slowed: heat.is_some_and(|heat| heat.slows.is_some_and(|slows| heat.now >= slows)),
        undervoltage: sample.undervoltage,
        disk_free: sample.disk_free,
        room: match room {
            Room::Ample => NodeRoom::Ample,
            Room::Tight => NodeRoom::Tight,
            Room::Short => NodeRoom::Short,
        },
        cause: cause.map(|cause| cause.as_str().to_owned()),
    }
}

/// Time in which all processors worked, and all of their time.
fn times(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times = line.split_ascii_whitespace().take(FIELDS).map(str::parse);
    let times: Vec<u64> = times.collect::<Result<_, _>>().ok()?;
    let all = times.iter().fold(0_u64, |sum, time| sum.saturating_add(*time));
    let rest = REST.iter().filter_map(|place| times.get(*place));
    let rest = rest.fold(0_u64, |sum, time| sum.saturating_add(*time));
    Some((all - rest, all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::node::Heat;

    #[test]
    fn work_and_time_are_told_apart() {
        let stat = "cpu  100 1 50 800 40 5 4 3 77 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n";
        assert_eq!(times(stat), Some((163, 1_003)));
        assert_eq!(times("cpu0 1 1\n"), None);
        assert_eq!(times("cpu  a b\n"), None);
    }

    #[test]
    fn what_is_at_its_end_is_said() {
        let heat = Heat { now: 81_000, slows: Some(80_000), halts: Some(110_000) };
        let sample = NodeSample {
            memory_bytes: 100,
            available_bytes: 50,
            heat: Some(heat),
            ..NodeSample::default()
        };
        let load = of(&sample, (1, 2));
        assert_eq!((load.room, load.cause.as_deref()), (NodeRoom::Tight, Some("it is too hot")));
        assert_eq!((load.temperature, load.is_slowed), (Some(81_000), true));
        let load = of(&NodeSample::default(), (1, 2));
        assert_eq!((load.room, load.cause, load.temperature), (NodeRoom::Ample, None, None));
    }

    #[test]
    fn this_machine_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let paths = RuntimePaths {
            run: dir.path().to_owned(),
            data: dir.path().to_owned(),
            cgroup_parent: "/limpet-none".to_owned(),
        };
        let load = now(&paths);
        assert!(load.busy > 0 && load.busy < load.time, "{load:?}");
        assert!(load.available_bytes <= load.memory_bytes, "{load:?}");
    }
}
