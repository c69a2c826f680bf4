//! The strategy of every kind that has no file of its own: nothing but the defaults.

use crate::names::NameRule;
use crate::strategy::Strategy;

/// A kind without rules of its own.
#[derive(Debug)]
pub struct Plain;

impl Strategy for Plain {}

/// The same, with names that may hold all that a URL's path may: API services.
#[derive(Debug)]
pub struct PathNamed;

impl Strategy for PathNamed {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }
}
