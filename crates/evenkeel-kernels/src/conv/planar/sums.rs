//! Planes of a convolution: vectors run over pixels, and a tap of the kernel is a distance.

use crate::isa::{Simd, SimdOp};

/// `to[d][q] = bias[d] + Σ_taps Σ_s planes[s][q + tap]·weight[tap][s][d]`, for whole vectors until all of `0..length` are written.
pub(super) struct Sums<'a> {
    pub planes: &'a [f32],
    /// Values from a plane to the next, of both.
    pub stride: usize,
    /// Distance of each kernel element.
    pub taps: &'a [usize],
    /// `[taps, sources, destinations]`.
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    /// Planes read, and planes written.
    pub channels: [usize; 2],
    pub to: &'a mut [f32],
    /// Pixels, with those between lines.
    pub length: usize,
}

impl Sums<'_> {
    /// `COUNT` destinations from `first` on, `VECTORS` vectors of pixels at a time.
    ///
    /// # Safety
    /// `call` must have checked, and the destinations must exist.
    #[inline(always)]
    unsafe fn block<S: Simd, const COUNT: usize, const VECTORS: usize>(
        &mut self,
        s: S,
        first: usize,
    ) {
        let mut pixel = 0;
        // SAFETY: the caller's promise; a tile begins with a pixel and ends before the end of the vector of the last one.
        unsafe {
            while pixel + VECTORS * S::LANES <= self.length.next_multiple_of(S::LANES) {
                self.tile::<S, COUNT, VECTORS>(s, first, pixel);
                pixel += VECTORS * S::LANES;
            }
            while pixel + S::LANES < self.length {
                self.tile::<S, COUNT, 2>(s, first, pixel);
                pixel += 2 * S::LANES;
            }
            if pixel < self.length {
                self.tile::<S, COUNT, 1>(s, first, pixel);
            }
        }
    }

    /// `COUNT` destinations from `first` on, `VECTORS` vectors from `pixel` on.
    ///
    /// # Safety
    /// `call` must have checked, the destinations must exist, and the last vector must have a pixel.
    #[inline(always)]
    unsafe fn tile<S: Simd, const COUNT: usize, const VECTORS: usize>(
        &mut self,
        s: S,
        first: usize,
        pixel: usize,
    ) {
        let [sources, destinations] = self.channels;
        // SAFETY: `call` compared the last vector, shifted by the largest tap, with the planes, and the weights and the bias with
        // the channels.
        unsafe {
            let mut sums = [[s.zero(); VECTORS]; COUNT];
            if let Some(bias) = self.bias {
                for d in 0..COUNT {
                    sums[d] = [s.splat(*bias.as_ptr().add(first + d)); VECTORS];
                }
            }
            let mut weight = self.weight.as_ptr().add(first);
            for &tap in self.taps {
                let mut from = self.planes.as_ptr().add(pixel + tap);
                for _ in 0..sources {
                    let mut values = [s.zero(); VECTORS];
                    for v in 0..VECTORS {
                        values[v] = s.load(from.add(v * S::LANES));
                    }
                    for d in 0..COUNT {
                        let factor = s.splat(*weight.add(d));
                        for v in 0..VECTORS {
                            sums[d][v] = s.fma(values[v], factor, sums[d][v]);
                        }
                    }
                    weight = weight.wrapping_add(destinations);
                    from = from.wrapping_add(self.stride);
                }
            }
            let to = self.to.as_mut_ptr().add(first * self.stride + pixel);
            for d in 0..COUNT {
                for v in 0..VECTORS {
                    s.store(sums[d][v], to.add(d * self.stride + v * S::LANES));
                }
            }
        }
    }
}

impl SimdOp for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(mut self, s: S) {
        let [sources, destinations] = self.channels;
        let last = self.taps.iter().max().copied().unwrap_or(0);
        assert!(self.length + S::LANES + last <= self.stride);
        assert!(sources * self.stride <= self.planes.len());
        assert!(destinations * self.stride <= self.to.len());
        assert!(self.taps.len() * sources * destinations <= self.weight.len());
        assert!(self.bias.is_none_or(|bias| bias.len() == destinations));
        // Sums, vectors of pixels and a factor fill the registers; factors are loaded once for several vectors of pixels.
        let wide = S::REGISTERS >= 32;
        let blocks = destinations.div_ceil(if wide { 8 } else { 4 });
        for block in 0..blocks {
            let first = block * destinations / blocks;
            let count = (block + 1) * destinations / blocks - first;
            // SAFETY: checked above, and the blocks divide the destinations.
            unsafe {
                match (count, wide) {
                    (1, _) => self.block::<S, 1, 8>(s, first),
                    (2, true) => self.block::<S, 2, 8>(s, first),
                    (2, false) => self.block::<S, 2, 4>(s, first),
                    (3, true) => self.block::<S, 3, 7>(s, first),
                    (3, false) => self.block::<S, 3, 3>(s, first),
                    (4, true) => self.block::<S, 4, 6>(s, first),
                    (4, false) => self.block::<S, 4, 2>(s, first),
                    (5, _) => self.block::<S, 5, 4>(s, first),
                    (6, _) => self.block::<S, 6, 4>(s, first),
                    (7, _) => self.block::<S, 7, 3>(s, first),
                    _ => self.block::<S, 8, 3>(s, first),
                }
            }
        }
    }
}
