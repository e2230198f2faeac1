//! The life of a layout.

use super::*;

fn archive(tag: &str, content: &str) -> Vec<u8> {
    let tar_of = |files: &[(&str, &[u8])]| {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, *content).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let (shared, own) = (tar_of(&[("base", b"base")]), tar_of(&[("own", content.as_bytes())]));
    let config = serde_json::json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"diff_ids": [Digest::of(&shared), Digest::of(&own)]}})
    .to_string();
    let manifest = serde_json::json!([
        {"Config": "c.json", "RepoTags": [tag], "Layers": ["0.tar", "1.tar"]}])
    .to_string();
    tar_of(&[
        ("0.tar", &shared),
        ("1.tar", &own),
        ("c.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ])
}

#[test]
fn a_name_moves_and_what_nobody_needs_goes() {
    let folder = tempfile::tempdir().unwrap();
    let layout = ImageLayout::open(folder.path()).unwrap();
    let old = layout.load(archive("app:1", "old").as_slice()).unwrap()[0].digest;
    let new = layout.load(archive("app:1", "new").as_slice()).unwrap()[0].digest;
    assert_eq!(layout.resolve("docker.io/library/app:1"), Some(new));
    assert_eq!(layout.resolve(&old.to_string()), Some(old), "the old one lost its name only");
    let names: Vec<String> = layout.list().unwrap().into_iter().map(|it| it.reference).collect();
    assert_eq!(names, ["", "app:1"]);
    assert_eq!(layout.blobs().list().unwrap().len(), 2 + 2 + 3);
    layout.remove(&old).unwrap();
    assert_eq!(layout.blobs().list().unwrap().len(), 4, "the shared layer stays");
    assert!(matches!(layout.remove(&old), Err(LayoutError::Unknown(_))));
    layout.remove(&new).unwrap();
    assert!(layout.blobs().list().unwrap().is_empty());
    assert!(layout.list().unwrap().is_empty());
}

#[test]
fn what_is_asked_for_wrongly_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let layout = ImageLayout::open(folder.path()).unwrap();
    let image = layout.load(archive("app:1", "it").as_slice()).unwrap()[0].digest;
    assert_eq!(layout.resolve("app"), None, "app is app:latest");
    assert_eq!(layout.resolve("../../etc/passwd"), None);
    assert_eq!(layout.resolve(&format!("other@{image}")), Some(image));
    assert!(layout.manifest("app:2").unwrap().is_none());
    let layer = layout.blobs().list().unwrap().into_iter().find(|it| *it != image).unwrap();
    assert!(layout.manifest(&layer.to_string()).unwrap().is_none(), "a layer is no manifest");
    let (_, size) = layout.blob(&image).unwrap().unwrap();
    assert!(size > 0);
    assert!(layout.blob(&Digest::of(b"absent")).unwrap().is_none());
    layout.tag(&image, &"quay.io/a/b:c".parse().unwrap()).unwrap();
    assert_eq!(layout.resolve("quay.io/a/b:c"), Some(image));
    assert_eq!(layout.list().unwrap().len(), 2);
}

#[test]
fn a_damaged_table_is_an_error_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    drop(ImageLayout::open(folder.path()).unwrap());
    std::fs::write(folder.path().join("index.json"), b"{").unwrap();
    let error = ImageLayout::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert_eq!(std::fs::read(folder.path().join("index.json")).unwrap(), b"{");
}
