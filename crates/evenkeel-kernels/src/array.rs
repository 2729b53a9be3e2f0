//! The kernels over `ndarray` views, for Rust programs that hold their tensors as arrays.
//!
//! Views may be transposed, sliced or strided: what is not contiguous is copied once. The shapes are the views' own.

use crate::conv::{self, Conv2dGeometry, Conv2dOptions};
use crate::error::{KernelError, Result};
use crate::gemm;
use ndarray::{
    Array1, Array2, Array4, ArrayView, ArrayView1, ArrayView2, ArrayView4, CowArray, Dimension,
};

/// The elements of a view in row-major order; borrowed where the view is contiguous.
fn contiguous<D: Dimension>(view: ArrayView<'_, f32, D>) -> CowArray<'_, f32, D> {
    if view.is_standard_layout() {
        CowArray::from(view)
    } else {
        CowArray::from(view.as_standard_layout().into_owned())
    }
}

/// The elements of an array that is known to be contiguous.
fn elements<'a, D: Dimension>(array: &'a CowArray<'_, f32, D>) -> Result<&'a [f32]> {
    array
        .as_slice()
        .ok_or_else(|| KernelError::Invalid("an array is not contiguous".into()))
}

/// The matrix product `a·b` of `[m, k]` and `[k, n]`.
///
/// # Errors
/// Where the inner lengths differ.
pub fn matmul(a: ArrayView2<f32>, b: ArrayView2<f32>) -> Result<Array2<f32>> {
    let ((m, k), (inner, n)) = (a.dim(), b.dim());
    if k != inner {
        return Err(KernelError::Invalid(format!(
            "matmul: [{m}, {k}] and [{inner}, {n}] have different inner lengths"
        )));
    }
    let (a, b) = (contiguous(a), contiguous(b));
    let mut product = vec![0.0; crate::error::checked_product("product", &[m, n])?];
    gemm::matmul(
        m,
        n,
        k,
        elements(&a)?,
        false,
        elements(&b)?,
        false,
        false,
        &mut product,
    )?;
    shaped((m, n), product)
}

/// The geometry of a convolution of `input` `[batch, height, width, inChannels]` with `weight`
/// `[kernelHeight, kernelWidth, inChannels / groups, outChannels]`.
///
/// # Errors
/// Where the shapes and options do not fit each other.
pub fn conv2d_geometry(
    input: [usize; 4],
    weight: [usize; 4],
    options: Conv2dOptions,
) -> Result<Conv2dGeometry> {
    let [batch, height, width, in_channels] = input;
    let [kernel_height, kernel_width, group_inputs, out_channels] = weight;
    let geometry = Conv2dGeometry::new(
        batch,
        [height, width],
        in_channels,
        out_channels,
        [kernel_height, kernel_width],
        options,
    )?;
    if group_inputs.checked_mul(options.groups) != Some(in_channels) {
        return Err(KernelError::Invalid(format!(
            "conv2d: {} groups of {group_inputs} input channels do not make {in_channels}",
            options.groups
        )));
    }
    Ok(geometry)
}

/// [`conv::conv2d_forward`]: the output, `[batch, outHeight, outWidth, outChannels]`.
///
/// # Errors
/// Where the shapes and options do not fit each other.
pub fn conv2d(
    input: ArrayView4<f32>,
    weight: ArrayView4<f32>,
    bias: Option<ArrayView1<f32>>,
    options: Conv2dOptions,
) -> Result<Array4<f32>> {
    let geometry = conv2d_geometry(input.dim().into(), weight.dim().into(), options)?;
    let (input, weight) = (contiguous(input), contiguous(weight));
    let bias = bias.map(contiguous);
    let mut output = vec![0.0; geometry.output_length()];
    conv::conv2d_forward(
        &geometry,
        elements(&input)?,
        elements(&weight)?,
        bias.as_ref().map(elements).transpose()?,
        &mut output,
    )?;
    let [height, width] = geometry.out_size();
    shaped(
        (geometry.batch(), height, width, geometry.out_channels()),
        output,
    )
}

/// The gradients of a convolution.
pub struct Conv2dGradients {
    /// Of the input, in its shape.
    pub input: Array4<f32>,
    /// Of the weight, in its shape.
    pub weight: Array4<f32>,
    /// Of the bias, `[outChannels]`.
    pub bias: Array1<f32>,
}

/// The gradients of [`conv2d`] from that of its output.
///
/// # Errors
/// Where the shapes and options do not fit each other.
pub fn conv2d_backward(
    input: ArrayView4<f32>,
    weight: ArrayView4<f32>,
    output_gradient: ArrayView4<f32>,
    options: Conv2dOptions,
) -> Result<Conv2dGradients> {
    let (input_shape, weight_shape) = (input.dim(), weight.dim());
    let geometry = conv2d_geometry(input_shape.into(), weight_shape.into(), options)?;
    let (input, weight) = (contiguous(input), contiguous(weight));
    let gradient = contiguous(output_gradient);
    let gradient = elements(&gradient)?;
    let mut input_gradient = vec![0.0; geometry.input_length()];
    conv::conv2d_backward_data(&geometry, gradient, elements(&weight)?, &mut input_gradient)?;
    let mut weight_gradient = vec![0.0; geometry.weight_length()];
    conv::conv2d_backward_weights(&geometry, elements(&input)?, gradient, &mut weight_gradient)?;
    let channels = geometry.out_channels();
    let mut bias_gradient = vec![0.0; channels];
    conv::bias_gradient(
        gradient.len() / channels,
        channels,
        gradient,
        &mut bias_gradient,
    )?;
    Ok(Conv2dGradients {
        input: shaped(input_shape, input_gradient)?,
        weight: shaped(weight_shape, weight_gradient)?,
        bias: Array1::from_vec(bias_gradient),
    })
}

/// `values` as an array of a shape with as many elements.
fn shaped<Shape, D>(shape: Shape, values: Vec<f32>) -> Result<ndarray::Array<f32, D>>
where
    D: Dimension,
    Shape: Into<ndarray::StrideShape<D>>,
{
    ndarray::Array::from_shape_vec(shape, values)
        .map_err(|error| KernelError::Invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, s};

    fn filled<Shape: ndarray::ShapeBuilder>(shape: Shape) -> Array<f32, Shape::Dim> {
        let mut next = 0.0f32;
        Array::from_shape_simple_fn(shape, || {
            next += 1.0;
            (next * 0.7).sin()
        })
    }

    #[test]
    fn products_of_views_are_those_of_ndarray() {
        let (a, b) = (filled((7, 12)), filled((9, 6)));
        let got = matmul(a.slice(s![.., ..;2]), b.slice(s![..6, ..])).unwrap();
        let want = a.slice(s![.., ..;2]).dot(&b.slice(s![..6, ..]));
        assert!(
            (&got - &want)
                .iter()
                .all(|difference| difference.abs() < 1e-5)
        );
        let got = matmul(a.t(), a.view()).unwrap();
        assert!(
            (&got - &a.t().dot(&a))
                .iter()
                .all(|difference| difference.abs() < 1e-5)
        );
        assert!(matmul(a.view(), b.view()).is_err());
    }

    /// The gradients of a bilinear function are found by putting unit changes in: `<y(x), g> = <x, dx(g)> = <w, dw(g)>`.
    #[test]
    fn gradients_are_the_adjoint_of_the_convolution() {
        let options = Conv2dOptions {
            stride: [2, 1],
            padding: [1, 1],
            ..Conv2dOptions::default()
        };
        let (input, weight) = (filled((2, 7, 5, 3)), filled((3, 3, 3, 4)));
        let output = conv2d(input.view(), weight.view(), None, options).unwrap();
        assert_eq!(output.dim(), (2, 4, 5, 4));
        let gradient = filled(output.dim());
        let found = conv2d_backward(input.view(), weight.view(), gradient.view(), options).unwrap();
        let inner = (&output * &gradient).sum();
        assert!((inner - (&input * &found.input).sum()).abs() < 1e-3);
        assert!((inner - (&weight * &found.weight).sum()).abs() < 1e-3);
        let ones = Array1::ones(4);
        let shifted = conv2d(input.view(), weight.view(), Some(ones.view()), options).unwrap();
        assert!(
            (&shifted - &output)
                .iter()
                .all(|shift| (shift - 1.0).abs() < 1e-5)
        );
        let sums = gradient
            .sum_axis(ndarray::Axis(0))
            .sum_axis(ndarray::Axis(0))
            .sum_axis(ndarray::Axis(0));
        assert!(
            (&found.bias - &sums)
                .iter()
                .all(|difference| difference.abs() < 1e-4)
        );
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let (input, weight) = (filled((1, 4, 4, 3)), filled((3, 3, 2, 4)));
        assert!(conv2d(input.view(), weight.view(), None, Conv2dOptions::default()).is_err());
    }
}
