//! OCI images: references, digests, platforms, manifests, verified blobs, archives, layouts.
//!
//! In: archives as `docker save`, `podman save`, `skopeo` and `buildah` write them, folders in the
//! OCI image layout, and bytes from registries. Out: content-addressed blobs that were verified
//! when they were written, and the references that name them. Synchronous; used by controller,
//! agent and image builder alike. The [`ImageLayout`] is what the controller keeps its images in.

pub mod archive;
pub mod blob;
pub mod compression;
pub mod digest;
pub mod layout;
pub mod manifest;
pub mod platform;
pub mod reference;

pub use archive::LoadedImage;
pub use blob::BlobStore;
pub use digest::Digest;
pub use layout::ImageLayout;
pub use platform::Platform;
pub use reference::Reference;
