//! The package of the agent, on a Debian of its own: it is installed, found by its name, removed and purged.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use limpet_tests::board::{newest_agent, target};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn said(output: &Output) -> String {
    let [out, errors] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    format!("{out}{errors}")
}

/// A Debian in a folder.
struct Debian(tempfile::TempDir);

impl Debian {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", "--include=ca-certificates", "bookworm"]);
        let output = debootstrap.arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        Self(folder)
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new("chroot").arg(self.0.path()).args(words).output().unwrap()
    }

    fn has(&self, path: &str) -> bool {
        self.0.path().join(path).exists()
    }
}

#[test]
#[ignore = "needs the agent for PCs, and a Debian: tests/boards"]
fn the_package_is_installed_removed_and_purged() {
    let agent = newest_agent("x86_64-unknown-linux-musl");
    let mut build = Command::new(repository().join("images/deb/build"));
    let built = build
        .arg("amd64")
        .env("CARGO_TARGET_DIR", target())
        .env("LIMPET_AGENT", agent)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", said(&built));
    let version = env!("CARGO_PKG_VERSION");
    let package = target().join(format!("deb/limpet-agent_{version}_amd64.deb"));

    let debian = Debian::new();
    std::fs::copy(&package, debian.0.path().join("agent.deb")).unwrap();
    let installed = debian.run(&["dpkg", "--install", "/agent.deb"]);
    assert!(installed.status.success(), "{}", said(&installed));
    let asked = debian.run(&["limpet-agent", "--version"]);
    assert!(said(&asked).contains(version), "{}", said(&asked));
    let verified = debian.run(&["dpkg", "--verify", "limpet-agent"]);
    assert!(verified.status.success() && said(&verified).is_empty(), "{}", said(&verified));

    let settings = debian.0.path().join("etc/limpet/agent.toml");
    std::fs::write(&settings, "controller = \"mqtt://192.0.2.7\"\n").unwrap();
    let again = debian.run(&["dpkg", "--install", "/agent.deb"]);
    assert!(again.status.success(), "{}", said(&again));
    let kept = std::fs::read_to_string(&settings).unwrap();
    assert!(kept.contains("192.0.2.7"), "an upgrade keeps what people wrote: {kept}");

    std::fs::create_dir_all(debian.0.path().join("var/lib/limpet/ledger")).unwrap();
    let removed = debian.run(&["dpkg", "--remove", "limpet-agent"]);
    assert!(removed.status.success(), "{}", said(&removed));
    assert!(!debian.has("usr/bin/limpet-agent"));
    assert!(
        debian.has("etc/limpet/agent.toml") && debian.has("var/lib/limpet"),
        "kept for the next"
    );
    let purged = debian.run(&["dpkg", "--purge", "limpet-agent"]);
    assert!(purged.status.success(), "{}", said(&purged));
    for path in ["etc/limpet", "var/lib/limpet", "lib/systemd/system/limpet-agent.service"] {
        assert!(!debian.has(path), "{path} is left");
    }
}
