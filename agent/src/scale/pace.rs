//! Windows and rates: how fast a wish becomes the number.
//!
//! Rules and names are those of Kubernetes' `behavior` (KEP-853; `pkg/controller/podautoscaler/horizontal.go`,
//! functions `stabilizeRecommendationWithBehaviors`, `calculateScaleUpLimitWithScalingRules`,
//! `calculateScaleDownLimitWithBehaviors`).

use limpet_protocol::scale::{Pace, ScalePolicy, Select};

use super::history::{Course, Extreme, Keep};

/// The wishes of before.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    ups: Extreme,
    downs: Extreme,
}

impl Windows {
    /// With one wish of now: whatever was before is not known, so nothing goes down before a whole window
    /// has passed.
    pub(super) fn new(number: u32, now_ms: u64) -> Self {
        let mut windows =
            Self { ups: Extreme::new(Keep::Least), downs: Extreme::new(Keep::Greatest) };
        windows.ups.push(number, now_ms, 0);
        windows.downs.push(number, now_ms, 0);
        windows
    }

    /// Takes a wish; tells what is wished over the windows: upwards the least of the wishes in the
    /// upward window, downwards the greatest of those in the other.
    pub(super) fn settle(
        &mut self,
        wish: u32,
        number: u32,
        policy: &ScalePolicy,
        now_ms: u64,
    ) -> u32 {
        let least = self.ups.push(wish, now_ms, policy.up.window_ms);
        let greatest = self.downs.push(wish, now_ms, policy.down.window_ms);
        number.max(least).min(greatest)
    }
}

/// The greatest number that may be reached now.
pub(super) fn highest(pace: &Pace, course: &Course, now_ms: u64) -> u32 {
    let number = course.now();
    let begin = course.at(now_ms.saturating_sub(pace.every_ms));
    let by_number = pace.instances.map(|step| begin.saturating_add(step));
    let by_share = pace.percent.map(|percent| {
        let grown = u64::from(begin).saturating_mul(100 + u64::from(percent)).div_ceil(100);
        u32::try_from(grown).unwrap_or(u32::MAX)
    });
    let limit = match (pace.select, by_number, by_share) {
        (Select::Disabled, ..) => return number,
        (_, None, None) => return u32::MAX,
        (_, Some(one), None) | (_, None, Some(one)) => one,
        (Select::Max, Some(one), Some(other)) => one.max(other),
        (Select::Min, Some(one), Some(other)) => one.min(other),
    };
    // From none no share leads anywhere.
    limit.max(number).max(1)
}

/// The least number that may be reached now.
pub(super) fn lowest(pace: &Pace, course: &Course, now_ms: u64) -> u32 {
    let number = course.now();
    let begin = course.at(now_ms.saturating_sub(pace.every_ms));
    let by_number = pace.instances.map(|step| begin.saturating_sub(step));
    let by_share = pace.percent.map(|percent| {
        let left = u64::from(begin) * u64::from(100_u32.saturating_sub(percent)) / 100;
        u32::try_from(left).unwrap_or(u32::MAX)
    });
    let limit = match (pace.select, by_number, by_share) {
        (Select::Disabled, ..) => return number,
        (_, None, None) => return 0,
        (_, Some(one), None) | (_, None, Some(one)) => one,
        (Select::Max, Some(one), Some(other)) => one.min(other),
        (Select::Min, Some(one), Some(other)) => one.max(other),
    };
    limit.min(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(instances: Option<u32>, percent: Option<u32>, select: Select) -> Pace {
        Pace { window_ms: 0, instances, percent, every_ms: 15_000, select }
    }

    /// From 4 at 0 s to 6 at 10 s; asked at 12 s and at 30 s. The numbers are worked out by the rules of
    /// KEP-853: what changed within the period counts.
    #[test]
    fn rates_count_what_changed_within_the_period() {
        let mut course = Course::new(4, 0);
        course.change(6, 10_000);
        for (pace, up, down) in [
            (pace(Some(4), None, Select::Max), (8, 10), (0, 2)),
            (pace(None, Some(100), Select::Max), (8, 12), (0, 0)),
            (pace(Some(4), Some(100), Select::Max), (8, 12), (0, 0)),
            (pace(Some(1), Some(50), Select::Max), (6, 9), (2, 3)),
            (pace(Some(1), Some(50), Select::Min), (6, 7), (3, 5)),
            (pace(Some(1), Some(10), Select::Max), (6, 7), (3, 5)),
            (pace(None, None, Select::Max), (u32::MAX, u32::MAX), (0, 0)),
            (pace(Some(4), None, Select::Disabled), (6, 6), (6, 6)),
        ] {
            let highest = (highest(&pace, &course, 12_000), highest(&pace, &course, 30_000));
            assert_eq!(highest, up, "up: {pace:?}");
            let lowest = (lowest(&pace, &course, 12_000), lowest(&pace, &course, 30_000));
            assert_eq!(lowest, down, "down: {pace:?}");
        }
    }

    #[test]
    fn from_none_the_first_is_always_allowed() {
        let course = Course::new(0, 0);
        assert_eq!(highest(&pace(None, Some(100), Select::Max), &course, 1), 1);
    }

    #[test]
    fn windows_hold_the_number() {
        let mut policy = ScalePolicy::between(1, 9);
        policy.up.window_ms = 20;
        policy.down.window_ms = 50;
        let mut windows = Windows::new(3, 0);
        let settled = [(0, 3), (10, 5), (20, 5), (30, 5), (31, 5), (60, 2), (80, 2), (82, 2)];
        let mut number = 3;
        let numbers = settled.map(|(at, wish)| {
            number = windows.settle(wish, number, &policy, at);
            number
        });
        assert_eq!(numbers, [3, 3, 3, 5, 5, 5, 5, 2], "up after 20 ms, down after 50");
    }
}
