//! The node's image store: what is here, and how the rest is had.
//!
//! In: [`ImageSource`]s, archives, and the set of images that are wanted. Out: [`PreparedImage`]s.
//! Looked for in this order: here (no network is touched), the controller's images, the registry
//! of the reference. The same image wanted twice at once is fetched once.
//!
//! `blobs/` and `index.json` are an OCI image layout with indexes, manifests and configurations;
//! `layers/` has the unpacked layers, `partial/` what is being fetched. The compressed bytes of a
//! layer go as soon as it is unpacked: flash is small.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::hash::Hash;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use limpet_oci::manifest::{Descriptor, Document, REF_NAME};
use limpet_oci::{Digest, ImageLayout, Reference};
use limpet_protocol::spec::{ImageSource, PullPolicy};
use tokio::sync::{OnceCell, RwLock, Semaphore};

use super::download::blocking;
use super::error::io_error;
use super::layers::Layers;
use super::pull::Pull;
use super::wanted::{Wanted, node_platform};
use super::{ImageError, PreparedImage, Registries};

/// Layers fetched and unpacked at a time, of all images: more only thrashes a memory card.
const LAYERS_AT_ONCE: usize = 3;
/// Images kept in [`ImageStore::recent`]: as many as a small node has services.
const RECENT: usize = 32;
/// Marks an image that was loaded from an archive on this node: [`ImageStore::retain`] keeps it.
const LOADED: &str = "io.limpet.loaded";

type Outcome = Result<Arc<PreparedImage>, Arc<ImageError>>;
type Flight = Arc<OnceCell<Outcome>>;

/// The images of a node. Shared by reference between tasks.
#[derive(Debug)]
pub struct ImageStore {
    pub(super) layout: ImageLayout,
    pub(super) layers: Layers,
    pub(super) partial: PathBuf,
    pub(super) layer_turns: Semaphore,
    /// One lock for each layer that is being fetched: two images may share it.
    pub(super) layer_locks: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// What is being prepared now. Few, so a list will do.
    flights: Mutex<Vec<(Wanted, Flight)>>,
    /// What was prepared last: replicas and restarts find it without reading a file.
    recent: Mutex<VecDeque<(Wanted, Arc<PreparedImage>)>>,
    /// Read while images are prepared, written while some are removed.
    pub(super) removing: RwLock<()>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holder makes one change to a map: a panic leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ImageStore {
    /// Opens the store in `folder`, and throws away what a power cut left half done. Blocking.
    ///
    /// # Errors
    /// [`ImageError`] if the folder cannot be used.
    pub fn open(folder: &Path) -> Result<Arc<Self>, ImageError> {
        let partial = folder.join("partial");
        fs::create_dir_all(&partial).map_err(io_error("make folder", &partial))?;
        Ok(Arc::new(Self {
            layout: ImageLayout::open(folder)?,
            layers: Layers::open(&folder.join("layers"))?,
            partial,
            layer_turns: Semaphore::new(LAYERS_AT_ONCE),
            layer_locks: Mutex::new(HashMap::new()),
            flights: Mutex::new(Vec::new()),
            recent: Mutex::new(VecDeque::new()),
            removing: RwLock::new(()),
        }))
    }

    /// The image, if all of it is here and its pull policy lets nobody be asked.
    ///
    /// # Errors
    /// [`ImageError`]; [`ImageError::sentence`] is for `limpet ps`.
    pub async fn here(
        self: &Arc<Self>,
        source: &ImageSource,
    ) -> Result<Option<Arc<PreparedImage>>, ImageError> {
        let wanted = Wanted::of(source)?;
        if wanted.must_ask() {
            return Ok(None);
        }
        if let Some(image) = self.recently(&wanted) {
            return Ok(Some(image));
        }
        let _staying = self.removing.read().await;
        let (store, asked) = (Arc::clone(self), wanted.clone());
        let here = blocking(move || store.local(&asked)).await?.map(Arc::new);
        if let Some(image) = &here {
            self.remember(wanted, image);
        }
        Ok(here)
    }

    /// Fetches what is missing, verifies and unpacks it. If it is all here, nothing is written and
    /// nobody is asked.
    ///
    /// # Errors
    /// [`ImageError`]; [`ImageError::sentence`] is for `limpet ps`.
    pub async fn prepare(
        self: &Arc<Self>,
        source: &ImageSource,
        registries: &Registries,
    ) -> Result<Arc<PreparedImage>, ImageError> {
        let wanted = Wanted::of(source)?;
        if let Some(image) = self.recently(&wanted) {
            return Ok(image);
        }
        let flight = self.join(&wanted);
        let first = flight.get_or_init(|| async {
            let _staying = self.removing.read().await;
            self.prepare_now(&wanted, registries).await.map(Arc::new).map_err(Arc::new)
        });
        let outcome = first.await.clone();
        // Who comes later looks anew; who waited has the same answer.
        lock(&self.flights).retain(|(_, other)| !Arc::ptr_eq(other, &flight));
        if let Ok(image) = &outcome {
            self.remember(wanted, image);
        }
        outcome.map_err(ImageError::Shared)
    }

    /// An image that was prepared a while ago and is still there.
    fn recently(&self, wanted: &Wanted) -> Option<Arc<PreparedImage>> {
        if wanted.must_ask() {
            return None;
        }
        let recent = lock(&self.recent);
        let (_, image) = recent.iter().find(|(other, _)| other == wanted)?;
        image.layers.iter().all(|layer| layer.is_dir()).then(|| Arc::clone(image))
    }

    fn remember(&self, wanted: Wanted, image: &Arc<PreparedImage>) {
        let mut recent = lock(&self.recent);
        recent.retain(|(other, _)| *other != wanted);
        recent.push_front((wanted, Arc::clone(image)));
        recent.truncate(RECENT);
    }

    fn join(&self, wanted: &Wanted) -> Flight {
        let mut flights = lock(&self.flights);
        if let Some((_, flight)) = flights.iter().find(|(other, _)| other == wanted) {
            return Arc::clone(flight);
        }
        let flight = Flight::default();
        flights.push((wanted.clone(), Arc::clone(&flight)));
        flight
    }

    async fn prepare_now(
        self: &Arc<Self>,
        wanted: &Wanted,
        registries: &Registries,
    ) -> Result<PreparedImage, ImageError> {
        let (store, asked) = (Arc::clone(self), wanted.clone());
        let here = blocking(move || store.local(&asked)).await?;
        let ask_anyway = wanted.must_ask();
        match here {
            Some(image) if !ask_anyway => return Ok(image),
            None if wanted.pull == PullPolicy::Never => {
                return Err(ImageError::NotHere { image: wanted.written.clone() });
            }
            _ => {}
        }
        let pulled = Pull { store: self, wanted, registries }.run().await;
        match (pulled, here_again(self, wanted, ask_anyway).await) {
            (Err(error), Some(image)) if error.is_network() => {
                // A node that is cut off goes on with what it has.
                tracing::warn!(image = wanted.written, error = error.sentence(), "not refreshed");
                Ok(image)
            }
            (pulled, _) => pulled,
        }
    }

    /// The image, if everything of it is here. Layers whose blobs are here are unpacked. Blocking.
    pub(super) fn local(&self, wanted: &Wanted) -> Result<Option<PreparedImage>, ImageError> {
        let named = || self.layout.resolve(&wanted.reference.to_string());
        let Some(digest) = wanted.digest.or_else(named) else { return Ok(None) };
        let Some(bytes) = self.document(&digest)? else { return Ok(None) };
        let manifest = match Document::parse(&bytes, &format!("manifest {digest}"))? {
            Document::Manifest(manifest) => (digest, manifest),
            Document::Index(index) => {
                let variant = wanted.choose(&index)?;
                let Some(bytes) = self.document(&variant.digest)? else { return Ok(None) };
                (variant.digest, wanted.manifest_of(&bytes, &variant.digest)?)
            }
        };
        let Some(config) = self.document(&manifest.1.config.digest)? else { return Ok(None) };
        let plan = wanted.plan(manifest.0, manifest.1, &config)?;
        for (layer, diff_id) in plan.layers() {
            if self.layers.get(diff_id).is_some() {
                continue;
            }
            if !self.layout.blobs().has(&layer.digest, layer.size) {
                return Ok(None);
            }
            self.layout.blobs().verify(&layer.digest)?;
            self.layers.put(diff_id, self.layout.blobs().open_blob(&layer.digest)?.0)?;
        }
        Ok(plan.finish(&self.layers))
    }

    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ImageError> {
        use limpet_oci::blob::BlobError;
        match self.layout.blobs().read(digest, limpet_oci::manifest::MAX_MANIFEST_BYTES) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(BlobError::Missing(_)) => Ok(None),
            Err(BlobError::WrongDigest { .. }) => {
                // The card forgot: fetch it again.
                tracing::warn!(%digest, "a manifest on disk is spoilt: it goes");
                self.layout.blobs().remove(digest)?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes down that the image is here, and under which name.
    pub(super) fn record(&self, wanted: &Wanted, mut entry: Descriptor) -> Result<(), ImageError> {
        let named = Reference::to_string(&wanted.reference);
        entry.annotations.insert(REF_NAME.to_owned(), named);
        Ok(self.layout.insert(entry)?)
    }

    /// Takes in an archive (`docker save`, `podman save`, `skopeo`, `buildah`). Its images stay
    /// until they are removed by hand. Blocking.
    ///
    /// # Errors
    /// [`ImageError`]; then nothing was changed.
    pub fn load(&self, archive: impl Read) -> Result<Vec<Digest>, ImageError> {
        let loaded = self.layout.load(archive)?;
        // A name may stand for another image now.
        lock(&self.recent).clear();
        let digests: HashSet<Digest> = loaded.iter().map(|image| image.digest).collect();
        for mut entry in self.layout.entries() {
            if digests.contains(&entry.digest) {
                entry.annotations.insert(LOADED.to_owned(), "true".to_owned());
                self.layout.insert(entry)?;
            }
        }
        Ok(loaded.into_iter().map(|image| image.digest).collect())
    }

    /// Removes every image that neither `wanted` names nor was loaded from an archive, with its
    /// layers. `wanted` holds digests (of [`ImageSource`] or [`PreparedImage`]) and references as
    /// specs write them. Does nothing while an image is being prepared: there is a next time.
    /// Blocking.
    ///
    /// # Errors
    /// [`ImageError`] if something cannot be read or removed.
    pub fn retain(&self, wanted: &HashSet<String>) -> Result<(), ImageError> {
        let Ok(_removing) = self.removing.try_write() else { return Ok(()) };
        lock(&self.recent).clear();
        let digests: HashSet<Digest> = parse_all(wanted);
        let names: HashSet<String> =
            parse_all::<Reference>(wanted).iter().map(ToString::to_string).collect();
        let mut diff_ids = HashSet::new();
        let mut unwanted = HashSet::new();
        let mut kept = HashSet::new();
        for entry in self.layout.entries() {
            let contents = self.contents(&entry.digest)?;
            let stays = entry.annotations.contains_key(LOADED)
                || entry.annotations.get(REF_NAME).is_some_and(|name| names.contains(name))
                || contents.manifests.iter().any(|it| digests.contains(it));
            if stays {
                kept.insert(entry.digest);
                diff_ids.extend(contents.diff_ids);
            } else {
                unwanted.insert(entry.digest);
            }
        }
        for digest in unwanted.difference(&kept) {
            self.layout.remove(digest)?;
        }
        // Documents of a pull that a power cut ended.
        self.layout.gc()?;
        self.layers.retain(|diff_id| diff_ids.contains(diff_id))?;
        self.clear_partial()
    }

    /// What an image is made of, as far as it is here.
    fn contents(&self, digest: &Digest) -> Result<Contents, ImageError> {
        let mut contents = Contents { manifests: vec![*digest], diff_ids: Vec::new() };
        let Some(bytes) = self.document(digest)? else { return Ok(contents) };
        let manifests = match Document::parse(&bytes, &format!("manifest {digest}"))? {
            Document::Manifest(manifest) => vec![manifest],
            Document::Index(index) => {
                contents.manifests.extend(index.manifests.iter().map(|variant| variant.digest));
                let mut found = Vec::new();
                for variant in &index.manifests {
                    let bytes = self.document(&variant.digest)?;
                    let document = bytes.map(|it| Document::parse(&it, "manifest")).transpose()?;
                    if let Some(Document::Manifest(manifest)) = document {
                        found.push(manifest);
                    }
                }
                found
            }
        };
        for manifest in manifests {
            let Some(bytes) = self.document(&manifest.config.digest)? else { continue };
            let config: Result<limpet_oci::manifest::ConfigHead, _> =
                limpet_oci::manifest::parse_json(&bytes, "configuration");
            contents.diff_ids.extend(config.map(|it| it.rootfs.diff_ids).unwrap_or_default());
        }
        Ok(contents)
    }

    /// Transfers that nobody goes on with.
    fn clear_partial(&self) -> Result<(), ImageError> {
        let failed = || io_error("clear", &self.partial);
        for entry in fs::read_dir(&self.partial).map_err(failed())? {
            fs::remove_file(entry.map_err(failed())?.path()).map_err(failed())?;
        }
        Ok(())
    }
}

struct Contents {
    manifests: Vec<Digest>,
    diff_ids: Vec<Digest>,
}

fn parse_all<T: std::str::FromStr + Eq + Hash>(texts: &HashSet<String>) -> HashSet<T> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// What is here, for a refresh that failed.
async fn here_again(
    store: &Arc<ImageStore>,
    wanted: &Wanted,
    refreshed: bool,
) -> Option<PreparedImage> {
    if !refreshed {
        return None;
    }
    let (store, asked) = (Arc::clone(store), wanted.clone());
    blocking(move || store.local(&asked)).await.ok().flatten()
}

/// The machine that this node is, as images name it.
#[must_use]
pub fn platform() -> limpet_oci::Platform {
    node_platform()
}
