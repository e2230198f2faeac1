//! Archives of every tool, and hostile ones.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::*;
use crate::layout::ImageLayout;

/// A tar file from paths and contents.
fn tar_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        add(&mut builder, path, tar::EntryType::Regular, content, None);
    }
    builder.into_inner().unwrap()
}

fn add(
    builder: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    content: &[u8],
    target: Option<&str>,
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    // Written by hand, since the library refuses to write what a hostile archive holds.
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    if let Some(target) = target {
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
    }
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

fn config(diff_ids: &[Digest]) -> Vec<u8> {
    json!({"architecture": "arm64", "os": "linux", "variant": "v8", "config": {},
           "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string()
    .into_bytes()
}

/// `docker save` as it was before version 25, with one layer in a folder of its own.
fn docker_archive(tags: &[&str]) -> Vec<(&'static str, Vec<u8>)> {
    let layer = tar_of(&[("hello", b"world".to_vec())]);
    let config = config(&[Digest::of(&layer)]);
    let manifest =
        json!([{"Config": "config.json", "RepoTags": tags, "Layers": ["one/layer.tar"]}]);
    vec![
        ("one/layer.tar", layer),
        ("config.json", config),
        ("manifest.json", manifest.to_string().into_bytes()),
    ]
}

/// An OCI layout with one image; `change` may spoil it.
fn oci_files(change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    let layer = tar_of(&[("hello", b"world".to_vec())]);
    let config = config(&[Digest::of(&layer)]);
    let descriptor = |bytes: &[u8], kind: &str| {
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"),
               "digest": Digest::of(bytes), "size": bytes.len()})
    };
    let manifest = json!({"schemaVersion": 2, "config": descriptor(&config, "config.v1+json"),
                          "layers": [descriptor(&layer, "layer.v1.tar")]})
    .to_string()
    .into_bytes();
    let mut entry = descriptor(&manifest, "manifest.v1+json");
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "app:1"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let mut files = vec![
        ("index.json".to_owned(), index),
        (blob(&layer), layer.clone()),
        (blob(&config), config.clone()),
        (blob(&manifest), manifest.clone()),
    ];
    change(&mut files);
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(path, content)| (path.as_str(), content.clone())).collect();
    tar_of(&files)
}

fn layout() -> (tempfile::TempDir, ImageLayout) {
    let folder = tempfile::tempdir().unwrap();
    let layout = ImageLayout::open(folder.path()).unwrap();
    (folder, layout)
}

fn is_empty(folder: &Path) -> bool {
    let none = |path: &str| std::fs::read_dir(folder.join(path)).unwrap().next().is_none();
    none("blobs/sha256") && none("incoming") && !folder.join("index.json").exists()
}

#[test]
fn docker_archives_load_under_all_their_names_and_to_the_same_digest() {
    let (_folder, layout) = layout();
    let archive = tar_of(&docker_archive(&["app:1", "quay.io/team/app:2"]));
    let images = layout.load(archive.as_slice()).unwrap();
    assert_eq!(images[0].reference, "app:1");
    assert_eq!(images[1].reference, "quay.io/team/app:2");
    assert_eq!(images[0].digest, images[1].digest);
    assert_eq!(images[0].platforms[0].to_string(), "linux/arm64");
    let (media_type, bytes) = layout.manifest("app:1").unwrap().unwrap();
    assert_eq!(media_type, crate::manifest::OCI_MANIFEST);
    assert_eq!(Digest::of(&bytes), images[0].digest);
    assert_eq!(layout.load(archive.as_slice()).unwrap(), images);
}

#[test]
fn a_plain_layer_is_compressed_once_and_keeps_its_content() {
    let (folder, layout) = layout();
    let layer = tar_of(&[("file", vec![b'a'; 100_000])]);
    let config = config(&[Digest::of(&layer)]);
    let saved = br#"[{"Config":"c.json","RepoTags":["app:1"],"Layers":["l.tar"]},{"Config":"c.json","RepoTags":["app:2"],"Layers":["l.tar"]}]"#;
    let files = [("c.json", config), ("l.tar", layer.clone()), ("manifest.json", saved.to_vec())];
    let images = layout.load(tar_of(&files).as_slice()).unwrap();
    assert_eq!(images[0].digest, images[1].digest);
    assert!(images[0].size_bytes < 5000, "{}", images[0].size_bytes);
    let (_, bytes) = layout.manifest("app:1").unwrap().unwrap();
    let manifest: crate::manifest::Manifest = serde_json::from_slice(&bytes).unwrap();
    assert!(manifest.layers[0].media_type.ends_with("tar+gzip"));
    let (blob, _) = layout.blob(&manifest.layers[0].digest).unwrap().unwrap();
    let mut content = Vec::new();
    crate::compression::plain(blob).unwrap().read_to_end(&mut content).unwrap();
    assert!(content == layer);
    // Configuration, layer, manifest: the plain layer did not stay.
    assert_eq!(std::fs::read_dir(folder.path().join("blobs/sha256")).unwrap().count(), 3);
}

#[test]
fn the_order_of_files_and_links_between_layers_do_not_matter() {
    let mut files = docker_archive(&["app:1"]);
    let layer = files.remove(0).1;
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in &files {
        add(&mut builder, &format!("./{path}"), tar::EntryType::Regular, content, None);
    }
    add(&mut builder, "one/layer.tar", tar::EntryType::Symlink, b"", Some("../two/layer.tar"));
    add(&mut builder, "two/layer.tar", tar::EntryType::Regular, &layer, None);
    let (_folder, layout) = layout();
    layout.load(builder.into_inner().unwrap().as_slice()).unwrap();
    assert!(layout.resolve("app:1").is_some());
}

#[test]
fn compressed_archives_are_read() {
    let archive = tar_of(&docker_archive(&["app:1"]));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&archive).unwrap();
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let zstd = ruzstd::encoding::compress_to_vec(archive.as_slice(), level);
    let (_folder, layout) = layout();
    let expected = layout.load(archive.as_slice()).unwrap();
    assert_eq!(layout.load(gzip.finish().unwrap().as_slice()).unwrap(), expected);
    assert_eq!(layout.load(zstd.as_slice()).unwrap(), expected);
}

#[test]
fn an_oci_archive_loads_and_a_second_time_writes_nothing() {
    let (folder, layout) = layout();
    let archive = oci_files(|_| ());
    layout.load(archive.as_slice()).unwrap();
    let index = folder.path().join("index.json");
    let before = std::fs::metadata(&index).unwrap().modified().unwrap();
    layout.load(archive.as_slice()).unwrap();
    assert_eq!(std::fs::metadata(&index).unwrap().modified().unwrap(), before);
    let listed = layout.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].reference, "app:1");
    let again = ImageLayout::open(folder.path()).unwrap();
    assert_eq!(again.list().unwrap(), listed);
    let (_other_folder, other) = self::layout();
    other.load_folder(folder.path()).unwrap();
    assert_eq!(other.list().unwrap(), listed);
}

/// Every bad archive gets a sentence, and nothing of it stays.
#[test]
fn bad_archives_leave_nothing() {
    let good = oci_files(|_| ());
    let mut bad_digest = docker_archive(&["app:1"]);
    bad_digest[0].1[600] ^= 1;
    let mut no_layer = docker_archive(&["app:1"]);
    no_layer.remove(0);
    let mut bad_name = docker_archive(&["Not A Name"]);
    bad_name.rotate_left(1);
    let named_wrong =
        vec![("manifest.json", br#"[{"Config":"../../etc/passwd","Layers":[]}]"#.to_vec())];
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "neither manifest.json"),
        ("text", b"hello, I am no archive".repeat(100), "read the image archive"),
        ("truncated", good[..good.len() - 3000].to_vec(), "read the image archive"),
        ("foreign", tar_of(&[("a", b"b".to_vec())]), "neither manifest.json"),
        ("wrong layer", tar_of(&bad_digest), "wrong digest"),
        ("no layer", tar_of(&no_layer), "one/layer.tar is missing"),
        ("bad name", tar_of(&bad_name), "is not an image reference"),
        ("path in manifest", tar_of(&named_wrong), "leads out of the archive"),
        ("spoilt blob", oci_files(|files| files[1].1[600] ^= 1), "wrong digest"),
        ("missing blob", oci_files(|files| drop(files.remove(2))), "is missing"),
        (
            "spoilt index",
            oci_files(|files| files[0].1 = b"{".to_vec()),
            "index.json cannot be read",
        ),
        (
            "no images",
            oci_files(|files| files[0].1 = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec()),
            "neither",
        ),
    ];
    for (name, archive, expected) in table {
        let (folder, layout) = layout();
        let error = layout.load(archive.as_slice()).unwrap_err();
        let mut sentence = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            sentence = format!("{sentence}: {error}");
            cause = error.source();
        }
        assert!(sentence.contains(expected), "{name}: {sentence}");
        assert!(is_empty(folder.path()), "{name} left something");
    }
}

#[test]
fn hostile_entries_are_refused() {
    let entries = [
        ("../escape", tar::EntryType::Regular, None),
        ("/etc/escape", tar::EntryType::Regular, None),
        ("link", tar::EntryType::Symlink, Some("/etc/passwd")),
        ("link", tar::EntryType::Symlink, Some("../outside")),
        ("link", tar::EntryType::Link, Some("../outside")),
        ("device", tar::EntryType::Char, None),
        ("pipe", tar::EntryType::Fifo, None),
    ];
    for (path, kind, target) in entries {
        let mut builder = tar::Builder::new(Vec::new());
        add(&mut builder, path, kind, b"", target);
        let (folder, layout) = layout();
        let error = layout.load(builder.into_inner().unwrap().as_slice()).unwrap_err();
        assert!(error.to_string().contains("refused"), "{path}: {error}");
        assert!(is_empty(folder.path()));
    }
}

#[test]
fn links_in_a_circle_and_absurd_sizes_end() {
    let mut builder = tar::Builder::new(Vec::new());
    add(&mut builder, "manifest.json", tar::EntryType::Symlink, b"", Some("other"));
    add(&mut builder, "other", tar::EntryType::Symlink, b"", Some("manifest.json"));
    let (_folder, layout) = layout();
    assert!(layout.load(builder.into_inner().unwrap().as_slice()).is_err());
    let mut header = tar::Header::new_gnu();
    header.set_path("huge").unwrap();
    header.set_size(u64::MAX / 2);
    header.set_cksum();
    assert!(layout.load(header.as_bytes().as_slice()).is_err());
    // A name of 8 MiB would be held in memory.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(8 * 1024 * 1024);
    header.set_cksum();
    let archive = [header.as_bytes().as_slice(), &vec![b'a'; 8 * 1024 * 1024]].concat();
    let error = layout.load(archive.as_slice()).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("headers of an entry"), "{source}");
}

#[test]
fn variants_that_are_not_in_the_archive_are_left_out() {
    let archive = oci_files(|files| {
        let old: serde_json::Value = serde_json::from_slice(&files[0].1).unwrap();
        let mut here = old["manifests"][0].clone();
        here["annotations"] = json!({});
        let mut absent = here.clone();
        absent["digest"] = json!(Digest::of(b"absent"));
        absent["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let image = json!({"schemaVersion": 2, "manifests": [absent, here]}).to_string();
        let digest = Digest::of(image.as_bytes());
        let entry = json!({"mediaType": crate::manifest::OCI_INDEX, "digest": digest,
            "size": image.len(), "annotations": {
                "io.containerd.image.name": "docker.io/library/app:9",
                "org.opencontainers.image.ref.name": "9"}});
        files.push((format!("blobs/sha256/{}", digest.hex()), image.into_bytes()));
        files[0].1 = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    });
    let (_folder, layout) = layout();
    let images = layout.load(archive.as_slice()).unwrap();
    assert_eq!(images[0].reference, "app:9");
    assert_eq!(images[0].platforms.len(), 1);
    assert_eq!(images[0].platforms[0].to_string(), "linux/arm64");
}

/// The archives that skopeo makes of ours, in every form that it writes.
#[test]
fn skopeo_and_limpet_read_each_other() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        panic!("this test needs skopeo (apt-get install skopeo)");
    }
    let work = tempfile::tempdir().unwrap();
    let ours = work.path().join("ours.tar");
    std::fs::write(&ours, oci_files(|_| ())).unwrap();
    let copy = |from: &str, to: &str| {
        let output = Command::new("skopeo")
            .args(["copy", "--insecure-policy", "--override-arch=arm64", from, to])
            .env("TMPDIR", work.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let at = |name: &str| work.path().join(name).display().to_string();
    let source = format!("oci-archive:{}", ours.display());
    copy(&source, &format!("docker-archive:{}:app:2", at("docker.tar")));
    copy(&source, &format!("oci-archive:{}:docker.io/library/app:3", at("oci.tar")));
    copy(&source, &format!("oci:{}:app:4", at("folder")));
    let (folder, layout) = layout();
    for name in ["docker.tar", "oci.tar"] {
        layout.load(std::fs::File::open(at(name)).unwrap()).unwrap();
    }
    layout.load_folder(Path::new(&at("folder"))).unwrap();
    let names: Vec<String> = layout.list().unwrap().into_iter().map(|it| it.reference).collect();
    assert_eq!(names, ["app:2", "app:3", "app:4"]);
    // The layout itself is what skopeo reads.
    let stored = format!("oci:{}:docker.io/library/app:2", folder.path().display());
    copy(&stored, &format!("docker-archive:{}:back:1", at("back.tar")));
    layout.load(std::fs::File::open(at("back.tar")).unwrap()).unwrap();
    assert!(layout.resolve("back:1").is_some());
}

/// Hundreds of spoilt archives: an error or an image, never a panic, and the store stays whole.
#[test]
fn spoilt_bytes_never_panic() {
    let good = [tar_of(&docker_archive(&["app:1"])), oci_files(|_| ())];
    let (_folder, layout) = layout();
    let mut state = 7_u64;
    let mut next = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..500 {
        let mut archive = good[next(2)].clone();
        for _ in 0..=next(4) {
            let at = next(archive.len());
            archive[at] = u8::try_from(next(256)).unwrap();
        }
        archive.truncate(archive.len() - next(2) * next(archive.len()));
        drop(layout.load(archive.as_slice()));
    }
    for image in layout.list().unwrap() {
        assert_eq!(image.platforms.len(), 1);
        layout.blobs().verify(&image.digest).unwrap();
    }
    for blob in layout.blobs().list().unwrap() {
        layout.blobs().verify(&blob).unwrap();
    }
}
