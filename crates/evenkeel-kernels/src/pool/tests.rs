//! Pooling against scalar oracles that scatter where the kernels gather.

use super::*;
use crate::testing::{
    assert_same_bits_at_any_thread_count, at_every_level, coarse_values as values, same_bits,
};

fn geometries() -> Vec<Pool2d> {
    let mut all = Vec::new();
    for (size, kernel, stride, padding, ceil_mode) in [
        ([4, 4], [2, 2], [2, 2], [0, 0], false),
        ([7, 5], [3, 2], [2, 1], [1, 1], false),
        ([7, 6], [3, 3], [2, 2], [1, 1], true),
        ([5, 8], [2, 3], [3, 2], [0, 1], true),
        ([1, 1], [1, 1], [1, 1], [0, 0], false),
        ([1, 1], [3, 3], [2, 2], [1, 1], true),
        ([6, 6], [6, 6], [6, 6], [0, 0], false),
        ([9, 4], [5, 2], [1, 3], [2, 0], true),
    ] {
        for channels in [1, 3, 7, 15, 16, 17, 33, 63, 64, 65] {
            for batch in [0, 1, 3] {
                all.push(Pool2d {
                    batch,
                    height: size[0],
                    width: size[1],
                    channels,
                    kernel,
                    stride,
                    padding,
                    ceil_mode,
                });
            }
        }
    }
    all
}

/// Calls `visit(output index, input index, tap)` for every pair of an output and an input element under its window.
fn for_each_pair(geometry: &Pool2d, mut visit: impl FnMut(usize, usize, usize)) {
    let [height, width] = geometry.output_size().unwrap();
    let g = geometry;
    for n in 0..g.batch {
        for y in 0..height {
            for x in 0..width {
                for row in 0..g.kernel[0] {
                    for column in 0..g.kernel[1] {
                        let in_y = (y * g.stride[0] + row).wrapping_sub(g.padding[0]);
                        let in_x = (x * g.stride[1] + column).wrapping_sub(g.padding[1]);
                        if in_y >= g.height || in_x >= g.width {
                            continue;
                        }
                        for c in 0..g.channels {
                            visit(
                                ((n * height + y) * width + x) * g.channels + c,
                                ((n * g.height + in_y) * g.width + in_x) * g.channels + c,
                                row * g.kernel[1] + column,
                            );
                        }
                    }
                }
            }
        }
    }
}

fn sizes(g: &Pool2d) -> (usize, usize) {
    let [height, width] = g.output_size().unwrap();
    (
        g.batch * g.height * g.width * g.channels,
        g.batch * height * width * g.channels,
    )
}

fn max_oracle(g: &Pool2d, input: &[f32]) -> (Vec<f32>, Vec<usize>) {
    let (_, outputs) = sizes(g);
    let mut winner: Vec<Option<usize>> = vec![None; outputs];
    let mut taps = vec![0; outputs];
    for_each_pair(g, |output, position, tap| {
        let wins = match winner[output] {
            None => true,
            Some(best) => {
                let (best, value) = (input[best], input[position]);
                !best.is_nan() && (value > best || value.is_nan())
            }
        };
        if wins {
            winner[output] = Some(position);
            taps[output] = tap;
        }
    });
    (winner.iter().map(|w| input[w.unwrap()]).collect(), taps)
}

#[test]
fn max_takes_the_first_largest_value_and_its_gradient_goes_there() {
    at_every_level(|| {
        for g in geometries() {
            let (inputs, outputs) = sizes(&g);
            let mut input = values(inputs, 1);
            if inputs > 20 {
                input[inputs / 2] = f32::NAN;
                input[inputs / 3] = f32::NEG_INFINITY;
                input[inputs / 4] = f32::INFINITY;
            }
            let (expected, taps) = max_oracle(&g, &input);
            let mut output = vec![9.0; outputs];
            let mut indices = vec![255; outputs];
            max_forward(&g, &input, &mut output, Some(&mut indices)).unwrap();
            assert!(same_bits(&output, &expected), "{g:?}");
            assert!(
                indices
                    .iter()
                    .zip(&taps)
                    .all(|(&i, &t)| usize::from(i) == t),
                "{g:?}"
            );
            let mut without_indices = vec![9.0; outputs];
            max_forward(&g, &input, &mut without_indices, None).unwrap();
            assert!(same_bits(&output, &without_indices));

            let gradient = values(outputs, 2);
            let mut expected = vec![0.0f64; inputs];
            for_each_pair(&g, |output, position, tap| {
                if taps[output] == tap {
                    expected[position] += f64::from(gradient[output]);
                }
            });
            let mut actual = vec![9.0; inputs];
            max_backward(&g, &gradient, &indices, &mut actual).unwrap();
            for (actual, expected) in actual.iter().zip(&expected) {
                assert!((f64::from(*actual) - expected).abs() < 1e-5, "{g:?}");
            }
        }
    });
}

#[test]
fn average_divides_as_documented_and_its_gradient_is_the_transpose() {
    at_every_level(|| {
        for g in geometries() {
            for count_include_padding in [false, true] {
                let (inputs, outputs) = sizes(&g);
                let input = values(inputs, 3);
                let [_, width] = g.output_size().unwrap();
                let divisor = |output: usize| {
                    let x = output / g.channels % width;
                    let y = output / g.channels / width % g.output_size().unwrap()[0];
                    let span = |position: usize, axis: usize, length: usize| {
                        let inside = |low: usize, high: usize| {
                            (0..g.kernel[axis])
                                .filter(|tap| {
                                    let at = position * g.stride[axis] + tap;
                                    at >= low && at < high
                                })
                                .count()
                        };
                        let padding = g.padding[axis];
                        if count_include_padding {
                            inside(0, length + 2 * padding)
                        } else {
                            inside(padding, padding + length)
                        }
                    };
                    (span(y, 0, g.height) * span(x, 1, g.width)) as f64
                };
                let mut expected = vec![0.0f64; outputs];
                for_each_pair(&g, |output, position, _| {
                    expected[output] += f64::from(input[position]) / divisor(output);
                });
                let mut output = vec![9.0; outputs];
                average_forward(&g, count_include_padding, &input, &mut output).unwrap();
                for (actual, expected) in output.iter().zip(&expected) {
                    assert!((f64::from(*actual) - expected).abs() < 1e-6, "{g:?}");
                }

                let gradient = values(outputs, 4);
                let mut expected = vec![0.0f64; inputs];
                for_each_pair(&g, |output, position, _| {
                    expected[position] += f64::from(gradient[output]) / divisor(output);
                });
                let mut actual = vec![9.0; inputs];
                average_backward(&g, count_include_padding, &gradient, &mut actual).unwrap();
                for (actual, expected) in actual.iter().zip(&expected) {
                    assert!((f64::from(*actual) - expected).abs() < 2e-5, "{g:?}");
                }
            }
        }
    });
}

#[test]
fn global_average_is_the_mean_over_pixels() {
    at_every_level(|| {
        for channels in [1, 3, 7, 15, 16, 17, 33, 63, 64, 65, 130] {
            for (batch, pixels) in [(0, 4), (1, 1), (2, 49), (3, 130)] {
                let input = values(batch * pixels * channels, 5);
                let mut output = vec![9.0; batch * channels];
                global_average_forward(batch, pixels, channels, &input, &mut output).unwrap();
                let gradient = values(batch * channels, 6);
                let mut input_gradient = vec![9.0; input.len()];
                global_average_backward(batch, pixels, channels, &gradient, &mut input_gradient)
                    .unwrap();
                for n in 0..batch {
                    for c in 0..channels {
                        let at = |p: usize| (n * pixels + p) * channels + c;
                        let sum: f64 = (0..pixels).map(|p| f64::from(input[at(p)])).sum();
                        let mean = f64::from(output[n * channels + c]);
                        assert!((mean - sum / pixels as f64).abs() < 1e-6);
                        for p in 0..pixels {
                            let expected = gradient[n * channels + c] / pixels as f32;
                            assert!(
                                (input_gradient[at(p)] - expected).abs() <= expected.abs() * 1e-6
                            );
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn means_keep_their_digits_where_f32_sums_lose_them() {
    // 4096 values of 1e20 and one that differs: an f32 sum drifts by far more than one unit in the last place.
    let (pixels, channels) = (4097, 17);
    for scale in [1e20f32, 1e-20] {
        let input: Vec<f32> = (0..pixels * channels)
            .map(|i| scale * (1.0 + (i / channels % 7) as f32 * 1e-3))
            .collect();
        let exact: f64 = (0..pixels)
            .map(|p| f64::from(input[p * channels]))
            .sum::<f64>()
            / pixels as f64;
        let mut output = vec![0.0; channels];
        global_average_forward(1, pixels, channels, &input, &mut output).unwrap();
        assert!(output.iter().all(|&mean| mean == exact as f32));
    }
}

#[test]
fn windows_that_start_beyond_the_input_are_dropped() {
    // 3 + 2 * 1 = 5 positions, windows of 2 by 2: the third would start at position 4, which is padding.
    let axis = |length, kernel, stride, padding, ceil_mode| {
        Pool2d {
            batch: 1,
            height: length,
            width: length,
            channels: 1,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 2],
            ceil_mode,
        }
        .output_size()
        .map(|[height, _]| height)
    };
    assert_eq!(axis(3, 2, 2, 1, true), Ok(2));
    assert_eq!(axis(4, 2, 2, 1, true), Ok(3));
    assert_eq!(axis(4, 3, 2, 0, false), Ok(1));
    assert_eq!(axis(4, 3, 2, 0, true), Ok(2));
    assert_eq!(axis(224, 3, 2, 1, false), Ok(112));
}

#[test]
fn the_same_bits_at_any_number_of_threads() {
    let g = Pool2d {
        batch: 3,
        height: 31,
        width: 33,
        channels: 37,
        kernel: [3, 3],
        stride: [2, 2],
        padding: [1, 1],
        ceil_mode: false,
    };
    let (inputs, outputs) = sizes(&g);
    let (input, gradient) = (values(inputs, 7), values(outputs, 8));
    assert_same_bits_at_any_thread_count(|| {
        let (mut max, mut indices) = (vec![0.0; outputs], vec![0; outputs]);
        max_forward(&g, &input, &mut max, Some(&mut indices)).unwrap();
        let mut max_gradient = vec![0.0; inputs];
        max_backward(&g, &gradient, &indices, &mut max_gradient).unwrap();
        let mut average = vec![0.0; outputs];
        average_forward(&g, false, &input, &mut average).unwrap();
        let mut average_gradient = vec![0.0; inputs];
        average_backward(&g, false, &gradient, &mut average_gradient).unwrap();
        let mut global = vec![0.0; 3 * 37];
        global_average_forward(3, 31 * 33, 37, &input, &mut global).unwrap();
        vec![max, max_gradient, average, average_gradient, global]
    });
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let good = Pool2d {
        batch: 1,
        height: 4,
        width: 4,
        channels: 2,
        kernel: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
        ceil_mode: false,
    };
    let mut output = vec![7.0; 8];
    assert!(matches!(
        max_forward(&good, &[0.0; 31], &mut output, None),
        Err(KernelError::Length {
            argument: "input",
            expected: 32,
            actual: 31
        })
    ));
    assert!(max_forward(&good, &[0.0; 32], &mut [0.0; 7], None).is_err());
    assert!(max_forward(&good, &[0.0; 32], &mut output, Some(&mut [0; 7])).is_err());
    for bad in [
        Pool2d {
            kernel: [0, 2],
            ..good
        },
        Pool2d {
            stride: [2, 0],
            ..good
        },
        Pool2d {
            padding: [0, 2],
            ..good
        },
        Pool2d {
            kernel: [5, 2],
            ..good
        },
        Pool2d {
            channels: 0,
            ..good
        },
        Pool2d { height: 0, ..good },
        Pool2d {
            batch: usize::MAX,
            ..good
        },
        Pool2d {
            height: usize::MAX,
            ..good
        },
        Pool2d {
            height: 17,
            width: 17,
            kernel: [17, 17],
            ..good
        },
    ] {
        assert!(
            max_forward(&bad, &[0.0; 32], &mut output, None).is_err(),
            "{bad:?}"
        );
    }
    assert!(average_forward(&good, true, &[0.0; 31], &mut output).is_err());
    assert!(average_backward(&good, true, &[0.0; 9], &mut [0.0; 32]).is_err());
    assert!(max_backward(&good, &[0.0; 8], &[0; 7], &mut [0.0; 32]).is_err());
    assert!(global_average_forward(1, 0, 2, &[], &mut [0.0; 2]).is_err());
    assert!(global_average_backward(1, 4, 2, &[0.0; 2], &mut [0.0; 9]).is_err());
    assert_eq!(output, [7.0; 8], "nothing is written by a call that fails");
}
