//! Images from a real registry, with what goes wrong between it and a node.

use std::fs;

use limpet_oci::Platform;
use limpet_tests::fleet::Fleet;
use limpet_tests::process::wait_for;
use limpet_tests::registry::{Access, Registry};

/// A fleet of one node, which the controller has no image for.
fn fleet() -> Fleet {
    let mut fleet = Fleet::start();
    fleet.add_node("n1", &[]);
    fleet
}

/// A service that runs an image of a registry.
fn clock(registry: &Registry, name: &str) -> String {
    let image = format!("{}/{name}", registry.address());
    format!("services: {{clock: {{image: '{image}', command: [clock]}}}}")
}

/// An architecture that this machine is not.
fn foreign() -> Platform {
    let other = if Platform::host().architecture == "arm64" { "amd64" } else { "arm64" };
    format!("linux/{other}").parse().unwrap()
}

#[test]
fn an_image_of_a_registry_runs_by_tag_and_by_digest() {
    let registry = Registry::start(Access::Open);
    registry.push(&limpet_images::demo_archive(), "team/demo:1");
    let mut fleet = fleet();
    fleet.add_node("n2", &[]);
    let (address, digest) = (registry.address(), registry.digest("team/demo:1"));
    let compose = format!(
        "services:
  tagged: {{image: '{address}/team/demo:1', command: [clock], deploy: {{replicas: 2, placement: {{max_replicas_per_node: 1}}}}}}
  pinned: {{image: '{address}/team/demo@{digest}', command: [clock]}}
"
    );
    fleet.apply("shop", &compose, &["--wait"]);
    fleet.wait_running("tagged", 2);
    fleet.wait_running("pinned", 1);
}

#[test]
fn the_variant_of_the_machine_runs_and_a_missing_one_is_named() {
    let registry = Registry::start(Access::Open);
    let mut demo = limpet_images::demo_builder();
    registry.push(&demo.platforms(&[foreign(), Platform::host()]).archive(), "both:1");
    registry.push(&demo.platforms(&[foreign()]).archive(), "foreign:1");
    let mut fleet = fleet();
    let address = registry.address();
    let compose = format!(
        "services:
  both: {{image: '{address}/both:1', command: [clock]}}
  alien: {{image: '{address}/foreign:1', command: [clock]}}
"
    );
    fleet.apply("shop", &compose, &[]);
    fleet.wait_running("both", 1);
    let alien = fleet.wait_reason("alien", "has no variant for");
    let reason = alien["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("{address}/foreign:1")), "{reason}");
    assert!(reason.contains(&foreign().to_string()), "{reason}");
    fleet.wait_running("both", 1);
    // Only the configuration of the variant that runs, and of the one that was refused never.
    let blobs = fs::read_dir(fleet.node_mut("n1").folder().join("data/images/blobs/sha256"));
    let texts: Vec<_> = blobs.unwrap().flatten().map(|b| fs::read(b.path()).unwrap()).collect();
    let configurations: Vec<serde_json::Value> = texts
        .iter()
        .filter_map(|text| serde_json::from_slice::<serde_json::Value>(text).ok())
        .filter(|json| json.get("rootfs").is_some())
        .collect();
    assert_eq!(configurations.len(), 1, "{configurations:?}");
    assert_eq!(configurations[0]["architecture"], Platform::host().architecture.as_str());
}

#[test]
fn a_registry_with_tls_is_trusted_by_its_ca_only() {
    let registry = Registry::start(Access::Tls);
    registry.push(&limpet_images::demo_archive(), "demo:1");
    let mut fleet = Fleet::start();
    let address = registry.address();
    let other = Registry::start(Access::Tls);
    // The wrong CA first: a certificate of somebody else is no way in.
    let ca = fleet.folder().join("ca.pem");
    fs::copy(other.ca(), &ca).unwrap();
    fleet.add_node_with("n1", &["--registry-ca", &format!("{address}={}", ca.display())]);
    fleet.apply("shop", &clock(&registry, "demo:1"), &[]);
    fleet.wait_reason("clock", "certificate");
    // The file is read anew for every pull.
    fs::copy(registry.ca(), &ca).unwrap();
    fleet.wait_running("clock", 1);
}

#[test]
fn a_registry_that_wants_a_password_is_named() {
    let registry = Registry::start(Access::Password);
    registry.push(&limpet_images::demo_archive(), "demo:1");
    let fleet = fleet();
    fleet.apply("shop", &clock(&registry, "demo:1"), &[]);
    let clock = fleet.wait_reason("clock", "does not let this node have");
    let reason = clock["reason"].as_str().unwrap();
    assert!(reason.contains(&registry.address()), "{reason}");
}

#[test]
fn a_blob_that_rotted_is_refused_until_it_is_mended() {
    let registry = Registry::start(Access::Open);
    registry.push(&limpet_images::demo_archive(), "demo:1");
    let blob = registry.largest_blob();
    let whole = fs::read(&blob).unwrap();
    let mut rotten = whole.clone();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 1;
    fs::write(&blob, rotten).unwrap();
    let mut fleet = fleet();
    fleet.apply("shop", &clock(&registry, "demo:1"), &[]);
    let sick = fleet.wait_reason("clock", "wrong digest");
    assert_ne!(sick["phase"], "running", "{sick}");
    assert_eq!(fleet.node_mut("n1").container_pids(), Vec::<u32>::new());
    fs::write(&blob, whole).unwrap();
    fleet.wait_running("clock", 1);
    let partial = fleet.node_mut("n1").folder().join("data/images/partial");
    wait_for("no half transfer to be left", || {
        let left = fs::read_dir(&partial).map_or(0, Iterator::count);
        (left == 0).then_some(())
    });
}
