//! The first process of a container: with a terminal, and under an init.

use limpet_agent::runtime::{ExecOutcome, Runtime};
use limpet_protocol::spec::Spec;

use super::node::{Node, exe, now, wait_until};

fn with_terminal(script: &str) -> Spec {
    let mut spec = Node::spec(script);
    spec.process.tty = true;
    spec
}

fn with_init(script: &str) -> Spec {
    let mut spec = Node::spec(script);
    spec.process.init = true;
    spec
}

#[tokio::test]
async fn a_container_has_a_terminal_and_its_output_is_kept() {
    let mut node = Node::new().await;
    let script = "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo yes; tty; stty size; echo $TERM >/dev/tty; \
                  echo err >&2; exit 6";
    let (exit, output) = node.run(with_terminal(script)).await;
    assert_eq!(exit.code, Some(6), "{output}");
    assert_eq!(output, "yes\r\n/dev/pts/0\r\n24 80\r\nxterm\r\nerr\r\n");

    let mut spec = with_terminal("/bin/nope");
    spec.process.command = Some(vec!["/bin/nope".to_owned()]);
    node.ask(spec);
    let failed = format!("{:?}", node.event().await);
    assert!(failed.contains("CreateFailed") && failed.contains("/bin/nope"), "{failed}");

    // It goes on while the keeper is replaced.
    let mut spec = with_terminal("while :; do echo tick; sleep 0.02; done");
    spec.process.user = Some("web".to_owned());
    let (id, _) = node.start(spec).await;
    wait_until(|| node.log(&id).contains("tick"));
    node.runtime.upgrade(&exe()).unwrap();
    node.snapshot().await;
    let before = node.log(&id).len();
    wait_until(|| node.log(&id).len() > before + 20);
    node.remove_running(&id).await;
    node.end().await;
}

#[tokio::test]
async fn an_init_passes_signals_on_and_reaps() {
    let mut node = Node::new().await;
    let (exit, output) = node.run(with_init("echo $$; exit 4")).await;
    assert_eq!(exit.code, Some(4));
    assert_ne!(output.trim(), "1", "the first process is the init");
    assert_eq!(node.run(with_init("kill -9 $$")).await.0.code, Some(137));

    // A program that has no handler ends by the signal, which it would not as the first process.
    let mut spec = with_init("");
    spec.process.command = Some(["sleep", "1000"].map(str::to_owned).to_vec());
    let (id, _) = node.start(spec).await;
    let asked = now();
    node.runtime.stop(&id, 15, 20_000).unwrap();
    assert_eq!(node.exit_of(&id).await.code, Some(143));
    assert!(asked.elapsed().as_secs() < 10);
    node.remove(&id).await;

    // Who is left over is reaped.
    let script = "(sleep 0.05 & sleep 0.05 &) ; echo begun; sleep 1000";
    let (id, pid) = node.start(with_init(script)).await;
    wait_until(|| node.log(&id).contains("begun"));
    let children = || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        text.unwrap_or_default().split_whitespace().count()
    };
    wait_until(|| children() == 1);
    node.remove_running(&id).await;

    let mut spec = with_init("");
    spec.process.command = Some(vec!["/bin/nope".to_owned()]);
    node.ask(spec);
    let failed = format!("{:?}", node.event().await);
    assert!(failed.contains("CreateFailed") && failed.contains("/bin/nope"), "{failed}");

    let mut both = with_init("[ -t 0 ] && echo both");
    both.process.tty = true;
    assert_eq!(node.run(both).await.1, "both\r\n");
    node.end().await;
}

/// Makes so many processes whose parents are gone, so that only the first process, which has other
/// things to do, could wait for them.
fn orphans(count: u32) -> String {
    format!(
        "(i=0; while [ $i -lt {count} ]; do (sleep 0.1 &); i=$((i+1)); \
         [ $((i%20)) -ne 0 ] || sleep 0.2; done; echo made) & exec sleep 1000"
    )
}

/// How many children of a process have ended and are waited for.
fn zombies_of(pid: u32) -> usize {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let ended = children.split_whitespace().filter(|child| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat"));
        stat.is_ok_and(|stat| stat.contains(") Z "))
    });
    ended.count()
}

#[tokio::test]
async fn a_first_process_that_never_reaps_costs_only_itself() {
    let mut node = Node::new().await;
    let mut spec = Node::spec(&orphans(40));
    spec.resources.pids_limit = Some(60);
    let (id, pid) = node.start(spec).await;
    // Those that were made, and who made them.
    wait_until(|| zombies_of(pid) == 41);
    let keeper = node.keeper_pid();
    let children = || {
        let text = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"));
        text.unwrap_or_default().split_whitespace().count()
    };
    // Looked into and lived beside as if nothing were.
    let (outcome, output) = node.exec(&id, "echo inside").await;
    assert_eq!((outcome, output.as_str()), (ExecOutcome::Exited(0), "inside\n"));
    let (exit, output) = node.run(Node::spec("echo quick")).await;
    assert_eq!((exit.code, output.as_str()), (Some(0), "quick\n"));
    wait_until(|| children() == 1);
    node.runtime.stop(&id, 15, 200).unwrap();
    assert_eq!(node.exit_of(&id).await.code, Some(137));
    wait_until(|| children() == 0);
    node.remove(&id).await;
    node.end().await;
}

#[tokio::test]
async fn zombies_that_fill_a_container_keep_it_from_nothing_but_more() {
    let mut node = Node::new().await;
    let mut spec = Node::spec(&orphans(1_000));
    spec.resources.pids_limit = Some(20);
    let (id, pid) = node.start(spec).await;
    wait_until(|| node.log(&id).contains("can't fork") && zombies_of(pid) >= 15);
    let (outcome, _) = node.exec(&id, "echo inside").await;
    let ExecOutcome::NotExecuted { code: 126, reason } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("as many processes as it may have"), "{reason}");
    let (exit, _) = node.run(Node::spec("exit 3")).await;
    assert_eq!(exit.code, Some(3));
    node.runtime.stop(&id, 15, 200).unwrap();
    assert_eq!(node.exit_of(&id).await.code, Some(137));
    node.remove(&id).await;
    assert_eq!(node.traces(), [""; 0]);
    node.end().await;
}

#[tokio::test]
async fn an_init_reaps_more_than_would_fit() {
    let mut node = Node::new().await;
    let mut spec = with_init(&orphans(200));
    spec.resources.pids_limit = Some(60);
    let (id, pid) = node.start(spec).await;
    wait_until(|| node.log(&id).contains("made"));
    wait_until(|| zombies_of(pid) == 0);
    node.runtime.stop(&id, 15, 20_000).unwrap();
    assert_eq!(node.exit_of(&id).await.code, Some(143));
    node.remove(&id).await;
    node.end().await;
}
