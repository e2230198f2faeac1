//! The nouns of Limpet and how they look on the wire.
//!
//! Everything that controller, agent and command line say to each other is defined here and only
//! here: names ([`id`]), what a service is ([`spec`], [`application`]), what a node shall run
//! ([`assignment`]) and how many by its load ([`scale`]), what it does run ([`report`], [`phase`]), the
//! envelopes ([`message`]), where they are published ([`topic`]) and at which broker ([`broker_url`]), how the bytes look ([`codec`])
//! and how large anything may be ([`limits`]).
//!
//! The crate is `no_std` so that the compiler keeps it pure: no clock, no files, no network.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod application;
pub mod assignment;
pub mod broker_url;
pub mod byte_string;
pub mod call;
pub mod codec;
pub mod cron;
pub mod dns_name;
pub mod event;
pub mod host_address;
pub mod id;
pub mod label;
pub mod limits;
pub mod load;
pub mod message;
pub mod network;
pub mod phase;
pub mod report;
pub mod scale;
pub mod spec;
pub mod topic;
pub mod window;
pub mod zone;
