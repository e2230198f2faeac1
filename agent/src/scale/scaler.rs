//! One service: figures → how many instances run, and why.

use heapless::Vec;
use limpet_protocol::limits::MAX_METRICS_PER_SERVICE;
use limpet_protocol::scale::{Figure, Per, ScaleLimit, ScalePolicy, Scaling, Target};

use super::figure::{Gauge, Reading, Whose};
use super::history::Course;
use super::pace::{self, Windows};

/// Figures of one service: CPU, memory, and its metrics.
pub(super) const MAX_FIGURES: usize = MAX_METRICS_PER_SERVICE + 2;
/// Thousandths of a hundredth.
const PER_PERCENT: u64 = 1_000;

/// What a figure is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigureOf {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
    /// A metric, by its place in the policy.
    Metric(usize),
}

/// The figures that a policy has targets for, in its order.
pub fn figures_of(policy: &ScalePolicy) -> impl Iterator<Item = (FigureOf, Target)> + '_ {
    let share = |percent: u32| Target::Average(u64::from(percent) * PER_PERCENT);
    let cpu = policy.cpu_percent.map(|percent| (FigureOf::Cpu, share(percent)));
    let memory = policy.memory_percent.map(|percent| (FigureOf::Memory, share(percent)));
    let metrics = policy.metrics.iter().take(MAX_METRICS_PER_SERVICE).enumerate();
    let metrics = metrics.map(|(place, metric)| (FigureOf::Metric(place), metric.target));
    cpu.into_iter().chain(memory).chain(metrics)
}

/// How many instances run, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// So many.
    pub number: u32,
    /// What the load asks for over the windows, at most the policy's most.
    pub wish: u32,
    /// What keeps the number from what the load asks for.
    pub limit: ScaleLimit,
}

/// Follows one service.
#[derive(Debug, Clone)]
pub struct Scaler {
    gauges: Vec<Gauge, MAX_FIGURES>,
    windows: Windows,
    course: Course,
    /// Most instances because the node is short; none is no such limit.
    room: Option<u32>,
    newest: Decision,
}

impl Scaler {
    /// Begins with what runs, within the bounds.
    #[must_use]
    pub fn new(running: u32, scaling: &Scaling, now_ms: u64) -> Self {
        let number = running.clamp(scaling.least.min(scaling.most), scaling.most);
        Self {
            gauges: Vec::new(),
            windows: Windows::new(number, now_ms),
            course: Course::new(number, now_ms),
            room: None,
            newest: Decision { number, wish: number, limit: ScaleLimit::None },
        }
    }

    /// The newest decision.
    #[must_use]
    pub const fn newest(&self) -> &Decision {
        &self.newest
    }

    /// Another policy: figures are followed anew, the number stays.
    pub fn policy_changed(&mut self) {
        self.gauges.clear();
    }

    /// The node is short: at most so many from now on. None is no limit.
    pub fn set_room(&mut self, room: Option<u32>) {
        self.room = room;
    }

    /// Takes what was measured, in the order of [`figures_of`], and decides. `needed` is whether
    /// somebody waits for an instance though there is none.
    pub fn decide(
        &mut self,
        readings: &[Reading],
        scaling: &Scaling,
        needed: bool,
        now_ms: u64,
    ) -> &Decision {
        let policy = &scaling.policy;
        for (place, (_, target)) in figures_of(policy).enumerate() {
            if place == self.gauges.len() && self.gauges.push(Gauge::default()).is_err() {
                break;
            }
            let reading = readings.get(place).copied().unwrap_or_default();
            self.gauges[place].read(reading, (target, scaling.elsewhere), now_ms);
        }
        let number = self.course.now();
        let all = number.saturating_add(scaling.elsewhere);
        let raw = self.raw_wish(policy, (number, all), needed);
        let wish = self.windows.settle(raw.min(policy.max), all, policy, now_ms);
        let here = |wish: u32| wish.saturating_sub(scaling.elsewhere);
        let (decided, limit) = self.limited((here(raw), here(wish)), scaling, now_ms);
        let decided = decided.min(self.alone(scaling, (number, all), needed));
        if decided != number {
            self.course.change(decided, now_ms);
        }
        self.newest = Decision { number: decided, wish, limit };
        &self.newest
    }

    /// Most instances that the node may come to without being told to. What a published figure asks for every
    /// node hears at once: if each of them did it, there would be too many. The controller says who does.
    fn alone(&self, scaling: &Scaling, (number, all): (u32, u32), needed: bool) -> u32 {
        let is_published = |gauge: &&Gauge| gauge.newest().whose == Whose::Service;
        if scaling.policy.per == Per::Node || !self.gauges.iter().any(|it| is_published(&it)) {
            return u32::MAX;
        }
        let others = self.gauges.iter().filter(|gauge| !is_published(gauge));
        let more = others.filter_map(|gauge| gauge.more_than(all)).max().unwrap_or(0);
        let here = more.max(u32::from(needed)).saturating_sub(scaling.elsewhere);
        here.max(number).max(scaling.least.min(scaling.most))
    }

    /// What the figures of now ask for, of so many instances here and everywhere. Where none is here nobody
    /// knows what the load is.
    fn raw_wish(&self, policy: &ScalePolicy, (number, all): (u32, u32), needed: bool) -> u32 {
        let more = self.gauges.iter().filter_map(|gauge| gauge.more_than(all)).max();
        let enough = self.gauges.iter().map(|gauge| gauge.enough(all)).max();
        let wish = more.unwrap_or_else(|| enough.unwrap_or(all));
        let least = u32::from(needed || (number > 0 && !self.is_idle(policy)));
        if least == 0 { more.unwrap_or(0) } else { wish.max(least) }
    }

    /// Whether the instances have nothing to do, as far as that can be said.
    fn is_idle(&self, policy: &ScalePolicy) -> bool {
        let mut load = figures_of(policy)
            .zip(&self.gauges)
            .filter(|((of, _), _)| *of != FigureOf::Memory)
            .map(|(_, gauge)| gauge)
            .peekable();
        load.peek().is_some() && load.all(Gauge::is_idle)
    }

    /// What becomes of a wish under rates, bounds and the room of the node, and what kept it from the raw
    /// one first.
    fn limited(
        &self,
        (raw, wish): (u32, u32),
        scaling: &Scaling,
        now_ms: u64,
    ) -> (u32, ScaleLimit) {
        let policy = &scaling.policy;
        let highest = pace::highest(&policy.up, &self.course, now_ms);
        let lowest = pace::lowest(&policy.down, &self.course, now_ms);
        let paced = wish.clamp(lowest, highest.max(lowest));
        let least = scaling.least.min(scaling.most);
        let bounded = paced.clamp(least, scaling.most);
        let number = bounded.min(self.room.map_or(u32::MAX, |room| room.max(least)));
        let limit = if number < bounded {
            ScaleLimit::Room
        } else if bounded == scaling.most && raw.max(wish) > scaling.most {
            ScaleLimit::Most
        } else if paced < least {
            ScaleLimit::Least
        } else if paced != wish {
            ScaleLimit::Rate
        } else if wish != raw.min(policy.max.saturating_sub(scaling.elsewhere)) {
            ScaleLimit::Window
        } else if self.gauges.iter().any(|gauge| gauge.newest().is_lost()) {
            ScaleLimit::NoMetric
        } else {
            ScaleLimit::None
        };
        (number, limit)
    }

    /// What was compared, for people.
    #[must_use]
    pub fn figures(&self, scaling: &Scaling) -> std::vec::Vec<Figure> {
        let policy = &scaling.policy;
        let number = self.course.now().saturating_add(scaling.elsewhere);
        let figure = |((of, target), gauge): ((FigureOf, Target), &Gauge)| {
            let metric = match of {
                FigureOf::Cpu => "cpu".to_owned(),
                FigureOf::Memory => "memory".to_owned(),
                FigureOf::Metric(place) => {
                    policy.metrics.get(place).map(|it| it.name.clone()).unwrap_or_default()
                }
            };
            let value = gauge.value(target);
            let wish = gauge.more_than(number).unwrap_or_else(|| gauge.enough(number));
            let (target, wish) = (target.thousandths(), value.map(|_| wish));
            let missing = gauge.newest().why.filter(|_| value.is_none());
            Figure { metric, value, missing, target, wish }
        };
        figures_of(policy).zip(&self.gauges).map(figure).collect()
    }
}
