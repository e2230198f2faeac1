//! Where the loop gets images: a trait, the real thing, and a fake in the tests.

use std::collections::HashSet;
use std::sync::Arc;

use limpet_protocol::spec::ImageSource;

use super::{ControlLoop, Job};
use crate::image::{ImageStore, PreparedImage, Registries};
use crate::reconcile::ImageKey;
use crate::runtime::Runtime;

/// Has images ready.
pub trait Images {
    /// Fetches what is missing of an image, verifies and unpacks it. Runs beside the loop; the error
    /// is a sentence for people.
    fn prepare(
        &self,
        image: ImageSource,
    ) -> impl Future<Output = Result<Arc<PreparedImage>, String>> + Send + 'static;

    /// Removes every image that was pulled and is not among these digests. Blocking, so it is called
    /// on a thread of its own; the error is a sentence for people.
    fn retain(
        &self,
        digests: HashSet<String>,
    ) -> impl FnOnce() -> Result<(), String> + Send + 'static;
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

    fn retain(
        &self,
        digests: HashSet<String>,
    ) -> impl FnOnce() -> Result<(), String> + Send + 'static {
        let store = self.store.clone();
        move || store.retain(&digests).map_err(|error| crate::start::chain(&error))
    }
}

/// Digests of the images that the node needs. Those of the assignment before the newest stay too:
/// the ledger may fall back on it.
#[derive(Debug, Default)]
pub(super) struct Stock {
    now: HashSet<String>,
    before: HashSet<String>,
    /// Something changed since unneeded images were last removed.
    untidy: bool,
}

impl Stock {
    /// Another assignment holds now.
    pub(super) fn next_assignment(&mut self) {
        self.before = std::mem::take(&mut self.now);
        self.untidy = true;
    }
}

impl<R: Runtime, I: Images> ControlLoop<R, I> {
    /// Removes images that nobody needs any more, once after each assignment and only when everything
    /// that it wants is there: before that nobody can say what is not needed.
    pub(super) fn tidy_images(&mut self) {
        if !self.stock.untidy || !self.runtime_ready {
            return;
        }
        let Some(in_use) = self.observed.images_in_use(&self.wanted) else { return };
        let mut digests = HashSet::new();
        for image in in_use {
            let Some(prepared) = self.prepared.get(&ImageKey::from(image)) else { return };
            digests.insert(prepared.digest.clone());
            digests.extend(image.digest.clone());
        }
        self.stock.untidy = false;
        self.stock.now.clone_from(&digests);
        digests.extend(self.stock.before.iter().cloned());
        let retain = self.images.retain(digests);
        self.jobs.spawn_blocking(move || {
            if let Err(error) = retain() {
                tracing::warn!("unneeded images stay: {error}");
            }
            Job::Tidied
        });
    }
}
