//! Pulls from a registry on a real socket, with everything that goes wrong on the way.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;

use limpet_images::{ImageBuilder, Layer};
use limpet_oci::{Digest, ImageLayout, Platform};
use limpet_protocol::spec::{ImageSource, PullPolicy};

use super::super::{ControllerRegistry, ImageError, ImageStore, PreparedImage, Registries};
use super::registry::TestRegistry;
use super::{assert_root, snapshot};

/// An image of two layers with content that does not shrink.
fn image(name: &str, seed: u64) -> ImageBuilder {
    let noise: Vec<u8> = (0..50_000_u64)
        .scan(2 * seed + 1, |state, _| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some(state.to_be_bytes()[0])
        })
        .collect();
    let (mut base, mut top) = (Layer::new(), Layer::new());
    base.file("base", 0o644, b"base");
    top.file("noise", 0o644, &noise);
    let mut builder = ImageBuilder::new(name);
    builder.layer(&base).layer(&top).command(&["/noise"]);
    builder
}

fn source(reference: &str) -> ImageSource {
    ImageSource {
        reference: reference.to_owned(),
        digest: None,
        from_controller: false,
        platform: None,
        pull: PullPolicy::Missing,
    }
}

struct Node {
    folder: tempfile::TempDir,
    store: Arc<ImageStore>,
    runtime: tokio::runtime::Runtime,
}

impl Node {
    fn new() -> Self {
        assert_root();
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { folder, store, runtime }
    }

    fn prepare(&self, source: &ImageSource) -> Result<Arc<PreparedImage>, ImageError> {
        self.prepare_with(source, &Registries::default())
    }

    fn prepare_with(
        &self,
        source: &ImageSource,
        registries: &Registries,
    ) -> Result<Arc<PreparedImage>, ImageError> {
        self.runtime.block_on(self.store.prepare(source, registries))
    }

    /// The words that a person reads.
    fn refusal(&self, source: &ImageSource) -> String {
        self.prepare(source).unwrap_err().sentence()
    }
}

fn layer_of(layout: &ImageLayout, reference: &str, number: usize) -> Digest {
    let (_, bytes) = layout.manifest(reference).unwrap().unwrap();
    let manifest: limpet_oci::manifest::Manifest = serde_json::from_slice(&bytes).unwrap();
    manifest.layers[number].digest
}

#[test]
fn an_image_is_pulled_once_and_then_nobody_is_asked_and_nothing_written() {
    let registry = TestRegistry::start(&[image("team/app:1", 1).archive()]);
    let node = Node::new();
    let source = source(&format!("{}/team/app:1", registry.address));
    let prepared = node.prepare(&source).unwrap();
    assert_eq!(prepared.layers.len(), 2);
    assert!(prepared.layers[0].join("noise").exists(), "the topmost comes first");
    assert_eq!(fs::read(prepared.layers[1].join("base")).unwrap(), b"base");
    assert_eq!(fs::read_dir(node.folder.path().join("partial")).unwrap().count(), 0);
    let (asked, before) = (registry.requests("").len(), snapshot(node.folder.path()));
    assert_eq!(node.prepare(&source).unwrap().layers, prepared.layers);
    let digest = ImageSource { digest: Some(prepared.digest.clone()), ..source };
    assert_eq!(node.prepare(&digest).unwrap().digest, prepared.digest);
    assert_eq!(registry.requests("").len(), asked);
    assert_eq!(snapshot(node.folder.path()), before);
    drop(registry);
    let again = ImageStore::open(node.folder.path()).unwrap();
    let after_restart = node.runtime.block_on(again.prepare(&digest, &Registries::default()));
    assert_eq!(after_restart.unwrap().layers, prepared.layers);
}

#[test]
fn what_is_missing_is_counted_and_not_fetched() {
    let registry = TestRegistry::start(&[image("app:1", 1).archive(), image("app:2", 2).archive()]);
    let node = Node::new();
    let of = |tag: u32| source(&format!("{}/app:{tag}", registry.address));
    let missing = |source: &ImageSource| {
        node.runtime.block_on(node.store.missing(source, &Registries::default()))
    };
    let before = snapshot(node.folder.path());
    let all = missing(&of(1)).unwrap();
    assert!(all > 50_000, "the noise does not shrink: {all}");
    assert_eq!(snapshot(node.folder.path()), before, "nothing is written");
    assert!(registry.requests("/blobs/").len() <= 1, "the configuration only");
    node.prepare(&of(1)).unwrap();
    assert_eq!(missing(&of(1)).unwrap(), 0);
    let shared = missing(&of(2)).unwrap();
    assert!(shared > 50_000 && shared < all + 100, "the base layer is here: {shared} of {all}");
    let never = ImageSource { pull: PullPolicy::Never, ..of(2) };
    assert!(missing(&never).is_err());
    let gone = missing(&of(3)).unwrap_err().sentence();
    assert!(gone.contains("app:3"), "{gone}");
}

#[test]
fn the_same_image_wanted_twice_at_once_is_fetched_once() {
    let registry = TestRegistry::start(&[image("app:1", 2).archive()]);
    let node = Node::new();
    let source = source(&format!("{}/app:1", registry.address));
    let registries = Registries::default();
    let both = node.runtime.block_on(async {
        futures_util::future::join(
            node.store.prepare(&source, &registries),
            node.store.prepare(&source, &registries),
        )
        .await
    });
    assert_eq!(both.0.unwrap().digest, both.1.unwrap().digest);
    assert_eq!(registry.requests("/blobs/").len(), 3);
}

#[test]
fn a_broken_transfer_goes_on_where_it_broke() {
    let registry = TestRegistry::start(&[image("app:1", 3).archive()]);
    let layer = layer_of(&registry.layout, "app:1", 1);
    registry.rules.lock().unwrap().cuts = vec![10_000, 20_000];
    let node = Node::new();
    node.prepare(&source(&format!("{}/app:1", registry.address))).unwrap();
    let asked = registry.requests(&layer.to_string());
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[1].ends_with("from 10000") && asked[2].ends_with("from 30000"), "{asked:?}");
}

#[test]
fn a_registry_without_ranges_starts_anew() {
    let registry = TestRegistry::start(&[image("app:1", 4).archive()]);
    let mut rules = registry.rules.lock().unwrap();
    (rules.cuts, rules.no_ranges) = (vec![10_000], true);
    drop(rules);
    Node::new().prepare(&source(&format!("{}/app:1", registry.address))).unwrap();
}

#[test]
fn what_an_earlier_life_left_is_continued_or_thrown_away() {
    let registry = TestRegistry::start(&[image("app:1", 5).archive()]);
    let layer = layer_of(&registry.layout, "app:1", 1);
    let whole = fs::read(registry.layout.blobs().path(&layer)).unwrap();
    let spoilt = vec![0; 5000];
    for (left, from) in [(&whole[..7000], "from 7000"), (&spoilt[..], "from 0"), (&whole[..], "")] {
        let node = Node::new();
        fs::write(node.folder.path().join("partial").join(layer.hex()), left).unwrap();
        registry.log.lock().unwrap().clear();
        node.prepare(&source(&format!("{}/app:1", registry.address))).unwrap();
        let asked = registry.requests(&layer.to_string());
        assert_eq!(asked.is_empty(), from.is_empty(), "{asked:?}");
        assert!(asked.last().is_none_or(|line| line.ends_with(from)), "{asked:?}");
    }
}

#[test]
fn a_wrong_digest_is_refused_and_nothing_stays() {
    let registry = TestRegistry::start(&[image("app:1", 6).archive()]);
    let layer = layer_of(&registry.layout, "app:1", 1);
    registry.rules.lock().unwrap().spoil = Some(layer);
    let node = Node::new();
    let words = node.refusal(&source(&format!("{}/app:1", registry.address)));
    assert!(words.contains(&format!("blob {layer}")) && words.contains("wrong digest"), "{words}");
    assert!(!node.folder.path().join("partial").join(layer.hex()).exists());
    assert_eq!(registry.requests(&layer.to_string()).len(), 1, "the answer will not change");
    registry.rules.lock().unwrap().spoil = None;
    node.prepare(&source(&format!("{}/app:1", registry.address))).unwrap();
}

#[test]
fn what_is_not_there_is_said_and_not_asked_again() {
    let registry = TestRegistry::start(&[image("app:1", 7).archive()]);
    let node = Node::new();
    let reference = format!("{}/app:2", registry.address);
    let expected = format!("image \"{reference}\" does not exist in registry {}", registry.address);
    assert_eq!(node.refusal(&source(&reference)), expected);
    assert_eq!(registry.requests("/manifests/").len(), 1);
    let never = ImageSource { pull: PullPolicy::Never, ..source(&reference) };
    assert!(node.refusal(&never).contains("pull_policy is never"));
    assert_eq!(registry.requests("/manifests/").len(), 1);
    assert!(node.refusal(&source("Not A Name")).contains("is not an image reference"));
}

#[test]
fn the_variant_of_the_node_is_taken_or_what_there_is_is_named() {
    let all = ["linux/s390x".parse().unwrap(), Platform::host(), "linux/arm/v5".parse().unwrap()];
    let mine = image("app:1", 8).platforms(&all).archive();
    let foreign = image("app:2", 8).platforms(&all[..1]).archive();
    let others = ["linux/s390x", "linux/ppc64le"].map(|text| text.parse().unwrap());
    let foreigners = image("app:3", 8).platforms(&others).archive();
    let registry = TestRegistry::start(&[mine, foreign, foreigners]);
    let node = Node::new();
    let named = |tag: &str| source(&format!("{}/app:{tag}", registry.address));
    let prepared = node.prepare(&named("1")).unwrap();
    let architecture = prepared.config.architecture().to_string();
    assert_eq!(architecture, Platform::host().architecture);
    let expected = format!(
        "image \"{}/app:2\" has no variant for {}: there are linux/s390x",
        registry.address,
        super::super::platform()
    );
    assert_eq!(node.refusal(&named("2")), expected);
    let words = node.refusal(&named("3"));
    assert!(words.ends_with("there are linux/s390x, linux/ppc64le"), "{words}");
    let asked = ImageSource { platform: Some("linux/s390x".to_owned()), ..named("3") };
    assert_eq!(node.prepare(&asked).unwrap().config.architecture().to_string(), "s390x");
}

#[test]
fn a_token_is_fetched_where_one_is_asked_for() {
    let registry = TestRegistry::start(&[image("app:1", 9).archive()]);
    registry.rules.lock().unwrap().bearer = true;
    Node::new().prepare(&source(&format!("{}/app:1", registry.address))).unwrap();
    assert!(!registry.requests("/token").is_empty());
}

#[test]
fn a_registry_that_never_stops_sending_is_cut_off() {
    let registry = TestRegistry::start(&[image("app:1", 9).archive()]);
    let node = Node::new();
    let wanted = source(&format!("{}/app:1", registry.address));
    for (status, words) in [
        ("200 OK", "is larger than"),
        ("404 Not Found", "does not exist"),
        ("401 Unauthorized", "does not let this node"),
    ] {
        registry.rules.lock().unwrap().endless = Some(status);
        let refusal = node.refusal(&wanted);
        assert!(refusal.contains(words) && refusal.len() < 1000, "{status}: {refusal}");
    }
    assert!(registry.requests("flood").is_empty());
}

#[test]
fn the_controllers_images_need_the_nodes_secret() {
    let registry = TestRegistry::start(&[image("app:1", 10).archive()]);
    // node-1:secret
    registry.rules.lock().unwrap().basic = Some("bm9kZS0xOnNlY3JldA==");
    let digest = registry.layout.resolve("app:1").unwrap().to_string();
    let mut wanted = source("127.0.0.1:1/app:1");
    (wanted.digest, wanted.from_controller) = (Some(digest), true);
    let node = Node::new();
    let controller = |secret: &str| Registries {
        controller: Some(ControllerRegistry {
            address: registry.address.clone(),
            node: "node-1".to_owned(),
            secret: secret.to_owned(),
        }),
        ..Registries::default()
    };
    let words = node.prepare_with(&wanted, &controller("wrong")).unwrap_err().sentence();
    assert!(words.contains("(the controller) does not let this node have"), "{words}");
    node.prepare_with(&wanted, &controller("secret")).unwrap();
}

#[test]
fn without_a_digest_nobody_stands_in_for_the_controller() {
    let (controller, other) =
        (TestRegistry::start(&[]), TestRegistry::start(&[image("app:1", 17).archive()]));
    let digest = other.layout.resolve("app:1").unwrap().to_string();
    let registries = Registries {
        controller: Some(ControllerRegistry {
            address: controller.address.clone(),
            node: "node-1".to_owned(),
            secret: "secret".to_owned(),
        }),
        ..Registries::default()
    };
    let node = Node::new();
    let mut wanted = source(&format!("{}/app:1", other.address));
    wanted.from_controller = true;
    let words = node.prepare_with(&wanted, &registries).unwrap_err().sentence();
    assert!(words.contains("does not exist in registry") && words.contains("(the controller)"));
    wanted.digest = Some(digest);
    node.prepare_with(&wanted, &registries).unwrap();
}

#[test]
fn a_registry_that_is_away_for_a_moment_is_asked_again() {
    let registry = TestRegistry::start(&[image("app:1", 11).archive()]);
    registry.rules.lock().unwrap().unavailable = 3;
    let node = Node::new();
    let mut source = source(&format!("{}/app:1", registry.address));
    node.prepare(&source).unwrap();
    drop(registry);
    // Always, and nobody there: what the node has will do.
    source.pull = PullPolicy::Always;
    node.prepare(&source).unwrap();
    source.reference = "127.0.0.1:1/app:1".to_owned();
    let error = node.prepare(&source).unwrap_err();
    assert!(error.is_network(), "{error:?}");
    let words = error.sentence();
    assert!(words.starts_with("fetch the manifest from registry 127.0.0.1:1: "), "{words}");
}

#[test]
fn a_tag_that_moved_is_followed_when_it_is_asked_for_always() {
    let registry = TestRegistry::start(&[image("app:1", 12).archive()]);
    let node = Node::new();
    let mut source = source(&format!("{}/app:1", registry.address));
    let old = node.prepare(&source).unwrap();
    registry.layout.load(image("app:1", 13).archive().as_slice()).unwrap();
    assert_eq!(node.prepare(&source).unwrap().digest, old.digest);
    source.pull = PullPolicy::Always;
    assert_ne!(node.prepare(&source).unwrap().digest, old.digest);
}

#[test]
fn what_nobody_wants_goes_and_what_was_loaded_stays() {
    let archives = [image("app:1", 14).archive(), image("app:2", 15).archive()];
    let registry = TestRegistry::start(&archives);
    let node = Node::new();
    let address = registry.address.clone();
    let named = |tag: &str| source(&format!("{address}/app:{tag}"));
    let (one, two) = (node.prepare(&named("1")).unwrap(), node.prepare(&named("2")).unwrap());
    assert_eq!(one.layers[1], two.layers[1], "the same layer is there once");
    node.store.load(image("loaded:1", 16).archive().as_slice()).unwrap();
    let loaded = node.prepare(&source("loaded:1")).unwrap();
    let everything = HashSet::from([one.digest.clone(), named("2").reference]);
    let before = snapshot(node.folder.path());
    node.store.retain(&everything).unwrap();
    assert_eq!(snapshot(node.folder.path()), before, "nothing to remove, nothing written");
    node.store.retain(&HashSet::from([two.digest.clone()])).unwrap();
    assert!(!one.layers[0].exists() && two.layers[0].exists() && two.layers[1].exists());
    node.store.retain(&HashSet::new()).unwrap();
    assert!(!two.layers[0].exists() && loaded.layers[0].exists());
    assert!(node.prepare(&source("loaded:1")).is_ok());
    drop(registry);
    assert!(node.prepare(&named("2")).is_err());
}

/// `debootstrap --variant=minbase bookworm DIR` makes the tree; it takes a minute and a network.
#[test]
#[ignore = "needs a debootstrapped tree: LIMPET_TEST_DEBIAN=DIR"]
fn a_debian_of_several_layers_is_whole() {
    let tree = std::env::var("LIMPET_TEST_DEBIAN").expect("LIMPET_TEST_DEBIAN names a folder");
    let archive = limpet_images::debian_archive(std::path::Path::new(&tree)).unwrap();
    let registry = TestRegistry::start(&[archive]);
    let node = Node::new();
    let prepared = node.prepare(&source(&format!("{}/debian-test", registry.address))).unwrap();
    let lower: Vec<String> =
        prepared.layers.iter().map(|layer| layer.display().to_string()).collect();
    let target = node.folder.path().join("merged");
    fs::create_dir(&target).unwrap();
    let script = format!(
        "mount -t overlay overlay -o ro,lowerdir={} {} && cd {} && chroot . dpkg --audit \
         && chroot . dpkg --verify --verify-format rpm; ls usr/share/doc; cat etc/limpet-layer; \
         ls etc/motd; stat -c %A usr/bin/su",
        lower.join(":"),
        target.display(),
        target.display()
    );
    let output = std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    // dpkg misses what the third layer hides, and nothing else.
    let missing: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("missing") || line.starts_with("??5"))
        .filter(|line| !line.contains("/usr/share/doc/") && !line.contains("/etc/motd"))
        .collect();
    assert!(missing.is_empty(), "{missing:?} {errors}");
    assert!(text.ends_with("only\ntwo\n-rwsr-xr-x\n"), "{text} {errors}");
    assert!(errors.contains("etc/motd"), "{errors}");
}
