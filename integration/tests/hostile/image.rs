//! The images: a name below the root, and what stands there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use coracle_integration::{Bundle, Command, Folder, Runtime, json};

/// The kind of file at the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    AbsoluteLinkOut,
    RelativeLinkOut,
    DanglingLink,
    Loop,
    MagicLink,
    File,
    Directory,
    Fifo,
    Socket,
    WrongNode,
    Mode0000,
    Immutable,
    OtherFileSystem,
    MountOver,
}

const KINDS: [Kind; 14] = [
    Kind::AbsoluteLinkOut,
    Kind::RelativeLinkOut,
    Kind::DanglingLink,
    Kind::Loop,
    Kind::MagicLink,
    Kind::File,
    Kind::Directory,
    Kind::Fifo,
    Kind::Socket,
    Kind::WrongNode,
    Kind::Mode0000,
    Kind::Immutable,
    Kind::OtherFileSystem,
    Kind::MountOver,
];

/// The configuration that the image meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As engines write it.
    Engine,
    /// With a user namespace.
    UserNamespace,
    /// With a read-only root.
    ReadOnly,
    /// With the root moved, not pivoted.
    NoPivot,
    /// Without a mount on /dev: devices are made in the image's own.
    OwnDev,
    /// The same with a user namespace.
    OwnDevUserNamespace,
}

const SHAPES: [Shape; 6] = [
    Shape::Engine,
    Shape::UserNamespace,
    Shape::ReadOnly,
    Shape::NoPivot,
    Shape::OwnDev,
    Shape::OwnDevUserNamespace,
];

impl Shape {
    /// Options of `run`.
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Self::NoPivot => &["--no-pivot"],
            _ => &[],
        }
    }

    /// The bundle with the shape's user namespace, whose ids come to own the image as it is now.
    pub(crate) fn users(self, bundle: Bundle) -> Bundle {
        match self {
            Self::UserNamespace | Self::OwnDevUserNamespace => bundle.user_namespace(),
            _ => bundle,
        }
    }
}

/// The paths of the image that the runtime uses, for every shape.
const NAMES: [&str; 24] = [
    "/proc",
    "/sys",
    "/dev",
    "/etc",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/shadow",
    "/volume",
    "/volume/deep",
    "/volume/deep/er",
    "/new",
    "/new/file",
    "/run",
    "/run/secrets",
    "/copied",
    "/copied/up",
    "/var",
    "/var/secret",
    "/usr/ro",
    "/home",
    "/home/user",
    "/bin",
    "/bin/sh",
    "/tmp",
];

/// And where /dev is the image's.
const IN_DEV: [&str; 20] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/pts/ptmx",
    "/dev/shm",
    "/dev/mqueue",
    "/dev/fd",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/stderr",
    "/dev/core",
    "/dev/net",
    "/dev/net/tun",
    "/dev/fuse",
    "/dev/console",
];

/// One image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    shape: Shape,
    path: &'static str,
    kind: Kind,
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in SHAPES {
        let own_dev = matches!(shape, Shape::OwnDev | Shape::OwnDevUserNamespace);
        let in_dev = IN_DEV.iter().filter(|_| own_dev);
        for path in NAMES.iter().chain(in_dev) {
            cases.extend(KINDS.map(|kind| Case { shape, path, kind }));
        }
    }
    cases
}

impl Case {
    /// `OwnDev:/dev/null:Fifo`
    pub(crate) fn name(&self) -> String {
        format!("{:?}:{}:{:?}", self.shape, self.path, self.kind)
    }

    /// Whether the program itself is hidden by the image.
    pub(crate) fn hides_program(&self) -> bool {
        self.path.starts_with("/bin") || self.kind == Kind::Loop
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// The bundle with its hostile image; the folder outside is where links lead.
    pub(crate) fn bundle(&self, runtime: &Runtime, outside: &Folder) -> Bundle {
        let bundle = shaped(self.shape, runtime.bundle(), outside);
        let path = bundle.path(self.path);
        clear(&path);
        place(self.kind, &path, self.path, outside);
        let bundle = self.shape.users(bundle);
        if self.kind == Kind::Immutable {
            let chattr = Command::new("chattr").arg("+i").arg(&path);
            let _ = chattr.output();
        }
        bundle
    }

    /// Undoes what keeps the bundle from being removed.
    pub(crate) fn release(&self, bundle: &Bundle) {
        let path = bundle.path(self.path);
        match self.kind {
            Kind::Immutable => drop(Command::new("chattr").arg("-i").arg(&path).output()),
            Kind::OtherFileSystem | Kind::MountOver => {
                drop(Command::new("umount").arg("-l").arg(&path).output());
            }
            _ => {}
        }
    }
}

/// The bundle of a shape: every kind of thing that the runtime does below the root.
pub(crate) fn shaped(shape: Shape, bundle: Bundle, outside: &Folder) -> Bundle {
    let bundle = bundle
        .shell(PROGRAM)
        .file("/etc/shadow", "SECRET")
        .file("/var/secret/file", "SECRET")
        .file("/copied/up/file", "copied")
        .folder("/usr/ro")
        .folder("/home/user")
        .set("/process/cwd", json!("/home/user"))
        .push("/linux/maskedPaths", json!("/etc/shadow"))
        .push("/linux/maskedPaths", json!("/var/secret"))
        .push("/linux/readonlyPaths", json!("/usr/ro"))
        .bind(outside.join("source/file"), "/etc/hosts", ["ro"])
        .bind(outside.join("source/file"), "/etc/resolv.conf", ["rw"])
        .bind(outside.join("source/file"), "/new/file", ["ro"])
        .bind(outside.join("source/folder"), "/volume/deep/er", ["rw"])
        .mount("/run/secrets", "tmpfs", "tmpfs", ["nosuid"])
        .mount("/copied", "tmpfs", "tmpfs", ["tmpcopyup", "mode=755"]);
    match shape {
        Shape::ReadOnly => bundle.set("/root/readonly", json!(true)),
        Shape::OwnDev | Shape::OwnDevUserNamespace => own_dev(bundle),
        _ => bundle,
    }
}

/// Makes this kind of thing at a path, whose name in the container a loop leads to.
pub(crate) fn place(kind: Kind, path: &Path, name: &str, outside: &Folder) {
    let target = outside.join("target");
    let up = "../".repeat(30);
    let link = |text: &str| symlink(text, path).expect("a link");
    let down = target.display();
    match kind {
        Kind::AbsoluteLinkOut => link(&down.to_string()),
        Kind::RelativeLinkOut => link(&format!("{up}{down}")),
        Kind::DanglingLink => link(&outside.join("new").display().to_string()),
        Kind::Loop => link(name),
        Kind::MagicLink => link(&format!("/proc/self/root/{up}{down}")),
        Kind::File => fs::write(path, "").expect("a file"),
        Kind::Directory => fs::create_dir(path).expect("a folder"),
        Kind::Fifo => made("mkfifo", &[], path),
        Kind::Socket => drop(UnixListener::bind(path).expect("a socket")),
        // A number that no driver has.
        Kind::WrongNode => made("mknod", &["c", "250", "77"], path),
        Kind::Mode0000 | Kind::Immutable => {
            fs::create_dir(path).expect("a folder");
            let mode = if kind == Kind::Mode0000 { 0 } else { 0o755 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        }
        Kind::OtherFileSystem => {
            fs::create_dir(path).expect("a folder");
            let options = ["-t", "tmpfs", "-o", "size=64k", "hostile"];
            Command::new("mount").args(options).arg(path).output().ok();
        }
        Kind::MountOver => {
            fs::write(path, "").expect("a file");
            let options = ["--bind", "/dev/null"];
            Command::new("mount").args(options).arg(path).output().ok();
        }
    }
}

/// Looks at what a container may rely on, and prints what it must not see.
const PROGRAM: &str = "[ \"$(/bin/busybox stat -f -c %t /proc)\" = 9fa0 ] || echo no procfs
    /bin/busybox cat /etc/shadow /var/secret/file 2>/dev/null
    echo x 2>/dev/null >/etc/hosts; echo x 2>/dev/null >/usr/ro/x && echo written
    echo done";

fn own_dev(bundle: Bundle) -> Bundle {
    let device = |path: &str, minor: u32| json!({"path": path, "type": "c", "major": 10, "minor": minor, "fileMode": 438});
    bundle
        .without_mount("/dev")
        .push("/linux/devices", device("/dev/net/tun", 200))
        .push("/linux/devices", device("/dev/fuse", 229))
}

fn made(program: &str, after: &[&str], path: &Path) {
    Command::new(program).arg(path).args(after).output().ok();
}

/// Removes what the image has at the name, and makes the folders above.
fn clear(path: &Path) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir_all(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
}
