//! Optimizer updates: one pass over weights, gradients and state.
