//! Builds the images that the demo, the tests and the benchmarks run, without Docker.

/// The demo application: three services of the demo image.
pub const DEMO_COMPOSE: &str = include_str!("../demo/compose.yaml");

/// The demo image, tagged `limpet-demo:latest`, as an OCI archive.
#[must_use]
pub fn demo_archive() -> Vec<u8> {
    Vec::new()
}
