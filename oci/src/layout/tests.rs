//! The life of a layout.
