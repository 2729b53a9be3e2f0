use super::*;
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level};

const SEED: Generator = Generator {
    seed: 0x1234_5678_9abc_def0,
    sequence: 7,
};

#[test]
fn philox_gives_the_published_known_answers() {
    // kat_vectors of the authors' reference implementation.
    let cases = [
        (
            [0; 4],
            [0; 2],
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
        ),
        (
            [u32::MAX; 4],
            [u32::MAX; 2],
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
        ),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ];
    for (counter, key, want) in cases {
        assert_eq!(philox4x32(counter, key), want);
    }
}

#[test]
fn a_group_is_its_words_one_by_one() {
    for index in [0u64, 1, 1 << 28, u64::from(u32::MAX)] {
        let group = SEED.group(index);
        for (word, &got) in group.as_flattened().iter().enumerate() {
            assert_eq!(got, SEED.word(index * GROUP as u64 + word as u64));
        }
    }
}

/// Runs `fill` at each level and asserts that all give the same bits.
fn same_at_every_level<T: PartialEq + std::fmt::Debug>(fill: impl Fn() -> Vec<T>) -> Vec<T> {
    let results = std::cell::RefCell::new(Vec::new());
    at_every_level(|| results.borrow_mut().push(fill()));
    let mut results = results.into_inner();
    let last = results.pop().unwrap();
    for other in results {
        assert!(other == last, "levels differ");
    }
    last
}

#[test]
fn uniform_values_are_the_words_and_spread_evenly() {
    for length in [0usize, 1, 63, 64, 65, 40_000] {
        let values = same_at_every_level(|| {
            let mut values = vec![f32::NAN; length];
            fill_uniform(SEED, 0.0, 1.0, &mut values).unwrap();
            values
        });
        for (position, &value) in values.iter().enumerate() {
            let word = SEED.word(position as u64);
            assert_eq!(value, (word >> 8) as f32 / 16_777_216.0);
        }
        if length == 40_000 {
            let mut counts = [0i32; 16];
            for value in &values {
                counts[(value * 16.0) as usize] += 1;
            }
            // 2500 each, with a standard deviation of 48.
            assert!(counts.iter().all(|count| (count - 2500).abs() < 240));
        }
    }
    let mut values = [0.0; 1000];
    fill_uniform(SEED, -2.0, 3.0, &mut values).unwrap();
    assert!(values.iter().all(|value| (-2.0..3.0).contains(value)));
    assert!(fill_uniform(SEED, 1.0, 0.0, &mut values).is_err());
    assert!(fill_uniform(SEED, f32::MIN, f32::MAX, &mut values).is_err());
}

#[test]
fn normal_values_follow_box_muller_on_every_level() {
    let values = same_at_every_level(|| {
        let mut values = vec![f32::NAN; 100_001];
        fill_normal(SEED, 0.0, 1.0, &mut values).unwrap();
        values
    });
    for (position, &value) in values.iter().enumerate().take(5000) {
        let (group, within) = (position / GROUP, position % GROUP);
        let (word, lane) = (within / 16, within % 16);
        let at = |word: usize| SEED.word((group * GROUP + word * 16 + lane) as u64);
        let (first, second) = (at(word / 2 * 2), at(word / 2 * 2 + 1));
        let uniform = (f64::from(first >> 8) + 1.0) / 16_777_216.0;
        let angle = f64::from(second >> 8) / 16_777_216.0 * 2.0 * std::f64::consts::PI;
        let radius = (-2.0 * uniform.ln()).sqrt();
        let want = radius
            * if word % 2 == 0 {
                angle.cos()
            } else {
                angle.sin()
            };
        assert!(
            (f64::from(value) - want).abs() < 3e-6,
            "{value} is not {want} at {position}"
        );
    }
    let count = values.len() as f64;
    let moment = |power: i32| {
        values
            .iter()
            .map(|&value| f64::from(value).powi(power))
            .sum::<f64>()
            / count
    };
    // Each limit is about five standard errors.
    assert!(moment(1).abs() < 0.016);
    assert!((moment(2) - 1.0).abs() < 0.023);
    assert!(moment(3).abs() < 0.062);
    assert!((moment(4) - 3.0).abs() < 0.16);
    let mut shifted = vec![0.0; values.len()];
    fill_normal(SEED, 10.0, 0.5, &mut shifted).unwrap();
    for (&value, &shifted) in values.iter().zip(&shifted) {
        assert_eq!(shifted, 10.0 + 0.5 * value);
    }
    assert!(fill_normal(SEED, 0.0, -1.0, &mut shifted).is_err());
    assert!(fill_normal(SEED, f32::NAN, 1.0, &mut shifted).is_err());
}

#[test]
fn random_values_have_the_same_bits_at_any_number_of_threads() {
    assert_same_bits_at_any_thread_count(|| {
        let mut uniform = vec![0.0; 70_007];
        let mut normal = uniform.clone();
        fill_uniform(SEED, 0.0, 1.0, &mut uniform).unwrap();
        fill_normal(SEED, 0.0, 1.0, &mut normal).unwrap();
        let mut dropped = vec![0.0; uniform.len()];
        dropout(SEED, 0.3, &uniform, &mut dropped).unwrap();
        vec![uniform, normal, dropped]
    });
}

#[test]
fn seeds_and_sequences_give_different_values() {
    let first = |seed, sequence| Generator { seed, sequence }.group(0);
    assert_ne!(first(1, 0), first(2, 0));
    assert_ne!(first(1, 0), first(1 << 32 | 1, 0));
    assert_ne!(first(1, 0), first(1, 1));
    assert_ne!(first(1, 0), first(1, 1 << 32));
}

#[test]
fn integers_stay_in_their_range_and_reach_its_ends() {
    for (low, high) in [(0, 1), (-3, 4), (0, 10), (i32::MIN, i32::MAX)] {
        let values = same_at_every_level(|| {
            let mut values = vec![0; 5000];
            fill_integers(SEED, low, high, &mut values).unwrap();
            values
        });
        assert!(values.iter().all(|value| (low..high).contains(value)));
        if i64::from(high) - i64::from(low) < 20 {
            assert!((low..high).all(|wanted| values.contains(&wanted)));
        }
    }
    assert!(fill_integers(SEED, 3, 3, &mut [0]).is_err());
}

#[test]
fn a_permutation_holds_every_index_once() {
    for length in [0usize, 1, 2, 3, 1000] {
        let order = permutation(SEED, length).unwrap();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, &x)| i == x as usize));
        assert_eq!(order, permutation(SEED, length).unwrap());
    }
    // Every order of three elements comes up about as often.
    let mut counts = std::collections::HashMap::new();
    for sequence in 0..6000 {
        let order = permutation(Generator { seed: 5, sequence }, 3).unwrap();
        *counts.entry(order).or_insert(0i32) += 1;
    }
    assert_eq!(counts.len(), 6);
    assert!(counts.values().all(|count| (count - 1000).abs() < 150));
}

#[test]
fn dropout_keeps_by_the_words_and_scales_by_what_is_kept() {
    for length in [0usize, 1, 3, 15, 17, 63, 64, 65, 20_001] {
        for probability in [0.0f32, 0.05, 0.5, 0.9] {
            let x: Vec<f32> = (0..length).map(|i| i as f32 + 1.0).collect();
            let y = same_at_every_level(|| {
                let mut y = vec![f32::NAN; length];
                dropout(SEED, probability, &x, &mut y).unwrap();
                let mut in_place = x.clone();
                dropout_in_place(SEED, probability, &mut in_place).unwrap();
                assert_eq!(in_place, y);
                y
            });
            let scale = (1.0 / (1.0 - f64::from(probability))) as f32;
            let threshold = (f64::from(probability) * 4_294_967_296.0) as u32;
            for i in 0..length {
                let kept = SEED.word(i as u64) >= threshold;
                assert_eq!(y[i], if kept { x[i] * scale } else { 0.0 });
            }
            if length > 20_000 {
                let kept = y.iter().filter(|&&y| y != 0.0).count() as f32;
                assert!((kept / length as f32 - (1.0 - probability)).abs() < 0.02);
            }
        }
    }
    let mut y = [9.0];
    for probability in [1.0, -0.1, f32::NAN] {
        assert!(dropout(SEED, probability, &[1.0], &mut y).is_err());
    }
    assert!(dropout(SEED, 0.5, &[1.0, 2.0], &mut y).is_err());
    assert_eq!(y, [9.0]);
    // What is dropped is gone, even where it was not a number.
    let mut y = [9.0; 200];
    dropout(SEED, 0.5, &[f32::NAN; 200], &mut y).unwrap();
    assert!(y.iter().all(|&y| y.is_nan() || y == 0.0) && y.contains(&0.0));
}
