//! Archives of `docker save` before 25, `podman save` and `skopeo copy docker-archive:`.
//!
//! In: the parts of an archive with a `manifest.json`. Out: its images, each with a manifest in
//! OCI's form that is made here, always the same bytes for the same image. Layers that are plain are
//! compressed here, once, since every node fetches them.

use std::collections::BTreeMap;

use flate2::read::GzEncoder;
use serde::Deserialize;

use crate::archive::MAX_IMAGES;
use crate::archive::parts::{Part, Parts};
use crate::archive::{ArchiveError, LoadedImage, StagedArchive};
use crate::blob::{BlobError, BlobStore, MAX_BLOB_BYTES};
use crate::compression::Compression;
use crate::digest::Digest;
use crate::manifest::{
    ConfigHead, Descriptor, MAX_LAYERS, MAX_MANIFEST_BYTES, Manifest, OCI_CONFIG, OCI_LAYER,
    OCI_MANIFEST, parse_json,
};
use crate::reference::Reference;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn read(
    parts: &mut dyn Parts,
    blobs: &BlobStore,
) -> Result<StagedArchive, ArchiveError> {
    let bytes = parts.read("manifest.json", MAX_MANIFEST_BYTES)?;
    let saved: Vec<Saved> = parse_json(&bytes, "manifest.json")?;
    if saved.len() > MAX_IMAGES {
        return Err(ArchiveError::Refused(format!("it has more than {MAX_IMAGES} images")));
    }
    let mut found = StagedArchive { images: Vec::new(), parts: Vec::new() };
    let mut packed = BTreeMap::new();
    for image in &saved {
        load_one(image, parts, blobs, &mut packed, &mut found)?;
    }
    Ok(found)
}

fn load_one(
    saved: &Saved,
    parts: &mut dyn Parts,
    blobs: &BlobStore,
    packed: &mut BTreeMap<Digest, (Part, Compression)>,
    found: &mut StagedArchive,
) -> Result<(), ArchiveError> {
    let config_part = part(parts, &saved.config)?;
    check_name(&saved.config, &config_part)?;
    let bytes = parts.read(&saved.config, MAX_MANIFEST_BYTES)?;
    let config: ConfigHead = parse_json(&bytes, &saved.config)?;
    let paths = saved.layers.as_deref().unwrap_or_default();
    let diff_ids = &config.rootfs.diff_ids;
    if paths.len() != diff_ids.len() || paths.len() > MAX_LAYERS {
        let (layers, ids) = (paths.len(), diff_ids.len());
        return Err(ArchiveError::Refused(format!(
            "{} names {ids} layers and manifest.json {layers} (at most {MAX_LAYERS})",
            saved.config
        )));
    }
    let mut size = config_part.size;
    let mut layers = Vec::new();
    let mut taken = vec![config_part.clone()];
    for (path, diff_id) in paths.iter().zip(diff_ids) {
        let given = part(parts, path)?;
        let form = layer_form(&given, diff_id, blobs)?;
        // Images of one archive often share their lower layers.
        let (layer, form) = match packed.get(&given.digest) {
            Some(known) => known.clone(),
            None => pack(given.clone(), form, blobs)?,
        };
        packed.insert(given.digest, (layer.clone(), form));
        layers.push(Descriptor::new(
            &format!("{OCI_LAYER}{}", form.suffix()),
            layer.digest,
            layer.size,
        ));
        size += layer.size;
        taken.push(layer);
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config: Descriptor::new(OCI_CONFIG, config_part.digest, config_part.size),
        layers,
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|source| {
        crate::manifest::ManifestError::Json { what: saved.config.clone(), source }
    })?;
    let staged = blobs.stage(bytes.as_slice(), "manifest", MAX_MANIFEST_BYTES)?;
    let image = LoadedImage {
        reference: None,
        media_type: OCI_MANIFEST.to_owned(),
        digest: staged.digest,
        manifest_size: staged.size,
        size: size + staged.size,
        platforms: vec![config.platform()],
    };
    found.parts.push(Part::of(staged));
    found.parts.extend(taken);
    add_names(saved, image, found)
}

fn add_names(
    saved: &Saved,
    image: LoadedImage,
    found: &mut StagedArchive,
) -> Result<(), ArchiveError> {
    let names = saved.repo_tags.as_deref().unwrap_or_default();
    for name in names {
        let reference = Some(name.parse::<Reference>()?.to_string());
        found.images.push(LoadedImage { reference, ..image.clone() });
    }
    if names.is_empty() {
        found.images.push(image);
    }
    Ok(())
}

fn part(parts: &mut dyn Parts, path: &str) -> Result<Part, ArchiveError> {
    parts.get(path)?.ok_or_else(|| ArchiveError::Missing(path.to_owned()))
}

/// A file that is named by a digest must have it: `<hex>.json`, `blobs/sha256/<hex>`.
fn check_name(path: &str, part: &Part) -> Result<(), ArchiveError> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match Digest::from_hex(name.strip_suffix(".json").unwrap_or(name)) {
        Ok(expected) if expected != part.digest => {
            Err(BlobError::WrongDigest { expected, actual: part.digest }.into())
        }
        _ => Ok(()),
    }
}

/// The form of a layer. A plain one is checked against its diff id here, a compressed one when it
/// is unpacked.
fn layer_form(
    layer: &Part,
    diff_id: &Digest,
    blobs: &BlobStore,
) -> Result<Compression, ArchiveError> {
    const MAGIC_BYTES: usize = 4;
    let start = match &layer.staged {
        Some(staged) => staged.start(MAGIC_BYTES)?,
        None => blobs.start(&layer.digest, MAGIC_BYTES)?,
    };
    let form = Compression::of(&start);
    if form == Compression::Plain && layer.digest != *diff_id {
        return Err(BlobError::WrongDigest { expected: *diff_id, actual: layer.digest }.into());
    }
    Ok(form)
}

/// Compresses a plain layer, if that makes it smaller. At the fastest level: a controller may be a
/// small board, and higher levels take many times as long for a tenth of the size.
fn pack(
    layer: Part,
    form: Compression,
    blobs: &BlobStore,
) -> Result<(Part, Compression), ArchiveError> {
    if form != Compression::Plain {
        return Ok((layer, form));
    }
    let plain = match &layer.staged {
        Some(staged) => staged.open()?,
        None => blobs.open_blob(&layer.digest)?.0,
    };
    // Its header has no name and no time: the same layer gives the same bytes.
    let gzip = GzEncoder::new(plain, flate2::Compression::fast());
    let staged = blobs.stage(gzip, "compressed layer", MAX_BLOB_BYTES)?;
    if staged.size < layer.size {
        return Ok((Part::of(staged), Compression::Gzip));
    }
    Ok((layer, form))
}
