//! The normal distribution under [`super::transition`], in f64, compiled for the instruction set of the machine.

use crate::isa::{Simd, SimdOp, dispatch};
use std::f64::consts::{FRAC_2_SQRT_PI, SQRT_2};

/// Arguments of [`standard_normal`].
pub(super) const LANES: usize = 8;
/// A number in each lane.
pub(super) type Lanes = [f64; LANES];

/// The reciprocals of 3, 5, 7, …: as many as the series below needs at 8.
const RECIPROCALS: [f64; 192] = {
    let mut values = [0.0; 192];
    let mut index = 0;
    while index < values.len() {
        values[index] = 1.0 / (2 * index + 3) as f64;
        index += 1;
    }
    values
};
/// Terms between two looks at whether all lanes have converged.
const TERMS: usize = 8;
/// Beyond this the distribution is 0 or 1 to the last bit.
const FARTHEST: f64 = 8.0;

/// The density and the distribution function of the standard normal at every `t`, to f64's precision. What a lane gets does not depend
/// on the others.
pub(super) fn standard_normal(t: Lanes) -> (Lanes, Lanes) {
    let near = t.map(|t| if t.abs() > FARTHEST { 0.0 } else { t });
    let sums = dispatch(Series(near));
    let density = t.map(|t| FRAC_2_SQRT_PI / (2.0 * SQRT_2) * (-0.5 * t * t).exp());
    let distribution = std::array::from_fn(|lane| match t[lane] {
        far if far > FARTHEST => 1.0,
        far if far < -FARTHEST => 0.0,
        _ => 0.5 + density[lane] * sums[lane],
    });
    (density, distribution)
}

/// The series of positive terms t + t³/3 + t⁵/(3·5) + … (Abramowitz and Stegun 26.2.11).
struct Series(Lanes);

impl SimdOp for Series {
    type Output = Lanes;

    #[inline(always)]
    fn call<S: Simd>(self, _: S) -> Lanes {
        let mut squares = [0.0; LANES];
        for lane in 0..LANES {
            squares[lane] = self.0[lane] * self.0[lane];
        }
        let (mut terms, mut sums) = (self.0, self.0);
        for reciprocals in RECIPROCALS.as_chunks::<TERMS>().0 {
            for reciprocal in reciprocals {
                for lane in 0..LANES {
                    terms[lane] *= squares[lane] * reciprocal;
                    sums[lane] += terms[lane];
                }
            }
            // More terms would leave the sums as they are.
            let mut open = false;
            for lane in 0..LANES {
                open |= terms[lane].abs() > 1e-17 * sums[lane].abs();
            }
            if !open {
                break;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at_every_level;

    #[test]
    fn the_normal_distribution_is_right_to_its_last_digits() {
        at_every_level(|| {
            let known = [
                (0.0, 0.5),
                (1.0, 0.841_344_746_068_542_9),
                (-1.0, 0.158_655_253_931_457_05),
                (3.0, 0.998_650_101_968_369_9),
                (-5.0, 2.866_515_718_791_945_6e-7),
                (9.0, 1.0),
                (-40.0, 0.0),
                (7.9, 1.0 - 1.394_7e-15),
            ];
            let (_, distribution) = standard_normal(known.map(|(t, _)| t));
            for (actual, (t, expected)) in distribution.into_iter().zip(known) {
                assert!((actual - expected).abs() < 1e-15, "{t}: {actual}");
                let (_, alone) = standard_normal([t; LANES]);
                assert_eq!(actual.to_bits(), alone[0].to_bits(), "{t}");
            }
            let (density, distribution) = standard_normal([f64::NAN; LANES]);
            assert!(density[0].is_nan() && distribution[0].is_nan());
        });
    }
}
