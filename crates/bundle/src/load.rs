//! Reads a bundle's directory, or the text of a document.

use crate::error::{At, Document, Error};
use crate::file::{INPUT_FLAGS, MAX_CONFIG_BYTES, Unread, read_regular};
use crate::read::{self, Json};
use crate::{Bundle, Config, Process, Resources, validate};
use nix::errno::Errno;
use nix::fcntl::open;
use nix::sys::stat::Mode;
use serde_json::Value;
use std::path::Path;

/// The largest number of values in a document. A value takes up to 64 bytes in memory, but a list
/// of zeros only two bytes each in the text. The count includes separators inside strings.
const MAX_VALUES: usize = 1 << 20;

/// Reads and validates `config.json` in `dir`, a path from the command line, or `file` in its
/// place.
///
/// The file is read once, and its text is kept in [`Bundle::raw`]: later changes of the file must
/// not affect the container (`runtime.md § Create`).
///
/// # Errors
/// The file is missing, unreadable or not a regular file; or [`parse`] refuses it.
pub fn load(dir: &Path, file: Option<&Path>) -> Result<Bundle, Error> {
    let dir = std::path::absolute(dir).map_err(|_| Error::NotAbsolute(dir.to_owned()))?;
    let raw = read_config(&dir, file)?;
    let config = parse(&dir, &raw)?;
    Ok(Bundle { dir, raw, config })
}

/// Validates the text of a `config.json` of the bundle in `dir`, an absolute path.
///
/// # Errors
/// Everything that config.md and config-linux.md forbid, as far as it does not depend on the host.
pub fn parse(dir: &Path, text: &[u8]) -> Result<Config, Error> {
    config(dir, &json(Document::Config, text)?)
}

/// [`parse`] of a config that was read before, and changed since.
///
/// # Errors
/// As for [`parse`].
pub fn parse_tree(dir: &Path, tree: &Value) -> Result<Config, Error> {
    config(dir, &tree.into())
}

fn config(dir: &Path, json: &Json<'_>) -> Result<Config, Error> {
    if !dir.is_absolute() {
        return Err(Error::NotAbsolute(dir.to_owned()));
    }
    // The version is checked first: in another major version everything may have another meaning.
    if let Some(Json::Text(version)) = json.get("ociVersion") {
        validate::version(version, At::Root(Document::Config))?;
    }
    let (config, notes) = read::read(Document::Config, json)?;
    validate::config(dir, config, notes)
}

/// Validates the file of `exec --process`, an object as `process` in a config. Also returns
/// warnings, one line each, about unknown capabilities and missing ids.
///
/// # Errors
/// As for [`parse`]; paths in messages start with `process`.
pub fn parse_process(text: &[u8]) -> Result<(Process, Vec<String>), Error> {
    let document = Document::Process;
    let (process, mut notes) = read::read(document, &json(document, text)?)?;
    let process = validate::process(&process, At::Root(document), &mut notes)?;
    Ok((process, notes.warnings))
}

/// Validates the resources of an `update`, an object as `linux.resources` in a config. Unlike
/// there, a swap limit needs no memory limit, since the container may have one.
///
/// # Errors
/// As for [`parse`]; paths in messages start with `resources`.
pub fn parse_resources(tree: &Value) -> Result<Resources, Error> {
    let document = Document::Resources;
    let (resources, notes) = read::read(document, &tree.into())?;
    validate::resources(&resources, At::Root(document), &notes)
}

/// Parses a document to a tree, for merging.
///
/// # Errors
/// The document is too large, not JSON, or has a duplicate key.
pub fn tree(document: Document, text: &[u8]) -> Result<Value, Error> {
    let json = json(document, text)?;
    read::check_keys(document, &json)?;
    Ok(json.into())
}

/// The text of a tree, for [`tree`] to read again.
///
/// # Errors
/// The text would be too large, or too deeply nested to be read again.
pub fn text(document: Document, tree: &Value) -> Result<Vec<u8>, Error> {
    let text = tree.to_string().into_bytes();
    json(document, &text)?;
    Ok(text)
}

fn json(document: Document, text: &[u8]) -> Result<Json<'_>, Error> {
    check_size(document, text)?;
    Json::parse(document, text)
}

fn check_size(document: Document, text: &[u8]) -> Result<(), Error> {
    let values = text.iter().filter(|byte| b",[{".contains(byte)).count();
    if values > MAX_VALUES {
        return Err(Error::TooMany {
            document,
            limit: MAX_VALUES,
        });
    }
    if text.len() > MAX_CONFIG_BYTES {
        return Err(Error::TooLarge {
            document,
            limit: MAX_CONFIG_BYTES,
        });
    }
    Ok(())
}

fn read_config(dir: &Path, file: Option<&Path>) -> Result<Vec<u8>, Error> {
    let path = file.map_or_else(|| dir.join("config.json"), Path::to_owned);
    let failed = |errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR if file.is_none() => Error::NotFound(dir.to_owned()),
        errno => Error::Read {
            path: path.clone(),
            errno,
        },
    };
    let file = open(&path, INPUT_FLAGS, Mode::empty()).map_err(failed)?;
    read_regular(file).map_err(|unread| match unread {
        Unread::Refused(_, errno) => failed(errno),
        Unread::Kind => Error::NotRegular(path.clone()),
        Unread::TooLarge => Error::TooLarge {
            document: Document::Config,
            limit: MAX_CONFIG_BYTES,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{accepted, base, parse_tree, refused, remove, set};
    use proptest::prelude::*;
    use serde_json::json;
    use std::path::PathBuf;

    fn refusal(text: &[u8]) -> String {
        parse(Path::new("/b"), text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_one_json_object_is_refused() {
        let rows: [(&[u8], &str); 14] = [
            (b"", "line 1, column 0: EOF while parsing a value"),
            (b"{", "line 1, column 1: EOF while parsing an object"),
            (b"null", "found null, expected an object"),
            (b"[]", "found an array, expected an object"),
            (b"7", "found a number, expected an object"),
            (b"\"x\"", "found a string, expected an object"),
            (b"{\"a\":1,}", "line 1, column 8: trailing comma"),
            (b"{\n  \"a\": tru}", "line 2, column 11: expected ident"),
            (b"{} {}", "line 1, column 4: trailing characters"),
            (b"{}\0", "line 1, column 3: trailing characters"),
            (b"{\"a\": \"\xff\"}", "line 1, column 8: not UTF-8"),
            (b"\xef\xbb\xbf{}", "line 1, column 1: expected value"),
            (b"{\"a\": 01}", "line 1, column 8: invalid number"),
            (
                b"{\"a\": \"\\ud800\"}",
                "line 1, column 14: unexpected end of hex escape",
            ),
        ];
        for (text, expected) in rows {
            let shown = String::from_utf8_lossy(text);
            assert_eq!(refusal(text), format!("config.json: {expected}"), "{shown}");
        }
        let deep = format!("{{\"a\": {}", "[".repeat(200));
        assert!(refusal(deep.as_bytes()).contains("recursion limit exceeded"));
    }

    #[test]
    fn a_key_may_stand_only_once_anywhere() {
        let rows = [
            (
                r#"{"root": {}, "root": {}}"#,
                "the key \"root\" stands here twice",
            ),
            (
                r#"{"hostname": "a", "hostname": "a"}"#,
                "the key \"hostname\" stands here twice",
            ),
            (
                r#"{"hostname": "a", "host\u006eame": ""}"#,
                "the key \"hostname\" stands here twice",
            ),
            (
                r#"{"x": {"y": [{"z": 1, "z": 1}]}}"#,
                "x.y[0]: the key \"z\" stands here twice",
            ),
            (
                r#"{"annotations": {"a": "1", "b": "", "a": "2"}}"#,
                "annotations: the key \"a\" stands here twice",
            ),
            (
                r#"{"linux": {"sysctl": {"net.a": "", "net.a": ""}}}"#,
                "linux.sysctl: the key \"net.a\" stands here twice",
            ),
            (
                r#"{"process": {"user": {"uid": 0, "gid": 0, "uid": 1000}}}"#,
                "process.user: the key \"uid\" stands here twice",
            ),
        ];
        for (text, expected) in rows {
            let text = text.replacen('{', r#"{"ociVersion": "1.0.0", "#, 1);
            assert_eq!(refusal(text.as_bytes()), format!("config.json: {expected}"));
        }
    }

    #[test]
    fn types_are_refused_by_path_and_in_plain_words() {
        refused(&[
            (
                "/root",
                json!("rootfs"),
                "root: found a string, expected an object",
            ),
            (
                "/root",
                json!(["rootfs", true]),
                "root: found an array, expected an object",
            ),
            (
                "/root/readonly",
                json!("true"),
                "root.readonly: invalid type: string \"true\", expected a boolean",
            ),
            (
                "/root/path",
                json!(7),
                "root.path: invalid type: integer `7`, expected a string",
            ),
            ("/root/path", json!(null), "root.path: required, but null"),
            (
                "/mounts",
                json!({}),
                "mounts: found an object, expected an array",
            ),
            (
                "/mounts/-",
                json!(["/x", "tmpfs"]),
                "mounts[2]: found an array, expected an object",
            ),
            (
                "/mounts/1/options",
                json!("ro"),
                "mounts[1].options: found a string, expected an array",
            ),
            (
                "/mounts/1/options/-",
                json!(null),
                "mounts[1].options[2]: invalid type: null, expected a string",
            ),
            (
                "/hostname",
                json!(["a"]),
                "hostname: found an array, expected a string",
            ),
            (
                "/process/user/uid",
                json!(-1),
                "process.user.uid: invalid value: integer `-1`, expected a whole number from 0 to \
                 4294967295",
            ),
            (
                "/process/user/uid",
                json!(4_294_967_296_u64),
                "process.user.uid: invalid value: integer `4294967296`, expected a whole number \
                 from 0 to 4294967295",
            ),
            (
                "/process/user/gid",
                json!(1.5),
                "process.user.gid: invalid type: floating point `1.5`, expected a whole number \
                 from 0 to 4294967295",
            ),
            (
                "/process/rlimits",
                json!([{"type": {"RLIMIT_CPU": null}, "soft": 0, "hard": 0}]),
                "process.rlimits[0].type: found an object, expected a string",
            ),
            (
                "/annotations",
                json!({"a\nb": 1}),
                "annotations[\"a\\nb\"]: invalid type: integer `1`, expected a string",
            ),
            (
                "/process/terminal",
                json!("\u{1b}[31m\n"),
                "process.terminal: invalid type: string \"\\u{1b}[31m\\n\", expected a boolean",
            ),
            (
                "/linux/namespaces/-",
                json!({"type": "net\n"}),
                "linux.namespaces[6].type: unknown variant `net\\n`, expected one of `mount`, \
                 `cgroup`, `uts`, `ipc`, `user`, `pid`, `network`, `time`",
            ),
        ]);
    }

    #[test]
    fn unknown_properties_and_other_platforms_are_ignored() {
        accepted(&[
            ("/extension", json!({"a": [1, {"b": null}]})),
            ("/root/type", json!("layers")),
            ("/process/user/quota", json!([])),
            ("/windows", json!({"layerFolders": 7})),
            ("/vm", json!({})),
            ("/solaris", json!("x")),
            ("/freebsd", json!({"devices": 1})),
            ("/zos", json!({"namespaces": [{"type": "x"}]})),
            ("/uidMappings", json!("not in any version of the spec")),
            ("/linux/intelRdt", json!({"enableCMT": "x", "enableMBM": 1})),
            ("/linux/resources", json!({"oomScoreAdj": "x"})),
            ("/hooks", json!({"onFullMoon": 1})),
        ]);
    }

    #[test]
    fn a_key_that_is_nearly_a_property_is_warned_of() {
        let mut tree = base();
        set(&mut tree, "/process/Args", json!(["sh"]));
        set(&mut tree, "/mount", json!([]));
        set(&mut tree, "/mounts/1/option", json!(["ro"]));
        set(&mut tree, "/annotations", json!({"arg": "", "args": ""}));
        set(
            &mut tree,
            "/linux/devices",
            json!([{"type": "c", "path": "/dev/x", "major": 1,
            "minor": 3, "filemode": 438}]),
        );
        let mut warnings = parse_tree(&tree).unwrap().warnings;
        warnings.sort();
        let near = |place: &str, property| {
            format!("config.json: {place} is not a property; did you mean {property}?")
        };
        let expected = [
            near("linux.devices[0].filemode", "fileMode"),
            near("mount", "mounts"),
            near("mounts[1].option", "options"),
            near("process.Args", "args"),
        ];
        assert_eq!(warnings, expected);
        let many = vec![json!({"destination": "/x", "type": "tmpfs", "option": 1}); 100];
        set(&mut tree, "/mounts", json!(many));
        assert_eq!(parse_tree(&tree).unwrap().warnings.len(), 20);
    }

    #[test]
    fn absent_null_and_empty_sections() {
        for key in ["process", "mounts", "hooks", "annotations", "domainname"] {
            accepted(&[(&format!("/{key}"), json!(null))]);
        }
        let mut tree = json!({"ociVersion": "1.0.0", "root": {"path": "r"}});
        for linux in [json!({}), json!(null)] {
            set(&mut tree, "/linux", linux);
            let config = parse_tree(&tree).unwrap();
            assert!(config.process.is_none() && config.mounts.is_empty());
            assert_eq!(config.linux.namespaces, crate::Namespaces::default());
        }
    }

    #[test]
    fn another_major_version_is_reported_first() {
        refused(&[
            (
                "/ociVersion",
                json!("2.0.0"),
                "ociVersion: \"2.0.0\" is not supported, only 1.x.y is",
            ),
            (
                "/ociVersion",
                json!("1.0"),
                "ociVersion: \"1.0\" is not in SemVer 2.0.0 form",
            ),
            (
                "/ociVersion",
                json!(""),
                "ociVersion: required, but missing",
            ),
            (
                "/ociVersion",
                json!(1),
                "ociVersion: invalid type: integer `1`, expected a string",
            ),
        ]);
        let mut tree = base();
        remove(&mut tree, "/ociVersion");
        let expected = "config.json: ociVersion: required, but missing";
        assert_eq!(parse_tree(&tree).unwrap_err().to_string(), expected);
        let mut tree = base();
        set(&mut tree, "/ociVersion", json!("2.0.0"));
        set(&mut tree, "/mounts", json!("elsewhere in version 2"));
        assert!(
            parse_tree(&tree)
                .unwrap_err()
                .to_string()
                .contains("ociVersion: \"2.0.0\"")
        );
    }

    #[test]
    fn long_strings_are_cut_in_messages() {
        let mut tree = base();
        set(&mut tree, "/process/cwd", json!("x".repeat(100_000)));
        assert!(parse_tree(&tree).unwrap_err().to_string().len() < 300);
        set(&mut tree, "/process/cwd", json!("/"));
        set(&mut tree, "/process/terminal", json!("x".repeat(100_000)));
        assert!(parse_tree(&tree).unwrap_err().to_string().len() < 1000);
    }

    #[test]
    fn a_document_has_so_many_values() {
        let zeros = |count| format!("{{\"x\": [0{}]}}", ",0".repeat(count));
        let few = "config.json: ociVersion: required, but missing";
        assert_eq!(refusal(zeros(MAX_VALUES - 2).as_bytes()), few);
        let many = "config.json: more than 1048576 values";
        assert_eq!(refusal(zeros(MAX_VALUES - 1).as_bytes()), many);
    }

    #[test]
    fn a_tree_has_the_values_of_its_text() {
        let shown = r#"{"a":[0,-1,18446744073709551615,1.5,null,true,"x\"y"],"b":{}}"#;
        let tree = tree(Document::Config, shown.as_bytes()).unwrap();
        assert_eq!(tree, serde_json::from_str::<Value>(shown).unwrap());
        assert_eq!(text(Document::Config, &tree).unwrap(), shown.as_bytes());
        let large = json!("x".repeat(MAX_CONFIG_BYTES));
        let error = text(Document::Config, &large).unwrap_err();
        assert_eq!(error.to_string(), "config.json: larger than 16777216 bytes");
    }

    #[test]
    fn paths_of_the_other_documents() {
        let process = |text: &str| parse_process(text.as_bytes()).map(|_| ());
        let message = |text: &str| process(text).unwrap_err().to_string();
        assert_eq!(process(r#"{"cwd": "/", "args": ["true"]}"#), Ok(()));
        assert_eq!(
            message(r#"{"args": ["true"]}"#),
            "process.cwd: required, but missing"
        );
        assert_eq!(
            message(r#"{"cwd": "/"}"#),
            "process.args: at least one entry is required"
        );
        assert_eq!(
            message("{"),
            "process: line 1, column 1: EOF while parsing an object"
        );
        assert_eq!(message("null"), "process: found null, expected an object");
        let text = r#"{"cwd": "/", "args": ["a"], "capabilities": {"bounding": ["CAP_NO"]}}"#;
        assert_eq!(
            parse_process(text.as_bytes()).unwrap().1,
            [
                "process.user: missing, uid 0 and gid 0 are taken",
                "process.capabilities.bounding: \"CAP_NO\" is no known capability"
            ]
        );
        let resources = |text: &str| {
            let tree = tree(Document::Resources, text.as_bytes())?;
            parse_resources(&tree)
        };
        assert_eq!(
            resources(r#"{"pids": {"limit": 0}}"#).unwrap().pids,
            Some(crate::Limit::Amount(0))
        );
        assert_eq!(
            resources(r#"{"memory": {"limit": -2}}"#)
                .unwrap_err()
                .to_string(),
            "resources.memory.limit: -2 is below -1, which is unlimited"
        );
        let twice = r#"{"cpu": {"x": [{"a": 1, "a": 2}]}}"#;
        assert_eq!(
            resources(twice).unwrap_err().to_string(),
            "resources.cpu.x[0]: the key \"a\" stands here twice"
        );
        // The container has a limit of its own, perhaps.
        assert_eq!(
            resources(r#"{"memory": {"swap": 5}}"#).unwrap().memory.swap,
            Some(crate::Limit::Amount(5))
        );
    }

    /// A directory that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let dir = std::env::temp_dir().join(format!("bundle-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Scratch(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn load_reads_a_regular_file_and_keeps_it() {
        let scratch = Scratch::new("good");
        let text = base().to_string();
        std::fs::write(scratch.0.join("config.json"), &text).unwrap();
        let bundle = load(&scratch.0, None).unwrap();
        assert_eq!(bundle.raw, text.as_bytes());
        assert_eq!(bundle.config.root.path, scratch.0.join("rootfs"));
        assert!(load(Path::new(""), None).is_err());
    }

    #[test]
    fn load_refuses_what_is_no_file() {
        let scratch = Scratch::new("bad");
        let shown = scratch.0.display();
        let message = || load(&scratch.0, None).unwrap_err().to_string();
        assert_eq!(message(), format!("config.json not found in {shown}"));
        std::fs::create_dir(scratch.0.join("config.json")).unwrap();
        assert_eq!(
            message(),
            format!("read {shown}/config.json: not a regular file")
        );
        std::fs::remove_dir(scratch.0.join("config.json")).unwrap();
        nix::unistd::mkfifo(&scratch.0.join("config.json"), Mode::S_IRWXU).unwrap();
        assert_eq!(
            message(),
            format!("read {shown}/config.json: not a regular file")
        );
        std::fs::remove_file(scratch.0.join("config.json")).unwrap();
        let file = std::fs::File::create(scratch.0.join("config.json")).unwrap();
        file.set_len(u64::try_from(MAX_CONFIG_BYTES).unwrap() + 1)
            .unwrap();
        assert_eq!(message(), "config.json: larger than 16777216 bytes");
    }

    #[test]
    fn engines_configs_are_taken() {
        let fixtures = [
            ("docker", &include_bytes!("../tests/docker.json")[..]),
            ("podman", &include_bytes!("../tests/podman-userns.json")[..]),
            (
                "containerd",
                &include_bytes!("../tests/containerd.json")[..],
            ),
        ];
        for (name, text) in fixtures {
            let config = parse(Path::new("/b"), text).unwrap();
            assert!(config.warnings.is_empty(), "{name}: {:?}", config.warnings);
            assert!(config.process.is_some() && !config.mounts.is_empty());
        }
    }

    /// Values to put at any place of a config.
    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|value| json!(value)),
            any::<i64>().prop_map(|value| json!(value)),
            any::<u64>().prop_map(|value| json!(value)),
            any::<f64>().prop_map(|value| json!(value)),
            ".{0,12}".prop_map(|value| json!(value)),
            "[/.a-z,0-9:=-]{0,12}".prop_map(|value| json!(value)),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|value| json!(value)),
                proptest::collection::btree_map("[a-zA-Z]{0,9}", inner, 0..4)
                    .prop_map(|value| json!(value)),
            ]
        })
    }

    /// Pointers to all that the base and some optional sections hold.
    fn pointers(tree: &serde_json::Value, prefix: &str, out: &mut Vec<String>) {
        out.push(prefix.to_owned());
        let children: Vec<(String, &serde_json::Value)> = match tree {
            serde_json::Value::Object(map) => map
                .iter()
                .map(|(key, value)| (key.replace('/', "~1"), value))
                .collect(),
            serde_json::Value::Array(list) => list
                .iter()
                .enumerate()
                .map(|(index, value)| (index.to_string(), value))
                .collect(),
            _ => Vec::new(),
        };
        for (key, value) in children {
            pointers(value, &format!("{prefix}/{key}"), out);
        }
    }

    fn docker() -> serde_json::Value {
        serde_json::from_slice(include_bytes!("../tests/docker.json")).unwrap()
    }

    fn docker_pointers() -> Vec<String> {
        let mut all = Vec::new();
        pointers(&docker(), "", &mut all);
        all
    }

    proptest! {
        #[test]
        fn no_bytes_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(Path::new("/b"), &text);
            let _ = parse_process(&text);
            let _ = tree(Document::Resources, &text).map(|tree| parse_resources(&tree));
        }

        /// Any value at any place is accepted, or refused in one line without control characters.
        #[test]
        fn any_value_anywhere_is_taken_or_refused(
            pointer in proptest::sample::select(docker_pointers()),
            value in any_value(),
        ) {
            let mut tree = docker();
            set(&mut tree, &pointer, value);
            if let Err(error) = parse_tree(&tree) {
                let line = error.to_string();
                prop_assert!(line.starts_with("config.json: "), "{line}");
                prop_assert!(!line.contains(char::is_control), "{line:?}");
                prop_assert!(line.len() < 4000);
            }
        }

        /// A text cut short is an error, never a config.
        #[test]
        fn a_cut_config_is_refused(cut in 0..base().to_string().len()) {
            let text = base().to_string();
            prop_assert!(parse(Path::new("/b"), &text.as_bytes()[..cut]).is_err());
        }
    }
}
