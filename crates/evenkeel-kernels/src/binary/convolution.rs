//! The convolution: constants of its windows, padded input, tasks.

use super::epilogue::{Epilogue, Integers, Store};
use super::geometry::{BinaryConv2d, PaddingValue, Plan};
use super::layer::LayerStore;
use super::thresholds::SignStore;
use super::tile::{Constants, Sweep};
use super::{GROUP, WORD_BITS};
use crate::error::{Result, check_length};
use crate::isa::bits::dispatch_bits;
use crate::parallel::{DisjointMut, for_each_task, piece};

/// Groups of output channels that a task takes: an even number, so that tasks share no word of signs.
const TASK_GROUPS: usize = 4;

/// Binary multiplications of a task, about 10 microseconds.
const TASK_WORK: usize = 8 << 20;

/// Pixels of a task come in multiples of this, of which every register tile's pixels are a divisor.
const TASK_PIXELS: usize = 12;

/// The convolution of signs by signs (Rastegari et al., "XNOR-Net", 2016): exact sums, for every size.
///
/// `input` is `[batch, height, width, ceil(inChannels / 32)]` ([`super::pack_signs`]); `weight` is from [`super::pack_weights`]. Both must have
/// zeros in the bits past the last channel. `scratch` has [`Plan::scratch_words`] words; what it holds does not matter.
///
/// # Errors
/// Where the geometry is impossible or a length does not fit.
pub fn binary_conv2d(
    geometry: &BinaryConv2d,
    input: &[u32],
    weight: &[u32],
    epilogue: Epilogue,
    scratch: &mut [u32],
) -> Result {
    let plan = geometry.plan()?;
    check_length("binary conv2d: input", input.len(), plan.input_words())?;
    check_length("binary conv2d: weight", weight.len(), plan.weight_words())?;
    check_length(
        "binary conv2d: scratch",
        scratch.len(),
        plan.scratch_words(),
    )?;
    match epilogue {
        Epilogue::Integers(output) => {
            run(
                &plan,
                input,
                weight,
                &Integers::new(&plan, output)?,
                scratch,
            );
        }
        Epilogue::Layer(layer) => {
            let epilogue = LayerStore::new(&plan, layer)?;
            run(&plan, input, weight, &epilogue, scratch);
        }
        Epilogue::Signs { thresholds, output } => {
            let epilogue = SignStore::new(&plan, thresholds, output)?;
            run(&plan, input, weight, &epilogue, scratch);
        }
    }
    Ok(())
}

fn run<E: Store>(plan: &Plan, input: &[u32], weight: &[u32], epilogue: &E, scratch: &mut [u32]) {
    let pixels = plan.pixels();
    if pixels == 0 {
        return;
    }
    let (weight, tap_counts) = weight.split_at(plan.taps * plan.words * plan.groups * GROUP);
    let (rows, scratch) = scratch.split_at_mut(plan.out_size[0]);
    let (columns, scratch) = scratch.split_at_mut(plan.out_size[1]);
    let (values, copy) = scratch.split_at_mut(plan.constants_length());
    let column_kinds = find_constants(plan, tap_counts, rows, columns, values);
    let input = if plan.is_padded() {
        pad(plan, input, copy);
        &*copy
    } else {
        input
    };
    let constants = Constants {
        rows,
        columns,
        column_kinds,
        values,
    };
    let products = plan.taps * plan.words * WORD_BITS;
    let pixels_per_task = (TASK_WORK / (products * TASK_GROUPS * GROUP))
        .next_multiple_of(TASK_PIXELS)
        .max(TASK_PIXELS);
    let pixel_tasks = pixels.div_ceil(pixels_per_task);
    let group_tasks = plan.groups.div_ceil(TASK_GROUPS);
    // A binary multiplication is about a hundredth of an elementary operation.
    let work = plan.multiplications() / 128;
    for_each_task(pixel_tasks * group_tasks, work, |task| {
        dispatch_bits(Sweep {
            plan,
            input,
            weight,
            constants,
            pixels: piece(task % pixel_tasks, pixels_per_task, pixels),
            groups: piece(task / pixel_tasks, TASK_GROUPS, plan.groups),
            epilogue,
        });
    });
}

/// Numbers the kinds of windows and finds the constant of each. A window that has T taps inside the image sums C·T products. With
/// zeros outside, the copy's outside holds +1, which differs from each -1 of an outside tap: those are taken out again.
///
/// Returns the kinds of columns.
fn find_constants(
    plan: &Plan,
    tap_counts: &[u32],
    rows: &mut [u32],
    columns: &mut [u32],
    values: &mut [u32],
) -> usize {
    let channels = plan.geometry.in_channels;
    if plan.geometry.padding_value != PaddingValue::Zero || !plan.is_padded() {
        rows.fill(0);
        columns.fill(0);
        values.fill((channels * plan.taps) as u32);
        return 1;
    }
    let column_kinds = number_kinds(plan, 1, columns);
    number_kinds(plan, 0, rows);
    let lanes = plan.groups * GROUP;
    let mut known_rows = 0;
    for (y, &row_kind) in rows.iter().enumerate() {
        if (row_kind as usize) < known_rows {
            continue;
        }
        known_rows += 1;
        let mut known_columns = 0;
        for (x, &column_kind) in columns.iter().enumerate() {
            if (column_kind as usize) < known_columns {
                continue;
            }
            known_columns += 1;
            let (inside_y, inside_x) = (plan.inside(0, y), plan.inside(1, x));
            let start = (row_kind as usize * column_kinds + column_kind as usize) * lanes;
            let values = &mut values[start..start + lanes];
            values.fill((channels * inside_y.len() * inside_x.len()) as u32);
            for tap in 0..plan.taps {
                let kernel_width = plan.geometry.kernel[1];
                let (tap_y, tap_x) = (tap / kernel_width, tap % kernel_width);
                if inside_y.contains(&tap_y) && inside_x.contains(&tap_x) {
                    continue;
                }
                for (value, count) in values.iter_mut().zip(&tap_counts[tap * lanes..]) {
                    *value += 2 * count;
                }
            }
        }
    }
    column_kinds
}

/// Writes the kind of each window along `axis`; returns how many kinds there are. Equal ranges follow each other.
fn number_kinds(plan: &Plan, axis: usize, kinds: &mut [u32]) -> usize {
    let mut kind = 0;
    for index in 0..kinds.len() {
        if index > 0 && plan.inside(axis, index) != plan.inside(axis, index - 1) {
            kind += 1;
        }
        kinds[index] = kind;
    }
    kind as usize + 1
}

/// Copies the images with what lies around them; zeros outside become +1, see [`find_constants`].
fn pad(plan: &Plan, input: &[u32], copy: &mut [u32]) {
    let geometry = &plan.geometry;
    let words = plan.words;
    let row_words = plan.padded[1] * words;
    let minus = geometry.padding_value == PaddingValue::Minus;
    let last = u32::MAX >> (words * WORD_BITS - geometry.in_channels);
    let surround = |part: &mut [u32]| {
        part.fill(if minus { u32::MAX } else { 0 });
        if minus {
            for word in part.iter_mut().skip(words - 1).step_by(words) {
                *word = last;
            }
        }
    };
    let rows = geometry.batch * plan.padded[0];
    const ROWS: usize = 64;
    let parts = DisjointMut::new(copy);
    for_each_task(rows.div_ceil(ROWS), rows * row_words, |task| {
        for row in piece(task, ROWS, rows) {
            // SAFETY: tasks have different rows.
            let target = unsafe { parts.part(row * row_words..(row + 1) * row_words) };
            let (image, y) = (row / plan.padded[0], row % plan.padded[0]);
            let top = geometry.padding[0];
            if y < top || y >= top + geometry.size[0] {
                surround(target);
                continue;
            }
            let (left, rest) = target.split_at_mut(geometry.padding[1] * words);
            let (middle, right) = rest.split_at_mut(geometry.size[1] * words);
            surround(left);
            surround(right);
            let source = (image * geometry.size[0] + y - top) * middle.len();
            middle.copy_from_slice(&input[source..source + middle.len()]);
        }
    });
}
