//! The bundle: makes of a [`Plan`] what libcontainer runs, in the forked child.
//!
//! In: the plan. Out: folders, the mounted root file system, volumes, and `config.json` with the
//! facts that only the node and the image can tell: users, devices. May take its time.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::MountFlags;
use serde_json::{Value, json};

use super::content::{self, ContentError};
use super::passwd::{self, Identity};
use super::plan::{DevicePlan, Plan};
use super::subpath;
use super::volume::{self, VolumeError};
use crate::runtime::RuntimePaths;

/// Largest user or group file of an image that is read.
const MAX_NAMES_FILE_BYTES: u64 = 1024 * 1024;
/// The specification, as libcontainer looks for it.
const CONFIG: &str = "config.json";
/// The same without sysctls, where there are any: with them libcontainer looks, at every exec, for the
/// file that stood for the network namespace until the container was made.
const EXEC_CONFIG: &str = "config.exec.json";
/// What a container has of its own in `/dev`, whatever else of the node's it is given.
const OWN_IN_DEV: [&str; 7] = ["pts", "shm", "mqueue", "fd", "ptmx", "console", "core"];
/// Most devices that one entry (a folder such as `/dev/snd`) may stand for.
const MAX_DEVICES: usize = 1024;

/// Why a bundle could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum BundleError {
    /// A file or folder of it.
    #[error("make {path}")]
    Make { path: PathBuf, source: io::Error },
    /// The root file system.
    #[error(
        "mount the root file system of {layers} layers with its writable layer in {writable} (it \
         must be on a file system that overlayfs can write to: ext4, xfs, btrfs or tmpfs)"
    )]
    Mount { layers: usize, writable: PathBuf, source: io::Error },
    /// An image with nothing in it.
    #[error("the image has no layers")]
    NoLayers,
    /// The user or a group.
    #[error(transparent)]
    UnknownName(#[from] passwd::UnknownName),
    /// A volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A config or secret.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// What is to be bound is not there.
    #[error(
        "{path} is not there to be mounted at {target}; create it on the node, or use the short syntax of `volumes`, which does"
    )]
    NoSource { path: String, target: String },
    /// A device is not there.
    #[error("read the device {path} of the node")]
    Device { path: PathBuf, source: io::Error },
    /// The plan is not what it should be.
    #[error("understand the plan")]
    Plan(#[source] serde_json::Error),
}

/// Makes the bundle of container `id`; answers who its process runs as.
pub(super) fn prepare(
    paths: &RuntimePaths,
    id: &str,
    plan: &Plan,
) -> Result<Identity, BundleError> {
    let bundle = paths.bundle(id);
    for folder in &plan.make_folders {
        make_folder(folder, 0o755)?;
    }
    let rootfs = bundle.join("rootfs");
    make_folder(&rootfs, 0o755)?;
    mount_root(&paths.writable(id), &rootfs, &plan.layers)?;
    let root = open_folder(&rootfs).map_err(|source| made(&rootfs, source))?;
    for wanted in &plan.volumes {
        volume::ensure(&paths.volumes(), wanted, &root, id)?;
    }
    subpath::bind(paths, id, &plan.volumes, &root)?;
    content::make(&paths.data, &bundle, &plan.contents)?;
    write(&bundle.join("hostname"), &plan.hostname)?;
    write(&bundle.join("hosts"), &plan.hosts)?;
    let of_node = || fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut resolv_conf = plan.resolv_conf.clone().unwrap_or_else(of_node);
    if !plan.resolv_search.is_empty() {
        resolv_conf.push_str(&format!("\nsearch {}\n", plan.resolv_search));
    }
    if !plan.resolv_options.is_empty() {
        resolv_conf.push_str(&format!("\noptions {}\n", plan.resolv_options));
    }
    write(&bundle.join("resolv.conf"), &resolv_conf)?;

    let mut config: Value = serde_json::from_slice(&plan.config.0).map_err(BundleError::Plan)?;
    check_sources(&config)?;
    let identity = passwd::resolve(
        &plan.user,
        &plan.groups,
        &read_in(&root, "etc/passwd"),
        &read_in(&root, "etc/group"),
    )?;
    set_identity(&mut config["process"], &identity);
    make_working_folder(&root, config["process"]["cwd"].as_str().unwrap_or("/"));
    for device in &plan.devices {
        add_devices(&mut config, device)?;
    }
    let text = |config: &Value| serde_json::to_string(config).map_err(BundleError::Plan);
    write(&bundle.join(CONFIG), &text(&config)?)?;
    if config["linux"]["sysctl"].as_object().is_some_and(|all| !all.is_empty()) {
        config["linux"]["sysctl"] = json!({});
        write(&bundle.join(EXEC_CONFIG), &text(&config)?)?;
    }
    Ok(identity)
}

/// Makes the configuration of a container that was made the one for execs.
pub(super) fn prepare_for_execs(paths: &RuntimePaths, id: &str) -> Result<(), BundleError> {
    let bundle = paths.bundle(id);
    match fs::rename(bundle.join(EXEC_CONFIG), bundle.join(CONFIG)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(made(&bundle, source)),
        _ => Ok(()),
    }
}

fn made(path: &Path, source: io::Error) -> BundleError {
    BundleError::Make { path: path.to_owned(), source }
}

fn make_folder(path: &Path, mode: u32) -> Result<(), BundleError> {
    let made_it = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made_it.map_err(|source| made(path, source))
}

fn write(path: &Path, text: &str) -> Result<(), BundleError> {
    fs::write(path, text).map_err(|source| made(path, source))
}

pub(super) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Mounts the layers with a writable one on top. Folders are named through their descriptors, so
/// that 128 layers fit into one page of options whatever their paths are.
fn mount_root(writable: &Path, target: &Path, layers: &[PathBuf]) -> Result<(), BundleError> {
    if layers.is_empty() {
        return Err(BundleError::NoLayers);
    }
    // What an earlier boot left under the same name is no part of this container.
    match fs::remove_dir_all(writable) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(made(writable, error)),
        _ => {}
    }
    let (upper, work) = (writable.join("upper"), writable.join("work"));
    make_folder(&upper, 0o755)?;
    make_folder(&work, 0o700)?;
    let failed = |source: io::Error| BundleError::Mount {
        layers: layers.len(),
        writable: writable.to_owned(),
        source,
    };
    let open: Vec<OwnedFd> = layers
        .iter()
        .chain([&upper, &work])
        .map(|path| open_folder(path).map_err(|source| made(path, source)))
        .collect::<Result<_, _>>()?;
    let named: Vec<String> =
        open.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let lower = named[..layers.len()].join(":");
    let (upper, work) = (&named[layers.len()], &named[layers.len() + 1]);
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let try_mount = |options: String| {
        let options = std::ffi::CString::new(options)?;
        let flags = MountFlags::empty();
        Ok(rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())?)
    };
    // The writable layer goes with its container, so it need not be synced (`volatile`, Linux 5.10).
    try_mount(format!("{options},volatile")).or_else(|_| try_mount(options)).map_err(failed)
}

/// The text of a file of the image, followed within the image only; empty if it is not there.
pub(super) fn read_in(root: &OwnedFd, path: &str) -> String {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let Ok(file) = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) else {
        return String::new();
    };
    let file = fs::File::from(file);
    let mut bytes = Vec::new();
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file || file.take(MAX_NAMES_FILE_BYTES).read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// libcontainer's own message for a missing source does not name it.
fn check_sources(config: &Value) -> Result<(), BundleError> {
    let mounts = config["mounts"].as_array().map_or(&[][..], Vec::as_slice);
    for mount in mounts.iter().filter(|mount| mount["type"] == "bind") {
        let path = mount["source"].as_str().unwrap_or_default();
        if fs::metadata(path).is_err() {
            let target = mount["destination"].as_str().unwrap_or_default();
            return Err(BundleError::NoSource { path: path.to_owned(), target: target.to_owned() });
        }
    }
    Ok(())
}

/// Makes the working folder where the image has none, as Docker does. Every step is followed within
/// the image only; if it cannot be made, the start fails and says so.
fn make_working_folder(root: &OwnedFd, path: &str) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut so_far = PathBuf::from(".");
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let Ok(parent) = rustix::fs::openat2(root, &so_far, flags, Mode::empty(), resolve) else {
            return;
        };
        // One that is there stays as it is.
        rustix::fs::mkdirat(&parent, part, Mode::from_bits_truncate(0o755)).ok();
        so_far.push(part);
    }
}

/// Makes a process run as somebody.
pub(super) fn set_identity(process: &mut Value, identity: &Identity) {
    process["user"] = json!({
        "uid": identity.uid,
        "gid": identity.gid,
        "additionalGids": identity.groups,
    });
    if identity.uid != 0 {
        // What exec makes of them for one who is not root; they stay in the bounding set.
        process["capabilities"]["effective"] = json!([]);
        process["capabilities"]["permitted"] = json!([]);
    }
    let Some(environment) = process["env"].as_array_mut() else { return };
    let has_home = |entry: &Value| entry.as_str().is_some_and(|text| text.starts_with("HOME="));
    if !environment.iter().any(has_home) {
        let home = identity.home.as_deref().unwrap_or("/");
        environment.push(Value::from(format!("HOME={home}")));
    }
}

fn add_devices(config: &mut Value, wanted: &DevicePlan) -> Result<(), BundleError> {
    let failed = |source| BundleError::Device { path: wanted.host_path.clone(), source };
    let mut found = Vec::new();
    find_devices(&wanted.host_path, &wanted.container_path, &mut found).map_err(failed)?;
    if found.is_empty() {
        let nothing = io::Error::other("neither a device nor a folder of devices");
        return Err(failed(nothing));
    }
    for (path, metadata) in found {
        let kind = if metadata.file_type().is_block_device() { "b" } else { "c" };
        let (major, minor) =
            (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        let linux = &mut config["linux"];
        push(
            &mut linux["devices"],
            json!({
                "path": path, "type": kind, "major": major, "minor": minor,
                "fileMode": metadata.mode() & 0o777, "uid": metadata.uid(), "gid": metadata.gid(),
            }),
        );
        push(
            &mut linux["resources"]["devices"],
            json!({
                "allow": true, "type": kind, "major": major, "minor": minor,
                "access": wanted.permissions,
            }),
        );
    }
    Ok(())
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(item),
        None => *list = Value::Array(vec![item]),
    }
}

/// The devices that `host` is or holds, by their paths in the container.
fn find_devices(
    host: &Path,
    container: &Path,
    found: &mut Vec<(PathBuf, fs::Metadata)>,
) -> io::Result<()> {
    let metadata = fs::metadata(host)?;
    let kind = metadata.file_type();
    if (kind.is_char_device() || kind.is_block_device()) && found.len() < MAX_DEVICES {
        found.push((container.to_owned(), metadata));
    } else if kind.is_dir() {
        for entry in fs::read_dir(host)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() || kind.is_char_device() || kind.is_block_device() {
                let name = entry.file_name();
                if host == Path::new("/dev") && OWN_IN_DEV.iter().any(|own| name == *own) {
                    continue;
                }
                find_devices(&host.join(&name), &container.join(&name), found)?;
            }
        }
    }
    Ok(())
}
