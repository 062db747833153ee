//! `hooks`: config.md § POSIX-platform Hooks.

use super::process::check_variable;
use super::text::{c_string, check_absolute, path_text};
use crate::error::{At, Error};
use crate::{Hook, HookPoint, Hooks};
use oci_spec::runtime as oci;
use std::ffi::CString;

/// Validates all hooks, so that a wrong one is found before anything is made.
pub(super) fn hooks(raw: Option<&oci::Hooks>, at: At<'_>) -> Result<Hooks, Error> {
    let Some(raw) = raw else {
        return Ok(Hooks::default());
    };
    let of = |point: HookPoint, list: &Option<Vec<oci::Hook>>| {
        let at = at.key(point.name());
        let list = list.as_deref().unwrap_or_default().iter().enumerate();
        list.map(|(index, raw)| hook(raw, at.index(index)))
            .collect::<Result<Vec<_>, _>>()
    };
    // Deprecated, but engines still use it.
    #[allow(deprecated)]
    let prestart = raw.prestart();
    Ok(Hooks {
        prestart: of(HookPoint::Prestart, prestart)?,
        create_runtime: of(HookPoint::CreateRuntime, raw.create_runtime())?,
        create_container: of(HookPoint::CreateContainer, raw.create_container())?,
        start_container: of(HookPoint::StartContainer, raw.start_container())?,
        poststart: of(HookPoint::Poststart, raw.poststart())?,
        poststop: of(HookPoint::Poststop, raw.poststop())?,
    })
}

fn hook(raw: &oci::Hook, at: At<'_>) -> Result<Hook, Error> {
    let path = path_text(raw.path());
    check_absolute(path, at.key("path"))?;
    let path = c_string(path, at.key("path"))?;
    let mut args = strings(raw.args().as_deref().unwrap_or_default(), at.key("args"))?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let env = match raw.env() {
        Some(list) => Some(environment(list, at.key("env"))?),
        None => None,
    };
    Ok(Hook {
        path,
        args,
        env,
        timeout_secs: timeout(raw.timeout(), at.key("timeout"))?,
    })
}

fn strings(list: &[String], at: At<'_>) -> Result<Vec<CString>, Error> {
    list.iter()
        .enumerate()
        .map(|(index, text)| c_string(text, at.index(index)))
        .collect()
}

fn environment(list: &[String], at: At<'_>) -> Result<Vec<CString>, Error> {
    for (index, entry) in list.iter().enumerate() {
        check_variable(entry, at.index(index))?;
    }
    strings(list, at)
}

fn timeout(seconds: Option<i64>, at: At<'_>) -> Result<Option<u32>, Error> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    match u32::try_from(seconds) {
        Ok(0) | Err(_) => Err(at.refuse(format!(
            "{seconds} is not a number of seconds from 1 to {}",
            u32::MAX
        ))),
        Ok(seconds) => Ok(Some(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use crate::HookPoint;
    use crate::fixture::{refused, with};
    use serde_json::json;

    #[test]
    fn wrong_hooks_are_found_up_front() {
        let poststop = "/hooks/poststop";
        refused(&[
            (
                "/hooks/prestart",
                json!([{"path": "bin/true"}]),
                "hooks.prestart[0].path: \"bin/true\" is not an absolute path",
            ),
            (
                "/hooks/createRuntime",
                json!([{"path": ""}]),
                "hooks.createRuntime[0].path: \"\" is not a path",
            ),
            (
                "/hooks/createContainer",
                json!([{"args": ["x"]}]),
                "hooks.createContainer[0].path: required, but missing",
            ),
            (
                "/hooks/startContainer",
                json!({"path": "/bin/true"}),
                "hooks.startContainer: found an object, expected an array",
            ),
            (
                "/hooks/poststart",
                json!([{"path": "/a"}, {"path": "/b\0"}]),
                "hooks.poststart[1].path: \"/b\\0\" holds a NUL byte",
            ),
            (
                poststop,
                json!([{"path": "/a", "timeout": 0}]),
                "hooks.poststop[0].timeout: 0 is not a number of seconds from 1 to 4294967295",
            ),
            (
                poststop,
                json!([{"path": "/a", "timeout": -5}]),
                "hooks.poststop[0].timeout: -5 is not a number of seconds from 1 to 4294967295",
            ),
            (
                poststop,
                json!([{"path": "/a", "timeout": 4_294_967_296_u64}]),
                "hooks.poststop[0].timeout: 4294967296 is not a number of seconds from 1 to \
                 4294967295",
            ),
            (
                poststop,
                json!([{"path": "/a", "env": ["A=1", "B"]}]),
                "hooks.poststop[0].env[1]: \"B\" has no `=`, expected KEY=VALUE",
            ),
            (
                poststop,
                json!([{"path": "/a", "args": ["a", "\0"]}]),
                "hooks.poststop[0].args[1]: \"\\0\" holds a NUL byte",
            ),
        ]);
    }

    #[test]
    fn what_is_left_out() {
        let hooks = json!({"createRuntime": [
            {"path": "/a"},
            {"path": "/b", "args": ["x", ""], "env": [], "timeout": 1}
        ]});
        let hooks = with("/hooks", hooks).hooks;
        let [first, second] = hooks.at(HookPoint::CreateRuntime) else {
            panic!("two hooks")
        };
        assert_eq!(
            (first.args.as_slice(), &first.env),
            ([c"/a".to_owned()].as_slice(), &None)
        );
        assert_eq!(first.timeout_secs, None);
        assert_eq!((second.args.len(), second.timeout_secs), (2, Some(1)));
        assert_eq!(second.env, Some(Vec::new()));
    }
}
