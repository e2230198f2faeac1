//! The `limpet` command as a library.
