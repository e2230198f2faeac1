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

#[test]
fn busybox_has_its_applets() {
    let (folder, layout) = layout();
    let archive = busybox_archive(None).expect("this test needs busybox-static (apt-get install)");
    let image = layout.load(archive.as_slice()).unwrap().remove(0);
    assert_eq!(image.reference, "busybox:latest");
    let (_, bytes) = layout.manifest("busybox").unwrap().unwrap();
    let manifest: limpet_oci::manifest::Manifest = serde_json::from_slice(&bytes).unwrap();
    let layer = std::fs::File::open(layout.blobs().path(&manifest.layers[0].digest)).unwrap();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(layer));
    let links = tar.entries().unwrap().filter(|entry| {
        let entry = entry.as_ref().unwrap();
        entry.link_name().unwrap().is_some_and(|name| name == Path::new("bin/busybox"))
    });
    assert!(links.count() > 100);
    drop(folder);
}

/// What is built here is what others read: skopeo makes each form of it, and each comes back.
#[test]
fn skopeo_reads_what_is_built() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name).display().to_string();
    let platforms = ["linux/arm64", "linux/amd64"].map(|text| text.parse().unwrap());
    std::fs::write(at("ours.tar"), demo_builder().platforms(&platforms).archive()).unwrap();
    let skopeo = |arguments: &[&str]| {
        let mut command = std::process::Command::new("skopeo");
        command.args(["--insecure-policy", "--override-arch=arm64"]).args(arguments);
        let output = command.env("TMPDIR", work.path()).output();
        let output = output.expect("this test needs skopeo (apt-get install skopeo)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let ours = format!("oci-archive:{}", at("ours.tar"));
    let inspected: serde_json::Value = serde_json::from_str(&skopeo(&["inspect", &ours])).unwrap();
    assert_eq!(inspected["Architecture"], "arm64");
    skopeo(&["copy", &ours, &format!("docker-archive:{}:demo:1", at("docker.tar"))]);
    skopeo(&["copy", "--all", &ours, &format!("oci-archive:{}:demo:2", at("oci.tar"))]);
    let (_folder, layout) = layout();
    for name in ["docker.tar", "oci.tar"] {
        layout.load(std::fs::File::open(at(name)).unwrap()).unwrap();
    }
    let images = layout.list().unwrap();
    assert_eq!((images[0].reference.as_str(), images[0].platforms.len()), ("demo:1", 1));
    assert_eq!((images[1].reference.as_str(), images[1].platforms.len()), ("demo:2", 2));
}
