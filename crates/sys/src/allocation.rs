//! An allocator that can be switched off: how "the child allocates nothing" is proved.
//!
//! An allocation after the clone would not deadlock: the process has one thread, so nobody else
//! held the allocator's lock when the child's memory was copied. It is ruled out all the same.
//!
//! * The child is in the container's cgroup. Memory that it takes is charged there, and a small
//!   limit would end it by the OOM killer before the program ever ran, at a place that depends on
//!   the allocator.
//! * The allocator is the C library's, and of that the child of a bare clone3(2) may use only what
//!   a signal handler may, signal-safety(7). It is right with one thread; nothing but a test would
//!   notice if a dependency started another one.
//! * What needs no memory cannot parse, build a path or word an error. So all of that was decided
//!   before, in the plan, where it can be tested and shown, and no text of an image is handled by
//!   a process that is partly in the container.

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

/// From now on taking memory from [`Guarded`] aborts this process; giving it back is ignored.
///
/// Called in the child of a clone, whose copy of the switch is its own. There is no way back.
pub fn forbid() {
    FORBIDDEN.store(true, Ordering::Relaxed);
}

fn is_forbidden() -> bool {
    FORBIDDEN.load(Ordering::Relaxed)
}

/// Says what happened on standard error and ends the process with SIGABRT.
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
        // The heap's own lists are left as they are: the exec drops them all.
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
