//! How many bytes a pull would fetch, without fetching them.
//!
//! In: an [`ImageSource`]. Out: the bytes of the layers that are not here. Only documents are asked
//! for, and none is kept.

use std::collections::HashSet;
use std::sync::Arc;

use limpet_protocol::spec::{ImageSource, PullPolicy};

use super::pull::Pull;
use super::registry::Registry;
use super::store::ImageStore;
use super::wanted::Wanted;
use super::{ImageError, Registries};

impl ImageStore {
    /// How many bytes would be fetched for an image; 0 if all of it is here.
    ///
    /// # Errors
    /// [`ImageError`], if nobody can say what the image consists of.
    pub async fn missing(
        self: &Arc<Self>,
        source: &ImageSource,
        registries: &Registries,
    ) -> Result<u64, ImageError> {
        if self.here(source).await?.is_some() {
            return Ok(0);
        }
        let wanted = Wanted::of(source)?;
        if wanted.pull == PullPolicy::Never {
            return Err(ImageError::NotHere { image: wanted.written });
        }
        Pull { store: self, wanted: &wanted, registries }.missing().await
    }
}

impl Pull<'_> {
    /// Asks whom a pull would ask.
    async fn missing(&self) -> Result<u64, ImageError> {
        let (reference, written) = (&self.wanted.reference, self.wanted.written.as_str());
        let controller = self.registries.controller.as_ref();
        let mut first_error = None;
        if let Some(controller) = controller.filter(|_| self.wanted.from_controller) {
            let registry = Registry::of_controller(controller, reference, written)?;
            match self.missing_from(&registry).await {
                Err(error) if self.wanted.digest.is_some() => first_error = Some(error),
                result => return result,
            }
        }
        let registry = Registry::of_reference(reference, self.registries, written)?;
        let asked = self.missing_from(&registry).await;
        asked.map_err(|error| first_error.unwrap_or(error))
    }

    async fn missing_from(&self, registry: &Registry) -> Result<u64, ImageError> {
        let plan = self.documents(registry).await?.plan;
        let mut counted = HashSet::new();
        let lacking = plan
            .layers()
            .filter(|(_, id)| counted.insert(**id) && self.store.layers.get(id).is_none());
        Ok(lacking.map(|(layer, _)| layer.size).fold(0, u64::saturating_add))
    }
}
