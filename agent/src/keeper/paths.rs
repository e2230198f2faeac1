//! Where the files of a container are.

use std::path::PathBuf;

use crate::runtime::RuntimePaths;

impl RuntimePaths {
    /// The bundle and record of each container, in memory.
    pub(crate) fn bundles(&self) -> PathBuf {
        self.run.join("containers")
    }
    /// One container's bundle.
    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.bundles().join(id)
    }
    /// Where libcontainer keeps its state.
    pub(crate) fn states(&self) -> PathBuf {
        self.run.join("state")
    }
    /// What execs need while they start.
    pub(crate) fn execs(&self) -> PathBuf {
        self.run.join("execs")
    }
    /// One exec's, by its number.
    pub(crate) fn exec(&self, exec: u64) -> PathBuf {
        self.execs().join(exec.to_string())
    }
    /// The logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.run.join("logs")
    }
    /// One container's log; older files have `.1`, `.2` … after it.
    pub(crate) fn log(&self, id: &str) -> PathBuf {
        self.logs().join(format!("{id}.log"))
    }
    /// The writable layers.
    pub(crate) fn writables(&self) -> PathBuf {
        self.data.join("containers")
    }
    /// One container's writable layer.
    pub(crate) fn writable(&self, id: &str) -> PathBuf {
        self.writables().join(id)
    }
    /// The named volumes.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }
    /// Where folders within volumes are bound while containers are made.
    pub(crate) fn subpaths_of(&self, id: &str) -> PathBuf {
        self.run.join("subpaths").join(id)
    }
    /// That of the container's volume `index`.
    pub(crate) fn subpath(&self, id: &str, index: usize) -> PathBuf {
        self.subpaths_of(id).join(index.to_string())
    }
    /// One container's cgroup, in each hierarchy.
    pub(crate) fn cgroup(&self, id: &str) -> String {
        format!("{}/{id}", self.cgroup_parent.trim_end_matches('/'))
    }
}
