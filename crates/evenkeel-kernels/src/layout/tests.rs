use super::*;
use crate::testing::assert_same_bits_at_any_thread_count;

fn counting(length: usize) -> Vec<f32> {
    (0..length).map(|i| i as f32).collect()
}

/// The coordinates of element `index`.
fn coordinates(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut result = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        result[axis] = index % shape[axis];
        index /= shape[axis];
    }
    result
}

fn index_of(coordinates: &[usize], shape: &[usize]) -> usize {
    coordinates
        .iter()
        .zip(shape)
        .fold(0, |index, (coordinate, size)| index * size + coordinate)
}

#[test]
fn permute_moves_every_element_to_its_place() {
    let cases: [(&[usize], &[usize]); 16] = [
        (&[], &[]),
        (&[5], &[0]),
        (&[3, 7], &[1, 0]),
        (&[33, 65], &[1, 0]),
        (&[200, 300], &[1, 0]),
        (&[1, 300], &[1, 0]),
        (&[2, 3, 4], &[0, 1, 2]),
        (&[2, 3, 4], &[2, 1, 0]),
        (&[2, 3, 4], &[1, 2, 0]),
        (&[4, 15, 17, 3], &[0, 3, 1, 2]),
        (&[4, 3, 15, 17], &[0, 2, 3, 1]),
        (&[16, 5, 3, 3], &[2, 3, 1, 0]),
        (&[16, 5, 3, 3], &[3, 0, 2, 1]),
        (&[2, 3, 2, 3, 2, 3], &[5, 3, 1, 4, 2, 0]),
        (&[0, 3], &[1, 0]),
        (&[3, 0, 2], &[2, 0, 1]),
    ];
    for (shape, axes) in cases {
        let x = counting(shape.iter().product());
        assert_same_bits_at_any_thread_count(|| {
            let mut y = vec![f32::NAN; x.len()];
            permute(&x, shape, axes, &mut y).unwrap();
            vec![y]
        });
        let mut y = vec![f32::NAN; x.len()];
        permute(&x, shape, axes, &mut y).unwrap();
        let new_shape: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
        for (index, &got) in y.iter().enumerate() {
            let place = coordinates(index, &new_shape);
            let mut source = vec![0; shape.len()];
            for (k, &axis) in axes.iter().enumerate() {
                source[axis] = place[k];
            }
            assert_eq!(got, x[index_of(&source, shape)], "{shape:?} {axes:?}");
        }
    }
    let mut y = [9.0; 6];
    assert!(permute(&[0.0; 6], &[2, 3], &[0, 0], &mut y).is_err());
    assert!(permute(&[0.0; 6], &[2, 3], &[0], &mut y).is_err());
    assert!(permute(&[0.0; 6], &[2, 3], &[0, 2], &mut y).is_err());
    assert!(permute(&[0.0; 5], &[2, 3], &[1, 0], &mut y).is_err());
    assert!(permute(&[0.0; 6], &[0, usize::MAX, 4], &[1, 0, 2], &mut y).is_err());
}

#[test]
fn slices_and_their_reverse_agree_with_coordinates() {
    type Case<'a> = (&'a [usize], &'a [usize], &'a [usize], &'a [usize]);
    let cases: [Case; 9] = [
        (&[7], &[2], &[1], &[3]),
        (&[7], &[1], &[2], &[3]),
        (&[5, 6], &[0, 2], &[1, 1], &[5, 4]),
        (&[5, 6], &[1, 0], &[1, 1], &[3, 6]),
        (&[2, 9, 9, 3], &[0, 0, 0, 0], &[1, 2, 2, 1], &[2, 5, 5, 3]),
        (&[2, 9, 9, 3], &[1, 1, 1, 1], &[1, 3, 4, 1], &[1, 3, 2, 2]),
        (&[40, 50, 33], &[3, 4, 5], &[2, 3, 1], &[18, 15, 28]),
        (&[4, 4], &[1, 1], &[1, 1], &[0, 3]),
        (&[], &[], &[], &[]),
    ];
    for (shape, starts, steps, sizes) in cases {
        let part = Part {
            starts,
            steps,
            sizes,
        };
        let x = counting(shape.iter().product());
        let mut y = vec![f32::NAN; sizes.iter().product()];
        slice(&x, shape, part, &mut y).unwrap();
        let mut wanted = vec![-1.0; x.len()];
        for (index, &got) in y.iter().enumerate() {
            let place: Vec<usize> = coordinates(index, sizes)
                .iter()
                .enumerate()
                .map(|(axis, c)| starts[axis] + c * steps[axis])
                .collect();
            let at = index_of(&place, shape);
            assert_eq!(got, x[at]);
            wanted[at] = got;
        }
        let mut padded = vec![f32::NAN; x.len()];
        pad(&y, part, -1.0, &mut padded, shape).unwrap();
        assert_eq!(padded, wanted);
    }
    let mut y = [9; 4];
    let part = |starts, steps, sizes| Part {
        starts,
        steps,
        sizes,
    };
    let x = [0; 6];
    for bad in [
        part(&[0, 2], &[1, 1], &[2, 2]),
        part(&[1, 0], &[2, 1], &[2, 2]),
        part(&[0, 0], &[0, 1], &[2, 2]),
        part(&[0], &[1, 1], &[2, 2]),
        part(&[0, usize::MAX], &[1, 1], &[2, 2]),
        part(&[0, 1], &[1, usize::MAX], &[2, 2]),
    ] {
        assert!(slice(&x, &[2, 3], bad, &mut y).is_err(), "{bad:?}");
        assert!(insert(&x[..4], bad, &mut [0; 6], &[2, 3]).is_err());
    }
    assert_eq!(y, [9; 4]);
}

#[test]
fn concatenate_joins_along_any_axis() {
    for axis in 0..3 {
        for sizes in [vec![1], vec![2, 0, 3], vec![1, 4, 2]] {
            let shape = [3, 4, 5];
            let mut whole = shape;
            whole[axis] = sizes.iter().sum();
            let inputs: Vec<Vec<f32>> = sizes
                .iter()
                .enumerate()
                .map(|(which, &size)| {
                    let length = 60 / shape[axis] * size;
                    counting(length)
                        .iter()
                        .map(|x| x + 1000.0 * which as f32)
                        .collect()
                })
                .collect();
            let slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
            let mut y = vec![f32::NAN; whole.iter().product()];
            concatenate(&slices, &sizes, &shape, axis, &mut y).unwrap();
            for (index, &got) in y.iter().enumerate() {
                let mut place = coordinates(index, &whole);
                let mut which = 0;
                while place[axis] >= sizes[which] {
                    place[axis] -= sizes[which];
                    which += 1;
                }
                let mut own = shape;
                own[axis] = sizes[which];
                assert_eq!(got, inputs[which][index_of(&place, &own)]);
            }
        }
    }
    let mut y = [9.0; 6];
    assert!(concatenate::<f32>(&[], &[], &[2, 3], 0, &mut y).is_err());
    assert!(concatenate(&[&[0.0; 6]], &[2], &[2, 3], 2, &mut y).is_err());
    assert!(concatenate(&[&[0.0; 5]], &[2], &[2, 3], 0, &mut y).is_err());
    assert_eq!(y, [9.0; 6]);
}

#[test]
fn rows_are_gathered_and_their_gradients_added() {
    for width in [1usize, 3, 17] {
        let x = counting(5 * width);
        let indices = [4, 0, 0, 2];
        let mut y = vec![f32::NAN; 4 * width];
        gather_rows(&x, width, &indices, &mut y).unwrap();
        for (row, &index) in indices.iter().enumerate() {
            for column in 0..width {
                assert_eq!(y[row * width + column], x[index as usize * width + column]);
            }
        }
        let mut dx = vec![f32::NAN; x.len()];
        scatter_add_rows(&vec![1.0; y.len()], width, &indices, &mut dx).unwrap();
        for (row, count) in [2.0, 0.0, 1.0, 0.0, 1.0].into_iter().enumerate() {
            assert!(
                dx[row * width..(row + 1) * width]
                    .iter()
                    .all(|&x| x == count)
            );
        }
    }
    let mut y = [9u8; 2];
    assert!(gather_rows(&[1u8, 2, 3, 4], 2, &[2], &mut y).is_err());
    assert!(gather_rows(&[1u8, 2, 3, 4], 2, &[-1], &mut y).is_err());
    assert!(gather_rows(&[1u8, 2, 3], 2, &[0], &mut y).is_err());
    assert!(gather_rows(&[1u8, 2, 3, 4], 2, &[0, 1], &mut y).is_err());
    assert_eq!(y, [9; 2]);
    gather_rows::<u8>(&[], 0, &[0, 1], &mut []).unwrap();
}

#[test]
fn broadcast_copy_repeats_and_scales() {
    let mut y = [f32::NAN; 12];
    broadcast_copy(&[1.0, 2.0, 3.0], &[3, 1], 0.5, &mut y, &[2, 3, 2]).unwrap();
    assert_eq!(
        y,
        [0.5, 0.5, 1.0, 1.0, 1.5, 1.5, 0.5, 0.5, 1.0, 1.0, 1.5, 1.5]
    );
    assert!(broadcast_copy(&[1.0, 2.0], &[2], 1.0, &mut y, &[2, 3, 3]).is_err());
}

#[test]
fn casts_round_toward_zero_and_saturate() {
    let x = [1.9f32, -1.9, 300.0, -300.0, f32::NAN, 1e20];
    let (mut whole, mut bytes) = ([9i32; 6], [9u8; 6]);
    cast(&x, &mut whole).unwrap();
    assert_eq!(whole, [1, -1, 300, -300, 0, i32::MAX]);
    cast(&x, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 0, 255, 0, 0, 255]);
    let mut back = [9.0f32; 6];
    cast(&whole, &mut back).unwrap();
    assert_eq!(back[..4], [1.0, -1.0, 300.0, -300.0]);
    cast(&bytes, &mut back).unwrap();
    assert_eq!(back, [1.0, 0.0, 255.0, 0.0, 0.0, 255.0]);
    cast(&[-1i32, 256, 7], &mut bytes[..3]).unwrap();
    assert_eq!(bytes[..3], [0, 255, 7]);
    assert!(cast(&x, &mut bytes[..5]).is_err());
}
