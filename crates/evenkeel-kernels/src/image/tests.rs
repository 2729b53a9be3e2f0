//! Gathering against an oracle that looks up one pixel at a time.

use super::*;
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, same_bits};

const COUNT: usize = 9;

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 37 % 251) as u8).collect()
}

fn images(pixels: Pixels<'_>, height: usize, width: usize, channels: usize) -> Images<'_> {
    Images {
        pixels,
        count: COUNT,
        height,
        width,
        channels,
    }
}

fn statistics(channels: usize) -> (Vec<f32>, Vec<f32>) {
    (
        (0..channels).map(|c| 120.0 + c as f32).collect(),
        (0..channels)
            .map(|c| 1.0 / (60.0 + 3.0 * c as f32))
            .collect(),
    )
}

fn oracle(
    bytes: &[u8],
    [height, width, channels]: [usize; 3],
    augmentation: Option<&Augmentation>,
    indices: &[u32],
) -> Vec<f32> {
    let (mean, scale) = statistics(channels);
    let mut output = Vec::new();
    for &index in indices {
        let placement = augmentation.map(|a| a.placement(index));
        for y in 0..height as isize {
            for x in 0..width as isize {
                for c in 0..channels {
                    let (mut row, mut column) = (y, x);
                    if let (Some(p), Some(a)) = (placement, augmentation) {
                        if p.flipped {
                            column = width as isize - 1 - column;
                        }
                        row += p.top as isize - a.crop_padding as isize;
                        column += p.left as isize - a.crop_padding as isize;
                    }
                    let inside = (0..height as isize).contains(&row)
                        && (0..width as isize).contains(&column);
                    let value = if inside {
                        let at = (index as usize * height + row as usize) * width + column as usize;
                        f32::from(bytes[at * channels + c])
                    } else {
                        0.0
                    };
                    output.push((value - mean[c]) * scale[c]);
                }
            }
        }
    }
    output
}

#[test]
fn batches_are_cropped_flipped_and_normalized() {
    let indices = [3, 0, 8, 8, 1];
    at_every_level(|| {
        for [height, width, channels] in [
            [1, 1, 1],
            [2, 3, 3],
            [8, 8, 1],
            [7, 5, 4],
            [17, 33, 3],
            [4, 4, 65],
        ] {
            let bytes = bytes(COUNT * height * width * channels);
            let floats: Vec<f32> = bytes.iter().map(|&b| f32::from(b)).collect();
            let (mean, scale) = statistics(channels);
            let normalization = Normalization::new(width, &mean, &scale).unwrap();
            for (crop_padding, flip) in [
                (0, false),
                (0, true),
                (1, false),
                (1, true),
                (height.min(width), true),
            ] {
                for epoch in 0..4 {
                    let augmentation = Augmentation {
                        crop_padding,
                        flip,
                        seed: 1 << 40 | 5,
                        epoch,
                    };
                    let augmentation = (crop_padding > 0 || flip).then_some(&augmentation);
                    let expected =
                        oracle(&bytes, [height, width, channels], augmentation, &indices);
                    for pixels in [Pixels::U8(&bytes), Pixels::F32(&floats)] {
                        let mut output = vec![9.0; expected.len()];
                        let images = images(pixels, height, width, channels);
                        gather_images(&images, &normalization, augmentation, &indices, &mut output)
                            .unwrap();
                        assert!(
                            same_bits(&output, &expected),
                            "{height} {width} {channels} {augmentation:?}"
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn an_image_comes_out_the_same_in_any_batch() {
    let bytes = bytes(COUNT * 6 * 6 * 3);
    let (mean, scale) = statistics(3);
    let normalization = Normalization::new(6, &mean, &scale).unwrap();
    let augmentation = Augmentation {
        crop_padding: 2,
        flip: true,
        seed: 7,
        epoch: 3,
    };
    let gather = |indices: &[u32]| {
        let mut output = vec![0.0; indices.len() * 108];
        let images = images(Pixels::U8(&bytes), 6, 6, 3);
        gather_images(
            &images,
            &normalization,
            Some(&augmentation),
            indices,
            &mut output,
        )
        .unwrap();
        output
    };
    let all = gather(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    for index in 0..9 {
        assert!(same_bits(
            &gather(&[index]),
            &all[index as usize * 108..][..108]
        ));
    }
    assert!(gather(&[]).is_empty());
}

#[test]
fn placements_are_uniform_and_change_with_seed_and_epoch() {
    let augmentation = Augmentation {
        crop_padding: 2,
        flip: true,
        seed: 1,
        epoch: 0,
    };
    let (mut tops, mut lefts, mut flips) = ([0usize; 5], [0usize; 5], 0);
    for index in 0..10_000 {
        let Placement { top, left, flipped } = augmentation.placement(index);
        tops[top] += 1;
        lefts[left] += 1;
        flips += usize::from(flipped);
    }
    for count in tops.into_iter().chain(lefts) {
        assert!((1800..2200).contains(&count), "{tops:?} {lefts:?}");
    }
    assert!((4800..5200).contains(&flips), "{flips}");
    let differs =
        |other: Augmentation| (0..100).any(|i| other.placement(i) != augmentation.placement(i));
    assert!(differs(Augmentation {
        epoch: 1,
        ..augmentation
    }));
    assert!(differs(Augmentation {
        seed: 2,
        ..augmentation
    }));
    assert!(differs(Augmentation {
        seed: 1 | 1 << 32,
        ..augmentation
    }));
}

#[test]
fn placements_stay_the_same_for_ever() {
    // Resumed runs and published results rely on it.
    let augmentation = Augmentation {
        crop_padding: 4,
        flip: true,
        seed: 1,
        epoch: 2,
    };
    let placements: Vec<_> = (0..4)
        .map(|index| augmentation.placement(index))
        .map(|p| (p.top, p.left, p.flipped))
        .collect();
    let expected = [(7, 5, false), (3, 2, false), (6, 1, true), (4, 0, false)];
    assert_eq!(placements, expected);
}

#[test]
fn labels_follow_their_images() {
    let mut output = [0; 3];
    gather_labels(&[5, 6, 7, 8], &[3, 0, 0], &mut output).unwrap();
    assert_eq!(output, [8, 5, 5]);
    assert!(gather_labels(&[5, 6, 7, 8], &[4], &mut output[..1]).is_err());
    assert!(gather_labels(&[5], &[0], &mut output).is_err());
}

#[test]
fn the_same_bits_at_any_number_of_threads() {
    let bytes = bytes(COUNT * 64 * 64 * 3);
    let (mean, scale) = statistics(3);
    let normalization = Normalization::new(64, &mean, &scale).unwrap();
    let augmentation = Augmentation {
        crop_padding: 4,
        flip: true,
        seed: 7,
        epoch: 3,
    };
    let indices: Vec<u32> = (0..40).map(|i| i % COUNT as u32).collect();
    assert_same_bits_at_any_thread_count(|| {
        let mut output = vec![0.0; indices.len() * 64 * 64 * 3];
        let images = images(Pixels::U8(&bytes), 64, 64, 3);
        gather_images(
            &images,
            &normalization,
            Some(&augmentation),
            &indices,
            &mut output,
        )
        .unwrap();
        vec![output]
    });
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let bytes = bytes(COUNT * 4);
    let normalization = Normalization::new(2, &[0.0], &[1.0]).unwrap();
    let good = images(Pixels::U8(&bytes), 2, 2, 1);
    let mut output = vec![7.0; 4];
    let far = Augmentation {
        crop_padding: 3,
        flip: false,
        seed: 0,
        epoch: 0,
    };
    assert!(gather_images(&good, &normalization, None, &[9], &mut output).is_err());
    assert!(gather_images(&good, &normalization, None, &[0, 1], &mut output).is_err());
    assert!(gather_images(&good, &normalization, Some(&far), &[0], &mut output).is_err());
    for bad in [
        Images { count: 8, ..good },
        Images { height: 0, ..good },
        Images {
            width: 4,
            height: 1,
            ..good
        },
        Images {
            width: 1,
            channels: 2,
            ..good
        },
        Images {
            count: usize::MAX,
            ..good
        },
    ] {
        assert!(
            gather_images(&bad, &normalization, None, &[0], &mut output).is_err(),
            "{bad:?}"
        );
    }
    assert_eq!(output, [7.0; 4], "nothing is written by a call that fails");
    assert!(Normalization::new(2, &[], &[]).is_err());
    assert!(Normalization::new(2, &[0.0], &[f32::INFINITY]).is_err());
    assert!(Normalization::new(2, &[0.0], &[]).is_err());
}
