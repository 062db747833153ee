//! An allocator that aborts after the clone: tests use it to prove that the child does not
//! allocate.
//!
//! An allocation after the clone could not deadlock: the process has one thread, so no other thread
//! held the allocator's lock when the memory was copied. It is forbidden for three other reasons.
//!
//! * The child is in the container's cgroup, which is charged for its memory. With a small limit
//!   the OOM killer would end it before the program runs, at a point that depends on the allocator.
//! * After a bare clone3(2), only functions of the C library that a signal handler may call are
//!   safe, signal-safety(7); the allocator is not one of them. It works in a process with one
//!   thread, but only a test would notice a dependency that starts another.
//! * Code that cannot allocate cannot parse, build a path or format an error. All of that is done
//!   before the clone, in the plan, where it can be tested and printed, and no text of an image is
//!   handled by a process that is partly in the container.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

/// The system's allocator until [`forbid`] is called; then it aborts the process.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: coracle_sys::allocation::Guarded = coracle_sys::allocation::Guarded;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Guarded;

static FORBIDDEN: AtomicBool = AtomicBool::new(false);

/// From now on, allocating from [`Guarded`] aborts this process, and deallocating does nothing.
///
/// The child of a clone calls it; its copy of the switch is its own. It cannot be undone.
pub fn forbid() {
    FORBIDDEN.store(true, Ordering::Relaxed);
}

fn is_forbidden() -> bool {
    FORBIDDEN.load(Ordering::Relaxed)
}

/// Writes the reason to standard error and aborts.
fn refuse() -> ! {
    const TEXT: &[u8] = b"coracle: allocation after the clone\n";
    // SAFETY: the kernel reads `len` bytes of a constant; the number of standard error may be
    // closed, which is an error that changes nothing.
    unsafe { libc::write(libc::STDERR_FILENO, TEXT.as_ptr().cast(), TEXT.len()) };
    std::process::abort()
}

// SAFETY: every method hands its arguments to `System`, which upholds the contract, or does not
// return, or (deallocation after `forbid`) leaks, which is allowed. None of them unwinds.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_forbidden() {
            refuse();
        }
        // SAFETY: the caller promises what `System` asks: a layout of more than zero bytes.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_forbidden() {
            refuse();
        }
        // SAFETY: the caller promises what `System` asks: a layout of more than zero bytes.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_forbidden() {
            refuse();
        }
        // SAFETY: the caller promises that the memory came from here, that is from `System`, with
        // this layout, and that the new size is not zero and does not overflow.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // The exec frees all memory at once.
        if !is_forbidden() {
            // SAFETY: the caller promises that the memory came from here, that is from `System`,
            // with this layout.
            unsafe { System.dealloc(pointer, layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_the_systems_before_the_switch() {
        let layout = Layout::array::<u64>(4).expect("a layout");
        // SAFETY: the layout has 32 bytes.
        let memory = unsafe { Guarded.alloc_zeroed(layout) };
        assert!(!memory.is_null() && !is_forbidden());
        // SAFETY: allocated above, with that layout, to a size that is not zero.
        let memory = unsafe { Guarded.realloc(memory, layout, 64) };
        // SAFETY: at least 32 bytes, zeroed, were kept.
        assert_eq!(unsafe { memory.read() }, 0);
        let layout = Layout::array::<u64>(8).expect("a layout");
        // SAFETY: allocated above, 64 bytes at the same alignment.
        unsafe { Guarded.dealloc(memory, layout) };
    }
}
