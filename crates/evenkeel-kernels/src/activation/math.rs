//! Elementary functions of f32 vectors.
//!
//! Arguments are reduced exactly, then a polynomial fitted at Chebyshev nodes over the reduced range does the rest. Errors are
//! within 2 units in the last place (`sigmoid` 3, `exp_m1` 4; twice that on the portable level, which has no fused
//! multiply-add), as the tests measure against f64. NaN gives NaN, infinities and subnormal numbers what the limits of the real
//! function say, except that the sigmoid flushes subnormal results to zero.

use crate::isa::Simd;

/// ln 2 in two parts; the first has 9 significant bits, so that its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -0.000_212_194_44;

/// `(e^r - 1 - r) / r^2` for `|r| <= ln(2) / 2`, highest power first.
const EXP: [f32; 6] = [
    0.000_198_915_57,
    0.001_393_416,
    0.008_333_310_5,
    0.041_666_46,
    0.166_666_67,
    0.5,
];

/// `(ln(1 + f) - f + f^2 / 2) / f^3` for `1 + f` between the square roots of 1/2 and 2.
const LOG: [f32; 9] = [
    0.069_716_12,
    -0.114_797_34,
    0.116_854_2,
    -0.124_256_87,
    0.142_490_58,
    -0.166_678_02,
    0.200_007_16,
    -0.249_999_97,
    0.333_333_3,
];

/// `(tanh(x) / x - 1) / x^2` as a polynomial of `x^2`, for `|x| <= 0.625`.
const TANH: [f32; 6] = [
    0.002_292_744_8,
    -0.008_343_945,
    0.021_768_918,
    -0.053_959_258,
    0.133_333_04,
    -0.333_333_34,
];

/// `erf(x) / x - 1` as a polynomial of `x^2`, for `|x| <= 0.95`.
const ERF: [f32; 7] = [
    8.204_17e-5,
    -0.000_810_291_56,
    0.005_197_487_3,
    -0.026_857_96,
    0.112_836_7,
    -0.376_126_32,
    0.128_379_17,
];

/// `ln(1 - erf(t))` for `0.95 <= t <= 4`, fitted with the weight `1 - erf(t)`.
const LOG_ERFC: [f32; 8] = [
    -2.157_837_8e-5,
    0.000_440_021_8,
    -0.004_197_885,
    0.025_189_82,
    -0.108_388_685,
    -0.633_248_4,
    -1.129_563_7,
    0.000_184_817_08,
];

/// The polynomial with these coefficients, highest power first, by Horner's rule.
#[inline(always)]
pub fn polynomial<S: Simd, const N: usize>(simd: S, x: S::F32, coefficients: &[f32; N]) -> S::F32 {
    let mut sum = simd.splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = simd.fma(sum, x, simd.splat(coefficient));
    }
    sum
}

/// `e^x`. Overflows to infinity; underflows gradually to zero.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // Past these bounds the result is infinite or zero anyway. The order of the operands keeps a NaN.
    let x = simd.min(simd.splat(89.0), simd.max(simd.splat(-104.0), x));
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let r = simd.fnma(n, simd.splat(LN2_HIGH), x);
    let r = simd.fnma(n, simd.splat(LN2_LOW), r);
    let tail = simd.fma(simd.mul(r, r), polynomial(simd, r, &EXP), r);
    let e = simd.add(simd.splat(1.0), tail);
    // Two factors, because 2^n itself may be out of range where the product is not.
    let half = simd.round(simd.mul(n, simd.splat(0.5)));
    let e = simd.mul(e, simd.exp2_integral(half));
    simd.mul(e, simd.exp2_integral(simd.sub(n, half)))
}

/// `e^x - 1`, without the cancellation near zero.
#[inline(always)]
pub fn exp_m1<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let near = simd.fma(simd.mul(x, x), polynomial(simd, x, &EXP), x);
    let far = simd.sub(exp(simd, x), simd.splat(1.0));
    simd.select(simd.gt(simd.splat(0.34), simd.abs(x)), near, far)
}

/// The natural logarithm. NaN for negative arguments, minus infinity for zero.
#[inline(always)]
pub fn log<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = simd.splat(1.0);
    // Subnormal numbers are scaled into the normal range first.
    let small = simd.gt(simd.splat(f32::MIN_POSITIVE), x);
    let scaled = simd.select(small, simd.mul(x, simd.splat(33_554_432.0)), x);
    let (mantissa, exponent) = simd.decompose(scaled);
    let exponent = simd.select(small, simd.sub(exponent, simd.splat(25.0)), exponent);
    // Centre the mantissa on one, so that the logarithm of the mantissa and that of the exponent never cancel.
    let high = simd.gt(mantissa, simd.splat(std::f32::consts::SQRT_2));
    let mantissa = simd.select(high, simd.mul(mantissa, simd.splat(0.5)), mantissa);
    let exponent = simd.select(high, simd.add(exponent, one), exponent);
    let f = simd.sub(mantissa, one);
    let square = simd.mul(f, f);
    let tail = simd.mul(simd.mul(square, f), polynomial(simd, f, &LOG));
    let tail = simd.fma(exponent, simd.splat(LN2_LOW), tail);
    let tail = simd.fnma(simd.splat(0.5), square, tail);
    let result = simd.fma(exponent, simd.splat(LN2_HIGH), simd.add(f, tail));
    let result = simd.select(
        simd.ge(x, simd.splat(f32::INFINITY)),
        simd.splat(f32::INFINITY),
        result,
    );
    let not_positive = simd.select(
        simd.ge(x, simd.zero()),
        simd.splat(f32::NEG_INFINITY),
        simd.splat(f32::NAN),
    );
    simd.select(simd.gt(x, simd.zero()), result, not_positive)
}

/// `ln(1 + y)` for `y >= 0`, without the loss of `y`'s last bits.
#[inline(always)]
pub fn log_1p_positive<S: Simd>(simd: S, y: S::F32) -> S::F32 {
    let one = simd.splat(1.0);
    let sum = simd.add(one, y);
    let lost = simd.sub(y, simd.sub(sum, one));
    simd.add(log(simd, sum), simd.div(lost, sum))
}

/// The hyperbolic tangent.
#[inline(always)]
pub fn tanh<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = simd.splat(1.0);
    let size = simd.abs(x);
    let square = simd.mul(x, x);
    let near = simd.fma(simd.mul(x, square), polynomial(simd, square, &TANH), x);
    // 1 - 2 / (e^2|x| + 1); an infinite exponential gives one.
    let e = exp(simd, simd.add(size, size));
    let far = simd.sub(one, simd.div(simd.splat(2.0), simd.add(e, one)));
    let far = copy_sign(simd, far, x);
    simd.select(simd.gt(simd.splat(0.625), size), near, far)
}

/// The error function.
#[inline(always)]
pub fn erf<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let size = simd.abs(x);
    let square = simd.mul(x, x);
    let near = simd.fma(x, polynomial(simd, square, &ERF), x);
    // From 4 on the result rounds to one. The order of the operands keeps a NaN.
    let t = simd.min(simd.splat(4.0), size);
    let far = simd.sub(simd.splat(1.0), exp(simd, polynomial(simd, t, &LOG_ERFC)));
    let far = copy_sign(simd, far, x);
    simd.select(simd.gt(simd.splat(0.95), size), near, far)
}

/// The logistic function `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = simd.splat(1.0);
    simd.div(one, simd.add(one, exp(simd, simd.neg(x))))
}

/// `sigmoid(x)` and `1 - sigmoid(x)`, both with their full relative precision.
#[inline(always)]
pub fn sigmoid_and_complement<S: Simd>(simd: S, x: S::F32) -> (S::F32, S::F32) {
    let one = simd.splat(1.0);
    let e = exp(simd, simd.neg(simd.abs(x)));
    let large = simd.div(one, simd.add(one, e));
    let small = simd.mul(e, large);
    let positive = simd.ge(x, simd.zero());
    (
        simd.select(positive, large, small),
        simd.select(positive, small, large),
    )
}

/// `size` with the sign of `x`, for `size >= 0`. A NaN in `size` stays.
#[inline(always)]
fn copy_sign<S: Simd>(simd: S, size: S::F32, x: S::F32) -> S::F32 {
    simd.select(simd.ge(x, simd.zero()), size, simd.neg(size))
}
