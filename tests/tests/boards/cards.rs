//! What is written to cards: the same bytes from the same parts, and onto a disk that nobody uses.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use limpet_images::board::{self, Board};
use limpet_tests::board::package_cache;
use limpet_tests::process::program;

/// A file as a disk.
struct LoopDevice(PathBuf);

impl LoopDevice {
    fn attach(file: &Path) -> Self {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(String::from_utf8(output.stdout).unwrap().trim().into())
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        drop(Command::new("losetup").arg("--detach").arg(&self.0).status());
    }
}

fn image(folder: &Path, name: &str) -> PathBuf {
    let image = folder.join(name);
    board::build(Board::VirtArm64, b"an agent", &package_cache(), &image).unwrap();
    image
}

#[test]
#[ignore = "fetches a board's packages: tests/boards"]
fn the_same_parts_make_the_same_card() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| std::fs::read(image(folder.path(), name)));
    assert!(one.unwrap() == other.unwrap());
}

#[test]
#[ignore = "fetches a board's packages: tests/boards"]
fn a_disk_in_use_is_refused_and_a_free_one_written() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "limpet.img");
    let card = folder.path().join("card");
    let file = std::fs::File::create(&card).unwrap();
    file.set_len(std::fs::metadata(&image).unwrap().len() + (1 << 20)).unwrap();
    let device = LoopDevice::attach(&card);
    let write = || {
        let mut limpet = Command::new(program("limpet"));
        limpet.args(["flash", "write", "--yes"]).arg(&image).arg(&device.0).output().unwrap()
    };

    let hold = std::fs::OpenOptions::new();
    let exclusive = rustix::fs::OFlags::EXCL.bits().cast_signed();
    let held = std::os::unix::fs::OpenOptionsExt::custom_flags(&mut hold.clone(), exclusive)
        .read(true)
        .open(&device.0)
        .unwrap();
    let refused = write();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("for writing"), "{said}");
    let mut first = [0; 4096];
    held.read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, [0; 4096], "nothing was written");
    drop(held);

    let written = write();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let wanted = std::fs::read(&image).unwrap();
    assert!(std::fs::read(&card).unwrap()[..wanted.len()] == wanted);
}
