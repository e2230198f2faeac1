//! Builds the images that the demo, the tests and the benchmarks run
