//! Whole-system tests: real broker, real containers, real network
