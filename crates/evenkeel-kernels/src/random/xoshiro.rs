//! xoshiro128++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators", ACM TOMS 2021), for long runs of random bits:
//! a tenth of the operations of a counter-based generator, which gives it its state.

use super::philox::{Generator, SIDE_BY_SIDE};

/// Generators side by side, so that the compiler can use whole vectors: word `w` of the state of generator `lane` is
/// `words[w][lane]`.
pub(super) struct Xoshiro {
    words: [[u32; SIDE_BY_SIDE]; 4],
}

impl Xoshiro {
    /// The generators of stream number `stream`: their states are the words of that group, so different streams have nothing to do
    /// with each other (two of a thousand million runs of a thousand million words overlap with a chance below 2^-38).
    #[inline(always)]
    pub(super) fn new(generator: Generator, stream: u64) -> Self {
        Xoshiro {
            words: generator.group(stream),
        }
    }

    /// The next word of every generator.
    #[inline(always)]
    pub(super) fn next(&mut self) -> [u32; SIDE_BY_SIDE] {
        let mut next = [0; SIDE_BY_SIDE];
        let [first, second, third, fourth] = &mut self.words;
        for lane in 0..SIDE_BY_SIDE {
            let [mut a, mut b, mut c, mut d] =
                [first[lane], second[lane], third[lane], fourth[lane]];
            next[lane] = a.wrapping_add(d).rotate_left(7).wrapping_add(a);
            let shifted = b << 9;
            c ^= a;
            d ^= b;
            b ^= c;
            a ^= d;
            c ^= shifted;
            d = d.rotate_left(11);
            [first[lane], second[lane], third[lane], fourth[lane]] = [a, b, c, d];
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_words_of_the_reference_implementation() {
        let mut words = [[0; SIDE_BY_SIDE]; 4];
        for (word, lanes) in words.iter_mut().enumerate() {
            lanes[5] = word as u32 + 1;
        }
        let mut generators = Xoshiro { words };
        let expected = [
            641u32,
            1_573_767,
            3_222_811_527,
            3_517_856_514,
            836_907_274,
            4_247_214_768,
            3_867_114_732,
            1_355_841_295,
            495_546_011,
            621_204_420,
        ];
        for expected in expected {
            let next = generators.next();
            assert_eq!(next[5], expected);
            assert_eq!(next[4], 0, "the state of zeros stays");
        }
    }
}
