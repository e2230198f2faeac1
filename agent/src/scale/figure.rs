//! One figure: what was measured of all instances → how many instances it asks for.
//!
//! The rule is the ratio rule of Kubernetes' HorizontalPodAutoscaler, with its handling of what is not
//! ready and of what could not be measured (`pkg/controller/podautoscaler/replica_calculator.go`, functions
//! `calcPlainMetricReplicas`, `GetObjectMetricReplicas`; the page "Horizontal Pod Autoscaling", section
//! "Algorithm details"). It is written here for the load of all instances together, in thousandths of an
//! instance that is exactly at its target: number × figure ÷ target is that load.

use heapless::Deque;
use limpet_protocol::scale::{Missing, Target};

/// How far load and number may differ, in thousandths: 10 %
/// (`--horizontal-pod-autoscaler-tolerance` of Kubernetes).
const TOLERANCE: u64 = 100;
/// One instance at its target.
const ONE: u64 = 1_000;
/// Below that, in thousandths of an instance at its target, instances have nothing to do: no program that
/// waits uses exactly nothing.
const IDLE: u64 = 20;
/// Over how long the load is smoothed that decides whether there are fewer: as long as Kubernetes takes
/// between two looks (`--horizontal-pod-autoscaler-sync-period`).
const SMOOTH_MS: u64 = 15_000;
/// That time is kept in parts, so that a fixed amount of memory holds it.
const PART_MS: u64 = 3_000;
/// So many parts, and one that has begun.
const MAX_PARTS: usize = 6;

/// Whose load a figure tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Whose {
    /// That of the instances it was measured at.
    #[default]
    Measured,
    /// That of all instances on this node; it was measured elsewhere.
    Node,
    /// That of all instances wherever they are: it was published.
    Service,
}

/// A figure, measured once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// All that was measured, added up, in thousandths.
    pub sum: u64,
    /// The greatest of it.
    pub greatest: u64,
    /// How many could be measured.
    pub counted: u32,
    /// How many should have been measured but could not be.
    pub missing: u32,
    /// Instances of the service that are ready, and have been for long enough: no others are measured.
    pub ready: u32,
    /// Whose load it tells.
    pub whose: Whose,
    /// Why it could not be had, as far as that is known.
    pub why: Option<Missing>,
}

impl Reading {
    /// Adds one that was measured, or should have been.
    pub fn add(&mut self, value: Option<u64>) {
        match value {
            Some(value) => {
                self.sum = self.sum.saturating_add(value);
                self.greatest = self.greatest.max(value);
                self.counted += 1;
            }
            None => self.missing += 1,
        }
    }

    /// The figure as the target is meant, in thousandths; with so many instances on other nodes.
    fn value(&self, target: Target, elsewhere: u32) -> Option<u64> {
        let all = u64::from(self.ready) + u64::from(elsewhere);
        match (target, self.whose) {
            _ if self.counted == 0 => None,
            (Target::Value(_), _) => Some(self.greatest),
            (Target::Average(_), Whose::Measured) => Some(self.sum / u64::from(self.counted)),
            (Target::Average(_), _) => Some(self.sum / all.max(1)),
        }
    }

    /// Whether it says nothing though it should.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.missing > 0 && (self.counted == 0 || !matches!(self.whose, Whose::Measured))
    }

    /// The load of the instances here and of so many elsewhere. Of what was measured here those are taken to
    /// have as much to do: connections are spread over all of them.
    fn load_with(&self, target: Target, elsewhere: u32) -> Load {
        let sharers = if self.whose == Whose::Service { elsewhere } else { 0 };
        let Load { known, safe } = self.load(target, self.ready.saturating_add(sharers));
        if elsewhere == 0 || self.whose != Whose::Measured {
            return Load { known, safe };
        }
        let here = u128::from(self.ready.max(1));
        let all = |load: u64| {
            let all = u128::from(load) * (here + u128::from(elsewhere)) / here;
            u64::try_from(all).unwrap_or(u64::MAX)
        };
        Load { known: all(known), safe: safe.map(all) }
    }

    /// The load of as many instances as the figure is of.
    fn load(&self, target: Target, sharers: u32) -> Load {
        let share = |value: u64, target: u64| {
            let (load, target) = (u128::from(value) * u128::from(ONE), u128::from(target.max(1)));
            // Of what is told elsewhere a little is not nothing.
            let is_measured = self.whose == Whose::Measured;
            let load = if is_measured { load / target } else { load.div_ceil(target) };
            u64::try_from(load).unwrap_or(u64::MAX)
        };
        let missing = u64::from(self.missing);
        match target {
            // What is missing counts as nothing when there would be more, as on target when fewer.
            Target::Average(target) => {
                let known = share(self.sum, target);
                let safe = known.saturating_add(missing.saturating_mul(ONE));
                Load { known, safe: (!self.is_lost()).then_some(safe) }
            }
            Target::Value(target) => {
                let sharers = u64::from(sharers.max(1));
                let known = share(self.greatest, target).saturating_mul(sharers);
                Load { known, safe: (!self.is_lost()).then_some(known) }
            }
        }
    }
}

/// The load of all instances, in thousandths of an instance at its target.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// As far as it is known for certain.
    known: u64,
    /// With what may be there too; none if that cannot be said.
    safe: Option<u64>,
}

/// Follows one figure over time.
#[derive(Debug, Clone, Default)]
pub(super) struct Gauge {
    newest: Reading,
    /// What the last two readings ask for: a number grows only by what both do.
    known: [u64; 2],
    mean: Mean,
    /// The smoothed load; none before the first reading and while it cannot be said.
    smooth: Option<u64>,
    /// Instances on other nodes that the load is of, too.
    elsewhere: u32,
}

impl Gauge {
    pub(super) fn read(
        &mut self,
        reading: Reading,
        (target, elsewhere): (Target, u32),
        now_ms: u64,
    ) {
        let load = reading.load_with(target, elsewhere);
        self.elsewhere = if reading.whose == Whose::Node { 0 } else { elsewhere };
        self.known = [self.known[1], load.known];
        // While none is ready nobody knows what the load is.
        let safe = load.safe.filter(|_| reading.ready > 0);
        if safe.is_none() {
            self.mean = Mean::default();
        }
        self.smooth = safe.map(|load| self.mean.push(load, now_ms));
        self.newest = reading;
    }

    pub(super) const fn newest(&self) -> &Reading {
        &self.newest
    }

    /// The newest as the target is meant, in thousandths.
    pub(super) fn value(&self, target: Target) -> Option<u64> {
        self.newest.value(target, self.elsewhere)
    }

    /// What the last two readings both ask for.
    fn short(&self) -> u64 {
        self.known[0].min(self.known[1])
    }

    /// How many instances it asks for in the place of `number`, if that is more.
    pub(super) fn more_than(&self, number: u32) -> Option<u32> {
        let load = self.short();
        let beyond = u64::from(number).saturating_mul(ONE + TOLERANCE);
        (load > beyond).then(|| whole(load)).filter(|wish| *wish > number)
    }

    /// How many instances are enough, at most `number`.
    pub(super) fn enough(&self, number: u32) -> u32 {
        let Some(smooth) = self.smooth else { return number };
        let load = smooth.max(self.short());
        let ready = u64::from(self.newest.ready) + u64::from(self.elsewhere);
        let within = ready.saturating_mul(ONE - TOLERANCE);
        if load >= within { number } else { whole(load).min(number) }
    }

    /// Whether the instances have nothing to do. Of their own figures a little counts as nothing; what is
    /// told elsewhere (the length of a queue) says exactly when that is so.
    pub(super) fn is_idle(&self) -> bool {
        let load = if self.newest.whose == Whose::Measured { IDLE } else { 1 };
        self.smooth.is_some_and(|smooth| smooth.max(self.short()) < load)
    }
}

/// Rounded up to whole instances.
fn whole(load: u64) -> u32 {
    u32::try_from(load.div_ceil(ONE)).unwrap_or(u32::MAX)
}

/// The mean of the readings within [`SMOOTH_MS`].
#[derive(Debug, Clone, Default)]
struct Mean {
    parts: Deque<Part, MAX_PARTS>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    from_ms: u64,
    sum: u64,
    count: u64,
}

impl Mean {
    fn push(&mut self, load: u64, now_ms: u64) -> u64 {
        let since = |part: &Part| now_ms.saturating_sub(part.from_ms);
        while self.parts.front().is_some_and(|part| since(part) >= SMOOTH_MS) {
            self.parts.pop_front();
        }
        match self.parts.back_mut() {
            Some(part) if since(part) < PART_MS => {
                part.sum = part.sum.saturating_add(load);
                part.count += 1;
            }
            _ => {
                let new = Part { from_ms: now_ms, sum: load, count: 1 };
                // Parts are no shorter than that, so there is room for one more.
                self.parts.push_back(new).ok();
            }
        }
        let sum = self.parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.sum));
        sum / self.parts.iter().map(|part| part.count).sum::<u64>().max(1)
    }
}
