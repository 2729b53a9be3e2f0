//! The packed convolution on one thread, in binary multiplications a cycle: the four 3×3 layers of a ResNet-18 at 224².
//!
//! `cargo bench --bench binary` prints a table of all instruction sets first: the limit, which is a loop of the same instructions with all
//! operands in the first-level cache; then each layer, and how many times faster it is than the float convolution of the same
//! instruction set, which is Winograd's algorithm, and than the float convolution by its definition; then criterion's times of the best one.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use evenkeel_kernels::binary::{
    BinaryConv2d, Epilogue, Layer, LayerActivation, LayerFunction, PaddingValue, binary_conv2d,
    pack_signs, pack_weights,
};
use evenkeel_kernels::conv::{Conv2dGeometry, Conv2dOptions, conv2d_forward};
use evenkeel_kernels::isa::bits::{BitOp, BitSimd, dispatch_bits};
use evenkeel_kernels::isa::{self, Level, bits};
use std::hint::black_box;
use std::time::{Duration, Instant};

const LAYERS: [(usize, usize); 4] = [(64, 56), (128, 28), (256, 14), (512, 7)];

/// Values that begin at a cache line, as the tensors of the library do.
struct Aligned<T> {
    values: Vec<T>,
    start: usize,
}

impl<T: Copy> Aligned<T> {
    fn new(value: T, length: usize) -> Self {
        let values = vec![value; length + 64 / size_of::<T>()];
        let start = values.as_ptr().align_offset(64);
        let mut aligned = Aligned { values, start };
        aligned.values.truncate(start + length);
        aligned
    }

    fn all(&self) -> &[T] {
        &self.values[self.start..]
    }

    fn all_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..]
    }
}

struct Case {
    geometry: BinaryConv2d,
    input: Aligned<u32>,
    weight: Aligned<u32>,
    scale: Aligned<f32>,
    output: Aligned<f32>,
    scratch: Aligned<u32>,
    multiplications: usize,
}

impl Case {
    fn new(channels: usize, size: usize) -> Self {
        let geometry = BinaryConv2d {
            batch: 1,
            size: [size, size],
            in_channels: channels,
            out_channels: channels,
            kernel: [3, 3],
            stride: [1, 1],
            padding: [1, 1],
            dilation: [1, 1],
            padding_value: PaddingValue::Zero,
        };
        let plan = geometry.plan().unwrap();
        let values = |count: usize| -> Vec<f32> {
            (0..count as u32)
                .map(|i| (i.wrapping_mul(0x9e37_79b9) >> 16) as f32 - 32768.0)
                .collect()
        };
        let mut input = Aligned::new(0, plan.input_words());
        let images = values(size * size * channels);
        pack_signs(&images, None, channels, input.all_mut()).unwrap();
        let mut weight = Aligned::new(0, plan.weight_words());
        let weights = values(9 * channels * channels);
        pack_weights(&weights, 9, channels, channels, weight.all_mut()).unwrap();
        Case {
            geometry,
            input,
            weight,
            scale: Aligned::new(0.01, channels),
            output: Aligned::new(0.0, plan.output_length()),
            scratch: Aligned::new(0, plan.scratch_words()),
            multiplications: plan.multiplications(),
        }
    }

    fn run(&mut self) {
        let epilogue = Epilogue::Layer(Layer {
            function: LayerFunction {
                scale: self.scale.all(),
                normalize: None,
                activation: LayerActivation::None,
            },
            residual: None,
            output: Some(self.output.all_mut()),
            signs: None,
        });
        binary_conv2d(
            &self.geometry,
            black_box(self.input.all()),
            self.weight.all(),
            epilogue,
            self.scratch.all_mut(),
        )
        .unwrap();
    }
}

/// Seconds of the float convolution of the same sizes. With a dilation of 2 the sums are as long, but no fast algorithm covers them.
fn float_seconds(channels: usize, size: usize, dilation: usize) -> f64 {
    let options = Conv2dOptions {
        padding: [dilation; 2],
        dilation: [dilation; 2],
        ..Conv2dOptions::default()
    };
    let geometry =
        Conv2dGeometry::new(1, [size, size], channels, channels, [3, 3], options).unwrap();
    let input = Aligned::new(1.0, geometry.input_length());
    let weight = Aligned::new(1.0, geometry.weight_length());
    let mut output = Aligned::new(0.0, geometry.output_length());
    one_thread(|| {
        fastest(|| {
            let (input, weight) = (input.all(), weight.all());
            conv2d_forward(&geometry, input, weight, None, output.all_mut()).unwrap();
        })
    })
}

/// Seconds of the fastest of many short windows: neighbours on the machine only ever add time.
fn fastest(mut body: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed() < Duration::from_millis(250) {
        let window = Instant::now();
        body();
        best = best.min(window.elapsed().as_secs_f64());
    }
    best
}

/// Comparisons of vectors from the first-level cache, in the proportions of the widest register tile, and nothing else: what the
/// processor can do.
struct Limit<'a>(&'a [u32]);

impl Limit<'_> {
    const STEPS: usize = 4096;
    const WEIGHTS: usize = 4;
    const INPUTS: usize = 6;
    const WORDS: usize = 2048;
}

impl BitOp for Limit<'_> {
    /// Comparisons of bits.
    type Output = usize;

    #[inline(always)]
    fn call<S: BitSimd>(self, simd: S) -> usize {
        const INPUTS: usize = Limit::INPUTS;
        const WEIGHTS: usize = Limit::WEIGHTS;
        let mut tallies = [[simd.nothing(); INPUTS]; WEIGHTS];
        for step in 0..Self::STEPS {
            let words = &self.0[step * 16 % (Self::WORDS - 256)..][..16 * (INPUTS + WEIGHTS)];
            let mut weights = [simd.splat(0); WEIGHTS];
            for v in 0..WEIGHTS {
                // SAFETY: LANES divides 16, and there are 16 words for each vector.
                weights[v] = unsafe { simd.load(words.as_ptr().add(16 * v)) };
            }
            for p in 0..INPUTS {
                // SAFETY: as above.
                let input = unsafe { simd.load(words.as_ptr().add(16 * (WEIGHTS + p))) };
                for v in 0..WEIGHTS {
                    tallies[v][p] = simd.differences(tallies[v][p], input, weights[v]);
                }
            }
        }
        let mut sum = simd.splat(0);
        for row in tallies {
            for tally in row {
                sum = simd.add(sum, simd.total(tally));
            }
        }
        let mut lanes = [0; 16];
        // SAFETY: LANES divides 16.
        unsafe { simd.store(sum, lanes.as_mut_ptr()) };
        black_box(lanes);
        Self::STEPS * INPUTS * WEIGHTS * S::LANES * 32
    }
}

/// Comparisons of bits a second at the current level.
fn limit() -> f64 {
    let words: Aligned<u32> = Aligned::new(0x5555_1234, Limit::WORDS);
    let mut bits = 0;
    let seconds = fastest(|| bits = dispatch_bits(Limit(black_box(words.all()))));
    bits as f64 / seconds
}

/// Cycles a second, from a chain of six instructions of one cycle each.
fn clock() -> f64 {
    const STEPS: usize = 50_000;
    let seconds = fastest(|| {
        let mut x = black_box(1u64);
        for _ in 0..STEPS {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        black_box(x);
    });
    6.0 * STEPS as f64 / seconds
}

fn one_thread<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.unwrap().install(body)
}

fn table() {
    let clock = clock();
    println!(
        "binary multiplications a cycle at {:.2} GHz (and how many times faster than float by Winograd's algorithm, and directly):",
        clock / 1e9
    );
    for level in Level::available().into_iter().rev() {
        isa::force_level(level);
        for popcount in [true, false] {
            let used = bits::set_vector_popcount(popcount) && level == Level::Avx512;
            if !popcount && (level != Level::Avx512 || !bits::has_vector_popcount()) {
                continue;
            }
            let name = format!("{}{}", level.name(), if used { " + popcount" } else { "" });
            let rates: Vec<String> = LAYERS
                .iter()
                .map(|&(channels, size)| {
                    let mut layer = Case::new(channels, size);
                    let seconds = one_thread(|| fastest(|| layer.run()));
                    let rate = layer.multiplications as f64 / seconds / clock;
                    let [winograd, direct] =
                        [1, 2].map(|dilation| float_seconds(channels, size, dilation) / seconds);
                    format!("{channels}@{size}²: {rate:.0} ({winograd:.1} x, {direct:.1} x)")
                })
                .collect();
            println!(
                "  {name:22} limit {:4.0}   {}",
                limit() / clock,
                rates.join("  ")
            );
        }
    }
    bits::set_vector_popcount(true);
    isa::force_level(Level::available().pop().unwrap());
}

fn convolution(criterion: &mut Criterion) {
    table();
    let mut group = criterion.benchmark_group("binary conv2d 3x3");
    for (channels, size) in LAYERS {
        let mut layer = Case::new(channels, size);
        group.throughput(Throughput::Elements(layer.multiplications as u64));
        group.bench_function(format!("{channels}@{size}"), |bencher| {
            one_thread(|| bencher.iter(|| layer.run()));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(10);
    targets = convolution
}
criterion_main!(benches);
