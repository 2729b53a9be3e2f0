//! The one-dimensional transforms of Winograd's minimal filtering algorithms with three taps.
//!
//! `Y = Aᵀ[(G·g) ⊙ (Bᵀ·d)]` computes OUT outputs of a three-tap filter from ALPHA = OUT + 2 inputs with ALPHA multiplications instead
//! of 3·OUT; nested in both directions, OUT² outputs of a 3×3 kernel with ALPHA² instead of 9·OUT² (Lavin and Gray, "Fast Algorithms
//! for Convolutional Neural Networks", 2015, section 4.1). The gradient of the kernel is the transposed algorithm:
//! `dg = Gᵀ[(A·dY) ⊙ (Bᵀ·d)]`.

use crate::isa::Simd;

/// The transforms of one line. Each is a small constant matrix times a vector of SIMD vectors.
pub(super) trait Lines<const OUT: usize, const ALPHA: usize>: Copy + Send + Sync {
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
}

/// F(2, 3): 2 outputs from 4 inputs; in two dimensions 2.25 times fewer multiplications. Its matrices have no entries but 0, ±1
/// and ½, and its rounding error is no larger than that of the direct sum.
#[derive(Clone, Copy)]
pub(super) struct Two;

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

/// Applies `line` to the columns and then to the rows of a square.
#[inline(always)]
pub(super) fn both_ways<V: Copy, const N: usize, const M: usize>(
    zero: V,
    square: [[V; N]; N],
    line: impl Fn([V; N]) -> [V; M],
) -> [[V; M]; M] {
    let mut half = [[zero; N]; M];
    for column in 0..N {
        let mut values = [zero; N];
        for row in 0..N {
            values[row] = square[row][column];
        }
        let values = line(values);
        for row in 0..M {
            half[row][column] = values[row];
        }
    }
    let mut full = [[zero; M]; M];
    for row in 0..M {
        full[row] = line(half[row]);
    }
    full
}
