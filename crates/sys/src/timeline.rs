//! A timeline: memory that a process shares with its clones, on which they note when they did what.
//!
//! Without [`keep_timeline`] a note is one load of a pointer. With it the time comes from
//! clock_gettime(2), which is no system call where the kernel has a vDSO. The clock is
//! `CLOCK_REALTIME`: a time namespace shifts the others.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

use nix::errno::Errno;

use crate::Result;

/// The number of notes; later ones are dropped.
const NOTES: usize = 4096;
/// Words of eight bytes for a text.
const WORDS: usize = 8;

/// The part of a process that clones no other: the runtime.
pub const RUNTIME: u8 = u8::MAX;

#[repr(C)]
struct Page {
    used: AtomicU32,
    slots: [Slot; NOTES],
}

#[repr(C)]
struct Slot {
    part: AtomicU8,
    step: AtomicU32,
    time: AtomicU64,
    text: Words,
}

/// A short text that is written and read without a lock.
#[repr(C)]
pub(crate) struct Words([AtomicU64; WORDS]);

impl Words {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// Keeps as much of the text as there is room for.
    pub(crate) fn store(&self, text: &str) {
        let mut parts = text.as_bytes().chunks(8);
        for word in &self.0 {
            let mut bytes = [0; 8];
            let part = parts.next().unwrap_or_default();
            bytes
                .iter_mut()
                .zip(part)
                .for_each(|(to, from)| *to = *from);
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
    }

    /// Allocates.
    pub(crate) fn text(&self) -> String {
        let words = self.0.iter();
        let bytes: Vec<u8> = words
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .take_while(|byte| *byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The values of `step` for a note that is of no step.
const BEGIN: u32 = u32::MAX;
const TEXT: u32 = u32::MAX - 1;

static PAGE: AtomicPtr<Page> = AtomicPtr::new(null_mut());
/// The part that this process is in. A clone has its own copy.
static PART: AtomicU8 = AtomicU8::new(RUNTIME);

/// One note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The part of the work.
    pub part: u8,
    /// What was noted.
    pub what: Noted,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
}

/// What a note says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The part begins.
    Begin,
    /// This step of the part is done.
    Step(usize),
    /// This is done; at most 64 bytes.
    Text(String),
}

/// `void *mmap(NULL, size_t length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)`,
/// mmap(2): from now on this process and its clones keep notes.
///
/// # Errors
///
/// The kernel's: `ENOMEM`.
pub fn keep_timeline() -> Result<()> {
    let length = size_of::<Page>();
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: the kernel chooses the place of a new mapping, so it overlaps no other memory.
    let page = unsafe { libc::mmap(null_mut(), length, access, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    PAGE.store(page.cast(), Ordering::Release);
    Ok(())
}

fn page() -> Option<&'static Page> {
    // SAFETY: the pointer is null, or that of a mapping that has the size and the alignment of a
    // `Page` and is never unmapped. Zeroes are a value of it, and all its members are atomic.
    unsafe { PAGE.load(Ordering::Acquire).as_ref() }
}

/// Whether notes are kept.
#[must_use]
pub fn has_timeline() -> bool {
    page().is_some()
}

/// Notes that this process begins a part of its work, which later notes belong to.
pub fn note_part(part: u8) {
    if let Some(page) = page() {
        PART.store(part, Ordering::Relaxed);
        keep(page, BEGIN, "");
    }
}

/// Notes that a step of the part is done.
pub fn note_step(step: usize) {
    if let Some(page) = page() {
        keep(
            page,
            u32::try_from(step).unwrap_or(TEXT - 1).min(TEXT - 1),
            "",
        );
    }
}

/// Notes that something is done which no plan has a step for. A long text is cut.
pub fn note_text(text: &str) {
    if let Some(page) = page() {
        keep(page, TEXT, text);
    }
}

fn keep(page: &Page, step: u32, text: &str) {
    let index = page.used.fetch_add(1, Ordering::AcqRel);
    let Some(slot) = usize::try_from(index)
        .ok()
        .and_then(|index| page.slots.get(index))
    else {
        return;
    };
    slot.text.store(text);
    slot.part
        .store(PART.load(Ordering::Relaxed), Ordering::Relaxed);
    slot.step.store(step, Ordering::Relaxed);
    // The time comes last: a note without one is not finished.
    slot.time.store(time_ns(), Ordering::Release);
}

/// `int clock_gettime(CLOCK_REALTIME, struct timespec *tp)`, clock_gettime(2): nanoseconds since
/// 1970.
#[must_use]
pub fn time_ns() -> u64 {
    clock_ns(libc::CLOCK_REALTIME)
}

/// `int clock_gettime(CLOCK_BOOTTIME, struct timespec *tp)`, clock_gettime(2): nanoseconds since
/// the start of the machine, the clock of start times in /proc.
#[must_use]
pub fn since_boot_ns() -> u64 {
    clock_ns(libc::CLOCK_BOOTTIME)
}

/// The time of a clock of clock_gettime(2) that every kernel has.
pub(crate) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a whole `timespec` that outlives the call, which writes it.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// The notes in their order, up to the first that is not finished. Allocates.
#[must_use]
pub fn notes() -> Vec<Note> {
    let slots = page().map_or(&[][..], |page| &page.slots);
    let slots = slots.iter().map(|slot| Note {
        part: slot.part.load(Ordering::Relaxed),
        time_ns: slot.time.load(Ordering::Acquire),
        what: match slot.step.load(Ordering::Relaxed) {
            BEGIN => Noted::Begin,
            TEXT => Noted::Text(slot.text.text()),
            step => Noted::Step(usize::try_from(step).unwrap_or(usize::MAX)),
        },
    });
    slots.take_while(|note| note.time_ns != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_kept_once_there_is_a_page() {
        note_step(1);
        assert_eq!(notes(), []);
        keep_timeline().expect("a page");
        note_text("a text");
        note_part(3);
        note_step(7);
        note_text(&"x".repeat(100));
        let kept = notes();
        let times: Vec<u64> = kept.iter().map(|note| note.time_ns).collect();
        assert!(times.is_sorted() && times.iter().all(|time| *time != 0));
        let kept: Vec<_> = kept
            .into_iter()
            .map(|note| (note.part, note.what))
            .collect();
        let expected = [
            (RUNTIME, Noted::Text("a text".to_owned())),
            (3, Noted::Begin),
            (3, Noted::Step(7)),
            (3, Noted::Text("x".repeat(64))),
        ];
        assert_eq!(kept, expected);
    }
}
