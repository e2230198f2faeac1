//! Rules as the kernel's nf_tables take them.
//!
//! In: a [`Ruleset`]. Out: one batch of messages, which the kernel takes or leaves as a whole; that it
//! takes the place of what was there is part of it. Numbers and layouts: linux/netfilter/nf_tables.h and
//! nfnetlink.h; all numbers of a message are in the order of the network, the contents of registers in
//! that of the packet or, where the kernel made them, of the machine.
//!
//! [`Ruleset`]: crate::rules::Ruleset

mod batch;
mod expression;
mod registers;

pub(crate) use batch::{
    CHAIN_NAME, CHAIN_TABLE, GENERATION, HEADER_BYTES, TABLE_HANDLE, TABLE_NAME, check,
    get_generation, get_table, list_chains, list_tables, remove, replace,
};
