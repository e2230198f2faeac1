//! The tree of an image while it is put together: package over package, then one layer.
//!
//! In: tar files as `dpkg-deb --fsys-tarfile` writes them. Out: a [`Layer`], sorted by path. Nothing is
//! unpacked to disk, so owners and set-id bits stay as they are in the packages without root.

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::layer::{Layer, Owner};

/// Folders that are links into `/usr` on every Debian since 12 (`UsrMerge`); packages still name both.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// Folders that programs expect and no package of an image need bring.
const SKELETON: [(&str, u32); 9] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];
/// An image is put together in memory: boards have little of it, and so should images.
pub(super) const MAX_TREE_BYTES: usize = 1 << 30;

/// Everything of an image by its path, without the first slash.
#[derive(Debug)]
pub(super) struct Tree {
    entries: BTreeMap<String, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    mode: u32,
    owner: Owner,
}

#[derive(Debug)]
enum Kind {
    Folder,
    File(Vec<u8>),
    Link(String),
    HardLink(String),
}

impl Tree {
    /// A tree with nothing but the folders that every program expects.
    pub(super) fn new() -> Self {
        let mut tree = Self { entries: BTreeMap::new(), bytes: 0 };
        for (path, mode) in SKELETON {
            tree.folder(path, mode, Owner::default());
        }
        let link = Kind::Link("/run".into());
        tree.put("var/run".into(), Entry { kind: link, mode: 0o777, owner: Owner::default() });
        tree
    }

    /// The bytes of all files.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn folder(&mut self, path: &str, mode: u32, owner: Owner) {
        self.put(merged(path), Entry { kind: Kind::Folder, mode, owner });
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        let kind = Kind::File(content);
        self.put(merged(path), Entry { kind, mode, owner: Owner::default() });
    }

    /// Adds those entries of a package's tar file that are wanted.
    pub(super) fn package(
        &mut self,
        tar: impl Read,
        keeps: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        for entry in tar::Archive::new(tar).entries()? {
            let mut entry = entry?;
            let path = merged(&inside(&entry.path_bytes())?);
            let folder = entry.header().entry_type().is_dir();
            let wanted = if folder { keeps(&format!("{path}/")) } else { keeps(&path) };
            if path.is_empty() || !wanted {
                continue;
            }
            let kind = kind(&mut entry)?;
            let header = entry.header();
            let number = |found: io::Result<u64>| {
                found
                    .and_then(|id| u32::try_from(id).map_err(|_| io::ErrorKind::InvalidData.into()))
            };
            let owner = Owner { uid: number(header.uid())?, gid: number(header.gid())? };
            self.put(path, Entry { kind, mode: header.mode()?, owner });
        }
        Ok(())
    }

    /// What comes later wins; but a folder leaves a link in its place, as `dpkg` does.
    fn put(&mut self, path: String, entry: Entry) {
        let is_folder = matches!(entry.kind, Kind::Folder);
        let link = |found: &Entry| matches!(found.kind, Kind::Link(_));
        if is_folder && self.entries.get(&path).is_some_and(link) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/')
            && !self.entries.contains_key(parent)
        {
            self.folder(parent, 0o755, Owner::default());
        }
        let size =
            |entry: &Entry| if let Kind::File(content) = &entry.kind { content.len() } else { 0 };
        self.bytes += size(&entry);
        if let Some(old) = self.entries.insert(path, entry) {
            self.bytes -= size(&old);
        }
    }

    /// The tree as a layer.
    pub(super) fn layer(&self) -> Layer {
        let mut layer = Layer::new();
        for name in MERGED {
            if self.entries.contains_key(&format!("usr/{name}")) {
                layer.link(name, &format!("usr/{name}"));
            }
        }
        let hard = |entry: &Entry| matches!(entry.kind, Kind::HardLink(_));
        let (links, others): (Vec<_>, Vec<_>) = self.entries.iter().partition(|(_, it)| hard(it));
        // Hard links last: each needs the file that it names.
        for (path, Entry { kind, mode, owner }) in others.into_iter().chain(links) {
            layer.owner(*owner);
            match kind {
                Kind::Folder => layer.folder(path, *mode),
                Kind::File(content) => layer.file(path, *mode, content),
                Kind::Link(target) => layer.link(path, target),
                Kind::HardLink(target) => layer.hard_link(path, target),
            };
        }
        layer
    }
}

fn kind(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Kind> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "a device, pipe or link to nowhere");
    let target = |entry: &tar::Entry<'_, _>| {
        let name = entry.link_name_bytes().ok_or_else(odd)?;
        String::from_utf8(name.into_owned()).map_err(|_| odd())
    };
    Ok(match entry.header().entry_type() {
        tar::EntryType::Directory => Kind::Folder,
        tar::EntryType::Symlink => Kind::Link(target(entry)?),
        tar::EntryType::Link => Kind::HardLink(merged(&inside(target(entry)?.as_bytes())?)),
        tar::EntryType::Regular => {
            let mut content = Vec::new();
            entry.take(MAX_TREE_BYTES as u64).read_to_end(&mut content)?;
            Kind::File(content)
        }
        _ => return Err(odd()),
    })
}

/// The path of an entry below the root: packages write `./usr/bin/`.
fn inside(path: &[u8]) -> io::Result<String> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "a path that leads out of the package");
    let text = std::str::from_utf8(path).map_err(|_| odd())?;
    let text = text.trim_start_matches("./").trim_end_matches('/');
    match text {
        "" | "." => Ok(String::new()),
        _ if super::recipe::stays_inside(text) => Ok(text.to_owned()),
        _ => Err(odd()),
    }
}

fn merged(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    if MERGED.contains(&first) { format!("usr/{path}") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package as `dpkg-deb` writes it out.
    fn package(fill: impl FnOnce(&mut Layer)) -> Vec<u8> {
        let mut layer = Layer::new();
        layer.folder(".", 0o755);
        fill(&mut layer);
        layer.bytes()
    }

    fn listed(tree: &Tree) -> Vec<String> {
        let bytes = tree.layer().bytes();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let link = entry.link_name().unwrap().map(|to| format!(" -> {}", to.display()));
            format!("{}{}", entry.path().unwrap().display(), link.unwrap_or_default())
        });
        let skeleton: Vec<_> = SKELETON.iter().map(|(path, _)| format!("{path}/")).collect();
        paths.filter(|path| !skeleton.contains(path)).collect()
    }

    #[test]
    fn packages_are_laid_over_each_other_with_usr_merged() {
        let mut tree = Tree::new();
        let first = package(|layer| {
            layer
                .folder("./bin", 0o755)
                .file("./bin/sh", 0o4755, b"one")
                .hard_link("./bin/a", "./bin/sh");
            layer.folder("./usr/bin", 0o755).file("./usr/share/doc/sh/README", 0o644, b"long");
        });
        let second = package(|layer| {
            layer.owner(Owner { uid: 0, gid: 42 }).file("./usr/bin/sh", 0o755, b"two!");
            layer.link("./usr/spool", "/var/spool").folder("./usr/spool", 0o755);
        });
        tree.package(first.as_slice(), |path| !path.starts_with("usr/share/doc/")).unwrap();
        tree.package(second.as_slice(), |_| true).unwrap();
        assert_eq!(tree.bytes(), 4);
        assert_eq!(
            listed(&tree),
            [
                "bin -> usr/bin",
                "usr/",
                "usr/bin/",
                "usr/bin/sh",
                "usr/spool -> /var/spool",
                "var/run -> /run",
                "usr/bin/a -> usr/bin/sh"
            ]
        );
        assert_eq!(tree.entries["usr/bin/sh"].owner.gid, 42);
    }

    #[test]
    fn what_leads_out_is_refused() {
        let mut tree = Tree::new();
        for path in ["./../etc/passwd", "/etc/passwd", "./usr//bin"] {
            let package = package(|layer| {
                layer.file(path, 0o644, b"");
            });
            assert!(tree.package(package.as_slice(), |_| true).is_err(), "{path}");
        }
    }
}
