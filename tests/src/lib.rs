//! Whole-system tests: real broker, real containers, real network.
//!
//! The library is what the tests in `tests/` stand on; nothing of it is shipped.
