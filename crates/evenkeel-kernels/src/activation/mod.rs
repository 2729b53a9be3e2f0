//! Activation functions as vector expressions, alone and inside fused kernels.
