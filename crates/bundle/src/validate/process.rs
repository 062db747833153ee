//! `process`: config.md § Process.

use super::scheduling;
use super::text::{c_string, check_absolute, optional_c_string};
use crate::capability::parse_prefixed;
use crate::error::{At, Error, Shown};
use crate::read::{self, Notes};
use crate::{Capabilities, CapabilitySet, ConsoleSize, Process, Rlimit, User};
use oci_spec::runtime as oci;
use oci_spec::runtime::PosixRlimitType as Type;
use std::collections::HashMap;
use std::ffi::CString;

/// Validates a process. Whether its ids are mapped is checked later, with the whole config.
pub(crate) fn process(
    raw: &read::Process,
    at: At<'_>,
    notes: &mut Notes,
) -> Result<Process, Error> {
    check_absolute(&raw.cwd, at.key("cwd"))?;
    let terminal = raw.terminal.unwrap_or(false);
    let args = args(&raw.args, at.key("args"))?;
    let env = env(&raw.env, at.key("env"))?;
    check_total(&args, &env, at)?;
    Ok(Process {
        terminal,
        console_size: match raw.console_size {
            Some(size) if terminal => Some(console_size(&size, at.key("consoleSize"))?),
            _ => None,
        },
        user: match &raw.user {
            Some(raw) => user(raw, at.key("user"))?,
            None => User::default(),
        },
        args,
        env,
        cwd: c_string(&raw.cwd, at.key("cwd"))?,
        capabilities: capabilities(&raw.capabilities, at.key("capabilities"), notes),
        rlimits: rlimits(&raw.rlimits, at.key("rlimits"))?,
        no_new_privileges: raw.no_new_privileges.unwrap_or(false),
        oom_score_adj: oom_score_adj(raw.oom_score_adj, at.key("oomScoreAdj"))?,
        scheduler: match &raw.scheduler {
            Some(raw) => Some(scheduling::scheduler(raw, at.key("scheduler"))?),
            None => None,
        },
        io_priority: match &raw.io_priority {
            Some(raw) => Some(scheduling::io_priority(raw, at.key("ioPriority"))?),
            None => None,
        },
        exec_cpu_affinity: scheduling::exec_cpu_affinity(
            &raw.exec_cpu_affinity,
            at.key("execCPUAffinity"),
        )?,
        apparmor_profile: optional_c_string(
            raw.apparmor_profile.as_deref(),
            at.key("apparmorProfile"),
        )?,
        selinux_label: optional_c_string(raw.selinux_label.as_deref(), at.key("selinuxLabel"))?,
    })
}

fn args(raw: &[String], at: At<'_>) -> Result<Vec<CString>, Error> {
    if raw.is_empty() {
        return Err(at.refuse("at least one entry is required"));
    }
    raw.iter()
        .enumerate()
        .map(|(index, text)| c_string(text, at.index(index)))
        .collect()
}

/// Validates the environment. Of entries for the same variable only the last is kept, at its
/// position.
fn env(raw: &[String], at: At<'_>) -> Result<Vec<CString>, Error> {
    let mut last = HashMap::with_capacity(raw.len());
    for (index, entry) in raw.iter().enumerate() {
        last.insert(check_variable(entry, at.index(index))?, index);
    }
    let mut env = Vec::with_capacity(last.len());
    for (index, entry) in raw.iter().enumerate() {
        let (key, _) = entry.split_once('=').unwrap_or((entry, ""));
        if last.get(key) == Some(&index) {
            env.push(c_string(entry, at.index(index))?);
        }
    }
    Ok(env)
}

/// The key of a `KEY=VALUE`.
pub(super) fn check_variable<'a>(entry: &'a str, at: At<'_>) -> Result<&'a str, Error> {
    match entry.split_once('=') {
        None => Err(at.refuse(format!("{} has no `=`, expected KEY=VALUE", Shown(entry)))),
        Some(("", _)) => Err(at.refuse(format!(
            "{} has an empty name, expected KEY=VALUE",
            Shown(entry)
        ))),
        Some((key, _)) => c_string(entry, at).map(|_| key),
    }
}

/// The limit of execve(2) on arguments and environment, whatever the stack limit is: three quarters
/// of `_STK_LIM`.
const MAX_ARGUMENT_BYTES: usize = 6 << 20;

fn check_total(args: &[CString], env: &[CString], at: At<'_>) -> Result<(), Error> {
    let strings = args.iter().chain(env);
    let total: usize = strings.map(|text| text.as_bytes_with_nul().len()).sum();
    if total <= MAX_ARGUMENT_BYTES {
        return Ok(());
    }
    Err(at.refuse(format!(
        "args and env are {total} bytes, above {MAX_ARGUMENT_BYTES}"
    )))
}

fn console_size(raw: &oci::Box, at: At<'_>) -> Result<ConsoleSize, Error> {
    let side = |length: u64, at: At<'_>| {
        u16::try_from(length).map_err(|_| at.refuse(format!("{length} is above {}", u16::MAX)))
    };
    Ok(ConsoleSize {
        height: side(raw.height(), at.key("height"))?,
        width: side(raw.width(), at.key("width"))?,
    })
}

/// `NGROUPS_MAX`.
const MAX_GROUPS: usize = 65_536;

fn user(raw: &oci::User, at: At<'_>) -> Result<User, Error> {
    if let Some(umask) = raw.umask().filter(|umask| *umask > 0o777) {
        return Err(at
            .key("umask")
            .refuse(format!("0{umask:o} ({umask}) is above 0777")));
    }
    let groups = raw.additional_gids().as_deref().unwrap_or_default();
    let at_groups = at.key("additionalGids");
    if groups.len() > MAX_GROUPS {
        return Err(at_groups.refuse(format!("more than {MAX_GROUPS} groups")));
    }
    for (index, gid) in groups.iter().enumerate() {
        check_id(*gid, at_groups.index(index))?;
    }
    Ok(User {
        uid: check_id(raw.uid(), at.key("uid"))?,
        gid: check_id(raw.gid(), at.key("gid"))?,
        umask: raw.umask(),
        additional_gids: groups.to_vec(),
    })
}

/// Refuses the largest number: to setresuid(2), -1 means "leave unchanged", so that the process
/// would keep the runtime's id.
pub(super) fn check_id(id: u32, at: At<'_>) -> Result<u32, Error> {
    if id == u32::MAX {
        Err(at.refuse(format!("{id} (-1) is not an id")))
    } else {
        Ok(id)
    }
}

/// Converts the capability sets. An unknown name leads to a warning, not an error: config.md §
/// Linux Process.
fn capabilities(raw: &read::Capabilities, at: At<'_>, notes: &mut Notes) -> Capabilities {
    let mut set = |names: &[String], key| {
        let at = at.key(key);
        let mut bits = 0;
        for name in names {
            match parse_prefixed(name) {
                Some(number) => bits |= 1 << number,
                None => {
                    let prefixed = format!("CAP_{}", name.to_ascii_uppercase());
                    let meant = parse_prefixed(&prefixed).map(|_| prefixed);
                    let meant =
                        meant.map_or_else(String::new, |name| format!(" (did you mean {name}?)"));
                    let name = Shown(name);
                    notes.warn(format!("{at}: {name} is no known capability{meant}"));
                }
            }
        }
        CapabilitySet(bits)
    };
    Capabilities {
        bounding: set(&raw.bounding, "bounding"),
        effective: set(&raw.effective, "effective"),
        inheritable: set(&raw.inheritable, "inheritable"),
        permitted: set(&raw.permitted, "permitted"),
        ambient: set(&raw.ambient, "ambient"),
    }
}

fn rlimits(raw: &[oci::PosixRlimit], at: At<'_>) -> Result<Vec<Rlimit>, Error> {
    let mut rlimits: Vec<Rlimit> = Vec::with_capacity(raw.len());
    for (index, limit) in raw.iter().enumerate() {
        let at = at.index(index);
        let (name, resource) = resource(limit.typ());
        if rlimits.iter().any(|known| known.resource == resource) {
            return Err(at.key("type").refuse(format!("{name} stands here twice")));
        }
        let (soft, hard) = (limit.soft(), limit.hard());
        if soft > hard {
            return Err(at
                .key("soft")
                .refuse(format!("{name}: {soft} is above hard, {hard}")));
        }
        rlimits.push(Rlimit {
            name,
            resource,
            soft,
            hard,
        });
    }
    Ok(rlimits)
}

fn resource(kind: Type) -> (&'static str, i32) {
    match kind {
        Type::RlimitCpu => ("RLIMIT_CPU", number(libc::RLIMIT_CPU)),
        Type::RlimitFsize => ("RLIMIT_FSIZE", number(libc::RLIMIT_FSIZE)),
        Type::RlimitData => ("RLIMIT_DATA", number(libc::RLIMIT_DATA)),
        Type::RlimitStack => ("RLIMIT_STACK", number(libc::RLIMIT_STACK)),
        Type::RlimitCore => ("RLIMIT_CORE", number(libc::RLIMIT_CORE)),
        Type::RlimitRss => ("RLIMIT_RSS", number(libc::RLIMIT_RSS)),
        Type::RlimitNproc => ("RLIMIT_NPROC", number(libc::RLIMIT_NPROC)),
        Type::RlimitNofile => ("RLIMIT_NOFILE", number(libc::RLIMIT_NOFILE)),
        Type::RlimitMemlock => ("RLIMIT_MEMLOCK", number(libc::RLIMIT_MEMLOCK)),
        Type::RlimitAs => ("RLIMIT_AS", number(libc::RLIMIT_AS)),
        Type::RlimitLocks => ("RLIMIT_LOCKS", number(libc::RLIMIT_LOCKS)),
        Type::RlimitSigpending => ("RLIMIT_SIGPENDING", number(libc::RLIMIT_SIGPENDING)),
        Type::RlimitMsgqueue => ("RLIMIT_MSGQUEUE", number(libc::RLIMIT_MSGQUEUE)),
        Type::RlimitNice => ("RLIMIT_NICE", number(libc::RLIMIT_NICE)),
        Type::RlimitRtprio => ("RLIMIT_RTPRIO", number(libc::RLIMIT_RTPRIO)),
        Type::RlimitRttime => ("RLIMIT_RTTIME", number(libc::RLIMIT_RTTIME)),
    }
}

/// Converts a number whose type differs between C libraries. All are small.
fn number(resource: impl TryInto<i32>) -> i32 {
    resource.try_into().unwrap_or(i32::MAX)
}

fn oom_score_adj(value: Option<i32>, at: At<'_>) -> Result<Option<i32>, Error> {
    match value {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(at.refuse(format!("{score} is not from -1000 to 1000")))
        }
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{accepted, base_with_user, refused, refused_from, with};
    use serde_json::json;

    fn process(pointer: &str, value: serde_json::Value) -> crate::Process {
        with(&format!("/process{pointer}"), value).process.unwrap()
    }

    #[test]
    fn argument_lists() {
        refused(&[
            (
                "/process/args",
                json!([]),
                "process.args: at least one entry is required",
            ),
            (
                "/process/args",
                json!(null),
                "process.args: at least one entry is required",
            ),
            (
                "/process/args/-",
                json!("a\0b"),
                "process.args[1]: \"a\\0b\" holds a NUL byte",
            ),
            ("/process/cwd", json!(""), "process.cwd: \"\" is not a path"),
            (
                "/process/cwd",
                json!("srv"),
                "process.cwd: \"srv\" is not an absolute path",
            ),
            (
                "/process/cwd",
                json!("/a\0"),
                "process.cwd: \"/a\\0\" holds a NUL byte",
            ),
            (
                "/process/args/-",
                json!("x".repeat(7 << 20)),
                "process: args and env are 7340046 bytes, above 6291456",
            ),
        ]);
        assert_eq!(
            process("/args", json!(["sh", "", "-c"])).args,
            [c"sh", c"", c"-c"]
        );
    }

    #[test]
    fn environment() {
        refused(&[
            (
                "/process/env/-",
                json!("HOME"),
                "process.env[1]: \"HOME\" has no `=`, expected KEY=VALUE",
            ),
            (
                "/process/env/-",
                json!("=x"),
                "process.env[1]: \"=x\" has an empty name, expected KEY=VALUE",
            ),
            (
                "/process/env/-",
                json!(""),
                "process.env[1]: \"\" has no `=`, expected KEY=VALUE",
            ),
            (
                "/process/env/-",
                json!("A=\0"),
                "process.env[1]: \"A=\\0\" holds a NUL byte",
            ),
        ]);
        let env = process("/env", json!(["A=1", "B=", "A=2", "C==", "B=3"])).env;
        assert_eq!(env, [c"A=2", c"C==", c"B=3"]);
        assert!(process("/env", json!(null)).env.is_empty());
    }

    #[test]
    fn users() {
        refused(&[
            (
                "/process/user/umask",
                json!(512),
                "process.user.umask: 01000 (512) is above 0777",
            ),
            (
                "/process/user/uid",
                json!(4_294_967_295_u32),
                "process.user.uid: 4294967295 (-1) is not an id",
            ),
            (
                "/process/user/gid",
                json!(4_294_967_295_u32),
                "process.user.gid: 4294967295 (-1) is not an id",
            ),
            (
                "/process/user/additionalGids",
                json!([1, 4_294_967_295_u32]),
                "process.user.additionalGids[1]: 4294967295 (-1) is not an id",
            ),
            (
                "/process/user/additionalGids",
                json!(vec![1; 65_537]),
                "process.user.additionalGids: more than 65536 groups",
            ),
            (
                "/process/user/additionalGids",
                json!(["wheel"]),
                "process.user.additionalGids[0]: invalid type: string \"wheel\", expected a whole \
                 number from 0 to 4294967295",
            ),
        ]);
        refused_from(
            &base_with_user(),
            &[
                (
                    "/process/user/uid",
                    json!(65_536),
                    "process.user.uid: 65536 is not mapped by linux.uidMappings",
                ),
                (
                    "/process/user/gid",
                    json!(70_000),
                    "process.user.gid: 70000 is not mapped by linux.gidMappings",
                ),
                (
                    "/process/user/additionalGids",
                    json!([5, 70_000]),
                    "process.user.additionalGids[1]: 70000 is not mapped by linux.gidMappings",
                ),
            ],
        );
        accepted(&[
            ("/process/user", json!(null)),
            ("/process/user", json!({"uid": null})),
            ("/process/user/uid", json!(4_294_967_294_u32)),
            ("/process/user/umask", json!(0o777)),
            ("/process/user/additionalGids", json!([])),
        ]);
    }

    #[test]
    fn absent_ids_are_root_with_a_warning() {
        let root = crate::User::default();
        let users = |user: serde_json::Value| {
            let config = with("/process/user", user);
            (config.process.unwrap().user, config.warnings)
        };
        let missing = |id: &str| format!("config.json: process.user.{id}: missing, 0 is taken");
        let both = vec![missing("uid"), missing("gid")];
        assert_eq!(users(json!({})), (root.clone(), both));
        let (user, warnings) = users(json!({"uid": 1000, "Gid": 1000}));
        assert_eq!((user.uid, user.gid), (1000, 0));
        let near = "config.json: process.user.Gid is not a property; did you mean gid?";
        assert_eq!(warnings, [near.to_owned(), missing("gid")]);
        let mut tree = crate::fixture::base();
        crate::fixture::remove(&mut tree, "/process/user");
        let config = crate::fixture::parse_tree(&tree).unwrap();
        assert_eq!(config.process.unwrap().user, root);
        let none = "config.json: process.user: missing, uid 0 and gid 0 are taken";
        assert_eq!(config.warnings, [none]);
    }

    #[test]
    fn console_sizes() {
        let mut tree = crate::fixture::base();
        crate::fixture::set(&mut tree, "/process/terminal", json!(true));
        refused_from(
            &tree,
            &[
                (
                    "/process/consoleSize",
                    json!({"height": 65_536, "width": 80}),
                    "process.consoleSize.height: 65536 is above 65535",
                ),
                (
                    "/process/consoleSize",
                    json!({"height": 25, "width": -1}),
                    "process.consoleSize.width: invalid value: integer `-1`, expected a whole \
                     number from 0 to 18446744073709551615",
                ),
                (
                    "/process/consoleSize",
                    json!({"height": 25}),
                    "process.consoleSize.width: required, but missing",
                ),
            ],
        );
        let ignored = process("/consoleSize", json!({"height": 65_536, "width": 0}));
        assert_eq!(ignored.console_size, None);
    }

    #[test]
    fn capabilities() {
        let sets = json!({"bounding": ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"], "ambient": null});
        let capabilities = process("/capabilities", sets).capabilities;
        assert_eq!(capabilities.bounding.0, 1 | 1 << 40);
        assert_eq!(capabilities.ambient.0, 0);
        // Unknown names and odd spellings: a warning each, and nothing granted.
        let odd = json!(["CAP_KILL", "CAP_\n", "kill", "CHOWN", "CAP_CAP_CHOWN"]);
        let config = with("/process/capabilities/effective", odd);
        assert_eq!(config.process.unwrap().capabilities.effective.0, 1 << 5);
        assert_eq!(
            config.warnings,
            [
                ("CAP_\\n", ""),
                ("kill", " (did you mean CAP_KILL?)"),
                ("CHOWN", " (did you mean CAP_CHOWN?)"),
                ("CAP_CAP_CHOWN", ""),
            ]
            .map(|(name, meant)| format!(
                "config.json: process.capabilities.effective: \"{name}\" is no known \
                 capability{meant}"
            ))
        );
        refused(&[
            (
                "/process/capabilities",
                json!(["CAP_KILL"]),
                "process.capabilities: found an array, expected an object",
            ),
            (
                "/process/capabilities/bounding",
                json!("CAP_KILL"),
                "process.capabilities.bounding: found a string, expected an array",
            ),
            (
                "/process/capabilities/bounding",
                json!([5]),
                "process.capabilities.bounding[0]: invalid type: integer `5`, expected a string",
            ),
        ]);
    }

    #[test]
    fn rlimits() {
        let limit =
            |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
        refused(&[
            (
                "/process/rlimits",
                json!([limit("RLIMIT_CPU", 2, 1)]),
                "process.rlimits[0].soft: RLIMIT_CPU: 2 is above hard, 1",
            ),
            (
                "/process/rlimits",
                json!([limit("RLIMIT_AS", 1, 1), limit("RLIMIT_AS", 1, 1)]),
                "process.rlimits[1].type: RLIMIT_AS stands here twice",
            ),
            (
                "/process/rlimits",
                json!([limit("RLIMIT_X", 1, 1)]),
                "process.rlimits[0].type: unknown variant `RLIMIT_X`, expected one of \
                 `RLIMIT_CPU`, `RLIMIT_FSIZE`, `RLIMIT_DATA`, `RLIMIT_STACK`, `RLIMIT_CORE`, \
                 `RLIMIT_RSS`, `RLIMIT_NPROC`, `RLIMIT_NOFILE`, `RLIMIT_MEMLOCK`, `RLIMIT_AS`, \
                 `RLIMIT_LOCKS`, `RLIMIT_SIGPENDING`, `RLIMIT_MSGQUEUE`, `RLIMIT_NICE`, \
                 `RLIMIT_RTPRIO`, `RLIMIT_RTTIME`",
            ),
            (
                "/process/rlimits",
                json!([{"type": "RLIMIT_CPU", "hard": 1}]),
                "process.rlimits[0].soft: required, but missing",
            ),
            (
                "/process/rlimits",
                json!([{"type": "RLIMIT_CPU", "hard": 1, "soft": -1}]),
                "process.rlimits[0].soft: invalid value: integer `-1`, expected a whole number \
                 from 0 to 18446744073709551615",
            ),
        ]);
        let rlimits = process("/rlimits", json!([limit("RLIMIT_RTTIME", 0, u64::MAX)])).rlimits;
        assert_eq!(
            (rlimits[0].name, rlimits[0].resource),
            ("RLIMIT_RTTIME", 15)
        );
        assert_eq!(rlimits[0].hard, u64::MAX);
    }

    #[test]
    fn oom_scores() {
        refused(&[
            (
                "/process/oomScoreAdj",
                json!(1001),
                "process.oomScoreAdj: 1001 is not from -1000 to 1000",
            ),
            (
                "/process/oomScoreAdj",
                json!(-1001),
                "process.oomScoreAdj: -1001 is not from -1000 to 1000",
            ),
        ]);
        assert_eq!(process("/oomScoreAdj", json!(0)).oom_score_adj, Some(0));
        assert_eq!(process("/oomScoreAdj", json!(null)).oom_score_adj, None);
        assert_eq!(
            process("/oomScoreAdj", json!(-1000)).oom_score_adj,
            Some(-1000)
        );
    }

    #[test]
    fn labels() {
        refused(&[
            (
                "/process/selinuxLabel",
                json!("a\0"),
                "process.selinuxLabel: \"a\\0\" holds a NUL byte",
            ),
            (
                "/process/apparmorProfile",
                json!("a\0"),
                "process.apparmorProfile: \"a\\0\" holds a NUL byte",
            ),
        ]);
        assert_eq!(
            process("/apparmorProfile", json!("")).apparmor_profile,
            None
        );
    }
}
