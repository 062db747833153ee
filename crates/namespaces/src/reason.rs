//! The checks of this crate's own, and why a call failed.

use coracle_sys::Cause;
use coracle_text::{cause_text, errno_text};

coracle_text::checks! {
    NotOpened = "the runtime has opened no procfs for it",
    TooLong = "the request is longer than any that the kernel takes",
    BadAnswer = "the kernel's answer is malformed",
}

/// Why a call failed where what was attempted says which one it was.
pub(crate) fn reason(cause: Cause) -> String {
    match cause {
        Cause::Call(_, errno) => errno_text(errno),
        Cause::Check(check) => Check::text(check).to_owned(),
        Cause::Exit(_) => cause_text(cause),
    }
}
