//! The builder: layers and a configuration become an OCI archive.
//!
//! In: [`Layer`]s, and what is run. Out: a tar file in the OCI image layout, the same bytes for
//! the same content, as `limpet image load` and `skopeo copy oci-archive:` read it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use limpet_oci::manifest::{
    Descriptor, Index, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, REF_NAME,
};
use limpet_oci::{Digest, Platform};
use serde_json::{Value, json};

use crate::layer::Layer;

/// An image that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something of the tree cannot be read.
    #[error("read {} for an image", path.display())]
    Tree {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// An image in the making.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    reference: String,
    platforms: Vec<Platform>,
    layers: Vec<BuiltLayer>,
    config: serde_json::Map<String, Value>,
    environment: Vec<String>,
}

#[derive(Debug, Clone)]
struct BuiltLayer {
    diff_id: Digest,
    gzip: Vec<u8>,
}

impl ImageBuilder {
    /// An image for this machine, with nothing in it. Its name is written into the archive as it
    /// stands here.
    #[must_use]
    pub fn new(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            platforms: vec![Platform::host()],
            layers: Vec::new(),
            config: serde_json::Map::new(),
            environment: Vec::new(),
        }
    }

    /// Adds a layer on top.
    pub fn layer(&mut self, layer: &Layer) -> &mut Self {
        let tar = layer.bytes();
        let diff_id = Digest::of(&tar);
        self.layers.push(BuiltLayer { diff_id, gzip: gzip(&tar) });
        self
    }

    /// Says what it runs on. With more than one the archive has an index of as many images, which
    /// differ in that word only.
    pub fn platforms(&mut self, platforms: &[Platform]) -> &mut Self {
        self.platforms = platforms.to_vec();
        self
    }

    /// Sets what is run.
    pub fn entrypoint(&mut self, words: &[&str]) -> &mut Self {
        self.set("Entrypoint", json!(words))
    }

    /// Sets its default arguments.
    pub fn command(&mut self, words: &[&str]) -> &mut Self {
        self.set("Cmd", json!(words))
    }

    /// Adds `NAME=value`.
    pub fn environment(&mut self, pair: &str) -> &mut Self {
        self.environment.push(pair.to_owned());
        self
    }

    /// Sets any member of the configuration's `config` object: `User`, `WorkingDir`, …
    pub fn set(&mut self, member: &str, value: Value) -> &mut Self {
        self.config.insert(member.to_owned(), value);
        self
    }

    /// Every file of an archive, by its path.
    fn files(builders: &[&Self], reference: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = Files(BTreeMap::new());
        let mut variants = Vec::new();
        for builder in builders {
            builder.add_variants(&mut files, &mut variants);
        }
        let mut top = match variants.as_slice() {
            [only] => only.clone(),
            _ => files.blob(OCI_INDEX, to_json(&index(variants))),
        };
        top.annotations.insert(REF_NAME.to_owned(), reference.to_owned());
        let Files(mut files) = files;
        files.insert("index.json".to_owned(), to_json(&index(vec![top])));
        files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        files
    }

    fn add_variants(&self, files: &mut Files, variants: &mut Vec<Descriptor>) {
        let mut layers = Vec::new();
        for layer in &self.layers {
            layers.push(files.blob(&format!("{OCI_LAYER}+gzip"), layer.gzip.clone()));
        }
        for platform in &self.platforms {
            let config = files.blob(OCI_CONFIG, self.config_of(platform).to_string().into_bytes());
            let manifest = Manifest {
                schema_version: 2,
                media_type: Some(OCI_MANIFEST.to_owned()),
                config,
                layers: layers.clone(),
            };
            let mut variant = files.blob(OCI_MANIFEST, to_json(&manifest));
            variant.platform = Some(platform.clone());
            variants.push(variant);
        }
    }

    fn config_of(&self, platform: &Platform) -> Value {
        let mut config = self.config.clone();
        config.insert("Env".to_owned(), json!(self.environment));
        let diff_ids: Vec<String> = self.layers.iter().map(|it| it.diff_id.to_string()).collect();
        let mut image = json!({
            "created": "2020-01-01T00:00:00Z",
            "architecture": platform.architecture,
            "os": platform.os,
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": [],
        });
        if let Some(variant) = &platform.variant {
            image["variant"] = json!(variant);
        }
        image
    }

    /// The image as an OCI archive.
    #[must_use]
    pub fn archive(&self) -> Vec<u8> {
        archive_of(Self::files(&[self], &self.reference))
    }

    /// One image of this and others, each for platforms of its own, under the name of this.
    #[must_use]
    pub fn archive_with(&self, others: &[&Self]) -> Vec<u8> {
        let all: Vec<&Self> = std::iter::once(self).chain(others.iter().copied()).collect();
        archive_of(Self::files(&all, &self.reference))
    }
}

fn archive_of(files: BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut archive = Layer::new();
    archive.folder("blobs", 0o755).folder("blobs/sha256", 0o755);
    for (path, content) in files {
        archive.file(&path, 0o644, &content);
    }
    archive.bytes()
}

fn index(manifests: Vec<Descriptor>) -> Index {
    Index { schema_version: 2, media_type: Some(OCI_INDEX.to_owned()), manifests }
}

fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let json = serde_json::to_vec(value);
    assert!(json.is_ok(), "manifests have text for keys and nothing that can fail");
    json.unwrap_or_default()
}

struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let digest = Digest::of(&bytes);
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        self.0.insert(format!("blobs/sha256/{}", digest.hex()), bytes);
        descriptor
    }
}

/// No time, no name and the same level everywhere: the same bytes for the same input.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::new(6);
    let mut encoder = flate2::GzBuilder::new().write(Vec::new(), level);
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    assert!(written.is_ok(), "writing to memory does not fail");
    written.unwrap_or_default()
}
