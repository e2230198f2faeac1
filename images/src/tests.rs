//! The images that are built here can be loaded, and the tools of others read them.

use limpet_oci::ImageLayout;

use super::*;

fn layout() -> (tempfile::TempDir, ImageLayout) {
    let folder = tempfile::tempdir().unwrap();
    let layout = ImageLayout::open(folder.path()).unwrap();
    (folder, layout)
}

#[test]
fn the_demo_image_is_the_same_every_time_and_can_be_loaded() {
    let archive = demo_archive();
    assert!(archive == demo_archive());
    let (_folder, layout) = layout();
    let images = layout.load(archive.as_slice()).unwrap();
    assert_eq!(images[0].reference, DEMO_REFERENCE);
    assert_eq!(layout.resolve("limpet-demo"), Some(images[0].digest));
    assert!(archive.len() < 1024 * 1024, "{} bytes is too much for a demo", archive.len());
}

#[test]
fn the_workload_runs() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workload");
    std::fs::write(&path, WORKLOAD).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = |arguments: &[&str]| std::process::Command::new(&path).args(arguments).output();
    assert_eq!(run(&["once", "7"]).unwrap().status.code(), Some(7));
    let listed = run(&["ls", folder.path().to_str().unwrap()]).unwrap();
    assert_eq!(listed.stdout, b"workload\n");
    assert_eq!(run(&["nonsense"]).unwrap().status.code(), Some(2));
    let mut command = std::process::Command::new(&path);
    let mut child = command.arg("stamp").stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert!(line.trim().parse::<u64>().is_ok(), "{line}");
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").arg(pid).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(143), "it ends on SIGTERM");
}

#[test]
fn several_platforms_make_an_index() {
    let (_folder, layout) = layout();
    let platforms = ["linux/arm64", "linux/arm/v7"].map(|text| text.parse().unwrap());
    let archive = demo_builder().platforms(&platforms).archive();
    let images = layout.load(archive.as_slice()).unwrap();
    assert_eq!(images[0].platforms, platforms);
}

#[test]
fn a_tree_becomes_three_layers() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(tree.path().join("etc")).unwrap();
    std::fs::write(tree.path().join("etc/motd"), "hello").unwrap();
    let long = "n".repeat(200);
    std::fs::write(tree.path().join(&long), "long").unwrap();
    std::fs::hard_link(tree.path().join("etc/motd"), tree.path().join("again")).unwrap();
    std::os::unix::fs::symlink(&long, tree.path().join("link")).unwrap();
    let (_folder, layout) = layout();
    let images = layout.load(debian_archive(tree.path()).unwrap().as_slice()).unwrap();
    assert_eq!(images[0].reference, "debian-test:latest");
    let missing = debian_archive(std::path::Path::new("/nowhere")).unwrap_err();
    assert_eq!(missing.to_string(), "read /nowhere for an image");
}
