use super::*;
use crate::activation::Activation;
use crate::norm::batch::{self, BatchNorm};
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

const GENERATOR: Generator = Generator {
    seed: 11,
    sequence: 4,
};

/// `[y, dx, dgamma, dbeta]` and the mask.
fn run(shape: Shape, x: &[f32], rate: f32) -> ([Vec<f32>; 4], Vec<u8>) {
    let channels = shape.channels;
    let (gamma, beta) = (coarse_values(channels, 2), coarse_values(channels, 3));
    let layer = IndependentComponent {
        shape,
        x,
        affine: Affine {
            gamma: Some(&gamma),
            beta: Some(&beta),
        },
        rate,
    };
    let mut y = vec![f32::NAN; x.len()];
    let mut saved = vec![f32::NAN; 3 * channels];
    let mut kept = vec![0; mask_bytes(x.len())];
    forward(layer, 1e-5, GENERATOR, None, &mut y, &mut saved, &mut kept).unwrap();
    let mut dx = vec![f32::NAN; x.len()];
    let (mut dgamma, mut dbeta) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
    let gradients = AffineGradients {
        dx: Some(&mut dx),
        dgamma: Some(&mut dgamma),
        dbeta: Some(&mut dbeta),
    };
    backward(layer, &saved, &kept, &coarse_values(x.len(), 4), gradients).unwrap();
    ([y, dx, dgamma, dbeta], kept)
}

/// Batch normalization, and dropout by the mask outside it.
fn oracle(shape: Shape, x: &[f32], rate: f32, kept: &[u8]) -> [Vec<f32>; 4] {
    let channels = shape.channels;
    let (gamma, beta) = (coarse_values(channels, 2), coarse_values(channels, 3));
    let factor = (1.0 / (1.0 - f64::from(rate))) as f32;
    let masked = |values: &[f32]| -> Vec<f32> {
        let values = values.iter().enumerate();
        values
            .map(|(at, v)| {
                let bit = kept[at / 8] >> (at % 8) & 1;
                if bit == 1 { v * factor } else { 0.0 }
            })
            .collect()
    };
    let norm = BatchNorm {
        shape,
        x,
        affine: Affine {
            gamma: Some(&gamma),
            beta: Some(&beta),
        },
        residual: None,
        activation: Activation::Identity,
    };
    let (mut y, mut saved) = (vec![0.0; x.len()], vec![0.0; 3 * channels]);
    batch::forward_training(norm, 1e-5, None, &mut y, &mut saved).unwrap();
    let mut dx = vec![0.0; x.len()];
    let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
    let gradients = AffineGradients {
        dx: Some(&mut dx),
        dgamma: Some(&mut dgamma),
        dbeta: Some(&mut dbeta),
    };
    let dy = masked(&coarse_values(x.len(), 4));
    batch::backward_training(norm, &saved, &dy, gradients, None).unwrap();
    [masked(&y), dx, dgamma, dbeta]
}

#[test]
fn is_batch_norm_and_dropout_to_the_bit() {
    at_every_level(|| {
        for (batch, positions, channels) in [
            (1, 9, 1),
            (2, 12, 3),
            (1, 50, 7),
            (3, 25, 15),
            (2, 4, 16),
            (5, 1, 17),
            (2, 300, 33),
            (1, 1, 64),
            (2, 2000, 65),
        ] {
            let shape = Shape {
                batch,
                positions,
                channels,
            };
            let x = coarse_values(shape.elements().unwrap(), 1);
            for rate in [0.0, 0.05, 0.5] {
                let (actual, kept) = run(shape, &x, rate);
                let expected = oracle(shape, &x, rate, &kept);
                for (actual, expected) in actual.iter().zip(&expected) {
                    assert_eq!(actual, expected, "{shape:?} {rate}");
                }
            }
        }
    });
}

#[test]
fn every_piece_draws_its_own_bits() {
    let shape = Shape {
        batch: 4,
        positions: 4096,
        channels: 16,
    };
    let (_, kept) = run(shape, &coarse_values(1 << 18, 1), 0.5);
    let bytes = 1 << 15;
    let ones: u32 = kept[..bytes].iter().map(|byte| byte.count_ones()).sum();
    // Standard deviation 256.
    assert!(ones.abs_diff(1 << 17) < 1024, "{ones} kept");
    let first = &kept[..64];
    let repetitions = kept[64..bytes].chunks(64).filter(|chunk| *chunk == first);
    assert_eq!(repetitions.count(), 0);
}

#[test]
fn threads_do_not_change_bits() {
    let shape = Shape {
        batch: 3,
        positions: 1600,
        channels: 33,
    };
    let x = coarse_values(shape.elements().unwrap(), 1);
    assert_same_bits_at_any_thread_count(|| run(shape, &x, 0.1).0.to_vec());
}

#[test]
fn misfits_are_refused() {
    let layer = |rate| IndependentComponent {
        shape: Shape {
            batch: 2,
            positions: 1,
            channels: 2,
        },
        x: &[0.0; 4],
        affine: Affine::default(),
        rate,
    };
    let check = |rate, kept: usize| {
        let (mut y, mut saved, mut kept) = ([0.0; 4], [0.0; 6], vec![0; kept]);
        forward(
            layer(rate),
            1e-5,
            GENERATOR,
            None,
            &mut y,
            &mut saved,
            &mut kept,
        )
    };
    assert!(check(0.5, 4).is_ok());
    assert!(check(0.5, 1).is_err());
    assert!(check(1.0, 4).is_err());
    assert!(check(-0.1, 4).is_err());
}
