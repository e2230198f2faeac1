//! Configs and secrets in real containers: where, whose, with which bits, and never on a disk.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use limpet_agent::ledger::content::{ContentRef, Contents};
use limpet_agent::ledger::{Accepted, Ledger};
use limpet_agent::runtime::RuntimeEvent;
use limpet_protocol::assignment::{Assignment, Generation};
use limpet_protocol::codec;
use limpet_protocol::id::ContentId;
use limpet_protocol::message::{ConfigContent, SealedSecret, Signed};
use limpet_protocol::spec::*;
use limpet_seal::Secret;

use super::node::{Node, wait_until};

const CLEAR: &str = "correct horse battery staple";
const CONFIG: ContentId = ContentId([1; 32]);
const SECRET: ContentId = ContentId([2; 32]);

/// Puts a config and a secret into the ledger of a node, as the agent does with what came in.
fn keep(node: &Node, config: &str) {
    let name: limpet_protocol::id::NodeId = "n1".parse().unwrap();
    let ledger = Ledger::open(&node.paths.data, name.clone(), vec![0; 32]).unwrap();
    let config = codec::encode(&ConfigContent { content: config.into() }).unwrap();
    let key = ledger.seal_key("any").public;
    let clear = Secret::new(CLEAR.as_bytes().to_vec());
    let sealed = limpet_seal::seal_to(&key, &name, &SECRET, &clear).unwrap();
    let sealed = SealedSecret { node: name.clone(), content: SECRET, key, sealed };
    let payload = codec::encode(&sealed).unwrap();
    let secret = codec::encode(&Signed { payload, signature: vec![0; 64] }).unwrap();
    let contents = Contents::from([
        (ContentRef::Config(CONFIG), config.into()),
        (ContentRef::Secret(SECRET), secret.into()),
    ]);
    let generation = Generation { epoch: 1, number: 1 };
    let assignment = Assignment { node: name, generation, services: vec![], network: None };
    let specs = BTreeMap::new();
    ledger.store(&Accepted { signed: vec![], assignment, specs, contents }).unwrap();
}

fn mount(content: ContentId, target: &str, (uid, gid, mode): (u32, u32, u32)) -> ContentMount {
    let (name, target) = ("token".to_owned(), target.to_owned());
    ContentMount { name, content, target, uid, gid, mode }
}

fn holds_clear_text(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.into_iter().any(|entry| {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            return holds_clear_text(&path);
        }
        kind.is_file()
            && std::fs::read(&path).is_ok_and(|bytes| {
                bytes.windows(CLEAR.len()).any(|window| window == CLEAR.as_bytes())
            })
    })
}

#[tokio::test]
async fn contents_are_files_with_their_owner_and_bits() {
    let mut node = Node::new().await;
    keep(&node, "#!/bin/sh\necho from the config\n");
    let mut spec = Node::spec(
        "cat /run/secrets/token; echo; /etc/app/run; ls -ln /etc/app/run /run/secrets/token /token; \
         echo x 2>/dev/null > /run/secrets/token || echo read-only; \
         echo x 2>/dev/null > /etc/app/run || echo read-only; \
         grep -E ' (/run/secrets/token|/etc/app/run) ' /proc/self/mountinfo; exec sleep 1000",
    );
    spec.configs = vec![mount(CONFIG, "/etc/app/run", (0, 29, 0o555))];
    spec.secrets = vec![
        mount(SECRET, "/run/secrets/token", (33, 33, 0o400)),
        mount(SECRET, "/token", (0, 0, 0o444)),
    ];
    let (id, _) = node.start(spec).await;
    wait_until(|| node.log(&id).lines().count() >= 9);
    let output = node.log(&id);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..2], [CLEAR, "from the config"], "{output}");
    for (line, expected) in [
        (lines[2], "-r-xr-xr-x    1 0        29 "),
        (lines[3], "-r--------    1 33       33 "),
        (lines[4], "-r--r--r--    1 0        0 "),
    ] {
        assert!(line.starts_with(expected), "{line:?} should begin with {expected:?}");
    }
    assert_eq!(lines[5..7], ["read-only", "read-only"], "{output}");
    for line in &lines[7..9] {
        let options = line.split(' ').nth(5).unwrap();
        for option in ["ro", "nosuid", "nodev"] {
            assert!(options.split(',').any(|found| found == option), "{line}");
        }
        assert_eq!(line.contains("/run/secrets"), options.contains("noexec"), "{line}");
        assert!(line.contains(" - ramfs "), "never written to swap: {line}");
    }
    // The log is the test's own doing; nothing else of the node has it, though the container runs.
    for folder in
        [node.paths.data.clone(), node.paths.run.join("containers"), node.paths.run.join("state")]
    {
        assert!(!holds_clear_text(&folder), "{}", folder.display());
    }
    assert!(!node.keeper_log().contains(CLEAR));
    node.remove_running(&id).await;
    assert_eq!(node.traces(), [""; 0]);
    node.end().await;
}

#[tokio::test]
async fn they_lie_inside_other_mounts_and_another_user_reads_what_is_his() {
    let mut node = Node::new().await;
    keep(&node, "port 80\n");
    let mut spec = Node::spec(
        "cat /run/secrets/token; echo; cat /root-only 2>/dev/null || echo denied; cat /data/app.conf",
    );
    spec.process.user = Some("web".to_owned());
    spec.security.read_only = true;
    let tmpfs = MountSource::Tmpfs { size_bytes: None, mode: None };
    let volume =
        MountSource::Volume { name: "test_data".to_owned(), no_copy: false, subpath: None };
    spec.mounts = vec![
        Mount { target: "/run".to_owned(), source: tmpfs, read_only: false },
        Mount { target: "/data".to_owned(), source: volume, read_only: false },
    ];
    spec.secrets = vec![
        mount(SECRET, "/run/secrets/token", (33, 33, 0o400)),
        mount(SECRET, "/root-only", (0, 0, 0o400)),
    ];
    spec.configs = vec![mount(CONFIG, "/data/app.conf", (0, 0, 0o444))];
    let (exit, output) = node.run(spec).await;
    assert_eq!(output, format!("{CLEAR}\ndenied\nport 80\n"));
    assert_eq!(exit.code, Some(0));
    // What is left in the volume is the place, not the content.
    let place = node.paths.data.join("volumes/test_data/app.conf");
    assert_eq!(place.metadata().unwrap().size(), 0);
    node.end().await;
}

#[tokio::test]
async fn what_is_not_there_or_cannot_be_opened_says_so() {
    let mut node = Node::new().await;
    keep(&node, "");
    let mut spec = Node::spec("true");
    spec.configs = vec![mount(ContentId([9; 32]), "/x", (0, 0, 0o444))];
    node.ask(spec);
    let RuntimeEvent::CreateFailed { reason, .. } = node.event().await else { panic!() };
    assert!(reason.contains("open config token: read "), "{reason}");

    std::fs::remove_file(node.paths.data.join("seal.key")).unwrap();
    Ledger::open(&node.paths.data, "n1".parse().unwrap(), vec![0; 32]).unwrap();
    let mut spec = Node::spec("true");
    spec.secrets = vec![mount(SECRET, "/run/secrets/token", (0, 0, 0o444))];
    node.ask(spec);
    let RuntimeEvent::CreateFailed { reason, .. } = node.event().await else { panic!() };
    assert!(reason.contains("open secret token: it is sealed to a key"), "{reason}");
    assert!(!reason.contains(CLEAR));
    node.end().await;
}
