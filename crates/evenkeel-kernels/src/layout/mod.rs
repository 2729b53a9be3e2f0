//! Moving data without arithmetic: transpose, slice, concatenate, pad.
