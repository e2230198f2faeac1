//! How the containers of one node find and reach each other, those of other nodes, and the outside.
//!
//! The deciding half takes values and returns values. The doing half applies them.
//!
//! - [`picture`]: everything that is known, as one value. All else is made of it.
//! - [`names`]: what names mean to whom; deciding.
//! - [`dns`]: the name server that says so to the containers.
//! - [`tunnel`]: the way to other nodes.
//! - [`neighbours`]: what nodes tell each other through it.

pub mod dns;
pub mod names;
pub mod neighbours;
pub mod picture;
pub mod tunnel;
