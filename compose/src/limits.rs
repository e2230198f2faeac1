//! Every limit of the reader, with its reason.

/// Largest file that is read. Compose files of real applications have 1-50 KiB.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Deepest nesting of a file. The specification's deepest key is at 9.
pub const MAX_DEPTH: usize = 48;
/// Most nodes that a file may have after its aliases are expanded; a node's text counts one more
/// for every 64 bytes. This is what stops an alias bomb.
pub const MAX_NODES: usize = 100_000;
/// Longest value of a variable: the kernel takes no longer argument or variable (`MAX_ARG_STRLEN`).
pub const MAX_VALUE_BYTES: usize = 128 * 1024;
/// How much text the variables of one project may become in all.
pub const MAX_INTERPOLATED_BYTES: usize = 16 * 1024 * 1024;
/// Deepest nesting of defaults in one interpolation.
pub const MAX_INTERPOLATION_DEPTH: usize = 16;
/// Most files that one project may read, so that includes of includes end.
pub const MAX_FILE_READS: usize = 500;
/// Longest chain of `extends`.
pub const MAX_EXTENDS_DEPTH: usize = 32;
/// Deepest chain of `include`.
pub const MAX_INCLUDE_DEPTH: usize = 16;
/// Most ports that one range may stand for.
pub const MAX_PORT_RANGE: u32 = 4096;
/// Most diagnostics that are collected; the rest would not be read.
pub const MAX_DIAGNOSTICS: usize = 200;
