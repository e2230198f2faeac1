//! Layers unpacked as root, with everything that a tar file can say, and what hostile ones try.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use limpet_images::Layer;
use limpet_oci::Digest;

use super::super::layers::Layers;
use super::super::unpack::{UnpackError, unpack};
use super::assert_root;

/// A layer's tar file, by way of the builder.
fn tar_of(fill: impl FnOnce(&mut Layer)) -> Vec<u8> {
    let mut layer = Layer::new();
    fill(&mut layer);
    layer.bytes()
}

fn unpacked(tar: &[u8]) -> Result<tempfile::TempDir, UnpackError> {
    assert_root();
    let folder = tempfile::tempdir().unwrap();
    unpack(tar, &Digest::of(tar), folder.path()).map(|()| folder)
}

fn raw(name: &str, kind: tar::EntryType, target: &str) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_600_000_000);
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    gnu.linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    header
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    Some(value[..length].to_vec())
}

#[test]
fn owners_modes_times_links_and_devices_are_kept() {
    let tar = tar_of(|layer| {
        let mut owned = raw("bin/su", tar::EntryType::Regular, "");
        owned.set_mode(0o4755);
        owned.set_uid(12);
        owned.set_gid(34);
        owned.set_cksum();
        layer.folder("bin", 0o751).raw(&owned, b"").hard_link("bin/again", "bin/su");
        layer.link("bin/link", "../../../etc/passwd");
        let mut device = raw("dev/null", tar::EntryType::Char, "");
        device.set_device_major(1).unwrap();
        device.set_device_minor(3).unwrap();
        device.set_cksum();
        layer.raw(&device, b"").raw(&raw("pipe", tar::EntryType::Fifo, ""), b"");
    });
    let folder = unpacked(&tar).unwrap();
    let at = |path: &str| fs::symlink_metadata(folder.path().join(path)).unwrap();
    assert_eq!((at("bin/su").uid(), at("bin/su").gid()), (12, 34));
    assert_eq!(at("bin/su").mode() & 0o7777, 0o4755);
    assert_eq!(at("bin/su").mtime(), 1_600_000_000);
    assert_eq!((at("bin/su").ino(), at("bin/su").nlink()), (at("bin/again").ino(), 2));
    assert_eq!(at("bin").mode() & 0o7777, 0o751);
    assert_eq!(at("bin").mtime(), 1_577_836_800, "set after its files were written");
    assert_eq!(
        fs::read_link(folder.path().join("bin/link")).unwrap(),
        Path::new("../../../etc/passwd")
    );
    assert!(at("dev/null").file_type().is_char_device());
    assert_eq!(at("dev/null").rdev(), rustix::fs::makedev(1, 3));
    assert!(at("pipe").file_type().is_fifo());
    assert_eq!(at("").mode() & 0o7777, 0o755);
}

#[test]
fn capabilities_are_kept_and_overlays_own_attributes_are_not() {
    // Version 2, effective, CAP_NET_RAW.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = tar_of(|layer| {
        layer.attributes(&[
            ("security.capability", &capability),
            ("trusted.overlay.redirect", b"/etc"),
            ("user.overlay.opaque", b"y"),
        ]);
        layer.file("ping", 0o755, b"program");
    });
    let folder = unpacked(&tar).unwrap();
    let ping = folder.path().join("ping");
    assert_eq!(attribute(&ping, "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(attribute(&ping, "trusted.overlay.redirect"), None);
    assert_eq!(attribute(&ping, "user.overlay.opaque"), None);
}

#[test]
fn whiteouts_take_overlays_form() {
    let tar = tar_of(|layer| {
        layer.folder("etc", 0o755).whiteout("etc/gone").opaque("etc");
        // Removed below and made anew in the same layer, in either order.
        layer.whiteout("first").folder("first", 0o755).folder("second", 0o755).whiteout("second");
        layer.file("kept", 0o644, b"").whiteout("kept");
    });
    let folder = unpacked(&tar).unwrap();
    let gone = fs::symlink_metadata(folder.path().join("etc/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for path in ["etc", "first", "second"] {
        let mark = attribute(&folder.path().join(path), "trusted.overlay.opaque");
        assert_eq!(mark.as_deref(), Some(&b"y"[..]), "{path}");
    }
    assert!(fs::metadata(folder.path().join("kept")).unwrap().is_file());
    assert_eq!(fs::read_dir(folder.path().join("etc")).unwrap().count(), 1);
}

/// Three layers in a real overlay: what is hidden is hidden.
#[test]
fn the_kernel_sees_the_layers_as_they_are_meant() {
    assert_root();
    let store = tempfile::tempdir().unwrap();
    let layers = Layers::open(&store.path().join("layers")).unwrap();
    let tars = [
        tar_of(|layer| {
            layer.file("a", 0o644, b"1").file("b", 0o644, b"1").folder("d", 0o755);
            layer.file("d/old", 0o644, b"1");
        }),
        tar_of(|layer| {
            layer.file("b", 0o644, b"2");
        }),
        tar_of(|layer| {
            layer.whiteout("a").folder("d", 0o755).opaque("d").file("d/new", 0o644, b"3");
        }),
    ];
    let mut lower = Vec::new();
    for tar in &tars {
        layers.put(&Digest::of(tar), tar.as_slice()).unwrap();
        lower.insert(0, layers.get(&Digest::of(tar)).unwrap().display().to_string());
    }
    let target = store.path().join("merged");
    fs::create_dir(&target).unwrap();
    // In a mount namespace of its own, which goes with the process.
    let script = format!(
        "mount -t overlay overlay -o ro,lowerdir={} {target} && cd {target} && find . -type f \
         | sort | xargs grep -H .",
        lower.join(":"),
        target = target.display()
    );
    let output = std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "./b:2\n./d/new:3\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn nothing_leads_out() {
    let outside = tempfile::tempdir().unwrap();
    let out = outside.path().to_str().unwrap();
    // A link to the outside, then a file through it: the kernel takes the link as if the folder
    // were the root of everything.
    let through = tar_of(|layer| {
        layer.link("way", out).file("way/file", 0o644, b"x");
        layer.link("up", "../../../../..").file("up/tmp/limpet-escape", 0o644, b"x");
        layer.link("here", "/proc/self/cwd").file("here/limpet-escape", 0o644, b"x");
    });
    let folder = unpacked(&through).unwrap();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(!Path::new("/tmp/limpet-escape").exists() && !Path::new("limpet-escape").exists());
    assert!(folder.path().join("tmp/limpet-escape").exists());
    assert!(folder.path().join("proc/self/cwd/limpet-escape").exists());
    assert!(fs::symlink_metadata(folder.path().join("way")).unwrap().is_symlink());
    let circle = tar_of(|layer| {
        layer.link("a", "b").link("b", "a").file("a/file", 0o644, b"x");
    });
    assert!(matches!(unpacked(&circle), Err(UnpackError::Entry { .. })));
    // A hard link to a file outside finds nothing.
    let hard = tar_of(|layer| {
        layer.link("etc", "/etc").raw(&raw("mine", tar::EntryType::Link, "etc/passwd"), b"");
    });
    assert!(matches!(unpacked(&hard), Err(UnpackError::Entry { .. })));
    for name in ["../escape", "a/../../escape"] {
        let tar = tar_of(|layer| {
            layer.raw(&raw(name, tar::EntryType::Regular, ""), b"");
        });
        assert!(matches!(unpacked(&tar), Err(UnpackError::Refused { .. })), "{name}");
    }
    let whiteout = tar_of(|layer| {
        layer.raw(&raw("a/.wh...", tar::EntryType::Regular, ""), b"");
    });
    assert!(unpacked(&whiteout).is_err());
}

#[test]
fn folders_do_not_nest_without_end() {
    let deep = "d/".repeat(120);
    let tar = tar_of(|layer| {
        layer.folder(deep.trim_end_matches('/'), 0o755).link("l0", deep.trim_end_matches('/'));
        for number in 0..30 {
            let here = format!("l{number}/{deep}");
            layer.folder(here.trim_end_matches('/'), 0o755);
            layer.link(&format!("l{}", number + 1), here.trim_end_matches('/'));
        }
    });
    assert!(matches!(unpacked(&tar), Err(UnpackError::Entry { .. })));
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let tar = tar_of(|layer| {
        layer.folder("x", 0o755).file("x/y", 0o644, b"").file("x", 0o644, b"file");
        layer.link("z", "x").folder("z", 0o755).file("z/inside", 0o644, b"");
        layer.file("same", 0o644, b"one").hard_link("same", "same");
    });
    let folder = unpacked(&tar).unwrap();
    assert_eq!(fs::read(folder.path().join("x")).unwrap(), b"file");
    assert!(fs::symlink_metadata(folder.path().join("z")).unwrap().is_dir());
    assert_eq!(fs::read(folder.path().join("same")).unwrap(), b"one");
}

#[test]
fn a_wrong_or_cut_layer_leaves_nothing() {
    assert_root();
    let store = tempfile::tempdir().unwrap();
    let root = store.path().join("layers");
    let layers = Layers::open(&root).unwrap();
    let tar = tar_of(|layer| {
        layer.file("file", 0o644, &[7; 5000]);
    });
    let other = Digest::of(b"other");
    assert!(layers.put(&other, tar.as_slice()).is_err());
    assert!(layers.put(&Digest::of(&tar), &tar[..3000]).is_err());
    assert!(layers.get(&other).is_none());
    assert_eq!(fs::read_dir(root.join("unpacking")).unwrap().count(), 0);
    layers.put(&Digest::of(&tar), tar.as_slice()).unwrap();
    // A power cut: one layer without its record, one half unpacked.
    let whole = layers.get(&Digest::of(&tar)).unwrap();
    fs::create_dir_all(root.join("0123/diff/etc")).unwrap();
    fs::create_dir_all(root.join("unpacking/3/diff")).unwrap();
    drop(layers);
    let layers = Layers::open(&root).unwrap();
    assert_eq!(layers.get(&Digest::of(&tar)), Some(whole.clone()));
    assert_eq!(fs::read_dir(&root).unwrap().count(), 2, "the whole one and unpacking/");
    fs::remove_file(whole.with_file_name("complete")).unwrap();
    assert!(Layers::open(&root).unwrap().get(&Digest::of(&tar)).is_none());
    assert!(!whole.exists());
}
