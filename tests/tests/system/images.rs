//! Real images, good and bad.

use limpet_tests::fleet::Fleet;
use limpet_tests::process::wait_for;

#[test]
fn busybox_runs_as_its_image_says() {
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::busybox_archive(None).unwrap());
    fleet.add_node("n1", &[]);
    let compose = "services: {shell: {image: busybox, command: [sh, -c, 'echo user $$(id -u) of $$GREETING; sleep 1000'], user: '1000', environment: {GREETING: hello}}}";
    fleet.apply("box", compose, &["--wait"]);
    let logs = wait_for("a line of output", || {
        let logs = fleet.limpet(&["logs", "shell"]);
        (!logs.is_empty()).then_some(logs)
    });
    assert!(logs.contains("user 1000 of hello"), "{logs}");
}

#[test]
fn an_image_that_is_nowhere_is_named_and_others_go_on() {
    let mut fleet = Fleet::start();
    fleet.load_image(&limpet_images::demo_archive());
    fleet.add_node("n1", &[]);
    // Nobody listens there: what a registry that is away looks like.
    let port = limpet_tests::process::free_port();
    let compose = format!(
        "services: {{absent: {{image: 'localhost:{port}/no/such:1'}}, never: {{image: 'not-loaded:1', pull_policy: never}}, clock: {{image: limpet-demo, command: [clock]}}}}"
    );
    fleet.apply("shop", &compose, &[]);
    fleet.wait_running("clock", 1);
    let absent = fleet.wait_reason("absent", &port.to_string());
    assert_ne!(absent["phase"], "running", "{absent}");
    fleet.wait_reason("never", "not-loaded");
    let events = fleet.limpet(&["events"]);
    assert!(events.contains("shop.absent.1"), "{events}");
    let waited = fleet.try_limpet(&["wait", "shop", "--timeout", "1s"]);
    assert!(!waited.status.success(), "an application with a missing image is not settled");
}

#[test]
fn a_broken_archive_is_refused_and_nothing_is_kept() {
    let fleet = Fleet::start();
    let mut archive = limpet_images::demo_archive();
    archive.truncate(archive.len() / 2);
    let file = fleet.folder().join("broken.tar");
    std::fs::write(&file, archive).unwrap();
    let output = fleet.try_limpet(&["image", "load", file.to_str().unwrap()]);
    assert!(!output.status.success());
    assert!(!output.stderr.is_empty());
    assert_eq!(fleet.limpet_json(&["image", "ls"]).as_array().map(Vec::len), Some(0));
}

#[test]
fn what_other_tools_write_is_loaded_and_runs() {
    let mut fleet = Fleet::start();
    fleet.add_node("n1", &[]);
    let at = |name: &str| fleet.folder().join(name).display().to_string();
    std::fs::write(at("demo.tar"), limpet_images::demo_archive()).unwrap();
    let layout = std::path::PathBuf::from(at("layout"));
    for (kind, path) in [("oci", "layout"), ("docker-archive", "docker.tar")] {
        let copied = std::process::Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet"])
            .arg(format!("oci-archive:{}", at("demo.tar")))
            .arg(format!("{kind}:{}:localhost/{kind}:1", at(path)))
            .output()
            .unwrap();
        assert!(copied.status.success(), "skopeo: {}", String::from_utf8_lossy(&copied.stderr));
        fleet.limpet(&["image", "load", &at(path)]);
        let compose = format!(
            "services: {{clock: {{image: 'localhost/{kind}:1', command: [clock], pull_policy: missing}}}}"
        );
        fleet.apply(kind, &compose, &["--wait"]);
    }
    // Not all of it is there: refused, and with a reason.
    std::fs::remove_dir_all(layout.join("blobs")).unwrap();
    let output = fleet.try_limpet(&["image", "load", &at("layout")]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("blobs"), "{errors}");
}

/// A Debian tree, made once a machine: it takes a minute. Kept beside the build, where a clean
/// removes it.
fn debian_tree() -> std::path::PathBuf {
    let cache = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (tree, fresh) = (cache.join("debian-bookworm"), cache.join("debian-bookworm.new"));
    if !tree.exists() {
        // What an interrupted run left may be there.
        let _ = std::fs::remove_dir_all(&fresh);
        let made = std::process::Command::new("debootstrap")
            .args(["--variant=minbase", "bookworm"])
            .arg(&fresh)
            .output()
            .unwrap();
        assert!(made.status.success(), "debootstrap: {}", String::from_utf8_lossy(&made.stdout));
        std::fs::rename(&fresh, &tree).unwrap();
    }
    tree
}

#[test]
fn a_debian_of_several_layers_runs() {
    let archive = limpet_images::debian_archive(&debian_tree()).unwrap();
    let mut fleet = Fleet::start();
    fleet.load_image(&archive);
    fleet.add_node("n1", &[]);
    let look = "cat /etc/debian_version /etc/limpet-layer; ls /usr/share/doc; test -e /etc/motd || echo no motd; exec sleep 1000";
    let compose =
        format!("services: {{debian: {{image: debian-test, command: [bash, -c, '{look}']}}}}");
    fleet.apply("debian", &compose, &["--wait"]);
    let logs = wait_for("the layers to be seen", || {
        let logs = fleet.limpet(&["logs", "debian"]);
        logs.contains("no motd").then_some(logs)
    });
    assert!(logs.contains("12.") && logs.contains("two"), "{logs}");
    assert!(
        logs.contains("only") && !logs.contains("bash\n"),
        "the opaque folder hides what is below: {logs}"
    );
}
