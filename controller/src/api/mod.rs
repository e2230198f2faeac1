//! API: the one front door, for people, command line and machines.

pub mod types;
