//! How the tries of one slot went, and whether the restart policy allows another.
//!
//! In: starts and ends with their times, the policy. Out: yes or no, and the counts that back-off and
//! reports need.
//!
//! | rule | source |
//! |---|---|
//! | `condition`: `none` never, `on-failure` unless it ended with exit code 0, `any` always | Compose Deploy Specification, `restart_policy`; SwarmKit, `manager/orchestrator/restart/restart.go`, `shouldRestart` |
//! | what was stopped because it is unhealthy has failed, whatever its exit code | SwarmKit, `agent/exec`: a task that fails its health check fails |
//! | `max_attempts` counts restarts; none, or 0 in the file, is without end | the same `shouldRestart` |
//! | with a `window` only restarts within it, back from the end, count; without one all of this spec do | the same; Docker's `on-failure:N` counts all as well |
//! | a new spec has a clean record | the same (`SpecVersion`) |
//! | a container that ran for the window, or for 10 s where there is none, forgets the back-off | Compose (`window`: how long until a restart has succeeded); Docker, `restartmanager.go` |
//!
//! The Compose text on `max_attempts` (an attempt that fails within the window does not count) would
//! never give up on a crash loop; SwarmKit, which Compose describes here, counts as above.

use std::collections::VecDeque;

use limpet_protocol::id::SpecHash;
use limpet_protocol::spec::{RestartCondition, RestartPolicy};
use serde::{Deserialize, Serialize};

/// Restarts whose times are remembered. With a window, `max_attempts` above it counts as it.
const MAX_TIMES_KEPT: usize = 128;
/// How long a container has to run before its past is forgotten where the policy has no window.
const LASTED_MS: u64 = 10_000;
/// The same where the window is shorter: without a floor a crash loop would never be slowed.
const SHORTEST_LASTED_MS: u64 = 1_000;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tries {
    /// Of which spec.
    spec: Option<SpecHash>,
    /// Tries in a row that did not last.
    short_runs: u32,
    /// Tries that went wrong.
    failures: u32,
    /// Starts after the first.
    restarts: u32,
    /// When the newest of them were, the oldest first.
    restarted_ms: VecDeque<u64>,
}

impl Tries {
    /// A container is made; `first` begins a clean record.
    pub(super) fn start(&mut self, spec: SpecHash, first: bool, now_ms: u64) {
        if first || self.spec != Some(spec) {
            *self = Self { spec: Some(spec), ..Self::default() };
            return;
        }
        self.restarts = self.restarts.saturating_add(1);
        if self.restarted_ms.len() == MAX_TIMES_KEPT {
            self.restarted_ms.pop_front();
        }
        self.restarted_ms.push_back(now_ms);
    }

    /// A container ended that nobody wanted to end.
    pub(super) fn end(
        &mut self,
        spec: SpecHash,
        (ran_ms, succeeded): (u64, bool),
        policy: &RestartPolicy,
    ) {
        if self.spec != Some(spec) {
            *self = Self { spec: Some(spec), ..Self::default() };
        }
        let lasted_ms = match policy.window_ms {
            0 => LASTED_MS,
            window => window.max(SHORTEST_LASTED_MS),
        };
        self.short_runs = if ran_ms >= lasted_ms { 0 } else { self.short_runs.saturating_add(1) };
        // What is to run always has not done its work by ending.
        if !succeeded || policy.condition == RestartCondition::Any {
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// Whether it says more than a first try that goes well.
    pub(super) fn is_worth_keeping(&self) -> bool {
        self.restarts > 0 || self.failures > 0 || self.short_runs > 0
    }

    /// Tries in a row that did not last.
    pub(super) fn short_runs(&self) -> u32 {
        self.short_runs
    }

    /// How many tries of this spec went wrong.
    pub(super) fn failures(&self, spec: &SpecHash) -> u32 {
        if self.spec.as_ref() == Some(spec) { self.failures } else { 0 }
    }

    /// Whether the policy starts it again after a try that ended then.
    pub(super) fn may_restart(
        &self,
        policy: &RestartPolicy,
        succeeded: bool,
        ended_ms: u64,
    ) -> bool {
        let by_condition = match policy.condition {
            RestartCondition::None => false,
            RestartCondition::OnFailure => !succeeded,
            RestartCondition::Any => true,
        };
        by_condition && policy.max_attempts.is_none_or(|most| self.counted(policy, ended_ms) < most)
    }

    /// The restarts that count.
    fn counted(&self, policy: &RestartPolicy, ended_ms: u64) -> u32 {
        if policy.window_ms == 0 {
            return self.restarts;
        }
        let since_ms = ended_ms.checked_sub(policy.window_ms);
        let within =
            self.restarted_ms.iter().filter(|at| since_ms.is_none_or(|since| **at > since));
        match within.count() {
            MAX_TIMES_KEPT => u32::MAX,
            fewer => u32::try_from(fewer).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RestartCondition::{Any, None as Never, OnFailure};

    const SPEC: SpecHash = SpecHash([1; 32]);

    fn policy(
        condition: RestartCondition,
        max_attempts: Option<u32>,
        window_ms: u64,
    ) -> RestartPolicy {
        RestartPolicy { condition, max_attempts, window_ms, delay_ms: 0 }
    }

    #[test]
    fn the_policy_says_who_is_started_again() {
        for (condition, most, succeeded, restarts, expected) in [
            (Any, None, true, 0, true),
            (Any, None, false, 1_000, true),
            (Never, None, false, 0, false),
            (OnFailure, None, true, 0, false),
            (OnFailure, None, false, 5, true),
            (OnFailure, Some(2), false, 1, true),
            (OnFailure, Some(2), false, 2, false),
            (Any, Some(1), true, 0, true),
            (Any, Some(1), true, 1, false),
            (Any, Some(0), false, 0, false),
        ] {
            let mut tries = Tries::default();
            tries.start(SPEC, true, 0);
            (0..restarts).for_each(|at| tries.start(SPEC, false, at));
            let restarted = tries.may_restart(&policy(condition, most, 0), succeeded, 9_000);
            assert_eq!(restarted, expected, "{condition:?} {most:?} {succeeded} {restarts}");
        }
    }

    #[test]
    fn a_window_counts_the_restarts_within_it() {
        let mut tries = Tries::default();
        tries.start(SPEC, true, 0);
        for at in [10_000, 20_000, 30_000] {
            tries.start(SPEC, false, at);
        }
        for (window_ms, most, ended_ms, expected) in [
            (0, 3, 1_000_000, false),
            (0, 4, 1_000_000, true),
            // After 15 s: two restarts, at 20 s and 30 s.
            (15_000, 2, 30_001, false),
            (15_000, 3, 30_001, true),
            // Exactly one window ago is outside of it.
            (10_000, 1, 40_000, true),
            (10_001, 1, 40_000, false),
            (u64::MAX, 3, 40_000, false),
        ] {
            let of = policy(OnFailure, Some(most), window_ms);
            assert_eq!(tries.may_restart(&of, false, ended_ms), expected, "{window_ms} {most}");
        }
        // A service that fails once an hour is not given up on, nor is more kept than is needed.
        for hour in 1..1_000 {
            let at = hour * 3_600_000;
            assert!(tries.may_restart(&policy(Any, Some(1), 60_000), false, at));
            tries.start(SPEC, false, at);
        }
        assert_eq!(tries.restarted_ms.len(), MAX_TIMES_KEPT);
        // More restarts within the window than are remembered.
        assert!(!tries.may_restart(&policy(Any, Some(1_000), u64::MAX), false, 9_000_000_000));
    }

    #[test]
    fn what_lasted_forgets_the_back_off_and_a_new_spec_everything() {
        for (window_ms, ran_ms, expected) in [
            (0, 9_999, 2),
            (0, 10_000, 0),
            (60_000, 59_999, 2),
            (60_000, 60_000, 0),
            (1, 999, 2),
            (1, 1_000, 0),
        ] {
            let mut tries = Tries::default();
            let policy = policy(Any, None, window_ms);
            tries.start(SPEC, true, 0);
            tries.end(SPEC, (0, false), &policy);
            tries.end(SPEC, (ran_ms, false), &policy);
            assert_eq!(tries.short_runs(), expected, "{window_ms} {ran_ms}");
            assert_eq!((tries.failures(&SPEC), tries.failures(&SpecHash([2; 32]))), (2, 0));
            tries.start(SpecHash([2; 32]), false, 5);
            assert_eq!((tries.short_runs(), tries.failures(&SPEC), tries.restarts), (0, 0, 0));
        }
    }

    #[test]
    fn what_is_a_failure() {
        for (condition, succeeded, expected) in [
            (OnFailure, true, 0),
            (Never, true, 0),
            (Any, true, 1),
            (OnFailure, false, 1),
            (Never, false, 1),
        ] {
            let mut tries = Tries::default();
            tries.end(SPEC, (5, succeeded), &policy(condition, None, 0));
            assert_eq!(tries.failures(&SPEC), expected, "{condition:?} {succeeded}");
        }
    }
}
