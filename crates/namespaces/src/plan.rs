//! From `linux.namespaces` to clones and steps. Pure.

pub(crate) mod describe;
mod maps;

use crate::Error;
use coracle_bundle::{IdMappings, Linux, Namespace, Namespaces, NetDevice, TimeOffsets};
use coracle_host::{Host, NamespaceIds, Needs, Setgroups};
use coracle_sys::{Capability, NamespaceFlags, NamespaceKind};
use std::path::PathBuf;

pub use maps::{How, IdMap, Maps, maps_of_caller};

const NONE: NamespaceFlags = NamespaceFlags::empty();

/// What is done about namespaces, by which process and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether a process between the runtime and init is needed.
    pub intermediate: bool,
    /// Flags of the intermediate's clone: the user namespace or nothing; empty without an
    /// intermediate.
    pub first_clone: NamespaceFlags,
    /// Flags of init's clone, made by the intermediate if there is one, else by the runtime.
    pub final_clone: NamespaceFlags,
    /// The intermediate's steps before it clones init.
    pub before: Vec<Step>,
    /// Init's steps, after its id maps are written and it has joined its cgroup.
    pub enter: Vec<Step>,
    /// The maps of a new user namespace. They are written for the process whose clone has `USER`.
    pub maps: Option<Maps>,
    /// The maps that a joined user namespace must have, if the config lists them.
    pub expected_maps: Option<IdMappings>,
    /// The runtime's own namespaces. The kernel refuses to join the process's own user namespace
    /// again, and a change of root in the runtime's mount namespace would change the host's root.
    pub own: NamespaceIds,
    /// Devices to move into the container's network namespace, in order of their host names.
    pub devices: Vec<NetDevice>,
}

/// One step of the intermediate or of init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// setns(2) into a namespace given by path.
    Join(Join),
    /// setns(2) into these namespaces of the container's init, all or none.
    JoinProcess(NamespaceFlags),
    /// Drop the caller's groups before joining a user namespace that may deny setgroups(2).
    DropGroups,
    /// Take uid and gid 0 of the user namespace where it maps them, and drop the groups.
    BecomeRoot,
    /// As [`Step::BecomeRoot`], but keep the caller's groups, mapped or not.
    BecomeRootWithGroups,
    /// unshare(2).
    Unshare(NamespaceFlags),
    /// Write these lines to timens_offsets.
    TimeOffsets(String),
    /// Bring up `lo` of a new network namespace.
    Loopback,
}

/// A namespace that the config gives by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The kind that the namespace must have.
    pub kind: NamespaceKind,
    /// Absolute.
    pub path: PathBuf,
    /// Its place in linux.namespaces.
    pub index: usize,
}

/// How the container gets its user namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum User {
    Kept,
    /// A new one, by the clone of the intermediate.
    NewFirst,
    /// A new one, by the clone of init.
    NewFinal,
    Joined,
}

/// The facts that [`plan`] needs.
#[must_use]
pub fn needs(linux: &Linux) -> Needs {
    Needs {
        id_maps: linux.namespaces.user == Namespace::New,
        namespaces: has_joins(&linux.namespaces),
        ..Needs::default()
    }
}

/// The plan for a container of this config. Source: config-linux.md § Namespaces.
///
/// # Errors
/// The caller lacks a privilege: for namespaces without a user namespace, for joining namespaces
/// beside a new user namespace, for mapping ids, for moving network devices. Or a map is too long
/// for the kernel.
pub fn plan(linux: &Linux, host: &Host) -> Result<Plan, Error> {
    let configured = &linux.namespaces;
    let capable = host.has(Capability::SysAdmin);
    check_privilege(configured, capable)?;
    let user = whose_user_namespace(configured);
    let (early, late) = joins_by_path(configured).partition(|join| is_early(join, user, capable));
    let before = early_steps(linux, user, early, host);
    let created = created(configured);
    Ok(Plan {
        intermediate: !before.is_empty(),
        first_clone: if user == User::NewFirst {
            NamespaceFlags::USER
        } else {
            NONE
        },
        final_clone: created & !later(user),
        before,
        enter: enter_steps(configured, user, late),
        maps: maps::plan(linux, host)?,
        expected_maps: expected_maps(linux),
        own: match has_joins(configured) {
            true => *host.namespaces,
            false => NamespaceIds::default(),
        },
        devices: devices(linux, host)?,
    })
}

/// The namespaces of a running container that have to be compared with the runtime's own, before
/// another process can join them. One that `create` made is no other process's, so it is joined
/// unseen. Should the runtime be in it all the same, joining it again changes nothing; only for the
/// user namespace the kernel refuses that.
#[must_use]
pub fn compared(configured: &Namespaces) -> NamespaceFlags {
    !created(configured) | NamespaceFlags::USER
}

/// The namespaces of a running container that another process joins: those that `create` made, and
/// those of [`compared`] that differ from the runtime's own.
#[must_use]
pub fn joined(configured: &Namespaces, host: &Host) -> NamespaceFlags {
    created(configured) & !NamespaceFlags::USER | *host.differing
}

/// The plan for another process in a running container: it joins these namespaces.
///
/// The time namespace is joined, and its offsets are not written: they are fixed once a process is
/// in it. The cgroup namespace comes last: the intermediate clones the process into the container's
/// cgroup, and the kernel refuses that to a process whose own cgroup is outside of its cgroup
/// namespace. A user namespace is joined in the same call as all others, with the runtime's
/// capabilities over their owners.
#[must_use]
pub fn plan_exec(flags: NamespaceFlags, host: &Host) -> Plan {
    let user = flags.contains(NamespaceFlags::USER);
    let intermediate =
        flags.intersects(NamespaceFlags::PID | NamespaceFlags::USER | NamespaceFlags::TIME);
    let mut steps = Vec::new();
    if user {
        steps.extend(drop_groups(host));
    }
    let last = match intermediate && !user {
        true => flags & NamespaceFlags::CGROUP,
        false => NONE,
    };
    let join = |flags: NamespaceFlags| (!flags.is_empty()).then_some(Step::JoinProcess(flags));
    steps.extend(join(flags & !last));
    if user {
        steps.push(Step::BecomeRoot);
    }
    let (before, enter) = match intermediate {
        true => (steps, join(last).into_iter().collect()),
        false => (Vec::new(), steps),
    };
    Plan {
        intermediate,
        first_clone: NONE,
        final_clone: NONE,
        before,
        enter,
        maps: None,
        expected_maps: None,
        own: NamespaceIds::default(),
        devices: Vec::new(),
    }
}

/// Without CAP_SYS_ADMIN the kernel only lets a process create or join a user namespace, and a new
/// user namespace never owns namespaces that existed before it.
fn check_privilege(configured: &Namespaces, capable: bool) -> Result<(), Error> {
    if capable {
        return Ok(());
    }
    let others = || {
        NamespaceKind::ALL
            .into_iter()
            .filter(|kind| *kind != NamespaceKind::User)
    };
    match &configured.user {
        Namespace::Join { .. } => Ok(()),
        Namespace::Inherit if others().all(|kind| *configured.of(kind) == Namespace::Inherit) => {
            Ok(())
        }
        Namespace::Inherit => Err(Error::NeedsUserNamespace),
        Namespace::New => match joins_by_path(configured).next() {
            None => Ok(()),
            Some(Join { kind, path, index }) => Err(Error::JoinBesideNewUser { kind, path, index }),
        },
    }
}

/// A new time namespace should belong to the new user namespace, so the intermediate is cloned into
/// it. But joining a path needs the runtime's capabilities, so with paths the intermediate stays
/// outside and init is the first process in it.
fn whose_user_namespace(configured: &Namespaces) -> User {
    match configured.user {
        Namespace::Inherit => User::Kept,
        Namespace::Join { .. } => User::Joined,
        Namespace::New => match (&configured.time, joins_by_path(configured).next()) {
            (Namespace::New, None) => User::NewFirst,
            _ => User::NewFinal,
        },
    }
}

/// All namespaces given by path but the user namespace, mount last.
fn joins_by_path(configured: &Namespaces) -> impl Iterator<Item = Join> {
    NamespaceKind::ALL
        .into_iter()
        .filter(|kind| *kind != NamespaceKind::User)
        .filter_map(|kind| join(configured, kind))
}

/// Whether a namespace is joined by its path, so that the own ones have to be known.
fn has_joins(configured: &Namespaces) -> bool {
    let mut kinds = NamespaceKind::ALL.into_iter();
    kinds.any(|kind| join(configured, kind).is_some())
}

fn join(configured: &Namespaces, kind: NamespaceKind) -> Option<Join> {
    match configured.of(kind) {
        Namespace::Join { path, index } => Some(Join {
            kind,
            path: path.clone(),
            index: *index,
        }),
        Namespace::New | Namespace::Inherit => None,
    }
}

/// Whether the intermediate joins it. A process with CAP_SYS_ADMIN in the runtime's user namespace
/// also has it in every descendant, and so over every namespace that they own. After joining a user
/// namespace it would lose it over namespaces that the runtime's owns. Without the capability,
/// joining can only work from inside.
fn is_early(join: &Join, user: User, capable: bool) -> bool {
    let children_only = matches!(join.kind, NamespaceKind::Pid | NamespaceKind::Time);
    match user {
        User::Kept => children_only,
        User::NewFirst | User::NewFinal => true,
        User::Joined => capable || children_only,
    }
}

/// Becoming root comes last: a process that has changed its user could no longer open its own
/// timens_offsets.
fn early_steps(linux: &Linux, user: User, joins: Vec<Join>, host: &Host) -> Vec<Step> {
    let capable = host.has(Capability::SysAdmin);
    let configured = &linux.namespaces;
    let joins = joins.into_iter().map(Step::Join);
    let time = time_steps(&configured.time, &linux.time_offsets).into_iter();
    let enter_user = drop_groups(host).into_iter();
    let enter_user = enter_user.chain(join(configured, NamespaceKind::User).map(Step::Join));
    let root = std::iter::once(Step::BecomeRoot);
    match user {
        User::Kept | User::NewFinal => joins.chain(time).collect(),
        User::NewFirst => time.chain(root).collect(),
        User::Joined if capable => joins.chain(enter_user).chain(time).chain(root).collect(),
        User::Joined => enter_user.chain(joins).chain(time).chain(root).collect(),
    }
}

/// The joining process still has the caller's groups, and in a user namespace whose `setgroups`
/// file says `deny` it could not drop them. Without CAP_SETGID they cannot be dropped at all.
fn drop_groups(host: &Host) -> Option<Step> {
    let may = host.has(Capability::Setgid) && host.setgroups == Setgroups::Allowed;
    may.then_some(Step::DropGroups)
}

/// Offsets can be written only while no process is in the namespace, so it is unshared, not made by
/// a clone.
fn time_steps(time: &Namespace, offsets: &TimeOffsets) -> Vec<Step> {
    if *time != Namespace::New {
        return Vec::new();
    }
    let mut lines = String::new();
    for (clock, offset) in [
        ("monotonic", offsets.monotonic),
        ("boottime", offsets.boottime),
    ] {
        if let Some((seconds, nanoseconds)) = offset {
            lines.push_str(&format!("{clock} {seconds} {nanoseconds}\n"));
        }
    }
    let mut steps = vec![Step::Unshare(NamespaceFlags::TIME)];
    if !lines.is_empty() {
        steps.push(Step::TimeOffsets(lines));
    }
    steps
}

fn created(configured: &Namespaces) -> NamespaceFlags {
    NamespaceKind::ALL
        .into_iter()
        .filter(|kind| *configured.of(*kind) == Namespace::New)
        .fold(NONE, |all, kind| all | kind.flag())
}

/// The kinds that are created, but not by init's clone. A cgroup namespace's root is the cgroup of
/// the process that creates it, so init joins its cgroup first. The root of an ipc namespace's
/// message queue file system belongs to the user who creates the namespace, so init becomes root
/// first.
fn later(user: User) -> NamespaceFlags {
    let always = NamespaceFlags::CGROUP | NamespaceFlags::TIME;
    match user {
        User::NewFirst => always | NamespaceFlags::USER,
        User::NewFinal => always | NamespaceFlags::IPC,
        User::Kept | User::Joined => always,
    }
}

fn enter_steps(configured: &Namespaces, user: User, late: Vec<Join>) -> Vec<Step> {
    let mut steps = Vec::new();
    if user == User::NewFinal {
        steps.push(Step::BecomeRoot);
    }
    let (mount, others): (Vec<_>, Vec<_>) = late
        .into_iter()
        .map(Step::Join)
        .partition(|step| step.joined() == NamespaceFlags::MOUNT);
    steps.extend(others);
    let unshare =
        created(configured) & later(user) & (NamespaceFlags::CGROUP | NamespaceFlags::IPC);
    if !unshare.is_empty() {
        steps.push(Step::Unshare(unshare));
    }
    if configured.network == Namespace::New {
        steps.push(Step::Loopback);
    }
    // Last: from here on paths resolve in the container's mounts.
    steps.extend(mount);
    steps
}

fn expected_maps(linux: &Linux) -> Option<IdMappings> {
    let joined = matches!(linux.namespaces.user, Namespace::Join { .. });
    (joined && linux.id_mappings != IdMappings::default()).then(|| linux.id_mappings.clone())
}

fn devices(linux: &Linux, host: &Host) -> Result<Vec<NetDevice>, Error> {
    if linux.net_devices.is_empty() || host.has(Capability::NetAdmin) {
        Ok(linux.net_devices.clone())
    } else {
        Err(Error::DevicesWithoutPrivilege)
    }
}

impl Plan {
    /// The same plan without setgroups(2), which would drop the caller's groups irrevocably.
    #[must_use]
    pub fn keeping_groups(mut self) -> Self {
        for steps in [&mut self.before, &mut self.enter] {
            steps.retain(|step| *step != Step::DropGroups);
            for step in steps.iter_mut().filter(|step| **step == Step::BecomeRoot) {
                *step = Step::BecomeRootWithGroups;
            }
        }
        self
    }

    /// Whether the intermediate's steps change its user or capabilities, on which the kernel sets
    /// the dumpable flag to fs.suid_dumpable and clears the parent-death signal (prctl(2)).
    #[must_use]
    pub fn intermediate_changes_user(&self) -> bool {
        self.before.iter().any(Step::changes_user)
    }

    /// Whether init's steps do so.
    #[must_use]
    pub fn init_changes_user(&self) -> bool {
        self.enter.iter().any(Step::changes_user)
    }

    /// Whether the process joins an existing user namespace. Whether setgroups(2) is allowed there
    /// is known only inside; where it is, the process drops its groups.
    #[must_use]
    pub fn joins_user_namespace(&self) -> bool {
        let mut steps = self.before.iter().chain(&self.enter);
        steps.any(|step| step.joined().contains(NamespaceFlags::USER))
    }
}

impl Step {
    /// The namespaces that it joins.
    pub(crate) fn joined(&self) -> NamespaceFlags {
        match self {
            Step::Join(join) => join.kind.flag(),
            Step::JoinProcess(flags) => *flags,
            _ => NONE,
        }
    }

    fn changes_user(&self) -> bool {
        matches!(self, Step::BecomeRoot | Step::BecomeRootWithGroups)
            || self.joined().contains(NamespaceFlags::USER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_bundle::IdMapping;
    use coracle_host::fixture;
    use expect_test::{Expect, expect};

    fn ids(container_id: u32, host_id: u32, size: u32) -> Vec<IdMapping> {
        vec![IdMapping {
            container_id,
            host_id,
            size,
        }]
    }

    /// `+ipc` is new, `user=/proc/1/ns/user` is joined.
    fn linux(words: &str) -> Linux {
        let mut linux = Linux::default();
        for (index, word) in words.split_whitespace().enumerate() {
            let (name, configured) = match word.split_once('=') {
                Some((name, path)) => (
                    name,
                    Namespace::Join {
                        path: path.into(),
                        index,
                    },
                ),
                None => (word.trim_start_matches('+'), Namespace::New),
            };
            let kind = NamespaceKind::ALL
                .into_iter()
                .find(|kind| kind.name() == name)
                .expect(name);
            *linux.namespaces.of_mut(kind) = configured;
        }
        if linux.namespaces.user == Namespace::New {
            linux.id_mappings = IdMappings {
                uid: ids(0, 100_000, 9),
                gid: ids(0, 100_000, 9),
            };
        }
        linux
    }

    fn show(plan: &Plan) -> String {
        let mut text = String::new();
        if plan.intermediate {
            let what = if plan.first_clone.is_empty() {
                "a process"
            } else {
                "user"
            };
            text.push_str(&format!("intermediate: {what}\n"));
        }
        for step in 0..plan.steps() {
            let who = if step < plan.clone_step() { "  " } else { "" };
            text.push_str(&format!("{who}{step} {}\n", plan.describe(step)));
        }
        text
    }

    fn check(linux: &Linux, host: &Host, expected: Expect) {
        expected.assert_eq(&match plan(linux, host) {
            Ok(plan) => show(&plan),
            // Cut into lines that fit.
            Err(error) => error.to_string().replace(": ", ":\n"),
        });
    }

    #[test]
    fn nothing_configured() {
        check(
            &linux(""),
            &fixture::v2(),
            expect![[r#"
            0 clone the process
        "#]],
        );
        check(
            &linux(""),
            &fixture::unprivileged(),
            expect![[r#"
            0 clone the process
        "#]],
        );
    }

    #[test]
    fn what_docker_configures() {
        let linux = linux("+mount +network +uts +pid +ipc +cgroup");
        check(
            &linux,
            &fixture::v2(),
            expect![[r#"
            0 create the pid, network, ipc, uts and mount namespaces
            1 unshare the cgroup namespace
            2 bring up loopback
        "#]],
        );
        check(
            &linux,
            &fixture::unprivileged(),
            expect![[r#"
            linux.namespaces:
            without CAP_SYS_ADMIN a user namespace is needed"#]],
        );
    }

    #[test]
    fn user_namespace_beside_all() {
        let linux = linux("+mount +network +uts +pid +ipc +cgroup +user");
        check(
            &linux,
            &fixture::v2(),
            expect![[r#"
            0 create the pid, network, uts, mount and user namespaces
            1 become root of the user namespace
            2 unshare the ipc and cgroup namespaces
            3 bring up loopback
        "#]],
        );
        check(
            &linux,
            &fixture::unprivileged(),
            expect![[r#"
            0 create the pid, network, uts, mount and user namespaces
            1 become root of the user namespace
            2 unshare the ipc and cgroup namespaces
            3 bring up loopback
        "#]],
        );
    }

    #[test]
    fn member_of_a_pod() {
        let linux = linux("pid=/proc/7/ns/pid ipc=/i uts=/u +mount network=/n +cgroup");
        check(
            &linux,
            &fixture::v2(),
            expect![[r#"
            intermediate: a process
              0 join the pid namespace /proc/7/ns/pid
            1 create the mount namespace
            2 join the network namespace /n
            3 join the ipc namespace /i
            4 join the uts namespace /u
            5 unshare the cgroup namespace
        "#]],
        );
    }

    #[test]
    fn member_of_a_pod_with_a_user_namespace() {
        let mut linux = linux("user=/proc/7/ns/user ipc=/i uts=/u +mount network=/n +pid");
        linux.id_mappings = IdMappings {
            uid: ids(0, 5, 9),
            gid: ids(0, 5, 9),
        };
        check(
            &linux,
            &fixture::v2(),
            expect![[r#"
                intermediate: a process
                  0 join the network namespace /n
                  1 join the ipc namespace /i
                  2 join the uts namespace /u
                  3 drop the caller's groups
                  4 join the user namespace /proc/7/ns/user
                  5 become root of the user namespace
                6 create the pid and mount namespaces
            "#]],
        );
        check(
            &linux,
            &fixture::unprivileged(),
            expect![[r#"
            intermediate: a process
              0 join the user namespace /proc/7/ns/user
              1 become root of the user namespace
            2 create the pid and mount namespaces
            3 join the network namespace /n
            4 join the ipc namespace /i
            5 join the uts namespace /u
        "#]],
        );
        let plan = plan(&linux, &fixture::v2()).expect("a plan");
        assert_eq!(
            (plan.maps, plan.expected_maps),
            (None, Some(linux.id_mappings))
        );
    }

    #[test]
    fn new_user_namespace_with_a_network_of_the_host() {
        let linux = linux("+user +mount +pid +ipc network=/run/netns/n");
        check(
            &linux,
            &fixture::v2(),
            expect![[r#"
            intermediate: a process
              0 join the network namespace /run/netns/n
            1 create the pid, mount and user namespaces
            2 become root of the user namespace
            3 unshare the ipc namespace
        "#]],
        );
        check(
            &linux,
            &fixture::unprivileged(),
            expect![[r#"
                linux.namespaces[4].path:
                /run/netns/n:
                no CAP_SYS_ADMIN to join the network namespace beside a new user namespace"#]],
        );
    }

    #[test]
    fn new_time_namespace() {
        let mut linux = linux("+time +pid +ipc");
        linux.time_offsets.monotonic = Some((5, 0));
        linux.time_offsets.boottime = Some((-7, 250));
        check(
            &linux,
            &fixture::v2(),
            expect![[r#"
            intermediate: a process
              0 unshare the time namespace
              1 write time offsets monotonic 5 0, boottime -7 250
            2 create the pid and ipc namespaces
        "#]],
        );
        linux.namespaces.user = Namespace::New;
        linux.id_mappings = IdMappings {
            uid: ids(0, 1000, 1),
            gid: ids(0, 1000, 1),
        };
        check(
            &linux,
            &fixture::unprivileged(),
            expect![[r#"
                intermediate: user
                  0 unshare the time namespace
                  1 write time offsets monotonic 5 0, boottime -7 250
                  2 become root of the user namespace
                3 create the pid and ipc namespaces
            "#]],
        );
    }

    #[test]
    fn network_devices() {
        let mut linux = linux("+network +user");
        let device = NetDevice {
            host_name: "eth1".to_owned(),
            name: "x%d".to_owned(),
        };
        linux.net_devices = vec![device];
        let plan = plan(&linux, &fixture::v2()).expect("a plan");
        assert_eq!(plan.devices, linux.net_devices);
        linux.id_mappings = IdMappings {
            uid: ids(0, 1000, 1),
            gid: ids(0, 1000, 1),
        };
        check(
            &linux,
            &fixture::unprivileged(),
            expect![[r#"
            linux.netDevices:
            moving devices needs CAP_NET_ADMIN"#]],
        );
    }

    #[test]
    fn further_process() {
        let host = fixture::v2();
        assert_eq!(show(&plan_exec(NONE, &host)), "0 clone the process\n");
        let other = NamespaceFlags::MOUNT | NamespaceFlags::NETWORK;
        expect![[r#"
            0 clone the process
            1 join the container's network and mount namespaces
        "#]]
        .assert_eq(&show(&plan_exec(other, &host)));
        let other = other | NamespaceFlags::PID | NamespaceFlags::USER | NamespaceFlags::TIME;
        expect![[r#"
            intermediate: a process
              0 drop the caller's groups
              1 join the container's pid, time, network, mount and user namespaces
              2 become root of the user namespace
            3 clone the process
        "#]]
        .assert_eq(&show(&plan_exec(other, &host)));
    }

    #[test]
    fn what_create_made_is_joined_unseen() {
        let configured = linux("+pid +mount +user network=/n").namespaces;
        let compared = compared(&configured);
        assert!(!compared.intersects(NamespaceFlags::PID | NamespaceFlags::MOUNT));
        let seen = NamespaceFlags::USER | NamespaceFlags::NETWORK | NamespaceFlags::TIME;
        assert!(compared.contains(seen));
        let host = Host {
            differing: NamespaceFlags::NETWORK.into(),
            ..fixture::v2()
        };
        let others = NamespaceFlags::PID | NamespaceFlags::MOUNT;
        assert_eq!(joined(&configured, &host), others | NamespaceFlags::NETWORK);
    }

    #[test]
    fn faults_as_sentences() {
        let mut linux = linux("pid=/p +user +time network=/n");
        linux.time_offsets.boottime = Some((-9, 0));
        let plan = plan(&linux, &fixture::v2()).expect("a plan");
        let say = |step, call, errno| {
            let fault = coracle_sys::Fault::new(step, (call, errno));
            plan.explain(&fault).text
        };
        use coracle_sys::Call;
        use nix::errno::Errno;
        let messages = [
            say(0, Call::Setns, Errno::EINVAL),
            say(1, Call::Setns, Errno::EPERM),
            say(2, Call::Unshare, Errno::EINVAL),
            say(3, Call::Write, Errno::ERANGE),
            say(4, Call::Clone, Errno::ENOSPC),
            say(5, Call::Setgid, Errno::EPERM),
            plan.explain_clone(NamespaceFlags::USER, Errno::EPERM).text,
            plan.explain_clone(NamespaceFlags::USER, Errno::ENOSYS).text,
        ];
        let cut = messages.join("\n").replace(": ", ":\n");
        let cut = cut.replace(", ", ",\n");
        expect![[r#"
            join the pid namespace /p:
            invalid argument (EINVAL):
            it is neither our own pid namespace nor below it
            join the network namespace /n:
            operation not permitted (EPERM):
            no CAP_SYS_ADMIN in the user namespace that owns it
            unshare the time namespace:
            invalid argument (EINVAL):
            the kernel is built without one of them
            write time offsets boottime -9 0:
            numerical result out of range (ERANGE):
            a clock would be negative or too far in the future
            create the user namespace:
            no space left on device (ENOSPC):
            user.max_user_namespaces is reached or 0 (sysctl -w user.max_user_namespaces=15000),
            or another limit in /proc/sys/user/max_*_namespaces,
            or 32 levels
            become root of the user namespace:
            setresgid:
            operation not permitted (EPERM)
            create the user namespace:
            operation not permitted (EPERM):
            user namespaces are switched off (sysctl -w kernel.unprivileged_userns_clone=1,
            kernel.apparmor_restrict_unprivileged_userns=0),
            or this is a chroot
            create the user namespace:
            function not implemented (ENOSYS):
            a seccomp profile refuses clone3(2):
            ask the runtime outside for another (podman,
            docker:
            --security-opt seccomp=unconfined)"#]]
        .assert_eq(&cut);
    }

    /// Every way to ask for the eight kinds.
    fn combinations() -> impl Iterator<Item = Linux> {
        (0..3_usize.pow(8)).map(|number| {
            let mut words = String::new();
            for (place, kind) in (0..).zip(NamespaceKind::ALL) {
                match number / 3_usize.pow(place) % 3 {
                    0 => {}
                    1 => words.push_str(&format!("+{} ", kind.name())),
                    _ => words.push_str(&format!("{0}=/{0} ", kind.name())),
                }
            }
            linux(&words)
        })
    }

    #[test]
    fn laws_of_all_combinations() {
        let (root, user) = (fixture::v2(), fixture::unprivileged());
        let mut refused = 0;
        for linux in combinations() {
            for host in [&root, &user] {
                match plan(&linux, host) {
                    Ok(plan) => check_laws(&linux, host, &plan),
                    Err(_) => refused += usize::from(std::ptr::eq(host, &root)) + 1,
                }
            }
        }
        // Unprivileged without a user namespace: all but "nothing". With a new one: where any of
        // the seven others is joined. With privilege never.
        assert_eq!(refused, (2187 - 1) + (2187 - 128));
    }

    fn check_laws(linux: &Linux, host: &Host, plan: &Plan) {
        let steps: Vec<&Step> = plan.before.iter().chain(&plan.enter).collect();
        let unshared = |step: &&&Step| match step {
            Step::Unshare(flags) => Some(*flags),
            _ => None,
        };
        for kind in NamespaceKind::ALL {
            let configured = &linux.namespaces.of(kind);
            let flag = kind.flag();
            let created = [plan.first_clone, plan.final_clone];
            let new = created
                .into_iter()
                .chain(steps.iter().filter_map(|step| unshared(&step)));
            let new = new.filter(|flags| flags.contains(flag)).count();
            let joins = steps.iter().filter(|step| step.joined() == flag).count();
            let expected = match configured {
                Namespace::Inherit => (0, 0),
                Namespace::New => (1, 0),
                Namespace::Join { .. } => (0, 1),
            };
            assert_eq!((new, joins), expected, "{kind:?} in {plan:?}");
        }
        check_order(linux, host, plan);
        check_clones(linux, plan);
    }

    fn place(steps: &[Step], wanted: impl Fn(&Step) -> bool) -> Option<usize> {
        steps.iter().position(wanted)
    }

    fn check_order(linux: &Linux, host: &Host, plan: &Plan) {
        let capable = host.capabilities != 0;
        let user = |step: &Step| step.joined() == NamespaceFlags::USER;
        for steps in [&plan.before, &plan.enter] {
            let mount = place(steps, |step| step.joined() == NamespaceFlags::MOUNT);
            let other = |step: &Step| {
                !step.joined().is_empty() && !user(step) && step.joined() != NamespaceFlags::MOUNT
            };
            let last = steps.iter().rposition(other);
            assert!(
                mount.is_none() || last < mount,
                "mount is joined last: {plan:?}"
            );
            if let Some(user) = place(steps, user) {
                let joined = |step: &Step| other(step) || step.joined() == NamespaceFlags::MOUNT;
                let (first, last) = (place(steps, joined), steps.iter().rposition(joined));
                let around = if capable {
                    last < Some(user)
                } else {
                    first > Some(user)
                };
                assert!(
                    first.is_none() || around,
                    "the user namespace's turn: {plan:?}"
                );
                let unshare = place(steps, |step| matches!(step, Step::Unshare(_)));
                assert!(unshare.is_none_or(|unshare| unshare > user), "{plan:?}");
            }
        }
        let root = plan
            .before
            .iter()
            .chain(&plan.enter)
            .filter(|step| **step == Step::BecomeRoot);
        let inside = usize::from(linux.namespaces.user != Namespace::Inherit);
        assert_eq!(root.count(), inside, "{plan:?}");
        assert!(
            !plan.enter.iter().any(user),
            "init begins in its user namespace: {plan:?}"
        );
    }

    fn check_clones(linux: &Linux, plan: &Plan) {
        let configured = &linux.namespaces;
        let is = |kind: NamespaceKind, what: fn(&Namespace) -> bool| what(configured.of(kind));
        let new = |one: &Namespace| *one == Namespace::New;
        let join = |one: &Namespace| matches!(one, Namespace::Join { .. });
        let needed = is(NamespaceKind::Pid, join)
            || is(NamespaceKind::User, join)
            || !is(NamespaceKind::Time, |one| *one == Namespace::Inherit)
            || is(NamespaceKind::User, new)
                && NamespaceKind::ALL.into_iter().any(|kind| is(kind, join));
        assert_eq!(plan.intermediate, needed, "{plan:?}");
        assert!(plan.intermediate || plan.before.is_empty() && plan.first_clone.is_empty());
        assert!(NamespaceFlags::USER.contains(plan.first_clone));
        let later = NamespaceFlags::CGROUP | NamespaceFlags::TIME;
        assert!(!plan.final_clone.intersects(later), "{plan:?}");
        let unshares = |steps: &[Step], flag| {
            place(
                steps,
                |step| matches!(step, Step::Unshare(flags) if flags.contains(flag)),
            )
        };
        assert_eq!(
            unshares(&plan.enter, NamespaceFlags::CGROUP).is_some(),
            is(NamespaceKind::Cgroup, new)
        );
        assert_eq!(
            unshares(&plan.before, NamespaceFlags::TIME).is_some(),
            is(NamespaceKind::Time, new)
        );
        assert_eq!(plan.maps.is_some(), is(NamespaceKind::User, new));
        let lo = plan.enter.contains(&Step::Loopback);
        assert_eq!(lo, is(NamespaceKind::Network, new));
    }
}
