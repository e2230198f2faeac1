//! One file a verb. Each holds the verb's arguments with their help, and what it does.

pub mod agent;
pub mod apply;
pub mod apps;
pub mod completion;
pub mod config;
pub mod controller;
pub mod events;
pub mod image;
pub mod logs;
pub mod node;
pub mod ps;
pub mod rm;
pub mod services;
pub mod token;
pub mod up;
pub mod version;
pub mod wait;
