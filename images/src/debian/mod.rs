//! Images of Debian's packages, made without running anything of them and without root.
//!
//! In: a folder with a recipe (`image.toml`, [`Recipe`]) and what is to be added to the packages
//! (`files/`). Out: an OCI archive in two layers, the packages and the files, so that nodes fetch only the
//! second when a program changes. The same versions of packages and the same folder give the same
//! bytes. Each layer is a tree in memory before it is a tar file.
//!
//! Scripts of packages are not run: there are no alternatives, no users and no generated files but
//! those that the recipe or the programs themselves make. `/var/lib/dpkg/status.d` says what is in the
//! image, where scanners look for it, and the licences stay; handbooks and translations do not.

pub(crate) mod apt;
mod recipe;
mod tree;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use limpet_oci::Platform;

pub use apt::{AptError, Package};
pub use recipe::{Folder, Recipe, RecipeError, User};

use crate::builder::ImageBuilder;
use crate::layer::{Layer, Owner};
use tree::{MAX_TREE_BYTES, Tree};

/// Without this glibc's programs ask DNS first and know no names of `/etc/hosts`.
const NSSWITCH: &str = "hosts: files dns\n";

/// An image that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// A file of its folder.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its recipe.
    #[error("follow the recipe {}", path.display())]
    Recipe {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: RecipeError,
    },
    /// Its packages.
    #[error("get the packages of {name}")]
    Packages {
        /// The image.
        name: String,
        /// Why not.
        #[source]
        source: AptError,
    },
    /// What is in a package.
    #[error("unpack {package}")]
    Unpack {
        /// Which.
        package: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An image for boards is not as large as this.
    #[error("{name} has more than {MAX_TREE_BYTES} bytes: leave packages out with `without`")]
    Large {
        /// The image.
        name: String,
    },
    /// A platform for which there is no Debian.
    #[error(
        "Debian 12 has no packages for {0}: it has for linux/amd64, linux/arm64 and linux/arm/v7"
    )]
    Platform(Platform),
}

/// An image that was made.
#[derive(Debug)]
pub struct Made {
    /// What services call it.
    pub name: String,
    /// The OCI archive.
    pub archive: Vec<u8>,
    /// The packages in it.
    pub packages: Vec<Package>,
    /// The bytes of all files of packages.
    pub unpacked: usize,
}

/// Makes the image of a folder for a platform. `cache` is where lists and packages are kept between
/// images.
///
/// # Errors
/// What stands in the way.
pub fn make(folder: &Path, platform: &Platform, cache: &Path) -> Result<Made, DebianError> {
    let path = folder.join("image.toml");
    let text = fs::read_to_string(&path)
        .map_err(|source| DebianError::Read { path: path.clone(), source })?;
    let recipe = Recipe::parse(&text).map_err(|source| DebianError::Recipe { path, source })?;
    let name = recipe.name.clone();
    let no_packages = |source| DebianError::Packages { name: name.clone(), source };
    let architecture =
        architecture(platform).ok_or_else(|| DebianError::Platform(platform.clone()))?;
    // Kept to the end: another one may not change the packages while they are read.
    let apt = apt::Apt::open(cache, architecture).map_err(no_packages)?;
    let packages = apt.fetch(&recipe).map_err(no_packages)?;
    let tree = tree_of(&recipe, &packages)?;

    let mut builder = ImageBuilder::new(&recipe.name);
    builder.platforms(std::slice::from_ref(platform)).layer(&tree.layer());
    let files = folder.join("files");
    if files.exists() {
        builder.layer(&files_of(&files)?);
    }
    for pair in &recipe.environment {
        builder.environment(pair);
    }
    for (member, value) in &recipe.config {
        builder.set(member, value.clone());
    }
    let packages = packages.into_iter().map(|(package, _)| package).collect();
    Ok(Made { name, archive: builder.archive(), packages, unpacked: tree.bytes() })
}

/// What Debian calls a platform.
fn architecture(platform: &Platform) -> Option<&'static str> {
    match platform.to_string().as_str() {
        "linux/amd64" => Some("amd64"),
        "linux/arm64" => Some("arm64"),
        "linux/arm/v7" => Some("armhf"),
        _ => None,
    }
}

fn tree_of(recipe: &Recipe, packages: &[(Package, PathBuf)]) -> Result<Tree, DebianError> {
    let mut tree = Tree::new();
    for (package, deb) in packages {
        let no_packages = |source| DebianError::Packages { name: recipe.name.clone(), source };
        let files = apt::files(deb).map_err(no_packages)?;
        tree.package(files.as_slice(), |path| recipe.keeps(path))
            .map_err(|source| DebianError::Unpack { package: package.name.clone(), source })?;
        let control = apt::control(deb).map_err(no_packages)?;
        tree.file(&format!("var/lib/dpkg/status.d/{}", package.name), 0o644, control);
        if tree.bytes() > MAX_TREE_BYTES {
            return Err(DebianError::Large { name: recipe.name.clone() });
        }
    }
    tree.file("etc/nsswitch.conf", 0o644, NSSWITCH.into());
    for (path, text) in recipe.accounts() {
        tree.file(path, 0o644, text.into());
    }
    for Folder { path, owner, mode } in &recipe.folders {
        tree.folder(path, *mode, Owner { uid: *owner, gid: *owner });
    }
    Ok(tree)
}

/// The files of a folder as root's, with no more of their modes than a checkout keeps: whether they are
/// programs.
fn files_of(root: &Path) -> Result<Layer, DebianError> {
    let mut layer = Layer::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let here = root.join(&folder);
        let failed = |source| DebianError::Read { path: here.clone(), source };
        let listed: io::Result<Vec<_>> = fs::read_dir(&here).map_err(failed)?.collect();
        let mut listed = listed.map_err(failed)?;
        listed.sort_by_key(fs::DirEntry::file_name);
        for entry in listed {
            let path = entry.path();
            let failed = |source| DebianError::Read { path: path.clone(), source };
            let separator = if folder.is_empty() { "" } else { "/" };
            let name = format!("{folder}{separator}{}", entry.file_name().to_string_lossy());
            let found = entry.metadata().map_err(failed)?;
            if found.is_dir() {
                layer.folder(&name, 0o755);
                folders.push(name);
            } else if found.is_symlink() {
                let target = fs::read_link(&path).map_err(failed)?;
                layer.link(&name, &target.to_string_lossy());
            } else {
                let program = found.permissions().mode() & 0o100 != 0;
                let mode = if program { 0o755 } else { 0o644 };
                layer.file(&name, mode, &fs::read(&path).map_err(failed)?);
            }
        }
    }
    Ok(layer)
}
