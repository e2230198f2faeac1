//! The table of calls: its bounds, credit both ways, and what becomes of execs.

use super::*;

fn instance() -> InstanceId {
    "shop.web.1".parse().unwrap()
}

fn logs(credit: u16) -> CallIn {
    CallIn::Logs {
        instance: instance(),
        tail: None,
        follow: false,
        credit,
        since_ms: None,
        timestamps: false,
    }
}

fn exec(input: bool) -> CallIn {
    CallIn::Exec(ExecCall {
        instance: instance(),
        command: vec!["true".to_owned()],
        environment: vec![],
        working_dir: None,
        user: None,
        terminal: None,
        input,
        credit: 1,
    })
}

fn container(instance: &InstanceId) -> Option<ContainerId> {
    Some(ContainerId { instance: instance.clone(), attempt: 1 })
}

fn session(number: usize) -> SessionId {
    SessionId::new(&format!("s{number}")).unwrap()
}

fn is_refusal(heard: &Heard) -> bool {
    matches!(heard, Heard::Answer(CallOut::End { error: Some(_), .. }))
}

#[test]
fn there_are_only_so_many_calls_and_no_more_credit_than_the_window() {
    let mut calls = Calls::default();
    for number in 0..MAX_CALLS {
        assert!(matches!(calls.hear(&session(number), logs(999), container), Heard::Logs(_)));
    }
    assert!(is_refusal(&calls.hear(&session(99), logs(1), container)));
    calls.hear(&session(0), CallIn::Credit { chunks: u16::MAX }, container);
    let credit = calls.open[&session(0)].credit.clone();
    assert_eq!(credit.available_permits(), usize::from(CALL_WINDOW));
    calls.hear(&session(0), CallIn::Cancel, container);
    assert!(credit.is_closed());
    assert!(matches!(calls.hear(&session(99), logs(1), container), Heard::Logs(_)));
    assert!(is_refusal(&calls.hear(&session(98), logs(1), |_| None)));
}

#[tokio::test]
async fn input_needs_credit_and_order() {
    let mut calls = Calls::default();
    let input = |sequence| CallIn::Input { sequence, data: b"x".to_vec() };
    let Heard::Exec(task) = calls.hear(&session(0), exec(true), container) else { panic!() };
    calls.exec_began(&session(0), ExecId(7));
    for sequence in [0, 1, 1, 0, 2, 3] {
        let heard = calls.hear(&session(0), input(sequence), container);
        assert!(matches!(heard, Heard::Done), "{sequence}");
    }
    // More than the credit that an agent gives.
    assert!(is_refusal(&calls.hear(&session(0), input(4), container)));
    assert_eq!(calls.take_abandoned(), [ExecId(7)]);
    drop(task);

    let Heard::Exec(_task) = calls.hear(&session(1), exec(true), container) else { panic!() };
    assert!(is_refusal(&calls.hear(&session(1), input(1), container)), "one is missing");
    let Heard::Exec(_task) = calls.hear(&session(2), exec(false), container) else { panic!() };
    assert!(matches!(calls.hear(&session(2), input(0), container), Heard::Done));
}

#[tokio::test]
async fn an_exec_is_signalled_and_ended_with_its_caller() {
    let mut calls = Calls::default();
    let Heard::Exec(_one) = calls.hear(&session(1), exec(false), container) else { panic!() };
    let Heard::Exec(_two) = calls.hear(&session(2), exec(false), container) else { panic!() };
    calls.exec_began(&session(1), ExecId(1));
    calls.exec_began(&session(2), ExecId(2));
    let signal = CallIn::Signal { number: 2 };
    let heard = calls.hear(&session(2), signal.clone(), container);
    assert!(matches!(heard, Heard::Signal(ExecId(2), 2)));
    assert!(calls.exec_ended(ExecId(2), &ExecOutcome::Exited(0)));
    assert!(!calls.exec_ended(ExecId(2), &ExecOutcome::Exited(0)));
    assert!(matches!(calls.hear(&session(2), signal, container), Heard::Done));
    calls.end_all();
    assert_eq!(calls.take_abandoned(), [ExecId(1)], "the other has ended");
}

#[test]
fn a_command_has_a_largest_size_and_copies_have_places() {
    let mut calls = Calls::default();
    let CallIn::Exec(mut call) = exec(false) else { panic!() };
    call.command.push("x".repeat(MAX_EXEC_BYTES));
    assert!(is_refusal(&calls.hear(&session(0), CallIn::Exec(call), container)));
    let read = || CallIn::Read { instance: instance(), path: "/".to_owned(), credit: 1 };
    let mut held = Vec::new();
    for number in 0..copy::MAX_COPIES {
        let Heard::Copy(copy) = calls.hear(&session(number), read(), container) else { panic!() };
        held.push(copy);
    }
    assert!(is_refusal(&calls.hear(&session(90), read(), container)));
    held.pop();
    assert!(matches!(calls.hear(&session(91), read(), container), Heard::Copy(_)));
}

#[test]
fn only_so_many_are_told_what_is_missing_at_a_time() {
    let mut calls = Calls::default();
    let session = SessionId::new("s").unwrap();
    let images = vec![ImageSource::new("a"); MAX_IMAGES_ASKED + 9];
    let ask = |calls: &mut Calls| {
        calls.hear(&session, CallIn::Missing { images: images.clone() }, |_| None)
    };
    for _ in 0..MAX_COUNTING {
        let Heard::Missing(asked) = ask(&mut calls) else { panic!("refused") };
        assert_eq!(asked.len(), MAX_IMAGES_ASKED);
    }
    assert!(matches!(ask(&mut calls), Heard::Answer(CallOut::End { error: Some(_), .. })));
    calls.counted();
    assert!(matches!(ask(&mut calls), Heard::Missing(_)));
}
