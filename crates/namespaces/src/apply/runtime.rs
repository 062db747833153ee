//! What the runtime does: work that needs the host's files or the runtime's privileges over init.

use super::inherited::Inherited;
use super::init::stay_in_user_namespace;
use crate::{Error, How, IdMap, Join, Maps, Plan, Step};
use coracle_bundle::{IdMapping, IdMappings};
use coracle_host::Setgroups;
use coracle_program::{Execution, Failure, Interrupts, Limits, Output};
use coracle_sys::{
    Call, Cause, Cloned, ExitStatus, NamespaceFlags, NamespaceKind, Parentage, ProcFs, StringArray,
};
use coracle_text::io_errno;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_path};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::Pid;
use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// How long a child may take to join a user namespace, in milliseconds.
const JOIN_MS: u32 = 10_000;

/// Opens the namespaces that are joined by path, and checks that each has the configured type.
///
/// # Errors
/// A path that cannot be opened, is not a namespace or is one of another type; configured maps that
/// differ from those of the joined user namespace, or that cannot be compared; a device of
/// `linux.netDevices` that does not exist.
pub fn open(plan: &Plan, interrupts: Option<&Interrupts>) -> Result<Inherited, Error> {
    let offsets = plan
        .before
        .iter()
        .any(|step| matches!(step, Step::TimeOffsets(_)));
    let inherited = Inherited {
        before: open_each(&plan.before, plan, interrupts)?,
        enter: open_each(&plan.enter, plan, interrupts)?,
        procfs: if offsets { Some(procfs()?) } else { None },
    };
    super::devices::check_net_devices(plan)?;
    Ok(inherited)
}

/// What a plan of [`crate::plan_exec`] needs: the pidfd of the container's init, for each step that
/// joins its namespaces.
#[must_use]
pub fn open_exec(plan: &Plan, init: &Rc<OwnedFd>) -> Inherited {
    let held = |step: &Step| matches!(step, Step::JoinProcess(_)).then(|| Rc::clone(init));
    Inherited {
        before: plan.before.iter().map(held).collect(),
        enter: plan.enter.iter().map(held).collect(),
        procfs: None,
    }
}

fn open_each(
    steps: &[Step],
    plan: &Plan,
    interrupts: Option<&Interrupts>,
) -> Result<Vec<Option<Rc<OwnedFd>>>, Error> {
    steps
        .iter()
        .map(|step| match step {
            Step::Join(join) => Ok(open_namespace(join, plan, interrupts)?.map(Rc::new)),
            _ => Ok(None),
        })
        .collect()
}

fn open_namespace(
    join: &Join,
    plan: &Plan,
    interrupts: Option<&Interrupts>,
) -> Result<Option<OwnedFd>, Error> {
    let (index, path) = (join.index, join.path.clone());
    let failed = |errno| Error::OpenNamespace {
        index,
        path: path.clone(),
        errno,
    };
    // Non-blocking, since a FIFO at this path would block the runtime.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let fd = open_path(&path, flags, Mode::empty()).map_err(failed)?;
    match coracle_sys::namespace_type(fd.as_fd()) {
        Ok(found) if found == join.kind.flag() => {}
        Ok(found) => {
            return Err(Error::WrongType {
                index,
                path,
                found,
                wanted: join.kind,
            });
        }
        Err(Errno::ENOTTY) => return Err(Error::NotNamespace { index, path }),
        Err(errno) => return Err(failed(errno)),
    }
    let status = fstat(&fd).map_err(failed)?;
    let is_own = (status.st_dev, status.st_ino) == *plan.own.of(join.kind);
    match join.kind {
        NamespaceKind::Mount if is_own => Err(Error::OwnMountNamespace { index, path }),
        NamespaceKind::User if is_own => Ok(None),
        NamespaceKind::User => {
            if let Some(expected) = &plan.expected_maps {
                check_maps(&fd, expected, interrupts)?;
            }
            Ok(Some(fd))
        }
        _ => Ok(Some(fd)),
    }
}

/// Compares the maps of a joined user namespace with those in the config: containerd and cri-o
/// configure both.
fn check_maps(
    user: &OwnedFd,
    expected: &IdMappings,
    interrupts: Option<&Interrupts>,
) -> Result<(), Error> {
    let [uid, gid] = maps_of(user, interrupts)?;
    for (list, map, expected) in [
        ("uidMappings", uid, &expected.uid),
        ("gidMappings", gid, &expected.gid),
    ] {
        if !expected.is_empty() && parse_map(&map) != Some(merged(expected)) {
            let lines = map
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            return Err(Error::MapDiffers {
                list,
                map: lines.collect::<Vec<_>>().join(", "),
            });
        }
    }
    Ok(())
}

/// Reads the maps of a user namespace. The kernel shows them only for a process, so a short-lived
/// child joins the namespace and its files are read. A process with capabilities in the namespace
/// may stop the child, so that it is not waited for without a limit.
fn maps_of(user: &OwnedFd, interrupts: Option<&Interrupts>) -> Result<[String; 2], Error> {
    let failed = |call: Call| {
        move |errno| Error::ReadMaps {
            cause: Cause::Call(call, errno),
        }
    };
    let procfs = procfs()?;
    let (ours, theirs) = coracle_sys::socket_pair().map_err(failed(Call::Socket))?;
    let clone = coracle_sys::clone3(NamespaceFlags::empty(), None, Parentage::Own);
    let (pid, pidfd) = match clone.map_err(failed(Call::Clone))? {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            drop(ours);
            let errno = stay_in_user_namespace(user, &theirs)
                .err()
                .map_or(0, |errno| errno as i32);
            coracle_sys::exit(errno);
        }
    };
    drop(theirs);
    let answer = match await_answer(ours.as_fd(), interrupts) {
        Ok(()) => coracle_sys::receive(ours.as_fd(), &mut [0; 2]),
        Err(errno) => Err(errno),
    };
    let maps = match answer {
        Ok((2, _)) => Some(
            read_map(&procfs, pid, "uid_map")
                .and_then(|uid| Ok([uid, read_map(&procfs, pid, "gid_map")?])),
        ),
        // The child ended before it sent anything.
        Ok(_) => None,
        Err(errno) => Some(Err(errno)),
    };
    if maps.is_some() {
        // Stopped, it would not end by itself.
        coracle_sys::pidfd_send_signal(pidfd.as_fd(), nix::libc::SIGKILL)
            .map_err(failed(Call::Kill))?;
    }
    let status = coracle_sys::wait_exit(pidfd.as_fd()).map_err(failed(Call::Wait))?;
    match (maps, status) {
        (Some(maps), _) => maps.map_err(failed(Call::Read)),
        // Its exit status is the errno.
        (None, ExitStatus::Code(code)) => Err(failed(Call::Setns)(Errno::from_raw(code))),
        (None, killed) => Err(Error::ReadMaps {
            cause: Cause::Exit(killed),
        }),
    }
}

/// Waits until the socket is readable: `ETIMEDOUT` if it is not, `EINTR` if a signal came before.
fn await_answer(socket: BorrowedFd<'_>, interrupts: Option<&Interrupts>) -> nix::Result<()> {
    let _wait = coracle_sys::wait_for("a process in the user namespace that is joined");
    let signals = interrupts.map_or(socket, AsFd::as_fd);
    match coracle_sys::poll_readable(&[socket, signals], Some(JOIN_MS))? {
        0 => Err(Errno::ETIMEDOUT),
        ready if ready & 0b1 == 0 => Err(Errno::EINTR),
        _ => Ok(()),
    }
}

fn read_map(procfs: &ProcFs, pid: Pid, name: &str) -> nix::Result<String> {
    let path = ProcFs::path_of(pid, name);
    let file = procfs.open(&path, OFlag::O_RDONLY)?;
    let mut text = String::new();
    let read = std::fs::File::from(file).read_to_string(&mut text);
    read.map_err(|error| io_errno(&error))?;
    Ok(text)
}

fn parse_map(text: &str) -> Option<Vec<(u64, u64, u64)>> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
        lines.push((numbers.next()??, numbers.next()??, numbers.next()??));
    }
    Some(merge(lines))
}

fn merged(mappings: &[IdMapping]) -> Vec<(u64, u64, u64)> {
    let line = |one: &IdMapping| (one.container_id.into(), one.host_id.into(), one.size.into());
    merge(mappings.iter().map(line).collect())
}

/// Sorts by container id and joins adjacent ranges, so that equivalent maps compare equal.
fn merge(mut lines: Vec<(u64, u64, u64)>) -> Vec<(u64, u64, u64)> {
    lines.sort_unstable();
    let mut merged: Vec<(u64, u64, u64)> = Vec::new();
    for (container, host, size) in lines {
        match merged.last_mut() {
            Some(last) if last.0 + last.2 == container && last.1 + last.2 == host => last.2 += size,
            _ => merged.push((container, host, size)),
        }
    }
    merged
}

/// Writes the id maps of a new user namespace for its first process: the intermediate if
/// `plan.first_clone` has `USER`, init if `plan.final_clone` has it. Without maps in the plan,
/// nothing is written.
///
/// # Errors
/// The kernel or a helper refused a map, or a signal to the runtime killed the helper.
pub fn map_ids(plan: &Plan, pid: Pid, interrupts: Option<&Interrupts>) -> Result<(), Error> {
    let Some(Maps {
        uid,
        gid,
        setgroups,
    }) = &plan.maps
    else {
        return Ok(());
    };
    let procfs = procfs()?;
    if *setgroups == Setgroups::Denied {
        write_map(&procfs, pid, "setgroups", b"deny")?;
    }
    for (file, map) in [("gid_map", gid), ("uid_map", uid)] {
        let IdMap { lines, how } = map;
        match how {
            How::Direct => write_map(&procfs, pid, file, lines.as_bytes())?,
            How::Helper {
                program,
                arguments,
                hint,
            } => run_helper((program, hint), pid, arguments, interrupts)?,
        }
    }
    Ok(())
}

fn write_map(procfs: &ProcFs, pid: Pid, file: &'static str, data: &[u8]) -> Result<(), Error> {
    let failed = |errno| {
        let hint = match errno {
            Errno::EPERM => {
                ": a host id is not mapped in the runtime's own user namespace, or is its root \
                 and CAP_SETFCAP is missing"
            }
            _ => "",
        };
        Error::WriteMap {
            pid: pid.as_raw(),
            file,
            errno,
            hint,
        }
    };
    let path = ProcFs::path_of(pid, file);
    procfs
        .write(&path, data)
        .map_err(|(_, errno)| failed(errno))
}

/// Runs newuidmap or newgidmap. They have privileges (set-uid or file capabilities), so they get
/// nothing of the caller's environment.
fn run_helper(
    (program, hint): (&Path, &str),
    pid: Pid,
    arguments: &[String],
    interrupts: Option<&Interrupts>,
) -> Result<(), Error> {
    let mut outputs = Vec::new();
    let ended = execute((program, pid, arguments), &mut outputs, interrupts);
    ended.map_err(|failure| Error::Helper {
        program: program.to_owned(),
        failure,
        output: outputs.first().map(Output::text).unwrap_or_default(),
        hint: hint.to_owned(),
    })
}

fn execute(
    (program, pid, arguments): (&Path, Pid, &[String]),
    outputs: &mut Vec<Output>,
    interrupts: Option<&Interrupts>,
) -> Result<(), Failure> {
    let failed = |(call, errno)| Failure::Call(call, errno);
    let limits = Limits {
        interrupts,
        ..Limits::default()
    };
    limits.check()?;
    // Neither a path of the host nor a number contains a NUL.
    let text = |bytes: &[u8]| CString::new(bytes).unwrap_or_default();
    let path = text(program.as_os_str().as_bytes());
    let numbers = arguments.iter().map(|number| text(number.as_bytes()));
    let pid = text(pid.to_string().as_bytes());
    let list = [path.clone(), pid].into_iter().chain(numbers).collect();
    let stdin = coracle_program::empty_input(c"nothing").map_err(failed)?;
    let (output, writer) = Output::pipe().map_err(|errno| failed((Call::Open, errno)))?;
    outputs.push(output);
    let helper = coracle_program::start(&Execution {
        path: &path,
        arguments: &StringArray::new(list),
        environment: &StringArray::new(Vec::new()),
        added: None,
        stdin: stdin.as_fd(),
        stdout: Some(writer.as_fd()),
        stderr: Some(writer.as_fd()),
        parent_death_signal: None,
    });
    let helper = helper.map_err(failed)?;
    drop(writer);
    coracle_program::wait(&helper, outputs, &limits)
}

fn procfs() -> Result<ProcFs, Error> {
    ProcFs::private().map_err(|errno| Error::Procfs { errno })
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_bundle::{Linux, Namespace};
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn check(path: &str, expected: Expect) {
        let mut linux = Linux::default();
        linux.namespaces.ipc = Namespace::Join {
            path: path.into(),
            index: 2,
        };
        let plan = crate::plan(&linux, &coracle_host::fixture::v2()).expect("a plan");
        expected.assert_eq(&match open(&plan, None) {
            Ok(inherited) => format!("{} open", inherited.enter.iter().flatten().count()),
            // Cut into lines that fit.
            Err(error) => error.to_string().replace(": ", ":\n"),
        });
    }

    #[test]
    fn paths_are_looked_at() {
        check("/proc/self/ns/ipc", expect!["1 open"]);
        check(
            "/proc/self/ns/uts",
            expect![[r#"
            linux.namespaces[2].path:
            /proc/self/ns/uts is a uts namespace, not ipc"#]],
        );
        check(
            "/proc/self/ns/none",
            expect![[r#"
            linux.namespaces[2].path:
            /proc/self/ns/none:
            not found (ENOENT)"#]],
        );
        check(
            "/etc/passwd",
            expect![[r#"
            linux.namespaces[2].path:
            /etc/passwd is not a namespace"#]],
        );
        check(
            "/dev/null",
            expect![[r#"
            linux.namespaces[2].path:
            /dev/null is not a namespace"#]],
        );
    }

    #[test]
    fn our_own_user_namespace_is_not_entered() {
        let mut linux = Linux::default();
        let path = "/proc/self/ns/user";
        linux.namespaces.user = Namespace::Join {
            path: path.into(),
            index: 0,
        };
        let mut host = coracle_host::fixture::v2();
        let status = nix::sys::stat::stat(path).expect("a namespace");
        host.namespaces.user = (status.st_dev, status.st_ino);
        let plan = crate::plan(&linux, &host).expect("a plan");
        let inherited = open(&plan, None).expect("inherited");
        assert!(inherited.before.iter().all(Option::is_none));
    }

    /// Its root would become the container's for every process of the host.
    #[test]
    fn our_own_mount_namespace_is_refused() {
        let mut linux = Linux::default();
        let path = "/proc/self/ns/mnt";
        linux.namespaces.mount = Namespace::Join {
            path: path.into(),
            index: 3,
        };
        let mut host = coracle_host::fixture::v2();
        let status = nix::sys::stat::stat(path).expect("a namespace");
        host.namespaces.mount = (status.st_dev, status.st_ino);
        let plan = crate::plan(&linux, &host).expect("a plan");
        let error = open(&plan, None).expect_err("a refusal");
        let text = error.to_string().replace("; ", ";\n");
        expect![[r#"
            linux.namespaces[3].path: /proc/self/ns/mnt is the runtime's own mount namespace;
            leave the path out for a new one"#]]
        .assert_eq(&text);
    }

    #[test]
    fn helpers_speak_through_the_error() {
        let check = |program: &str, expected: Expect| {
            let helper = (Path::new(program), "");
            let error = run_helper(helper, Pid::from_raw(7), &["0".into()], None);
            let text = error.expect_err("a failure").to_string();
            // Cut into lines that fit.
            expected.assert_eq(&text.replace(": ", ":\n"));
        };
        check(
            "/bin/false",
            expect![[r#"
            /bin/false:
            exit status 1"#]],
        );
        check(
            "/nonexistent/newuidmap",
            expect![[r#"
            /nonexistent/newuidmap:
            not found (ENOENT)"#]],
        );
        // Neither "7" nor "0" is a file here.
        check(
            "/bin/cat",
            expect![[r#"
            /bin/cat:
            exit status 1:
            /bin/cat:
            7:
            No such file or directory\n/bin/cat:
            0:
            No such file or directory"#]],
        );
    }

    #[test]
    fn procfs_text_of_a_map() {
        let text = "         0     100000          5\n         5     100005      65531\n";
        assert_eq!(parse_map(text), Some(vec![(0, 100_000, 65_536)]));
        assert_eq!(parse_map("0 1\n"), None);
        assert_eq!(NamespaceKind::User.name(), "user");
    }

    proptest! {
        #[test]
        fn cutting_a_map_into_pieces_changes_nothing(
            first in 0..1000_u32,
            host in 0..1000_u32,
            sizes in proptest::collection::vec(1..50_u32, 1..9),
        ) {
            let mut pieces = Vec::new();
            let mut sum = 0;
            for size in sizes {
                pieces.push(IdMapping { container_id: first + sum, host_id: host + sum, size });
                sum += size;
            }
            pieces.reverse();
            prop_assert_eq!(merged(&pieces), vec![(first.into(), host.into(), sum.into())]);
        }
    }
}
