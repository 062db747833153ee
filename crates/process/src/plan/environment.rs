//! Arguments, environment and the places where the program may be: config.md § Process.

use coracle_bundle::Process;
use coracle_sys::StringArray;
use std::ffi::{CStr, CString};

/// Where programs are looked for when the environment has no PATH.
const PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What execve(2) takes.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Empty when the config has no process.
    pub(crate) args: StringArray,
    /// Without HOME when init has to find it.
    pub(crate) env: StringArray,
    /// Paths to try, in order.
    pub(crate) candidates: Vec<CString>,
}

impl Program {
    pub(crate) fn new(process: &Process, added: &[CString]) -> Self {
        let env = environment(&process.env, added);
        let candidates = match process.args.first() {
            None => Vec::new(),
            Some(name) => candidates(name, value(&env, b"PATH").unwrap_or(PATH)),
        };
        Self {
            args: StringArray::new(process.args.clone()),
            env: StringArray::new(env),
            candidates,
        }
    }

    /// `args[0]` as given.
    pub(crate) fn name(&self) -> &CStr {
        self.args.get(0).unwrap_or_default()
    }

    /// Whether `args[0]` is a path, which execvp(3) takes as it stands.
    pub(crate) fn is_path(&self) -> bool {
        is_path(self.name())
    }
}

/// Whether HOME has to be found in the container's `/etc/passwd`: it is missing or empty.
pub(crate) fn lacks_home(env: &[CString], added: &[CString]) -> bool {
    let home = value(added, b"HOME").or_else(|| value(env, b"HOME"));
    home.is_none_or(<[u8]>::is_empty)
}

/// The paths that execvp(3) would try for `name`; an empty entry of PATH is the working directory.
pub(crate) fn candidates(name: &CStr, path: &[u8]) -> Vec<CString> {
    if is_path(name) {
        return vec![name.to_owned()];
    }
    if name.is_empty() {
        return Vec::new();
    }
    let entries = path.split(|byte| *byte == b':');
    entries.map(|entry| join(entry, name)).collect()
}

fn is_path(name: &CStr) -> bool {
    name.to_bytes().contains(&b'/')
}

fn join(entry: &[u8], name: &CStr) -> CString {
    let entry = if entry.is_empty() { b"." } else { entry };
    // Both parts come from C strings, so that there is no NUL to refuse.
    CString::new([entry, b"/", name.to_bytes()].concat()).unwrap_or_default()
}

/// The config's variables with ours in place of those of the same name. An empty HOME is left out:
/// it is replaced by one that init finds.
fn environment(given: &[CString], added: &[CString]) -> Vec<CString> {
    let replaced = |variable: &CString| {
        let name = name(variable);
        added.iter().any(|ours| self::name(ours) == name)
    };
    let kept = given.iter().filter(|variable| !replaced(variable));
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
    use super::*;
    use proptest::prelude::*;

    fn strings(texts: &[&str]) -> Vec<CString> {
        texts.iter().map(|text| c(text)).collect()
    }

    fn c(text: &str) -> CString {
        CString::new(text).expect("no NUL")
    }

    #[test]
    fn ours_replace_the_configs() {
        let given = strings(&["PATH=/bin", "LISTEN_FDS=9", "HOME=", "X=1=2", "odd"]);
        let added = strings(&["LISTEN_FDS=1"]);
        let expected = strings(&["PATH=/bin", "X=1=2", "odd", "LISTEN_FDS=1"]);
        assert_eq!(environment(&given, &added), expected);
    }

    #[test]
    fn home_is_looked_for_when_missing_or_empty() {
        let lacks = |given: &[&str]| lacks_home(&strings(given), &[]);
        assert!(lacks(&[]) && lacks(&["HOME="]) && lacks(&["HOMES=/x"]));
        assert!(!lacks(&["HOME=/root"]));
        assert!(!lacks_home(&[], &strings(&["HOME=/x"])));
    }

    #[test]
    fn an_empty_name_is_nowhere() {
        assert!(candidates(c"", b"/bin").is_empty());
    }

    proptest! {
        #[test]
        fn a_path_stands_for_itself(name in "[a-z.]{0,3}/[a-z./]{0,6}", path in "[a-z/:]{0,9}") {
            prop_assert_eq!(candidates(&c(&name), path.as_bytes()), vec![c(&name)]);
        }

        #[test]
        fn each_entry_is_tried_in_order(name in "[a-z]{1,5}", path in "[a-z/:]{0,20}") {
            let found = candidates(&c(&name), path.as_bytes());
            let entry = |entry: &str| if entry.is_empty() { "." } else { entry }.to_owned();
            let expected = path.split(':').map(|each| c(&format!("{}/{name}", entry(each))));
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }
}
