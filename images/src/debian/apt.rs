//! Debian's packages: which ones an image needs, and their files, by apt and dpkg of this machine.
//!
//! In: a recipe. Out: packages with the paths of their `.deb` files, and what is in those. Apt works on lists, a state and
//! a cache of its own in one folder, so it needs no root, changes nothing of the machine, and serves any
//! architecture; where to get packages from, and whose signatures count, is this machine's `/etc/apt`.
//! Nothing of a package is run.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::recipe::Recipe;

/// What apt does not need of the sources: translations of descriptions.
const NO_TRANSLATIONS: &str = "Acquire::Languages=none";

/// Packages that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// The folder that apt works in.
    #[error("prepare {} for apt", path.display())]
    Folder {
        /// What of it.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program of Debian does not start.
    #[error("start {program}, which is Debian's")]
    Start {
        /// Which.
        program: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program of Debian failed.
    #[error("{attempt}: {said}")]
    Failed {
        /// What it was to do.
        attempt: String,
        /// What it said.
        said: String,
    },
}

/// One package of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, or `all`.
    pub architecture: String,
}

impl Package {
    /// Reads a line of `apt-get --simulate`: `Inst redis-tools (5:7.0.15-1 Debian:12.1/stable [amd64])`.
    fn of_line(line: &str) -> Option<Self> {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        let (told, _pending) = rest.split_once(')')?;
        let (version, sources) = told.split_once(' ')?;
        let (_, architecture) = sources.strip_suffix(']')?.rsplit_once('[')?;
        let [name, version, architecture] = [name, version, architecture].map(str::to_owned);
        Some(Self { name, version, architecture })
    }

    /// Reads a stanza of a list of packages.
    fn of_stanza(stanza: &str) -> Option<Self> {
        let name = field(stanza, "Package")?.to_owned();
        let version = field(stanza, "Version")?.to_owned();
        let architecture = field(stanza, "Architecture")?.to_owned();
        Some(Self { name, version, architecture })
    }

    /// The name that apt gives its file.
    fn file_name(&self) -> String {
        let version = self.version.replace(':', "%3a");
        format!("{}_{version}_{}.deb", self.name, self.architecture)
    }
}

/// Apt with a folder of its own for one architecture.
#[derive(Debug)]
pub(crate) struct Apt {
    folder: PathBuf,
    architecture: &'static str,
    /// Where packages come from, if not from where those of this machine do.
    sources: Option<PathBuf>,
    /// Nobody else works in the folder while this one does.
    _lock: File,
}

impl Apt {
    /// Makes the folder ready, and waits while another one works in it.
    pub(crate) fn open(cache: &Path, architecture: &'static str) -> Result<Self, AptError> {
        let folder = cache.join(architecture);
        let failed = |source| AptError::Folder { path: folder.clone(), source };
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(folder.join(part)).map_err(failed)?;
        }
        let folder = folder.canonicalize().map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Self { folder, architecture, sources: None, _lock: lock })
    }

    /// The same with sources of its own, as sources.list(5) has them.
    pub(crate) fn open_with(
        cache: &Path,
        architecture: &'static str,
        sources: &str,
    ) -> Result<Self, AptError> {
        let apt = Self::open(cache, architecture)?;
        let path = apt.folder.join("sources.list");
        let failed = |source| AptError::Folder { path: path.clone(), source };
        if fs::read_to_string(&path).ok().as_deref() != Some(sources) {
            fs::write(&path, sources).map_err(failed)?;
        }
        Ok(Self { sources: Some(path), ..apt })
    }

    /// These packages alone, without what they depend on. One that only depends on a package of the same
    /// name with a version in it stands for that: so it is with Debian's kernels.
    pub(crate) fn fetch_alone(&self, names: &[&str]) -> Result<Vec<(Package, PathBuf)>, AptError> {
        self.pretend(&[])?;
        if !self.has_lists()? {
            self.update()?;
        }
        self.fetch_each(names).or_else(|_| {
            self.update()?;
            self.fetch_each(names)
        })
    }

    fn fetch_each(&self, names: &[&str]) -> Result<Vec<(Package, PathBuf)>, AptError> {
        let mut packages = Vec::new();
        for name in names {
            let shown = self.show(name)?;
            let packaged = match kernel_of(&shown) {
                Some(kernel) => Package::of_stanza(&self.show(kernel)?),
                None => Package::of_stanza(&shown),
            };
            packages.extend(packaged);
        }
        let packages = self.with_files(packages);
        for (package, path) in packages.iter().filter(|(_, path)| !path.exists()) {
            let mut download = self.command("apt-get");
            download.args(["-qq", "download"]).arg(format!("{}={}", package.name, package.version));
            download.current_dir(path.parent().unwrap_or(Path::new(".")));
            run(&mut download, &format!("fetch {}", package.name))?;
        }
        Ok(packages)
    }

    fn show(&self, name: &str) -> Result<String, AptError> {
        let mut show = self.command("apt-cache");
        show.args(["show", "--no-all-versions", name]);
        let said = run(&mut show, &format!("look up {name}"))?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// The packages of a recipe with all that they depend on, and their files, fetched if they are
    /// not there yet. Lists that are not there are fetched; so are those that are too old to be of use.
    pub(crate) fn fetch(&self, recipe: &Recipe) -> Result<Vec<(Package, PathBuf)>, AptError> {
        if !self.has_lists()? {
            self.update()?;
        }
        self.fetch_listed(recipe).or_else(|_| {
            self.update()?;
            self.fetch_listed(recipe)
        })
    }

    fn has_lists(&self) -> Result<bool, AptError> {
        let path = self.folder.join("lists");
        let listed = fs::read_dir(&path).map_err(|source| AptError::Folder { path, source })?;
        Ok(listed.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
    }

    fn update(&self) -> Result<(), AptError> {
        let mut update = self.command("apt-get");
        run(update.args(["-qq", "update"]), "fetch the lists of packages").map(drop)
    }

    fn fetch_listed(&self, recipe: &Recipe) -> Result<Vec<(Package, PathBuf)>, AptError> {
        self.pretend(&recipe.without)?;
        let install = |option: &str| {
            let mut command = self.command("apt-get");
            command.args(["-qq", "--yes", "--no-install-recommends", option, "install"]);
            command.args(&recipe.packages);
            command
        };
        let names = recipe.packages.join(" ");
        let said = run(&mut install("--simulate"), &format!("find what {names} depends on"))?;
        run(&mut install("--download-only"), &format!("fetch {names} and what it depends on"))?;
        let packages =
            String::from_utf8_lossy(&said).lines().filter_map(Package::of_line).collect();
        Ok(self.with_files(packages))
    }

    fn with_files(&self, packages: Vec<Package>) -> Vec<(Package, PathBuf)> {
        let archives = self.folder.join("archives");
        let with_file = |package: Package| {
            let path = archives.join(package.file_name());
            (package, path)
        };
        packages.into_iter().map(with_file).collect()
    }

    /// Writes the state of a machine on which nothing is installed but these packages, which depend on
    /// nothing: then apt wants neither them nor what only they need. They are on hold: apt sees that the
    /// archive's are others, of the same version, and would change them.
    fn pretend(&self, installed: &[String]) -> Result<(), AptError> {
        let path = self.folder.join("status");
        let write = |text: &str| {
            fs::write(&path, text).map_err(|source| AptError::Folder { path: path.clone(), source })
        };
        write("")?;
        if installed.is_empty() {
            return Ok(());
        }
        let mut show = self.command("apt-cache");
        show.args(["show", "--no-all-versions"]).args(installed);
        let said = run(&mut show, &format!("look up {}", installed.join(" ")))?;
        write(&as_installed(&String::from_utf8_lossy(&said)))
    }

    fn command(&self, program: &'static str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        // Apt would fetch as a user who may not write here.
        command.args(["-o", NO_TRANSLATIONS, "-o", "APT::Sandbox::User=root"]);
        for name in ["APT::Architecture", "APT::Architectures"] {
            command.arg("-o").arg(format!("{name}={}", self.architecture));
        }
        if let Some(sources) = &self.sources {
            command.arg("-o").arg(format!("Dir::Etc::sourcelist={}", sources.display()));
            command.args(["-o", "Dir::Etc::sourceparts=/dev/null"]);
        }
        for (name, place) in [
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", ""),
            ("Dir::Cache::archives", "archives"),
        ] {
            command.arg("-o").arg(format!("{name}={}", self.folder.join(place).display()));
        }
        command
    }
}

/// A line of a stanza.
fn field<'a>(stanza: &'a str, key: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).map(str::trim)
}

/// The one package that a package of the newest kernel depends on.
fn kernel_of(stanza: &str) -> Option<&str> {
    let needed = field(stanza, "Depends")?.split(' ').next()?;
    let whole = field(stanza, "Package")?;
    (whole.starts_with("linux-image-") && needed.starts_with("linux-image-")).then_some(needed)
}

/// What is in a package: its files as a tar file.
pub(crate) fn files(deb: &Path) -> Result<Vec<u8>, AptError> {
    dpkg_deb("--fsys-tarfile", deb)
}

/// What a package says of itself.
pub(super) fn control(deb: &Path) -> Result<Vec<u8>, AptError> {
    dpkg_deb("--field", deb)
}

fn dpkg_deb(option: &str, deb: &Path) -> Result<Vec<u8>, AptError> {
    let mut command = Command::new("dpkg-deb");
    run(command.arg(option).arg(deb), &format!("open {}", deb.display()))
}

fn run(command: &mut Command, attempt: &str) -> Result<Vec<u8>, AptError> {
    let program = match command.get_program() {
        name if name == OsStr::new("apt-get") => "apt-get",
        name if name == OsStr::new("apt-cache") => "apt-cache",
        _ => "dpkg-deb",
    };
    let output = command.output().map_err(|source| AptError::Start { program, source })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(AptError::Failed { attempt: attempt.to_owned(), said: lines.join("; ") })
}

/// Stanzas of a list of packages as those of packages that are installed and depend on nothing.
fn as_installed(stanzas: &str) -> String {
    const KEPT: [&str; 5] = ["Package", "Version", "Architecture", "Multi-Arch", "Provides"];
    let mut state = String::new();
    for stanza in stanzas.split("\n\n").filter(|stanza| !stanza.trim().is_empty()) {
        let kept = |line: &&str| line.split_once(':').is_some_and(|(key, _)| KEPT.contains(&key));
        for line in stanza.lines().filter(kept) {
            state += &format!("{line}\n");
        }
        state += "Status: hold ok installed\n\n";
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_apt_name_packages() {
        let line = "Inst redis-tools (5:7.0.15-1~deb12u1 Debian:12.1/stable, Debian-Security:12/stable-security [amd64])";
        let package = Package::of_line(line).unwrap();
        assert_eq!(package.file_name(), "redis-tools_5%3a7.0.15-1~deb12u1_amd64.deb");
        let pending = "Inst perl (5.36.0-7 Debian:12.1/stable [amd64]) [perl-base:amd64 ]";
        assert_eq!(Package::of_line(pending).unwrap().architecture, "amd64");
        let loose = "Inst libc6 (2.36-9 Debian:12.1/stable [arm64]) []";
        assert_eq!(Package::of_line(loose).unwrap().architecture, "arm64");
        assert_eq!(Package::of_line("Conf redis-tools (5:7.0.15-1 Debian [amd64])"), None);
    }

    #[test]
    fn the_newest_kernel_stands_for_one_with_a_version() {
        let newest = "Package: linux-image-arm64\nVersion: 6.1.9-2\nArchitecture: arm64\n\
                      Depends: linux-image-6.1.0-5-arm64 (= 6.1.9-2)\n";
        assert_eq!(kernel_of(newest), Some("linux-image-6.1.0-5-arm64"));
        let kernel = "Package: linux-image-6.1.0-5-arm64\nVersion: 6.1.9-2\nArchitecture: arm64\n\
                      Depends: kmod, linux-base (>= 4.3)\n";
        assert_eq!(kernel_of(kernel), None);
        let name = "linux-image-6.1.0-5-arm64_6.1.9-2_arm64.deb";
        assert_eq!(Package::of_stanza(kernel).unwrap().file_name(), name);
    }

    #[test]
    fn what_counts_as_installed_depends_on_nothing() {
        let stanzas = "Package: perl\nVersion: 5.36\nDepends: perl-base\nMulti-Arch: allowed\n\nPackage: ucf\nVersion: 3\n";
        let state = "Package: perl\nVersion: 5.36\nMulti-Arch: allowed\nStatus: hold ok installed\n\n\
                     Package: ucf\nVersion: 3\nStatus: hold ok installed\n\n";
        assert_eq!(as_installed(stanzas), state);
    }
}
