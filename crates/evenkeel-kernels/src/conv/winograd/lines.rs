//! The one-dimensional transforms of Winograd's minimal filtering algorithms with three taps.
//!
//! `Y = Aᵀ[(G·g) ⊙ (Bᵀ·d)]` computes OUT outputs of a three-tap filter from ALPHA = OUT + 2 inputs with ALPHA multiplications instead
//! of 3·OUT; nested in both directions, OUT² outputs of a 3×3 kernel with ALPHA² instead of 9·OUT² (Lavin and Gray, "Fast Algorithms
//! for Convolutional Neural Networks", 2015, section 4.1). The gradient of the kernel is the transposed algorithm:
//! `dg = Gᵀ[(A·dY) ⊙ (Bᵀ·d)]`.

use crate::isa::Simd;

/// Defines a two-dimensional transform: a line transform of all columns, then of all rows. Written out and inlined, since a closure
/// would be compiled without the kernel's target features wherever it is not inlined.
macro_rules! both_ways {
    ($square:ident, $line:ident, $from:tt, $to:tt) => {
        #[doc = concat!("[`Self::", stringify!($line), "`] of the columns, then of the rows.")]
        #[inline(always)]
        fn $square<S: Simd>(s: S, square: [[S::F32; $from]; $from]) -> [[S::F32; $to]; $to] {
            let mut half = [[s.zero(); $from]; $to];
            for column in 0..$from {
                let mut values = [s.zero(); $from];
                for row in 0..$from {
                    values[row] = square[row][column];
                }
                let values = Self::$line(s, values);
                for row in 0..$to {
                    half[row][column] = values[row];
                }
            }
            let mut full = [[s.zero(); $to]; $to];
            for row in 0..$to {
                full[row] = Self::$line(s, half[row]);
            }
            full
        }
    };
}

/// The transforms of one line. Each is a small constant matrix times a vector of SIMD vectors.
pub(in super::super) trait Lines<const OUT: usize, const ALPHA: usize>:
    Copy + Send + Sync
{
    /// `Bᵀ·d`: of the input.
    fn input<S: Simd>(s: S, d: [S::F32; ALPHA]) -> [S::F32; ALPHA];
    /// `G·g`: of the kernel.
    fn kernel<S: Simd>(s: S, g: [S::F32; 3]) -> [S::F32; ALPHA];
    /// `Aᵀ·m`: of the products.
    fn output<S: Simd>(s: S, m: [S::F32; ALPHA]) -> [S::F32; OUT];
    /// `A·y`: of the output's gradient.
    fn gradient<S: Simd>(s: S, y: [S::F32; OUT]) -> [S::F32; ALPHA];
    /// `Gᵀ·m`: of the products, to the kernel's gradient.
    fn kernel_gradient<S: Simd>(s: S, m: [S::F32; ALPHA]) -> [S::F32; 3];

    both_ways!(input_square, input, ALPHA, ALPHA);
    both_ways!(kernel_square, kernel, 3, ALPHA);
    both_ways!(output_square, output, ALPHA, OUT);
    both_ways!(gradient_square, gradient, OUT, ALPHA);
    both_ways!(kernel_gradient_square, kernel_gradient, ALPHA, 3);
}

/// F(2, 3): 2 outputs from 4 inputs; in two dimensions 2.25 times fewer multiplications. Its matrices have no entries but 0, ±1
/// and ½, and its rounding error is no larger than that of the direct sum.
#[derive(Clone, Copy)]
pub(in super::super) struct Two;

impl Lines<2, 4> for Two {
    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::F32; 4]) -> [S::F32; 4] {
        [
            s.sub(d[0], d[2]),
            s.add(d[1], d[2]),
            s.sub(d[2], d[1]),
            s.sub(d[1], d[3]),
        ]
    }
    #[inline(always)]
    fn kernel<S: Simd>(s: S, g: [S::F32; 3]) -> [S::F32; 4] {
        let half = s.splat(0.5);
        let outer = s.mul(half, s.add(g[0], g[2]));
        let middle = s.mul(half, g[1]);
        [g[0], s.add(outer, middle), s.sub(outer, middle), g[2]]
    }
    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::F32; 4]) -> [S::F32; 2] {
        [
            s.add(m[0], s.add(m[1], m[2])),
            s.sub(s.sub(m[1], m[2]), m[3]),
        ]
    }
    #[inline(always)]
    fn gradient<S: Simd>(s: S, y: [S::F32; 2]) -> [S::F32; 4] {
        [y[0], s.add(y[0], y[1]), s.sub(y[0], y[1]), s.neg(y[1])]
    }
    #[inline(always)]
    fn kernel_gradient<S: Simd>(s: S, m: [S::F32; 4]) -> [S::F32; 3] {
        let half = s.splat(0.5);
        let sum = s.mul(half, s.add(m[1], m[2]));
        let difference = s.mul(half, s.sub(m[1], m[2]));
        [s.add(m[0], sum), difference, s.add(sum, m[3])]
    }
}

/// F(4, 3): 4 outputs from 6 inputs; in two dimensions 4 times fewer multiplications.
///
/// Interpolates at 0, ±1/√2, ±√2 and infinity. The usual points 0, ±1, ±2 multiply the rounding error by up to ten, because powers
/// of 2 in A and their inverses in G differ so much; with these points (whose products are 1, so that the matrices are nearly
/// balanced) the error, measured with 64 channels, is 7e-7 of the output's root mean square, and at most 5e-6: twice that of the
/// direct sum in f32 (3e-7 and 3e-6). The choice of points is after Barabasz et al., "Error Analysis and Improving the Accuracy of
/// Winograd Convolution for Deep Neural Networks", 2020.
#[derive(Clone, Copy)]
pub(in super::super) struct Four;

/// 1/√2, one of the points of [`Four`].
const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// √2, the other.
const B: f32 = std::f32::consts::SQRT_2;

impl Lines<4, 6> for Four {
    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::F32; 6]) -> [S::F32; 6] {
        let (two, half, five_halves) = (s.splat(2.0), s.splat(0.5), s.splat(2.5));
        let (a, b) = (s.splat(A), s.splat(B));
        let (even_a, odd_a) = (s.fnma(two, d[2], d[4]), s.fnma(two, d[1], d[3]));
        let (even_b, odd_b) = (s.fnma(half, d[2], d[4]), s.fnma(half, d[1], d[3]));
        [
            s.fnma(five_halves, d[2], s.add(d[0], d[4])),
            s.fma(a, odd_a, even_a),
            s.fnma(a, odd_a, even_a),
            s.fma(b, odd_b, even_b),
            s.fnma(b, odd_b, even_b),
            s.fnma(five_halves, d[3], s.add(d[1], d[5])),
        ]
    }
    #[inline(always)]
    fn kernel<S: Simd>(s: S, g: [S::F32; 3]) -> [S::F32; 6] {
        let (scale_a, scale_b) = (s.splat(-2.0 / 3.0), s.splat(1.0 / 6.0));
        let even_a = s.mul(scale_a, s.fma(s.splat(0.5), g[2], g[0]));
        let odd_a = s.mul(s.splat(-2.0 / 3.0 * A), g[1]);
        let even_b = s.mul(scale_b, s.fma(s.splat(2.0), g[2], g[0]));
        let odd_b = s.mul(s.splat(B / 6.0), g[1]);
        [
            g[0],
            s.add(even_a, odd_a),
            s.sub(even_a, odd_a),
            s.add(even_b, odd_b),
            s.sub(even_b, odd_b),
            g[2],
        ]
    }
    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::F32; 6]) -> [S::F32; 4] {
        let (sum_a, difference_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
        let (sum_b, difference_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        [
            s.add(m[0], s.add(sum_a, sum_b)),
            s.fma(s.splat(A), difference_a, s.mul(s.splat(B), difference_b)),
            s.fma(s.splat(0.5), sum_a, s.mul(s.splat(2.0), sum_b)),
            s.fma(
                s.splat(0.5 * A),
                difference_a,
                s.fma(s.splat(2.0 * B), difference_b, m[5]),
            ),
        ]
    }
    #[inline(always)]
    fn gradient<S: Simd>(s: S, y: [S::F32; 4]) -> [S::F32; 6] {
        let (half, two) = (s.splat(0.5), s.splat(2.0));
        let (even_a, odd_a) = (s.fma(half, y[2], y[0]), s.fma(half, y[3], y[1]));
        let (even_b, odd_b) = (s.fma(two, y[2], y[0]), s.fma(two, y[3], y[1]));
        let (a, b) = (s.splat(A), s.splat(B));
        [
            y[0],
            s.fma(a, odd_a, even_a),
            s.fnma(a, odd_a, even_a),
            s.fma(b, odd_b, even_b),
            s.fnma(b, odd_b, even_b),
            y[3],
        ]
    }
    #[inline(always)]
    fn kernel_gradient<S: Simd>(s: S, m: [S::F32; 6]) -> [S::F32; 3] {
        let (sum_a, difference_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
        let (sum_b, difference_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        let third = s.splat(1.0 / 3.0);
        [
            s.fma(
                s.splat(1.0 / 6.0),
                sum_b,
                s.fnma(s.splat(2.0 / 3.0), sum_a, m[0]),
            ),
            s.fma(
                s.splat(-2.0 / 3.0 * A),
                difference_a,
                s.mul(s.splat(B / 6.0), difference_b),
            ),
            s.fma(third, s.sub(sum_b, sum_a), m[5]),
        ]
    }
}
