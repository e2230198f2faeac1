//! Strain: how near the node is to its end.
//!
//! In: files of the kernel, found once and kept open. Out: a [`NodeSample`]. What a kernel or a board does
//! not have is left out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::bound::{Bounds, Memory};
use super::sample::read;
use crate::keeper::cgroup::Hierarchies;
use crate::scale::node::{Heat, NodeSample};

/// Zones that are read: a board has a few.
const MAX_ZONES: usize = 16;
/// Trip points of a zone that are looked at.
const MAX_TRIPS: usize = 12;

/// See the module.
#[derive(Debug)]
pub(super) struct Strain {
    memory: Option<File>,
    pressure: Option<File>,
    zones: Vec<Zone>,
    undervoltage: Option<File>,
    /// Where containers write.
    data: PathBuf,
    /// Limits of what containers may have together; none before the first of them.
    bounds: Option<Bounds>,
}

#[derive(Debug)]
struct Zone {
    now: File,
    slows: Option<i32>,
    halts: Option<i32>,
}

impl Strain {
    pub(super) fn find(data: &Path) -> Self {
        Self {
            memory: File::open("/proc/meminfo").ok(),
            pressure: File::open("/proc/pressure/memory").ok(),
            zones: zones(Path::new("/sys/class/thermal")),
            undervoltage: undervoltage(Path::new("/sys/class/hwmon")),
            data: data.to_owned(),
            bounds: None,
        }
    }

    /// Looks for limits of the cgroup that all containers are in, until it is there.
    pub(super) fn find_bounds(&mut self, hierarchies: &Hierarchies, cgroup: &str) {
        if self.bounds.is_none() {
            self.bounds = Bounds::find(hierarchies, cgroup);
        }
    }

    pub(super) fn read(&self) -> NodeSample {
        let memory = self.memory.as_ref().and_then(|file| read(file, memory));
        let memory = memory.unwrap_or_default();
        let bounds = self.bounds.as_ref();
        let Memory { bytes: memory_bytes, available: available_bytes } =
            bounds.map_or(memory, |bounds| bounds.shortest(memory));
        let pressure = self.pressure.as_ref().and_then(|file| read(file, full_pressure));
        let pressure = pressure.max(bounds.and_then(|bounds| bounds.pressure(full_pressure)));
        let is_low = |file| read(file, |text| Some(text.trim() == "1"));
        NodeSample {
            memory_bytes,
            available_bytes,
            memory_pressure: pressure,
            heat: self.heat(),
            disk_free: disk_free(&self.data),
            undervoltage: self.undervoltage.as_ref().and_then(is_low).unwrap_or(false),
        }
    }

    /// The zone that is nearest to its end.
    fn heat(&self) -> Option<Heat> {
        let heat = |zone: &Zone| {
            let now = read(&zone.now, |text| text.trim().parse().ok())?;
            Some(Heat { now, slows: zone.slows, halts: zone.halts })
        };
        let left = |heat: &Heat| {
            let until =
                |point: Option<i32>| point.map_or(i32::MAX, |it| it.saturating_sub(heat.now));
            until(heat.slows).min(until(heat.halts))
        };
        self.zones.iter().filter_map(heat).min_by_key(left)
    }
}

/// All of it, and what could be had of it, in bytes.
fn memory(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = rest.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes.saturating_mul(1024))
    };
    Some(Memory { bytes: field("MemTotal:")?, available: field("MemAvailable:")? })
}

/// Space that everybody may use, in thousandths of all.
fn disk_free(folder: &Path) -> Option<u32> {
    let space = rustix::fs::statvfs(folder).ok()?;
    let share = space.f_bavail.saturating_mul(1_000).checked_div(space.f_blocks)?;
    u32::try_from(share).ok()
}

/// `full avg10=1.25 ...` in hundredths of a hundredth (Documentation/accounting/psi.rst).
fn full_pressure(text: &str) -> Option<u32> {
    avg10(text, "full avg10=")
}

/// The number behind one of the words of a pressure file, likewise.
pub(super) fn avg10(text: &str, word: &str) -> Option<u32> {
    let found = text.lines().find_map(|line| line.strip_prefix(word))?;
    let (whole, rest) = found.split_whitespace().next()?.split_once('.')?;
    let whole: u32 = whole.parse().ok()?;
    let hundredths: u32 = rest.get(..2)?.parse().ok()?;
    whole.checked_mul(100)?.checked_add(hundredths)
}

fn zones(folder: &Path) -> Vec<Zone> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path()).filter(|path| named(path, "thermal_zone"));
    paths.take(MAX_ZONES).filter_map(|path| zone(&path)).collect()
}

fn named(path: &Path, begin: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(begin))
}

/// A zone and the points where the kernel acts; none if it has no such points.
fn zone(path: &Path) -> Option<Zone> {
    let text = |name: String| fs::read_to_string(path.join(name)).ok();
    let (mut slows, mut halts) = (None, None);
    for number in 0..MAX_TRIPS {
        let Some(kind) = text(format!("trip_point_{number}_type")) else { break };
        let point = text(format!("trip_point_{number}_temp"));
        let Some(point) = point.and_then(|point| point.trim().parse::<i32>().ok()) else {
            continue;
        };
        // Points that are switched off are 0 or less.
        let least = |known: Option<i32>| Some(known.map_or(point, |known| known.min(point)));
        match kind.trim() {
            "passive" | "hot" if point > 0 => slows = least(slows),
            "critical" if point > 0 => halts = least(halts),
            _ => {}
        }
    }
    (slows.is_some() || halts.is_some()).then_some(())?;
    Some(Zone { now: File::open(path.join("temp")).ok()?, slows, halts })
}

/// The alarm of a Raspberry Pi's supply voltage.
fn undervoltage(folder: &Path) -> Option<File> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let is_supply = |path: &PathBuf| {
        fs::read_to_string(path.join("name")).is_ok_and(|name| name.trim() == "rpi_volt")
    };
    let supply = entries.map(|entry| entry.path()).find(is_supply)?;
    File::open(supply.join("in0_lcrit_alarm")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read() {
        let text = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   400 kB\n";
        assert_eq!(memory(text), Some(Memory { bytes: 1_024_000, available: 409_600 }));
        assert_eq!(memory("MemTotal: 1000 kB\n"), None);
        let text = "some avg10=9.00 avg60=0 avg300=0 total=1\nfull avg10=1.25 avg60=0.00 total=1\n";
        assert_eq!(full_pressure(text), Some(125));
        assert_eq!(full_pressure("some avg10=9.00"), None);
    }

    #[test]
    fn zones_have_points_and_a_supply_has_an_alarm() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (zone, now) in [("thermal_zone0", "60000\n"), ("thermal_zone1", "79000\n")] {
            write(&format!("{zone}/temp"), now);
            write(&format!("{zone}/trip_point_0_type"), "critical\n");
            write(&format!("{zone}/trip_point_0_temp"), "110000\n");
            write(&format!("{zone}/trip_point_1_type"), "passive\n");
            write(&format!("{zone}/trip_point_1_temp"), "80000\n");
        }
        write("thermal_zone2/temp", "99000\n");
        write("cooling_device0/type", "fan\n");
        write("hwmon/hwmon0/name", "cpu_thermal\n");
        write("hwmon/hwmon1/name", "rpi_volt\n");
        write("hwmon/hwmon1/in0_lcrit_alarm", "1\n");
        let undervoltage = undervoltage(&dir.path().join("hwmon"));
        let mut strain = Strain {
            memory: None,
            pressure: None,
            zones: zones(dir.path()),
            undervoltage,
            bounds: None,
            data: dir.path().to_owned(),
        };
        assert!(strain.read().disk_free.is_some_and(|free| free <= 1_000));
        strain.data = dir.path().join("gone");
        assert_eq!(strain.zones.len(), 2, "one without points says nothing");
        let heat = Heat { now: 79_000, slows: Some(80_000), halts: Some(110_000) };
        let expected = NodeSample { heat: Some(heat), undervoltage: true, ..NodeSample::default() };
        assert_eq!(strain.read(), expected);
    }
}
