//! A pull: from a reference to an image that is here.
//!
//! In: what is wanted and who may have it. Out: documents and layers in the store. Documents first,
//! then layers, several at a time; the image is written down last, when everything is here.

use std::fs;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use limpet_oci::Digest;
use limpet_oci::manifest::{Descriptor, Document, Manifest};

use tokio::sync::OwnedMutexGuard;

use super::download::{blocking, large_blob, small_blob};
use super::error::io_error;
use super::registry::Registry;
use super::store::{ImageStore, lock};
use super::wanted::{Plan, Wanted};
use super::{ImageError, PreparedImage, Registries};

/// Layers of one image that are asked for at a time; the store's own limit counts all images.
const LAYERS_ASKED: usize = 3;

/// One image on its way.
pub(super) struct Pull<'a> {
    pub(super) store: &'a Arc<ImageStore>,
    pub(super) wanted: &'a Wanted,
    pub(super) registries: &'a Registries,
}

/// What a registry says about an image, verified.
pub(super) struct Documents {
    /// What the reference names.
    entry: Descriptor,
    manifest: Manifest,
    pub(super) plan: Plan,
    /// Their bytes.
    keep: Vec<Vec<u8>>,
}

impl Pull<'_> {
    /// Asks the controller if it has the image, then the registry of the reference.
    pub(super) async fn run(&self) -> Result<PreparedImage, ImageError> {
        let (reference, written) = (&self.wanted.reference, self.wanted.written.as_str());
        let controller = self.registries.controller.as_ref();
        let mut first_error = None;
        if let Some(controller) = controller.filter(|_| self.wanted.from_controller) {
            let registry = Registry::of_controller(controller, reference, written)?;
            match self.run_from(&registry).await {
                // Elsewhere the bare name may be another's image; only a digest says it is this one.
                Err(error) if self.wanted.digest.is_none() => return Err(error),
                Err(error @ (ImageError::NotFound { .. } | ImageError::Denied { .. })) => {
                    first_error = Some(error);
                }
                Err(error) if error.is_network() => first_error = Some(error),
                result => return result,
            }
        }
        let registry = Registry::of_reference(reference, self.registries, written)?;
        match (self.run_from(&registry).await, first_error) {
            (Ok(image), _) => Ok(image),
            // The controller was said to have it: what it answered is what to look into.
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(error),
        }
    }

    async fn run_from(&self, registry: &Registry) -> Result<PreparedImage, ImageError> {
        let Documents { entry, manifest, plan, keep } = self.documents(registry).await?;
        self.layers(registry, &manifest, plan.layers().map(|(_, id)| *id).collect()).await?;
        let (store, wanted) = (Arc::clone(self.store), self.wanted.clone());
        blocking(move || {
            for bytes in keep {
                store.layout.blobs().put(bytes.as_slice(), "a document of the image")?;
            }
            store.record(&wanted, entry)
        })
        .await?;
        plan.finish(&self.store.layers).ok_or_else(|| ImageError::Refused {
            image: self.wanted.written.clone(),
            reason: "a layer is gone that was here a moment ago".to_owned(),
        })
    }

    /// Asks a registry what the image consists of.
    pub(super) async fn documents(&self, registry: &Registry) -> Result<Documents, ImageError> {
        let top = registry.manifest(self.wanted.digest).await?;
        let top_digest = Digest::of(&top);
        let document = Document::parse(&top, &format!("manifest {top_digest}"))?;
        let mut keep: Vec<Vec<u8>> = vec![top.to_vec()];
        let (digest, manifest) = match &document {
            Document::Manifest(manifest) => (top_digest, manifest.clone()),
            Document::Index(index) => {
                let variant = self.wanted.choose(index)?.digest;
                let bytes = registry.manifest(Some(variant)).await?;
                keep.push(bytes.to_vec());
                (variant, self.wanted.manifest_of(&bytes, &variant)?)
            }
        };
        let config = small_blob(registry, &manifest.config).await?;
        let plan = self.wanted.plan(digest, manifest.clone(), &config)?;
        keep.push(config);
        let entry = Descriptor::new(document.media_type(), top_digest, top.len() as u64);
        Ok(Documents { entry, manifest, plan, keep })
    }

    async fn layers(
        &self,
        registry: &Registry,
        manifest: &Manifest,
        diff_ids: Vec<Digest>,
    ) -> Result<(), ImageError> {
        // Gathered first: a closure over borrowed layers inside the stream is not `Send`.
        let layers = manifest.layers.iter().zip(diff_ids);
        let layers: Vec<_> =
            layers.map(|(layer, diff_id)| self.layer(registry, layer, diff_id)).collect();
        futures_util::stream::iter(layers).buffer_unordered(LAYERS_ASKED).try_collect().await
    }

    async fn layer(
        &self,
        registry: &Registry,
        layer: &Descriptor,
        diff_id: Digest,
    ) -> Result<(), ImageError> {
        let one = Arc::clone(lock(&self.store.layer_locks).entry(diff_id).or_default());
        let mine = Arc::clone(&one).lock_owned().await;
        let result = self.layer_alone(registry, layer, (diff_id, mine)).await;
        let mut locks = lock(&self.store.layer_locks);
        // Two holders are the map and this task: nobody waits.
        if Arc::strong_count(&one) == 2 {
            locks.remove(&diff_id);
        }
        result
    }

    async fn layer_alone(
        &self,
        registry: &Registry,
        layer: &Descriptor,
        (diff_id, mine): (Digest, OwnedMutexGuard<()>),
    ) -> Result<(), ImageError> {
        if self.store.layers.get(&diff_id).is_some() {
            return Ok(());
        }
        let turn = self.store.layer_turns.acquire().await;
        let _turn = turn.map_err(|error| ImageError::Client { reason: error.to_string() })?;
        let path = large_blob(registry, layer, &self.store.partial).await?;
        let store = Arc::clone(self.store);
        blocking(move || {
            // The unpacking goes on when the pull was given up; the next one waits for it.
            let _mine = mine;
            let file = fs::File::open(&path).map_err(io_error("open", &path))?;
            let result = store.layers.put(&diff_id, file);
            // Unpacked it is not needed, and one that cannot be unpacked will not be better.
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
            result
        })
        .await
    }
}
