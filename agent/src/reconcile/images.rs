//! The images of the node: which are there, which are asked for, which could not be had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use limpet_protocol::id::SpecHash;
use limpet_protocol::limits::MAX_NO_IMAGE;
use limpet_protocol::report::NoImage;
use limpet_protocol::spec::{ImageSource, Spec};

use super::{Observed, Wanted, backoff};
use crate::image::ImageCheck;

/// An image among others: two services with equal sources share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageKey(String);

impl From<&ImageSource> for ImageKey {
    fn from(image: &ImageSource) -> Self {
        Self(format!("{image:?}"))
    }
}

/// How far an image is. One that was never asked for is in no state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageState {
    /// It was asked for.
    Preparing {
        /// What went wrong before, if something did.
        trouble: Option<ImageTrouble>,
    },
    /// It is there.
    Ready {
        /// What it says of its health (`HEALTHCHECK`).
        check: Option<Arc<ImageCheck>>,
    },
    /// It could not be had.
    Failed {
        /// What went wrong.
        trouble: ImageTrouble,
        /// When it is asked for again.
        retry_at_ms: u64,
    },
}

/// Why an image could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageTrouble {
    /// The last reason.
    pub reason: String,
    /// How often in a row.
    pub failures: u32,
}

impl Observed {
    /// How an image is.
    #[must_use]
    pub fn image(&self, image: &ImageSource) -> Option<&ImageState> {
        self.images.get(&ImageKey::from(image))
    }

    /// Whether an image is on its way.
    pub(super) fn is_preparing(&self) -> bool {
        self.images.values().any(|state| matches!(state, ImageState::Preparing { .. }))
    }

    /// An image is there, and this is what it says of its health.
    pub fn image_ready(&mut self, image: &ImageSource, check: Option<Arc<ImageCheck>>) {
        self.images.insert(image.into(), ImageState::Ready { check });
    }

    /// An image could not be had.
    pub fn image_failed(&mut self, image: &ImageSource, reason: &str, now_ms: u64) {
        let before = match self.image(image) {
            Some(ImageState::Preparing { trouble: Some(trouble) }) => trouble.failures,
            _ => 0,
        };
        let trouble =
            ImageTrouble { reason: reason.to_owned(), failures: before.saturating_add(1) };
        let retry_at_ms = now_ms.saturating_add(backoff::image_retry_ms(trouble.failures, now_ms));
        self.images.insert(image.into(), ImageState::Failed { trouble, retry_at_ms });
    }

    pub(super) fn image_asked(&mut self, image: &ImageSource) {
        let trouble = match self.images.remove(&ImageKey::from(image)) {
            Some(ImageState::Failed { trouble, .. }) => Some(trouble),
            _ => None,
        };
        self.images.insert(image.into(), ImageState::Preparing { trouble });
    }

    /// Whether a service that rests needs an image.
    #[must_use]
    pub fn rests_with(&self, image: &ImageSource) -> bool {
        self.resting().values().any(|spec| spec.image == *image)
    }

    /// The specs that nothing here runs yet but something may come to: those that come next, and those of
    /// services that rest.
    pub fn later<'a>(
        &'a self,
        wanted: &'a Wanted,
    ) -> impl Iterator<Item = (SpecHash, &'a Arc<Spec>)> {
        let next = wanted.values().filter_map(|want| want.next.as_ref());
        let next = next.map(|(hash, spec)| (*hash, spec));
        next.chain(self.resting().iter().map(|(hash, spec)| (*hash, spec)))
    }

    /// The specs that are wanted or may come to be and whose images could not be had so far.
    pub(super) fn without_image(&self, wanted: &Wanted) -> Vec<NoImage> {
        let now = wanted.values().map(|want| (want.spec_hash, &want.spec));
        let later = self.later(wanted);
        let specs: BTreeMap<SpecHash, &Arc<Spec>> = now.chain(later).collect();
        let no_image = |(spec, of): (SpecHash, &Arc<Spec>)| {
            let (ImageState::Preparing { trouble: Some(trouble) }
            | ImageState::Failed { trouble, .. }) = self.image(&of.image)?
            else {
                return None;
            };
            Some(NoImage { spec, reason: trouble.reason.clone(), tries: trouble.failures })
        };
        specs.into_iter().filter_map(no_image).take(MAX_NO_IMAGE).collect()
    }

    /// The images of everything that is wanted, comes next or is still there; none if that is not
    /// known of all.
    #[must_use]
    pub fn images_in_use<'a>(&'a self, wanted: &'a Wanted) -> Option<Vec<&'a ImageSource>> {
        let wanted = wanted.values().map(|want| Some(&want.spec.image));
        let there = self.slots.values().flat_map(|slot| &slot.containers);
        let there = there.map(|container| container.spec.as_ref().map(|spec| &spec.image));
        wanted.chain(there).collect()
    }

    /// Forgets slots with nothing in them and images that nobody wants.
    pub fn forget(&mut self, wanted: &Wanted) {
        self.slots
            .retain(|instance, slot| !slot.containers.is_empty() || wanted.contains_key(instance));
        // The image of what still runs stays.
        let used = self.slots.values().flat_map(|slot| &slot.containers);
        let used = used.filter_map(|container| container.spec.as_ref());
        let later = self.later(wanted).map(|(_, spec)| spec);
        let keep: BTreeSet<ImageKey> = wanted
            .values()
            .map(|want| &want.spec)
            .chain(later)
            .chain(used)
            .map(|spec| ImageKey::from(&spec.image))
            .collect();
        self.images.retain(|key, _| keep.contains(key));
    }

    /// Whether anything is known of an image.
    #[must_use]
    pub fn knows_image(&self, key: &ImageKey) -> bool {
        self.images.contains_key(key)
    }
}
