//! Archives in the OCI image layout: `skopeo copy oci-archive:`, `buildah push`, Docker 25 and later.
//!
//! In: the parts of an archive with an `index.json`. Out: its images with all blobs that are there.
//! An index may name variants that the archive lacks (`docker save` of one platform): they are
//! left out of [`LoadedImage::platforms`], and it is an error only if nothing is whole.

use std::collections::BTreeMap;

use crate::archive::MAX_IMAGES;
use crate::archive::parts::{Part, Parts};
use crate::archive::{ArchiveError, LoadedImage, StagedArchive};
use crate::blob::BlobError;
use crate::digest::Digest;
use crate::manifest::{
    ConfigHead, Descriptor, Document, Index, MAX_MANIFEST_BYTES, Manifest, REF_NAME, parse_json,
};
use crate::platform::Platform;
use crate::reference::Reference;

/// containerd's and Docker's annotation: the whole canonical name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Deepest nesting of indexes: a layout's table, an image's index, and one to spare.
const MAX_INDEX_DEPTH: u32 = 3;

pub(super) fn read(parts: &mut dyn Parts) -> Result<StagedArchive, ArchiveError> {
    let bytes = parts.read("index.json", MAX_MANIFEST_BYTES)?;
    let table: Index = parse_json(&bytes, "index.json")?;
    if table.manifests.len() > MAX_IMAGES {
        return Err(ArchiveError::Refused(format!("it has more than {MAX_IMAGES} images")));
    }
    let mut walk = Walk { parts, taken: BTreeMap::new() };
    let mut images = Vec::new();
    for descriptor in &table.manifests {
        let before = walk.taken.clone();
        walk.taken.clear();
        let platforms = walk.document(descriptor, MAX_INDEX_DEPTH)?;
        if platforms.is_empty() {
            let what = format!("every variant of image {}", descriptor.digest);
            return Err(ArchiveError::Missing(what));
        }
        let size = walk.taken.values().map(|part| part.size).sum();
        let media_type = walk.media_type(descriptor)?;
        images.push(LoadedImage {
            reference: name_of(descriptor)?,
            media_type,
            digest: descriptor.digest,
            manifest_size: walk.taken.get(&descriptor.digest).map_or(0, |part| part.size),
            size,
            platforms,
        });
        walk.taken.extend(before);
    }
    Ok(StagedArchive { images, parts: walk.taken.into_values().collect() })
}

/// What the layout calls an image. A bare word in [`REF_NAME`] is the whole name for skopeo and
/// podman; for Docker it is the tag, but Docker writes the whole name beside it.
fn name_of(descriptor: &Descriptor) -> Result<Option<String>, ArchiveError> {
    let whole = descriptor.annotations.get(CONTAINERD_NAME);
    let Some(name) = whole.or_else(|| descriptor.annotations.get(REF_NAME)) else {
        return Ok(None);
    };
    if name == "latest" {
        return Ok(None);
    }
    Ok(Some(name.parse::<Reference>()?.to_string()))
}

struct Walk<'a> {
    parts: &'a mut dyn Parts,
    taken: BTreeMap<Digest, Part>,
}

impl Walk<'_> {
    /// Takes the blob if the archive has it.
    fn take(&mut self, descriptor: &Descriptor) -> Result<Option<Part>, ArchiveError> {
        let digest = descriptor.digest;
        let Some(part) = self.parts.get(&blob_path(&digest))? else { return Ok(None) };
        if part.digest != digest {
            return Err(BlobError::WrongDigest { expected: digest, actual: part.digest }.into());
        }
        if part.size != descriptor.size {
            let (expected, actual) = (descriptor.size, part.size);
            return Err(BlobError::WrongSize { digest, expected, actual }.into());
        }
        self.taken.insert(digest, part.clone());
        Ok(Some(part))
    }

    fn parse(&mut self, descriptor: &Descriptor) -> Result<Document, ArchiveError> {
        let bytes = self.parts.read(&blob_path(&descriptor.digest), MAX_MANIFEST_BYTES)?;
        Ok(Document::parse(&bytes, &format!("manifest {}", descriptor.digest))?)
    }

    fn media_type(&mut self, descriptor: &Descriptor) -> Result<String, ArchiveError> {
        Ok(self.parse(descriptor)?.media_type().to_owned())
    }

    /// Takes a document with everything below it; answers the platforms that are whole.
    fn document(
        &mut self,
        descriptor: &Descriptor,
        depth: u32,
    ) -> Result<Vec<Platform>, ArchiveError> {
        // One that comes again has been counted; a hostile index names the same a million times.
        if self.taken.contains_key(&descriptor.digest) || self.take(descriptor)?.is_none() {
            return Ok(Vec::new());
        }
        match self.parse(descriptor)? {
            Document::Manifest(manifest) => Ok(self.manifest(&manifest)?.into_iter().collect()),
            Document::Index(_) if depth == 0 => {
                Err(ArchiveError::Refused("its indexes are nested too deeply".to_owned()))
            }
            Document::Index(index) => {
                let mut platforms = Vec::new();
                for variant in &index.manifests {
                    platforms.extend(self.document(variant, depth - 1)?);
                }
                platforms.retain(|platform| platform.os != "unknown");
                platforms.dedup();
                Ok(platforms)
            }
        }
    }

    /// Takes the blobs of one image; answers its platform if they are all there.
    fn manifest(&mut self, manifest: &Manifest) -> Result<Option<Platform>, ArchiveError> {
        let mut whole = self.take(&manifest.config)?.is_some();
        for layer in &manifest.layers {
            whole &= self.take(layer)?.is_some();
        }
        if !whole {
            return Ok(None);
        }
        let path = blob_path(&manifest.config.digest);
        let bytes = self.parts.read(&path, MAX_MANIFEST_BYTES)?;
        let what = format!("image configuration {}", manifest.config.digest);
        let config: ConfigHead = match parse_json(&bytes, &what) {
            Ok(config) => config,
            // Attestations and other artifacts travel beside images, with a configuration of
            // another kind.
            Err(_) if !manifest.config.media_type.contains("image") => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(config.platform()))
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
