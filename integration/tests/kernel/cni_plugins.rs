//! Networks by the standard plugins. Each test has a network namespace that plays the host's, so
//! that no bridge, rule or device of these tests is ever the machine's.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use coracle_integration::runner::{clean_up, times};
use coracle_integration::{
    Bundle, Command, Container, Output, Running, Runtime, Value, json, needs, skip, wait_until,
};
use nix::sys::signal::Signal;

/// Where Debian puts the plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// A "host" with a bridge, in a namespace of its own.
struct Host {
    runtime: Runtime,
    /// Keeps the namespace. Ended after the runtime has deleted what is left.
    _holder: Holder,
}

struct Holder(Running);

impl Drop for Holder {
    fn drop(&mut self) {
        clean_up(|| {
            self.0.signal(Signal::SIGKILL);
            let _ = self.0.wait_or_kill();
        });
    }
}

impl Host {
    fn new() -> Self {
        for program in ["nsenter", "iptables", "ip"] {
            needs::program(program);
        }
        if !Path::new(PLUGINS).join("bridge").exists() {
            skip!("needs the standard plugins in {PLUGINS}");
        }
        let script = "ip link set lo up && echo ready && exec sleep 1000";
        let holder = Command::new("unshare").args(["--net", "sh", "-c", script]);
        let holder = Holder(holder.limit(1000).spawn());
        wait_until("a network namespace", || {
            holder.0.stdout.text().contains("ready")
        });
        let path = PathBuf::from(format!("/proc/{}/ns/net", holder.0.pid));
        let runtime = Runtime::new().in_network(path);
        runtime.folder().folder("conf");
        let host = Self {
            runtime,
            _holder: holder,
        };
        host.supports_bridges();
        host
    }

    /// The kernel features that the plugins need.
    fn supports_bridges(&self) {
        let try_out = "ip link add t0 type bridge && ip link add t1 type veth peer t2 && \
                       iptables -t nat -A POSTROUTING -m comment --comment t -j MASQUERADE && \
                       iptables -t nat -F && iptables -t nat -X && ip link del t0 && ip link del t1";
        let output = self.shell(try_out);
        if output.code != 0 {
            skip!("needs bridges, veth and iptables: {}", output.stderr.trim());
        }
    }

    /// A script on the "host".
    fn shell(&self, script: &str) -> Output {
        let net = format!("--net={}", self.namespace().display());
        Command::new("nsenter")
            .args([&net, "sh", "-c", script])
            .output()
    }

    fn namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self._holder.0.pid))
    }

    fn conf(self, name: &str, plugins: Value) -> Self {
        let list = json!({"cniVersion": "1.0.0", "name": name, "plugins": plugins});
        let path = self
            .runtime
            .folder()
            .join("conf")
            .join(format!("{name}.conflist"));
        fs::write(path, list.to_string()).unwrap();
        self
    }

    /// Addresses by host-local, whose notes lie in the test's folder.
    fn addresses(&self, subnet: &str) -> Value {
        let dir = self.runtime.folder().join("leases").display().to_string();
        json!({
            "type": "host-local", "dataDir": dir, "ranges": [[{"subnet": subnet}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        })
    }

    /// A network `web`: a bridge with addresses, outbound masquerade, published ports.
    fn bridged(self) -> Self {
        let ipam = self.addresses("10.91.0.0/24");
        let bridge = json!({
            "type": "bridge", "bridge": "web0", "isGateway": true, "ipMasq": true, "ipam": ipam,
            "capabilities": {"ips": true, "mac": true},
        });
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        self.conf("web", json!([bridge, portmap]))
    }

    fn search(&self) -> [String; 4] {
        let conf = self.runtime.folder().join("conf").display().to_string();
        [
            "--cni-conf-dir".into(),
            conf,
            "--cni-bin-dir".into(),
            PLUGINS.into(),
        ]
    }

    #[track_caller]
    fn start(&self, bundle: &Bundle, network: &str) -> Container<'_> {
        let [a, b, c, d] = &self.search();
        let flags = ["--network", network, a, b, c, d];
        let container = self.runtime.create_with(bundle, flags);
        container.start().ok();
        container
    }

    fn run(&self, bundle: &Bundle, network: &str) -> Output {
        let run = self.runtime.with_bundle("run", bundle).args(self.search());
        run.args(["--network", network])
            .arg(self.runtime.id())
            .output()
    }

    /// A container that answers on port 80 with its name.
    fn server(&self, publish: &str) -> Container<'_> {
        let script = "while :; do echo hello | nc -l -p 80 >/dev/null 2>&1; done";
        let bundle = self.runtime.bundle().shell(script);
        let bundle = match publish {
            "" => bundle,
            ports => bundle.set("/annotations/run.coracle.network.publish", json!(ports)),
        };
        self.start(&bundle, "web")
    }

    /// Notes of host-local, but for its lock and its last address.
    fn leases(&self) -> BTreeSet<String> {
        let dirs = fs::read_dir(self.runtime.folder().join("leases"))
            .into_iter()
            .flatten()
            .flatten();
        let files = dirs.flat_map(|dir| fs::read_dir(dir.path()).unwrap().flatten());
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        names
            .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
            .collect()
    }

    /// Nothing of any container is left on the "host": devices, rules, addresses.
    #[track_caller]
    fn is_clean(&self) {
        self.runtime.is_clean();
        assert_eq!(self.leases(), BTreeSet::new());
        let devices = self.shell("ls /sys/class/net").ok().stdout;
        let devices = self.shell("ip -o link | grep -c veth").stdout + &devices;
        assert!(devices.starts_with("0\n"), "devices are left: {devices}");
        // Chains that serve all containers stay, empty but for their own jumps.
        let rules = self.shell("iptables-save").ok().stdout;
        for sign in ["10.91.0.", "CNI-DN-", self.runtime.marker()] {
            assert!(!rules.contains(sign), "{sign} is left in\n{rules}");
        }
    }
}

/// The first address that the container was given.
#[track_caller]
fn address(container: &Container<'_>) -> String {
    let state = container.state();
    let text = state["annotations"]["run.coracle.network.result"].as_str();
    let results: Value = text.expect("a result").parse().unwrap();
    let address = results[0]["result"]["ips"][0]["address"].as_str().unwrap();
    address.split('/').next().unwrap().to_owned()
}

const ASK: &str =
    "for i in 1 2 3 4 5 6 7 8 9; do nc -w 2 ADDRESS </dev/null && break; sleep 0.1; done";

fn ask(address: &str) -> String {
    ASK.replace("ADDRESS", address)
}

#[test]
fn two_containers_reach_each_other() {
    let host = Host::new().bridged();
    let server = host.server("");
    let client = host
        .runtime
        .bundle()
        .shell(&ask(&format!("{} 80", address(&server))));
    assert_eq!(host.run(&client, "web").ok().line(), "hello");
    // Its loopback device is up, and it has one more.
    let look = host
        .runtime
        .bundle()
        .shell("ls /sys/class/net; cat /sys/class/net/lo/flags");
    assert_eq!(host.run(&look, "web").ok().line(), "eth0\nlo\n0x9");
    server.delete_by_force().ok();
    host.is_clean();
}

#[test]
fn a_published_port_is_reached_from_the_host() {
    let host = Host::new().bridged();
    let server = host.server("8080:80,127.0.0.1:8081:80");
    // An address of the host's own, not that of the bridge.
    host.shell(
        "ip link add out0 type veth peer out1 && ip addr add 10.92.0.1/24 dev out0 && \
                ip link set out0 up",
    )
    .ok();
    for address in ["10.92.0.1 8080", "127.0.0.1 8081"] {
        let script = ask(address).replace("nc ", "busybox nc ");
        assert_eq!(host.shell(&script).ok().line(), "hello", "{address}");
    }
    assert!(host.shell("iptables-save").stdout.contains("CNI-DN-"));
    server.delete_by_force().ok();
    let script = ask("10.92.0.1 8080").replace("nc ", "busybox nc ");
    assert_eq!(host.shell(&script).line(), "");
    host.shell("ip link del out0").ok();
    host.is_clean();
}

/// The "internet" is one namespace further: it sees who is masqueraded as whom.
#[test]
fn the_outside_sees_the_hosts_address() {
    let host = Host::new().bridged();
    let outside = Host::new();
    let script = format!(
        "ip link add out0 type veth peer name out1 netns {} && ip addr add 10.92.0.1/24 dev out0 && \
         ip link set out0 up",
        outside._holder.0.pid
    );
    host.shell(&script).ok();
    outside
        .shell("ip addr add 10.92.0.2/24 dev out1 && ip link set out1 up")
        .ok();
    let net = format!("--net={}", outside.namespace().display());
    let listen = "busybox nc -l -p 80 -e sh -c 'busybox netstat -tn | grep :80'";
    let server = Command::new("nsenter")
        .args([&net, "busybox", "sh", "-c", listen])
        .spawn();
    let client = host.runtime.bundle().shell(&ask("10.92.0.2 80"));
    let output = host.run(&client, "web").ok();
    assert!(output.stdout.contains("10.92.0.1:"), "{output}");
    assert!(!output.stdout.contains("10.91.0."), "{output}");
    server.signal(Signal::SIGKILL);
    host.is_clean();
}

#[test]
fn an_address_is_asked_for() {
    let host = Host::new().bridged();
    let bundle = host
        .runtime
        .bundle()
        .args(["ip", "-o", "addr", "show", "eth0"]);
    let bundle = bundle.set("/annotations/run.coracle.network.ip", json!("10.91.0.77"));
    let bundle = bundle.set(
        "/annotations/run.coracle.network.mac",
        json!("02:11:22:33:44:55"),
    );
    let output = host.run(&bundle, "web").ok();
    assert!(output.stdout.contains("inet 10.91.0.77/24"), "{output}");
    let bundle = bundle.args(["cat", "/sys/class/net/eth0/address"]);
    assert_eq!(host.run(&bundle, "web").ok().line(), "02:11:22:33:44:55");
    let outside = bundle.set("/annotations/run.coracle.network.ip", json!("10.99.0.1"));
    let output = host.run(&outside, "web");
    assert_eq!(output.code, 1, "{output}");
    assert!(
        output.stderr.contains("network web: plugin bridge: ADD: "),
        "{output}"
    );
    host.is_clean();
}

#[test]
fn a_device_is_tuned_and_a_filter_made() {
    let host = Host::new();
    let ipam = host.addresses("10.91.0.0/24");
    let plugins = json!([
        {"type": "bridge", "bridge": "web0", "isGateway": true, "ipam": ipam},
        {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.log_martians": "1"}, "mtu": 1400},
        {"type": "firewall", "backend": "iptables"},
    ]);
    let host = host.conf("web", plugins);
    let look = "cat /proc/sys/net/ipv4/conf/eth0/log_martians /sys/class/net/eth0/mtu; sleep 1000";
    let container = host.start(&host.runtime.bundle().shell(look), "web");
    container.wait_for("1\n1400\n");
    let rules = host.shell("iptables-save").ok().stdout;
    assert!(
        rules.contains(&format!("-d {}/32", address(&container))),
        "{rules}"
    );
    container.delete_by_force().ok();
    host.is_clean();
}

#[test]
fn bandwidth_is_limited() {
    let host = Host::new();
    if host
        .shell("ip link add i0 type ifb && ip link del i0 && command -v tc")
        .code
        != 0
    {
        skip!("needs ifb devices and tc");
    }
    let ipam = host.addresses("10.91.0.0/24");
    let plugins = json!([
        {"type": "bridge", "bridge": "web0", "isGateway": true, "ipam": ipam},
        {"type": "bandwidth", "capabilities": {"bandwidth": true}},
    ]);
    let host = host.conf("web", plugins);
    let limits = "ingressRate=8000000,ingressBurst=8000000,egressRate=8000000,egressBurst=8000000";
    let bundle = host.runtime.bundle().args(["sleep", "1000"]);
    let bundle = bundle.set("/annotations/run.coracle.network.bandwidth", json!(limits));
    let container = host.start(&bundle, "web");
    let queues = host.shell("tc qdisc").ok().stdout;
    assert_eq!(queues.matches("rate 8Mbit").count(), 2, "{queues}");
    container.delete_by_force().ok();
    assert!(
        !host.shell("ls /sys/class/net").stdout.contains("bwp"),
        "a device is left"
    );
    host.is_clean();
}

#[test]
fn the_host_can_be_reached_by_ptp_too() {
    let host = Host::new().bridged();
    let ipam = host.addresses("10.91.1.0/24");
    let host = host.conf(
        "p2p",
        json!([{"type": "ptp", "ipMasq": true, "ipam": ipam}]),
    );
    let script = "ip -o -4 addr | sed 's/.*\\(eth.\\).*inet \\([^ ]*\\).*/\\1 \\2/' | grep eth";
    let output = host
        .run(&host.runtime.bundle().shell(script), "web,p2p")
        .ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(
        lines[0].starts_with("eth0 10.91.0.") && lines[1].starts_with("eth1 10.91.1."),
        "{output}"
    );
    host.is_clean();
}

#[test]
fn plugins_find_what_they_check() {
    let host = Host::new().bridged();
    let container = host.start(&host.runtime.bundle().args(["sleep", "1000"]), "web");
    let check = || {
        host.runtime
            .command(["network", "check", &container.id])
            .output()
    };
    check().ok();
    let inspect = host
        .runtime
        .command(["network", "inspect", "web"])
        .args(host.search());
    let found: Value = inspect.output().ok().stdout.parse().unwrap();
    assert_eq!(found["programs"][0]["path"], format!("{PLUGINS}/bridge"));
    assert_eq!(
        found["containers"][0]["addresses"],
        json!([address(&container)])
    );
    let net = format!("--net=/proc/{}/ns/net", container.pid());
    Command::new("nsenter")
        .args([&net, "ip", "route", "del", "default"])
        .output()
        .ok();
    check().fails(["network check ", "network web: plugin bridge: CHECK: "]);
    container.delete_by_force().ok();
    host.is_clean();
}

#[test]
fn a_full_network_refuses_and_leaves_nothing() {
    let host = Host::new();
    let ipam = host.addresses("10.91.0.0/30");
    let bridge = json!({"type": "bridge", "bridge": "web0", "isGateway": true, "ipMasq": true, "ipam": ipam});
    let host = host.conf("web", json!([bridge, {"type": "portmap"}]));
    let bundle = host.runtime.bundle().args(["sleep", "1000"]);
    let first = host.start(&bundle, "web");
    let output = host.run(&bundle, "web");
    output.fails([
        "network web: plugin bridge: ADD: ",
        "no IP addresses available",
    ]);
    assert_eq!(host.leases().len(), 1);
    first.delete_by_force().ok();
    host.is_clean();
}

#[test]
fn a_user_namespace_is_attached() {
    let host = Host::new().bridged();
    let server = host.server("");
    let client = host
        .runtime
        .bundle()
        .shell(&ask(&format!("{} 80", address(&server))));
    assert_eq!(
        host.run(&client.user_namespace(), "web").ok().line(),
        "hello"
    );
    server.delete_by_force().ok();
    host.is_clean();
}

#[test]
fn many_containers_at_once_have_their_own_addresses() {
    let host = Host::new().bridged();
    let bundle = host.runtime.bundle().args(["sleep", "1000"]);
    bundle.write();
    let count = times(24, 100);
    let ids: Vec<String> = (0..count).map(|_| host.runtime.id()).collect();
    // Eight at a time: a hundred processes at once test the machine's patience, not ours.
    let each = |work: &(dyn Fn(&str) + Sync)| {
        thread::scope(|scope| {
            for part in ids.chunks(count.div_ceil(8)) {
                scope.spawn(move || part.iter().for_each(|id| work(id)));
            }
        });
    };
    let (runtime, search) = (&host.runtime, host.search());
    each(&|id| {
        let create = runtime.with_bundle("create", &bundle).args(&search);
        let create = create.args(["--network", "web", id]);
        create.limit(120).output().ok();
    });
    assert_eq!(
        host.leases().len(),
        count,
        "every container has an address of its own"
    );
    each(&|id| {
        let delete = runtime.command(["delete", "--force", id]);
        delete.limit(120).output().ok();
    });
    host.is_clean();
}

/// Whenever the creating runtime is killed, what is left is found and taken back.
#[test]
fn a_creation_can_be_killed_at_any_moment() {
    let host = Host::new().bridged();
    let bundle = host.runtime.bundle().args(["sleep", "1000"]);
    let bundle = bundle.set("/annotations/run.coracle.network.publish", json!("8080:80"));
    bundle.write();
    let begin = std::time::Instant::now();
    host.run(&host.runtime.bundle(), "web").ok();
    let whole = begin.elapsed();
    let steps = u32::try_from(times(12, 60)).unwrap();
    for step in 0..steps {
        let id = host.runtime.id();
        let create = host
            .runtime
            .with_bundle("create", &bundle)
            .args(host.search());
        let create = create.args(["--network", "web", &id]).spawn();
        create.wait_briefly(whole * step / steps + Duration::from_micros(500));
        // The `nsenter` that we started has become the runtime.
        create.signal(Signal::SIGKILL);
        host.runtime
            .command(["delete", "--force", &id])
            .output()
            .ok();
    }
    host.is_clean();
}

#[test]
fn gc_takes_back_what_a_killed_creation_left() {
    let host = Host::new().bridged();
    let id = host.runtime.id();
    let bundle = host.runtime.bundle().args(["sleep", "1000"]);
    let create = host
        .runtime
        .with_bundle("create", &bundle)
        .args(host.search());
    let create = create.args(["--network", "web", &id]).spawn();
    wait_until("an address", || !host.leases().is_empty());
    create.signal(Signal::SIGKILL);
    create.wait_or_kill();
    let gc = || {
        host.runtime
            .command(["network", "gc", "web"])
            .args(host.search())
    };
    // Debian's bridge cannot take back rules that it had only half made, and says so; the address
    // goes all the same.
    wait_until("the end of what was left", || {
        let output = gc().output();
        assert!(
            output.code == 0 || output.stderr.contains("plugin bridge: DEL: "),
            "{output}"
        );
        host.leases().is_empty()
    });
    host.runtime
        .command(["delete", "--force", &id])
        .output()
        .ok();
    host.is_clean();
}

/// The commands of docs/cni.md one after the other, on a "host" with folders of its own. What a
/// line says to print must come in this order.
#[test]
fn the_tutorial_works() {
    let host = Host::new();
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Ok(page) = fs::read_to_string(top.join("docs/cni.md")) else {
        skip!("needs the checkout, {}, for its page", top.display());
    };
    if !Path::new("/etc/cni").exists() {
        skip!("needs /etc/cni, which the package of the plugins makes");
    }
    let folder = host.runtime.folder();
    let examples = folder.folder("docs").join("examples");
    let copy = Command::new("cp").arg("-r").arg(top.join("docs/examples"));
    copy.arg(&examples).output().ok();
    let mut script = String::from(
        "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib\n\
         mount -t tmpfs tmpfs /etc/cni && trap 'coracle delete --force server' EXIT\n",
    );
    let blocks = page.split("```sh\n").skip(1);
    script.extend(blocks.map(|block| block.split("```").next().unwrap()));
    let printed: Vec<&str> = script
        .lines()
        .filter_map(|l| l.split_once("# prints "))
        .map(|l| l.1)
        .collect();
    assert_eq!(printed.len(), 6, "{printed:?}");
    // The machine's control groups are the one thing that is shared.
    let own = |name: &str| format!("{}{name}", host.runtime.marker());
    let script = script
        .replace("server", &own("s"))
        .replace("client", &own("c"));
    std::os::unix::fs::symlink(coracle_integration::program(), folder.join("coracle")).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.path().display());
    let net = format!("--net={}", host.namespace().display());
    let shell =
        Command::new("nsenter").args([&net, "unshare", "--mount", "sh", "-eu", "-c", &script]);
    let shell = shell
        .env("PATH", path)
        .env("CORACLE_TEST", host.runtime.marker());
    let output = shell.folder(folder.path()).limit(120).output().ok();
    let mut rest = output.stdout.as_str();
    for text in printed {
        let at = rest
            .find(text.trim())
            .unwrap_or_else(|| panic!("no {text:?}\n{output}"));
        rest = &rest[at + text.trim().len()..];
    }
    assert!(output.stdout.starts_with("NAME"), "{output}");
    host.is_clean();
}
