//! What can go wrong between a reference and an unpacked image, in words for `limpet ps`.

/// An image that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The registry has no such image.
    #[error("image \"{image}\" does not exist in registry {registry}")]
    NotFound {
        /// The reference as written.
        image: String,
        /// Which registry was asked.
        registry: String,
    },
    /// Nothing of what is offered runs on this node.
    #[error("image \"{image}\" has no variant for {wanted}: there are {offered}")]
    NoVariant {
        /// The reference as written.
        image: String,
        /// What was looked for.
        wanted: String,
        /// What there is.
        offered: String,
    },
}
