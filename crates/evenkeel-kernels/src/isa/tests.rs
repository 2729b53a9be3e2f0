//! Every operation of every level this machine has, against plain arithmetic.

use super::*;

const VALUES: [f32; MAX_LANES] = [
    0.0, -0.0, 1.0, -1.5, 2.25, -3.0, 0.1, 1e20, -1e-20, 7.5, 8.5, -6.25, 42.0, 1e3, -1e3, 0.5,
];
const OTHERS: [f32; MAX_LANES] = [
    1.0, 2.0, -1.0, -1.5, 0.75, 3.0, -0.1, 1e-20, 1e-20, 2.5, -8.5, 6.25, -42.0, 1e-3, 3.0, 0.25,
];

struct Check;

impl SimdOp for Check {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let lanes = S::LANES;
        let read = |v: S::F32| {
            let mut out = [0.0f32; MAX_LANES];
            // SAFETY: `out` holds MAX_LANES >= LANES values.
            unsafe { s.store(v, out.as_mut_ptr()) };
            out[..lanes].to_vec()
        };
        let stride = MAX_LANES + 3;
        let square: Vec<f32> = (0..MAX_LANES * stride).map(|i| i as f32).collect();
        let mut turned = vec![-1.0f32; MAX_LANES * (stride + 1)];
        // SAFETY: both hold MAX_LANES rows of their stride.
        unsafe { s.transpose(square.as_ptr(), stride, turned.as_mut_ptr(), stride + 1) };
        for i in 0..lanes {
            for j in 0..lanes {
                assert_eq!(turned[j * (stride + 1) + i], square[i * stride + j]);
            }
            assert_eq!(turned[i * (stride + 1) + lanes], -1.0);
        }
        // SAFETY: runs of four, `stride` apart, lie in the square.
        let quads = read(unsafe { s.load_quads(square.as_ptr().add(1), stride) });
        let want = (0..lanes).map(|i| square[i / 4 * stride + i % 4 + 1]);
        assert_eq!(quads, want.collect::<Vec<_>>());
        macro_rules! interleaved {
            ($($count:literal)*) => {$({
                let values: Vec<f32> = (0..$count * lanes).map(|i| i as f32).collect();
                let mut vectors = [s.zero(); $count];
                for k in 0..$count {
                    // SAFETY: `values` holds as many vectors.
                    vectors[k] = unsafe { s.load(values.as_ptr().add(k * lanes)) };
                }
                let apart = s.take_apart(vectors);
                let together = s.put_together(apart);
                for k in 0..$count {
                    let want: Vec<f32> = (0..lanes).map(|i| (i * $count + k) as f32).collect();
                    assert_eq!(read(apart[k]), want);
                    assert_eq!(read(together[k]), values[k * lanes..(k + 1) * lanes]);
                }
            })*};
        }
        interleaved!(1 2 3 4 5 6 7 8);
        for start in (0..MAX_LANES).step_by(lanes) {
            let (x, y) = (&VALUES[start..start + lanes], &OTHERS[start..start + lanes]);
            // SAFETY: both slices hold LANES values.
            let (a, b) = unsafe { (s.load(x.as_ptr()), s.load(y.as_ptr())) };
            let c = s.splat(0.5);
            let want = |f: &dyn Fn(f32, f32) -> f32| -> Vec<f32> {
                x.iter().zip(y).map(|(&x, &y)| f(x, y)).collect()
            };
            assert_eq!(read(s.add(a, b)), want(&|x, y| x + y));
            assert_eq!(read(s.sub(a, b)), want(&|x, y| x - y));
            assert_eq!(read(s.mul(a, b)), want(&|x, y| x * y));
            assert_eq!(read(s.div(a, b)), want(&|x, y| x / y));
            assert_eq!(read(s.max(a, b)), want(&|x, y| if x > y { x } else { y }));
            assert_eq!(read(s.min(a, b)), want(&|x, y| if x < y { x } else { y }));
            assert_eq!(read(s.abs(a)), want(&|x, _| x.abs()));
            assert_eq!(read(s.neg(a)), want(&|x, _| -x));
            assert_eq!(read(s.sqrt(s.abs(a))), want(&|x, _| x.abs().sqrt()));
            let near = |got: Vec<f32>, want: Vec<f32>| {
                for (got, want) in got.into_iter().zip(want) {
                    assert!(
                        (got - want).abs() <= want.abs() * 1e-6,
                        "{got} is not {want}"
                    );
                }
            };
            near(read(s.fma(a, b, c)), want(&|x, y| x.mul_add(y, 0.5)));
            near(read(s.fnma(a, b, c)), want(&|x, y| (-x).mul_add(y, 0.5)));
            let small = s.min(s.max(a, s.splat(-100.0)), s.splat(100.0));
            assert_eq!(
                read(s.round(small)),
                want(&|x, _| x.clamp(-100.0, 100.0).round_ties_even())
            );
            assert_eq!(
                read(s.exp2_integral(s.round(small))),
                want(&|x, _| x.clamp(-100.0, 100.0).round_ties_even().exp2())
            );
            // One is added so that no lane is zero, where the parts are unspecified.
            let (mantissa, exponent) = s.decompose(s.add(s.abs(a), s.splat(1.0)));
            assert_eq!(
                read(s.mul(mantissa, s.exp2_integral(exponent))),
                want(&|x, _| x.abs() + 1.0)
            );
            assert!(read(mantissa).iter().all(|m| (1.0..2.0).contains(m)));
            let (one, two) = (s.splat(1.0), s.splat(2.0));
            assert_eq!(
                read(s.select(s.gt(a, b), one, two)),
                want(&|x, y| if x > y { 1.0 } else { 2.0 })
            );
            assert_eq!(
                read(s.select(s.ge(a, b), one, two)),
                want(&|x, y| if x >= y { 1.0 } else { 2.0 })
            );
            let bits = 0b1011_0010_1100_0101u32;
            let unpacked = read(s.select(s.unpack(bits | 1 << 31), one, two));
            let expected = |lane: usize| if bits >> lane & 1 == 1 { 1.0 } else { 2.0 };
            assert_eq!(unpacked, (0..lanes).map(expected).collect::<Vec<f32>>());
            let nan = s.splat(f32::NAN);
            assert_eq!(read(s.max(nan, one)), vec![1.0; lanes]);
            assert!(read(s.max(one, nan)).iter().all(|x| x.is_nan()));
            assert!(read(s.min(one, nan)).iter().all(|x| x.is_nan()));
            assert_eq!(read(s.select(s.ge(nan, one), one, two)), vec![2.0; lanes]);
            let total: f64 = y.iter().map(|&y| f64::from(y)).sum();
            assert!((f64::from(s.sum(b)) - total).abs() < 1e-4);
            assert_eq!(
                s.max_lane(b),
                y.iter().copied().fold(f32::NEG_INFINITY, f32::max)
            );
            assert_eq!(read(s.narrow(s.widen(a))), x);
            let [low, high] = s.widen(b);
            let sum = s.sum64(s.add64(low, high));
            assert!((sum - total).abs() < 1e-12);
            let squares = s.sum64(s.fma64(low, low, s.mul64(high, high)));
            let wanted: f64 = y.iter().map(|&y| f64::from(y).powi(2)).sum();
            assert!((squares - wanted).abs() <= wanted * 1e-14);
            let mut wide = [0.0f64; MAX_LANES / 2];
            // SAFETY: `wide` holds MAX_LANES / 2 >= LANES / 2 values.
            let back = unsafe {
                s.store64(s.sub64(low, s.splat64(1.0)), wide.as_mut_ptr());
                s.load64(wide.as_ptr())
            };
            assert_eq!(wide[0], f64::from(y[0]) - 1.0);
            assert!((s.sum64(back) - wide[..lanes / 2].iter().sum::<f64>()).abs() < 1e-12);
            for n in 0..=lanes {
                let mut out = [9.0f32; MAX_LANES];
                // SAFETY: n <= LANES values are read from `x` and written to `out`.
                let partial = unsafe {
                    let partial = s.load_partial(x.as_ptr(), n);
                    s.store_partial(partial, out.as_mut_ptr(), n);
                    partial
                };
                assert_eq!(out[..n], x[..n]);
                assert!(out[n..].iter().all(|&x| x == 9.0));
                assert!(read(partial)[n..].iter().all(|&x| x == 0.0));
            }
        }
    }
}

#[test]
fn every_level_does_plain_arithmetic() {
    Check.call(Portable::new());
    #[cfg(target_arch = "x86_64")]
    {
        if Level::Avx2.is_available() {
            // SAFETY: just confirmed.
            unsafe { avx2::run(Check) };
        }
        if Level::Avx512.is_available() {
            // SAFETY: just confirmed.
            unsafe { avx512::run(Check) };
        }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: every AArch64 processor has NEON.
    unsafe {
        neon::run(Check)
    };
}

#[test]
fn levels_have_names_and_an_order() {
    for level in Level::ALL {
        assert_eq!(Level::from_name(level.name()), Some(level));
    }
    assert_eq!(Level::from_name("sse9"), None);
    let available = Level::available();
    assert_eq!(available[0], Level::Portable);
    assert!(available.is_sorted());
    assert!(available.contains(&level()));
}
