//! Batches of images: gather, crop with padding, flip, normalize, in one pass from the stored pixels to f32.

mod augmentation;
mod gather;

pub use augmentation::{Augmentation, Placement};
pub use gather::{Images, Normalization, Pixels, gather_images, gather_labels};

#[cfg(test)]
mod tests;
