//! Elementwise arithmetic with broadcasting.
