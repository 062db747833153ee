//! Regular expressions of the C library, regex(7).

use std::ffi::CStr;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// A compiled expression.
pub struct Pattern(Box<libc::regex_t>);

impl Pattern {
    /// `int regcomp(regex_t *preg, const char *regex, REG_EXTENDED | REG_NOSUB)`, regcomp(3): an
    /// extended regular expression; `None` if it is none.
    #[must_use]
    pub fn new(text: &CStr) -> Option<Self> {
        let mut compiled = Box::new(MaybeUninit::<libc::regex_t>::uninit());
        let flags = libc::REG_EXTENDED | libc::REG_NOSUB;
        // SAFETY: `compiled` is memory for one `regex_t`, which the call fills, and the text ends
        // with NUL and is only read.
        let answer = unsafe { libc::regcomp(compiled.as_mut_ptr(), text.as_ptr(), flags) };
        if answer != 0 {
            return None;
        }
        // SAFETY: the call has succeeded and so has initialised it.
        Some(Self(unsafe { compiled.assume_init() }))
    }

    /// `int regexec(const regex_t *preg, const char *string, 0, NULL, 0)`, regexec(3): whether a
    /// part of the text matches.
    #[must_use]
    pub fn matches(&self, text: &CStr) -> bool {
        let compiled = &raw const *self.0;
        // SAFETY: `compiled` is an expression of regcomp(3) that has not been freed; the text ends
        // with NUL; zero places for matches are passed, so none is written.
        let answer = unsafe { libc::regexec(compiled, text.as_ptr(), 0, null_mut(), 0) };
        answer == 0
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        // SAFETY: it is an expression of regcomp(3), freed once, since this is its only owner.
        unsafe { libc::regfree(&raw mut *self.0) };
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pattern")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_a_part_of_the_text() {
        let matches = |pattern, text| Pattern::new(pattern).is_some_and(|it| it.matches(text));
        assert!(matches(c"we+b", c"my-weeb1"));
        assert!(matches(c"^(a|b)[0-9]{2}$", c"b42"));
        assert!(!matches(c"^(a|b)[0-9]{2}$", c"b421"));
        assert!(Pattern::new(c"(").is_none());
    }
}
