//! The functions that TypeScript calls. Each catches panics; failures are returned as objects.

use crate::buffer::DType;
use crate::failure::{Failure, Outcome};
use crate::loader::{Batch, Dataset, Stored};
use crate::operations;
use crate::stream::{Reply, Stream};
use evenkeel_kernels::error::check_length;
use evenkeel_kernels::image::Augmentation;
use napi::bindgen_prelude::{Either, Env, Object, Result, Uint8Array};
use napi_derive::napi;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// What went wrong: `code` is one of `EvenkeelError`'s.
#[napi(object, js_name = "Failure")]
pub struct JsFailure {
    /// A stable code.
    pub code: String,
    /// What was given, what was expected.
    pub message: String,
}

impl From<Failure> for JsFailure {
    fn from(failure: Failure) -> Self {
        JsFailure {
            code: failure.code.to_owned(),
            message: failure.message.to_string(),
        }
    }
}

/// Bytes of a stream's buffers.
#[napi(object)]
pub struct Usage {
    /// In buffers in use, rounded up to their size classes.
    pub live_bytes: f64,
    /// The most that was ever in use.
    pub peak_bytes: f64,
    /// In buffers that wait for reuse.
    pub pool_bytes: f64,
}

static STREAMS: LazyLock<Mutex<HashMap<u32, Arc<Stream>>>> = LazyLock::new(Mutex::default);
static NEXT_STREAM: AtomicU32 = AtomicU32::new(1);

fn stream(id: u32) -> Outcome<Arc<Stream>> {
    STREAMS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&id)
        .cloned()
        .ok_or_else(|| Failure::new("DISPOSED", "this device's stream has ended"))
}

fn failed<T>(outcome: Outcome<T>) -> Option<JsFailure> {
    outcome.err().map(JsFailure::from)
}

/// The version of this binary; the TypeScript side checks that it is its own.
#[napi(catch_unwind)]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The names of the stream's operations; a command names one by its index here.
#[napi(catch_unwind)]
pub fn operation_names() -> Vec<&'static str> {
    operations::table()
        .into_iter()
        .map(|entry| entry.name)
        .collect()
}

/// The instruction set in use: `avx512`, `avx2`, `neon` or `portable`; a failure where `EVENKEEL_ISA` asks for one that this
/// processor lacks.
#[napi(catch_unwind)]
pub fn instruction_set() -> Either<&'static str, JsFailure> {
    match evenkeel_kernels::isa::requested_level() {
        Ok(_) => Either::A(evenkeel_kernels::isa::level().name()),
        Err(message) => Either::B(Failure::new("INVALID_ARGUMENT", message).into()),
    }
}

/// Starts a stream with a compute thread and returns its number. It ends with its JavaScript environment.
#[napi(catch_unwind)]
pub fn create_stream(env: Env, threads: u32) -> Result<Either<u32, JsFailure>> {
    let started = match Stream::start(threads as usize) {
        Ok(stream) => stream,
        Err(failure) => return Ok(Either::B(failure.into())),
    };
    let id = NEXT_STREAM.fetch_add(1, Ordering::Relaxed);
    STREAMS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(id, Arc::new(started));
    env.add_env_cleanup_hook(id, |id| {
        let ended = STREAMS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        if let Some(stream) = ended {
            stream.stop();
        }
    })?;
    Ok(Either::A(id))
}

/// Enqueues the commands in the first `length` words of `words`; `count` says how many they are.
#[napi(catch_unwind)]
pub fn submit(id: u32, words: &[f64], length: u32, count: u32) -> Option<JsFailure> {
    failed(stream(id).and_then(|stream| {
        let words = words
            .get(..length as usize)
            .ok_or_else(|| Failure::internal("the command buffer is too short"))?;
        stream.submit(words, count as usize)
    }))
}

/// Enqueues a new tensor in `slot` with a copy of `bytes`.
#[napi(catch_unwind)]
pub fn upload(id: u32, slot: u32, dtype: u32, bytes: &[u8]) -> Option<JsFailure> {
    failed(
        stream(id).and_then(|stream| {
            stream.upload(slot as usize, DType::from_code(dtype as usize)?, bytes)
        }),
    )
}

/// Enqueues new contents, a copy of `bytes`, for the tensor in `slot`.
#[napi(catch_unwind)]
pub fn overwrite(id: u32, slot: u32, bytes: &[u8]) -> Option<JsFailure> {
    failed(stream(id).and_then(|stream| stream.overwrite(slot as usize, bytes)))
}

fn settle(env: Env, request: impl FnOnce(Reply) -> Outcome) -> Result<Object<'static>> {
    type Answer = Either<Uint8Array, JsFailure>;
    type Resolver = Box<dyn FnOnce(Env) -> Result<Answer> + Send>;
    fn answer(outcome: Outcome<Vec<u8>>) -> Resolver {
        Box::new(move |_| {
            Ok(match outcome {
                Ok(bytes) => Either::A(Uint8Array::new(bytes)),
                Err(failure) => Either::B(failure.into()),
            })
        })
    }
    let (deferred, promise) = env.create_deferred::<Answer, Resolver>()?;
    // The promise is returned to JavaScript at once, inside the handle scope of this call.
    let promise = Object::from_raw(env.raw(), napi::JsValue::raw(&promise));
    let later = deferred.clone();
    if let Err(failure) = request(Box::new(move |outcome| later.resolve(answer(outcome)))) {
        deferred.resolve(answer(Err(failure)));
    }
    Ok(promise)
}

fn wait(request: impl FnOnce(Reply) -> Outcome) -> Either<Uint8Array, JsFailure> {
    let (sender, receiver) = channel();
    let outcome = request(Box::new(move |outcome| {
        // The receiver waits below until this is sent.
        let _ = sender.send(outcome);
    }))
    .and_then(|()| {
        receiver
            .recv()
            .unwrap_or_else(|_| Err(Failure::internal("the compute thread has ended")))
    });
    match outcome {
        Ok(bytes) => Either::A(Uint8Array::new(bytes)),
        Err(failure) => Either::B(failure.into()),
    }
}

/// The bytes of the tensor in `slot`, when the stream has reached this point.
#[napi(catch_unwind, ts_return_type = "Promise<Uint8Array | Failure>")]
pub fn read(env: Env, id: u32, slot: u32) -> Result<Object<'static>> {
    settle(env, |reply| stream(id)?.read(slot as usize, reply))
}

/// The same, blocking the JavaScript thread.
#[napi(catch_unwind)]
pub fn read_sync(id: u32, slot: u32) -> Either<Uint8Array, JsFailure> {
    wait(|reply| stream(id)?.read(slot as usize, reply))
}

/// Resolves when the stream has done everything enqueued so far.
#[napi(catch_unwind, ts_return_type = "Promise<Uint8Array | Failure>")]
pub fn fence(env: Env, id: u32) -> Result<Object<'static>> {
    settle(env, |reply| stream(id)?.fence(reply))
}

/// The same, blocking the JavaScript thread.
#[napi(catch_unwind)]
pub fn fence_sync(id: u32) -> Either<Uint8Array, JsFailure> {
    wait(|reply| stream(id)?.fence(reply))
}

/// Times every command from here on.
#[napi(catch_unwind)]
pub fn start_profile(id: u32) -> Option<JsFailure> {
    failed(stream(id).and_then(|stream| stream.start_profile()))
}

/// Stops timing. Resolves to three f64 for each command: the operation's index, its start and its duration in seconds.
#[napi(catch_unwind, ts_return_type = "Promise<Uint8Array | Failure>")]
pub fn stop_profile(env: Env, id: u32) -> Result<Object<'static>> {
    settle(env, |reply| stream(id)?.stop_profile(reply))
}

/// Uses `threads` threads for what is enqueued from now on.
#[napi(catch_unwind)]
pub fn set_threads(id: u32, threads: u32) -> Option<JsFailure> {
    failed(stream(id).and_then(|stream| stream.set_threads(threads as usize)))
}

/// How much memory the stream's buffers hold.
#[napi(catch_unwind)]
pub fn usage(id: u32) -> Either<Usage, JsFailure> {
    match stream(id) {
        Ok(stream) => {
            let usage = stream.pool().usage();
            Either::A(Usage {
                live_bytes: usage.live as f64,
                peak_bytes: usage.peak as f64,
                pool_bytes: usage.free as f64,
            })
        }
        Err(failure) => Either::B(failure.into()),
    }
}

/// Returns the buffers that wait for reuse to the system.
#[napi(catch_unwind)]
pub fn trim(id: u32) -> Option<JsFailure> {
    failed(stream(id).map(|stream| stream.pool().trim()))
}

/// Tells V8 that JavaScript objects hold `delta` more bytes outside its heap, so that collections start in time.
#[napi(catch_unwind)]
pub fn adjust_external_memory(env: Env, delta: i64) -> Result<i64> {
    env.adjust_external_memory(delta)
}

static DATASETS: LazyLock<Mutex<HashMap<u32, Arc<Dataset>>>> = LazyLock::new(Mutex::default);
static NEXT_DATASET: AtomicU32 = AtomicU32::new(1);

fn datasets() -> std::sync::MutexGuard<'static, HashMap<u32, Arc<Dataset>>> {
    DATASETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies a data set for the loader threads: `pixels` are `[labels.length, height, width, channels]`. Returns its number.
#[napi(catch_unwind)]
pub fn create_dataset(
    pixels: Either<&[u8], &[f32]>,
    labels: &[i32],
    height: u32,
    width: u32,
    channels: u32,
) -> Either<u32, JsFailure> {
    let (height, width, channels) = (height as usize, width as usize, channels as usize);
    let made = evenkeel_kernels::error::checked_product(
        "images",
        &[labels.len(), height, width, channels],
    )
    .and_then(|expected| {
        let pixels = match pixels {
            Either::A(bytes) => Stored::U8(bytes.to_vec()),
            Either::B(values) => Stored::F32(values.to_vec()),
        };
        let actual = match &pixels {
            Stored::U8(values) => values.len(),
            Stored::F32(values) => values.len(),
        };
        check_length("pixels", actual, expected)?;
        Ok(Dataset {
            pixels,
            labels: labels.to_vec(),
            height,
            width,
            channels,
        })
    });
    match made {
        Ok(dataset) => {
            let id = NEXT_DATASET.fetch_add(1, Ordering::Relaxed);
            datasets().insert(id, Arc::new(dataset));
            Either::A(id)
        }
        Err(error) => Either::B(Failure::from(error).into()),
    }
}

/// Forgets a data set; batches under way still finish.
#[napi(catch_unwind)]
pub fn release_dataset(id: u32) {
    datasets().remove(&id);
}

/// What is done to the images of a batch.
#[napi(object)]
pub struct BatchOptions {
    /// Taken from each value, by channel.
    pub mean: Vec<f64>,
    /// What the rest is multiplied with, by channel.
    pub scale: Vec<f64>,
    /// Zero pixels around the image before a part of its size is cut out at random; 0 for no crop.
    pub crop_padding: u32,
    /// Whether half of the images are mirrored.
    pub flip: bool,
    /// The seed of crops and flips: its lower and upper 32 bits.
    pub seed_low: u32,
    /// See `seed_low`.
    pub seed_high: u32,
    /// The pass over the data.
    pub epoch: u32,
}

/// Has the loader thread make the batch of the images at `indices`, from now on; returns its number.
#[napi(catch_unwind)]
pub fn request_batch(
    id: u32,
    dataset: u32,
    indices: &[u32],
    options: BatchOptions,
) -> Either<u32, JsFailure> {
    let requested = stream(id).and_then(|stream| {
        let dataset = datasets()
            .get(&dataset)
            .cloned()
            .ok_or_else(|| Failure::new("DISPOSED", "this data set was released"))?;
        let augmentation = (options.crop_padding > 0 || options.flip).then_some(Augmentation {
            crop_padding: options.crop_padding as usize,
            flip: options.flip,
            seed: u64::from(options.seed_high) << 32 | u64::from(options.seed_low),
            epoch: options.epoch,
        });
        let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        stream.request(Batch {
            dataset,
            indices: indices.to_vec(),
            mean: narrow(options.mean),
            scale: narrow(options.scale),
            augmentation,
        })
    });
    match requested {
        Ok(number) => Either::A(number),
        Err(failure) => Either::B(failure.into()),
    }
}

/// Enqueues the two tensors of a requested batch. The stream waits for the loader when it gets there.
#[napi(catch_unwind)]
pub fn deliver_batch(id: u32, batch: u32, image_slot: u32, label_slot: u32) -> Option<JsFailure> {
    failed(
        stream(id)
            .and_then(|stream| stream.deliver(batch, [image_slot as usize, label_slot as usize])),
    )
}

/// Takes back the request of a batch that nobody will use.
#[napi(catch_unwind)]
pub fn cancel_batch(id: u32, batch: u32) {
    if let Ok(stream) = stream(id) {
        drop(stream.withdraw(batch));
    }
}
