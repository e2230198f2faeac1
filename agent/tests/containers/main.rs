//! Real containers through a real keeper: needs root. Every test has its own folders, its own
//! cgroup parent and its own keeper, and leaves nothing.

mod bench;
mod isolation;
mod life;
mod limits;
mod node;
mod recovery;
