//! Compose files in, applications out, with diagnostics
