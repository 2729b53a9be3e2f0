//! Normal values from uniform ones (Box and Muller, 1958).
//!
//! Only additions, multiplications, square roots and bit operations of f32, none of them fused: the same bits on every
//! instruction set.

use super::philox::SIDE_BY_SIDE;

type Lanes = [f32; SIDE_BY_SIDE];

/// 2^-24, the step of a uniform value.
pub(super) const UNIFORM_STEP: f32 = 1.0 / 16_777_216.0;

/// `(ln(1 + f) - f + f^2 / 2) / f^3` for `1 + f` between the square roots of 1/2 and 2, highest power first.
const LOG: [f32; 8] = [
    -0.079_027_44,
    0.126_223_19,
    -0.129_981_83,
    0.142_144_97,
    -0.166_412_82,
    0.200_010_45,
    -0.250_003_07,
    0.333_333_3,
];

/// `sin(2 pi t) / t` and `cos(2 pi t)` as polynomials of `t^2`, for `|t| <= 1/8`, highest power first.
const SINE: [f32; 5] = [41.472_83, -76.697_87, 81.605_2, -41.341_7, 6.283_185_5];
const COSINE: [f32; 5] = [59.220_17, -85.442_85, 64.939_316, -19.739_208, 1.0];

#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: &[f32; N]) -> f32 {
    let mut sum = coefficients[0];
    for &coefficient in &coefficients[1..] {
        sum = sum * x + coefficient;
    }
    sum
}

/// The natural logarithm of a number in (0, 1] that is normal.
#[inline(always)]
fn log(x: f32) -> f32 {
    // Taking away the bits of sqrt(1/2) puts the mantissa between it and its double.
    const CENTRE: u32 = 0x3f35_04f3;
    let shifted = x.to_bits().wrapping_sub(CENTRE) as i32 >> 23;
    let f = f32::from_bits(x.to_bits().wrapping_sub((shifted << 23) as u32)) - 1.0;
    let tail = f * f * f * polynomial(f, &LOG) - 0.5 * f * f;
    let exponent = shifted as f32;
    exponent * 0.693_359_4 + (f + (tail - exponent * 0.000_212_194_44))
}

/// Independent standard normal values from pairs of random words.
#[inline(always)]
pub(super) fn box_muller(first: &[u32; SIDE_BY_SIDE], second: &[u32; SIDE_BY_SIDE]) -> [Lanes; 2] {
    let mut result = [[0.0; SIDE_BY_SIDE]; 2];
    for lane in 0..SIDE_BY_SIDE {
        // In (0, 1], so that the logarithm is finite.
        let uniform = ((first[lane] >> 8) + 1) as f32 * UNIFORM_STEP;
        let radius = (-2.0 * log(uniform)).sqrt();
        // The angle in turns: a multiple of a quarter, and a rest of at most an eighth.
        let turns = (second[lane] >> 8) as f32 * UNIFORM_STEP;
        let quarter = (second[lane] >> 8).wrapping_add(1 << 21) >> 22;
        let rest = turns - quarter as f32 * 0.25;
        let square = rest * rest;
        let sine = rest * polynomial(square, &SINE);
        let cosine = polynomial(square, &COSINE);
        let odd = quarter & 1 == 1;
        let (x, y) = if odd { (sine, cosine) } else { (cosine, sine) };
        // Signs of the cosine in quarters 0 to 3: + - - +; of the sine: + + - -.
        let x_sign = (quarter.wrapping_add(1) & 2) << 30;
        let y_sign = (quarter & 2) << 30;
        result[0][lane] = radius * f32::from_bits(x.to_bits() ^ x_sign);
        result[1][lane] = radius * f32::from_bits(y.to_bits() ^ y_sign);
    }
    result
}
