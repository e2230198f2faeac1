//! The central controller: desired state in, assignments out.
//!
//! The folders are the flow: [`api`] ▶ [`store`] ▶ `plan` ▶ `rollout` ▶ `dispatch`, and back through `observe`.

pub mod answer;
pub mod api;
pub mod auth;
pub mod broker;
mod claims;
pub mod clock;
pub mod config;
mod contents;
pub mod control_loop;
pub mod dispatch;
pub mod explain;
pub mod network;
pub mod observe;
pub mod plan;
pub mod preview;
pub mod process;
pub mod rollout;
pub mod run;
pub mod scale;
pub mod store;
mod world;

pub use run::{Ready, RunError, run};
