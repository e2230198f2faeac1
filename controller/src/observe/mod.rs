//! Reports in: what nodes say, and how they stand.
//!
//! In: messages from the broker, bytes that anybody may have made up. Out: news for the planner,
//! the store and the views. A node is believed about itself only; what is old, repeated, absurd or
//! of nobody known changes nothing ([`hear`]).

mod hear;
pub mod liveness;
pub mod node;
pub mod node_view;
pub mod noise;
mod ports_view;
pub(crate) mod scale_view;
pub mod view;

#[cfg(test)]
mod tests;
