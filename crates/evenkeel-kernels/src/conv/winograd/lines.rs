//! The one-dimensional transforms of Winograd's minimal filtering algorithms with three taps.
//!
//! `Y = Aᵀ[(G·g) ⊙ (Bᵀ·d)]` computes `m` outputs of a three-tap filter from `m + 2` inputs with `m + 2` multiplications instead
//! of `3·m`; nested in both directions, `m²` outputs of a 3×3 kernel with `(m + 2)²` instead of `9·m²` (Lavin and Gray, "Fast Algorithms
//! for Convolutional Neural Networks", 2015, section 4.1). The gradient of the kernel is the transposed algorithm:
//! `dg = Gᵀ[(A·dY) ⊙ (Bᵀ·d)]`.

use super::squares::{Load, Store};
use crate::isa::Simd;
use std::mem::MaybeUninit;

/// Defines a two-dimensional transform: a line transform of all columns, then of all rows. Written out and inlined, since a closure
/// would be compiled without the kernel's target features wherever it is not inlined.
macro_rules! both_ways {
    ($square:ident, $line:ident, $from:tt, $to:tt) => {
        #[doc = concat!("[`Self::", stringify!($line), "`] of the columns, then of the rows.")]
        ///
        /// # Safety
        /// Both squares must be as large as the transform, and keep the promises that their types ask for.
        #[inline(always)]
        unsafe fn $square<S: Simd>(s: S, from: impl Load<S>, to: impl Store<S>) {
            // Not filled with zeros: it is large.
            let mut half = [[MaybeUninit::<S::F32>::uninit(); $from]; $to];
            // SAFETY: rows and columns of the transform; every element of `half` is written before it is read.
            unsafe {
                for column in 0..$from {
                    let mut values = [s.zero(); $from];
                    for row in 0..$from {
                        values[row] = from.load(s, row, column);
                    }
                    let values = Self::$line(s, values);
                    for row in 0..$to {
                        half[row][column].write(values[row]);
                    }
                }
                for row in 0..$to {
                    let mut values = [s.zero(); $from];
                    for column in 0..$from {
                        values[column] = half[row][column].assume_init();
                    }
                    let values = Self::$line(s, values);
                    for column in 0..$to {
                        to.store(s, row, column, values[column]);
                    }
                }
            }
        }
    };
}

/// The transforms of one line. Each is a small constant matrix times a vector of SIMD vectors.
///
/// SOURCE pixels become as many elements, three taps KERNEL elements, and PRODUCT elements OUT pixels. With stride 1 the three
/// numbers are one; with stride 2, several elements of the kernel share a product or an element of the source.
pub(in super::super) trait Lines<
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
>: Copy + Send + Sync
{
    /// Source pixels from one tile to the next.
    const STEP: usize;
    /// Which element of the source each element of the kernel is multiplied with, and to which product that is added.
    const ELEMENTS: Elements<KERNEL>;
    /// `Bᵀ·d`: of the input.
    fn input<S: Simd>(s: S, d: [S::F32; SOURCE]) -> [S::F32; SOURCE];
    /// `G·g`: of the kernel.
    fn kernel<S: Simd>(s: S, g: [S::F32; 3]) -> [S::F32; KERNEL];
    /// `Aᵀ·m`: of the products.
    fn output<S: Simd>(s: S, m: [S::F32; PRODUCT]) -> [S::F32; OUT];

    both_ways!(input_square, input, SOURCE, SOURCE);
    both_ways!(kernel_square, kernel, 3, KERNEL);
    both_ways!(output_square, output, PRODUCT, OUT);
}

/// The transposed transforms, for the gradient of the kernel.
pub(in super::super) trait Transposed<
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
>: Lines<SOURCE, KERNEL, PRODUCT, OUT>
{
    /// `A·y`: of the output's gradient.
    fn gradient<S: Simd>(s: S, y: [S::F32; OUT]) -> [S::F32; PRODUCT];
    /// `Gᵀ·m`: of the products, to the kernel's gradient.
    fn kernel_gradient<S: Simd>(s: S, m: [S::F32; KERNEL]) -> [S::F32; 3];

    both_ways!(gradient_square, gradient, OUT, PRODUCT);
    both_ways!(kernel_gradient_square, kernel_gradient, KERNEL, 3);
}

/// An element of a two-dimensional kernel: the element of the source it is multiplied with, and the product that is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Pair {
    /// Number of the source's element.
    pub source: usize,
    /// Number of the product.
    pub product: usize,
}

/// The elements of a two-dimensional kernel in their order in memory, where those that share a product are neighbours.
pub(in super::super) struct Elements<const KERNEL: usize> {
    /// What each is multiplied with and added to.
    pub pairs: [[Pair; KERNEL]; KERNEL],
    /// The place of an element by row and column.
    pub places: [[usize; KERNEL]; KERNEL],
}

/// The elements in two dimensions, from those of a line: the numbers of their elements of the source, of `SOURCE` in all, and of their
/// products, of `PRODUCT`.
const fn elements<const SOURCE: usize, const KERNEL: usize, const PRODUCT: usize>(
    source: [usize; KERNEL],
    product: [usize; KERNEL],
) -> Elements<KERNEL> {
    let none = Pair {
        source: 0,
        product: 0,
    };
    let mut all = Elements {
        pairs: [[none; KERNEL]; KERNEL],
        places: [[0; KERNEL]; KERNEL],
    };
    let (mut place, mut number) = (0, 0);
    while number < PRODUCT * PRODUCT {
        let mut index = 0;
        while index < KERNEL * KERNEL {
            let (i, j) = (index / KERNEL, index % KERNEL);
            if product[i] * PRODUCT + product[j] == number {
                all.pairs[place / KERNEL][place % KERNEL] = Pair {
                    source: source[i] * SOURCE + source[j],
                    product: number,
                };
                all.places[i][j] = place;
                place += 1;
            }
            index += 1;
        }
        number += 1;
    }
    assert!(place == KERNEL * KERNEL);
    all
}

/// F(2, 3): 2 outputs from 4 inputs; in two dimensions 2.25 times fewer multiplications. Its matrices have no entries but 0, ±1
/// and ½, and its rounding error is no larger than that of the direct sum.
#[derive(Clone, Copy)]
pub(in super::super) struct Two;

impl Lines<4, 4, 4, 2> for Two {
    const STEP: usize = 2;
    const ELEMENTS: Elements<4> = elements::<4, 4, 4>([0, 1, 2, 3], [0, 1, 2, 3]);
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
}

impl Transposed<4, 4, 4, 2> for Two {
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

impl Lines<6, 6, 6, 4> for Four {
    const STEP: usize = 4;
    const ELEMENTS: Elements<6> = elements::<6, 6, 6>([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]);
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
}

impl Transposed<6, 6, 6, 4> for Four {
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

/// Stride 2, forward: 4 outputs from 9 inputs with 9 multiplications instead of 12; in two dimensions 81 instead of 144.
///
/// The outer taps see every second pixel and the middle tap those between them. The former are a kernel of two taps with stride 1:
/// F(4, 2), five multiplications, interpolated at ±1/2, ±3/2 and infinity. The latter is a kernel of one tap, whose four
/// multiplications are interpolated at the same finite points, so that both are summed before one transform of the products.
/// Simulated with 64 channels, the error is 5e-7 of the output's root mean square and 4e-6 at most; the direct sum's is 4.4e-7. (Points
/// ±1/√2, ±√2: 6.8e-7 and 5e-6; 0, ±1, 2: 9e-7 and 8e-6.)
#[derive(Clone, Copy)]
pub(in super::super) struct Half;

/// Which point each element of a line belongs to: those of the outer taps, then those of the middle one, which has none at infinity.
const POINTS: [usize; 9] = [0, 1, 2, 3, 4, 0, 1, 2, 3];
/// All elements, each by itself.
const ALL: [usize; 9] = [0, 1, 2, 3, 4, 5, 6, 7, 8];

impl Half {
    /// Four pixels at the finite points.
    #[inline(always)]
    fn finite<S: Simd>(s: S, d: [S::F32; 4]) -> [S::F32; 4] {
        let (near, far) = (s.splat(0.25), s.splat(2.25));
        let (a, b) = (s.splat(0.5), s.splat(1.5));
        let (even_a, odd_a) = (s.fnma(far, d[0], d[2]), s.fnma(far, d[1], d[3]));
        let (even_b, odd_b) = (s.fnma(near, d[0], d[2]), s.fnma(near, d[1], d[3]));
        [
            s.fma(a, even_a, odd_a),
            s.fnma(a, even_a, odd_a),
            s.fma(b, even_b, odd_b),
            s.fnma(b, even_b, odd_b),
        ]
    }

    /// Five pixels at infinity.
    #[inline(always)]
    fn infinite<S: Simd>(s: S, d: [S::F32; 5]) -> S::F32 {
        s.fma(s.splat(0.5625), d[0], s.fnma(s.splat(2.5), d[2], d[4]))
    }

    /// Four outputs from the products at the finite points.
    #[inline(always)]
    fn outputs<S: Simd>(s: S, m: [S::F32; 4]) -> [S::F32; 4] {
        let (sum_a, difference_a) = (s.add(m[0], m[1]), s.sub(m[0], m[1]));
        let (sum_b, difference_b) = (s.add(m[2], m[3]), s.sub(m[2], m[3]));
        [
            s.add(sum_a, sum_b),
            s.fma(
                s.splat(0.5),
                difference_a,
                s.mul(s.splat(1.5), difference_b),
            ),
            s.fma(s.splat(0.25), sum_a, s.mul(s.splat(2.25), sum_b)),
            s.fma(
                s.splat(0.125),
                difference_a,
                s.mul(s.splat(3.375), difference_b),
            ),
        ]
    }

    #[inline(always)]
    fn taps<S: Simd>(s: S, g: [S::F32; 3]) -> [S::F32; 9] {
        let (half, quarter, sixth) = (s.splat(0.5), s.splat(0.25), s.splat(1.0 / 6.0));
        let (last, half_first, sixth_first) =
            (s.mul(quarter, g[2]), s.mul(half, g[0]), s.mul(sixth, g[0]));
        let (half_middle, sixth_middle) = (s.mul(half, g[1]), s.mul(sixth, g[1]));
        [
            s.neg(s.add(half_first, last)),
            s.sub(half_first, last),
            s.add(sixth_first, last),
            s.sub(last, sixth_first),
            g[2],
            s.neg(half_middle),
            half_middle,
            sixth_middle,
            s.neg(sixth_middle),
        ]
    }
}

impl Lines<9, 9, 5, 4> for Half {
    const STEP: usize = 8;
    const ELEMENTS: Elements<9> = elements::<9, 9, 5>(ALL, POINTS);
    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::F32; 9]) -> [S::F32; 9] {
        let outer = Half::finite(s, [d[0], d[2], d[4], d[6]]);
        let middle = Half::finite(s, [d[1], d[3], d[5], d[7]]);
        let last = Half::infinite(s, [d[0], d[2], d[4], d[6], d[8]]);
        [
            outer[0], outer[1], outer[2], outer[3], last, middle[0], middle[1], middle[2],
            middle[3],
        ]
    }
    #[inline(always)]
    fn kernel<S: Simd>(s: S, g: [S::F32; 3]) -> [S::F32; 9] {
        Half::taps(s, g)
    }
    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::F32; 5]) -> [S::F32; 4] {
        let mut y = Half::outputs(s, [m[0], m[1], m[2], m[3]]);
        y[3] = s.add(y[3], m[4]);
        y
    }
}

impl Transposed<9, 9, 5, 4> for Half {
    #[inline(always)]
    fn gradient<S: Simd>(s: S, y: [S::F32; 4]) -> [S::F32; 5] {
        let (near, far) = (s.splat(0.25), s.splat(2.25));
        let (a, b) = (s.splat(0.5), s.splat(1.5));
        let (even_a, odd_a) = (s.fma(near, y[2], y[0]), s.fma(near, y[3], y[1]));
        let (even_b, odd_b) = (s.fma(far, y[2], y[0]), s.fma(far, y[3], y[1]));
        [
            s.fma(a, odd_a, even_a),
            s.fnma(a, odd_a, even_a),
            s.fma(b, odd_b, even_b),
            s.fnma(b, odd_b, even_b),
            y[3],
        ]
    }
    #[inline(always)]
    fn kernel_gradient<S: Simd>(s: S, m: [S::F32; 9]) -> [S::F32; 3] {
        let (half, quarter, sixth) = (s.splat(0.5), s.splat(0.25), s.splat(1.0 / 6.0));
        let sums = s.sub(s.add(m[2], m[3]), s.add(m[0], m[1]));
        [
            s.fma(half, s.sub(m[1], m[0]), s.mul(sixth, s.sub(m[2], m[3]))),
            s.fma(half, s.sub(m[6], m[5]), s.mul(sixth, s.sub(m[7], m[8]))),
            s.fma(quarter, sums, m[4]),
        ]
    }
}

/// Stride 2, gradient of the input: 8 pixels from 5 of the output's gradient, with the points of [`Half`]. Pixels under the middle
/// tap and those under the outer ones alternate; both share one transform of the gradient.
#[derive(Clone, Copy)]
pub(in super::super) struct Double;

impl Lines<5, 9, 9, 8> for Double {
    const STEP: usize = 4;
    const ELEMENTS: Elements<9> = elements::<5, 9, 9>(POINTS, ALL);
    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::F32; 5]) -> [S::F32; 5] {
        let finite = Half::finite(s, [d[0], d[1], d[2], d[3]]);
        [
            finite[0],
            finite[1],
            finite[2],
            finite[3],
            Half::infinite(s, d),
        ]
    }
    #[inline(always)]
    fn kernel<S: Simd>(s: S, g: [S::F32; 3]) -> [S::F32; 9] {
        Half::taps(s, g)
    }
    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::F32; 9]) -> [S::F32; 8] {
        let outer = Half::outputs(s, [m[0], m[1], m[2], m[3]]);
        let middle = Half::outputs(s, [m[5], m[6], m[7], m[8]]);
        let last = s.add(outer[3], m[4]);
        [
            middle[0], outer[0], middle[1], outer[1], middle[2], outer[2], middle[3], last,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const KERNEL: usize>(elements: Elements<KERNEL>, sources: usize, products: usize) {
        let pairs = elements.pairs.as_flattened();
        let mut seen = vec![false; KERNEL * KERNEL];
        for &place in elements.places.as_flattened() {
            assert!(!std::mem::replace(&mut seen[place], true));
        }
        assert!(pairs.is_sorted_by_key(|pair| pair.product));
        for number in 0..products {
            assert!(pairs.iter().any(|pair| pair.product == number));
        }
        for number in 0..sources {
            assert!(pairs.iter().any(|pair| pair.source == number));
        }
    }

    #[test]
    fn every_element_of_a_kernel_has_a_place_beside_those_of_its_product() {
        check(<Two as Lines<4, 4, 4, 2>>::ELEMENTS, 16, 16);
        check(<Four as Lines<6, 6, 6, 4>>::ELEMENTS, 36, 36);
        check(<Half as Lines<9, 9, 5, 4>>::ELEMENTS, 81, 25);
        check(<Double as Lines<5, 9, 9, 8>>::ELEMENTS, 25, 81);
    }
}
