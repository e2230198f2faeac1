//! One file a verb. Each holds the verb's arguments with their help, and what it does.

pub mod agent;
pub mod apply;
pub mod apps;
pub mod change;
pub mod completion;
pub mod config;
pub mod controller;
pub mod events;
pub mod explain;
pub mod image;
pub mod inspect;
pub mod logs;
pub mod node;
pub mod plan;
pub mod ps;
pub mod restart;
pub mod rm;
pub mod scale;
pub mod services;
pub mod start;
pub mod stop;
pub mod token;
pub mod up;
pub mod version;
pub mod wait;
