//! Arguments, environment and the directories in which the program is looked up: config.md §
//! Process.

use coracle_bundle::Process;
use coracle_sys::StringArray;
use coracle_text::DEFAULT_PATH;
use std::ffi::{CStr, CString};

/// The arguments of execve(2).
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Empty if the config has no process.
    pub(crate) args: StringArray,
    /// Without HOME if init has to look it up.
    pub(crate) env: StringArray,
    /// The value of PATH.
    path: Vec<u8>,
}

impl Program {
    pub(crate) fn new(process: &Process, added: &[CString]) -> Self {
        let env = environment(&process.env, added);
        Self {
            path: value(&env, b"PATH")
                .unwrap_or(DEFAULT_PATH.as_bytes())
                .to_vec(),
            args: StringArray::new(process.args.clone()),
            env: StringArray::new(env),
        }
    }

    /// The configured `args[0]`.
    pub(crate) fn name(&self) -> &CStr {
        self.args.get(0).unwrap_or_default()
    }

    /// Whether `args[0]` is a path, which is not looked up in PATH.
    pub(crate) fn is_path(&self) -> bool {
        self.name().to_bytes().contains(&b'/')
    }

    /// The entries of PATH in order; none for an empty name. Init joins them with the name one at a
    /// time: a list of all joined paths could need the length of PATH times that of `args[0]`.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &[u8]> {
        let entries = self.path.split(|byte| *byte == b':');
        entries.filter(|_| !self.name().is_empty())
    }
}

/// Whether HOME has to be looked up in the container's `/etc/passwd`, since it is missing or empty.
pub(crate) fn lacks_home(env: &[CString], added: &[CString]) -> bool {
    let home = value(added, b"HOME").or_else(|| value(env, b"HOME"));
    home.is_none_or(<[u8]>::is_empty)
}

/// The configured variables, with added ones in place of those of the same name. An empty HOME is
/// left out, since init looks it up.
fn environment(configured: &[CString], added: &[CString]) -> Vec<CString> {
    let replaced = |variable: &CString| {
        let name = name(variable);
        added.iter().any(|ours| self::name(ours) == name)
    };
    let kept = configured.iter().filter(|variable| !replaced(variable));
    let all = kept.chain(added);
    all.filter(|variable| variable.to_bytes() != b"HOME=")
        .cloned()
        .collect()
}

fn name(variable: &CStr) -> &[u8] {
    variable
        .to_bytes()
        .split(|byte| *byte == b'=')
        .next()
        .unwrap_or_default()
}

/// The value of the last variable of this name.
fn value<'a>(variables: &'a [CString], name: &[u8]) -> Option<&'a [u8]> {
    let value = |variable: &'a CString| variable.to_bytes().strip_prefix(name)?.strip_prefix(b"=");
    variables.iter().rev().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::super::without_process;
    use super::*;

    fn strings(texts: &[&str]) -> Vec<CString> {
        texts.iter().map(|text| c(text)).collect()
    }

    fn c(text: &str) -> CString {
        CString::new(text).expect("no NUL")
    }

    #[test]
    fn ours_replace_the_configs() {
        let configured = strings(&["PATH=/bin", "LISTEN_FDS=9", "HOME=", "X=1=2", "odd"]);
        let added = strings(&["LISTEN_FDS=1"]);
        let expected = strings(&["PATH=/bin", "X=1=2", "odd", "LISTEN_FDS=1"]);
        assert_eq!(environment(&configured, &added), expected);
    }

    #[test]
    fn home_is_looked_for_when_missing_or_empty() {
        let lacks = |configured: &[&str]| lacks_home(&strings(configured), &[]);
        assert!(lacks(&[]) && lacks(&["HOME="]) && lacks(&["HOMES=/x"]));
        assert!(!lacks(&["HOME=/root"]));
        assert!(!lacks_home(&[], &strings(&["HOME=/x"])));
    }

    #[test]
    fn directories_are_those_of_the_path() {
        let directories = |name: &str, env: &[&str]| {
            let process = Process {
                args: strings(&[name]),
                env: strings(env),
                ..without_process()
            };
            let program = Program::new(&process, &[]);
            let directories = program.directories().map(<[u8]>::to_vec);
            directories.collect::<Vec<_>>()
        };
        assert_eq!(directories("a", &["PATH=/x::y"]), [&b"/x"[..], b"", b"y"]);
        assert_eq!(directories("a", &["PATH="]), [b""]);
        assert_eq!(directories("a", &[]).len(), 6);
        assert!(directories("", &[]).is_empty());
    }
}
