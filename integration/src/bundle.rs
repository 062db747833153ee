//! Bundles: a folder with a root filesystem of busybox and a `config.json` to edit.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::folder::set_mode;
use crate::programs::{copy_program, write_program};
use crate::skip;

/// A bundle. Its config is a plain value; the functions are short forms of frequent edits.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The bundle's folder.
    pub dir: PathBuf,
    /// The content of `config.json`.
    pub config: Value,
}

impl Bundle {
    /// Makes one in an empty folder: busybox, the namespaces and mounts that engines ask for, and
    /// `true` to run.
    pub(crate) fn new(dir: PathBuf) -> Self {
        let bundle = Self {
            dir,
            config: default_config(),
        };
        fill_rootfs(&bundle.rootfs());
        bundle
    }

    /// The root filesystem's folder.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// A path below the root filesystem, as the host sees it.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.rootfs().join(inside.trim_start_matches('/'))
    }

    /// Sets the arguments.
    pub fn args<const N: usize>(self, args: [&str; N]) -> Self {
        self.set("/process/args", json!(args.as_slice()))
    }

    /// Runs a script by busybox's shell.
    pub fn shell(self, script: &str) -> Self {
        self.args(["/bin/sh", "-c", script])
    }

    /// Sets a value by its JSON pointer; objects on the way are made.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        *slot(&mut self.config, pointer) = value;
        self
    }

    /// Appends to an array, which is made if it is absent.
    pub fn push(mut self, pointer: &str, value: Value) -> Self {
        let place = slot(&mut self.config, pointer);
        if place.is_null() {
            *place = json!([]);
        }
        place.as_array_mut().expect("an array").push(value);
        self
    }

    /// Removes a property.
    pub fn remove(mut self, pointer: &str) -> Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a JSON pointer");
        if let Some(object) = slot(&mut self.config, parent).as_object_mut() {
            object.remove(name);
        }
        self
    }

    /// Adds a mount.
    pub fn mount<const N: usize>(self, to: &str, kind: &str, from: &str, how: [&str; N]) -> Self {
        let how = how.as_slice();
        self.push(
            "/mounts",
            json!({"destination": to, "type": kind, "source": from, "options": how}),
        )
    }

    /// Adds a bind mount.
    pub fn bind<const N: usize>(self, from: impl AsRef<Path>, to: &str, how: [&str; N]) -> Self {
        let from = from.as_ref().to_str().expect("a UTF-8 path").to_owned();
        let mut options = vec!["bind"];
        options.extend(how);
        self.push(
            "/mounts",
            json!({"destination": to, "type": "bind", "source": from, "options": options}),
        )
    }

    /// Takes a namespace out of the list.
    pub fn without_namespace(mut self, kind: &str) -> Self {
        if let Some(list) = slot(&mut self.config, "/linux/namespaces").as_array_mut() {
            list.retain(|entry| entry["type"] != kind);
        }
        self
    }

    /// Has this namespace made new.
    pub fn new_namespace(self, kind: &str) -> Self {
        self.without_namespace(kind)
            .push("/linux/namespaces", json!({"type": kind}))
    }

    /// Joins a namespace by path.
    pub fn join_namespace(self, kind: &str, path: &str) -> Self {
        let entry = json!({"type": kind, "path": path});
        self.without_namespace(kind)
            .push("/linux/namespaces", entry)
    }

    /// Takes a mount out of the list.
    pub fn without_mount(mut self, destination: &str) -> Self {
        if let Some(list) = slot(&mut self.config, "/mounts").as_array_mut() {
            list.retain(|entry| entry["destination"] != destination);
        }
        self
    }

    /// Leaves `/dev` to the image.
    pub fn without_dev(self) -> Self {
        let points = ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"];
        points.into_iter().fold(self, Self::without_mount)
    }

    /// Gives the process exactly these capabilities, in the bounding, effective and permitted sets.
    pub fn capabilities<const N: usize>(self, names: [&str; N]) -> Self {
        let names = json!(names.as_slice());
        let sets = json!({"bounding": names, "effective": names, "permitted": names});
        self.set("/process/capabilities", sets)
    }

    /// Runs the process as this user and group.
    pub fn user(self, uid: u32, gid: u32) -> Self {
        self.set("/process/user", json!({"uid": uid, "gid": gid}))
    }

    /// A new user namespace: container ids from 0 to 65535 are the host's from 100000 on. The root
    /// filesystem, as it is now, is given to its root.
    pub fn user_namespace(self) -> Self {
        // Engines give the root filesystem to the mapped root: he has to make mount points in it.
        crate::Command::new("chown")
            .args(["-hR", "100000:100000"])
            .arg(self.rootfs())
            .output()
            .ok();
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        self.new_namespace("user")
            .set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map)
    }

    /// Adds a hook.
    pub fn hook(self, point: &str, hook: Value) -> Self {
        self.push(&format!("/hooks/{point}"), hook)
    }

    /// Writes a file into the root filesystem.
    pub fn file(self, inside: &str, text: &str) -> Self {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, text).expect("a file");
        self
    }

    /// Makes an executable shell script in the root filesystem.
    pub fn script(self, inside: &str, text: &str) -> Self {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        write_program(&path, format!("#!/bin/sh\n{text}\n"));
        self
    }

    /// Makes a folder in the root filesystem.
    pub fn folder(self, inside: &str) -> Self {
        fs::create_dir_all(self.path(inside)).expect("a folder");
        self
    }

    /// Makes a symbolic link in the root filesystem, in place of whatever is there.
    pub fn link(self, inside: &str, target: impl AsRef<Path>) -> Self {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).expect("remove a folder");
        } else {
            let _ = fs::remove_file(&path);
        }
        symlink(target, &path).expect("a symbolic link");
        self
    }

    /// Uses a Debian root filesystem instead of busybox's, read-only: it is shared by all tests.
    pub fn debian(self) -> Self {
        let root = debian_rootfs();
        self.set("/root", json!({"path": root, "readonly": true}))
    }

    /// Writes `config.json`.
    pub fn write(&self) -> &Self {
        let text = serde_json::to_string_pretty(&self.config).expect("JSON");
        let path = self.dir.join("config.json");
        // A second container of the same bundle may be reading the file at this moment.
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return self;
        }
        fs::write(path, text).expect("config.json");
        self
    }
}

/// The place that a JSON pointer names; objects on the way are made.
fn slot<'a>(config: &'a mut Value, pointer: &str) -> &'a mut Value {
    let mut place = config;
    for part in pointer.split('/').skip(1) {
        let name = part.replace("~1", "/").replace("~0", "~");
        place = match (place.is_array(), name.parse::<usize>()) {
            (true, Ok(index)) => &mut place[index],
            _ => &mut place[name],
        };
    }
    place
}

fn default_config() -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/local/bin:/usr/bin:/bin:/sbin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "hostname": "coracle",
        "mounts": default_mounts(),
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn default_mounts() -> Value {
    let mount = |to: &str, kind: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": kind, "options": options});
    json!([
        mount("/proc", "proc", &[]),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"]
        ),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620"
            ]
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]
        ),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ])
}

/// Fills a folder with busybox and what a root filesystem needs besides. Each bundle gets a fresh
/// copy (some three milliseconds): tests may spoil theirs.
pub fn fill_rootfs(root: &Path) {
    for folder in [
        "bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "usr/bin", "var",
    ] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    fs::create_dir_all(root.join("tmp")).expect("a folder");
    set_mode(&root.join("tmp"), 0o1777);
    copy_program(Path::new("/bin/busybox"), &root.join("bin/busybox"));
    for applet in applets() {
        symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    fs::write(root.join("etc/passwd"), passwd).expect("passwd");
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").expect("group");
}

fn applets() -> &'static [String] {
    static APPLETS: OnceLock<Vec<String>> = OnceLock::new();
    APPLETS.get_or_init(|| {
        let list = crate::Command::new("/bin/busybox")
            .arg("--list")
            .output()
            .ok();
        list.stdout
            .lines()
            .filter(|name| *name != "busybox")
            .map(str::to_owned)
            .collect()
    })
}

/// Made once by mmdebstrap and kept beside the build; `CORACLE_TEST_DEBIAN` names another.
fn debian_rootfs() -> PathBuf {
    static ROOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = ROOT.get_or_init(|| {
        if let Some(path) = std::env::var_os("CORACLE_TEST_DEBIAN") {
            return Ok(path.into());
        }
        let root = crate::runtime::build_folder().join("debian-rootfs");
        if root.join("bin/sh").exists() {
            return Ok(root);
        }
        if !Path::new("/usr/bin/mmdebstrap").exists() {
            return Err("no Debian root filesystem: mmdebstrap is not installed".to_owned());
        }
        let half = root.with_extension(std::process::id().to_string());
        let command = crate::Command::new("mmdebstrap").args(["--quiet", "--variant=minbase"]);
        let made = command
            .args(["--skip=output/dev", "bookworm"])
            .arg(&half)
            .limit(280)
            .output();
        match made.code {
            0 => fs::rename(&half, &root)
                .map(|()| root)
                .map_err(|error| error.to_string()),
            _ => Err(format!(
                "no Debian root filesystem: mmdebstrap: {}",
                made.stderr.trim()
            )),
        }
    });
    made.clone().unwrap_or_else(|reason| skip!("{reason}"))
}
