//! The activation at the end of a normalization, as a type: the loop is compiled for each of the common ones.

/// Evaluates `$body` with `$name` bound to the activation as a value of its own type, as
/// [`Activation::visit_common`](crate::activation::Activation::visit_common) would, without a visitor for every body.
macro_rules! with_fused {
    ($activation:expr, |$name:ident| $body:expr) => {{
        use $crate::activation::{Activation, functions};
        match $activation {
            Activation::Identity => {
                let $name = functions::Identity;
                $body
            }
            Activation::Relu => {
                let $name = functions::Relu;
                $body
            }
            Activation::Silu => {
                let $name = functions::Silu;
                $body
            }
            other => {
                let $name = other;
                $body
            }
        }
    }};
}
pub(super) use with_fused;
