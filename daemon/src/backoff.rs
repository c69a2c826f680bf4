//! Exponential back-off with a limit and jitter.

use std::time::Duration;

/// Delays that double from `base` to `max`, with up to `jitter` (a fraction) added.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    jitter: f64,
    attempts: u32,
}

impl Backoff {
    /// Delays from `base`, never above `max`, without jitter.
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, jitter: 0.0, attempts: 0 }
    }

    /// Adds up to this fraction to each delay.
    #[must_use]
    pub const fn with_jitter(mut self, fraction: f64) -> Self {
        self.jitter = fraction;
        self
    }

    /// The next delay; each call doubles it until `max`.
    pub fn next_delay(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        self.attempts = self.attempts.saturating_add(1);
        let delay = self.base.saturating_mul(factor).min(self.max);
        delay.mul_f64(1.0 + self.jitter * rand::random::<f64>())
    }

    /// How often a delay was taken since the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Starts again at `base`.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let delays: Vec<u64> = (0..40).map(|_| backoff.next_delay().as_secs()).collect();
        assert_eq!(delays[..5], [1, 2, 4, 5, 5]);
        assert!(delays[5..].iter().all(|d| *d == 5));
        backoff.reset();
        assert_eq!(backoff.next_delay().as_secs(), 1);
    }
}
