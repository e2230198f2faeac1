//! What is started again, and what is not.

use super::*;
use RestartCondition::{Any, None as Never, OnFailure};

/// A service, when it is started again, how it ends, the most restarts, and how often it runs.
const POLICIES: [(&str, RestartCondition, u8, Option<u32>, u32); 7] = [
    ("never-0", Never, 0, None, 1),
    ("never-1", Never, 1, None, 1),
    ("failure-0", OnFailure, 0, None, 1),
    ("failure-1", OnFailure, 1, Some(2), 3),
    ("any-0", Any, 0, Some(1), 2),
    ("any-1", Any, 1, Some(2), 3),
    ("any-none", Any, 0, Some(0), 1),
];

/// As often as each policy says, and not once more when the agent starts again.
#[tokio::test]
async fn a_restart_policy_counts_real_containers() {
    let mut life = Life::new().await;
    let spec = |(service, condition, code, max_attempts, _): &(&str, _, _, _, _)| {
        let mut spec = life.spec(service, &format!("echo run >> /shared/{service}; exit {code}"));
        spec.restart = RestartPolicy {
            condition: *condition,
            max_attempts: *max_attempts,
            ..RestartPolicy::default()
        };
        spec
    };
    let mut specs: Vec<Spec> = POLICIES.iter().map(spec).collect();
    let last: Vec<String> = POLICIES
        .iter()
        .map(|(service, .., runs)| format!("test.{service}.1.{runs} ended"))
        .collect();
    life.want(&specs, UpdateOrder::StopFirst);
    life.while_agent_runs(life.until_all(&last)).await;
    // Whatever is to be started is started in the turn in which this one is.
    specs.push(life.spec("later", IDLE));
    life.want(&specs, UpdateOrder::StopFirst);
    let seen = life.while_agent_runs(life.until("test.later.1.1 runs")).await;
    assert_eq!(seen, ["start test.later.1.1", "test.later.1.1 runs"]);
    for (service, .., runs) in POLICIES {
        let lines = std::fs::read_to_string(life.shared().join(service)).unwrap();
        assert_eq!(lines.lines().count(), runs as usize, "{service}");
    }
    life.end().await;
}

/// One that fails for ever comes again and again, ever later, with its attempts counted.
#[tokio::test]
async fn a_crash_loop_goes_on_and_slows_down() {
    let mut life = Life::new().await;
    let mut spec = life.spec("web", "exit 1");
    spec.restart = RestartPolicy { condition: OnFailure, ..RestartPolicy::default() };
    life.want(std::slice::from_ref(&spec), UpdateOrder::StopFirst);
    let begun = now();
    life.while_agent_runs(life.until("test.web.1.4 ended")).await;
    // 0 + 100 + 200 ms lie between four starts.
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    life.while_agent_runs(life.until("test.web.1.5 ended")).await;
    assert!(begun.elapsed() >= Duration::from_millis(700), "the agent's restart is no fresh start");
    life.end().await;
}

/// The last run is long ago, so that one is due as soon as the agent is there.
#[tokio::test(flavor = "current_thread")]
async fn a_missed_run_of_a_schedule_is_made_up_for_by_a_real_container_once() {
    let mut life = Life::new().await;
    let out = life.shared().join("runs");
    let mut spec = life.spec("backup", "echo run >> /shared/runs");
    spec.restart.condition = RestartCondition::OnFailure;
    spec.schedule = Some(Schedule {
        cron: "@monthly".to_owned(),
        zone: String::new(),
        missed: MissedRuns::Once,
        deadline_ms: None,
        overlap: Overlap::Forbid,
    });
    life.want(&[spec], UpdateOrder::StopFirst);
    let record = r#"{"runs":{"test.backup.1":{"schedule":"@monthly|","last_s":1735689601}}}"#;
    std::fs::write(life.node.paths.data.join("runs.json"), record).unwrap();
    life.while_agent_runs(life.until("test.backup.1.1 ended")).await;
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "run\n");
    // The agent starts again: the run is over and not due again.
    life.while_agent_runs(tokio::time::sleep(Duration::from_secs(1))).await;
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "run\n", "it is not repeated");
}
