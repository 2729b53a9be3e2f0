//! What can go wrong on the compute thread, as a value that travels to JavaScript.

use evenkeel_kernels::KernelError;
use std::sync::Arc;

/// A stable code and a message; the TypeScript side makes an `EvenkeelError` of it. Cheap to clone, because one failure
/// poisons every tensor computed from it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// One of the codes of `EvenkeelError`.
    pub code: &'static str,
    /// What was given, what was expected.
    pub message: Arc<str>,
}

impl Failure {
    /// A failure with `code`.
    pub fn new(code: &'static str, message: impl Into<Arc<str>>) -> Self {
        Failure {
            code,
            message: message.into(),
        }
    }

    /// A mistake in this library rather than in its caller.
    pub fn internal(message: impl AsRef<str>) -> Self {
        Failure::new(
            "INTERNAL",
            format!("{} (a bug in evenkeel: please report it)", message.as_ref()),
        )
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        let code = match error {
            KernelError::Length { .. } => "SHAPE_MISMATCH",
            KernelError::Invalid(_) | KernelError::Overflow(_) => "INVALID_ARGUMENT",
        };
        Failure::new(code, error.to_string())
    }
}

/// The result of everything that runs on the compute thread.
pub type Outcome<T = ()> = Result<T, Failure>;
