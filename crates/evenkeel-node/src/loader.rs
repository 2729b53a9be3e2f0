//! Batches of images, made on a thread of their own while the compute thread runs the step before.

use crate::buffer::{Buffer, DType, Pool};
use crate::failure::{Failure, Outcome};
use evenkeel_kernels::image::{
    Augmentation, Images, Normalization, Pixels, gather_images, gather_labels,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Tensors that another thread makes: what it sends, in the order of the slots that wait for them.
pub type Delivery = Receiver<Outcome<Vec<Buffer>>>;

/// The stored values of a data set's images.
pub enum Stored {
    /// Bytes.
    U8(Vec<u8>),
    /// Floating point.
    F32(Vec<f32>),
}

/// A data set in memory: images `[count, height, width, channels]` and one label each.
pub struct Dataset {
    /// All pixels.
    pub pixels: Stored,
    /// One class index for each image.
    pub labels: Vec<i32>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Dataset {
    fn images(&self) -> Images<'_> {
        Images {
            pixels: match &self.pixels {
                Stored::U8(values) => Pixels::U8(values),
                Stored::F32(values) => Pixels::F32(values),
            },
            count: self.labels.len(),
            height: self.height,
            width: self.width,
            channels: self.channels,
        }
    }
}

/// One batch: which images, and what is done to them.
pub struct Batch {
    /// Where the images come from.
    pub dataset: Arc<Dataset>,
    /// Which ones, in the batch's order.
    pub indices: Vec<u32>,
    /// Taken from each value, by channel.
    pub mean: Vec<f32>,
    /// What the rest is multiplied with, by channel.
    pub scale: Vec<f32>,
    /// Crops and flips.
    pub augmentation: Option<Augmentation>,
}

impl Batch {
    /// The images `[batch, height, width, channels]` and the labels `[batch]`.
    fn make(&self, pool: &Pool) -> Outcome<Vec<Buffer>> {
        let images = self.dataset.images();
        let pixels = self.indices.len() * images.height * images.width * images.channels;
        let normalization = Normalization::new(images.width, &self.mean, &self.scale)?;
        let mut image_buffer = pool.take(DType::Float32, pixels)?;
        gather_images(
            &images,
            &normalization,
            self.augmentation.as_ref(),
            &self.indices,
            image_buffer.f32_mut()?,
        )?;
        let mut label_buffer = pool.take(DType::Int32, self.indices.len())?;
        gather_labels(&self.dataset.labels, &self.indices, label_buffer.i32_mut()?)?;
        Ok(vec![image_buffer, label_buffer])
    }
}

/// A thread that makes batches in the order they were asked for.
pub struct Loader {
    queue: Sender<(Batch, Sender<Outcome<Vec<Buffer>>>)>,
}

impl Loader {
    /// Starts the thread; its buffers come from `pool`. It ends when the loader is dropped.
    pub fn start(pool: Pool) -> Outcome<Loader> {
        let (queue, jobs) = channel::<(Batch, Sender<Outcome<Vec<Buffer>>>)>();
        std::thread::Builder::new()
            .name("evenkeel-loader".into())
            .spawn(move || {
                // A pool of this one thread: the kernel must not take threads from the training step.
                let _alone = rayon::ThreadPoolBuilder::new()
                    .num_threads(1)
                    .use_current_thread()
                    .build();
                while let Ok((batch, reply)) = jobs.recv() {
                    let made = catch_unwind(AssertUnwindSafe(|| batch.make(&pool)))
                        .unwrap_or_else(|_| Err(Failure::internal("panic in the loader")));
                    // The stream may have ended meanwhile; then nobody waits for the batch.
                    let _ = reply.send(made);
                }
            })
            .map_err(|error| Failure::internal(format!("cannot start a thread: {error}")))?;
        Ok(Loader { queue })
    }

    /// Asks for a batch; the images and the labels arrive in this order.
    pub fn request(&self, batch: Batch) -> Outcome<Delivery> {
        let (reply, delivery) = channel();
        self.queue
            .send((batch, reply))
            .map_err(|_| Failure::internal("the loader thread has ended"))?;
        Ok(delivery)
    }
}
