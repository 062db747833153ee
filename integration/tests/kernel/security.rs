//! Faults that runtimes had, each by its name, and each with a benign twin: a refusal proves
//! nothing where the ordinary case fails as well. Images, volumes and processes are hostile here.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use coracle_integration::runner::times;
use coracle_integration::terminal::Terminal;
use coracle_integration::{
    Bundle, Child, Container, HostMount, Output, Runtime, Value, groups, json, needs, wait_until,
    wait_until_within,
};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// A folder of the host that nobody may touch.
struct Outside {
    path: PathBuf,
    time: (i64, i64),
}

impl Outside {
    fn new(runtime: &Runtime) -> Self {
        let path = runtime.folder().folder("outside");
        fs::write(path.join("marker"), "host\n").unwrap();
        let data = fs::metadata(&path).unwrap();
        let time = (data.mtime(), data.mtime_nsec());
        Self { path, time }
    }

    /// Paths by which a link of the image may lead to it.
    fn spellings(&self) -> [PathBuf; 2] {
        let below = self.path.strip_prefix("/").unwrap();
        let climbing = Path::new("../../../../../../../../../../..").join(below);
        [self.path.clone(), climbing]
    }

    #[track_caller]
    fn is_untouched(&self) {
        let names = fs::read_dir(&self.path).unwrap().flatten();
        let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["marker"]);
        let marker = self.path.join("marker");
        assert_eq!(fs::read_to_string(&marker).unwrap(), "host\n");
        assert_eq!(fs::metadata(marker).unwrap().mode() & 0o7777, 0o644);
        let data = fs::metadata(&self.path).unwrap();
        assert_eq!((data.mtime(), data.mtime_nsec()), self.time);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.path.to_str().unwrap()), "{mounts}");
    }
}

/// Asserts that the command worked within the root, or was refused in one line.
#[track_caller]
fn contained(output: Output) -> Output {
    match output.code {
        0 => output,
        _ => output.fails([]),
    }
}

/// The host's null device, for both directions.
fn null_device() -> fs::File {
    let mut options = fs::File::options();
    options.read(true).write(true).open("/dev/null").unwrap()
}

/// Exchanges two names as fast as it can until it is dropped.
struct Exchange {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Exchange {
    fn new(one: PathBuf, other: PathBuf) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let how = RenameFlags::RENAME_EXCHANGE;
                renameat2(AT_FDCWD, &one, AT_FDCWD, &other, how).expect("renameat2");
            }
        });
        let thread = Some(thread);
        Self { is_over, thread }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Adds the host's perl, which can do any system call.
fn with_perl(bundle: Bundle) -> Bundle {
    needs::program("perl");
    let mut bundle = bundle.bind("/usr", "/usr", ["ro"]);
    for name in ["lib", "lib64"] {
        let link = fs::read_link(format!("/{name}"));
        let target = link.unwrap_or_else(|_| coracle_integration::skip!("needs a merged /usr"));
        bundle = bundle.link(&format!("/{name}"), target);
    }
    bundle.set("/process/env", json!(["PATH=/bin:/usr/bin"]))
}

const ALL_POWERFUL: [&str; 8] = [
    "CAP_SYS_ADMIN",
    "CAP_SYS_PTRACE",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_SYS_CHROOT",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_MKNOD",
];

#[test]
fn cve_2015_1335_mount_targets_stay_in_the_root() {
    let runtime = Runtime::new();
    let outside = Outside::new(&runtime);
    let file = runtime.folder().file("file", "text");
    for link in outside.spellings() {
        for to in ["/l", "/l/new/deep", "/l/../l/x"] {
            let bundle = runtime.bundle().link("/l", &link);
            contained(runtime.run(&bundle.mount(to, "tmpfs", "tmpfs", [])));
            let bundle = runtime.bundle().link("/l", &link);
            contained(runtime.run(&bundle.bind(&file, &format!("{to}/file"), [])));
            outside.is_untouched();
        }
        let bundle = runtime.bundle().link("/l", link.join("marker"));
        contained(runtime.run(&bundle.bind(&file, "/l", [])));
        outside.is_untouched();
    }
    let bundle = runtime.bundle().folder("/l").bind(&file, "/l/new/file", []);
    assert_eq!(
        runtime
            .run(&bundle.args(["cat", "/l/new/file"]))
            .ok()
            .line(),
        "text"
    );
}

#[test]
fn cve_2016_3697_user_names_are_no_ids() {
    let runtime = Runtime::new();
    let passwd = "1000:x:0:0::/root:/bin/sh\nroot:x:0:0::/root:/bin/sh\n";
    let bundle = runtime.bundle().file("/etc/passwd", passwd);
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    let output = container.exec_with(["--user", "1000"], ["id", "-u"]).ok();
    assert_eq!(output.line(), "1000");
    container
        .exec_with(["--user", "root"], ["id"])
        .fails_as(255, []);
}

/// Runs a process in a container that searches what `/proc` shows of other processes for the host's
/// file system, while many processes join. Returns what it found.
fn watch_who_enters(capabilities: &[&str]) -> String {
    let runtime = Runtime::new();
    let marker = runtime.folder().file("marker", "host");
    let up = "../../../../../../../../../../..";
    let script = format!(
        "echo ready
        while [ ! -e /tmp/end ]; do for p in /proc/[0-9]*; do
            [ $p = /proc/1 ] && continue
            echo ${{p#/proc/}} >>/tmp/seen
            [ -e $p/root{marker} ] && echo LEAK $p root
            [ -e $p/cwd/{up}{marker} ] && echo LEAK $p cwd
            for f in $p/fd/*; do [ -e $f/{up}{marker} ] && echo LEAK $f; done
        done; done; echo over",
        marker = marker.display()
    );
    let names = json!(capabilities);
    let sets = json!({"bounding": names, "effective": names, "permitted": names});
    let bundle = runtime.bundle().set("/process/capabilities", sets);
    let bundle = bundle.shell(&script);
    let container = runtime.start(&bundle);
    container.wait_for("ready");
    for _ in 0..times(60, 300) {
        container.exec(["true"]).ok();
    }
    // Written by the host: a process that joined for it would be killed with the container.
    fs::write(bundle.path("/tmp/end"), "").unwrap();
    container.wait_for("over");
    let seen = fs::read_to_string(bundle.path("/tmp/seen")).unwrap_or_default();
    assert!(!seen.is_empty(), "the watcher saw nobody");
    let stdout = container.stdout();
    let what = |line: &str| line.rsplit_once("/proc/").map(|(_, what)| what.to_owned());
    let leaks: BTreeSet<String> = stdout.lines().filter_map(what).collect();
    leaks.into_iter().take(20).collect::<Vec<_>>().join(", ")
}

#[test]
fn cve_2016_9962_who_enters_shows_nothing_of_the_host() {
    assert_eq!(watch_who_enters(&["CAP_KILL"]), "");
}

#[test]
fn cve_2016_9962_nor_to_a_tracer() {
    assert_eq!(watch_who_enters(&ALL_POWERFUL), "");
}

/// The process that joined must hold no descriptor of a procfs that the container has not.
#[test]
fn cve_2016_8649_no_procfs_stays_open() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let links = "for f in /proc/$$/fd/*; do readlink $f; done | grep ^/proc; true";
    assert_eq!(container.shell(links).ok().stdout, "");
    let created = runtime.create(&runtime.bundle());
    for entry in fs::read_dir(format!("/proc/{}/fd", created.pid()))
        .unwrap()
        .flatten()
    {
        let target = fs::metadata(entry.path()).unwrap();
        assert!(!target.is_dir(), "{:?}", fs::read_link(entry.path()));
    }
}

#[test]
fn cve_2017_5226_the_callers_terminal_is_out_of_reach() {
    let runtime = Runtime::new();
    let bundle = with_perl(runtime.bundle());
    let push = r#"$c = "x"; print ioctl(STDIN, 0x5412, $c) ? "pushed" : "no\n""#;
    let script = format!("(: </dev/tty) 2>/dev/null || echo closed; perl -e '{push}'");
    let bundle = bundle.shell(&format!("cut -d' ' -f6,7 /proc/$$/stat; {script}"));
    let run = |bundle: &Bundle| runtime.with_bundle("run", bundle).arg(runtime.id());
    let terminal = Terminal::new();
    // The caller has the terminal as his own, and hands it on as plain standard input.
    let command = run(&bundle)
        .under("setsid", ["--ctty"])
        .stdin(terminal.slave());
    let output = command.output().ok();
    assert_eq!(output.stdout, "1 0\nclosed\nno\n", "{output}");
    let twin = bundle
        .set("/process/terminal", json!(true))
        .shell(": </dev/tty && echo open");
    let mut terminal = Terminal::new();
    let running = terminal.attach(run(&twin)).spawn();
    terminal.expect("open");
    running.wait().ok();
}

/// The attacker's program: it opens the executables of all that join, waits for their end and
/// writes to them.
fn attacker(seize: &str) -> String {
    format!(
        r#"$| = 1; print "ready\n"; my %known;
        until (-e "/tmp/end") {{
            for my $p (glob "/proc/[0-9]*") {{
                next if $p eq "/proc/1" or $p eq "/proc/$$";
                open(my $held, "<", "$p/exe") or next;
                next if $known{{$p . (stat $held)[1]}}++;
                print "caught ", -s $held, " bytes\n";
                {seize}
                my $fd = fileno $held;
                for (1 .. 100_000) {{ last unless -e "$p/exe" }}
                if (open(my $out, ">>", "/proc/self/fd/$fd")) {{ print $out "evil" }}
            }}
        }} print "over\n";"#
    )
}

/// Runs a copy of the program against an attacker with these capabilities. Its benign twin is an
/// unprotected program, which the attacker must be able to overwrite.
fn attack_the_binary(capabilities: &[&str], seize: &str) {
    let runtime = Runtime::new();
    let copy = runtime.folder().join("copy");
    coracle_integration::copy_program(coracle_integration::program(), &copy);
    let before = fs::read(&copy).unwrap();
    let runtime = runtime.program(&copy);
    let names = json!(capabilities);
    let sets = json!({"bounding": names, "effective": names, "permitted": names});
    let bundle = with_perl(runtime.bundle())
        .set("/process/capabilities", sets)
        .args(["perl", "-e", &attacker(seize)]);
    coracle_integration::write_program(&bundle.path("/tmp/again"), "#!/proc/self/exe\n");
    let victim = bundle.path("/tmp/sleep");
    coracle_integration::copy_program(Path::new("/bin/busybox"), &victim);
    let container = runtime.start(&bundle);
    container.wait_for("ready");
    for _ in 0..times(10, 100) {
        container.exec(["/tmp/again"]);
        container.exec(["/proc/self/exe", "state"]);
        let output = container.exec(["/bin/true"]);
        assert_eq!(output.code, 0, "{}\n{output}", container.stderr());
    }
    // The attacker misses a program while it waits for the end of another, and gives up after a
    // number of looks: 0.2 s on a quiet machine, many times that on a busy one. So the programs run
    // for different times.
    let mut lives = ["0.05", "0.1", "0.2", "0.4", "0.8", "1.6"]
        .into_iter()
        .cycle();
    let caught = format!("caught {} bytes", before.len());
    // On a busy machine few of the attempts come in time.
    wait_until_within(60, "a successful attack on what nobody guards", || {
        container.exec(["/tmp/sleep", lives.next().unwrap_or_default()]);
        fs::read(&victim).unwrap().ends_with(b"evil")
    });
    wait_until("an attack on the runtime", || {
        container.exec(["/proc/self/exe", "state"]);
        container.stdout().contains(&caught)
    });
    // Written by the host: a process that joined for it would be killed with the container.
    fs::write(bundle.path("/tmp/end"), "").unwrap();
    container.wait_for("over");
    assert!(fs::read(&copy).unwrap() == before, "the binary was written");
    container.delete_by_force().ok();
}

#[test]
fn cve_2019_5736_the_binary_cannot_be_written() {
    attack_the_binary(&["CAP_DAC_OVERRIDE", "CAP_KILL"], "");
}

/// He may make mounts writable: mount_setattr(2) with all flags cleared, and remount by mount(2).
#[test]
fn cve_2019_5736_nor_by_an_administrator() {
    let seize = r#"my $clear = pack("QQQQ", 0, 1, 0, 0);
        syscall(442, fileno $held, my $empty = "", 0x1000, $clear, 32);
        my ($none, $path) = ("none", "/proc/self/fd/" . fileno $held);
        syscall(165, $none, $path, $none, 0x1020, 0);"#;
    attack_the_binary(&ALL_POWERFUL, seize);
}

#[test]
fn cve_2019_16884_nothing_false_lies_on_proc() {
    let runtime = Runtime::new();
    let fake = runtime.folder().folder("fake");
    for name in ["self/attr", "sys/net/ipv4", "sys/kernel"] {
        fs::create_dir_all(fake.join(name)).unwrap();
    }
    let fakes = ["self/attr/exec", "sys/net/ipv4/ip_forward"].map(|name| fake.join(name));
    fakes.iter().for_each(|path| fs::write(path, "").unwrap());
    let sysctl = json!({"net.ipv4.ip_forward": "1"});
    for to in [
        "/proc",
        "/l",
        "/l/net",
        "/proc/sys",
        "/proc/self",
        "/d/../proc",
    ] {
        let bundle = runtime
            .bundle()
            .link("/l", "/proc/sys")
            .bind(&fake, to, ["rbind"]);
        let output = runtime.run(&bundle.set("/linux/sysctl", sysctl.clone()));
        output.fails(["/proc"]);
    }
    assert!(
        fakes
            .iter()
            .all(|path| fs::metadata(path).unwrap().len() == 0)
    );
    let real = runtime
        .bundle()
        .without_namespace("pid")
        .without_mount("/proc");
    let real = real
        .bind("/proc", "/proc", ["rbind"])
        .args(["ls", "/proc/self/attr"]);
    runtime.run(&real).ok();
}

#[test]
fn cve_2019_18837_climbing_destinations_stay_in_the_root() {
    let runtime = Runtime::new();
    let outside = Outside::new(&runtime);
    let path = outside.path.to_str().unwrap();
    let climb = "/../../../../../../../..";
    for to in [
        format!("{climb}{path}/x"),
        format!("/usr{climb}{path}"),
        format!("..{path}/y"),
    ] {
        let bundle = runtime.bundle().mount(&to, "tmpfs", "tmpfs", []);
        let bundle = bundle.args(["stat", "-fc", "%T", "/tmp"]);
        contained(runtime.run(&bundle));
        outside.is_untouched();
    }
    let twin = runtime.bundle().mount("/usr/../x", "tmpfs", "tmpfs", []);
    runtime.run(&twin.args(["stat", "-fc", "%T", "/x"])).ok();
}

#[test]
fn cve_2019_19921_proc_and_sys_are_real_folders() {
    let runtime = Runtime::new();
    for (kind, name) in [("proc", "proc"), ("sysfs", "sys")] {
        let spellings = ["fake", "/fake", "../fake", "./usr/../fake"];
        for link in spellings.into_iter().chain(["/missing", name]) {
            let bundle = runtime.bundle().folder("/fake/self").link(name, link);
            runtime.try_create(&bundle).fails([name]);
        }
        for to in [
            format!("/{name}/"),
            format!("//{name}"),
            format!("/usr/../{name}"),
        ] {
            let bundle = runtime.bundle().without_mount(&format!("/{name}"));
            let bundle = bundle.folder("/fake/self").mount(&to, kind, kind, []);
            runtime.run(&bundle).ok();
            runtime
                .try_create(&bundle.link(name, "/fake"))
                .fails([name]);
        }
    }
}

/// The image's `/proc` is a folder and a link in turns: either all of the container's masks lie on
/// the procfs, or it is refused.
#[test]
fn cve_2023_27561_proc_is_real_while_it_is_exchanged() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().folder("/fake/sys").link("/other", "/fake");
    let mut good = 0;
    let race = Exchange::new(bundle.path("/proc"), bundle.path("/other"));
    for _ in 0..times(60, 500) {
        let output = contained(runtime.try_create(&bundle));
        good += i32::from(output.code == 0);
        if output.code == 0 {
            let id = output.title.rsplit('"').nth(1).unwrap().to_owned();
            let state = runtime.command(["state", &id]).output().ok();
            let state: Value = serde_json(&state.stdout);
            masks_lie_on_procfs(state["pid"].as_i64().unwrap());
            runtime.command(["delete", "--force", &id]).output().ok();
        }
    }
    drop(race);
    assert!(good > 0, "no container was made at all");
    assert_eq!(fs::read_dir(bundle.path("/fake")).unwrap().count(), 1);
}

fn serde_json(text: &str) -> Value {
    text.parse()
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Asserts that procfs itself is masked, at the paths of the default config that every machine has.
fn masks_lie_on_procfs(pid: i64) {
    let mountinfo = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let lines: Vec<Vec<&str>> = mountinfo.lines().map(|l| l.split(' ').collect()).collect();
    let is_proc = |line: &&Vec<&str>| line[3] == "/" && line.windows(2).any(|p| p == ["-", "proc"]);
    let proc = lines
        .iter()
        .find(is_proc)
        .unwrap_or_else(|| panic!("no procfs:\n{mountinfo}"));
    for name in ["/sys", "/fs", "/irq", "/sysrq-trigger", "/keys"] {
        let lies = |line: &Vec<&str>| line[1] == proc[0] && line[4].ends_with(name);
        let is_here = Path::new("/proc").join(&name[1..]).exists();
        assert!(!is_here || lines.iter().any(lies), "{name}:\n{mountinfo}");
    }
}

/// In a network namespace of the test's own, so that other programs' sockets don't matter.
#[test]
fn cve_2020_15257_no_abstract_sockets() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .without_namespace("network")
        .without_mount("/sys");
    let bundle = bundle.args(["sleep", "1000"]);
    let script = r#"exec 9>&1 >&2; create=$1 id=$2; shift 2
        look() { grep @ /proc/net/unix >&9; echo "$1" >&9; }
        "$@" create --bundle "$create" "$id" && look created
        "$@" start "$id" && look started; "$@" exec "$id" true && look joined
        "$@" delete --force "$id"; look deleted"#;
    let (id, program) = (runtime.id(), coracle_integration::program());
    let dir = bundle.write().dir.clone();
    let command = coracle_integration::Command::new("unshare").args(["--net", "sh", "-c", script]);
    let command = command
        .arg("sh")
        .arg(dir)
        .arg(id)
        .arg(program)
        .arg("--root");
    let output = command
        .arg(runtime.root())
        .env("CORACLE_TEST", runtime.marker())
        .output();
    assert_eq!(output.ok().stdout, "created\nstarted\njoined\ndeleted\n");
}

/// A volume whose `a` is a folder and a link to the outside in turns.
struct Volume {
    path: PathBuf,
    _race: Exchange,
}

impl Volume {
    fn new(runtime: &Runtime, link: &Path) -> Self {
        let path = runtime.folder().folder("volume");
        fs::create_dir(path.join("a")).unwrap();
        std::os::unix::fs::symlink(link, path.join("b")).unwrap();
        let _race = Exchange::new(path.join("a"), path.join("b"));
        Self { path, _race }
    }
}

/// Creates containers with a mount below the exchanged name; how many came to be.
fn race(runtime: &Runtime, volume: &Volume, add: impl Fn(Bundle, usize) -> Bundle) -> usize {
    let bundle = runtime.bundle().bind(&volume.path, "/volume", []);
    let mut good = 0;
    for number in 0..times(50, 500) {
        let output = contained(runtime.run(&add(bundle.clone(), number)));
        good += usize::from(output.code == 0);
    }
    good
}

#[test]
fn cve_2021_30465_mounts_hit_nothing_else_in_a_race() {
    let runtime = Runtime::new();
    let outside = Outside::new(&runtime);
    let volume = Volume::new(&runtime, &outside.spellings()[1]);
    let good = race(&runtime, &volume, |bundle, _| {
        let bundle = bundle.mount("/volume/a", "tmpfs", "tmpfs", []);
        bundle.bind("/usr", "/volume/a/usr", ["ro"])
    });
    drop(volume);
    outside.is_untouched();
    assert!(good > 0, "no container was made at all");
}

#[test]
fn cve_2024_45310_nothing_is_made_outside_in_a_race() {
    let runtime = Runtime::new();
    let outside = Outside::new(&runtime);
    let file = runtime.folder().file("file", "");
    let volume = Volume::new(&runtime, &outside.spellings()[1]);
    let good = race(&runtime, &volume, |bundle, number| {
        let bundle = bundle.mount(&format!("/volume/a/{number}/x/y"), "tmpfs", "tmpfs", []);
        bundle.bind(&file, &format!("/volume/a/f{number}/file"), [])
    });
    drop(volume);
    outside.is_untouched();
    assert!(good > 0, "no container was made at all");
}

#[test]
fn cve_2021_43784_long_values_are_not_cut() {
    let runtime = Runtime::new();
    let long = "x".repeat(70_000);
    let bundle = runtime.bundle().set("/annotations", json!({"long": long}));
    assert_eq!(
        runtime.create(&bundle).state()["annotations"]["long"],
        long.as_str()
    );
    let env = json!(["PATH=/bin", format!("LONG={long}")]);
    let bundle = runtime
        .bundle()
        .set("/process/env", env)
        .shell("echo ${#LONG}");
    assert_eq!(runtime.run(&bundle).ok().line(), "70000");
    let path = format!("/{long}");
    let bundle = runtime.bundle().mount(&path, "tmpfs", "tmpfs", []);
    runtime.try_create(&bundle).fails([]);
    let bundle = runtime.bundle().set("/linux/cgroupsPath", json!(path));
    runtime.try_create(&bundle).fails([]);
    // All mappings together have to fit into a page of text.
    let host = |n: u32| if n == 0 { 100_000 } else { 1000 + n };
    let range = |n: u32| json!({"containerID": n, "hostID": host(n), "size": 1});
    let ranges: Vec<Value> = (0..340).map(range).collect();
    let bundle = runtime.bundle().user_namespace();
    let bundle = bundle.set("/linux/uidMappings", json!(ranges));
    let bundle = bundle
        .set("/linux/gidMappings", json!(ranges))
        .shell("wc -l </proc/self/gid_map");
    assert_eq!(runtime.run(&bundle).ok().line(), "340");
}

/// Opens control files for writing, in all hierarchies; prints what could be opened.
const OPEN_CONTROLS: &str = "find /sys/fs/cgroup -type f \\( -name release_agent -o \
    -name cgroup.procs -o -name tasks \\) >/tmp/all; wc -l </tmp/all; \
    while read f; do (: >>$f) 2>/dev/null && echo WRITABLE $f; done </tmp/all";

#[track_caller]
fn controls_are_closed(runtime: &Runtime, bundle: Bundle, how: &[&str]) {
    let mount = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": how});
    let bundle = bundle.push("/mounts", mount).capabilities(ALL_POWERFUL);
    let output = runtime
        .run(&bundle.shell(&format!("{OPEN_CONTROLS}; true")))
        .ok();
    let (count, open) = output.stdout.split_once('\n').unwrap();
    assert_eq!(open.is_empty(), how.contains(&"ro"), "{output}");
    assert_ne!(count, "0", "no control file was found: {output}");
}

#[test]
fn cve_2022_0492_control_groups_can_be_read_only() {
    let runtime = Runtime::new();
    controls_are_closed(
        &runtime,
        runtime.bundle().new_namespace("cgroup"),
        &["ro", "nosuid"],
    );
    controls_are_closed(
        &runtime,
        runtime.bundle().new_namespace("cgroup"),
        &["nosuid"],
    );
}

#[test]
fn cve_2023_25809_the_own_control_group_is_read_only() {
    let runtime = Runtime::new();
    controls_are_closed(&runtime, runtime.bundle(), &["ro"]);
    controls_are_closed(&runtime, runtime.bundle().user_namespace(), &["ro"]);
    let bundle = runtime.bundle().user_namespace().new_namespace("cgroup");
    controls_are_closed(&runtime, bundle, &["ro"]);
}

/// The five capability sets in `/proc`'s order, without leading zeros.
const SETS: [&str; 3] = [
    "sh",
    "-c",
    "grep ^Cap /proc/self/status | sed 's/.*:\t0*/x/' | xargs",
];

#[test]
fn cve_2022_24769_nothing_is_inheritable() {
    let runtime = Runtime::new();
    let look = |bundle: &Bundle| runtime.run(&bundle.clone().args(SETS)).ok().stdout;
    let bundle = runtime.bundle().capabilities(["CAP_KILL"]);
    assert_eq!(look(&bundle), "x x20 x20 x20 x\n");
    let omitted = bundle.clone().remove("/process/capabilities");
    assert_eq!(look(&omitted), "x x x x x\n");
    let container = runtime.start(&bundle.clone().args(["sleep", "1000"]));
    assert_eq!(container.exec(SETS).ok().stdout, "x x20 x20 x20 x\n");
    let more = container.exec_with(["--cap", "CAP_CHOWN"], SETS);
    assert_eq!(more.ok().stdout, "x x21 x21 x21 x\n");
    // The caller's own inheritable and ambient sets count for nothing.
    let run = runtime
        .with_bundle("run", &bundle.clone().args(SETS))
        .arg(runtime.id());
    let run = run.under(
        "setpriv",
        ["--inh-caps=+chown", "--ambient-caps=+chown", "--"],
    );
    assert_eq!(run.output().ok().stdout, "x x20 x20 x20 x\n");
    let set = bundle.set("/process/capabilities/inheritable", json!(["CAP_KILL"]));
    assert_eq!(look(&set), "x20 x20 x20 x20 x\n");
}

#[test]
fn cve_2022_36109_the_groups_are_the_configs() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .set("/process/user/additionalGids", json!([7, 9]));
    let look = ["grep", "^Groups", "/proc/self/status"];
    let run = runtime
        .with_bundle("run", &bundle.clone().args(look))
        .arg(runtime.id());
    let run = run.under("setpriv", ["--groups=4,27,44", "--"]).output();
    assert_eq!(run.ok().line(), "Groups:\t7 9");
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    let exec = container
        .exec_command([], look)
        .under("setpriv", ["--groups=4,27,44", "--"]);
    assert_eq!(exec.output().ok().line(), "Groups:\t7 9");
}

/// A shell line that leaks folders of the host as descriptors 3 to 9.
const LEAK: &str = "exec 3</ 4</proc 5</sys/fs/cgroup 6</tmp 7</ 8</etc 9</proc/self";

/// Tells whether a process can see the host from where it stands.
#[track_caller]
fn stands_inside(output: Output) {
    assert!(!output.stdout.contains("HOST"), "{output}");
    contained(output);
}

fn look_around(runtime: &Runtime) -> String {
    let marker = runtime.folder().file("marker", "host");
    let up = "../../../../../../../../../../..";
    format!(
        "[ -e .{path} -o -e {up}{path} ] && echo HOST; true",
        path = marker.display()
    )
}

#[test]
fn cve_2024_21626_cwd_is_in_the_root() {
    let runtime = Runtime::new();
    let script = look_around(&runtime);
    for number in 3..30 {
        for form in ["/proc/self/fd", "/proc/self/fd/../fd", "/dev/fd", "/l"] {
            let cwd = format!("{form}/{number}");
            let bundle = runtime.bundle().link("/l", "/proc/self/fd");
            let bundle = bundle.set("/process/cwd", json!(cwd)).shell(&script);
            let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
            stands_inside(run.after(LEAK).output());
        }
    }
    let twin = runtime.bundle().set("/process/cwd", json!("/proc/self"));
    runtime.run(&twin.args(["pwd"])).ok();
}

#[test]
fn cve_2024_21626_preserved_descriptors_are_no_cwd() {
    let runtime = Runtime::new();
    let script = look_around(&runtime);
    for cwd in ["/proc/self/fd/3", "/proc/self/fd/9/..", "/proc/self/fd/7"] {
        let bundle = runtime
            .bundle()
            .set("/process/cwd", json!(cwd))
            .shell(&script);
        let run = runtime
            .with_bundle("run", &bundle)
            .args(["--preserve-fds", "7"]);
        stands_inside(run.arg(runtime.id()).after(LEAK).output());
    }
    let twin = runtime.bundle().args(["ls", "/proc/self/fd/3"]);
    let run = runtime
        .with_bundle("run", &twin)
        .args(["--preserve-fds", "1"]);
    run.arg(runtime.id())
        .after("exec 3</etc/passwd")
        .output()
        .ok();
}

#[test]
fn cve_2024_21626_nor_for_exec() {
    let runtime = Runtime::new();
    let script = look_around(&runtime);
    let container = runtime.start(&runtime.bundle().args(["sleep", "1000"]));
    for number in 3..30 {
        let cwd = format!("/proc/self/fd/{number}");
        let exec = container.exec_command(["--cwd", &cwd], ["sh", "-c", &script]);
        let output = exec.after(LEAK).output();
        assert!(!output.stdout.contains("HOST"), "{output}");
        assert!(output.code == 0 || output.code == 255, "{output}");
    }
    container.exec_with(["--cwd", "/usr"], ["true"]).ok();
}

#[test]
fn cve_2024_40635_ids_do_not_wrap() {
    let runtime = Runtime::new();
    let bad = [
        json!(4_294_967_296_u64),
        json!(-1),
        json!(4_294_967_295_u32),
        json!("0"),
    ];
    for (name, bad) in ["uid", "gid"]
        .iter()
        .flat_map(|n| bad.iter().map(move |b| (n, b)))
    {
        let pointer = format!("/process/user/{name}");
        let bundle = runtime.bundle().set(&pointer, bad.clone());
        runtime
            .try_create(&bundle)
            .fails([&format!("process.user.{name}")]);
    }
    let container = runtime.sleeper();
    for user in [
        "4294967296",
        "-1",
        "4294967295",
        "1000:4294967296",
        "1000:-1",
    ] {
        container
            .exec_with(["--user", user], ["id"])
            .fails_as(255, []);
    }
    let (most, look) = ("4294967294:4294967294", ["sh", "-c", "id -u; id -g"]);
    let output = container.exec_with(["--user", most], look).ok();
    assert_eq!(output.line(), "4294967294\n4294967294");
}

#[test]
fn cve_2024_25621_state_is_closed_to_others() {
    let runtime = Runtime::new();
    let (bundle, id) = (runtime.bundle(), runtime.id());
    let pid_file = runtime.folder().join("pid");
    let log = runtime.folder().join("log");
    let create = runtime
        .bare()
        .arg("--root")
        .arg(runtime.root())
        .arg("--log")
        .arg(&log);
    let create = create.args(["create", "--bundle"]).arg(&bundle.write().dir);
    let create = create.arg("--pid-file").arg(&pid_file).arg(&id);
    create.after("umask 0").output().ok();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(runtime.root()), 0o700);
    let state = runtime.root().join(&id);
    assert_eq!(mode(&state) & 0o066, 0);
    for entry in fs::read_dir(&state).unwrap().flatten() {
        assert_eq!(mode(&entry.path()) & 0o077, 0, "{:?}", entry.path());
    }
    for path in [&pid_file, &log] {
        assert_eq!(mode(path) & 0o022, 0, "{path:?}");
    }
    let find = coracle_integration::Command::new("find").arg(runtime.root());
    let find = find.arg("-readable");
    let other = find.under(
        "setpriv",
        ["--reuid=12345", "--regid=12345", "--clear-groups", "--"],
    );
    assert_eq!(other.output().stdout, "");
    runtime.command(["delete", "--force", &id]).output().ok();
}

#[test]
fn cve_2025_24965_files_of_ours_are_not_written_through_links() {
    let runtime = Runtime::new();
    let outside = Outside::new(&runtime);
    let names = [
        "null", "tty", "console", "ptmx", "pts", "shm", "fd", "stdin", "core", "mqueue",
    ];
    for link in outside.spellings() {
        for target in [link.join("marker"), link.join("new"), link.clone()] {
            for name in names {
                let bundle = runtime
                    .bundle()
                    .without_dev()
                    .link(&format!("/dev/{name}"), &target);
                contained(runtime.run(&bundle));
            }
            let mut bundle = runtime
                .bundle()
                .link("/cwd", &target)
                .link("/etc/passwd", &target);
            for name in ["hostname", "hosts", "resolv.conf", "mtab", "group"] {
                bundle = bundle.link(&format!("/etc/{name}"), &target);
            }
            contained(runtime.run(&bundle.set("/process/cwd", json!("/cwd/new"))));
            outside.is_untouched();
        }
    }
    runtime.run(&runtime.bundle().without_dev()).ok();
}

/// The image's own `/dev/null`, in all the forms it should not have.
fn spoil_null(bundle: Bundle, form: &str) -> Bundle {
    let path = bundle.path("/dev/null");
    let mknod = |arguments: &[&str]| {
        let mknod = coracle_integration::Command::new("mknod").arg(&path);
        mknod.args(arguments).output().ok();
    };
    match form {
        "file" => return bundle.file("/dev/null", "image\n"),
        "folder" => return bundle.folder("/dev/null"),
        "pipe" => mknod(&["p"]),
        "full" => mknod(&["c", "1", "7"]),
        "true" => mknod(&["c", "1", "3"]),
        link => return bundle.link("/dev/null", link),
    }
    bundle
}

#[test]
fn cve_2025_31133_masks_are_true_null_devices() {
    let runtime = Runtime::new();
    let forms = [
        "file",
        "folder",
        "pipe",
        "full",
        "/proc/sys/kernel/core_pattern",
        "/nowhere",
    ];
    for form in forms.into_iter().chain(["/etc/passwd", "true"]) {
        let bundle = spoil_null(runtime.bundle().without_dev(), form);
        let bundle = bundle.shell("stat -c %t:%T /proc/keys; cat /proc/keys");
        let output = contained(runtime.run(&bundle));
        assert!(
            output.code != 0 || output.stdout == "1:3\n",
            "{form}: {output}"
        );
        assert!(form != "true" || output.code == 0, "{output}");
    }
}

#[test]
fn cve_2025_31133_masks_of_folders_are_empty() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .file("/real/secret", "s")
        .link("/masked", "/real")
        .link("/out", "/proc/sys")
        .set(
            "/linux/maskedPaths",
            json!(["/masked", "/out/kernel", "/sys/kernel"]),
        )
        .shell("ls -A /real /proc/sys/kernel /sys/kernel | grep -v '^/' | xargs");
    assert_eq!(runtime.run(&bundle).ok().line(), "");
}

#[test]
fn cve_2025_52565_the_console_is_only_the_console() {
    let runtime = Runtime::new();
    let outside = Outside::new(&runtime);
    let host = outside.path.join("marker");
    let targets = [
        Path::new("/proc/sys/kernel/core_pattern"),
        &host,
        Path::new("/etc/passwd"),
    ];
    for name in ["console", "pts/0", "pts/ptmx", "ptmx"] {
        for target in targets {
            let bundle = runtime.bundle().without_dev();
            let bundle = bundle.mount("/dev/pts", "devpts", "devpts", ["newinstance"]);
            let bundle = bundle.link(&format!("/dev/{name}"), target);
            only_the_console_is_mounted(&runtime, bundle);
        }
    }
    outside.is_untouched();
    assert!(only_the_console_is_mounted(&runtime, runtime.bundle()));
}

/// crun up to 1.29.1 made a missing target of the link on the host, with a read-only root too.
#[test]
fn cve_2026_88264_the_console_is_not_made_through_links() {
    let runtime = Runtime::new();
    let outside = Outside::new(&runtime);
    for spelling in outside.spellings() {
        for name in ["new", "marker"] {
            for readonly in [false, true] {
                let bundle = runtime.bundle().without_dev();
                let bundle = bundle.mount("/dev/pts", "devpts", "devpts", ["newinstance"]);
                let bundle = bundle.link("/dev/console", spelling.join(name));
                let bundle = bundle.set("/root/readonly", json!(readonly));
                let bundle = bundle.mount("/tmp", "tmpfs", "tmpfs", []);
                let bundle = bundle.set("/process/terminal", json!(true)).shell("tty");
                let terminal = Terminal::new();
                let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
                let run = run.under("setsid", ["--ctty"]).stdin(terminal.slave());
                contained(run.stdout(terminal.slave()).output());
                outside.is_untouched();
            }
        }
    }
    assert!(only_the_console_is_mounted(&runtime, runtime.bundle()));
}

/// crun up to 1.29.1 opened the image's /dev/null again for standard streams, knew it by its number
/// alone, and gave it to the container's user.
#[test]
fn cve_2026_88265_stdio_is_not_reopened_through_links() {
    let runtime = Runtime::new();
    let outside = Outside::new(&runtime);
    let number = nix::sys::stat::makedev(1, 3);
    let node = runtime.folder().folder("nodes").join("null");
    let kind = nix::sys::stat::SFlag::S_IFCHR;
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::sys::stat::mknod(&node, kind, mode, number).unwrap();
    let below = Path::new("../../../../../../../../..").join(node.strip_prefix("/").unwrap());
    let marker = outside.path.join("marker");
    for target in [node.clone(), below, marker] {
        let bundle = runtime
            .bundle()
            .without_dev()
            .link("/dev/null", &target)
            .user(7, 8);
        let bundle = bundle.shell("cat; echo evil; echo worse >&2");
        let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
        contained(run.stdin(null_device()).stdout(null_device()).output());
        let data = fs::metadata(&node).unwrap();
        assert_eq!((data.uid(), data.gid()), (0, 0), "{target:?}");
        outside.is_untouched();
    }
    // The ordinary case: the caller's null device is the container's.
    let bundle = runtime
        .bundle()
        .user(7, 8)
        .shell("stat -Lc %t:%T /proc/self/fd/0");
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let null = fs::File::open("/dev/null").unwrap();
    assert_eq!(run.stdin(null).output().ok().line(), "1:3");
}

/// Runs it on a terminal; whether its program ran.
#[track_caller]
fn only_the_console_is_mounted(runtime: &Runtime, bundle: Bundle) -> bool {
    let terminal = Terminal::new();
    let script = "grep ' devpts ' /proc/self/mountinfo | cut -d' ' -f5 >/tmp/mounts";
    let bundle = bundle.set("/process/terminal", json!(true)).shell(script);
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let run = run.under("setsid", ["--ctty"]).stdin(terminal.slave());
    let output = contained(run.stdout(terminal.slave()).output());
    let mounts = fs::read_to_string(bundle.path("/tmp/mounts")).unwrap_or_default();
    let is_right = mounts == "/dev/pts\n/dev/console\n";
    assert!(is_right || output.code != 0, "{mounts}\n{output}");
    is_right
}

#[test]
fn cve_2025_52881_sysctls_are_written_to_procfs_alone() {
    let runtime = Runtime::new();
    let fake = runtime.folder().folder("fake");
    let file = runtime.folder().file("fake/ip_forward", "");
    let sysctl = json!({"net.ipv4.ip_forward": "1"});
    let mounts = [
        ("/l", Path::new("/proc/sys/net/ipv4")),
        ("/l", Path::new("../proc/sys/net/ipv4")),
        ("/l", Path::new("/proc/self/root/proc/sys/net/ipv4")),
        ("/l", Path::new("/proc/1/root")),
    ];
    for (to, link) in mounts {
        let bundle = runtime.bundle().link(to, link).bind(&fake, to, []);
        let bundle = bundle.set("/linux/sysctl", sysctl.clone());
        contained(runtime.run(&bundle));
        assert_eq!(fs::metadata(&file).unwrap().len(), 0, "{}", link.display());
    }
    // Without a procfs mount, the image's files in `/proc` must not be taken for procfs.
    let bundle = runtime
        .bundle()
        .without_mount("/proc")
        .set("/linux/sysctl", sysctl.clone());
    let bundle = bundle.file("/proc/sys/net/ipv4/ip_forward", "");
    contained(runtime.run(&bundle));
    assert_eq!(
        fs::metadata(bundle.path("/proc/sys/net/ipv4/ip_forward"))
            .unwrap()
            .len(),
        0
    );
    let twin = runtime.bundle().set("/linux/sysctl", sysctl);
    let twin = twin.args(["cat", "/proc/sys/net/ipv4/ip_forward"]);
    assert_eq!(runtime.run(&twin).ok().line(), "1");
}

#[test]
fn cve_2026_30892_users_are_read_to_the_end() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let good = [
        ("1", "1 0"),
        ("0", "0 0"),
        ("1:2", "1 2"),
        ("65534:65534", "65534 65534"),
    ];
    for (user, expected) in good {
        let output = container.exec_with(["-u", user], ["sh", "-c", "echo $(id -u) $(id -g)"]);
        assert_eq!(output.ok().line(), expected, "{user}");
    }
    let odd = [
        "", " ", "1x", "x1", "1:", ":1", "1:2:3", "1,2", "0x1", "1e1", "+1", "1 ", "१", "1\n",
    ];
    for user in odd {
        let output = container.exec_with(["-u", user], ["id"]);
        let is_refused = output.code == 255 && !output.stdout.contains("uid=");
        assert!(is_refused, "{user:?}: {output}");
    }
}

#[test]
fn cve_2026_41579_devices_stay_in_the_root() {
    let runtime = Runtime::new();
    let outside = Outside::new(&runtime);
    for link in outside.spellings() {
        let bundle = runtime.bundle().without_dev().link("/dev", &link);
        contained(runtime.run(&bundle.clone()));
        let terminal = Terminal::new();
        let bundle = bundle.set("/process/terminal", json!(true));
        let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
        contained(
            run.under("setsid", ["--ctty"])
                .stdin(terminal.slave())
                .output(),
        );
        let own = json!({"path": "/l/x", "type": "c", "major": 1, "minor": 3});
        let bundle = runtime
            .bundle()
            .link("/l", &link)
            .push("/linux/devices", own);
        contained(runtime.run(&bundle));
        let bundle = runtime.bundle().link("/dev", &link);
        contained(runtime.run(&bundle));
        outside.is_untouched();
    }
    let twin = runtime
        .bundle()
        .without_dev()
        .link("/dev", "/inside")
        .folder("/inside");
    runtime.run(&twin).ok();
    assert!(twin.path("/inside/null").exists());
}

#[test]
fn ids_do_not_leave_the_state_root() {
    let runtime = Runtime::new();
    let precious = runtime.folder().folder("precious");
    fs::write(precious.join("record.json"), "{}").unwrap();
    runtime.sleeper();
    let long = "x".repeat(5000);
    for id in [
        "..",
        ".",
        "../precious",
        "/",
        "a/../../precious",
        "a\nb",
        "",
        &long,
    ] {
        for verb in [
            "start", "state", "delete", "pause", "resume", "ps", "events", "update",
        ] {
            let output = runtime.command([verb, id]).output();
            assert_ne!(output.code, 0, "{output}");
        }
        let output = runtime.command(["delete", "--force", id]).output();
        assert!(output.code == 1 || output.stdout.is_empty(), "{output}");
        runtime.command(["kill", id, "KILL"]).output().fails([]);
    }
    assert!(precious.join("record.json").exists() && runtime.root().exists());
}

#[test]
fn control_group_paths_do_not_leave_the_tree() {
    let runtime = Runtime::new();
    let name = runtime.marker();
    let before = groups(name);
    for path in ["../x", "/../x", "/a/../../x", "a/../../..", "..", "/.."] {
        let path = format!("{path}/{name}x");
        let bundle = runtime.bundle().set("/linux/cgroupsPath", json!(path));
        runtime.try_create(&bundle).fails(["linux.cgroupsPath"]);
    }
    assert_eq!(groups(name), before);
    for folder in ["/sys/fs", "/sys", "/"] {
        assert!(!Path::new(folder).join("x").exists(), "{folder}");
    }
    let path = json!(format!("/{name}x"));
    runtime
        .run(&runtime.bundle().set("/linux/cgroupsPath", path))
        .ok();
}

#[test]
fn mounts_inside_do_not_reach_the_host() {
    let runtime = Runtime::new();
    let shared = HostMount::new(&runtime, "shared", ["--make-rshared"]);
    fs::create_dir(shared.join("point")).unwrap();
    let script = "mount -t tmpfs x /v/point && echo mounted; sleep 1000";
    for option in ["rprivate", "rslave", "nosuid"] {
        let bundle = runtime.bundle().bind(&shared.path, "/v", [option]);
        let bundle = bundle.capabilities(["CAP_SYS_ADMIN"]).shell(script);
        let container = runtime.start(&bundle);
        container.wait_for("mounted");
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(
            host.matches(shared.path.to_str().unwrap()).count(),
            1,
            "{option}:\n{host}"
        );
        container.delete_by_force().ok();
    }
    let twin = runtime.bundle().bind(&shared.path, "/v", ["rshared"]);
    let container = runtime.start(&twin.capabilities(["CAP_SYS_ADMIN"]).shell(script));
    container.wait_for("mounted");
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(
        host.matches(shared.path.to_str().unwrap()).count(),
        2,
        "{host}"
    );
    container.delete_by_force().ok();
}

#[test]
fn the_log_and_the_pid_file_follow_no_links() {
    let runtime = Runtime::new();
    let victim = runtime.folder().file("victim", "precious");
    let link = |name: &str| {
        let path = runtime.folder().join(name);
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        path
    };
    let (log, pid) = (link("log"), link("pid"));
    let bad = runtime.bundle().set("/process/cwd", json!("relative"));
    let create = runtime
        .bare()
        .arg("--root")
        .arg(runtime.root())
        .arg("--log")
        .arg(&log);
    let create = create.args(["create", "--bundle"]).arg(&bad.write().dir);
    create.arg(runtime.id()).output().fails([]);
    let good = runtime.with_bundle("create", &runtime.bundle().args(["sleep", "1000"]));
    contained(good.arg("--pid-file").arg(&pid).arg(runtime.id()).output());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

/// The targets of a process's descriptors.
fn descriptors(pid: i32) -> Vec<(i32, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let mut all: Vec<(i32, String)> = entries
        .map(|entry| {
            let number = entry.file_name().to_string_lossy().parse().unwrap();
            (
                number,
                fs::read_link(entry.path())
                    .unwrap()
                    .to_string_lossy()
                    .into_owned(),
            )
        })
        .collect();
    all.sort();
    all
}

/// Besides its standard streams: the two pipes that `start` uses, and the socket to the runtime,
/// which has gone.
#[test]
fn init_holds_only_what_it_needs() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    let (id, pid_file) = (runtime.id(), runtime.folder().join("pid"));
    let create = runtime
        .with_bundle("create", &bundle)
        .arg("--pid-file")
        .arg(&pid_file);
    create.arg(&id).after(LEAK).output().ok();
    let pid = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let folder = runtime.root().join(&id);
    let pipes = ["start", "started"].map(|name| folder.join(name).to_string_lossy().into_owned());
    let mut sockets = 0;
    for (number, target) in descriptors(pid) {
        sockets += i32::from(target.starts_with("socket:"));
        let is_known = number < 3 || pipes.contains(&target) || target.starts_with("socket:");
        assert!(is_known, "{number}: {target}");
    }
    assert!(sockets <= 1, "{:?}", descriptors(pid));
    runtime.command(["delete", "--force", &id]).output().ok();
}

#[test]
fn a_process_that_joins_holds_only_what_it_needs() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let exec = container.exec_command([], ["ls", "/proc/self/fd"]);
    assert_eq!(exec.after(LEAK).output().ok().stdout, "0\n1\n2\n3\n");
    let pid_file = runtime.folder().join("pid");
    let options = ["--detach", "--pid-file", pid_file.to_str().unwrap()];
    let exec = container.exec_command(options, ["sleep", "1000"]);
    exec.after(LEAK).output().ok();
    let child = Child::adopt(&pid_file);
    let all = descriptors(child.pid);
    assert_eq!(all.len(), 3, "{all:?}");
}

#[test]
fn the_callers_environment_reaches_nobody() {
    let runtime = Runtime::new();
    let seen = runtime.folder().folder("seen");
    let mut bundle = runtime.bundle().bind(&seen, "/seen", []);
    let points = [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ];
    for point in points {
        let file = seen.join(point).to_string_lossy().into_owned();
        let script = format!("env >{file}");
        let path = runtime.folder().script(format!("hook-{point}"), &script);
        bundle = bundle.hook(point, json!({"path": path}));
    }
    let bundle = bundle
        .script("/hook", "env >/seen/startContainer")
        .hook("startContainer", json!({"path": "/hook"}))
        .shell("cat /proc/1/environ >/seen/init; sleep 1000");
    let with = |command: coracle_integration::Command| command.env("SECRET", "caller's");
    let id = runtime.id();
    with(runtime.with_bundle("create", &bundle).arg(&id))
        .output()
        .ok();
    with(runtime.command(["start", &id])).output().ok();
    let exec = ["exec", &id, "sh", "-c", "env >/seen/exec"];
    with(runtime.command(exec)).output().ok();
    with(runtime.command(["delete", "--force", &id]))
        .output()
        .ok();
    for name in points.iter().chain(&["startContainer", "init", "exec"]) {
        let text = fs::read_to_string(seen.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(
            !text.contains("SECRET") && !text.contains("CORACLE"),
            "{name}: {text}"
        );
    }
}

/// A caller with a key in his session keyring: perl, since no other program here has add_key(2).
const WITH_KEY: &str = r#"my ($ring, $type, $name, $value) = ("caller", "user", "secret", "v");
    syscall(250, 1, $ring) > 0 or exit 77;
    syscall(248, $type, $name, $value, 1, -3) > 0 or exit 77;
    exec @ARGV"#;

/// Looks for it in the own session keyring: keyctl(2), KEYCTL_SEARCH.
const FIND_KEY: &str = r#"my ($type, $name) = ("user", "secret");
    print syscall(250, 10, -3, $type, $name, 0) > 0 ? "found" : "none""#;

#[test]
fn the_callers_keyring_reaches_nobody() {
    let runtime = Runtime::new();
    let bundle = with_perl(runtime.bundle());
    let find = ["perl", "-e", FIND_KEY];
    let found = |command: coracle_integration::Command| {
        let output = command.under("perl", ["-e", WITH_KEY, "--"]).output();
        if output.code == 77 {
            coracle_integration::skip!("keys cannot be made here");
        }
        output.ok().stdout
    };
    let run = |options: &[&str]| {
        let run = runtime.with_bundle("run", &bundle.clone().args(find));
        run.args(options).arg(runtime.id())
    };
    assert_eq!(found(run(&[])), "none");
    assert_eq!(found(run(&["--no-new-keyring"])), "found");
    let container = runtime.start(&bundle.clone().args(["sleep", "1000"]));
    assert_eq!(found(container.exec_command([], find)), "none");
}

#[test]
fn the_callers_groups_reach_no_process() {
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle().user(1000, 1000));
    assert_eq!(
        coracle_integration::status_field(container.pid(), "Groups"),
        ""
    );
    let id = runtime.id();
    let create = runtime.with_bundle("create", &runtime.bundle()).arg(&id);
    create
        .under("setpriv", ["--groups=4,27,44", "--"])
        .output()
        .ok();
    let state = runtime.command(["state", &id]).output().ok();
    let pid = serde_json(&state.stdout)["pid"].as_i64().unwrap();
    assert_eq!(coracle_integration::status_field(pid, "Groups"), "");
}

#[test]
fn exec_has_no_new_privileges() {
    let runtime = Runtime::new();
    let look = ["grep", "NoNewPrivs", "/proc/self/status"];
    let check = |container: &Container<'_>, expected: &str| {
        let output = container.exec(look).ok();
        assert_eq!(output.line(), format!("NoNewPrivs:\t{expected}"));
    };
    check(&runtime.sleeper(), "1");
    let bundle = runtime
        .bundle()
        .set("/process/noNewPrivileges", json!(false));
    check(&runtime.start(&bundle.args(["sleep", "1000"])), "0");
}

/// Standard streams on the host's null device may become the container's, if that is a true one.
#[test]
fn the_images_null_is_not_stdio() {
    let runtime = Runtime::new();
    for form in ["file", "/etc/passwd", "pipe", "full"] {
        let bundle = spoil_null(runtime.bundle().without_dev(), form);
        let before = fs::read(bundle.path("/etc/passwd")).unwrap();
        let bundle = bundle.shell("cat; echo evil; stat -Lc %t:%T /proc/self/fd/1 >/tmp/out");
        let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
        let output = run.stdin(null_device()).stdout(null_device()).output();
        contained(output);
        let number = fs::read_to_string(bundle.path("/tmp/out")).unwrap_or("1:3\n".to_owned());
        assert_eq!(number, "1:3\n", "{form}");
        assert_eq!(
            fs::read(bundle.path("/etc/passwd")).unwrap(),
            before,
            "{form}"
        );
    }
}
