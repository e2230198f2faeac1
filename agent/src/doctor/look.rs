//! What the kernel's files say of this machine.

use std::fs;
use std::path::Path;

use rustix::fs::{Access, StatVfsMountFlags};

use super::findings::Machine;
use crate::keeper::facts::NodeFacts;

/// Before this agent was written nothing happened: a clock that says so is wrong. 2025-01-01.
const LIKELY_SECONDS: u64 = 1_735_689_600;
/// The bit for "has been since the start" of what the Raspberry Pi's firmware says of its supply
/// (<https://www.raspberrypi.com/documentation/computers/os.html#get_throttled>).
const UNDERVOLTAGE_BITS: u32 = 1 << 16 | 1;

/// Looks at it.
pub(super) fn machine(data: &Path) -> Machine {
    Machine {
        is_root: rustix::process::geteuid().is_root(),
        lacks: NodeFacts::found_here().conditions(),
        command_line: read("/proc/cmdline"),
        file_systems: read("/proc/filesystems"),
        has_clock: Path::new("/sys/class/rtc/rtc0").exists(),
        time_is_likely: now_seconds() > LIKELY_SECONDS,
        state_is_writable: is_writable(data),
        card_life: card_life(),
        undervoltage: undervoltage(),
        built_for: std::env::consts::ARCH,
        machine: rustix::system::uname().machine().to_string_lossy().into_owned(),
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "whether the clock is right is the question")]
fn now_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |it| it.as_secs())
}

/// Of a folder that is not there yet, its nearest parent.
fn is_writable(data: &Path) -> Option<bool> {
    let folder = data.ancestors().find(|folder| folder.exists())?;
    let facts = rustix::fs::statvfs(folder).ok()?;
    let read_only = facts.f_flag.contains(StatVfsMountFlags::RDONLY);
    Some(!read_only && rustix::fs::access(folder, Access::WRITE_OK).is_ok())
}

/// That of the first card that tells: eMMC does, most SD cards do not.
fn card_life() -> Option<String> {
    let mut devices = fs::read_dir("/sys/block").ok()?.flatten();
    devices.find_map(|device| fs::read_to_string(device.path().join("device/life_time")).ok())
}

/// The vendor's kernel has the firmware's word in a file, that of Linux an alarm of a sensor.
fn undervoltage() -> Option<bool> {
    let told = fs::read_to_string("/sys/devices/platform/soc/soc:firmware/get_throttled").ok();
    let bits = told.and_then(|hex| u32::from_str_radix(hex.trim(), 16).ok());
    if let Some(bits) = bits {
        return Some(bits & UNDERVOLTAGE_BITS != 0);
    }
    let mut sensors = fs::read_dir("/sys/class/hwmon").ok()?.flatten();
    let sensor = sensors.find(|it| read(it.path().join("name")).trim() == "rpi_volt")?;
    Some(read(sensor.path().join("in0_lcrit_alarm")).trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(&folder.path().join("not/there/yet"));
        assert_eq!(machine.state_is_writable, Some(true));
        assert!(machine.time_is_likely && !machine.machine.is_empty(), "{machine:?}");
    }
}
