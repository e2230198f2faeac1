//! Lifecycle hooks.

use limpet_protocol::spec::Hook;

use super::*;

#[test]
fn hooks_after_the_start_and_before_the_stop() {
    let hooks = spec(
        "post_start: [{command: [migrate, up], user: root, working_dir: /srv, environment: [A=b]}, \
         {command: \"sh -c 'echo a b'\"}], pre_stop: [{command: drain}]",
    )
    .hooks;
    let plain = |words: &[&str]| Hook {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        user: None,
        working_dir: None,
        environment: [].into(),
    };
    let first = Hook {
        user: Some("root".to_owned()),
        working_dir: Some("/srv".to_owned()),
        environment: [("A".to_owned(), "b".to_owned())].into(),
        ..plain(&["migrate", "up"])
    };
    assert_eq!(hooks.post_start, [first, plain(&["sh", "-c", "echo a b"])]);
    assert_eq!(hooks.pre_stop, [plain(&["drain"])]);
    assert_eq!(spec("").hooks, limpet_protocol::spec::Hooks::default());
}

#[test]
fn hooks_that_cannot_be() {
    refused("post_start: [{command: ''}]", &["services.s.post_start[0]: a hook needs a `command`"]);
    refused(
        "pre_stop: [{command: a, privileged: true}]",
        &["services.s.pre_stop[0].privileged: a hook can do no more than its container"],
    );
    refused("pre_stop: [{command: a, working_dir: b}]", &["expected an absolute path"]);
    let many = vec!["{command: a}"; 17].join(", ");
    refused(&format!("post_start: [{many}]"), &["17 hooks are too many"]);
}
