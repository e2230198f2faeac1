//! Builds the images that the demo, the tests and the benchmarks run, without Docker.
//!
//! In: the workload that the build script compiled, programs and trees of this machine. Out: OCI
//! archives as bytes, the same bytes for the same content. [`ImageBuilder`] makes any other image,
//! [`debian`] those of Debian's packages; [`board`] what boards boot from.

pub mod board;
mod builder;
pub mod debian;
mod layer;

use std::io;
use std::path::Path;

pub use builder::{BuildError, ImageBuilder};
pub use layer::{Layer, Owner};

/// The demo application: three services of the demo image.
pub const DEMO_COMPOSE: &str = include_str!("../demo/compose.yaml");
/// What services call the demo image.
pub const DEMO_REFERENCE: &str = "limpet-demo:latest";
/// The program in the demo image, a static executable for the machine that this was built for.
pub const WORKLOAD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/workload"));

const EXECUTABLE: u32 = 0o755;
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The demo image, tagged [`DEMO_REFERENCE`], as an OCI archive.
#[must_use]
pub fn demo_archive() -> Vec<u8> {
    demo_builder().archive()
}

/// The demo image, to be changed before it is built.
#[must_use]
pub fn demo_builder() -> ImageBuilder {
    // A user that is not root needs a name here, and /tmp to write to.
    let mut layer = Layer::new();
    layer.folder("bin", EXECUTABLE).folder("etc", EXECUTABLE).folder("tmp", 0o1777);
    layer.file("bin/workload", EXECUTABLE, WORKLOAD);
    layer.file("etc/passwd", 0o644, b"root:x:0:0:root:/:\nnobody:x:65534:65534:nobody:/:\n");
    layer.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n");
    let mut builder = ImageBuilder::new(DEMO_REFERENCE);
    builder.layer(&layer).entrypoint(&["/bin/workload"]).command(&["clock"]).environment(PATH);
    builder
}

/// An image of Debian's `busybox-static` (`/bin/busybox`, or `path`), tagged `busybox:latest`, with
/// every applet as a link.
///
/// # Errors
/// If the program cannot be read or does not list its applets.
pub fn busybox_archive(path: Option<&Path>) -> io::Result<Vec<u8>> {
    let path = path.unwrap_or(Path::new("/bin/busybox"));
    let program = std::fs::read(path)?;
    let listed = std::process::Command::new(path).arg("--list").output()?;
    let mut layer = Layer::new();
    for folder in ["bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var"] {
        layer.folder(folder, EXECUTABLE);
    }
    layer.folder("tmp", 0o1777).file("bin/busybox", EXECUTABLE, &program);
    let applets = String::from_utf8_lossy(&listed.stdout);
    for applet in applets.lines().filter(|name| *name != "busybox" && !name.contains('/')) {
        layer.hard_link(&format!("bin/{applet}"), "bin/busybox");
    }
    layer.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:\n");
    layer.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n");
    let mut builder = ImageBuilder::new("busybox:latest");
    builder.layer(&layer).command(&["sh"]).environment(PATH);
    Ok(builder.archive())
}

/// The programs of [`shell_archive`]: all of packages that no Debian is without.
const SHELL_PROGRAMS: [&str; 9] = [
    "/bin/bash",
    "/bin/cat",
    "/bin/grep",
    "/bin/sleep",
    "/usr/bin/getent",
    "/usr/bin/head",
    "/usr/bin/sort",
    "/usr/bin/timeout",
    "/usr/bin/uniq",
];

/// An image of this machine's own shell and a few programs with the libraries that they are linked
/// with, tagged `shell:latest`. Unlike busybox it asks for names as most programs do: with the
/// resolver of a dynamic C library.
///
/// # Errors
/// If a program cannot be read or `ldd` does not know it.
pub fn shell_archive() -> io::Result<Vec<u8>> {
    let mut libraries = std::collections::BTreeSet::new();
    let mut layer = Layer::new();
    for folder in ["bin", "dev", "etc", "lib", "lib64", "proc", "sys", "usr", "usr/bin"] {
        layer.folder(folder, EXECUTABLE);
    }
    layer.folder("tmp", 0o1777).file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n");
    for program in SHELL_PROGRAMS {
        layer.file(&program[1..], EXECUTABLE, &std::fs::read(program)?);
        let linked = std::process::Command::new("ldd").arg(program).output()?;
        let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
        let paths = linked.split_whitespace().filter(|word| word.starts_with('/'));
        libraries.extend(paths.map(str::to_owned));
    }
    let mut folders = std::collections::BTreeSet::new();
    for library in &libraries {
        let parents = Path::new(library).ancestors().skip(1);
        folders.extend(parents.filter_map(|it| it.strip_prefix("/").ok()).map(Path::to_owned));
    }
    for folder in folders.iter().filter_map(|it| it.to_str()) {
        if !["", "lib", "lib64", "usr"].contains(&folder) {
            layer.folder(folder, EXECUTABLE);
        }
    }
    for library in &libraries {
        layer.file(&library[1..], EXECUTABLE, &std::fs::read(library)?);
    }
    layer.hard_link("bin/sh", "bin/bash");
    layer.file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n");
    layer.file("etc/group", 0o644, b"root:x:0:\n");
    let mut builder = ImageBuilder::new("shell:latest");
    builder.layer(&layer).command(&["sh"]).environment(PATH);
    Ok(builder.archive())
}

/// An image of a Debian tree as debootstrap makes it, tagged `debian-test:latest`, in three layers:
/// the tree, then `/etc/limpet-layer` added, then `/etc/motd` removed and `/usr/share/doc` made
/// anew with one file.
///
/// # Errors
/// If the tree cannot be read.
pub fn debian_archive(tree: &Path) -> Result<Vec<u8>, BuildError> {
    let mut base = Layer::new();
    base.tree(tree)?;
    let mut added = Layer::new();
    added.file("etc/limpet-layer", 0o644, b"two\n");
    let mut removed = Layer::new();
    removed.whiteout("etc/motd").folder("usr/share/doc", EXECUTABLE).opaque("usr/share/doc");
    removed.file("usr/share/doc/only", 0o644, b"three\n");
    let mut builder = ImageBuilder::new("debian-test:latest");
    builder.layer(&base).layer(&added).layer(&removed);
    builder.command(&["/bin/bash"]).environment(PATH);
    Ok(builder.archive())
}

#[cfg(test)]
mod tests;
