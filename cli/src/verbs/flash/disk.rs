//! What the kernel says of a disk, and whether it may be written.
//!
//! In: the path of a device, `/sys` and `/proc`. Out: what a person needs to know it by, or why it is refused.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

/// A disk that nothing uses.
#[derive(Debug)]
pub(super) struct Disk {
    /// What people see on it.
    pub(super) model: String,
    /// How much fits on it.
    pub(super) bytes: u64,
}

impl Disk {
    /// Looks at a disk.
    ///
    /// # Errors
    /// If it is none, or in use.
    pub(super) fn free(path: &Path) -> anyhow::Result<Self> {
        let facts = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
        if facts.is_file() {
            return Ok(Self { model: "a file".to_owned(), bytes: facts.len() });
        }
        ensure!(facts.file_type().is_block_device(), "{} is no disk", path.display());
        let (major, minor) = (rustix::fs::major(facts.rdev()), rustix::fs::minor(facts.rdev()));
        let folder = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"))
            .with_context(|| format!("find {} in /sys", path.display()))?;
        if folder.join("partition").exists() {
            bail!("{} is a partition: name the whole disk", path.display());
        }
        refuse_used(path, &folder)?;
        let sectors = read(&folder.join("size")).parse::<u64>().unwrap_or(0);
        let model = format!(
            "{} {}",
            read(&folder.join("device/vendor")),
            read(&folder.join("device/model"))
        );
        Ok(Self { model: model.trim().to_owned(), bytes: sectors.saturating_mul(512) })
    }
}

/// The disk and its partitions must neither be mounted, nor swap, nor part of a larger device.
fn refuse_used(path: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut parts = vec![folder.to_owned()];
    let listed = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    parts.extend(listed.flatten().map(|it| it.path()).filter(|it| it.join("partition").exists()));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    for part in &parts {
        if let Some(place) = mounted(&mounts, &read(&part.join("dev"))) {
            bail!("{} is in use: {} is mounted at {place}", path.display(), name(part));
        }
        let device = format!("/dev/{}", name(part));
        if swaps.lines().any(|line| line.split_whitespace().next() == Some(&device)) {
            bail!("{} is in use: {device} is swap", path.display());
        }
        if fs::read_dir(part.join("holders")).is_ok_and(|mut holders| holders.next().is_some()) {
            bail!("{} is in use: {} is part of another device", path.display(), name(part));
        }
    }
    Ok(())
}

/// Where a device (`MAJOR:MINOR`) is mounted, by the lines of `/proc/self/mountinfo`.
fn mounted<'a>(mounts: &'a str, device: &str) -> Option<&'a str> {
    let mut words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    words.find(|words| words.get(2) == Some(&device)).and_then(|words| words.get(4).copied())
}

fn name(folder: &Path) -> String {
    folder.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read(path: &PathBuf) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_device() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/root rw\n30 22 8:1 / /media/card rw - vfat /dev/sda1 rw\n";
        assert_eq!(mounted(mounts, "8:1"), Some("/media/card"));
        assert_eq!(mounted(mounts, "8:2"), None);
    }

    #[test]
    fn the_disk_that_this_machine_runs_from_is_refused() {
        let facts = fs::metadata("/").unwrap();
        let device =
            format!("{}:{}", rustix::fs::major(facts.dev()), rustix::fs::minor(facts.dev()));
        let Ok(folder) = fs::canonicalize(format!("/sys/dev/block/{device}")) else { return };
        let error = refuse_used(Path::new("/dev/root"), &folder).unwrap_err();
        assert!(error.to_string().contains("is mounted at"), "{error}");
        assert!(Disk::free(Path::new("/dev/null")).unwrap_err().to_string().contains("is no disk"));
    }
}
