//! How the containers of one node find and reach each other, those of other nodes, and the outside.
//!
//! The deciding half takes values and returns values. The doing half applies them.
//!
//! - [`picture`]: everything that is known, as one value. All else is made of it.
//! - [`tag`]: how tables and devices are called, so that several agents do not meet.
//! - [`addresses`]: which container has which address, and which address stands for which service;
//!   deciding.
//! - [`names`]: what names mean to whom; deciding.
//! - [`rules`]: who may reach whom, and where connections are led, as one value; deciding.
//! - [`datapath`]: devices, namespaces and rules as the kernel has them.
//! - [`namespace`]: network namespaces, made without a mount and without a fork.
//! - [`dns`]: the name server that answers the containers.
//! - [`tunnel`]: the way to other nodes.
//! - [`neighbours`]: what nodes tell each other through it.
//! - [`activator`]: connections to services that have no instance just now are held until one is ready.

pub mod activator;
pub mod addresses;
pub mod datapath;
pub mod dns;
pub mod names;
pub mod namespace;
pub mod neighbours;
mod netlink;
mod nft;
pub mod picture;
pub mod rules;
mod sysctl;
pub mod tag;
pub mod tunnel;
