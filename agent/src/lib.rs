//! The agent: one on each node, runs what its assignment says.

pub mod image;
pub mod runtime;
