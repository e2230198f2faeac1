//! Unpacking: a layer's tar stream becomes a folder that overlayfs can use.
//!
//! In: the bytes of a layer, plain or compressed, and its diff id. Out: a folder with its files,
//! owners, modes, times and capabilities, whiteouts in overlayfs's form. The tar file is only
//! parsed by the library; every path is opened by the kernel below the folder
//! (`openat2`, `RESOLVE_IN_ROOT`), so no name, link or `..` leads out of it. What it takes to write
//! one entry is in [`super::entry`].

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use limpet_oci::compression::{HeaderMeter, plain};
use limpet_oci::digest::{Digest, Hashing};

use super::entry::Tree;

/// Most entries of one layer: a Debian desktop has 300,000 files.
const MAX_ENTRIES: u64 = 2_000_000;
/// Most bytes of one layer, unpacked.
const MAX_BYTES: u64 = 32 * 1024 * 1024 * 1024;

/// A layer that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream ends early, or is no tar file.
    #[error("its tar stream cannot be read")]
    Stream(#[source] io::Error),
    /// An entry cannot be written.
    #[error("write {} of it", path.display())]
    Entry {
        /// Which entry.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An entry is not acceptable.
    #[error("its entry {} {reason}", path.display())]
    Refused {
        /// Which entry.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// The layer breaks a limit.
    #[error("it has more than {limit} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: u64,
    },
    /// The unpacked bytes are not what the configuration says.
    #[error("it has the wrong digest: its bytes have {actual}")]
    WrongDigest {
        /// What the bytes have.
        actual: Digest,
    },
}

/// Unpacks a layer into `folder`, which is there and empty.
///
/// # Errors
/// [`UnpackError`]; the folder is then to be thrown away.
pub(super) fn unpack(layer: impl Read, diff_id: &Digest, folder: &Path) -> Result<(), UnpackError> {
    let meter = HeaderMeter::default();
    let mut hashed = Hashing::new(plain(layer).map_err(UnpackError::Stream)?);
    apply(&meter, &mut hashed, folder)?;
    // Padding behind the last entry belongs to the digest as well.
    let left = MAX_BYTES.saturating_sub(hashed.count());
    io::copy(&mut hashed.by_ref().take(left), &mut io::sink()).map_err(UnpackError::Stream)?;
    let (_, actual, _) = hashed.finish();
    if actual != *diff_id {
        return Err(UnpackError::WrongDigest { actual });
    }
    Ok(())
}

fn apply(meter: &HeaderMeter, stream: impl Read, folder: &Path) -> Result<(), UnpackError> {
    let mut tree = Tree::open(folder)
        .map_err(|source| UnpackError::Entry { path: folder.to_owned(), source })?;
    let mut archive = tar::Archive::new(meter.watch(stream));
    let mut entries = archive.entries().map_err(UnpackError::Stream)?;
    let (mut count, mut bytes) = (0, 0_u64);
    while let Some(entry) = meter.headers(|| entries.next()) {
        let mut entry = entry.map_err(UnpackError::Stream)?;
        count += 1;
        if count > MAX_ENTRIES {
            return Err(UnpackError::TooMuch { what: "entries", limit: MAX_ENTRIES });
        }
        bytes = bytes.saturating_add(entry.size());
        if bytes > MAX_BYTES {
            return Err(UnpackError::TooMuch { what: "bytes", limit: MAX_BYTES });
        }
        tree.write(&mut entry)?;
    }
    tree.finish()
}
