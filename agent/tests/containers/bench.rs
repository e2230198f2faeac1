//! How quick it is, printed; run with `--ignored --nocapture`.
