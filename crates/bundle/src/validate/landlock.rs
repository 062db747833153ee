//! `annotations["run.coracle.landlock"]`, whose value is JSON.

use super::text::{c_string, check_absolute};
use crate::error::{At, Error, Shown, one_line};
use crate::{LANDLOCK_FS, LANDLOCK_NET, LANDLOCK_SCOPES, Landlock, LandlockRight};
use serde::Deserialize;

/// As in the proposals for the specification, flat. Every list may be missing.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    handled_access_fs: Vec<String>,
    handled_access_net: Vec<String>,
    scoped: Vec<String>,
    path_beneath: Vec<PathRule>,
    net_port: Vec<PortRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PathRule {
    paths: Vec<String>,
    allowed_access: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PortRule {
    ports: Vec<u16>,
    allowed_access: Vec<String>,
}

/// Validates the annotation's text.
pub(super) fn landlock(text: &str, at: At<'_>) -> Result<Landlock, Error> {
    let raw: Raw =
        serde_json::from_str(text).map_err(|error| at.refuse(one_line(&error.to_string())))?;
    let mut landlock = Landlock {
        fs: bits(
            &raw.handled_access_fs,
            &LANDLOCK_FS,
            at.key("handledAccessFs"),
        )?,
        net: bits(
            &raw.handled_access_net,
            &LANDLOCK_NET,
            at.key("handledAccessNet"),
        )?,
        scoped: bits(&raw.scoped, &LANDLOCK_SCOPES, at.key("scoped"))?,
        ..Landlock::default()
    };
    if (landlock.fs | landlock.net | landlock.scoped) == 0 {
        return Err(at.refuse("it handles no access and no scope, and so denies nothing"));
    }
    let rules = at.key("pathBeneath");
    for (index, rule) in raw.path_beneath.iter().enumerate() {
        let at = rules.index(index);
        let access = at.key("allowedAccess");
        let allowed = allowed(&rule.allowed_access, &LANDLOCK_FS, landlock.fs, access)?;
        let list = at.key("paths");
        for (index, path) in rule.paths.iter().enumerate() {
            check_absolute(path, list.index(index))?;
            landlock
                .paths
                .push((c_string(path, list.index(index))?, allowed));
        }
    }
    let rules = at.key("netPort");
    for (index, rule) in raw.net_port.iter().enumerate() {
        let at = rules.index(index);
        let access = at.key("allowedAccess");
        let allowed = allowed(&rule.allowed_access, &LANDLOCK_NET, landlock.net, access)?;
        landlock
            .ports
            .extend(rule.ports.iter().map(|port| (*port, allowed)));
    }
    Ok(landlock)
}

fn bits(names: &[String], table: &'static [LandlockRight], at: At<'_>) -> Result<u64, Error> {
    let bit = |(index, name): (usize, &String)| {
        let known = table.iter().find(|right| right.name == name);
        known.map(|right| right.bit).ok_or_else(|| {
            let names: Vec<_> = table.iter().map(|right| right.name).collect();
            let names = names.join(", ");
            at.index(index)
                .refuse(format!("{} is not one of {names}", Shown(name)))
        })
    };
    let mut bits = names.iter().enumerate().map(bit);
    bits.try_fold(0, |all, bit| Ok(all | bit?))
}

/// The kernel refuses a rule that allows nothing, or what the ruleset does not handle.
fn allowed(
    names: &[String],
    table: &'static [LandlockRight],
    handled: u64,
    at: At<'_>,
) -> Result<u64, Error> {
    let bits = bits(names, table, at)?;
    if bits == 0 {
        return Err(at.refuse("a rule that allows nothing"));
    }
    match crate::landlock_names(table, bits & !handled).next() {
        None => Ok(bits),
        Some(right) => Err(at.refuse(format!(
            "{} is allowed as it is, since it is not among the handled",
            right.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{accepted, base, parse_tree, refused, set, with};
    use serde_json::{Value, json};

    const NAME: &str = "run.coracle.landlock";

    fn annotation(value: &Value) -> Value {
        json!({NAME: value.to_string()})
    }

    #[test]
    fn rules_are_bits() {
        let value = json!({
            "handledAccessFs": ["execute", "write_file", "ioctl_dev"],
            "handledAccessNet": ["bind_tcp"],
            "scoped": ["signal"],
            "pathBeneath": [{"paths": ["/usr", "/bin"], "allowedAccess": ["execute"]}],
            "netPort": [{"ports": [80, 65535], "allowedAccess": ["bind_tcp"]}],
        });
        let landlock = with("/annotations", annotation(&value)).landlock.unwrap();
        assert_eq!((landlock.fs, landlock.net, landlock.scoped), (0x8003, 1, 2));
        let paths = [(c"/usr".to_owned(), 1), (c"/bin".to_owned(), 1)];
        assert_eq!(landlock.paths, paths);
        assert_eq!(landlock.ports, [(80, 1), (65535, 1)]);
        accepted(&[("/annotations", annotation(&json!({"scoped": ["signal"]})))]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let at = format!("annotations[{NAME:?}]");
        for (value, text) in [
            (
                json!({}),
                ": it handles no access and no scope, and so denies nothing",
            ),
            (
                json!({"scoped": ["read"]}),
                ".scoped[0]: \"read\" is not one of abstract_unix_socket, signal",
            ),
            (
                json!({"handledAccessFs": ["execute"],
                    "pathBeneath": [{"paths": ["usr"], "allowedAccess": ["execute"]}]}),
                ".pathBeneath[0].paths[0]: \"usr\" is not an absolute path",
            ),
            (
                json!({"handledAccessFs": ["execute"],
                    "pathBeneath": [{"paths": ["/"], "allowedAccess": []}]}),
                ".pathBeneath[0].allowedAccess: a rule that allows nothing",
            ),
            (
                json!({"handledAccessFs": ["execute"],
                    "pathBeneath": [{"paths": ["/"], "allowedAccess": ["read_dir"]}]}),
                ".pathBeneath[0].allowedAccess: read_dir is allowed as it is, since it is not \
                 among the handled",
            ),
        ] {
            let text = format!("{at}{text}");
            refused(&[("/annotations", annotation(&value), &text)]);
        }
        for (value, text) in [
            (
                json!({"handledAccessNet": ["bind_tcp"],
                    "netPort": [{"ports": [65536], "allowedAccess": ["bind_tcp"]}]}),
                ": invalid value: integer `65536`, expected u16",
            ),
            (
                json!({"handledAccessFS": []}),
                ": unknown field `handledAccessFS`",
            ),
        ] {
            let mut tree = base();
            set(&mut tree, "/annotations", annotation(&value));
            let error = parse_tree(&tree).unwrap_err().to_string();
            let start = format!("config.json: {at}{text}");
            assert!(error.starts_with(&start), "{error}");
        }
    }
}
