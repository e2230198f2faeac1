//! Where the loop gets images: a trait, the real thing, and a fake in the tests.

use std::sync::Arc;

use limpet_protocol::spec::ImageSource;

use crate::image::{ImageStore, PreparedImage, Registries};

/// Has images ready.
pub trait Images {
    /// Fetches what is missing of an image, verifies and unpacks it. Runs beside the loop; the error
    /// is a sentence for people.
    fn prepare(
        &self,
        image: ImageSource,
    ) -> impl Future<Output = Result<Arc<PreparedImage>, String>> + Send + 'static;
}

/// Images of the node's store and the registries.
#[derive(Debug)]
pub struct StoreImages {
    store: Arc<ImageStore>,
    registries: Arc<Registries>,
}

impl StoreImages {
    /// Images from this store, filled from these registries.
    #[must_use]
    pub fn new(store: Arc<ImageStore>, registries: Registries) -> Self {
        Self { store, registries: Arc::new(registries) }
    }
}

impl Images for StoreImages {
    fn prepare(
        &self,
        image: ImageSource,
    ) -> impl Future<Output = Result<Arc<PreparedImage>, String>> + Send + 'static {
        let (store, registries) = (self.store.clone(), self.registries.clone());
        async move {
            store.prepare(&image, &registries).await.map_err(|error| crate::start::chain(&error))
        }
    }
}
