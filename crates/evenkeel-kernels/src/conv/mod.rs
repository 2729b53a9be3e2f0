//! 2-D convolution: forward, backward to data, backward to weights.
