//! The strategy of every kind that has no file of its own: nothing but the defaults.

use crate::strategy::Strategy;

/// A kind without rules of its own.
#[derive(Debug)]
pub struct Plain;

impl Strategy for Plain {}
