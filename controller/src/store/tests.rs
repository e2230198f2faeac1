//! The store against a model, and what it does with bad files.
