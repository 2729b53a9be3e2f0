use super::*;
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

const REDUCTIONS: [Reduction; 5] = [
    Reduction::Sum,
    Reduction::Mean,
    Reduction::Maximum,
    Reduction::Minimum,
    Reduction::SumOfSquares,
];

const CASES: [(&[usize], &[usize]); 24] = [
    (&[], &[]),
    (&[1], &[0]),
    (&[7], &[]),
    (&[7], &[0]),
    (&[40_001], &[0]),
    (&[5, 3], &[0]),
    (&[5, 3], &[1]),
    (&[5, 3], &[0, 1]),
    (&[300, 17], &[0]),
    (&[300, 64], &[0]),
    (&[1001, 65], &[0]),
    (&[3, 2050], &[0]),
    (&[3, 2050], &[1]),
    (&[2, 20_000], &[1]),
    (&[4, 5, 6, 7], &[1, 2]),
    (&[4, 5, 6, 7], &[0, 2]),
    (&[4, 5, 6, 7], &[1, 3]),
    (&[4, 5, 6, 7], &[0, 1, 2]),
    (&[4, 1, 6, 1], &[0, 3]),
    (&[2, 3, 2, 3, 2, 3], &[0, 2, 4]),
    (&[2, 3, 2, 3, 2, 3], &[5, 1, 3]),
    (&[0, 3], &[0]),
    (&[0, 3], &[1]),
    (&[2, 0, 3], &[1]),
];

/// The slow and obvious way: every element finds its output.
fn oracle(reduction: Reduction, x: &[f32], shape: &[usize], axes: &[usize]) -> Vec<f64> {
    let outputs: usize = reduced_shape(shape, axes).unwrap().iter().product();
    let mut groups = vec![Vec::new(); outputs];
    for (index, &x) in x.iter().enumerate() {
        let (mut rest, mut output, mut stride) = (index, 0, 1);
        for axis in (0..shape.len()).rev() {
            let coordinate = rest % shape[axis];
            rest /= shape[axis];
            if !axes.contains(&axis) {
                output += coordinate * stride;
                stride *= shape[axis];
            }
        }
        groups[output].push(f64::from(x));
    }
    groups
        .iter()
        .map(|group| match reduction {
            Reduction::Sum => group.iter().sum(),
            Reduction::Mean => group.iter().sum::<f64>() / group.len() as f64,
            Reduction::Maximum => group.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Reduction::Minimum => group.iter().copied().fold(f64::INFINITY, f64::min),
            Reduction::SumOfSquares => group.iter().map(|x| x * x).sum(),
        })
        .collect()
}

fn check(reduction: Reduction, shape: &[usize], axes: &[usize]) -> Vec<f32> {
    let x = coarse_values(shape.iter().product(), 3);
    let wanted = oracle(reduction, &x, shape, axes);
    let mut output = vec![f32::NAN; wanted.len()];
    reduce(reduction, &x, shape, axes, &mut output).unwrap();
    for (i, (&got, want)) in output.iter().zip(wanted).enumerate() {
        let want = want as f32;
        assert!(
            got == want || (got.is_nan() && want.is_nan()),
            "{reduction:?} of {shape:?} over {axes:?}: {got} is not {want} at {i}"
        );
    }
    output
}

#[test]
fn reductions_follow_the_oracle_over_any_axes() {
    at_every_level(|| {
        for (shape, axes) in CASES {
            for reduction in REDUCTIONS {
                check(reduction, shape, axes);
            }
        }
    });
}

#[test]
fn reductions_give_the_same_bits_at_any_number_of_threads() {
    let irregular = |shape: &[usize], axes: &[usize]| {
        let x: Vec<f32> = (0..shape.iter().product::<usize>())
            .map(|i| (i as f32 * 0.7391).sin())
            .collect();
        let outputs: usize = reduced_shape(shape, axes).unwrap().iter().product();
        let mut output = vec![f32::NAN; outputs];
        reduce(Reduction::Sum, &x, shape, axes, &mut output).unwrap();
        output.push(squared_norm(&x) as f32);
        output.push(total(&x) as f32);
        output
    };
    assert_same_bits_at_any_thread_count(|| {
        CASES
            .iter()
            .map(|(shape, axes)| irregular(shape, axes))
            .chain([
                irregular(&[70, 3000], &[0]),
                irregular(&[70, 3000], &[1]),
                irregular(&[8, 60, 60, 7], &[1, 2]),
                irregular(&[300_000], &[0]),
            ])
            .collect()
    });
}

#[test]
fn long_and_badly_scaled_sums_come_out_right() {
    at_every_level(|| {
        let x = vec![0.1f32; 3_000_000];
        let mut mean = [0.0];
        reduce(Reduction::Mean, &x, &[3_000_000], &[0], &mut mean).unwrap();
        assert_eq!(mean, [0.1]);
        let large = vec![1e20f32; 5000];
        reduce(Reduction::Mean, &large, &[5000, 1], &[0], &mut mean).unwrap();
        assert_eq!(mean, [1e20]);
        // The squares overflow f32, their sum does not overflow f64.
        assert!((squared_norm(&large).sqrt() / (1e20 * 5000f64.sqrt()) - 1.0).abs() < 1e-6);
        let small = vec![1e-20f32; 5000];
        assert!((squared_norm(&small).sqrt() / (1e-20 * 5000f64.sqrt()) - 1.0).abs() < 1e-6);
        let cancelling: Vec<f32> = (0..4000)
            .map(|i| if i % 2 == 0 { 1e8 } else { -1e8 + 8.0 })
            .collect();
        assert_eq!(total(&cancelling), 16_000.0);
    });
}

#[test]
fn nan_wins_in_extrema_and_poisons_sums() {
    at_every_level(|| {
        for at in [0usize, 3, 15, 16, 40] {
            let mut x = vec![1.0f32; 41];
            x[at] = f32::NAN;
            for reduction in REDUCTIONS {
                let mut output = [0.0];
                reduce(reduction, &x, &[41], &[0], &mut output).unwrap();
                assert!(output[0].is_nan(), "{reduction:?}");
                let mut columns = vec![0.0; 41];
                let rows: Vec<f32> = x.iter().chain(&[1.0f32; 41]).copied().collect();
                reduce(reduction, &rows, &[2, 41], &[0], &mut columns).unwrap();
                for (column, y) in columns.iter().enumerate() {
                    assert_eq!(y.is_nan(), column == at, "{reduction:?}");
                }
            }
        }
    });
}

#[test]
fn sum_to_shape_reverses_broadcasting() {
    let cases: [(&[usize], &[usize]); 7] = [
        (&[2, 3, 4], &[4]),
        (&[2, 3, 4], &[3, 1]),
        (&[2, 3, 4], &[2, 1, 4]),
        (&[2, 3, 4], &[]),
        (&[2, 3, 4], &[2, 3, 4]),
        (&[0, 4], &[1, 4]),
        (&[2, 1, 4], &[1, 1, 4]),
    ];
    for (shape, target) in cases {
        let x = coarse_values(shape.iter().product(), 9);
        let mut output = vec![f32::NAN; target.iter().product()];
        sum_to_shape(&x, shape, target, &mut output).unwrap();
        let missing = shape.len() - target.len();
        let axes: Vec<usize> = (0..shape.len())
            .filter(|&axis| axis < missing || target[axis - missing] != shape[axis])
            .collect();
        let wanted = oracle(Reduction::Sum, &x, shape, &axes);
        assert!(
            output
                .iter()
                .zip(wanted)
                .all(|(&got, want)| f64::from(got) == want)
        );
    }
    assert!(sum_to_shape(&[0.0; 6], &[2, 3], &[2], &mut [0.0; 2]).is_err());
    assert!(sum_to_shape(&[0.0; 6], &[6], &[1, 6], &mut [0.0; 6]).is_err());
}

#[test]
fn argmax_takes_the_first_of_equals_and_the_first_nan() {
    let x = [
        [1.0, 3.0, 3.0],
        [-1.0, -2.0, -1.0],
        [f32::NEG_INFINITY; 3],
        [5.0, f32::NAN, 9.0],
        [f32::NAN, f32::NAN, 0.0],
    ]
    .concat();
    let mut output = [9; 5];
    argmax_last_axis(&x, 3, &mut output).unwrap();
    assert_eq!(output, [1, 0, 0, 1, 0]);
    assert!(argmax_last_axis(&x, 4, &mut output).is_err());
    assert!(argmax_last_axis(&[], 0, &mut output).is_err());
    argmax_last_axis(&[], 3, &mut []).unwrap();
}

#[test]
fn extremum_gradients_go_to_the_first_winner() {
    for (shape, axes) in CASES {
        let x = coarse_values(shape.iter().product(), 4);
        let outputs: usize = reduced_shape(shape, axes).unwrap().iter().product();
        let mut y = vec![0.0; outputs];
        reduce(Reduction::Maximum, &x, shape, axes, &mut y).unwrap();
        let dy: Vec<f32> = (0..outputs).map(|i| i as f32 + 1.0).collect();
        let mut dx = vec![f32::NAN; x.len()];
        extremum_backward(&x, shape, axes, &y, &dy, &mut dx).unwrap();
        // Summed back, each group holds its own gradient and nothing else, at a place where x is y.
        if !x.is_empty() {
            let sums = oracle(Reduction::Sum, &dx, shape, axes);
            assert!(sums.iter().zip(&dy).all(|(&sum, &dy)| sum == f64::from(dy)));
            assert_eq!(dx.iter().filter(|&&dx| dx != 0.0).count(), outputs);
        }
    }
    let mut dx = [9.0; 4];
    extremum_backward(&[1.0, 2.0, 2.0, 0.0], &[4], &[0], &[2.0], &[3.0], &mut dx).unwrap();
    assert_eq!(dx, [0.0, 3.0, 0.0, 0.0]);
}

#[test]
fn the_first_number_that_is_not_finite_is_found() {
    at_every_level(|| {
        for length in [0usize, 1, 15, 16, 17, 64, 65, 100_000] {
            let mut x = vec![f32::MAX; length];
            assert_eq!(first_non_finite(&x), None);
            for at in [length / 3, length / 2, length.saturating_sub(1)] {
                if at < length {
                    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                        x[at] = bad;
                        assert_eq!(first_non_finite(&x), Some(at));
                        x[length - 1] = bad;
                        assert_eq!(first_non_finite(&x), Some(at));
                        x[at] = 1.0;
                        x[length - 1] = 1.0;
                    }
                }
            }
        }
    });
}

#[test]
fn wrong_axes_and_lengths_are_refused() {
    let mut output = [9.0; 3];
    let mut run = |shape: &[usize], axes: &[usize], length: usize| {
        reduce(Reduction::Sum, &vec![0.0; length], shape, axes, &mut output)
    };
    assert!(run(&[2, 3], &[2], 6).is_err());
    assert!(run(&[2, 3], &[0, 0], 6).is_err());
    assert!(run(&[2, 3], &[1], 6).is_err());
    assert!(run(&[2, 3], &[0], 5).is_err());
    assert!(run(&[usize::MAX, 2, 3], &[0], 6).is_err());
    assert!(run(&[1; 9], &[0], 1).is_err());
    assert_eq!(output, [9.0; 3]);
}
