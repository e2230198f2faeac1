//! The seal against a container that overwrites the program it was made by (CVE-2019-5736).
//!
//! A container's first process runs the keeper's program until it executes its own, and can be
//! made to execute the keeper's again (`/proc/self/exe` as its program). So the keeper executes
//! from a mount of its own file that is read-only and in no mount namespace, where nobody can make
//! it writable again; it costs no memory. Kernels before 5.12 get a sealed copy in memory.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::sys;

/// Opens the program at `exe` so that nobody who gets hold of it can change it.
pub(super) fn sealed(exe: &Path) -> io::Result<OwnedFd> {
    read_only_mount(exe).or_else(|_| sys::sealed_copy(exe))
}

fn read_only_mount(exe: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, exe, flags)?;
    sys::make_read_only(tree.as_fd())?;
    Ok(tree)
}
