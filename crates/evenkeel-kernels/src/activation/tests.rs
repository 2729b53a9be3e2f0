use super::*;
use crate::isa::{Level, MAX_LANES, SimdOp, dispatch, level};
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level};

const ALL: [Activation; 12] = [
    Activation::Identity,
    Activation::Relu,
    Activation::LeakyRelu { slope: 0.1 },
    Activation::Elu { alpha: 1.5 },
    Activation::Silu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::HardTanh {
        min: -1.0,
        max: 2.0,
    },
    Activation::Softplus,
    Activation::HardSwish,
];

type Oracle = fn(f64) -> f64;

#[derive(Clone, Copy, Debug)]
enum Function {
    Exp,
    ExpM1,
    Log,
    Tanh,
    Erf,
    Sigmoid,
}

struct Evaluate<'a>(Function, &'a [f32]);

impl SimdOp for Evaluate<'_> {
    type Output = Vec<f32>;
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut result = Vec::new();
        for x in self.1.chunks(S::LANES) {
            let mut buffer = [0.0f32; MAX_LANES];
            // SAFETY: a chunk has at most LANES elements, and the buffer holds LANES.
            unsafe {
                let x = simd.load_partial(x.as_ptr(), x.len());
                let y = match self.0 {
                    Function::Exp => math::exp(simd, x),
                    Function::ExpM1 => math::exp_m1(simd, x),
                    Function::Log => math::log(simd, x),
                    Function::Tanh => math::tanh(simd, x),
                    Function::Erf => math::erf(simd, x),
                    Function::Sigmoid => math::sigmoid(simd, x),
                };
                simd.store(y, buffer.as_mut_ptr());
            }
            result.extend_from_slice(&buffer[..x.len()]);
        }
        result
    }
}

/// Numbers of every size, and densely around zero.
fn samples() -> Vec<f32> {
    let mut x: Vec<f32> = (-20_000..=20_000).map(|i| i as f32 * 0.0053).collect();
    x.extend((-4000..=4000).map(|i| i as f32 * 0.00037));
    for exponent in -126..=127 {
        for mantissa in [
            1.0f32,
            1.1,
            1.37,
            std::f32::consts::SQRT_2,
            1.414_213_7,
            1.73,
            1.999_999_9,
        ] {
            x.push(mantissa * (exponent as f32).exp2());
            x.push(-mantissa * (exponent as f32).exp2());
        }
    }
    x.extend((1..100).map(|i| f32::from_bits(i * 83_001)));
    x
}

/// The distance in units in the last place of the correctly rounded result.
fn units(got: f32, want: f64) -> f64 {
    let rounded = want as f32;
    if got == rounded || (got.is_nan() && want.is_nan()) {
        return 0.0;
    }
    let size = rounded.abs().max(f32::MIN_POSITIVE);
    let unit = f64::from(f32::from_bits(size.to_bits() + 1)) - f64::from(size);
    (f64::from(got) - want).abs() / unit
}

#[test]
fn elementary_functions_are_within_a_few_units_in_the_last_place() {
    let x = samples();
    let cases: [(Function, Oracle, f64); 6] = [
        (Function::Exp, f64::exp, 2.0),
        (Function::ExpM1, f64::exp_m1, 4.0),
        (Function::Log, f64::ln, 2.0),
        (Function::Tanh, f64::tanh, 2.0),
        (Function::Erf, reference::error_function, 2.0),
        (Function::Sigmoid, reference::sigmoid, 3.0),
    ];
    at_every_level(|| {
        // Without a fused multiply-add more steps round.
        let steps = if level() == Level::Portable { 2.0 } else { 1.0 };
        for (function, oracle, limit) in cases {
            for (&x, got) in x.iter().zip(dispatch(Evaluate(function, &x))) {
                let want = oracle(f64::from(x));
                // The sigmoid's subnormal results flush to zero: its denominator overflows there.
                if matches!(function, Function::Sigmoid) && want < f64::from(f32::MIN_POSITIVE) {
                    assert!((0.0..=f32::MIN_POSITIVE).contains(&got));
                    continue;
                }
                let error = units(got, want);
                assert!(
                    error <= limit * steps,
                    "{function:?}({x}) = {got}, off by {error} units"
                );
            }
        }
    });
}

#[test]
fn elementary_functions_keep_nan_and_reach_their_limits() {
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, -1.0];
    let cases: [(Function, Oracle); 6] = [
        (Function::Exp, f64::exp),
        (Function::ExpM1, f64::exp_m1),
        (Function::Log, f64::ln),
        (Function::Tanh, f64::tanh),
        (Function::Erf, |x| {
            reference::error_function(x.clamp(-9.0, 9.0))
        }),
        (Function::Sigmoid, reference::sigmoid),
    ];
    at_every_level(|| {
        for (function, oracle) in cases {
            for (&x, got) in x.iter().zip(dispatch(Evaluate(function, &x))) {
                let want = oracle(f64::from(x)) as f32;
                assert!(
                    units(got, f64::from(want)) <= 2.0,
                    "{function:?}({x}) is {got}, not {want}"
                );
            }
        }
    });
}

#[test]
fn the_f64_error_function_has_known_values() {
    // Abramowitz and Stegun, table 7.1.
    for (x, want) in [
        (0.5, 0.520_499_877_813_046_5),
        (1.0, 0.842_700_792_949_714_9),
        (2.0, 0.995_322_265_018_952_7),
        (3.0, 0.999_977_909_503_001_4),
    ] {
        assert!((reference::error_function(x) - want).abs() < 1e-14);
        assert!((reference::error_function(-x) + want).abs() < 1e-14);
    }
    let tail = reference::complementary_error_function(4.0);
    assert!((tail / 1.541_725_790_028_002e-8 - 1.0).abs() < 1e-12);
}

#[test]
fn values_and_derivatives_follow_the_oracle() {
    at_every_level(check_values_and_derivatives);
}

fn check_values_and_derivatives() {
    let mut x = samples();
    x.retain(|x| x.abs() < 1e18);
    let dy: Vec<f32> = (0..x.len()).map(|i| 0.25 + (i % 7) as f32).collect();
    let mut y = vec![f32::NAN; x.len()];
    let mut dx = vec![f32::NAN; x.len()];
    for activation in ALL {
        activation_forward(activation, &x, &mut y).unwrap();
        activation_backward(activation, &x, &dy, &mut dx).unwrap();
        for i in 0..x.len() {
            let (wide, scale) = (f64::from(x[i]), f64::from(dy[i]));
            let want = activation.value(wide);
            assert!(
                (f64::from(y[i]) - want).abs()
                    <= want.abs() * 5e-7 + wide.abs().min(1.0) * 2e-7 + 1e-44,
                "{activation:?}({wide}) is {}, not {want}",
                y[i]
            );
            let want = activation.slope(wide) * scale;
            assert!(
                (f64::from(dx[i]) - want).abs() <= (want.abs() + scale) * 1e-6,
                "{activation:?}'({wide}) * {scale} is {}, not {want}",
                dx[i]
            );
        }
    }
}

#[test]
fn the_oracle_derivative_is_the_slope_of_the_oracle_value() {
    for activation in ALL {
        for i in -80..80 {
            let x = f64::from(i) * 0.11 + 0.017;
            let h = 1e-5;
            let slope = (activation.value(x + h) - activation.value(x - h)) / (2.0 * h);
            assert!(
                (slope - activation.slope(x)).abs() < 1e-8,
                "{activation:?} at {x}"
            );
        }
    }
}

#[test]
fn kinks_nan_and_infinity_follow_the_conventions() {
    let x = [0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let (mut y, mut dx) = ([0.0f32; 4], [0.0f32; 4]);
    for activation in ALL {
        activation_forward(activation, &x, &mut y).unwrap();
        activation_backward(activation, &x, &[1.0; 4], &mut dx).unwrap();
        let near = |got: f32, want: f64| {
            assert!(
                got == want as f32 || (f64::from(got) - want).abs() < 1e-6,
                "{activation:?}: {got} is not {want}"
            );
        };
        for i in [0, 2, 3] {
            near(y[i], activation.value(f64::from(x[i])));
            near(dx[i], activation.slope(f64::from(x[i]).clamp(-1e4, 1e4)));
        }
        assert!(y[1].is_nan(), "{activation:?} hides a NaN");
    }
    activation_backward(Activation::Relu, &[-1.0], &[f32::INFINITY], &mut dx[..1]).unwrap();
    assert_eq!(dx[0], 0.0);
}

#[test]
fn in_place_and_common_dispatch_give_the_same_bits() {
    at_every_level(check_in_place_and_common_dispatch);
}

fn check_in_place_and_common_dispatch() {
    struct Bits<'a>(&'a [f32]);
    impl ActivationVisitor for Bits<'_> {
        type Output = Vec<u32>;
        fn visit<A: ActivationFunction>(self, activation: A) -> Vec<u32> {
            struct Run<'a, A>(&'a [f32], A);
            impl<A: ActivationFunction> SimdOp for Run<'_, A> {
                type Output = Vec<u32>;
                #[inline(always)]
                fn call<S: Simd>(self, simd: S) -> Vec<u32> {
                    let mut buffer = [0.0f32; MAX_LANES];
                    let mut bits = Vec::new();
                    for &x in self.0 {
                        let y = self.1.gradient(simd, simd.splat(x), simd.splat(1.5));
                        // SAFETY: the buffer holds LANES numbers.
                        unsafe { simd.store(y, buffer.as_mut_ptr()) };
                        bits.push(buffer[0].to_bits());
                    }
                    bits
                }
            }
            dispatch(Run(self.0, activation))
        }
    }
    let x: Vec<f32> = (-33..34).map(|i| i as f32 * 0.13).collect();
    for activation in ALL {
        let mut y = vec![0.0; x.len()];
        activation_forward(activation, &x, &mut y).unwrap();
        let mut in_place = x.clone();
        activation_forward_in_place(activation, &mut in_place).unwrap();
        assert_eq!(y, in_place);
        let mut dx = vec![0.0; x.len()];
        activation_backward(activation, &x, &vec![1.5; x.len()], &mut dx).unwrap();
        let mut gradient = vec![1.5; x.len()];
        activation_backward_in_place(activation, &x, &mut gradient).unwrap();
        assert_eq!(dx, gradient);
        assert_eq!(
            activation.visit(Bits(&x)),
            activation.visit_common(Bits(&x))
        );
    }
}

#[test]
fn codes_cover_every_activation_and_reject_the_rest() {
    for (code, activation) in ALL.into_iter().enumerate() {
        let (first, second) = match activation {
            Activation::LeakyRelu { slope } => (slope, 0.0),
            Activation::Elu { alpha } => (alpha, 0.0),
            Activation::HardTanh { min, max } => (min, max),
            _ => (f32::NAN, f32::NAN),
        };
        assert_eq!(Activation::from_code(code, first, second), Ok(activation));
    }
    assert!(Activation::from_code(12, 0.0, 0.0).is_err());
    assert!(Activation::from_code(9, 1.0, 1.0).is_err());
    assert!(Activation::from_code(2, f32::NAN, 0.0).is_err());
    assert!(activation_forward(Activation::Relu, &[1.0], &mut []).is_err());
    assert!(activation_backward(Activation::Relu, &[1.0], &[], &mut [0.0]).is_err());
}

const CHANNELS: [usize; 9] = [1, 3, 7, 15, 16, 17, 33, 64, 65];

#[test]
fn prelu_follows_the_oracle() {
    at_every_level(|| {
        for channels in CHANNELS {
            for rows in [0, 1, 5, 256, 517] {
                run_prelu(rows, channels, 1);
                run_prelu(rows, channels, channels);
            }
        }
    });
    assert!(prelu_forward(&[1.0; 4], &[0.1; 2], 3, &mut [0.0; 4]).is_err());
    assert!(prelu_forward(&[1.0; 6], &[0.1; 2], 3, &mut [0.0; 6]).is_err());
    assert!(prelu_forward(&[], &[0.1], 0, &mut []).is_err());
}

#[test]
fn prelu_gives_the_same_bits_at_any_number_of_threads() {
    for channels in CHANNELS {
        assert_same_bits_at_any_thread_count(|| run_prelu(70_000 / channels, channels, channels));
    }
}

/// Runs both passes, compares them with the oracle, and returns the results.
fn run_prelu(rows: usize, channels: usize, slopes: usize) -> Vec<Vec<f32>> {
    let x: Vec<f32> = (0..rows * channels)
        .map(|i| ((i * 37) % 23) as f32 * 0.3 - 3.0)
        .collect();
    let dy: Vec<f32> = (0..x.len()).map(|i| ((i * 13) % 11) as f32 - 4.5).collect();
    let slope: Vec<f32> = (0..slopes).map(|c| 0.1 + 0.01 * c as f32).collect();
    let mut y = vec![f32::NAN; x.len()];
    let mut dx = y.clone();
    let mut ds = vec![f32::NAN; slopes];
    prelu_forward(&x, &slope, channels, &mut y).unwrap();
    prelu_backward(&x, &slope, channels, &dy, &mut dx, &mut ds).unwrap();
    let mut wanted = vec![0.0f64; slopes];
    for i in 0..x.len() {
        let c = i % channels % slopes;
        let positive = x[i] > 0.0;
        assert_eq!(y[i], if positive { x[i] } else { slope[c] * x[i] });
        assert_eq!(dx[i], if positive { dy[i] } else { slope[c] * dy[i] });
        if !positive {
            wanted[c] += f64::from(x[i]) * f64::from(dy[i]);
        }
    }
    for (got, want) in ds.iter().zip(&wanted) {
        assert!((f64::from(*got) - want).abs() <= want.abs() * 1e-6 + 1e-9);
    }
    vec![y, dx, ds]
}
