//! What the C library and the system know of memory.
#![allow(unsafe_code)]

/// Gives unused memory back, wherever it lies in the heap.
pub(super) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks and may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

pub(super) fn page_bytes() -> u64 {
    // SAFETY: it only reads a constant of the system.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
