//! What a node's kernel lacks, as sentences for people.

/// Something that the kernel cannot do, what that costs and how it is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Lack {
    /// No nf_tables.
    #[error(
        "the kernel has no nf_tables: containers are on no network; use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET"
    )]
    Rules,
    /// No veth.
    #[error(
        "the kernel has no veth devices: containers are on no network; use a kernel with CONFIG_VETH"
    )]
    Devices,
}
