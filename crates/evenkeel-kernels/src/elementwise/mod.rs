//! Elementwise arithmetic with broadcasting.

pub(crate) mod map;
