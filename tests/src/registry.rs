//! A registry of a test: Debian's `docker-registry`, open or with a password or with TLS.
//!
//! In: archives to push. Out: images under `localhost:PORT/`, and the files behind them, for a test
//! to spoil. Everything is gone when it is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Running, free_port, wait_for};

/// The user of a registry with a password.
pub const USER: &str = "limpet";
/// Its password.
pub const PASSWORD: &str = "geheim";
/// bcrypt of [`PASSWORD`], as `htpasswd -nbB` writes it.
const PASSWORD_LINE: &str = "limpet:$2y$05$iPF6.MqtXkOoNiuqBcAqCuz/V4tQmq.vVsx63Z8HKcV/fy8ym3kdO\n";

/// Who may come in, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, by HTTP.
    Open,
    /// [`USER`] with [`PASSWORD`], by HTTP.
    Password,
    /// Everybody, by HTTPS, with a certificate of a CA made for it.
    Tls,
}

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    /// Declared first: it ends before its folder goes.
    running: Running,
    folder: TempDir,
    port: u16,
    access: Access,
}

impl Registry {
    /// Starts a registry with nothing in it.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(access: Access) -> Self {
        let folder = tempfile::Builder::new().prefix("limpet-registry").tempdir().unwrap();
        let port = free_port();
        let config = folder.path().join("config.yml");
        fs::write(&config, configuration(folder.path(), port, access)).unwrap();
        let mut command = Command::new("/usr/bin/docker-registry");
        command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        let running = Running::start("registry", folder.path(), &mut command);
        wait_for("the registry to listen", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { running, folder, port, access }
    }

    /// `localhost:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The certificate of the CA that signed the registry's own.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// What the registry wrote about its work.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.output()
    }

    /// Pushes an OCI archive with every variant in it, under a name as `demo:1`.
    ///
    /// # Panics
    /// When skopeo or the registry refuses.
    pub fn push(&self, archive: &[u8], name: &str) {
        let file = self.folder.path().join("push.tar");
        fs::write(&file, archive).unwrap();
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--all", "--quiet", "--dest-tls-verify=false"]);
        if self.access == Access::Password {
            command.arg(format!("--dest-creds={USER}:{PASSWORD}"));
        }
        command.arg(format!("oci-archive:{}", file.display()));
        run(command.arg(format!("docker://{}/{name}", self.address())));
    }

    /// The digest that a pushed name has.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn digest(&self, name: &str) -> String {
        let (repository, tag) = name.split_once(':').expect("a name with a tag");
        let link = format!("repositories/{repository}/_manifests/tags/{tag}/current/link");
        fs::read_to_string(self.storage().join(link)).unwrap().trim().to_owned()
    }

    /// The largest blob on the registry's disk, which is a layer.
    ///
    /// # Panics
    /// When there is no blob.
    #[must_use]
    pub fn largest_blob(&self) -> PathBuf {
        let folders = fs::read_dir(self.storage().join("blobs/sha256")).unwrap().flatten();
        let blobs = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
        let files = blobs.map(|blob| blob.path().join("data"));
        files.max_by_key(|file| fs::metadata(file).map_or(0, |facts| facts.len())).expect("a blob")
    }

    fn storage(&self) -> PathBuf {
        self.folder.path().join("storage/docker/registry/v2")
    }
}

fn configuration(folder: &Path, port: u16, access: Access) -> String {
    let folder_text = folder.display();
    let mut text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder_text}/storage}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n"
    );
    match access {
        Access::Open => {}
        Access::Password => {
            fs::write(folder.join("htpasswd"), PASSWORD_LINE).unwrap();
            text += &format!("auth: {{htpasswd: {{realm: test, path: {folder_text}/htpasswd}}}}\n");
        }
        Access::Tls => {
            certificates(folder);
            text += &format!(
                "  tls: {{certificate: {folder_text}/leaf.pem, key: {folder_text}/leaf.key}}\n"
            );
        }
    }
    text
}

/// Makes a CA and a certificate for `localhost` that it signs.
fn certificates(folder: &Path) {
    let request = |subject: &str, name: &str| {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-nodes", "-days", "2", "-subj", subject]);
        command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
        command.current_dir(folder);
        command
    };
    run(&mut request("/CN=Limpet test CA", "ca"));
    let mut leaf = request("/CN=localhost", "leaf");
    leaf.args(["-CA", "ca.pem", "-CAkey", "ca.key"]);
    leaf.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    run(leaf.args(["-addext", "subjectAltName=DNS:localhost"]));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}
