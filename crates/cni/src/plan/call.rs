//! The environment and standard input of a plugin. CNI SPEC § Section 2 and 3.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_sys::StringArray;
use coracle_text::DEFAULT_PATH;
use serde_json::{Map, Value, json};

use super::list::{NetworkList, Plugin};
use super::verb::Verb;

/// The parameters of a call, apart from the network.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arguments<'a> {
    /// Empty for an operation without a container.
    pub(crate) id: &'a str,
    /// Path of the network namespace; `None` if it no longer exists.
    pub(crate) namespace: Option<&'a Path>,
    pub(crate) interface: &'a str,
    pub(crate) bin_dirs: &'a [PathBuf],
}

/// The environment and standard input of one call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) environment: StringArray,
    pub(crate) input: String,
}

/// The call of one plugin. `extra` has the members that the runtime adds to the configuration.
pub(crate) fn call(
    verb: Verb,
    (network, plugin): (&NetworkList, &Plugin),
    extra: Map<String, Value>,
    arguments: &Arguments,
) -> Call {
    let mut config = plugin.config.clone();
    // Only the runtime may set these members, so they are removed from the file's.
    for reserved in ["capabilities", "runtimeConfig", "prevResult"] {
        config.remove(reserved);
    }
    config.extend(extra);
    config.insert("cniVersion".to_owned(), json!(network.version.text()));
    config.insert("name".to_owned(), json!(network.name));
    Call {
        environment: environment(verb, arguments),
        input: Value::Object(config).to_string(),
    }
}

fn environment(verb: Verb, arguments: &Arguments) -> StringArray {
    let dirs: Vec<&OsStr> = arguments
        .bin_dirs
        .iter()
        .map(|dir| dir.as_os_str())
        .collect();
    let dirs: OsString = dirs.join(OsStr::new(":"));
    let variables = [
        ("CNI_COMMAND", OsStr::new(verb.name())),
        ("CNI_CONTAINERID", OsStr::new(arguments.id)),
        (
            "CNI_NETNS",
            arguments.namespace.unwrap_or(Path::new("")).as_os_str(),
        ),
        ("CNI_IFNAME", OsStr::new(arguments.interface)),
        ("CNI_PATH", &dirs),
        // Plugins search for programs such as `iptables`. The caller's own `PATH` must not
        // determine which ones they run.
        ("PATH", OsStr::new(DEFAULT_PATH)),
    ];
    let present = variables.into_iter().filter(|(_, value)| !value.is_empty());
    let bytes = present.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    // Command line arguments and file names cannot contain a NUL.
    bytes.filter_map(|bytes| CString::new(bytes).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::attachment::Attachment;
    use super::super::tests::list;
    use super::*;
    use expect_test::{Expect, expect};

    fn attachment() -> Attachment {
        let config = json!({"cniVersion": "1.0.0", "name": "web", "plugins": [{
            "type": "portmap", "snat": true, "capabilities": {"portMappings": true, "mac": true},
            "runtimeConfig": {"of": "the file"}, "name": "wrong",
        }]});
        let ports = json!([{"hostPort": 80}]);
        Attachment {
            network: list(&config),
            interface: "eth0".to_owned(),
            arguments: Map::from_iter([
                ("portMappings".to_owned(), ports),
                ("ips".to_owned(), json!(["10.0.0.1"])),
            ]),
            begun: false,
            result: None,
        }
    }

    fn check(call: &Call, expected: &Expect) {
        let lines = call
            .environment
            .iter()
            .map(|line| line.to_string_lossy().into_owned());
        let lines: Vec<String> = lines.chain([call.input.replace(",\"", ",\n\"")]).collect();
        expected.assert_eq(&(lines.join("\n") + "\n"));
    }

    #[test]
    fn a_plugin_gets_its_configuration_and_arguments() {
        let attachment = attachment();
        let bin_dirs = ["/a".into(), "/b".into()];
        let arguments = Arguments {
            id: "c1",
            namespace: Some(Path::new("/run/n")),
            interface: "eth0",
            bin_dirs: &bin_dirs,
        };
        let plugin = &attachment.network.plugins[0];
        let previous = json!({"cniVersion": "1.0.0", "ips": []});
        let call = attachment.call(Verb::Add, plugin, Some(&previous), &arguments);
        check(
            &call,
            &expect![[r#"
                CNI_COMMAND=ADD
                CNI_CONTAINERID=c1
                CNI_NETNS=/run/n
                CNI_IFNAME=eth0
                CNI_PATH=/a:/b
                PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
                {"cniVersion":"1.0.0",
                "name":"web",
                "prevResult":{"cniVersion":"1.0.0",
                "ips":[]},
                "runtimeConfig":{"portMappings":[{"hostPort":80}]},
                "snat":true,
                "type":"portmap"}
            "#]],
        );
    }

    #[test]
    fn a_namespace_that_is_gone_is_not_named() {
        let attachment = attachment();
        let arguments = Arguments {
            id: "c1",
            interface: "eth0",
            ..Arguments::default()
        };
        let plugin = &attachment.network.plugins[0];
        let call = attachment.call(Verb::Del, plugin, None, &arguments);
        let lines = call
            .environment
            .iter()
            .map(|line| line.to_string_lossy().into_owned());
        let lines: Vec<String> = lines.collect();
        assert_eq!(
            lines[..3],
            ["CNI_COMMAND=DEL", "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0"]
        );
        assert!(!call.input.contains("prevResult"), "{}", call.input);
    }
}
