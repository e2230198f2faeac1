//! How the containers of one node find and reach each other, those of other nodes, and the outside.
//!
//! The deciding half takes values and returns values. The doing half applies them.
//!
//! - [`picture`]: everything that is known, as one value. All else is made of it.

pub mod picture;
