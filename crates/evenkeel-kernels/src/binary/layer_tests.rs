//! Fused layers against separate steps in plain loops, bit for bit, at every instruction set.

use super::rprelu::Rprelu;
use super::tests::{case, geometries, values};
use super::*;
use crate::isa::{self, Level};
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_bit_level, same_bits};

/// The parameters of a layer for every combination of parts.
struct Parameters {
    scale: Vec<f32>,
    center: Vec<f32>,
    factor: Vec<f32>,
    offset: Vec<f32>,
    shift_in: Vec<f32>,
    slope: Vec<f32>,
    shift_out: Vec<f32>,
    cut: Vec<f32>,
}

impl Parameters {
    fn new(channels: usize) -> Self {
        let seeded = |seed| values(channels, seed);
        Parameters {
            scale: seeded(11),
            center: seeded(12),
            factor: seeded(13),
            offset: seeded(14),
            shift_in: seeded(15),
            slope: seeded(16),
            shift_out: seeded(17),
            cut: seeded(18),
        }
    }

    fn function(&self, normalize: bool, activation: usize) -> LayerFunction<'_> {
        LayerFunction {
            scale: &self.scale,
            normalize: normalize.then_some(Normalize {
                center: &self.center,
                factor: &self.factor,
                offset: &self.offset,
            }),
            activation: match activation {
                0 => LayerActivation::None,
                1 => LayerActivation::Relu,
                2 => LayerActivation::Prelu(&self.slope),
                _ => LayerActivation::Rprelu(Rprelu {
                    shift_in: &self.shift_in,
                    slope: &self.slope,
                    shift_out: &self.shift_out,
                }),
            },
        }
    }
}

/// What [`LayerFunction`] computes, one number at a time.
fn oracle(function: &LayerFunction, channel: usize, sum: i32, residual: Option<f32>) -> f32 {
    let mut x = sum as f32 * function.scale[channel];
    if let Some(n) = function.normalize {
        let centred = x - n.center[channel];
        x = if isa::level() == Level::Portable {
            centred * n.factor[channel] + n.offset[channel]
        } else {
            centred.mul_add(n.factor[channel], n.offset[channel])
        };
    }
    if let Some(residual) = residual {
        x += residual;
    }
    match function.activation {
        LayerActivation::None => x,
        LayerActivation::Relu => {
            if 0.0 > x {
                0.0
            } else {
                x
            }
        }
        LayerActivation::Prelu(slope) => {
            if x > 0.0 {
                x
            } else {
                slope[channel] * x
            }
        }
        LayerActivation::Rprelu(r) => {
            let v = x + r.shift_in[channel];
            let bent = if v > 0.0 { v } else { r.slope[channel] * v };
            bent + r.shift_out[channel]
        }
    }
}

fn signs_of(results: &[f32], cut: &[f32]) -> Vec<u32> {
    let mut words = Vec::new();
    for row in results.chunks(cut.len()) {
        let start = words.len();
        words.resize(start + words_of(cut.len()), 0);
        for (channel, (x, cut)) in row.iter().zip(cut).enumerate() {
            words[start + channel / WORD_BITS] |= u32::from(x < cut) << (channel % WORD_BITS);
        }
    }
    words
}

#[test]
fn layers_are_their_separate_steps() {
    for (index, geometry) in geometries().into_iter().enumerate() {
        let case = case(geometry);
        let channels = geometry.out_channels;
        let parameters = Parameters::new(channels);
        let (normalize, activation) = (index % 3 == 1, index / 2 % 4);
        let function = parameters.function(normalize, activation);
        // Whole residuals, none, and where the channels are even halves that are repeated.
        let residual_channels = match index % 4 {
            0 => None,
            1 if channels.is_multiple_of(2) => Some(channels / 2),
            _ => Some(channels),
        };
        let pixels = case.expected.len() / channels;
        let shortcut = values(pixels * residual_channels.unwrap_or(0), 19);
        let residual = residual_channels.map(|channels| Residual {
            values: &shortcut,
            channels,
        });
        at_every_bit_level(|| {
            let wanted: Vec<f32> = case
                .expected
                .iter()
                .enumerate()
                .map(|(at, &sum)| {
                    let (pixel, channel) = (at / channels, at % channels);
                    let added =
                        residual.map(|r| r.values[pixel * r.channels + channel % r.channels]);
                    oracle(&function, channel, sum, added)
                })
                .collect();
            let wanted_signs = signs_of(&wanted, &parameters.cut);
            for (float, bits) in [(true, true), (true, false), (false, true)] {
                let mut results = vec![f32::NAN; wanted.len()];
                let mut words = vec![0xdead_beef; wanted_signs.len()];
                case.run(Epilogue::Layer(Layer {
                    function,
                    residual,
                    output: float.then_some(&mut results[..]),
                    signs: bits.then_some(NextSigns {
                        cut: &parameters.cut,
                        output: &mut words,
                    }),
                }));
                assert!(!float || same_bits(&results, &wanted), "{geometry:?}");
                assert!(!bits || words == wanted_signs, "{geometry:?}");
            }
        });
    }
}

#[test]
fn thresholds_are_the_signs_of_the_function_at_every_sum() {
    for (channels, limit) in [(1, 1), (17, 9), (48, 288), (33, 1152)] {
        let mut parameters = Parameters::new(channels);
        // Scales near 1 / sqrt(limit), one of 0, and slopes of either sign.
        for scale in &mut parameters.scale {
            *scale *= 4.0 / (limit as f32).sqrt();
        }
        parameters.scale[channels / 2] = 0.0;
        for (normalize, activation) in (0..8).map(|index| (index % 2 == 1, index / 2)) {
            let function = parameters.function(normalize, activation);
            at_every_bit_level(|| {
                let mut words = vec![0xdead_beef; threshold_words(channels)];
                find_thresholds(function, &parameters.cut, limit, &mut words).unwrap();
                let lanes = channels.div_ceil(GROUP) * GROUP;
                for channel in 0..channels {
                    let lower = words[channel] as i32;
                    let upper = words[lanes + channel] as i32;
                    let outside = words[2 * lanes + channel / GROUP] >> (channel % GROUP) & 1 == 1;
                    for sum in -limit..=limit {
                        let negative = (lower <= sum && sum < upper) ^ outside;
                        let result = oracle(&function, channel, sum, None);
                        assert_eq!(
                            negative,
                            result < parameters.cut[channel],
                            "channel {channel}, sum {sum}, activation {activation}"
                        );
                    }
                }
            });
        }
    }
}

#[test]
fn signs_from_thresholds_are_those_of_the_layer() {
    for (index, geometry) in geometries().into_iter().step_by(3).enumerate() {
        let case = case(geometry);
        let plan = geometry.plan().unwrap();
        let channels = geometry.out_channels;
        let parameters = Parameters::new(channels);
        let function = parameters.function(index % 2 == 0, index % 4);
        let limit = (plan.taps * geometry.in_channels) as i32;
        at_every_bit_level(|| {
            let mut words = vec![0; threshold_words(channels)];
            find_thresholds(function, &parameters.cut, limit, &mut words).unwrap();
            let mut signs = vec![0xdead_beef; plan.output_words()];
            case.run(Epilogue::Signs {
                thresholds: Thresholds::from_words(channels, &words).unwrap(),
                output: &mut signs,
            });
            let mut wanted = vec![0; plan.output_words()];
            case.run(Epilogue::Layer(Layer {
                function,
                residual: None,
                output: None,
                signs: Some(NextSigns {
                    cut: &parameters.cut,
                    output: &mut wanted,
                }),
            }));
            assert_eq!(signs, wanted, "{geometry:?}");
        });
    }
}

#[test]
fn threads_do_not_change_bits() {
    let case = case(BinaryConv2d {
        batch: 2,
        size: [31, 33],
        in_channels: 65,
        out_channels: 130,
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1],
        dilation: [1, 1],
        padding_value: PaddingValue::Zero,
    });
    let parameters = Parameters::new(130);
    let shortcut = values(case.expected.len(), 20);
    assert_same_bits_at_any_thread_count(|| {
        let mut results = vec![f32::NAN; case.expected.len()];
        let mut words = vec![0; case.geometry.plan().unwrap().output_words()];
        case.run(Epilogue::Layer(Layer {
            function: parameters.function(true, 3),
            residual: Some(Residual {
                values: &shortcut,
                channels: 130,
            }),
            output: Some(&mut results),
            signs: Some(NextSigns {
                cut: &parameters.cut,
                output: &mut words,
            }),
        }));
        vec![results, words.into_iter().map(f32::from_bits).collect()]
    });
}

#[test]
fn misfits_are_refused() {
    let case = case(BinaryConv2d::linear(2, 40, 6));
    let parameters = Parameters::new(6);
    let short = Parameters::new(5);
    let attempt = |function: LayerFunction,
                   residual: Option<Residual>,
                   output: usize,
                   cut: &[f32],
                   words: usize| {
        let (mut results, mut words) = (vec![0.0; output], vec![0; words]);
        case.try_run(Epilogue::Layer(Layer {
            function,
            residual,
            output: Some(&mut results),
            signs: Some(NextSigns {
                cut,
                output: &mut words,
            }),
        }))
    };
    let good = parameters.function(true, 3);
    let shortcut = [0.0; 12];
    let whole = |channels| {
        Some(Residual {
            values: &shortcut,
            channels,
        })
    };
    assert!(attempt(good, whole(6), 12, &parameters.cut, 2).is_ok());
    assert!(attempt(good, whole(3), 12, &parameters.cut, 2).is_err());
    assert!(attempt(good, whole(0), 12, &parameters.cut, 2).is_err());
    assert!(attempt(good, whole(4), 12, &parameters.cut, 2).is_err());
    assert!(attempt(good, None, 11, &parameters.cut, 2).is_err());
    assert!(attempt(good, None, 12, &short.cut, 2).is_err());
    assert!(attempt(good, None, 12, &parameters.cut, 1).is_err());
    for (normalize, activation) in [(false, 0), (true, 0), (false, 2), (false, 3)] {
        let function = short.function(normalize, activation);
        assert!(attempt(function, None, 12, &parameters.cut, 2).is_err());
    }
    let find = |function, limit, words| {
        find_thresholds(function, &parameters.cut, limit, &mut vec![0; words]).is_ok()
    };
    assert!(find(good, 40, threshold_words(6)));
    assert!(!find(good, 40, threshold_words(6) + 1));
    assert!(!find(good, 0, threshold_words(6)));
    assert!(!find(short.function(false, 0), 40, threshold_words(6)));
    assert!(Thresholds::from_words(6, &[0; 32]).is_err());
}
