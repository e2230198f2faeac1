//! A folder in the OCI image layout as the archive that the controller reads.
//!
//! In: a folder. Out: a tar stream of what the layout names there, made while it is read; nothing is
//! written anywhere. Links are not followed: a layout has none, and they could lead anywhere.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_util::io::SyncIoBridge;

/// What a layout has; its table first, so that a folder that is none is refused at once.
const PARTS: [&str; 3] = ["index.json", "oci-layout", "blobs"];
/// Bytes between the thread that reads the folder and the one that sends them.
const BUFFER_BYTES: usize = 256 * 1024;

/// Opens the folder as an archive. The task says how reading it went.
///
/// # Errors
/// If the folder is no image layout.
pub fn open(folder: &Path) -> anyhow::Result<(DuplexStream, JoinHandle<anyhow::Result<()>>)> {
    anyhow::ensure!(
        folder.join(PARTS[0]).is_file(),
        "{} is no image: a folder in the OCI image layout has an index.json (`skopeo copy … oci:FOLDER` writes one)",
        folder.display()
    );
    let (writer, reader) = tokio::io::duplex(BUFFER_BYTES);
    let (writer, folder) = (SyncIoBridge::new(writer), folder.to_owned());
    Ok((reader, tokio::task::spawn_blocking(move || write(&folder, writer))))
}

fn write(folder: &Path, writer: impl Write) -> anyhow::Result<()> {
    let mut archive = tar::Builder::new(writer);
    archive.follow_symlinks(false);
    for part in PARTS {
        let path: PathBuf = folder.join(part);
        let read = || format!("read {}", path.display());
        if path.is_dir() {
            archive.append_dir_all(part, &path).with_context(read)?;
        } else {
            archive.append_path_with_name(&path, part).with_context(read)?;
        }
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn a_folder_becomes_an_archive_of_its_layout_alone() {
        let folder = tempfile::tempdir().unwrap();
        let words = open(folder.path()).unwrap_err().to_string();
        assert!(words.contains("has an index.json"), "{words}");
        std::fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        for file in ["index.json", "oci-layout", "blobs/sha256/abc", "secret"] {
            std::fs::write(folder.path().join(file), file).unwrap();
        }
        let (mut reader, task) = open(folder.path()).unwrap();
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.unwrap();
        task.await.unwrap().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(Result::unwrap);
        let files = entries.filter(|entry| entry.header().entry_type().is_file());
        let names: Vec<_> = files.map(|file| file.path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["index.json", "oci-layout", "blobs/sha256/abc"]);
    }
}
