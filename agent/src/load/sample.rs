//! Samples: what containers that follow their load use, read twice a second at a small fixed cost.
//!
//! In: which containers, and what of them matters. Out: [`Readings`]. Files stay open between two looks:
//! reading one takes a few microseconds then, most of it in the kernel. Memory and the node change more
//! slowly than processor time and are read less often.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::strain::Strain;
use super::usage::{cpu_us, number, reclaimable};
use crate::keeper::cgroup::Hierarchies;
use crate::runtime::{ContainerId, RuntimePaths};
use crate::scale::node::NodeSample;
use crate::scale::{Readings, Sample};

/// How often memory is read: its counters cost the kernel more than others.
const MEMORY_EVERY_MS: u64 = 2_000;
/// How often the node is looked at.
const NODE_EVERY_MS: u64 = 1_000;
/// Containers whose files stay open: three each, of the 1,024 that a process may have by default.
const MAX_OPEN: usize = 200;
/// Largest of the files: `memory.stat` has some forty lines.
const MAX_BYTES: usize = 8 * 1024;

/// A container to be read.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Which.
    pub id: ContainerId,
    /// Whether it may get traffic.
    pub ready: bool,
    /// Whether its processor time matters, and its memory.
    pub measured: (bool, bool),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Sampler {
    hierarchies: Option<Hierarchies>,
    open: BTreeMap<ContainerId, Files>,
    strain: Option<Strain>,
    node: NodeSample,
    node_read_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Files {
    cpu: Option<File>,
    memory: Option<(File, File)>,
    memory_bytes: Option<u64>,
    memory_read_ms: Option<u64>,
}

impl Sampler {
    /// Nothing follows its load: all files are closed.
    pub fn rest(&mut self) {
        if self.strain.is_some() {
            *self = Self::default();
        }
    }

    /// Reads these containers, and the node.
    pub fn read(&mut self, paths: &RuntimePaths, wishes: Vec<Wish>, now_ms: u64) -> Readings {
        if self.hierarchies.is_none() {
            self.hierarchies = Hierarchies::find().ok();
        }
        let mut before = std::mem::take(&mut self.open);
        let mut containers = BTreeMap::new();
        for wish in wishes {
            let Wish { id, ready, measured } = wish;
            let mut files = before.remove(&id).unwrap_or_default();
            if files.lacks(measured)
                && let Some(hierarchies) = &self.hierarchies
            {
                files.open(hierarchies, &paths.cgroup(&id.to_string()), measured);
            }
            let sample = files.sample(ready, now_ms);
            if self.open.len() < MAX_OPEN {
                self.open.insert(id.clone(), files);
            }
            containers.insert(id, sample);
        }
        Readings { containers, node: self.read_node(paths, now_ms), instances: 0 }
    }

    fn read_node(&mut self, paths: &RuntimePaths, now_ms: u64) -> NodeSample {
        let strain = self.strain.get_or_insert_with(|| Strain::find(&paths.data));
        let due = |at_ms: u64| now_ms >= at_ms.saturating_add(NODE_EVERY_MS);
        if self.node_read_ms.is_none_or(due) {
            if let Some(hierarchies) = &self.hierarchies {
                strain.find_bounds(hierarchies, &paths.cgroup_parent);
            }
            self.node = strain.read();
            self.node_read_ms = Some(now_ms);
        }
        self.node
    }
}

impl Files {
    const fn lacks(&self, (cpu, memory): (bool, bool)) -> bool {
        (cpu && self.cpu.is_none()) || (memory && self.memory.is_none())
    }

    fn open(&mut self, hierarchies: &Hierarchies, cgroup: &str, (cpu, memory): (bool, bool)) {
        let open = |controller, names| -> Option<File> {
            let path: PathBuf = hierarchies.file(controller, cgroup, names)?;
            File::open(path).ok()
        };
        if cpu && self.cpu.is_none() {
            self.cpu = open("cpuacct", ("cpuacct.usage", "cpu.stat"));
        }
        if memory && self.memory.is_none() {
            let used = open("memory", ("memory.usage_in_bytes", "memory.current"));
            self.memory = used.zip(open("memory", ("memory.stat", "memory.stat")));
        }
    }

    fn sample(&mut self, ready: bool, now_ms: u64) -> Sample {
        let due = |at_ms: u64| now_ms >= at_ms.saturating_add(MEMORY_EVERY_MS);
        if self.memory_read_ms.is_none_or(due) {
            self.memory_read_ms = self.memory.as_ref().map(|_| now_ms);
            self.memory_bytes = self.memory_bytes();
        }
        let cpu = self.cpu.as_ref().and_then(|file| read(file, |text| Some(cpu_us(text))));
        Sample { ready, cpu_us: cpu, memory_bytes: self.memory_bytes }
    }

    fn memory_bytes(&self) -> Option<u64> {
        let (used, stat) = self.memory.as_ref()?;
        let used = read(used, number)?;
        Some(used.saturating_sub(read(stat, |text| Some(reclaimable(text)))?))
    }
}

/// What a small file of the kernel says now.
pub(super) fn read<T>(file: &File, make: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let mut buffer = [0; MAX_BYTES];
    let length = file.read_at(&mut buffer, 0).ok()?;
    make(std::str::from_utf8(&buffer[..length]).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_without_a_cgroup_is_missing_and_the_node_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let paths = RuntimePaths {
            run: dir.path().to_owned(),
            data: dir.path().to_owned(),
            cgroup_parent: "/limpet-none".to_owned(),
        };
        let id: ContainerId = "shop.web.1.1".parse().unwrap();
        let mut sampler = Sampler::default();
        let wish = Wish { id: id.clone(), ready: true, measured: (true, true) };
        let readings = sampler.read(&paths, vec![wish], 5);
        let sample = Sample { ready: true, cpu_us: None, memory_bytes: None };
        assert_eq!(readings.containers[&id], sample);
        assert!(readings.node.memory_bytes > readings.node.available_bytes);
        assert!(readings.node.available_bytes > 0, "{:?}", readings.node);
        sampler.rest();
        assert!(sampler.open.is_empty() && sampler.strain.is_none());
    }
}
