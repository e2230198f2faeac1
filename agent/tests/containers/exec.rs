//! Exec: further processes in a container, and that nothing is left of them.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use limpet_agent::runtime::exec::{CallerEnds, TerminalSize, receive_terminal};
use limpet_agent::runtime::{
    ContainerId, ExecId, ExecOutcome, ExecRequest, ExecStreams, Runtime, RuntimeEvent,
};
use limpet_protocol::spec::Spec;

use super::node::{Node, now, wait_until};

/// A container that does nothing, and writes when it has begun.
fn idle() -> Spec {
    Node::spec("trap 'exit 0' TERM; while :; do sleep 0.05; done")
}

fn request(container: &ContainerId, script: &str, streams: ExecStreams) -> ExecRequest {
    ExecRequest {
        container: container.clone(),
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        environment: Vec::new(),
        working_dir: None,
        user: None,
        streams,
    }
}

/// All that comes until the other end is closed.
fn read_all(from: OwnedFd) -> String {
    let mut file = File::from(from);
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    let mut result = None;
    wait_until(|| match file.read(&mut buffer) {
        Ok(0) => true,
        Ok(count) => {
            all.extend_from_slice(&buffer[..count]);
            false
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => {
            result = Some(error);
            true
        }
    });
    // A terminal whose other side is closed says EIO.
    assert!(result.is_none_or(|error| error.raw_os_error() == Some(5)));
    String::from_utf8_lossy(&all).into_owned()
}

impl Node {
    async fn exec_end(&mut self, exec: ExecId) -> ExecOutcome {
        loop {
            match self.event().await {
                RuntimeEvent::ExecStarted { exec: started, .. } => assert_eq!(started, exec),
                RuntimeEvent::ExecEnded { exec: ended, outcome } => {
                    assert_eq!(ended, exec);
                    return outcome;
                }
                other => panic!("{other:?}; {}", self.keeper_log()),
            }
        }
    }

    async fn exec_request(
        &mut self,
        change: impl FnOnce(&mut ExecRequest),
        request: ExecRequest,
    ) -> ExecOutcome {
        let mut request = request;
        change(&mut request);
        let exec = self.runtime.exec(request).unwrap();
        self.exec_end(exec).await
    }

    /// Runs a script in a container to its end; answers how it ended and what it wrote.
    pub(crate) async fn exec(
        &mut self,
        container: &ContainerId,
        script: &str,
    ) -> (ExecOutcome, String) {
        self.exec_with(container, script, |_| {}).await
    }

    async fn exec_with(
        &mut self,
        container: &ContainerId,
        script: &str,
        change: impl FnOnce(&mut ExecRequest),
    ) -> (ExecOutcome, String) {
        let (streams, output) = ExecStreams::output_only().unwrap();
        let outcome = self.exec_request(change, request(container, script, streams)).await;
        (outcome, read_all(output))
    }

    async fn end_with(mut self, container: &ContainerId) {
        self.remove_running(container).await;
        assert_eq!(std::fs::read_dir(self.paths.run.join("execs")).unwrap().count(), 0);
        self.end().await;
    }
}

#[tokio::test]
async fn an_exec_runs_writes_and_ends() {
    let mut node = Node::new().await;
    let (id, _) = node.start(idle()).await;
    let (outcome, output) = node.exec(&id, "echo out; echo err >&2; exit 7").await;
    assert_eq!(outcome, ExecOutcome::Exited(7));
    assert_eq!(output, "out\nerr\n");
    let (outcome, _) = node.exec(&id, "kill -9 $$").await;
    assert_eq!(outcome, ExecOutcome::Exited(137));

    // It is in the container: its processes, its host name, its cgroup, its limits.
    let (_, output) = node.exec(&id, "cat /proc/1/cmdline; hostname; ls /data; ulimit -n").await;
    assert!(output.contains("trap 'exit 0'") && output.contains("test.web.1"), "{output}");
    assert!(output.contains("seed") && output.contains("1024"), "{output}");
    let group = node.paths.cgroup_parent.clone();
    let (_, output) = node.exec(&id, "cat /proc/self/cgroup").await;
    assert!(output.contains(&format!("{group}/{id}")), "{output}");

    // Standard input comes to its end.
    let (streams, CallerEnds { stdin, stdout, stderr }) = ExecStreams::piped(true).unwrap();
    let exec = node.runtime.exec(request(&id, "cat; echo bye >&2", streams)).unwrap();
    File::from(stdin.unwrap()).write_all(b"hello\n").unwrap();
    assert_eq!(node.exec_end(exec).await, ExecOutcome::Exited(0));
    assert_eq!((read_all(stdout), read_all(stderr.unwrap())), ("hello\n".into(), "bye\n".into()));
    node.end_with(&id).await;
}

#[tokio::test]
async fn an_exec_is_as_bounded_as_its_container() {
    let mut node = Node::new().await;
    let (id, _) = node.start(idle()).await;
    let status = "grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd):' /proc/self/status";
    let (_, of_exec) = node.exec(&id, status).await;
    let (_, of_first) = node.exec(&id, &status.replace("self", "1")).await;
    assert_eq!(of_exec, of_first, "as the container's own process");
    assert!(of_exec.contains("NoNewPrivs:\t1"), "{of_exec}");
    assert_eq!(of_exec.contains("Seccomp:\t2"), cfg!(feature = "seccomp"), "{of_exec}");
    let (outcome, _) = node.exec(&id, "unshare -r true").await;
    assert_ne!(outcome, ExecOutcome::Exited(0), "the system call filter holds");
    node.end_with(&id).await;
}

#[tokio::test]
async fn an_exec_runs_as_who_and_where_it_is_told() {
    let mut node = Node::new().await;
    let mut spec = idle();
    spec.process.user = Some("web".to_owned());
    spec.process.environment.insert("COLOUR".to_owned(), "red".to_owned());
    spec.process.working_dir = Some("/data".to_owned());
    let (id, _) = node.start(spec).await;
    let who = "id -u; id -g; id -G; pwd; echo $HOME $COLOUR; echo again >/dev/stdout";
    let (outcome, output) = node.exec(&id, who).await;
    assert_eq!(output, "33\n33\n33 29\n/data\n/data red\nagain\n", "{outcome:?}");
    let (_, output) = node
        .exec_with(&id, who, |request| {
            request.user = Some("root".to_owned());
            request.working_dir = Some("/tmp".to_owned());
            request.environment = vec![("COLOUR".to_owned(), "blue=green".to_owned())];
        })
        .await;
    assert_eq!(output, "0\n0\n0\n/tmp\n/root blue=green\nagain\n");
    let (_, output) = node
        .exec_with(&id, "chown 33 /etc/passwd && echo could", |request| {
            request.user = Some("0".to_owned());
        })
        .await;
    assert_eq!(output, "could\n", "root in it has what root in the container may have");
    let (outcome, _) =
        node.exec_with(&id, "true", |request| request.user = Some("nobody".to_owned())).await;
    let ExecOutcome::Refused { reason } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("\"nobody\""), "{reason}");
    let (outcome, _) =
        node.exec_with(&id, "true", |request| request.working_dir = Some("/nope".to_owned())).await;
    let ExecOutcome::Refused { reason } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("/nope"), "{reason}");
    node.end_with(&id).await;
}

#[tokio::test]
async fn what_cannot_be_executed_says_why() {
    let mut node = Node::new().await;
    let (id, _) = node.start(idle()).await;
    for (command, expected) in
        [("nope", 127), ("/bin/nope", 127), ("/data/seed", 126), ("/data", 126)]
    {
        let (outcome, output) =
            node.exec_with(&id, "", |request| request.command = vec![command.to_owned()]).await;
        let ExecOutcome::NotExecuted { code, reason } = outcome else { panic!("{outcome:?}") };
        assert_eq!(code, expected, "{command}: {reason}");
        assert!(reason.contains(command) && output.is_empty(), "{reason} {output}");
    }
    let (outcome, _) = node
        .exec_with(&id, "true", |request| {
            request.environment = vec![("A=B".to_owned(), "C".to_owned())];
        })
        .await;
    assert!(matches!(outcome, ExecOutcome::Refused { .. }), "{outcome:?}");
    let nobody = "test.web.1.99".parse().unwrap();
    let (outcome, _) = node.exec(&nobody, "true").await;
    assert!(matches!(outcome, ExecOutcome::Refused { .. }), "{outcome:?}");
    node.end_with(&id).await;
}

#[tokio::test]
async fn a_hanging_exec_is_killed_with_what_it_made() {
    let mut node = Node::new().await;
    let (id, _) = node.start(idle()).await;
    let (streams, output) = ExecStreams::output_only().unwrap();
    let script = "trap '' TERM; sleep 1000 & sleep 1000";
    let exec = node.runtime.exec(request(&id, script, streams)).unwrap();
    assert!(matches!(node.event().await, RuntimeEvent::ExecStarted { .. }));
    node.runtime.kill_exec(exec, 15).unwrap();
    // Others go on meanwhile.
    assert_eq!(node.exec(&id, "exit 3").await.0, ExecOutcome::Exited(3));
    let asked = now();
    node.runtime.kill_exec(exec, 9).unwrap();
    assert_eq!(node.exec_end(exec).await, ExecOutcome::Exited(137));
    assert!(asked.elapsed() < Duration::from_secs(2));
    // Nobody holds its output any more.
    read_all(output);
    node.end_with(&id).await;
}

#[tokio::test]
async fn an_exec_ends_with_its_container_and_keeps_it_from_nothing() {
    let mut node = Node::new().await;
    let (id, _) = node.start(idle()).await;
    let exec =
        node.runtime.exec(request(&id, "sleep 1000", ExecStreams::silent().unwrap())).unwrap();
    assert!(matches!(node.event().await, RuntimeEvent::ExecStarted { .. }));
    node.runtime.stop(&id, 15, 20_000).unwrap();
    let mut events = [node.event().await, node.event().await];
    events.sort_by_key(|event| matches!(event, RuntimeEvent::Exited { .. }));
    let outcome = ExecOutcome::Exited(137);
    assert_eq!(events[0], RuntimeEvent::ExecEnded { exec, outcome });
    let RuntimeEvent::Exited { exit, .. } = &events[1] else { panic!("{events:?}") };
    assert_eq!(exit.code, Some(0));
    node.remove(&id).await;
    node.end().await;
}

#[tokio::test]
async fn a_flooding_exec_that_nobody_reads_slows_nobody() {
    let mut node = Node::new().await;
    let (id, _) = node.start(idle()).await;
    let (streams, output) = ExecStreams::output_only().unwrap();
    let flood = node.runtime.exec(request(&id, "yes flood", streams)).unwrap();
    assert!(matches!(node.event().await, RuntimeEvent::ExecStarted { .. }));
    let asked = now();
    assert_eq!(node.exec(&id, "echo quick").await, (ExecOutcome::Exited(0), "quick\n".into()));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    // Who stops reading ends it.
    drop(output);
    let outcome = node.exec_end(flood).await;
    assert!(matches!(outcome, ExecOutcome::Exited(code) if code != 0), "{outcome:?}");
    node.end_with(&id).await;
}

#[tokio::test]
async fn there_are_only_so_many_execs_in_a_container() {
    let mut node = Node::new().await;
    let (id, _) = node.start(idle()).await;
    let most = limpet_agent::runtime::exec::MAX_EXECS_PER_CONTAINER;
    for _ in 0..most {
        let streams = ExecStreams::silent().unwrap();
        node.runtime.exec(request(&id, "sleep 1000", streams)).unwrap();
    }
    let more = node.runtime.exec(request(&id, "true", ExecStreams::silent().unwrap())).unwrap();
    let mut started = 0;
    let mut refused = None;
    while started < most || refused.is_none() {
        match node.event().await {
            RuntimeEvent::ExecStarted { .. } => started += 1,
            RuntimeEvent::ExecEnded { exec, outcome } => {
                assert_eq!(exec, more);
                refused = Some(outcome);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(refused, Some(ExecOutcome::Refused { .. })), "{refused:?}");
    node.runtime.remove(&id).unwrap();
    let mut ended = 0;
    loop {
        match node.event().await {
            RuntimeEvent::ExecEnded { outcome, .. } => {
                assert_eq!(outcome, ExecOutcome::Exited(137));
                ended += 1;
            }
            RuntimeEvent::Exited { .. } => {}
            RuntimeEvent::Removed { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ended, most);
    node.end().await;
}

#[tokio::test]
async fn execs_end_with_the_agent_and_with_the_keepers_upgrade() {
    let mut node = Node::new().await;
    let (id, _) = node.start(idle()).await;
    let (streams, output) = ExecStreams::output_only().unwrap();
    node.runtime.exec(request(&id, "sleep 1000", streams)).unwrap();
    assert!(matches!(node.event().await, RuntimeEvent::ExecStarted { .. }));
    let exe = super::node::exe();
    node.runtime = limpet_agent::runtime::keeper_client::KeeperRuntime::connect(
        node.paths.clone(),
        exe.clone(),
    );
    node.snapshot().await;
    read_all(output);

    let (streams, output) = ExecStreams::output_only().unwrap();
    let exec = node.runtime.exec(request(&id, "sleep 1000", streams)).unwrap();
    assert!(matches!(node.event().await, RuntimeEvent::ExecStarted { .. }));
    node.runtime.upgrade(&exe).unwrap();
    assert_eq!(node.exec_end(exec).await, ExecOutcome::Lost);
    node.snapshot().await;
    read_all(output);
    assert_eq!(node.exec(&id, "exit 5").await.0, ExecOutcome::Exited(5));
    node.end_with(&id).await;
}

#[tokio::test]
async fn an_exec_has_a_terminal_of_its_own() {
    let mut node = Node::new().await;
    let mut spec = idle();
    spec.process.user = Some("web".to_owned());
    let (id, _) = node.start(spec).await;
    let size = TerminalSize { rows: 33, columns: 101 };
    let (streams, caller) = ExecStreams::terminal(size).unwrap();
    // `[ -t 0 ]` asks whether it is a terminal; /dev/tty is there only for who controls one.
    let script = "[ -t 0 ] && [ -t 2 ] && echo terminal; stty size; read line </dev/tty; \
                  echo \"got $line\" >/dev/tty; ls -n /dev/pts/0; echo $TERM";
    let exec = node.runtime.exec(request(&id, script, streams)).unwrap();
    assert!(matches!(node.event().await, RuntimeEvent::ExecStarted { .. }));
    let terminal = receive_terminal(&caller).unwrap();
    File::from(terminal.try_clone().unwrap()).write_all(b"words\n").unwrap();
    assert_eq!(node.exec_end(exec).await, ExecOutcome::Exited(0));
    let output = read_all(terminal);
    for expected in ["terminal\r\n", "33 101\r\n", "got words\r\n", " 33 ", "xterm\r\n"] {
        assert!(output.contains(expected), "{expected:?} in {output}");
    }
    node.end_with(&id).await;
}

#[tokio::test]
async fn a_hundred_execs_leave_nothing() {
    let mut node = Node::new().await;
    let (id, _) = node.start(idle()).await;
    node.exec(&id, "true").await;
    let keeper = node.keeper_pid();
    let count = |what: &str| std::fs::read_dir(format!("/proc/{keeper}/{what}")).unwrap().count();
    let before = count("fd");
    let asked = now();
    for number in 0..100 {
        let outcome = match number % 5 {
            4 => {
                let change = |request: &mut ExecRequest| request.command = vec!["nope".to_owned()];
                node.exec_with(&id, "", change).await.0
            }
            code => node.exec(&id, &format!("exit {code}")).await.0,
        };
        match number % 5 {
            4 => assert!(matches!(outcome, ExecOutcome::NotExecuted { code: 127, .. })),
            code => assert_eq!(outcome, ExecOutcome::Exited(code)),
        }
    }
    println!("an exec takes {:.1} ms", asked.elapsed().as_secs_f64() * 10.0);
    wait_until(|| count("fd") <= before);
    assert_eq!(count("task"), 1);
    // The container's first process is the only child that is left, alive.
    let children = || std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"));
    wait_until(|| children().unwrap_or_default().split_whitespace().count() == 1);
    let state = node.paths.run.join(format!("state/{id}"));
    let left: Vec<_> = std::fs::read_dir(state).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("tenant")), "{left:?}");
    node.end_with(&id).await;
}
