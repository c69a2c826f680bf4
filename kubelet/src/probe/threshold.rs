//! From single checks to a result: so many in a row.

use crate::plan::ProbeResult;

/// Counts equal outcomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counter {
    last: Option<ProbeResult>,
    run: i32,
    success: i32,
    failure: i32,
}

impl Counter {
    pub(super) fn new(success: Option<i32>, failure: Option<i32>) -> Self {
        Self { last: None, run: 0, success: success.unwrap_or(1), failure: failure.unwrap_or(3) }
    }

    /// The result, once enough outcomes agree.
    pub(super) fn count(&mut self, outcome: ProbeResult) -> Option<ProbeResult> {
        self.run = if self.last == Some(outcome) { self.run + 1 } else { 1 };
        self.last = Some(outcome);
        let needed = match outcome {
            ProbeResult::Success => self.success,
            ProbeResult::Failure => self.failure,
        };
        (self.run >= needed).then_some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_in_a_row() {
        use ProbeResult::{Failure, Success};
        let mut counter = Counter::new(Some(2), Some(3));
        let outcomes = [Success, Success, Failure, Failure, Success, Failure, Failure, Failure];
        let expected = [None, Some(Success), None, None, None, None, None, Some(Failure)];
        assert_eq!(outcomes.map(|outcome| counter.count(outcome)), expected);
    }
}
