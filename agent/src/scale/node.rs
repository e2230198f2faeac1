//! The node itself: whether there is room for more, and who gives way when there is not.
//!
//! | sign | nothing is added | services give way | source of the number |
//! |---|---|---|---|
//! | memory that could be had (`MemAvailable`) | below 10 % | below 5 % | `memory.available` of the kubelet's eviction is 100 MiB: a tenth of a board with 1 GiB |
//! | time in which everything waited for memory (PSI, `full avg10`) | over 10 % | over 20 % | systemd-oomd(8) acts at 60 % over 30 s; here nothing is killed, so it may be sooner |
//! | temperature | at the point where the kernel slows the processor down | 5 °C below the one where it halts | trip points, `Documentation/driver-api/thermal/sysfs-api.rst` |
//! | free space where containers write | below 5 % | no: what writes is told by the file system | `nodefs.available` of the kubelet's eviction is 10 %; here nothing is removed |
//! | supply voltage too low | yes | no | `in0_lcrit_alarm` of the driver `raspberrypi-hwmon` |
//!
//! What was taken comes back when there has been room for [`RECOVERS_MS`].

/// How often a service gives way while the node is short: what one gives is felt before the next does.
pub(super) const GIVES_EVERY_MS: u64 = 3_000;
/// How long there must have been room until services may grow again.
pub(super) const RECOVERS_MS: u64 = 60_000;

/// Available memory, in thousandths.
const TIGHT_MEMORY: u64 = 100;
const SHORT_MEMORY: u64 = 50;
/// Time in which everything waited for memory, in hundredths of a hundredth.
const TIGHT_PRESSURE: u32 = 1_000;
const SHORT_PRESSURE: u32 = 2_000;
/// Free space, in thousandths.
const TIGHT_DISK: u32 = 50;
/// How far below the point where the kernel halts the machine, in thousandths of a degree.
const HEAT_MARGIN: i32 = 5_000;

/// What was read of the node. What it does not have is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeSample {
    /// All memory, in bytes.
    pub memory_bytes: u64,
    /// What programs could have of it.
    pub available_bytes: u64,
    /// Time in which everything waited for memory, in hundredths of a hundredth of the last ten seconds.
    pub memory_pressure: Option<u32>,
    /// The hottest zone against its own points.
    pub heat: Option<Heat>,
    /// Free space where containers write, in thousandths.
    pub disk_free: Option<u32>,
    /// The supply voltage is too low.
    pub undervoltage: bool,
}

/// A temperature and its points, in thousandths of a degree Celsius.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heat {
    /// Now.
    pub now: i32,
    /// Where the kernel slows the processor down, if it says.
    pub slows: Option<i32>,
    /// Where it halts the machine, if it says.
    pub halts: Option<i32>,
}

/// Whether there is room on the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// There is.
    #[default]
    Ample,
    /// For what runs, not for more.
    Tight,
    /// Not even for what runs.
    Short,
}

/// What is at its end, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Memory.
    Memory,
    /// Programs wait for memory.
    Pressure,
    /// It is too hot.
    Heat,
    /// The disk is full.
    Disk,
    /// The supply voltage is too low.
    Voltage,
}

impl Cause {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory is short",
            Self::Pressure => "programs wait for memory",
            Self::Heat => "it is too hot",
            Self::Disk => "the disk is full",
            Self::Voltage => "the supply voltage is too low",
        }
    }
}

impl NodeSample {
    /// How much room there is, and what is at its end.
    #[must_use]
    pub fn room(&self) -> (Room, Option<Cause>) {
        let signs = [
            (self.memory(), Cause::Memory),
            (self.pressure(), Cause::Pressure),
            (self.heat(), Cause::Heat),
            (tight_if(self.disk_free.is_some_and(|free| free < TIGHT_DISK)), Cause::Disk),
            (tight_if(self.undervoltage), Cause::Voltage),
        ];
        let worst = signs.into_iter().rev().max_by_key(|(room, _)| *room);
        match worst {
            Some((room, cause)) if room > Room::Ample => (room, Some(cause)),
            _ => (Room::Ample, None),
        }
    }

    fn memory(&self) -> Room {
        // A kernel that does not say is not short.
        if self.memory_bytes == 0 {
            return Room::Ample;
        }
        match self.available_bytes.saturating_mul(1_000) / self.memory_bytes {
            left if left < SHORT_MEMORY => Room::Short,
            left if left < TIGHT_MEMORY => Room::Tight,
            _ => Room::Ample,
        }
    }

    fn pressure(&self) -> Room {
        match self.memory_pressure.unwrap_or(0) {
            pressure if pressure > SHORT_PRESSURE => Room::Short,
            pressure if pressure > TIGHT_PRESSURE => Room::Tight,
            _ => Room::Ample,
        }
    }

    fn heat(&self) -> Room {
        let Some(heat) = self.heat else { return Room::Ample };
        if heat.halts.is_some_and(|halts| heat.now >= halts.saturating_sub(HEAT_MARGIN)) {
            return Room::Short;
        }
        if heat.slows.is_some_and(|slows| heat.now >= slows) { Room::Tight } else { Room::Ample }
    }
}

const fn tight_if(sign: bool) -> Room {
    if sign { Room::Tight } else { Room::Ample }
}

/// Follows the room of the node over time.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    room: Room,
    cause: Option<Cause>,
    /// Since when there has been room, after there was not.
    ample_since_ms: Option<u64>,
    gave_ms: Option<u64>,
}

/// What the room of the node means just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) room: Room,
    /// One service is to give way now.
    pub(super) gives: bool,
    /// Services may have back what they gave.
    pub(super) returns: bool,
}

impl Guard {
    pub(super) fn look(&mut self, sample: &NodeSample, now_ms: u64) -> Verdict {
        (self.room, self.cause) = sample.room();
        let gave = |after_ms: u64| {
            self.gave_ms.is_some_and(|gave_ms| now_ms < gave_ms.saturating_add(after_ms))
        };
        let gives = self.room == Room::Short && !gave(GIVES_EVERY_MS);
        if gives {
            self.gave_ms = Some(now_ms);
        }
        if self.room > Room::Ample {
            self.ample_since_ms = None;
        } else if self.ample_since_ms.is_none() {
            self.ample_since_ms = Some(now_ms);
        }
        let since = self.ample_since_ms;
        let returns = since.is_some_and(|since| since.saturating_add(RECOVERS_MS) <= now_ms);
        Verdict { room: self.room, gives, returns }
    }

    pub(super) const fn cause(&self) -> Option<Cause> {
        self.cause
    }
}

/// One that could give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Giver {
    pub(super) priority: i32,
    pub(super) number: u32,
    pub(super) least: u32,
}

/// Who gives way next: of the lowest priority the one with the most instances over its least; nobody goes
/// below that.
pub(super) fn gives_way(services: impl Iterator<Item = Giver>) -> Option<usize> {
    let spare = |giver: &Giver| giver.number.saturating_sub(giver.least);
    let able = services.enumerate().filter(|(_, giver)| spare(giver) > 0);
    able.min_by_key(|(place, giver)| (giver.priority, std::cmp::Reverse(spare(giver)), *place))
        .map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> NodeSample {
        NodeSample { memory_bytes: 1_000_000, available_bytes: 500_000, ..NodeSample::default() }
    }

    #[test]
    fn signs_of_a_node_at_its_end() {
        let heat = |now| Some(Heat { now, slows: Some(80_000), halts: Some(110_000) });
        for (sample, room, cause) in [
            (sample(), Room::Ample, None),
            (NodeSample::default(), Room::Ample, None),
            (NodeSample { available_bytes: 99_000, ..sample() }, Room::Tight, Some(Cause::Memory)),
            (NodeSample { available_bytes: 49_000, ..sample() }, Room::Short, Some(Cause::Memory)),
            (
                NodeSample { memory_pressure: Some(1_500), ..sample() },
                Room::Tight,
                Some(Cause::Pressure),
            ),
            (
                NodeSample { memory_pressure: Some(2_500), available_bytes: 99_000, ..sample() },
                Room::Short,
                Some(Cause::Pressure),
            ),
            (NodeSample { heat: heat(79_000), ..sample() }, Room::Ample, None),
            (NodeSample { heat: heat(80_000), ..sample() }, Room::Tight, Some(Cause::Heat)),
            (NodeSample { heat: heat(105_000), ..sample() }, Room::Short, Some(Cause::Heat)),
            (NodeSample { disk_free: Some(49), ..sample() }, Room::Tight, Some(Cause::Disk)),
            (NodeSample { disk_free: Some(50), ..sample() }, Room::Ample, None),
            (NodeSample { undervoltage: true, ..sample() }, Room::Tight, Some(Cause::Voltage)),
        ] {
            assert_eq!(sample.room(), (room, cause), "{sample:?}");
        }
    }

    #[test]
    fn services_give_way_one_after_the_other_and_come_back_after_a_while() {
        let short = NodeSample { available_bytes: 1_000, ..sample() };
        let mut guard = Guard::default();
        let gives = [0, 1_000, 2_999, 3_000, 5_000, 6_000].map(|at| guard.look(&short, at).gives);
        assert_eq!(gives, [true, false, false, true, false, true]);
        let returns = [7_000, 66_999, 67_000].map(|at| guard.look(&sample(), at).returns);
        assert_eq!(returns, [false, false, true]);
        guard.look(&short, 67_001);
        assert!(!guard.look(&sample(), 67_002).returns);
    }

    #[test]
    fn the_lowest_priority_gives_first_and_nobody_goes_below_its_least() {
        let giver = |priority, number, least| Giver { priority, number, least };
        for (services, expected) in [
            (vec![giver(0, 3, 1), giver(-5, 2, 1)], Some(1)),
            (vec![giver(0, 3, 1), giver(-5, 1, 1)], Some(0)),
            (vec![giver(0, 3, 1), giver(0, 6, 2)], Some(1)),
            (vec![giver(0, 3, 1), giver(0, 3, 1)], Some(0)),
            (vec![giver(0, 1, 1)], None),
            (vec![], None),
        ] {
            assert_eq!(gives_way(services.iter().copied()), expected, "{services:?}");
        }
    }
}
