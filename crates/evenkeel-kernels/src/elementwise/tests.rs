use super::*;
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level};

fn numbers(length: usize, seed: usize) -> Vec<f32> {
    (0..length)
        .map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 101.0 - 5.0)
        .collect()
}

const OPERATIONS: [BinaryOperation; 14] = BinaryOperation::ALL;

fn oracle(operation: BinaryOperation, a: f32, b: f32) -> f32 {
    let truth = |truth: bool| f32::from(u8::from(truth));
    match operation {
        BinaryOperation::Add => a + b,
        BinaryOperation::Subtract => a - b,
        BinaryOperation::Multiply => a * b,
        BinaryOperation::Divide => a / b,
        BinaryOperation::Maximum if a.is_nan() || b.is_nan() => f32::NAN,
        BinaryOperation::Maximum => a.max(b),
        BinaryOperation::Minimum if a.is_nan() || b.is_nan() => f32::NAN,
        BinaryOperation::Minimum => a.min(b),
        BinaryOperation::Power => a.powf(b),
        BinaryOperation::AddRelu if (a + b).is_nan() => f32::NAN,
        BinaryOperation::AddRelu => (a + b).max(0.0),
        BinaryOperation::Equal => truth(a == b),
        BinaryOperation::NotEqual => truth(a != b),
        BinaryOperation::Less => truth(a < b),
        BinaryOperation::LessOrEqual => truth(a <= b),
        BinaryOperation::Greater => truth(a > b),
        BinaryOperation::GreaterOrEqual => truth(a >= b),
    }
}

/// The index into an operand of `shape` for element `index` of `output`, the slow and obvious way.
fn source(mut index: usize, output: &[usize], shape: &[usize]) -> usize {
    let (mut offset, mut stride) = (0, 1);
    for (from_last, &size) in output.iter().rev().enumerate() {
        let coordinate = index % size;
        index /= size;
        if from_last < shape.len() {
            let own = shape[shape.len() - 1 - from_last];
            if own != 1 {
                offset += coordinate * stride;
            }
            stride *= own;
        }
    }
    offset
}

fn same(got: f32, want: f32) -> bool {
    got == want || (got.is_nan() && want.is_nan())
}

const SHAPES: [(&[usize], &[usize]); 22] = [
    (&[], &[]),
    (&[1], &[]),
    (&[17], &[17]),
    (&[17], &[1]),
    (&[], &[33]),
    (&[0], &[1]),
    (&[0, 3], &[3]),
    (&[2, 0, 5], &[2, 1, 1]),
    (&[5, 1], &[1, 7]),
    (&[2, 3, 4], &[4]),
    (&[2, 3, 4], &[3, 1]),
    (&[2, 1, 4], &[1, 3, 1]),
    (&[4, 1, 65], &[4, 9, 65]),
    (&[3000, 3], &[3]),
    (&[1], &[3000, 3]),
    (&[700, 15], &[15]),
    (&[3], &[41, 41, 3]),
    (&[90, 64], &[64]),
    (&[300, 129], &[129]),
    (&[40_001], &[40_001]),
    (&[2, 3, 1, 5, 1, 7], &[3, 4, 1, 6, 1]),
    (&[3, 1, 50, 20], &[3, 60, 1, 20]),
];

fn run_binary(operation: BinaryOperation, a_shape: &[usize], b_shape: &[usize]) -> Vec<f32> {
    let output_shape = broadcast_shape(a_shape, b_shape).unwrap();
    let a = numbers(a_shape.iter().product(), 1);
    let b = numbers(b_shape.iter().product(), 2);
    let mut output = vec![f32::NAN; output_shape.iter().product()];
    binary(
        operation,
        &a,
        a_shape,
        &b,
        b_shape,
        &mut output,
        &output_shape,
    )
    .unwrap();
    if output_shape == a_shape {
        let mut in_place = a.clone();
        binary_assign(operation, &mut in_place, a_shape, &b, b_shape).unwrap();
        assert!(in_place.iter().zip(&output).all(|(&x, &y)| same(x, y)));
    }
    for (i, &got) in output.iter().enumerate() {
        let x = a[source(i, &output_shape, a_shape)];
        let y = b[source(i, &output_shape, b_shape)];
        let want = oracle(operation, x, y);
        assert!(
            same(got, want),
            "{operation:?}({x}, {y}) = {got}, not {want}, at {i} of {a_shape:?}, {b_shape:?}"
        );
    }
    output
}

#[test]
fn binary_operations_follow_the_oracle_for_every_kind_of_broadcast() {
    at_every_level(|| {
        for (a_shape, b_shape) in SHAPES {
            // Every operation on small shapes, a few on the large.
            let large = a_shape.iter().chain(b_shape).product::<usize>() > 5000;
            for operation in OPERATIONS.into_iter().take(if large { 4 } else { 14 }) {
                run_binary(operation, a_shape, b_shape);
            }
        }
    });
}

#[test]
fn broadcasts_give_the_same_bits_at_any_number_of_threads() {
    assert_same_bits_at_any_thread_count(|| {
        SHAPES
            .iter()
            .map(|(a, b)| run_binary(BinaryOperation::Multiply, a, b))
            .chain([
                run_binary(BinaryOperation::Add, &[30_001, 5], &[5]),
                run_binary(BinaryOperation::Add, &[700, 301], &[700, 1]),
            ])
            .collect()
    });
}

#[test]
fn special_numbers_follow_the_oracle() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1e20,
        1e-20,
        1e38,
        -2.5,
    ];
    for operation in OPERATIONS {
        let n = special.len();
        let mut output = vec![0.0; n * n];
        binary(
            operation,
            &special,
            &[n, 1],
            &special,
            &[n],
            &mut output,
            &[n, n],
        )
        .unwrap();
        for (i, &got) in output.iter().enumerate() {
            let (a, b) = (special[i / n], special[i % n]);
            assert!(
                same(got, oracle(operation, a, b)),
                "{operation:?}({a}, {b}) = {got}"
            );
        }
    }
}

#[test]
fn binary_gradients_are_the_slopes_of_the_operations() {
    let (a_shape, b_shape, output_shape) = ([6usize, 1], [7usize], [6usize, 7]);
    let a: Vec<f32> = (0..6).map(|i| 0.6 + 0.37 * i as f32).collect();
    let b: Vec<f32> = (0..7).map(|i| 0.43 + 0.29 * i as f32).collect();
    let dy = numbers(42, 3);
    for operation in OPERATIONS.into_iter().take(8) {
        for operand in [Operand::First, Operand::Second] {
            let mut gradient = vec![f32::NAN; 42];
            binary_backward(
                operation,
                operand,
                &a,
                &a_shape,
                &b,
                &b_shape,
                &dy,
                &mut gradient,
                &output_shape,
            )
            .unwrap();
            for i in 0..42 {
                let (x, y) = (f64::from(a[i / 7]), f64::from(b[i % 7]));
                let value = |x: f64, y: f64| match operation {
                    BinaryOperation::Add => x + y,
                    BinaryOperation::Subtract => x - y,
                    BinaryOperation::Multiply => x * y,
                    BinaryOperation::Divide => x / y,
                    BinaryOperation::Maximum => x.max(y),
                    BinaryOperation::Minimum => x.min(y),
                    BinaryOperation::Power => x.powf(y),
                    _ => (x + y).max(0.0),
                };
                let h = 1e-6;
                let slope = match operand {
                    Operand::First => (value(x + h, y) - value(x - h, y)) / (2.0 * h),
                    Operand::Second => (value(x, y + h) - value(x, y - h)) / (2.0 * h),
                };
                let want = slope * f64::from(dy[i]);
                assert!(
                    (f64::from(gradient[i]) - want).abs() <= want.abs() * 1e-5 + 1e-6,
                    "{operation:?} {operand:?} at {x}, {y}: {} is not {want}",
                    gradient[i]
                );
            }
        }
    }
    let mut gradient = [9.0];
    let comparison = binary_backward(
        BinaryOperation::Less,
        Operand::First,
        &[1.0],
        &[],
        &[1.0],
        &[],
        &[1.0],
        &mut gradient,
        &[],
    );
    assert!(comparison.is_err());
    assert_eq!(gradient, [9.0]);
}

#[test]
fn ties_go_to_the_first_operand_and_edges_of_the_power_are_finite() {
    let mut gradient = [0.0; 1];
    let mut slope = |operation, operand, a: f32, b: f32| {
        binary_backward(
            operation,
            operand,
            &[a],
            &[],
            &[b],
            &[],
            &[3.0],
            &mut gradient,
            &[],
        )
        .unwrap();
        gradient[0]
    };
    for operation in [BinaryOperation::Maximum, BinaryOperation::Minimum] {
        assert_eq!(slope(operation, Operand::First, 2.0, 2.0), 3.0);
        assert_eq!(slope(operation, Operand::Second, 2.0, 2.0), 0.0);
    }
    assert_eq!(slope(BinaryOperation::Power, Operand::First, 0.0, 0.0), 0.0);
    assert_eq!(slope(BinaryOperation::Power, Operand::First, 0.0, 2.0), 0.0);
    assert_eq!(
        slope(BinaryOperation::Power, Operand::Second, 0.0, 2.0),
        0.0
    );
    assert_eq!(
        slope(BinaryOperation::Power, Operand::First, -2.0, 3.0),
        36.0
    );
    // a / b^2 would overflow here if b were squared.
    assert_eq!(
        slope(BinaryOperation::Divide, Operand::Second, 1e30, 1e30),
        -3e-30
    );
}

#[test]
fn add_relu_backward_gates_by_the_output() {
    let y = [0.0, 1.0, 2.0, 0.0, f32::NAN];
    let mut gradient = [9.0; 5];
    add_relu_backward(&y, &[5.0, 6.0, f32::NAN, f32::INFINITY, 1.0], &mut gradient).unwrap();
    assert_eq!(gradient[..2], [0.0, 6.0]);
    assert!(gradient[2].is_nan());
    assert_eq!(gradient[3..], [0.0, 0.0]);
    assert!(add_relu_backward(&y, &y, &mut [0.0; 4]).is_err());
}

const UNARY: [UnaryOperation; 12] = [
    UnaryOperation::Negate,
    UnaryOperation::Absolute,
    UnaryOperation::SquareRoot,
    UnaryOperation::Exponential,
    UnaryOperation::Logarithm,
    UnaryOperation::Square,
    UnaryOperation::Reciprocal,
    UnaryOperation::AddScalar(0.7),
    UnaryOperation::MultiplyScalar(-1.3),
    UnaryOperation::PowerScalar(2.0),
    UnaryOperation::PowerScalar(3.0),
    UnaryOperation::Clamp {
        min: -1.001,
        max: 2.001,
    },
];

fn unary_oracle(operation: UnaryOperation, x: f64) -> f64 {
    match operation {
        UnaryOperation::Negate => -x,
        UnaryOperation::Absolute => x.abs(),
        UnaryOperation::SquareRoot => x.sqrt(),
        UnaryOperation::Exponential => x.exp(),
        UnaryOperation::Logarithm => x.ln(),
        UnaryOperation::Square => x * x,
        UnaryOperation::Reciprocal => 1.0 / x,
        UnaryOperation::AddScalar(term) => x + f64::from(term),
        UnaryOperation::MultiplyScalar(factor) => x * f64::from(factor),
        UnaryOperation::PowerScalar(exponent) => x.powf(exponent.into()),
        UnaryOperation::Clamp { min, max } => x.clamp(min.into(), max.into()),
    }
}

#[test]
fn unary_operations_and_gradients_follow_the_oracle() {
    at_every_level(|| {
        for length in [0usize, 1, 3, 15, 16, 17, 31, 33, 1000, 20_001] {
            for operation in UNARY {
                check_unary(operation, length);
            }
        }
    });
}

fn check_unary(operation: UnaryOperation, length: usize) {
    let (x, dy) = (numbers(length, 5), numbers(length, 6));
    let (mut y, mut dx) = (vec![f32::NAN; length], vec![f32::NAN; length]);
    unary(operation, &x, &mut y).unwrap();
    unary_backward(operation, &x, &dy, &mut dx).unwrap();
    let mut in_place = x.clone();
    unary_in_place(operation, &mut in_place).unwrap();
    let close = |got: f32, want: f64, tolerance: f64| {
        (got.is_nan() && want.is_nan())
            || f64::from(got) == want
            || (f64::from(got) - want).abs() <= want.abs() * tolerance + 1e-7
    };
    for i in 0..length {
        let wide = f64::from(x[i]);
        let value = |x| unary_oracle(operation, x);
        assert!(
            close(y[i], value(wide), 3e-7),
            "{operation:?}({wide}): {}",
            y[i]
        );
        assert!(same(in_place[i], y[i]));
        let h = 1e-7 * wide.abs().max(1e-3);
        let slope = (value(wide + h) - value(wide - h)) / (2.0 * h) * f64::from(dy[i]);
        assert!(
            // No slope outside the domain, nor at the poles and kinks, which all lie at zero.
            slope.is_nan() || wide == 0.0 || close(dx[i], slope, 1e-4),
            "{operation:?}'({wide}): {} is not {slope}",
            dx[i]
        );
    }
}

#[test]
fn unary_edges() {
    let mut dx = [9.0; 1];
    unary_backward(UnaryOperation::Absolute, &[0.0], &[3.0], &mut dx).unwrap();
    assert_eq!(dx, [0.0]);
    let clamp = UnaryOperation::Clamp { min: 0.0, max: 1.0 };
    unary_backward(clamp, &[1.0], &[3.0], &mut dx).unwrap();
    assert_eq!(dx, [3.0]);
    let mut y = [0.0; 1];
    unary(clamp, &[f32::NAN], &mut y).unwrap();
    assert!(y[0].is_nan());
    assert!(UnaryOperation::from_code(10, 2.0, 1.0).is_err());
    assert!(UnaryOperation::from_code(10, f32::NAN, 1.0).is_err());
    assert!(UnaryOperation::from_code(11, 0.0, 0.0).is_err());
    assert_eq!(
        UnaryOperation::from_code(8, 0.5, 0.0),
        Ok(UnaryOperation::MultiplyScalar(0.5))
    );
    assert!(unary(clamp, &[1.0, 2.0], &mut y).is_err());
}

#[test]
fn select_chooses_by_a_condition_that_broadcasts() {
    let condition = [0.0, 1.0, f32::NAN, -0.0, -2.0];
    let a: Vec<f32> = (0..15).map(|i| i as f32).collect();
    let mut output = [9.0; 15];
    select(
        &condition,
        &[5, 1],
        &a,
        &[5, 3],
        &[-1.0],
        &[],
        &mut output,
        &[5, 3],
    )
    .unwrap();
    for i in 0..15 {
        let want = if matches!(i / 3, 0 | 3) { -1.0 } else { a[i] };
        assert_eq!(output[i], want);
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused_before_anything_is_written() {
    assert!(broadcast_shape(&[2, 3], &[2]).is_err());
    assert!(broadcast_shape(&[0], &[2]).is_err());
    assert!(broadcast_shape(&[1; 9], &[1]).is_err());
    assert_eq!(broadcast_shape(&[0, 1], &[1, 4]).unwrap(), [0, 4]);
    let mut output = [9.0; 6];
    let add = BinaryOperation::Add;
    assert!(
        binary(
            add,
            &[1.0; 6],
            &[2, 3],
            &[1.0; 2],
            &[2],
            &mut output,
            &[2, 3]
        )
        .is_err()
    );
    assert!(
        binary(
            add,
            &[1.0; 5],
            &[2, 3],
            &[1.0; 3],
            &[3],
            &mut output,
            &[2, 3]
        )
        .is_err()
    );
    assert!(
        binary(
            add,
            &[1.0; 6],
            &[2, 3],
            &[1.0; 6],
            &[1, 2, 3],
            &mut output,
            &[2, 3]
        )
        .is_err()
    );
    let empty = [0, 1 << 40, 1 << 40];
    assert!(binary(add, &[], &empty, &[1.0], &[1], &mut [], &empty).is_ok());
    let huge = [usize::MAX, 2];
    assert!(binary(add, &[1.0], &[1], &[1.0], &[1], &mut output, &huge).is_err());
    assert!(binary_assign(add, &mut output, &[6], &[1.0; 12], &[2, 6]).is_err());
    assert_eq!(output, [9.0; 6]);
}
