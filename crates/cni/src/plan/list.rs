//! Network configurations: CNI SPEC § Section 1.

use std::fmt;
use std::path::Path;

use serde_json::{Map, Value};

use super::text::shown;
use crate::error::Error;

/// The supported versions of the specification, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.4.0: CHECK, and a previous result for DEL.
    V0_4,
    /// 1.0.0.
    V1_0,
    /// 1.1.0: GC and STATUS.
    V1_1,
}

impl Version {
    pub(crate) const ALL: [Version; 3] = [Version::V0_4, Version::V1_0, Version::V1_1];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.text() == text)
    }

    /// The version as in configurations.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Version::V0_4 => "0.4.0",
            Version::V1_0 => "1.0.0",
            Version::V1_1 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A network: a list of plugins that are run in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkList {
    /// Its name, by which it is requested.
    pub name: String,
    /// The newest supported version that the file allows.
    pub version: Version,
    /// The plugins, at least one.
    pub plugins: Vec<Plugin>,
    /// Whether CHECK must not be called.
    pub disable_check: bool,
    /// Whether GC must not be called.
    pub disable_gc: bool,
}

/// One plugin of a list, with its whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    pub(crate) config: Map<String, Value>,
}

impl Plugin {
    /// The name of its program.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.config
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// Whether it declares this capability.
    pub(crate) fn has(&self, capability: &str) -> bool {
        let capabilities = self.config.get("capabilities");
        capabilities.and_then(|all| all.get(capability)) == Some(&Value::Bool(true))
    }
}

/// A parsed file. Plugins in files of their own may still have to be added.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) list: NetworkList,
    /// Whether plugins in the directory of the network's name are ignored.
    pub(crate) inlined_only: bool,
}

/// Whether the text is a valid network name: CNI SPEC § Configuration format.
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    first && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Parses a `.conflist`, or a `.conf` of a single plugin.
pub(crate) fn parse(file: &Path, text: &[u8]) -> Result<Parsed, Error> {
    let refuse = |problem: String| Error::Config {
        file: file.to_owned(),
        problem,
    };
    let top = object(text).map_err(refuse)?;
    let is_list = top.contains_key("plugins")
        || file
            .extension()
            .is_some_and(|extension| extension == "conflist");
    let parsed = if is_list { list(top) } else { single(top) };
    parsed.map_err(refuse)
}

/// Parses a plugin in the directory of the network's name.
pub(crate) fn parse_plugin(file: &Path, text: &[u8]) -> Result<Plugin, Error> {
    object(text)
        .and_then(|config| plugin(config, ""))
        .map_err(|problem| Error::Config {
            file: file.to_owned(),
            problem,
        })
}

fn object(text: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("expected an object".to_owned()),
        Err(error) => Err(shown(&error.to_string())),
    }
}

pub(super) fn list(mut top: Map<String, Value>) -> Result<Parsed, String> {
    let plugins = match top.remove("plugins") {
        None => Vec::new(),
        Some(Value::Array(plugins)) => plugins,
        Some(_) => return Err("plugins: expected an array".to_owned()),
    };
    let plugins = plugins.into_iter().enumerate().map(|(index, config)| {
        let place = format!("plugins[{index}]");
        match config {
            Value::Object(config) => plugin(config, &format!("{place}.")),
            _ => Err(format!("{place}: expected an object")),
        }
    });
    let plugins = plugins.collect::<Result<Vec<_>, _>>()?;
    let inlined_only = boolean(&top, "loadOnlyInlinedPlugins")?;
    Ok(Parsed {
        list: NetworkList {
            name: name(&top)?,
            version: version(&top)?,
            plugins,
            disable_check: boolean(&top, "disableCheck")?,
            disable_gc: boolean(&top, "disableGC")?,
        },
        inlined_only,
    })
}

/// A file of a single plugin becomes a list of one.
fn single(top: Map<String, Value>) -> Result<Parsed, String> {
    Ok(Parsed {
        list: NetworkList {
            name: name(&top)?,
            version: version(&top)?,
            plugins: vec![plugin(top, "")?],
            disable_check: false,
            disable_gc: false,
        },
        inlined_only: true,
    })
}

fn plugin(config: Map<String, Value>, place: &str) -> Result<Plugin, String> {
    match config.get("type") {
        None => return Err(format!("{place}type: required, but missing")),
        Some(Value::String(kind)) if is_file_name(kind) => {}
        Some(other) => {
            let other = shown(&other.to_string());
            return Err(format!("{place}type: {other} is not the name of a program"));
        }
    }
    match config.get("capabilities") {
        None => {}
        Some(Value::Object(all)) if all.values().all(Value::is_boolean) => {}
        Some(_) => {
            return Err(format!(
                "{place}capabilities: expected an object of true and false"
            ));
        }
    }
    Ok(Plugin { config })
}

/// A plugin's type must be a file name, so that the program is found only in the directories of
/// plugins.
fn is_file_name(text: &str) -> bool {
    !text.is_empty() && ![".", ".."].contains(&text) && !text.contains(['/', '\0'])
}

fn name(top: &Map<String, Value>) -> Result<String, String> {
    match top.get("name") {
        None => Err("name: required, but missing".to_owned()),
        Some(Value::String(name)) if is_name(name) => Ok(name.clone()),
        Some(other) => Err(format!(
            "name: {}: expected letters, digits, `_`, `.` and `-`, the first a letter or digit",
            shown(&other.to_string())
        )),
    }
}

/// The newest supported version in `cniVersion` and `cniVersions`.
fn version(top: &Map<String, Value>) -> Result<Version, String> {
    let one = top.get("cniVersion").into_iter();
    let more = match top.get("cniVersions") {
        None => &[][..],
        Some(Value::Array(versions)) => versions,
        Some(_) => return Err("cniVersions: expected an array".to_owned()),
    };
    let all: Vec<&Value> = one.chain(more).collect();
    let supported = all
        .iter()
        .filter_map(|version| Version::parse(version.as_str()?));
    supported.max().ok_or_else(|| {
        let found: Vec<String> = all
            .iter()
            .map(|version| shown(&version.to_string()))
            .collect();
        let found = match found.as_slice() {
            [] => "missing".to_owned(),
            found => found.join(", "),
        };
        format!("cniVersion: {found}: expected 0.4.0, 1.0.0 or 1.1.0")
    })
}

fn boolean(top: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match top.get(key) {
        None => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(_) => Err(format!("{key}: expected true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(file: &str, config: &Value) -> Result<Parsed, String> {
        let text = config.to_string();
        parse(Path::new(file), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_and_a_single_plugin() {
        let config = json!({
            "cniVersion": "0.3.1", "cniVersions": ["0.4.0", "1.1.0", "2.0.0"], "name": "a",
            "plugins": [{"type": "bridge", "capabilities": {"mac": true, "ips": false}, "mtu": 1}],
            "disableGC": true, "loadOnlyInlinedPlugins": true,
        });
        let Parsed { list, inlined_only } = parsed("a.conflist", &config).unwrap();
        assert_eq!((list.version, inlined_only), (Version::V1_1, true));
        assert_eq!((list.disable_check, list.disable_gc), (false, true));
        let [plugin] = list.plugins.as_slice() else {
            panic!("one plugin")
        };
        assert_eq!(plugin.kind(), "bridge");
        assert!(plugin.has("mac") && !plugin.has("ips") && !plugin.has("dns"));
        let config = json!({"cniVersion": "1.0.0", "name": "b", "type": "loopback"});
        let Parsed { list, .. } = parsed("b.conf", &config).unwrap();
        assert_eq!((list.name.as_str(), list.plugins.len()), ("b", 1));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = json!({"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "x"}]});
        for (key, value, problem) in [
            ("name", json!(""), "name: \"\": expected letters, digits"),
            ("name", json!("../x"), "name: \"../x\": expected"),
            ("name", Value::Null, "name: null: expected"),
            (
                "cniVersion",
                json!("0.3.1"),
                "cniVersion: \"0.3.1\": expected 0.4.0, 1.0.0 or 1.1.0",
            ),
            ("cniVersion", json!(1), "cniVersion: 1: expected"),
            (
                "cniVersions",
                json!("1.0.0"),
                "cniVersions: expected an array",
            ),
            ("plugins", json!({}), "plugins: expected an array"),
            ("plugins", json!([1]), "plugins[0]: expected an object"),
            (
                "plugins",
                json!([{}]),
                "plugins[0].type: required, but missing",
            ),
            (
                "plugins",
                json!([{"type": "a/b"}]),
                "plugins[0].type: \"a/b\" is not the name of a program",
            ),
            (
                "plugins",
                json!([{"type": ".."}]),
                "plugins[0].type: \"..\" is not the name of a program",
            ),
            (
                "plugins",
                json!([{"type": "a", "capabilities": ["ips"]}]),
                "plugins[0].capabilities: expected an object of true and false",
            ),
            (
                "disableCheck",
                json!("yes"),
                "disableCheck: expected true or false",
            ),
        ] {
            let mut config = good.clone();
            config[key] = value;
            let text = parsed("/n/a.conflist", &config).unwrap_err();
            let rest = text.strip_prefix("\"/n/a.conflist\": ").expect("the file");
            assert!(rest.starts_with(problem), "{rest}");
        }
        let missing = parsed("a.conf", &json!({"name": "a", "type": "b"})).unwrap_err();
        assert!(
            missing.contains("cniVersion: missing: expected"),
            "{missing}"
        );
        let text = parse(Path::new("a"), b"{\n\"a\": x}")
            .unwrap_err()
            .to_string();
        assert!(text.contains("line 2 column 6"), "{text}");
        let text = parse(Path::new("a"), b"[]").unwrap_err().to_string();
        assert!(text.ends_with("expected an object"), "{text}");
    }
}
