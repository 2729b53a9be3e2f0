//! The convolution against sums of ±1 in plain loops, at every instruction set.

use super::*;
use crate::testing::at_every_bit_level;

/// Values around zero with zeros of both signs among them.
pub(super) fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match state >> 27 {
                0 => 0.0,
                1 => -0.0,
                _ => (state >> 8) as f32 / (1 << 23) as f32 - 1.0,
            }
        })
        .collect()
}

fn sign(x: f32) -> i32 {
    if x < 0.0 { -1 } else { 1 }
}

/// The convolution as its definition says.
fn naive(g: &BinaryConv2d, input: &[f32], weight: &[f32]) -> Vec<i32> {
    let plan = g.plan().unwrap();
    let mut output = Vec::with_capacity(plan.output_length());
    for pixel in 0..plan.pixels() {
        let [height, width] = plan.out_size;
        let (image, y, x) = (
            pixel / (height * width),
            pixel / width % height,
            pixel % width,
        );
        for o in 0..g.out_channels {
            let mut sum = 0;
            for tap in 0..plan.taps {
                let (tap_y, tap_x) = (tap / g.kernel[1], tap % g.kernel[1]);
                let y = (y * g.stride[0] + tap_y * g.dilation[0]).wrapping_sub(g.padding[0]);
                let x = (x * g.stride[1] + tap_x * g.dilation[1]).wrapping_sub(g.padding[1]);
                let inside = y < g.size[0] && x < g.size[1];
                for c in 0..g.in_channels {
                    let a = if inside {
                        sign(input[((image * g.size[0] + y) * g.size[1] + x) * g.in_channels + c])
                    } else {
                        match g.padding_value {
                            PaddingValue::Zero => 0,
                            PaddingValue::Plus => 1,
                            PaddingValue::Minus => -1,
                        }
                    };
                    sum += a * sign(weight[(tap * g.in_channels + c) * g.out_channels + o]);
                }
            }
            output.push(sum);
        }
    }
    output
}

pub(super) struct Case {
    pub geometry: BinaryConv2d,
    bits: Vec<u32>,
    packed: Vec<u32>,
    pub expected: Vec<i32>,
}

pub(super) fn case(geometry: BinaryConv2d) -> Case {
    let plan = geometry.plan().unwrap();
    let pixels = geometry.batch * geometry.size[0] * geometry.size[1];
    let input = values(pixels * geometry.in_channels, 1);
    let weight = values(plan.taps * geometry.in_channels * geometry.out_channels, 2);
    let mut bits = vec![u32::MAX; plan.input_words()];
    pack_signs(&input, None, geometry.in_channels, &mut bits).unwrap();
    let mut packed = vec![u32::MAX; plan.weight_words()];
    pack_weights(
        &weight,
        plan.taps,
        geometry.in_channels,
        geometry.out_channels,
        &mut packed,
    )
    .unwrap();
    let expected = naive(&geometry, &input, &weight);
    Case {
        geometry,
        bits,
        packed,
        expected,
    }
}

impl Case {
    pub fn run(&self, epilogue: Epilogue) {
        self.try_run(epilogue).unwrap();
    }

    pub fn try_run(&self, epilogue: Epilogue) -> crate::Result {
        // Scratch space full of rubbish, as a reused buffer is.
        let mut scratch = vec![0xdead_beef; self.geometry.plan()?.scratch_words()];
        binary_conv2d(
            &self.geometry,
            &self.bits,
            &self.packed,
            epilogue,
            &mut scratch,
        )
    }

    fn integers(&self) -> Vec<i32> {
        let mut output = vec![i32::MIN; self.expected.len()];
        self.run(Epilogue::Integers(&mut output));
        output
    }
}

const PADDINGS: [PaddingValue; 3] = [PaddingValue::Zero, PaddingValue::Plus, PaddingValue::Minus];

pub(super) fn geometries() -> Vec<BinaryConv2d> {
    let mut all = Vec::new();
    let channels = [1, 3, 31, 32, 33, 63, 64, 65, 100, 130];
    let outputs = [1, 7, 8, 15, 16, 17, 33, 48, 49, 64, 65, 130];
    // Each size of one list meets several of the others.
    for index in 0..60 {
        let kernel = [[1, 1], [3, 3], [5, 5], [3, 1], [2, 4]][index % 5];
        let geometry = BinaryConv2d {
            batch: [1, 3, 0, 2][index % 4],
            size: [[7, 6], [9, 11], [5, 5], [1, 1], [6, 13]][index / 3 % 5],
            in_channels: channels[index % channels.len()],
            out_channels: outputs[(index / 2) % outputs.len()],
            kernel,
            stride: [[1, 1], [2, 2], [3, 1]][index / 7 % 3],
            padding: [[1, 1], [0, 0], [2, 1], [0, 3]][index / 5 % 4],
            dilation: [[1, 1], [1, 2], [2, 1]][index / 11 % 3],
            padding_value: PaddingValue::Zero,
        };
        if geometry.plan().is_ok() {
            all.extend(PADDINGS.map(|padding_value| BinaryConv2d {
                padding_value,
                ..geometry
            }));
        }
    }
    // Padding wider than the kernel: windows that see nothing.
    all.push(BinaryConv2d {
        batch: 1,
        size: [2, 3],
        in_channels: 5,
        out_channels: 3,
        kernel: [2, 2],
        stride: [1, 1],
        padding: [4, 5],
        dilation: [3, 1],
        padding_value: PaddingValue::Zero,
    });
    all.push(BinaryConv2d::linear(5, 300, 10));
    assert!(all.len() > 80, "{}", all.len());
    all
}

#[test]
fn sums_are_those_of_the_definition() {
    let cases: Vec<Case> = geometries().into_iter().map(case).collect();
    at_every_bit_level(|| {
        for case in &cases {
            assert_eq!(case.integers(), case.expected, "{:?}", case.geometry);
        }
    });
}

#[test]
fn long_sums_of_equal_and_opposite_signs_do_not_run_over() {
    let geometry = BinaryConv2d::linear(2, 65535, 17);
    let plan = geometry.plan().unwrap();
    let mut bits = vec![0; plan.input_words()];
    let mut packed = vec![0; plan.weight_words()];
    let input: Vec<f32> = [1.0, -1.0]
        .into_iter()
        .flat_map(|x| vec![x; 65535])
        .collect();
    pack_signs(&input, None, 65535, &mut bits).unwrap();
    pack_weights(&vec![-0.5; 65535 * 17], 1, 65535, 17, &mut packed).unwrap();
    at_every_bit_level(|| {
        let mut output = vec![0; 34];
        let mut scratch = vec![0; plan.scratch_words()];
        let epilogue = Epilogue::Integers(&mut output);
        binary_conv2d(&geometry, &bits, &packed, epilogue, &mut scratch).unwrap();
        assert_eq!(output[..17], [-65535; 17]);
        assert_eq!(output[17..], [65535; 17]);
    });
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let case = case(BinaryConv2d {
        batch: 4,
        size: [33, 35],
        in_channels: 65,
        out_channels: 130,
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1],
        dilation: [1, 1],
        padding_value: PaddingValue::Zero,
    });
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        assert_eq!(pool.install(|| case.integers()), case.expected);
    }
}

#[test]
fn packing_and_unpacking_are_inverse_and_tails_are_zero() {
    at_every_bit_level(|| {
        for channels in [1, 3, 31, 32, 33, 65] {
            for padding_value in PADDINGS {
                let geometry = BinaryConv2d {
                    batch: 2,
                    size: [3, 2],
                    in_channels: channels,
                    out_channels: 1,
                    kernel: [1, 1],
                    stride: [1, 1],
                    padding: [1, 2],
                    dilation: [1, 1],
                    padding_value,
                };
                let x = values(12 * channels, channels as u32);
                let shift = values(channels, 9);
                let mut bits = vec![u32::MAX; 12 * words_of(channels)];
                pack_signs(&x, Some(&shift), channels, &mut bits).unwrap();
                if !channels.is_multiple_of(32) {
                    for row in bits.chunks(words_of(channels)) {
                        assert_eq!(row[channels / 32] >> (channels % 32), 0);
                    }
                }
                let mut images = vec![9.0; 2 * 5 * 6 * channels];
                unpack_signs(&geometry, &bits, &mut images).unwrap();
                let outside = [0.0, 1.0, -1.0][padding_value as usize];
                for (index, &value) in images.iter().enumerate() {
                    let (pixel, channel) = (index / channels, index % channels);
                    let (image, y, column) = (pixel / 30, pixel / 6 % 5, pixel % 6);
                    let inside = (1..4).contains(&y) && (2..4).contains(&column);
                    let wanted = if inside {
                        let source = (image * 6 + (y - 1) * 2 + column - 2) * channels + channel;
                        sign(x[source] + shift[channel]) as f32
                    } else {
                        outside
                    };
                    assert_eq!(value, wanted);
                }
            }
        }
    });
}

#[test]
fn misfits_are_refused() {
    let good = BinaryConv2d::linear(2, 40, 3);
    let case = case(good);
    let plan = good.plan().unwrap();
    let mut scratch = vec![0; plan.scratch_words()];
    let mut output = vec![0; 6];
    let mut attempt =
        |geometry: &BinaryConv2d, bits: &[u32], packed: &[u32], scratch: &mut [u32]| {
            binary_conv2d(
                geometry,
                bits,
                packed,
                Epilogue::Integers(&mut output),
                scratch,
            )
        };
    assert!(attempt(&good, &case.bits, &case.packed, &mut scratch).is_ok());
    assert!(attempt(&good, &case.bits[1..], &case.packed, &mut scratch).is_err());
    assert!(attempt(&good, &case.bits, &case.packed[1..], &mut scratch).is_err());
    assert!(attempt(&good, &case.bits, &case.packed, &mut scratch[1..]).is_err());
    let with = |change: fn(&mut BinaryConv2d)| {
        let mut geometry = good;
        change(&mut geometry);
        geometry.plan()
    };
    assert!(with(|g| g.kernel = [2, 1]).is_err());
    assert!(with(|g| g.kernel = [0, 1]).is_err());
    assert!(with(|g| g.stride = [1, 0]).is_err());
    assert!(with(|g| g.dilation = [0, 1]).is_err());
    assert!(with(|g| g.in_channels = 0).is_err());
    assert!(with(|g| g.in_channels = usize::MAX / 64).is_err());
    assert!(with(|g| g.batch = usize::MAX / 4).is_err());
    assert!(with(|g| g.padding = [usize::MAX, 0]).is_err());
    assert!(with(|g| g.batch = 0).is_ok());
    assert!(pack_signs(&[1.0; 5], None, 2, &mut [0; 3]).is_err());
    assert!(pack_signs(&[1.0; 4], None, 0, &mut []).is_err());
    assert!(pack_signs(&[1.0; 4], Some(&[0.0]), 2, &mut [0; 2]).is_err());
    assert!(pack_weights(&[1.0; 4], 1, 2, 2, &mut [0; 31]).is_err());
}
