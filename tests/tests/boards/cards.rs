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

/// What no emulated board has: voltage of the card and both halves of the Ethernet of a Raspberry Pi 4, and radios.
#[test]
#[ignore = "fetches a board's packages: tests/boards"]
fn a_card_for_raspberry_pis_has_what_their_device_trees_name() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("limpet.img");
    board::build(Board::RaspiArm64, b"an agent", &package_cache(), &image).unwrap();
    let unpacked = |name: &str, command: &str| {
        std::fs::write(folder.path().join(name), board::boot_file(&image, name).unwrap()).unwrap();
        let mut shell = Command::new("busybox");
        let output = shell.args(["sh", "-c", command]).current_dir(&folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let list = "busybox zcat initrd.img | busybox cpio -i --to-stdout etc/limpet/modules";
    let modules = unpacked(board::INITRAMFS, list);
    for name in ["fixed", "gpio-regulator", "sdhci-iproc", "genet", "mdio-bcm-unimac", "dwc2"] {
        assert!(modules.contains(&format!("/{name}.ko\n")), "{name} in {modules}");
    }
    assert!(!modules.contains("brcmfmac"), "what only Wi-Fi needs is not in memory: {modules}");
    let wifi = unpacked(board::WIFI, "busybox tar -tzf wifi.tgz");
    for name in [
        "brcmfmac.ko",
        "firmware/brcm/brcmfmac43430-sdio.bin",
        "firmware/brcm/brcmfmac43455-sdio.raspberrypi,4-model-b.txt",
        "firmware/regulatory.db",
        "ld.so",
    ] {
        assert!(wifi.lines().any(|line| line == name), "{name} in {wifi}");
    }
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
