//! The number of one service.
//!
//! | rule | source |
//! |---|---|
//! | the greatest wish counts | HorizontalPodAutoscaler, "Algorithm details": of several metrics the largest |
//! | within a period the number grows and falls by so many, or by such a share, at most | `HPAScalingPolicy` |
//! | who says nothing changes nothing | a lost metric never scales down |

use std::collections::BTreeMap;

use limpet_protocol::id::NodeId;
use limpet_protocol::scale::{Pace, ScalePolicy, Select};

/// Changes that are remembered of one service; of more the oldest is forgotten.
const MAX_REMEMBERED: usize = 128;

#[derive(Debug)]
pub(super) struct Total {
    policy: ScalePolicy,
    number: u32,
    /// What the nodes say, their windows included.
    wishes: BTreeMap<NodeId, u32>,
    /// When the number changed, and what it was before.
    changes: Vec<(u64, u32)>,
    due_ms: Option<u64>,
}

impl Total {
    pub(super) fn new(policy: ScalePolicy) -> Self {
        Self { number: policy.min, policy, wishes: BTreeMap::new(), changes: vec![], due_ms: None }
    }

    pub(super) fn follow(&mut self, policy: &ScalePolicy) {
        if self.policy != *policy {
            self.policy = policy.clone();
        }
    }

    pub(super) fn restore(&mut self, number: u32) {
        self.number = number.clamp(self.policy.min, self.policy.max);
    }

    pub(super) fn hear(&mut self, node: &NodeId, wish: Option<u32>) -> bool {
        match wish {
            Some(wish) => self.wishes.insert(node.clone(), wish) != Some(wish),
            None => self.wishes.remove(node).is_some(),
        }
    }

    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    pub(super) const fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// Whether the number is another now.
    pub(super) fn decide(&mut self, now_ms: u64) -> bool {
        self.due_ms = None;
        let before = self.number;
        let wish = self.wishes.values().max().copied().unwrap_or(before);
        let aim = if wish > before {
            wish.min(self.most_after(now_ms))
        } else {
            wish.max(self.least_after(now_ms))
        };
        self.number = aim.clamp(self.policy.min, self.policy.max);
        if self.number != before {
            remember(&mut self.changes, (now_ms, before));
        }
        self.wait(now_ms, wish);
        self.number != before
    }

    /// When it may be another: a period is over.
    fn wait(&mut self, now_ms: u64, wish: u32) {
        if wish == self.number {
            return;
        }
        let pace = if wish > self.number { self.policy.up } else { self.policy.down };
        let ends = self.changes.iter().map(|(at, _)| at.saturating_add(pace.every_ms));
        self.due_ms = ends.filter(|at| *at > now_ms).min();
    }

    /// What the number was when the period began.
    fn at_begin_of(&self, pace: Pace, now_ms: u64) -> u32 {
        let within = |(at, _): &&(u64, u32)| at.saturating_add(pace.every_ms) > now_ms;
        self.changes.iter().find(within).map_or(self.number, |(_, before)| *before)
    }

    fn most_after(&self, now_ms: u64) -> u32 {
        let pace = self.policy.up;
        let begin = self.at_begin_of(pace, now_ms);
        // From none, any share is none.
        let most = step(pace, begin.max(1)).map_or(u32::MAX, |step| begin.saturating_add(step));
        most.max(self.number)
    }

    fn least_after(&self, now_ms: u64) -> u32 {
        let pace = self.policy.down;
        let begin = self.at_begin_of(pace, now_ms);
        step(pace, begin).map_or(0, |step| begin.saturating_sub(step)).min(self.number)
    }
}

/// By how many the number may change; none is any.
fn step(pace: Pace, begin: u32) -> Option<u32> {
    let share = pace.percent.map(|percent| {
        let share = (u64::from(begin) * u64::from(percent)).div_ceil(100);
        u32::try_from(share).unwrap_or(u32::MAX)
    });
    let both = [pace.instances, share].into_iter().flatten();
    match pace.select {
        Select::Max => both.max(),
        Select::Min => both.min(),
        Select::Disabled => Some(0),
    }
}

fn remember(list: &mut Vec<(u64, u32)>, entry: (u64, u32)) {
    if list.len() >= MAX_REMEMBERED {
        list.remove(0);
    }
    list.push(entry);
}
