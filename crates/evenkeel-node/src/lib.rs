//! The N-API binding of `evenkeel-kernels`: tensors as numbered slots on a compute thread's stream.
//!
//! Across this boundary go numbers and typed arrays, in coarse calls. Nothing here computes: `operations` decodes a command
//! and calls one kernel. A failure is a value (`Failure`), never a JavaScript exception and never a crash.

// Builds for tests leave out napi's table of functions, through which everything here is called.
#![cfg_attr(test, allow(dead_code))]

mod arguments;
mod binding;
mod buffer;
mod failure;
mod heap;
mod loader;
mod operations;
mod segments;
mod stream;
