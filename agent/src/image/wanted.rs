//! What is wanted: an image for a platform, and what its documents say about it.
//!
//! In: an [`ImageSource`], the bytes of indexes, manifests and configurations. Out: the variant
//! that this node runs and the layers that it needs, or a sentence that says why there is none.

use std::sync::Arc;

use limpet_oci::manifest::{ConfigHead, Descriptor, Document, Index, Manifest, parse_json};
use limpet_oci::{Digest, Platform, Reference};
use limpet_protocol::spec::{ImageSource, PullPolicy};
use oci_spec::image::ImageConfiguration;

use super::check::image_check;
use super::layers::Layers;
use super::{ImageCheck, ImageError, PreparedImage};

/// An image for a platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The reference as written, for messages.
    pub(super) written: String,
    pub(super) reference: Reference,
    /// What the controller resolved it to, or the reference itself names.
    pub(super) digest: Option<Digest>,
    pub(super) platform: Platform,
    pub(super) from_controller: bool,
    pub(super) pull: PullPolicy,
}

impl Wanted {
    pub(super) fn of(source: &ImageSource) -> Result<Self, ImageError> {
        let reference: Reference = source.reference.parse()?;
        let digest = source.digest.as_deref().map(str::parse).transpose()?;
        let platform = source.platform.as_deref().map(str::parse).transpose()?;
        Ok(Self {
            written: source.reference.clone(),
            digest: digest.or(reference.digest().copied()),
            reference,
            platform: platform.unwrap_or_else(node_platform),
            from_controller: source.from_controller,
            pull: source.pull,
        })
    }

    /// Whether the registry is asked although the image is here. The bytes that a digest names
    /// never change: there is nothing to ask.
    pub(super) fn must_ask(&self) -> bool {
        self.pull == PullPolicy::Always && self.digest.is_none()
    }

    /// The variant of the index that fits best.
    pub(super) fn choose<'a>(&self, index: &'a Index) -> Result<&'a Descriptor, ImageError> {
        let offers = || index.manifests.iter().filter_map(|it| Some((it.normal_platform()?, it)));
        if let Some(variant) = self.platform.select(offers()) {
            return Ok(variant);
        }
        // An index that says nothing about platforms has one image.
        if let [only] = index.manifests.as_slice()
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let offered: Vec<String> = offers()
            .filter(|(platform, _)| platform.os != "unknown")
            .map(|(platform, _)| platform.to_string())
            .collect();
        Err(self.no_variant(&offered.join(", ")))
    }

    fn no_variant(&self, offered: &str) -> ImageError {
        let offered = if offered.is_empty() { "none" } else { offered }.to_owned();
        let (image, wanted) = (self.written.clone(), self.platform.to_string());
        ImageError::NoVariant { image, wanted, offered }
    }

    /// Reads what an index names as an image.
    pub(super) fn manifest_of(
        &self,
        bytes: &[u8],
        digest: &Digest,
    ) -> Result<Manifest, ImageError> {
        match Document::parse(bytes, &format!("manifest {digest}"))? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => {
                let reason = format!("{digest} is an index inside an index");
                Err(ImageError::Refused { image: self.written.clone(), reason })
            }
        }
    }

    /// What has to be there for the image to run, checked against its configuration.
    pub(super) fn plan(
        &self,
        digest: Digest,
        manifest: Manifest,
        config: &[u8],
    ) -> Result<Plan, ImageError> {
        let (image, config_digest) = (self.written.clone(), manifest.config.digest);
        let head: ConfigHead = parse_json(config, &format!("configuration {config_digest}"))?;
        let refused = |reason| ImageError::Refused { image: image.clone(), reason };
        let (layers, ids) = (manifest.layers.len(), head.rootfs.diff_ids.len());
        if layers != ids {
            let reason = format!("its manifest has {layers} layers, its configuration {ids}");
            return Err(refused(reason));
        }
        if layers == 0 {
            return Err(refused("it has no layers, so there is nothing to run".to_owned()));
        }
        if self.platform.distance(&head.platform()).is_none() {
            return Err(self.no_variant(&head.platform().to_string()));
        }
        let check = image_check(config).map(Arc::new);
        let config = ImageConfiguration::from_reader(config).map_err(|source| {
            let source = Box::new(source);
            ImageError::Config { image: image.clone(), digest: config_digest, source }
        })?;
        Ok(Plan { digest, layers: manifest.layers, diff_ids: head.rootfs.diff_ids, config, check })
    }
}

/// What an image needs.
pub(super) struct Plan {
    digest: Digest,
    layers: Vec<Descriptor>,
    diff_ids: Vec<Digest>,
    config: ImageConfiguration,
    check: Option<Arc<ImageCheck>>,
}

impl Plan {
    /// Its layers and what they are when they are unpacked, the lowest first.
    pub(super) fn layers(&self) -> impl Iterator<Item = (&Descriptor, &Digest)> {
        self.layers.iter().zip(&self.diff_ids)
    }

    /// The image, if all its layers are there.
    pub(super) fn finish(self, layers: &Layers) -> Option<PreparedImage> {
        // overlayfs refuses a folder that is named twice, and a layer that comes again below
        // itself adds nothing: the topmost counts. Empty layers come several times.
        let mut folders = Vec::new();
        for diff_id in self.diff_ids.iter().rev() {
            let folder = layers.get(diff_id)?;
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        let digest = self.digest.to_string();
        Some(PreparedImage { digest, config: self.config, check: self.check, layers: folders })
    }
}

/// The machine that this node is: what its kernel says, since a 32-bit program may run on a
/// 64-bit machine. `/proc/cpuinfo` would not do: the ARM1176 of the first Raspberry Pi calls its architecture 7 there,
/// and ends a program for ARMv7.
pub(super) fn node_platform() -> Platform {
    of_machine(rustix::system::uname().machine().to_str().unwrap_or_default())
}

fn of_machine(machine: &str) -> Platform {
    match machine {
        "armv8l" | "armv7l" => Platform::new("linux", "arm", Some("v7")),
        "armv6l" => Platform::new("linux", "arm", Some("v6")),
        "armv5tel" | "armv5tejl" => Platform::new("linux", "arm", Some("v5")),
        machine @ ("x86_64" | "aarch64") => Platform::new("linux", machine, None),
        _ => Platform::host(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_what_its_kernel_says() {
        for (machine, platform) in [
            ("aarch64", "linux/arm64"),
            ("armv8l", "linux/arm/v7"),
            ("armv7l", "linux/arm/v7"),
            ("armv6l", "linux/arm/v6"),
            ("x86_64", "linux/amd64"),
        ] {
            assert_eq!(of_machine(machine).to_string(), platform);
        }
    }
}
