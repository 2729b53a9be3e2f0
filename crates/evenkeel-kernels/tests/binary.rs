//! A binary network layer by layer through the public kernels: packed bits against float convolutions over ±1.

use evenkeel_kernels::binary::rprelu::{Rprelu, rprelu_forward};
use evenkeel_kernels::binary::standardize::{Standardization, standardize};
use evenkeel_kernels::binary::weights::{binarize, mean_magnitude};
use evenkeel_kernels::binary::{
    BinaryConv2d, Epilogue, Layer, LayerActivation, LayerFunction, PaddingValue, Thresholds,
    binary_conv2d, find_thresholds, pack_signs, pack_weights, threshold_words, unpack_signs,
};
use evenkeel_kernels::conv::{Conv2dGeometry, Conv2dOptions, conv2d_forward};

fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(99);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn geometry(
    channels: [usize; 2],
    size: [usize; 2],
    stride: usize,
    padding_value: PaddingValue,
) -> BinaryConv2d {
    BinaryConv2d {
        batch: 2,
        size,
        in_channels: channels[0],
        out_channels: channels[1],
        kernel: [3, 3],
        stride: [stride, stride],
        padding: [1, 1],
        dilation: [1, 1],
        padding_value,
    }
}

/// The float convolution over ±1 images with their padding, rounded to whole numbers, times the scale of each output channel.
fn float_convolution(g: &BinaryConv2d, bits: &[u32], weight: &[f32], scale: &[f32]) -> Vec<f32> {
    let padded = g.plan().unwrap().padded;
    let mut images = vec![0.0; g.batch * padded[0] * padded[1] * g.in_channels];
    unpack_signs(g, bits, &mut images).unwrap();
    let options = Conv2dOptions {
        stride: g.stride,
        dilation: g.dilation,
        ..Conv2dOptions::default()
    };
    let float = Conv2dGeometry::new(
        g.batch,
        padded,
        g.in_channels,
        g.out_channels,
        g.kernel,
        options,
    )
    .unwrap();
    let mut signs = vec![0.0; weight.len()];
    binarize(weight, &vec![1.0; scale.len()], &mut signs).unwrap();
    let mut output = vec![0.0; float.output_length()];
    conv2d_forward(&float, &images, &signs, None, &mut output).unwrap();
    // The sums are whole numbers; the float convolution may be off by rounding (3×3 kernels take a Winograd transform).
    for (index, value) in output.iter_mut().enumerate() {
        assert!((*value - value.round()).abs() < 0.01);
        *value = value.round() * scale[index % scale.len()];
    }
    output
}

#[test]
fn packed_layers_agree_with_float_layers_bit_for_bit() {
    let sizes = [[8, 8], [7, 9], [1, 1], [5, 12]];
    for (index, channels) in [[3, 7], [33, 16], [64, 64], [65, 130]]
        .into_iter()
        .enumerate()
    {
        for padding_value in [PaddingValue::Zero, PaddingValue::Plus, PaddingValue::Minus] {
            for stride in [1, 2] {
                let g = geometry(channels, sizes[index], stride, padding_value);
                let plan = g.plan().unwrap();
                // A BN-free layer: standardize the weights, scale by their mean magnitude and a gain of either sign.
                let latent = values(9 * channels[0] * channels[1], 1);
                let mut weight = vec![0.0; latent.len()];
                let form = Standardization::Scaled {
                    epsilon: 1e-5,
                    gamma: 1.0,
                };
                standardize(form, &latent, None, channels[1], &mut weight).unwrap();
                let mut scale = vec![0.0; channels[1]];
                mean_magnitude(&weight, &mut scale).unwrap();
                for (scale, gain) in scale.iter_mut().zip(values(channels[1], 2)) {
                    *scale *= gain;
                }
                let shift = values(channels[0], 3);
                let x = values(g.batch * g.size[0] * g.size[1] * channels[0], 4);
                let mut bits = vec![0; plan.input_words()];
                pack_signs(&x, Some(&shift), channels[0], &mut bits).unwrap();
                let mut packed = vec![0; plan.weight_words()];
                pack_weights(&weight, 9, channels[0], channels[1], &mut packed).unwrap();
                let mut scratch = vec![0; plan.scratch_words()];

                let expected = float_convolution(&g, &bits, &weight, &scale);
                let mut output = vec![0.0; expected.len()];
                let mut function = LayerFunction {
                    scale: &scale,
                    normalize: None,
                    activation: LayerActivation::None,
                };
                let epilogue = Epilogue::Layer(Layer {
                    function,
                    residual: None,
                    output: Some(&mut output),
                    signs: None,
                });
                binary_conv2d(&g, &bits, &packed, epilogue, &mut scratch).unwrap();
                assert_eq!(output, expected, "{g:?}");

                // The next layer's signs, fused: RPReLU and RSign become thresholds on the integer.
                let parameters = [
                    values(channels[1], 5),
                    values(channels[1], 6),
                    values(channels[1], 7),
                ];
                let next_shift = values(channels[1], 8);
                let rprelu = Rprelu {
                    shift_in: &parameters[0],
                    slope: &parameters[1],
                    shift_out: &parameters[2],
                };
                let mut activated = vec![0.0; expected.len()];
                rprelu_forward(&expected, rprelu, &mut activated).unwrap();
                let mut unfused = vec![0; plan.output_words()];
                pack_signs(&activated, Some(&next_shift), channels[1], &mut unfused).unwrap();
                function.activation = LayerActivation::Rprelu(rprelu);
                let cut: Vec<f32> = next_shift.iter().map(|shift| -shift).collect();
                let limit = (9 * channels[0]) as i32;
                let mut words = vec![0; threshold_words(channels[1])];
                find_thresholds(function, &cut, limit, &mut words).unwrap();
                let mut fused = vec![0; unfused.len()];
                let epilogue = Epilogue::Signs {
                    thresholds: Thresholds::from_words(channels[1], &words).unwrap(),
                    output: &mut fused,
                };
                binary_conv2d(&g, &bits, &packed, epilogue, &mut scratch).unwrap();
                assert_eq!(fused, unfused, "{g:?}");
            }
        }
    }
}
