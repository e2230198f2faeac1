//! `cross.toml` names the targets of the boards, with keys that cross reads.
//!
//! cross itself needs a container engine and public images, so it does not run in the tests.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use toml::{Table, Value};

fn parsed() -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cross.toml");
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

#[test]
fn every_board_has_a_target() {
    let targets = parsed()["target"].as_table().unwrap().clone();
    for target in [
        "aarch64-unknown-linux-musl",
        "armv7-unknown-linux-musleabihf",
        "arm-unknown-linux-musleabihf",
    ] {
        assert!(targets.contains_key(target), "[target.{target}] is missing in cross.toml");
    }
}

/// In its image cross runs that file.
#[test]
fn what_runs_before_a_build_can_be_run() {
    for (target, settings) in parsed()["target"].as_table().unwrap() {
        let script = settings["pre-build"].as_str().unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(script);
        let mode = std::fs::metadata(&path).unwrap_or_else(|it| panic!("{target}: {script}: {it}"));
        assert_eq!(mode.permissions().mode() & 0o111, 0o111, "{target}: {script}");
    }
}

#[test]
fn every_key_is_one_that_cross_reads() {
    // The keys that cross 0.2.5 and its main branch share.
    const TARGET: [&str; 7] =
        ["image", "dockerfile", "runner", "pre-build", "build-std", "xargo", "env"];
    const BUILD: [&str; 8] =
        ["default-target", "dockerfile", "pre-build", "build-std", "xargo", "env", "zig", "target"];
    let config = parsed();
    let known = |table: &Value, keys: &[&str]| {
        let unknown: Vec<_> = table
            .as_table()
            .unwrap()
            .keys()
            .filter(|key| !keys.contains(&key.as_str()))
            .cloned()
            .collect();
        assert!(unknown.is_empty(), "cross does not read {unknown:?}");
    };
    known(&config["build"], &BUILD);
    for target in config["target"].as_table().unwrap().values() {
        known(target, &TARGET);
    }
}
