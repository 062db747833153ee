//! Executing a program: execve(2), execveat(2).

use nix::errno::Errno;
use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Strings together with the `char *[]` that the exec calls take as argv and envp.
///
/// Making, cloning and formatting one allocates; using it does not.
pub struct StringArray {
    strings: Vec<CString>,
    /// One pointer to each of `strings`; then a null that [`execve_adding`] replaces while it runs,
    /// and a null at the end. Nothing is ever written through the pointers.
    pointers: Vec<AtomicPtr<c_char>>,
}

impl StringArray {
    /// The array of `strings`, in their order. Allocates.
    #[must_use]
    pub fn new(strings: Vec<CString>) -> Self {
        let ends = std::iter::repeat_n(std::ptr::null_mut(), 2);
        let pointers = strings.iter().map(|s| s.as_ptr().cast_mut()).chain(ends);
        let pointers = pointers.map(AtomicPtr::new).collect();
        Self { strings, pointers }
    }

    /// The strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &CStr> {
        self.strings.iter().map(CString::as_c_str)
    }

    /// The string at `index`, if there is one.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&CStr> {
        self.strings.get(index).map(CString::as_c_str)
    }

    /// How many strings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.strings.len()
    }

    /// Whether there are no strings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.strings.is_empty()
    }

    /// The array as C expects it: an atomic pointer has the layout of a plain one.
    fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr().cast()
    }
}

impl Default for StringArray {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Clone for StringArray {
    fn clone(&self) -> Self {
        // The pointers of the copy must point to the strings of the copy.
        Self::new(self.strings.clone())
    }
}

impl PartialEq for StringArray {
    fn eq(&self, other: &Self) -> bool {
        self.strings == other.strings
    }
}

impl Eq for StringArray {}

impl fmt::Debug for StringArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.strings).finish()
    }
}

impl FromIterator<CString> for StringArray {
    fn from_iter<I: IntoIterator<Item = CString>>(strings: I) -> Self {
        Self::new(strings.into_iter().collect())
    }
}

/// `int execve(const char *path, char *const argv[], char *const envp[])`, execve(2).
///
/// Returns only if the program could not be executed: the errno.
#[must_use]
pub fn execve(path: &CStr, arguments: &StringArray, environment: &StringArray) -> Errno {
    // SAFETY: `path` ends in NUL; both arrays end in a null pointer, and each pointer before it
    // goes to a NUL-terminated string that the borrowed array keeps alive. The call does not
    // write through them: the `const` cast away is an accident of the C prototype.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Errno::last()
}

/// Like [`execve`], with one more variable in the environment, for a variable that is known only
/// after the array was made.
#[must_use]
pub fn execve_adding(
    path: &CStr,
    arguments: &StringArray,
    environment: &StringArray,
    variable: &CStr,
) -> Errno {
    // The first of the two nulls: the array stays terminated by the second.
    let Some(spare) = environment.pointers.get(environment.len()) else {
        return Errno::EINVAL;
    };
    spare.store(variable.as_ptr().cast_mut(), Ordering::Relaxed);
    let errno = execve(path, arguments, environment);
    // The array must not keep a pointer to a string that it does not own.
    spare.store(std::ptr::null_mut(), Ordering::Relaxed);
    errno
}

/// `int execveat(int fd, const char *path, char *const argv[], char *const envp[], int flags)`,
/// execveat(2), since Linux 3.19.
///
/// Executes the file that `program` is open on, even if its path now names another file
/// (`AT_EMPTY_PATH`). Returns only if it could not be executed: `ENOENT` for a script whose
/// descriptor is close-on-exec, since its interpreter could not open the script.
#[must_use]
pub fn execveat(
    program: BorrowedFd<'_>,
    arguments: &StringArray,
    environment: &StringArray,
) -> Errno {
    // SAFETY: the path is an empty C string and the descriptor is open for the borrow; the arrays
    // are as in `execve` above.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(array: &StringArray) -> Vec<*const c_char> {
        let load = |pointer: &AtomicPtr<c_char>| pointer.load(Ordering::Relaxed).cast_const();
        array.pointers.iter().map(load).collect()
    }

    fn array(strings: &[&CStr]) -> StringArray {
        strings.iter().map(|&s| s.to_owned()).collect()
    }

    #[test]
    fn pointers_follow_the_strings_and_end_in_null() {
        let moved = Box::new(array(&[c"one", c"two"]));
        let pointers = pointers(&moved);
        assert_eq!(pointers[2..], [std::ptr::null(); 2]);
        for (pointer, string) in pointers.iter().zip(moved.iter()) {
            assert_eq!(*pointer, string.as_ptr());
        }
    }

    #[test]
    fn a_clone_points_to_its_own_strings() {
        let first = array(&[c"PATH=/bin", c"TERM=xterm"]);
        let second = first.clone();
        assert_eq!(first, second);
        assert_ne!(pointers(&first)[0], pointers(&second)[0]);
        drop(first);
        assert_eq!(pointers(&second)[1], second.strings[1].as_ptr());
        assert_eq!(second.get(1), Some(c"TERM=xterm"));
        assert_eq!(second.get(2), None);
        assert_eq!(format!("{second:?}"), r#"["PATH=/bin", "TERM=xterm"]"#);
    }

    #[test]
    fn an_empty_array_is_nulls() {
        let empty = StringArray::default();
        assert!(empty.is_empty());
        assert_eq!(empty.len(), 0);
        assert_eq!(pointers(&empty), [std::ptr::null(); 2]);
    }

    #[test]
    fn a_variable_is_added_for_one_call_only() {
        let environment = array(&[c"TERM=xterm"]);
        let shell = array(&[c"x"]);
        let answer = execve_adding(c"/nonexistent/program", &shell, &environment, c"HOME=/");
        assert_eq!(answer, Errno::ENOENT);
        assert_eq!(pointers(&environment)[1..], [std::ptr::null(); 2]);
    }

    #[test]
    fn a_missing_program_says_so() {
        let none = StringArray::default();
        assert_eq!(
            execve(c"/nonexistent/program", &array(&[c"x"]), &none),
            Errno::ENOENT
        );
        let directory = std::fs::File::open("/").expect("/ can be opened");
        let answer = execveat(std::os::fd::AsFd::as_fd(&directory), &array(&[c"x"]), &none);
        assert_eq!(answer, Errno::EACCES);
    }
}
