//! Rules as a plain value.

/// All rules of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// The table they are in.
    pub table: String,
}
