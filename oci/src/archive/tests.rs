//! Archives of every tool, and hostile ones.
