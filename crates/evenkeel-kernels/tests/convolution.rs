//! Convolution against a naive f64 oracle: every pass, every instruction set of this machine, one to three threads.
//!
//! `isa::force_level` is global, so everything that forces a level runs inside one test.

use evenkeel_kernels::conv::{
    Conv2dGeometry, Conv2dOptions, bias_gradient, conv2d_backward_data, conv2d_backward_weights,
    conv2d_forward,
};
use evenkeel_kernels::gemm::matmul;
use evenkeel_kernels::isa::{Level, force_level, level};

/// A small generator with a fixed seed: xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }
    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
            .collect()
    }
}

/// Calls `visit(input element, weight element, output element)` for every multiplication.
fn multiplications(g: &Conv2dGeometry, mut visit: impl FnMut(usize, usize, usize)) {
    let [height, width] = g.size();
    let [out_height, out_width] = g.out_size();
    let [kernel_height, kernel_width] = g.kernel();
    let o = g.options();
    let (inputs, outputs) = (g.in_channels() / o.groups, g.out_channels() / o.groups);
    for n in 0..g.batch() {
        for oy in 0..out_height {
            for ox in 0..out_width {
                for r in 0..kernel_height {
                    for s in 0..kernel_width {
                        let y = (oy * o.stride[0] + r * o.dilation[0]).wrapping_sub(o.padding[0]);
                        let x = (ox * o.stride[1] + s * o.dilation[1]).wrapping_sub(o.padding[1]);
                        if y >= height || x >= width {
                            continue;
                        }
                        for k in 0..g.out_channels() {
                            let group = k / outputs;
                            for c in 0..inputs {
                                visit(
                                    ((n * height + y) * width + x) * g.in_channels()
                                        + group * inputs
                                        + c,
                                    ((r * kernel_width + s) * inputs + c) * g.out_channels() + k,
                                    ((n * out_height + oy) * out_width + ox) * g.out_channels() + k,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

fn close(actual: &[f32], expected: &[f64], what: &str) {
    assert_eq!(actual.len(), expected.len());
    let scale = expected.iter().fold(1e-30f64, |m, x| m.max(x.abs()));
    for (index, (&x, &y)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(x) - y).abs() <= 4e-6 * scale,
            "{what}: element {index} is {x}, expected {y} (largest {scale})"
        );
    }
}

struct Case {
    geometry: Conv2dGeometry,
    input: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    gradient: Vec<f32>,
    output: Vec<f64>,
    input_gradient: Vec<f64>,
    weight_gradient: Vec<f64>,
}

impl Case {
    fn new(geometry: Conv2dGeometry, random: &mut Random) -> Case {
        let input = random.values(geometry.input_length());
        let weight = random.values(geometry.weight_length());
        let bias = random.values(geometry.out_channels());
        let gradient = random.values(geometry.output_length());
        let mut output: Vec<f64> = (0..geometry.output_length())
            .map(|i| f64::from(bias[i % geometry.out_channels()]))
            .collect();
        let mut input_gradient = vec![0.0; input.len()];
        let mut weight_gradient = vec![0.0; weight.len()];
        multiplications(&geometry, |i, w, o| {
            output[o] += f64::from(input[i]) * f64::from(weight[w]);
            input_gradient[i] += f64::from(gradient[o]) * f64::from(weight[w]);
            weight_gradient[w] += f64::from(input[i]) * f64::from(gradient[o]);
        });
        Case {
            geometry,
            input,
            weight,
            bias,
            gradient,
            output,
            input_gradient,
            weight_gradient,
        }
    }

    /// All passes; outputs start as NaN, so that an element left unwritten is found.
    fn run(&self) -> [Vec<f32>; 3] {
        let g = &self.geometry;
        let mut y = vec![f32::NAN; g.output_length()];
        let mut dx = vec![f32::NAN; g.input_length()];
        let mut dw = vec![f32::NAN; g.weight_length()];
        conv2d_forward(g, &self.input, &self.weight, Some(&self.bias), &mut y).unwrap();
        conv2d_backward_data(g, &self.gradient, &self.weight, &mut dx).unwrap();
        conv2d_backward_weights(g, &self.input, &self.gradient, &mut dw).unwrap();
        [y, dx, dw]
    }

    fn check(&self) {
        let [y, dx, dw] = self.run();
        let name = format!("{} {:?}", level().name(), self.geometry);
        close(&y, &self.output, &format!("forward {name}"));
        close(&dx, &self.input_gradient, &format!("input gradient {name}"));
        close(
            &dw,
            &self.weight_gradient,
            &format!("weight gradient {name}"),
        );
    }
}

fn geometry(
    batch: usize,
    size: [usize; 2],
    channels: [usize; 2],
    kernel: [usize; 2],
    options: Conv2dOptions,
) -> Conv2dGeometry {
    Conv2dGeometry::new(batch, size, channels[0], channels[1], kernel, options).unwrap()
}

fn same(stride: usize, kernel: usize) -> Conv2dOptions {
    Conv2dOptions {
        stride: [stride; 2],
        padding: [kernel / 2; 2],
        ..Conv2dOptions::default()
    }
}

fn cases() -> Vec<Case> {
    let mut random = Random(0x5EED);
    let mut cases = Vec::new();
    let mut add = |geometry| cases.push(Case::new(geometry, &mut random));
    // Channels around every vector's width, both ways.
    for channels in [1, 3, 7, 15, 16, 17, 33, 63, 64, 65] {
        add(geometry(2, [5, 6], [channels, 18], [3, 3], same(1, 3)));
        add(geometry(2, [5, 6], [5, channels], [3, 3], same(1, 3)));
        add(geometry(
            1,
            [5, 5],
            [channels, channels],
            [1, 1],
            same(1, 1),
        ));
    }
    // Strides, on maps that they divide and do not.
    for stride in [1, 2, 3] {
        for (size, kernel) in [(8, 3), (7, 3), (9, 1), (8, 1), (11, 5), (9, 7), (3, 2)] {
            add(geometry(
                2,
                [size, size + 1],
                [6, 19],
                [kernel; 2],
                same(stride, kernel),
            ));
        }
    }
    // The smallest maps.
    add(geometry(3, [1, 1], [17, 9], [1, 1], same(1, 1)));
    add(geometry(3, [1, 1], [17, 9], [3, 3], same(1, 3)));
    add(geometry(1, [1, 1], [3, 5], [3, 3], same(2, 3)));
    add(geometry(2, [2, 1], [16, 16], [2, 1], same(2, 1)));
    add(geometry(0, [4, 4], [3, 16], [3, 3], same(1, 3)));
    // Padding larger than the kernel needs, and larger than the image.
    let padded = |padding| Conv2dOptions {
        padding,
        stride: [3, 2],
        ..Conv2dOptions::default()
    };
    add(geometry(2, [3, 4], [4, 5], [3, 3], padded([5, 4])));
    add(geometry(1, [1, 1], [4, 5], [1, 1], padded([3, 3])));
    // Dilation.
    for dilation in [[2, 2], [1, 3], [3, 1]] {
        for stride in [1, 2] {
            let options = Conv2dOptions {
                dilation,
                stride: [stride, 3 - stride],
                padding: [2, 1],
                groups: 1,
            };
            add(geometry(2, [9, 8], [7, 17], [3, 3], options));
        }
    }
    // Groups, depthwise with and without a multiplier.
    for (groups, channels) in [
        (2, [8, 34]),
        (3, [9, 6]),
        (4, [4, 8]),
        (5, [5, 5]),
        (33, [33, 33]),
    ] {
        for stride in [1, 2] {
            let options = Conv2dOptions {
                groups,
                ..same(stride, 3)
            };
            add(geometry(2, [7, 6], channels, [3, 3], options));
        }
    }
    let depthwise = |groups, dilation| Conv2dOptions {
        groups,
        dilation: [dilation; 2],
        padding: [2; 2],
        ..Conv2dOptions::default()
    };
    add(geometry(3, [9, 9], [20, 20], [5, 5], depthwise(20, 1)));
    add(geometry(3, [9, 9], [17, 17], [3, 3], depthwise(17, 2)));
    // Depthwise 3x3: tiles at both edges and between them, rows cut into parts, every padding, channels around a vector.
    for (size, channels) in [([5, 27], 17), ([30, 33], 16), ([3, 4], 33), ([1, 1], 3)] {
        for padding in [0, 1, 2, 3] {
            for stride in [1, 2] {
                if size.iter().all(|&size| size + 2 * padding >= 3) {
                    let options = Conv2dOptions {
                        groups: channels,
                        padding: [padding, padding / 2 + 1],
                        stride: [stride; 2],
                        ..Conv2dOptions::default()
                    };
                    add(geometry(2, size, [channels; 2], [3, 3], options));
                }
            }
        }
    }
    // Enough pixels for several parts per image, and enough images for several per part.
    add(geometry(1, [40, 45], [5, 17], [3, 3], same(1, 3)));
    add(geometry(1, [41, 38], [16, 16], [3, 3], same(2, 3)));
    add(geometry(70, [4, 4], [8, 24], [3, 3], same(1, 3)));
    add(geometry(40, [7, 7], [24, 24], [3, 3], same(1, 3)));
    // Every tile of Winograd's algorithms, whole and cut off, with every padding they take, and the sizes around them.
    for size in [[4, 4], [6, 6], [7, 8], [9, 11], [13, 5], [2, 2], [1, 9]] {
        for padding in [0, 1, 2] {
            if size.iter().all(|&size| size + 2 * padding >= 3) {
                let options = Conv2dOptions {
                    padding: [padding; 2],
                    ..Conv2dOptions::default()
                };
                add(geometry(2, size, [17, 35], [3, 3], options));
            }
        }
    }
    for channels in [8, 15, 16, 17, 33, 63, 64, 65] {
        add(geometry(2, [8, 7], [channels, 18], [3, 3], same(1, 3)));
        add(geometry(2, [8, 7], [9, channels], [3, 3], same(1, 3)));
    }
    // Stride 2 by phases: one tile, several, whole and cut off, an even and an odd size; every way to cut the work.
    for (batch, size) in [
        (32, [8, 7]),
        (33, [5, 8]),
        (8, [14, 15]),
        (9, [13, 16]),
        (4, [21, 24]),
        (12, [16, 16]),
    ] {
        for channels in [[17, 35], [16, 16], [33, 18], [65, 63]] {
            add(geometry(batch, size, channels, [3, 3], same(2, 3)));
        }
    }
    add(geometry(9, [14, 14], [120, 130], [3, 3], same(2, 3)));
    // First layers, filtered along rows: three and four taps, whole and cut-off tiles, strides, paddings, several parts.
    for (size, kernel, stride) in [
        ([9, 16], 3, 1),
        ([32, 32], 3, 1),
        ([23, 38], 7, 2),
        ([64, 57], 7, 2),
        ([11, 31], 5, 2),
        ([7, 20], 4, 1),
        ([12, 36], 9, 3),
    ] {
        for channels in [[3, 16], [3, 64], [1, 8], [2, 17], [5, 33]] {
            add(geometry(
                2,
                size,
                channels,
                [kernel; 2],
                same(stride, kernel),
            ));
        }
        let options = Conv2dOptions {
            padding: [0, 4],
            stride: [3, stride],
            ..Conv2dOptions::default()
        };
        add(geometry(3, size, [3, 31], [kernel; 2], options));
    }
    add(geometry(40, [5, 16], [3, 16], [3, 3], same(1, 3)));
    // Gradients of weights from output channels that are whole vectors, which are read where they lie: parts, strides, groups.
    add(geometry(3, [20, 17], [37, 64], [1, 1], same(1, 1)));
    add(geometry(2, [21, 18], [64, 48], [1, 1], same(2, 1)));
    add(geometry(2, [13, 12], [6, 96], [3, 3], same(3, 3)));
    for (groups, kernel) in [(2, 1), (3, 3)] {
        let options = Conv2dOptions {
            groups,
            ..same(1, kernel)
        };
        add(geometry(3, [11, 12], [96, 96], [kernel; 2], options));
    }
    add(geometry(2, [23, 24], [5, 16], [3, 3], same(1, 3)));
    // First layers in square tiles: one to four channels, outputs around a vector, whole and cut-off tiles, more of a line than a group
    // holds, every padding; parts of an image and of several.
    for size in [[4, 4], [7, 8], [12, 39], [31, 18], [3, 70]] {
        for (index, outputs) in [9, 15, 16, 17, 33].into_iter().enumerate() {
            for inputs in 1..=4 {
                let padding = |axis: usize| (index + inputs + axis) % 3;
                let options = Conv2dOptions {
                    padding: [padding(0), padding(1)],
                    ..Conv2dOptions::default()
                };
                add(geometry(2, size, [inputs, outputs], [3, 3], options));
            }
        }
    }
    add(geometry(70, [8, 8], [3, 16], [3, 3], same(1, 3)));
    add(geometry(5, [40, 44], [4, 20], [3, 3], same(1, 3)));
    add(geometry(1, [75, 60], [2, 40], [3, 3], same(1, 3)));
    // Few channels, taken apart into planes: every pair of counts; rows around a vector's length with every padding; kernels that are no
    // squares; images cut into several parts, and parts of several images.
    for inputs in 1..=8 {
        for outputs in 1..=8 {
            add(geometry(2, [9, 11], [inputs, outputs], [3, 3], same(1, 3)));
        }
    }
    for channels in 1..=8 {
        for size in [[7, 9], [5, 37]] {
            add(geometry(2, size, [channels, 16], [3, 3], same(1, 3)));
            add(geometry(2, size, [16, channels], [3, 3], same(1, 3)));
        }
    }
    add(geometry(3, [20, 40], [2, 16], [5, 5], same(1, 5)));
    add(geometry(3, [20, 14], [16, 3], [5, 5], same(1, 5)));
    add(geometry(5, [33, 33], [3, 16], [3, 3], same(1, 3)));
    for (index, width) in [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33]
        .into_iter()
        .enumerate()
    {
        for padding in [0, 1, 2] {
            if width + 2 * padding >= 3 {
                let options = Conv2dOptions {
                    padding: [2 - padding, padding],
                    ..Conv2dOptions::default()
                };
                let channels = [[1, 1], [2, 3], [7, 4], [8, 8], [5, 6]][(index + padding) % 5];
                add(geometry(3, [7, width], channels, [3, 3], options));
            }
        }
    }
    for kernel in [[1, 1], [1, 2], [2, 5], [5, 3], [4, 4], [5, 5]] {
        for padding in [[0, 0], [kernel[0] - 1, 0], [0, kernel[1] - 1]] {
            let options = Conv2dOptions {
                padding,
                ..Conv2dOptions::default()
            };
            add(geometry(2, [6, 19], [3, 5], kernel, options));
            add(geometry(2, [8, 5], [1, 2], kernel, options));
        }
    }
    for channels in [[1, 1], [3, 2], [8, 8]] {
        add(geometry(1, [75, 60], channels, [3, 3], same(1, 3)));
        add(geometry(37, [12, 11], channels, [3, 3], same(1, 3)));
        add(geometry(0, [12, 11], channels, [3, 3], same(1, 3)));
    }
    // Enough tiles and several panels; few tiles and several panels.
    add(geometry(3, [16, 20], [40, 72], [3, 3], same(1, 3)));
    add(geometry(2, [8, 8], [64, 64], [3, 3], same(1, 3)));
    // Sums of a gradient of weights of half a megabyte, and more tiles than a few: whole vectors of channels, and others.
    add(geometry(13, [8, 8], [64, 64], [3, 3], same(1, 3)));
    add(geometry(14, [8, 7], [65, 63], [3, 3], same(1, 3)));
    // Weights that are larger than the pixels.
    add(geometry(3, [4, 4], [176, 192], [3, 3], same(1, 3)));
    add(geometry(9, [8, 8], [176, 192], [3, 3], same(2, 3)));
    for _ in 0..40 {
        let groups = [1, 1, 1, 2, 3][random.below(5)];
        let pair = |random: &mut Random, from, count| {
            [from + random.below(count), from + random.below(count)]
        };
        let (kernel, dilation, padding) = (
            pair(&mut random, 1, 4),
            pair(&mut random, 1, 2),
            pair(&mut random, 0, 3),
        );
        let channels = pair(&mut random, 1, 12).map(|c| c * groups);
        let stride = pair(&mut random, 1, 3);
        let size = pair(&mut random, 7, 8);
        let batch = random.below(4);
        let options = Conv2dOptions {
            stride,
            padding,
            dilation,
            groups,
        };
        let geometry = geometry(batch, size, channels, kernel, options);
        cases.push(Case::new(geometry, &mut random));
    }
    cases
}

#[test]
fn every_pass_on_every_level_and_thread_count() {
    let cases = cases();
    // Each of up to four threads makes for itself what its tasks read; five make it together.
    let pools: Vec<_> = [1, 2, 3, 5]
        .into_iter()
        .map(|threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
        })
        .collect();
    let before = level();
    for level in Level::available() {
        assert!(force_level(level));
        for case in &cases {
            case.check();
        }
        for case in &cases {
            let bits = |values: [Vec<f32>; 3]| {
                values.map(|v| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
            };
            let one = bits(pools[0].install(|| case.run()));
            for pool in &pools[1..] {
                assert!(
                    bits(pool.install(|| case.run())) == one,
                    "{} {:?}: the number of threads changes the bits",
                    level.name(),
                    case.geometry
                );
            }
        }
        products_on_this_level();
    }
    force_level(before);
}

fn products_on_this_level() {
    let mut random = Random(7);
    for (m, n, k) in [
        (1, 1, 1),
        (13, 47, 5),
        (25, 100, 300),
        (7, 0, 3),
        (5, 33, 0),
    ] {
        let (a, b) = (random.values(m * k), random.values(k * n));
        let mut c = vec![f32::NAN; m * n];
        matmul(m, n, k, &a, false, &b, false, false, &mut c).unwrap();
        let expected: Vec<f64> = (0..m * n)
            .map(|i| {
                (0..k)
                    .map(|p| f64::from(a[i / n * k + p]) * f64::from(b[p * n + i % n]))
                    .sum()
            })
            .collect();
        close(&c, &expected, &format!("{m}x{n}x{k}"));
    }
}

#[test]
fn bias_gradients_keep_small_sums_beside_large_ones() {
    let (rows, columns) = (5000, 7);
    let gradient: Vec<f32> = (0..rows * columns)
        .map(|i| {
            let row = i / columns;
            let big = if row % 2 == 0 { 1e8 } else { -1e8 };
            big + (i % columns) as f32 * 8.0
        })
        .collect();
    let mut bias = vec![f32::NAN; columns];
    bias_gradient(rows, columns, &gradient, &mut bias).unwrap();
    for (column, &sum) in bias.iter().enumerate() {
        assert_eq!(sum, (column * 8 * rows) as f32);
    }
    bias_gradient(0, columns, &[], &mut bias).unwrap();
    assert_eq!(bias, [0.0; 7]);
    assert!(bias_gradient(2, 3, &[0.0; 5], &mut [0.0; 3]).is_err());
}

#[test]
fn wrong_lengths_are_refused_before_anything_is_written() {
    let g = geometry(1, [4, 4], [3, 5], [3, 3], same(1, 3));
    let (x, w, y) = (vec![0.0; 48], vec![0.0; 135], vec![0.0; 80]);
    let mut out = vec![1.0; 80];
    assert!(conv2d_forward(&g, &x[1..], &w, None, &mut out).is_err());
    assert!(conv2d_forward(&g, &x, &w[1..], None, &mut out).is_err());
    assert!(conv2d_forward(&g, &x, &w, Some(&x[..4]), &mut out).is_err());
    assert!(conv2d_forward(&g, &x, &w, None, &mut out[1..]).is_err());
    assert!(conv2d_backward_data(&g, &y[1..], &w, &mut out[..48]).is_err());
    assert!(conv2d_backward_data(&g, &y, &w, &mut out[..47]).is_err());
    assert!(conv2d_backward_weights(&g, &x, &y, &mut out).is_err());
    assert!(out.iter().all(|&x| x == 1.0));
}
