//! A recorded day of a web server, replayed: how many instances Limpet's rules run, beside the plain rule of
//! Kubernetes' HorizontalPodAutoscaler on the same load in the same run.
//! `cargo run --release -p limpet-agent --example scale_day [PICTURE.svg]`
//!
//! The recording has requests in ten seconds; within these they are spread evenly by a generator with a fixed
//! seed, as if they came by chance. An instance that is at its target serves [`RATE`] requests a second;
//! one that is started is ready after [`STARTS_MS`].
#![expect(clippy::print_stdout, reason = "a measurement prints its table")]

mod picture;
mod plain;

use limpet_agent::scale::SAMPLE_EVERY_MS;
use limpet_agent::scale::figure::Reading;
use limpet_agent::scale::scaler::Scaler;
use limpet_protocol::scale::{ScalePolicy, Scaling};

use plain::Plain;

type Failure = Box<dyn std::error::Error>;

const DAY: &str = include_str!("nasa-1995-07-13.txt");
/// How long a count is over.
const SLOT_MS: u64 = 10_000;
/// Each recorded request stands for so many: a site of today.
const TIMES: u64 = 40;
/// Requests a second of an instance at its target, and at most: the target is 60 % of it.
const RATE: u64 = 20;
/// The target, in thousandths of a hundredth.
const TARGET: u64 = 60_000;
/// From a decision to an instance that serves.
const STARTS_MS: u64 = 500;
const MIN: u32 = 1;
const MAX: u32 = 20;
/// Three minutes of the picture's width are one of its points.
const POINT_MS: u64 = 180_000;

/// One who decides.
trait Rule {
    fn name(&self) -> &'static str;
    /// Sees the load and the number that is ready; decides.
    fn look(&mut self, reading: Reading, now_ms: u64) -> u32;
}

struct Limpet {
    name: &'static str,
    scaler: Scaler,
    scaling: Scaling,
}

impl Rule for Limpet {
    fn name(&self) -> &'static str {
        self.name
    }

    fn look(&mut self, reading: Reading, now_ms: u64) -> u32 {
        self.scaler.decide(&[reading], &self.scaling, false, now_ms).number
    }
}

fn limpet(name: &'static str, change: impl FnOnce(&mut ScalePolicy)) -> Box<dyn Rule> {
    let mut policy = ScalePolicy { cpu_percent: Some(60), ..ScalePolicy::between(MIN, MAX) };
    change(&mut policy);
    let scaling = Scaling { least: MIN, most: MAX, elsewhere: 0, priority: 0, policy };
    Box::new(Limpet { name, scaler: Scaler::new(MIN, &scaling, 0), scaling })
}

/// How one fared over the day.
struct Course {
    name: &'static str,
    /// The number, at each point of the picture the greatest.
    points: Vec<u32>,
    changes: u32,
    /// Changes of direction: one up after one down, or the other way round.
    turns: u32,
    /// Time in which more was asked for than all instances could do, in milliseconds.
    overloaded_ms: u64,
    /// Instances beyond what the load of that minute needed, added up over time, in instance hours.
    over_hours: f64,
    hours: f64,
    memory_bytes: usize,
}

fn main() -> Result<(), Failure> {
    let load = arrivals(&recorded()?);
    let rules: Vec<Box<dyn Rule>> = vec![
        limpet("Limpet", |_| ()),
        limpet("Limpet, down: {window: 60s, step: 1}", |policy| {
            policy.down.window_ms = 60_000;
            policy.down.instances = Some(1);
            policy.down.every_ms = 15_000;
        }),
        Box::new(Plain::new()),
    ];
    println!(
        "| rule | changes/h | turns/h | overloaded s/h | instance hours | of these beyond need |"
    );
    println!("|---|---|---|---|---|---|");
    let mut courses = vec![];
    for rule in rules {
        let course = replay(rule, &load);
        let day_h = 24.0;
        println!(
            "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
            course.name,
            f64::from(course.changes) / day_h,
            f64::from(course.turns) / day_h,
            course.overloaded_ms as f64 / 1_000.0 / day_h,
            course.hours,
            course.over_hours,
        );
        courses.push(course);
    }
    println!("\nA scaler has {} bytes.", courses[0].memory_bytes);
    if let Some(path) = std::env::args().nth(1) {
        std::fs::write(path, picture::draw(&needed(&load), &courses))?;
    }
    Ok(())
}

fn recorded() -> Result<Vec<u64>, Failure> {
    let lines = DAY.lines().filter(|line| !line.starts_with('#'));
    let numbers = lines.flat_map(str::split_ascii_whitespace).map(str::parse::<u64>);
    Ok(numbers.collect::<Result<_, _>>()?)
}

/// Requests in each sampling interval of the day.
fn arrivals(recorded: &[u64]) -> Vec<u64> {
    let parts = SLOT_MS / SAMPLE_EVERY_MS;
    let mut chance = 0x9E37_79B9_7F4A_7C15_u64;
    let mut all = vec![];
    for count in recorded {
        let mut slot = vec![0; usize::try_from(parts).unwrap_or(1)];
        for _ in 0..count * TIMES {
            // xorshift64 (Marsaglia 2003).
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            let place = usize::try_from(chance % parts).unwrap_or(0);
            slot[place] += 1;
        }
        all.extend(slot);
    }
    all
}

/// Instances that the load of each minute needs, for every interval of it.
fn needed(load: &[u64]) -> Vec<u32> {
    let minute = usize::try_from(60_000 / SAMPLE_EVERY_MS).unwrap_or(1);
    let need = |part: &[u64]| {
        let sum: u64 = part.iter().sum();
        let each_s = sum * 1_000 / (u64::try_from(part.len()).unwrap_or(1) * SAMPLE_EVERY_MS);
        u32::try_from(each_s.div_ceil(RATE)).unwrap_or(MAX).clamp(MIN, MAX)
    };
    load.chunks(minute).flat_map(|part| vec![need(part); part.len()]).collect()
}

fn replay(mut rule: Box<dyn Rule>, load: &[u64]) -> Course {
    let needed = needed(load);
    let mut number = MIN;
    // When each instance is ready.
    let mut ready_at: Vec<u64> = vec![0];
    let mut course = Course {
        name: rule.name(),
        points: vec![],
        changes: 0,
        turns: 0,
        overloaded_ms: 0,
        over_hours: 0.0,
        hours: 0.0,
        memory_bytes: size_of::<Scaler>(),
    };
    let (mut up, mut waiting) = (true, 0);
    let step_h = SAMPLE_EVERY_MS as f64 / 3_600_000.0;
    for (place, arrived) in load.iter().enumerate() {
        let now_ms = u64::try_from(place).unwrap_or(0) * SAMPLE_EVERY_MS;
        let serving = ready_at.iter().filter(|at| **at <= now_ms).count();
        let serving = u32::try_from(serving).unwrap_or(MAX);
        // At its target an instance is busy 60 % of its time.
        let most = u64::from(serving) * RATE * SAMPLE_EVERY_MS * 100 / 60 / 1_000;
        let asked = arrived + waiting;
        let done = asked.min(most);
        waiting = (asked - done).min(most);
        course.overloaded_ms += if asked > most { SAMPLE_EVERY_MS } else { 0 };
        let sum = done * TARGET * 1_000 / (RATE * SAMPLE_EVERY_MS);
        let ready = ready_at.iter().filter(|at| **at + 1_000 <= now_ms).count();
        let ready = u32::try_from(ready).unwrap_or(MAX);
        let reading = Reading { sum, greatest: sum, counted: ready, ready, ..Reading::default() };
        let next = rule.look(reading, now_ms);
        if next != number {
            course.changes += 1;
            course.turns += u32::from((next > number) != up);
            up = next > number;
            let started = now_ms + STARTS_MS;
            ready_at.resize(usize::try_from(next).unwrap_or(1), started);
        }
        number = next;
        course.hours += f64::from(number) * step_h;
        course.over_hours += f64::from(number.saturating_sub(needed[place])) * step_h;
        let point = usize::try_from(now_ms / POINT_MS).unwrap_or(0);
        course.points.resize(point + 1, number);
        course.points[point] = course.points[point].max(number);
    }
    course
}
