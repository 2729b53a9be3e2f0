//! Normalization, one file per method, each with its activation fused.
