//! Where the loop gets images: a trait, the real thing, and a fake in the tests.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use limpet_protocol::event::EventKind;
use limpet_protocol::spec::{ImageSource, PullPolicy};

use super::{ControlLoop, Job, news};
use crate::image::{ImageStore, PreparedImage, Registries};
use crate::reconcile::{ImageKey, ImageState};
use crate::runtime::Runtime;

/// Has images ready.
pub trait Images {
    /// The image, if all of it is here and nobody has to be asked. Runs beside the loop; the error is
    /// a sentence for people.
    fn here(
        &self,
        image: ImageSource,
    ) -> impl Future<Output = Result<Option<Arc<PreparedImage>>, String>> + Send + 'static;

    /// Fetches what is missing of an image, verifies and unpacks it. Runs beside the loop; the error
    /// is a sentence for people.
    fn prepare(
        &self,
        image: ImageSource,
    ) -> impl Future<Output = Result<Arc<PreparedImage>, String>> + Send + 'static;

    /// How many bytes would be fetched for an image; 0 if all of it is here. Runs beside the loop.
    fn missing(
        &self,
        image: ImageSource,
    ) -> impl Future<Output = Result<u64, String>> + Send + 'static;

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
    fn here(
        &self,
        image: ImageSource,
    ) -> impl Future<Output = Result<Option<Arc<PreparedImage>>, String>> + Send + 'static {
        let store = self.store.clone();
        async move { store.here(&image).await.map_err(|error| error.sentence()) }
    }

    fn prepare(
        &self,
        image: ImageSource,
    ) -> impl Future<Output = Result<Arc<PreparedImage>, String>> + Send + 'static {
        let (store, registries) = (self.store.clone(), self.registries.clone());
        async move { store.prepare(&image, &registries).await.map_err(|error| error.sentence()) }
    }

    fn missing(
        &self,
        image: ImageSource,
    ) -> impl Future<Output = Result<u64, String>> + Send + 'static {
        let (store, registries) = (self.store.clone(), self.registries.clone());
        async move { store.missing(&image, &registries).await.map_err(|error| error.sentence()) }
    }

    fn retain(
        &self,
        digests: HashSet<String>,
    ) -> impl FnOnce() -> Result<(), String> + Send + 'static {
        let store = self.store.clone();
        move || store.retain(&digests).map_err(|error| error.sentence())
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
    /// Looks for an image on this node, which is quick and tells nobody.
    pub(super) fn look_for_image(&mut self, image: ImageSource) {
        let looking = self.images.here(image.clone());
        self.jobs.spawn(async move { Job::Looked { image, result: looking.await } });
    }

    /// What is not here is fetched, unless nobody wants it any more.
    pub(super) fn image_looked_for(
        &mut self,
        image: ImageSource,
        result: Result<Option<Arc<PreparedImage>>, String>,
    ) {
        match result {
            Ok(Some(prepared)) => self.image_there(&image, prepared),
            Err(reason) => self.image_failed(&image, &reason),
            Ok(None) => {
                let state = self.observed.image(&image);
                let Some(ImageState::Preparing { trouble }) = state else { return };
                let first_try = trouble.is_none();
                if first_try && image.pull != PullPolicy::Never {
                    let message = format!("image {} is being fetched", image.reference);
                    self.tell_of_image(EventKind::Pulling, &image, &message);
                }
                let begun_ms = self.clock.now_ms();
                let preparing = self.images.prepare(image.clone());
                self.jobs.spawn(async move {
                    Job::Prepared { image, result: preparing.await, begun_ms }
                });
            }
        }
    }

    /// An image was fetched, or cannot be had.
    pub(super) fn image_fetched(
        &mut self,
        image: &ImageSource,
        result: Result<Arc<PreparedImage>, String>,
        begun_ms: u64,
    ) {
        match result {
            Ok(prepared) => {
                let took = Duration::from_millis(self.clock.now_ms().saturating_sub(begun_ms));
                let message = format!("image {} is there after {took:?}", image.reference);
                self.tell_of_image(EventKind::Pulled, image, &message);
                self.image_there(image, prepared);
            }
            Err(reason) => self.image_failed(image, &reason),
        }
    }

    fn image_there(&mut self, image: &ImageSource, prepared: Arc<PreparedImage>) {
        for instance in news::concerned(&self.wanted, &self.observed, image) {
            self.news.image_ready(&instance);
        }
        self.observed.image_ready(image, prepared.check.clone());
        self.observed.begin_checks(self.clock.now_ms());
        self.prepared.insert(image.into(), prepared);
    }

    fn image_failed(&mut self, image: &ImageSource, reason: &str) {
        self.observed.image_failed(image, reason, self.clock.now_ms());
        if self.is_for_later(image)
            && let Some(ImageState::Failed { trouble, .. }) = self.observed.image(image)
            && trouble.failures == 1
        {
            let message = format!("image {} cannot be had ahead: {reason}", image.reference);
            self.event(EventKind::PullFailed, None, message);
        }
        for instance in news::concerned(&self.wanted, &self.observed, image) {
            if self.news.image_failed(&instance, reason) {
                let message = format!("image {} cannot be had: {reason}", image.reference);
                self.event(EventKind::PullFailed, Some(instance), message);
            }
        }
    }

    fn tell_of_image(&mut self, kind: EventKind, image: &ImageSource, message: &str) {
        if self.is_for_later(image) {
            self.event(kind, None, format!("{message}, ahead of when it is needed"));
        }
        for instance in news::concerned(&self.wanted, &self.observed, image) {
            self.event(kind, Some(instance), message.to_owned());
        }
    }

    /// Whether only a service that rests needs an image.
    fn is_for_later(&self, image: &ImageSource) -> bool {
        let rests = self.observed.rests_with(image);
        rests && news::concerned(&self.wanted, &self.observed, image).is_empty()
    }

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
        for (_, spec) in self.observed.later(&self.wanted) {
            match self.observed.image(&spec.image) {
                None | Some(ImageState::Preparing { .. }) => return,
                // What cannot be had keeps nothing, and nothing waits for it.
                Some(ImageState::Failed { .. } | ImageState::Ready { .. }) => {}
            }
            let prepared = self.prepared.get(&ImageKey::from(&spec.image));
            digests.extend(prepared.map(|prepared| prepared.digest.clone()));
            digests.extend(spec.image.digest.clone());
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
