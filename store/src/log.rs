//! An ordered log of recent events that many readers read by position.
//!
//! Readers own nothing but a position, so a slow reader costs no memory and holds nobody up: it goes on
//! where it stopped, or learns that the log has moved past it. The log is bounded by bytes and by age.

use std::collections::VecDeque;
use std::sync::Arc;

/// A log of fewer slots is not worth giving memory back for.
const SHRINK_ABOVE: usize = 1024;

/// So many elements are taken from a log at one time to be undone: who writes waits for that.
const UNDO_MAX: u64 = 4096;

/// What a log needs to know of its elements.
pub(crate) trait Recorded {
    /// Never decreasing from element to element. Those of one revision were made by one write.
    fn revision(&self) -> u64;
    /// Bytes that only this element keeps in memory.
    fn retained_bytes(&self) -> usize;
}

/// How much history to keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    /// Elements older than this are forgotten.
    pub(crate) age_millis: u64,
    /// Elements are forgotten earlier when they retain more than this.
    pub(crate) bytes_max: usize,
}

/// The reader asked for what is no longer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overtaken {
    /// The oldest revision a reader can start after.
    pub(crate) oldest: u64,
}

/// The log itself. Not synchronized; its owner decides what else changes in the same step.
#[derive(Debug)]
pub(crate) struct Log<T> {
    slots: VecDeque<Slot<T>>,
    /// Sequence number of the front slot; positions are sequence numbers and never reused.
    base: u64,
    /// Every element after this revision is in the log.
    oldest: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Slot<T> {
    at_millis: u64,
    // Here as well, so that what is forgotten need not be looked at.
    revision: u64,
    bytes: usize,
    item: Arc<T>,
}

/// What a log has forgotten. Most of it ends with this, which takes its time: best dropped when the log is unlocked.
pub(crate) type Forgotten<T> = Vec<Arc<T>>;

impl<T: Recorded> Log<T> {
    /// An empty log that is complete after `revision`.
    pub(crate) fn starting_after(revision: u64) -> Self {
        Self { slots: VecDeque::new(), base: 0, oldest: revision, bytes: 0 }
    }

    pub(crate) fn push(&mut self, item: Arc<T>, at_millis: u64) {
        let (revision, bytes) = (item.revision(), item.retained_bytes());
        debug_assert!(
            self.slots.back().is_none_or(|last| last.revision <= revision) && self.oldest <= revision,
            "log out of order"
        );
        self.bytes += bytes;
        self.slots.push_back(Slot { at_millis, revision, bytes, item });
    }

    /// The position after the last element.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The oldest revision a reader can start after.
    pub(crate) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// When the front element will be too old, if there is one.
    pub(crate) fn front_at_millis(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.at_millis)
    }

    /// The position of the first element after `revision`.
    pub(crate) fn position_after(&self, revision: u64) -> Result<u64, Overtaken> {
        if revision < self.oldest {
            return Err(Overtaken { oldest: self.oldest });
        }
        Ok(self.base + self.slots.partition_point(|slot| slot.revision <= revision) as u64)
    }

    /// The elements from `position` on.
    pub(crate) fn read(&self, position: u64) -> Result<impl DoubleEndedIterator<Item = &Arc<T>>, Overtaken> {
        let skip = position.checked_sub(self.base).ok_or(Overtaken { oldest: self.oldest })?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.slots.len());
        Ok(self.slots.range(skip..).map(|slot| &slot.item))
    }

    /// Some elements after `revision` that stand before position `end`, the newest of them, and where they begin; none
    /// when there is no further one. What has to be undone to get back to `revision`, piece by piece.
    pub(crate) fn newer(&self, revision: u64, end: u64) -> Result<(u64, Vec<Arc<T>>), Overtaken> {
        let start = self.position_after(revision)?.max(end.saturating_sub(UNDO_MAX));
        let items = (start..end).zip(self.read(start)?).map(|(_, item)| item.clone()).collect();
        Ok((start, items))
    }

    /// Forgets what is too old or too much.
    #[must_use = "it is dropped best when the log is unlocked"]
    pub(crate) fn trim(&mut self, retention: Retention, now_millis: u64) -> Forgotten<T> {
        let mut forgotten = Vec::new();
        while let Some(front) = self.slots.front() {
            let expired = now_millis.saturating_sub(front.at_millis) > retention.age_millis;
            if !expired && self.bytes <= retention.bytes_max {
                break;
            }
            self.pop(&mut forgotten);
        }
        self.shrink();
        forgotten
    }

    /// Forgets everything at or below `revision`.
    #[must_use = "it is dropped best when the log is unlocked"]
    pub(crate) fn compact(&mut self, revision: u64) -> Forgotten<T> {
        let mut forgotten = Vec::new();
        while self.slots.front().is_some_and(|slot| slot.revision <= revision) {
            self.pop(&mut forgotten);
        }
        self.oldest = self.oldest.max(revision);
        self.shrink();
        forgotten
    }

    /// Forgets everything, as if `revision` were a new beginning; every reader is overtaken.
    pub(crate) fn restart_after(&mut self, revision: u64) {
        self.base = self.end() + 1;
        self.slots = VecDeque::new();
        self.bytes = 0;
        self.oldest = revision;
    }

    /// Forgets the oldest revision, with everything that it changed.
    fn pop(&mut self, forgotten: &mut Forgotten<T>) {
        let Some(revision) = self.slots.front().map(|slot| slot.revision) else { return };
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.revision == revision) {
            self.bytes -= slot.bytes;
            self.base += 1;
            forgotten.push(slot.item);
        }
        self.oldest = revision;
    }

    /// A burst must not pin its memory for ever.
    fn shrink(&mut self) {
        if self.slots.capacity() > SHRINK_ABOVE && self.slots.len() * 4 < self.slots.capacity() {
            self.slots.shrink_to(self.slots.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests;
