//! Batches of images: gather, crop with padding, flip, normalize.
