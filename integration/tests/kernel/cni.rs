//! Networks by CNI in the life of a container. The plugins are scripts of these tests, which write
//! down what they receive; `cni_plugins` has real ones.

use std::fs;
use std::os::unix::fs::MetadataExt;

use coracle_integration::{
    Bundle, Command, Container, Output, Runtime, Value, json, needs, wait_until,
};
use nix::sys::signal::Signal;

/// A runtime, a folder of configurations and one of plugins.
struct Net {
    runtime: Runtime,
}

/// A plugin that writes down what it receives and agrees with everything.
const NOTE: &str = r#"input=$(cat); echo "$CNI_COMMAND $(basename $0) $CNI_IFNAME $input" >>"$LOG"
ok() { echo '{"cniVersion":"1.1.0","interfaces":[],"ips":[{"address":"10.7.0.2/24"}],"dns":{"nameservers":["10.7.0.1"]}}'; }
"#;
const AGREE: &str = "case $CNI_COMMAND in ADD) ok;; esac";
/// In place of `AGREE`: a plugin that fails ADD.
const REFUSE: &str = r#"case $CNI_COMMAND in
    ADD) echo '{"cniVersion":"1.1.0","code":101,"msg":"port is in use","details":"8080"}'; exit 1;;
    esac"#;

impl Net {
    fn new() -> Self {
        Self::of(Runtime::new())
    }

    fn of(runtime: Runtime) -> Self {
        for folder in ["conf", "bin"] {
            runtime.folder().folder(folder);
        }
        let log = runtime.folder().file("log", "");
        // For an ordinary user's plugins too.
        fs::set_permissions(log, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        Self { runtime }
    }

    /// A network `n` of these plugins.
    fn network(self, plugins: &[(&str, &str)]) -> Self {
        let list: Vec<Value> = plugins
            .iter()
            .map(|(name, _)| json!({"type": name}))
            .collect();
        let net = self.conf(
            "n.conflist",
            json!({"cniVersion": "1.1.0", "name": "n", "plugins": list}),
        );
        plugins
            .iter()
            .fold(net, |net, (name, script)| net.plugin(name, script))
    }

    fn conf(self, file: &str, config: Value) -> Self {
        let path = self.runtime.folder().join("conf").join(file);
        fs::write(path, config.to_string()).unwrap();
        self
    }

    fn plugin(self, name: &str, script: &str) -> Self {
        let log = self.runtime.folder().join("log");
        let text = format!("LOG={}\n{NOTE}{script}", log.display());
        self.runtime.folder().script(format!("bin/{name}"), &text);
        self
    }

    fn search(&self) -> [String; 4] {
        let folder = |name: &str| self.runtime.folder().join(name).display().to_string();
        [
            "--cni-conf-dir".into(),
            folder("conf"),
            "--cni-bin-dir".into(),
            folder("bin"),
        ]
    }

    /// `VERB --network NETWORK`, with where to look.
    fn command(&self, verb: &str, bundle: &Bundle, network: &str) -> Command {
        let command = self.runtime.with_bundle(verb, bundle).args(self.search());
        command.args(["--network", network])
    }

    fn try_create(&self, bundle: &Bundle, network: &str) -> Output {
        self.command("create", bundle, network)
            .arg(self.runtime.id())
            .output()
    }

    #[track_caller]
    fn create(&self, bundle: &Bundle, network: &str) -> Container<'_> {
        let [a, b, c, d] = &self.search();
        self.runtime
            .create_with(bundle, ["--network", network, a, b, c, d])
    }

    fn verb(&self, words: &[&str]) -> Command {
        self.runtime
            .command(["network"])
            .args(words)
            .args(self.search())
    }

    /// The input of the plugins, one call on each line.
    fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.runtime.folder().join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The same without the input: `ADD one eth0`.
    fn calls(&self) -> Vec<String> {
        let calls = self.log().into_iter();
        calls
            .map(|line| line.split(" {").next().unwrap().to_owned())
            .collect()
    }
}

fn sleeper(net: &Net) -> Bundle {
    net.runtime.bundle().args(["sleep", "1000"])
}

/// The record of a failure without the quoting that its form demands.
fn plain(mut output: Output) -> Output {
    output.stderr = output.stderr.replace("\\\"", "\"").replace("\\\\", "\\");
    output
}

fn namespace(pid: impl std::fmt::Display) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/net")).unwrap().ino()
}

#[test]
fn nothing_is_looked_for_unless_it_is_asked() {
    needs::program("strace");
    let net = Net::new();
    let traced = |network: &[&str]| {
        let run = net
            .runtime
            .with_bundle("run", &net.runtime.bundle())
            .args(network);
        let trace = net.runtime.folder().join("trace");
        let options = ["-f", "-e", "trace=%file,mount,move_mount", "-o"].map(str::to_owned);
        let options = options.iter().cloned().chain([trace.display().to_string()]);
        run.arg(net.runtime.id())
            .under("strace", options)
            .output()
            .ok();
        fs::read_to_string(trace).unwrap()
    };
    for network in [&[][..], &["--network", "none"], &["--network", "host"]] {
        let trace = traced(network);
        assert!(
            !["/etc/cni", "lib/cni", "/netns"]
                .iter()
                .any(|sign| trace.contains(sign)),
            "{network:?}"
        );
    }
}

#[test]
fn bad_values_are_refused_before_anything_is_made() {
    let net = Net::new().network(&[("one", AGREE)]);
    let bundle = net.runtime.bundle();
    for (flags, message) in [
        (
            &["--network", ""][..],
            "--network: \"\": expected none, host, container:ID or names",
        ),
        (&["--network", "../n"], "--network: \"../n\": expected"),
        (&["--network", "n,n"], "--network: \"n\" is named twice"),
        (
            &["--network", "m"],
            "network m: no configuration of that name in ",
        ),
        (
            &["--network", "container:nobody"],
            "container:nobody: there is no such container",
        ),
        (
            &["--publish", "1:1"],
            "--publish: without a network to attach to",
        ),
        (
            &["--network", "host", "--ip", "10.0.0.1"],
            "--ip: \"host\" attaches to no network",
        ),
        (
            &["--network", "n", "--publish", "0:1"],
            "--publish: \"0:1\": expected [IP:]HOST",
        ),
        (
            &["--network", "n", "--mac", "01:00:00:00:00:00"],
            "--mac: \"01:00:00:00:00:00\": expected",
        ),
        (
            &["--network", "n", "--ip", "10.0.0"],
            "--ip: \"10.0.0\": expected an address",
        ),
        (
            &["--network", "n", "--ip", "10.0.0.1"],
            "--ip: no plugin of n has the capability \"ips\"",
        ),
        (
            &["--network", "n", "--dns", "x"],
            "--dns: \"x\": expected the address of a name server",
        ),
        (
            &["--network", "n", "--bandwidth", "x=1"],
            "--bandwidth: \"x=1\": expected",
        ),
        (
            &["--network", "n", "--cni-timeout", "0"],
            "--cni-timeout: \"0\": expected",
        ),
        (
            &["--network", "n", "--cni-bin-dir", "/a:b"],
            "--cni-bin-dir: \"/a:b\": expected a folder",
        ),
    ] {
        let create = net.runtime.with_bundle("create", &bundle);
        let create = create.args(net.search()).args(flags).arg(net.runtime.id());
        plain(create.output()).fails([message]);
    }
    for (key, value, message) in [
        (
            "",
            "a b",
            "config.json: annotations[\"run.coracle.network\"]: \"a b\": expected none",
        ),
        // An image's annotation must not lead out of what the config lists.
        (
            "",
            "host",
            "annotations[\"run.coracle.network\"]: \"host\": accepted only from --network",
        ),
        (
            ".publish",
            "80",
            "annotations[\"run.coracle.network.publish\"]: \"80\": expected",
        ),
        (
            ".files",
            "maybe",
            "annotations[\"run.coracle.network.files\"]: \"maybe\": expected",
        ),
    ] {
        let bundle = net
            .runtime
            .bundle()
            .set("/annotations/run.coracle.network", json!("n"));
        let bundle = bundle.set(
            &format!("/annotations/run.coracle.network{key}"),
            json!(value),
        );
        plain(net.runtime.try_create(&bundle)).fails([message]);
    }
    assert_eq!(net.log(), [""; 0]);
    net.runtime.is_clean();
}

#[test]
fn a_flag_wins_over_the_annotation() {
    let net = Net::new().network(&[("one", AGREE)]);
    let bundle = sleeper(&net).set("/annotations/run.coracle.network", json!("n"));
    let container = net.create(&bundle, "none");
    assert_eq!(net.log(), [""; 0]);
    container.delete().ok();
    // The annotation alone, without the flag, chooses the network.
    let [a, b, c, d] = &net.search();
    let container = net.runtime.create_with(&bundle, [a, b, c, d]);
    assert_eq!(net.calls(), ["ADD one eth0"]);
    container.delete().ok();
    assert_eq!(net.calls(), ["ADD one eth0", "DEL one eth0"]);
}

#[test]
fn the_modes() {
    let net = Net::new();
    let look = "readlink /proc/self/ns/net; ls /sys/class/net | tr '\\n' ' '";
    for without in [false, true] {
        let bundle = net.runtime.bundle().shell(look);
        let bundle = if without {
            bundle.without_namespace("network")
        } else {
            bundle
        };
        let own = net
            .command("run", &bundle, "none")
            .arg(net.runtime.id())
            .output()
            .ok();
        assert!(
            own.stdout.ends_with("lo ") || own.stdout.contains("lo"),
            "{own}"
        );
        assert!(
            !own.stdout.contains(&namespace("self").to_string()),
            "{own}"
        );
        // A container without a network namespace of its own may mount no sysfs.
        let bundle = bundle.without_mount("/sys");
        let host = net
            .command("run", &bundle, "host")
            .arg(net.runtime.id())
            .output()
            .ok();
        assert!(
            host.stdout.contains(&namespace("self").to_string()),
            "{host}"
        );
    }
}

#[test]
fn another_containers_network_is_joined() {
    let net = Net::new();
    let first = net.runtime.sleeper();
    let bundle = net
        .runtime
        .bundle()
        .shell("readlink /proc/self/ns/net")
        .without_mount("/sys");
    let network = format!("container:{}", first.id);
    let output = net
        .command("run", &bundle, &network)
        .arg(net.runtime.id())
        .output()
        .ok();
    assert_eq!(output.line(), format!("net:[{}]", namespace(first.pid())));
    first.kill("KILL").ok();
    first.wait_for_status("stopped");
    let message = format!("network {network}: there is no such container with a process");
    plain(net.try_create(&bundle, &network)).fails([&message]);
}

#[test]
fn a_network_that_is_given_by_path_stays() {
    let net = Net::new();
    let bundle = net
        .runtime
        .bundle()
        .join_namespace("network", "/proc/self/ns/net");
    for network in ["none", "host"] {
        let message = "path: joins a network namespace, but another network is requested";
        plain(net.try_create(&bundle, network)).fails(["config.json: linux.namespaces[", message]);
    }
}

#[test]
fn sysctls_of_the_hosts_network_are_refused() {
    let net = Net::new();
    let bundle = net
        .runtime
        .bundle()
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    let message = "is not in a separate kernel namespace: linux.namespaces has no network entry";
    plain(net.try_create(&bundle, "host"))
        .fails(["linux.sysctl[\"net.ipv4.ip_forward\"]", message]);
    net.create(&bundle, "none").delete().ok();
}

#[test]
fn a_network_comes_before_the_hooks_and_goes_with_the_container() {
    let net = Net::new().network(&[("one", AGREE), ("two", AGREE)]);
    let log = net.runtime.folder().join("log");
    let hook =
        json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo hook >>{}", log.display())]});
    let bundle = sleeper(&net).hook("createRuntime", hook);
    let container = net.create(&bundle, "n");
    assert_eq!(net.calls(), ["ADD one eth0", "ADD two eth0", "hook"]);
    container.start().ok();
    let own = fs::metadata(net.runtime.root().join(&container.id).join("netns"))
        .unwrap()
        .ino();
    assert_eq!(own, namespace(container.pid()), "the namespace is pinned");
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
    assert_eq!(net.calls()[3..], ["DEL two eth0", "DEL one eth0"]);
    let log = net.log();
    assert!(
        !log[0].contains("prevResult") && log[1].contains("\"prevResult\":{"),
        "{log:?}"
    );
    assert!(log[3].contains("\"address\":\"10.7.0.2/24\""), "{log:?}");
    net.runtime.is_clean();
}

#[test]
fn run_takes_the_network_back() {
    let net = Net::new().network(&[("one", AGREE)]);
    let run = net.command("run", &net.runtime.bundle().shell("exit 4"), "n");
    run.arg(net.runtime.id()).output().exits(4);
    assert_eq!(net.calls(), ["ADD one eth0", "DEL one eth0"]);
    net.runtime.is_clean();
}

#[test]
fn the_result_is_in_the_state_and_hooks_are_told() {
    let net = Net::new().network(&[("one", AGREE)]);
    let file = net.runtime.folder().join("input");
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("cat >{}", file.display())]});
    let bundle = sleeper(&net)
        .hook("createRuntime", hook)
        .set("/annotations/a", json!("b"));
    let container = net.create(&bundle, "n");
    let hook: Value = fs::read_to_string(file).unwrap().parse().unwrap();
    for state in [container.state(), hook] {
        assert_eq!(state["annotations"]["a"], "b");
        let text = state["annotations"]["run.coracle.network.result"]
            .as_str()
            .unwrap();
        let result: Value = text.parse().unwrap();
        assert_eq!(result[0]["network"], "n");
        assert_eq!(result[0]["interface"], "eth0");
        assert_eq!(result[0]["result"]["ips"][0]["address"], "10.7.0.2/24");
    }
    container.delete().ok();
}

#[test]
fn arguments_reach_who_declares_them() {
    let plugins = json!([
        {"type": "one", "capabilities": {"ips": true, "mac": true, "dns": true}},
        {"type": "two", "capabilities": {"portMappings": true, "bandwidth": true, "mac": false}},
    ]);
    let list = json!({"cniVersion": "1.1.0", "name": "n", "plugins": plugins});
    let net = Net::new()
        .conf("n.conflist", list)
        .plugin("one", AGREE)
        .plugin("two", AGREE);
    let create = net.command("create", &sleeper(&net), "n").args([
        "--publish",
        "127.0.0.1:8080:80",
        "--publish",
        "53:53/udp",
        "--ip",
        "10.7.0.9",
        "--mac",
        "02:00:00:00:00:09",
        "--dns",
        "9.9.9.9",
        "--bandwidth",
        "egressRate=800",
    ]);
    let id = net.runtime.id();
    create.arg(&id).output().ok();
    net.runtime
        .command(["delete", "--force", &id])
        .output()
        .ok();
    let expected = [
        json!({"ips": ["10.7.0.9"], "mac": "02:00:00:00:00:09", "dns": {"servers": ["9.9.9.9"]}}),
        json!({"bandwidth": {"egressRate": 800}, "portMappings": [
            {"hostIP": "127.0.0.1", "hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp"},
        ]}),
    ];
    let log = net.log();
    for (line, expected) in [(0, 0), (1, 1), (2, 1), (3, 0)].map(|(l, e)| (&log[l], &expected[e])) {
        let input: Value = line[line.find('{').unwrap()..].parse().unwrap();
        assert_eq!(&input["runtimeConfig"], expected, "{line}");
        assert!(input.get("capabilities").is_none(), "{line}");
    }
}

#[test]
fn several_networks_are_taken_back_in_reverse() {
    let single =
        |name: &str, kind: &str| json!({"cniVersion": "1.1.0", "name": name, "type": kind});
    let net = Net::new()
        .conf("a.conf", single("a", "one"))
        .conf("b.conf", single("b", "two"));
    let net = net.plugin("one", AGREE).plugin("two", AGREE);
    let container = net.create(&sleeper(&net), "b,a");
    container.delete().ok();
    let expected = [
        "ADD two eth0",
        "ADD one eth1",
        "DEL one eth1",
        "DEL two eth0",
    ];
    assert_eq!(net.calls(), expected);
    // DEL is not called for an attachment that was never begun.
    let net = net.plugin("two", REFUSE);
    plain(net.try_create(&sleeper(&net), "b,a")).fails(["network b: plugin two: ADD:"]);
    assert_eq!(net.calls()[4..], ["ADD two eth0", "DEL two eth0"]);
    net.runtime.is_clean();
}

#[test]
fn a_failed_plugin_undoes_the_chain() {
    let net = Net::new().network(&[("one", AGREE), ("two", REFUSE), ("three", AGREE)]);
    let message = "network n: plugin two: ADD: port is in use: 8080 (code 101)";
    plain(net.try_create(&sleeper(&net), "n")).fails(["create ", message]);
    let expected = [
        "ADD one eth0",
        "ADD two eth0",
        "DEL three eth0",
        "DEL two eth0",
        "DEL one eth0",
    ];
    assert_eq!(net.calls(), expected);
    net.runtime.is_clean();
}

#[test]
fn a_failure_after_the_network_undoes_it() {
    let net = Net::new().network(&[("one", AGREE)]);
    let hook = json!({"path": "/bin/false"});
    let failing = [
        sleeper(&net).hook("createRuntime", hook),
        sleeper(&net).args(["/nonexistent"]),
        sleeper(&net).mount("/mnt", "nonesuch", "none", []),
    ];
    for (count, bundle) in failing.iter().enumerate() {
        plain(net.try_create(bundle, "n")).fails(["create "]);
        assert_eq!(net.calls()[2 * count..], ["ADD one eth0", "DEL one eth0"]);
        net.runtime.is_clean();
    }
}

#[test]
fn broken_plugins_are_told_in_one_line() {
    let prefix = "network n: plugin two: ADD: ";
    for (script, message) in [
        (
            "echo what; echo else",
            "its result is not JSON: expected value at line 1 column 1: what\\nelse",
        ),
        ("exit 3", "exit status 3"),
        (
            "echo broke >&2; kill -SEGV $$",
            "killed by signal 11: broke",
        ),
        (
            r#"echo '{"cniVersion":"0.1.0"}'"#,
            "its result is of \"0.1.0\", not of \"1.1.0\"",
        ),
        ("cat /dev/zero", "printed more than 1048576 bytes"),
        ("sleep 1000", "timed out after 1 s"),
    ] {
        let script = format!("case $CNI_COMMAND in ADD) {script};; esac");
        let net = Net::new().network(&[("one", AGREE), ("two", &script)]);
        let create = net.command("create", &sleeper(&net), "n");
        let create = create.args(["--cni-timeout", "1"]).arg(net.runtime.id());
        plain(create.output()).fails([prefix, message]);
        let expected = [
            "ADD one eth0",
            "ADD two eth0",
            "DEL two eth0",
            "DEL one eth0",
        ];
        assert_eq!(net.calls(), expected);
        net.runtime.is_clean();
    }
}

#[test]
fn a_missing_plugin_is_found_before_anything_is_made() {
    let net = Net::new().network(&[("one", AGREE), ("two", AGREE)]);
    fs::remove_file(net.runtime.folder().join("bin/two")).unwrap();
    let bin = net.runtime.folder().join("bin");
    let message = format!("network n: plugin two: not found in {bin:?}");
    plain(net.try_create(&sleeper(&net), "n")).fails([&message]);
    assert_eq!(net.log(), [""; 0]);
    assert!(!net.runtime.root().exists(), "the state root was made");
}

#[test]
fn configurations_that_will_not_do() {
    let net = Net::new().network(&[("one", AGREE)]);
    let conf = |name: &str| json!({"cniVersion": "0.2.0", "name": name, "type": "one"});
    let net = net.conf("old.conf", conf("old"));
    let message = "old.conf\": cniVersion: \"0.2.0\": expected 0.4.0, 1.0.0 or 1.1.0)";
    plain(net.try_create(&sleeper(&net), "old")).fails(["network old: no configuration", message]);
    // A bad configuration of another network does not matter.
    net.create(&sleeper(&net), "n").delete().ok();
    let again = json!({"cniVersion": "1.0.0", "name": "n", "type": "one"});
    let net = net.conf("o.conf", again);
    plain(net.try_create(&sleeper(&net), "n"))
        .fails(["network n: configured twice, in ", "o.conf"]);
}

/// A network `n` whose plugin claims to publish ports.
fn publishing() -> Net {
    let plugin = json!({"type": "one", "capabilities": {"portMappings": true}});
    let list = json!({"cniVersion": "1.1.0", "name": "n", "plugins": [plugin]});
    Net::new().conf("n.conflist", list).plugin("one", AGREE)
}

fn try_publish(net: &Net, port: &str) -> (String, Output) {
    let id = net.runtime.id();
    let create = net.command("create", &sleeper(net), "n");
    let create = create.args(["--publish", port]).arg(&id);
    (id, plain(create.output()))
}

#[test]
fn a_port_of_a_program_is_not_published() {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    let net = publishing();
    let refused = |port: &str, named: &str| {
        let message = format!("published port {named}: address already in use");
        try_publish(&net, port).1.fails([&message]);
        let check = net.command("check", &sleeper(&net), "n");
        let checked = check.args(["--publish", port]).output();
        assert_eq!(checked.code, 1, "{checked}");
        assert!(checked.stdout.contains(&message), "{checked}");
        assert_eq!(net.log(), [""; 0]);
        assert!(!net.runtime.root().exists(), "the state root was made");
    };
    let all = TcpListener::bind("0.0.0.0:0").unwrap();
    let tcp = all.local_addr().unwrap().port();
    refused(&format!("{tcp}:80"), &format!("{tcp}/tcp"));
    let named = format!("127.0.0.1:{tcp}");
    refused(&format!("{named}:80"), &format!("{named}/tcp"));
    // An accepted connection keeps the port, but no program listens there any more: it may be
    // published.
    let client = TcpStream::connect(all.local_addr().unwrap()).unwrap();
    let (server, _) = all.accept().unwrap();
    drop(all);
    let one = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = one.local_addr().unwrap().port();
    refused(&format!("{udp}:80/udp"), &format!("{udp}/udp"));
    if let Ok(six) = TcpListener::bind("[::1]:0") {
        let six = six.local_addr().unwrap();
        refused(&format!("{six}:80"), &format!("{six}/tcp"));
    }
    // Nor do programs listen on the ports that clients connect from.
    let from = client.local_addr().unwrap().port();
    let asks = UdpSocket::bind("127.0.0.1:0").unwrap();
    asks.connect("127.0.0.1:9").unwrap();
    let asks_from = asks.local_addr().unwrap().port();
    for port in [
        format!("{tcp}:80"),
        format!("{from}:80"),
        format!("{asks_from}:80/udp"),
        format!("127.0.0.2:{udp}:80/udp"),
    ] {
        let (id, created) = try_publish(&net, &port);
        created.ok();
        net.runtime.command(["delete", &id]).output().ok();
    }
    drop((client, server));
}

#[test]
fn a_port_of_another_container_is_not_published() {
    let net = publishing();
    // The port is free when the runtime looks, and no program of the host listens there later.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let (holder, created) = try_publish(&net, &format!("127.0.0.1:{port}:80"));
    created.ok();
    let calls = net.calls();
    for asked in [format!("{port}:80"), format!("127.0.0.1:{port}:81")] {
        let named = asked.rsplit_once(':').unwrap().0.to_owned();
        let message =
            format!("published port {named}/tcp: already published by container {holder}");
        try_publish(&net, &asked).1.fails([&message]);
    }
    assert_eq!(net.calls(), calls);
    for asked in [format!("127.0.0.2:{port}:80"), format!("{port}:80/udp")] {
        try_publish(&net, &asked).1.ok();
    }
    // The rules of a stopped container are still there.
    net.runtime.command(["kill", &holder, "9"]).output().ok();
    let again = format!("127.0.0.1:{port}:80");
    try_publish(&net, &again).1.fails([&holder]);
    net.runtime.command(["delete", "-f", &holder]).output().ok();
    try_publish(&net, &again).1.ok();
}

#[test]
fn a_plugin_that_will_not_let_go_needs_force() {
    let script = "case $CNI_COMMAND in ADD) ok;; DEL) echo no >&2; exit 1;; esac";
    let net = Net::new().network(&[("one", AGREE), ("two", script)]);
    let container = net.create(&sleeper(&net), "n");
    let message = "network n: plugin two: DEL: exit status 1: no";
    container.delete().fails(["delete ", message]);
    assert_eq!(container.status(), "stopped");
    // Each plugin that fails is asked twice; what was taken back is not asked for again.
    let twice = ["DEL two eth0", "DEL two eth0", "DEL one eth0"];
    assert_eq!(net.calls()[2..], twice);
    let output = container.delete_by_force().ok();
    assert!(output.stderr.contains(message), "{output}");
    assert_eq!(net.calls()[5..], twice);
    net.runtime.is_clean();
}

/// A script whose DEL fails as long as there is a file `no` beside the plugin.
const UNWILLING: &str = r#"case $CNI_COMMAND in ADD) ok;;
    DEL) if [ -e $0.no ]; then echo no >&2; exit 1; fi;; esac"#;

#[test]
fn a_plugin_that_fails_once_is_asked_again() {
    let once = r#"case $CNI_COMMAND in ADD) ok;;
        DEL) if mkdir $0.asked; then echo locked >&2; exit 1; fi 2>/dev/null;; esac"#;
    let net = Net::new().network(&[("one", AGREE), ("two", once)]);
    let deleted = net.create(&sleeper(&net), "n").delete().ok();
    assert_eq!(deleted.stderr, "", "{deleted}");
    let twice = ["DEL two eth0", "DEL two eth0", "DEL one eth0"];
    assert_eq!(net.calls()[2..], twice);
    net.runtime.is_clean();
}

#[test]
fn a_plugin_that_hangs_is_asked_once() {
    let script = "case $CNI_COMMAND in ADD) ok;; DEL) exec sleep 1000;; esac";
    let net = Net::new().network(&[("one", script)]);
    let id = net.runtime.id();
    let create = net.command("create", &sleeper(&net), "n");
    create.args(["--cni-timeout", "1", &id]).output().ok();
    let delete = net.runtime.command(["delete", "--force", &id]);
    let output = delete.output().ok();
    assert!(output.stderr.contains("timed out after 1 s"), "{output}");
    assert_eq!(net.calls()[1..], ["DEL one eth0"]);
}

#[test]
fn what_a_failed_creation_leaves_is_told_and_cleared() {
    let fails = "case $CNI_COMMAND in ADD) exit 3;; esac";
    for (verb, clearing) in [("create", "delete"), ("run", "gc")] {
        let net = Net::new().network(&[("one", UNWILLING), ("two", fails)]);
        let no = net.runtime.folder().file("bin/one.no", "");
        let id = net.runtime.id();
        let command = net.command(verb, &sleeper(&net), "n").arg(&id);
        command.output().fails([
            "network n: plugin two: ADD: exit status 3",
            "then, when it was taken back: network n: plugin one: DEL: exit status 1: no",
        ]);
        let state = net.runtime.command(["state", &id]).output().ok();
        assert!(state.stdout.contains("stopped"), "{state}");
        let clear = || match clearing {
            "gc" => net.verb(&["gc"]).output(),
            _ => net.runtime.command(["delete", &id]).output(),
        };
        clear().fails(["network n: plugin one: DEL: exit status 1: no"]);
        fs::remove_file(no).unwrap();
        clear().ok();
        if clearing == "gc" {
            let calls = net.calls().len();
            net.runtime.command(["delete", &id]).output().ok();
            assert_eq!(net.calls().len(), calls);
        }
        net.runtime.is_clean();
    }
}

#[test]
fn what_a_failed_deletion_leaves_is_cleared_by_gc() {
    let net = Net::new().network(&[("one", UNWILLING)]);
    let net = net.conf(
        "m.conflist",
        json!({"cniVersion": "1.1.0", "name": "m", "plugins": [{"type": "two"}]}),
    );
    let net = net.plugin("two", AGREE);
    let no = net.runtime.folder().file("bin/one.no", "");
    let container = net.create(&sleeper(&net), "n,m");
    container.delete().fails(["network n: plugin one: DEL"]);
    fs::remove_file(no).unwrap();
    // The failed deletion has detached the container from the other network already.
    let output = net.verb(&["gc"]).output().ok();
    assert_eq!(output.stdout, format!("n eth0 of {}\n", container.id));
    let calls = net.calls();
    let released: Vec<_> = calls
        .iter()
        .filter(|call| call.starts_with("DEL two"))
        .collect();
    assert_eq!(released.len(), 1, "{calls:?}");
    container.delete().ok();
    net.runtime.is_clean();
}

#[test]
fn a_record_that_lost_its_network_needs_force() {
    let net = Net::new().network(&[("one", AGREE)]);
    let container = net.create(&sleeper(&net), "n");
    let path = net.runtime.root().join(&container.id).join("record.json");
    let mut record: Value = fs::read_to_string(&path).unwrap().parse().unwrap();
    record["network"] = json!({"attachments": 7});
    fs::write(path, record.to_string()).unwrap();
    let message = "what it tells of networks cannot be read";
    container.delete().fails([message]);
    let output = container.delete_by_force().ok();
    assert!(output.stderr.contains(message), "{output}");
    let container = net.create(&sleeper(&net), "n");
    let path = net.runtime.root().join(&container.id).join("record.json");
    fs::write(path, "torn").unwrap();
    let output = container.delete_by_force().ok();
    assert!(output.stderr.contains("network gc"), "{output}");
    assert_eq!(container.exit_code(), 128 + 9);
    net.runtime.is_clean();
}

/// Kills a creation while its second plugin is at work.
fn killed(net: &Net) -> String {
    let id = net.runtime.id();
    let create = net.command("create", &sleeper(net), "n").arg(&id).spawn();
    wait_until("the second plugin", || net.calls().len() == 2);
    create.signal(Signal::SIGKILL);
    assert!(create.wait().signal.is_some());
    id
}

const SLOW: &str = "case $CNI_COMMAND in ADD) exec sleep 1000;; esac";

#[test]
fn a_killed_creation_is_deleted_by_force() {
    let net = Net::new().network(&[("one", AGREE), ("two", SLOW)]);
    let id = killed(&net);
    net.runtime
        .command(["delete", "--force", &id])
        .output()
        .ok();
    assert_eq!(net.calls()[2..], ["DEL two eth0", "DEL one eth0"]);
    net.runtime.is_clean();
}

#[test]
fn a_killed_creation_is_cleaned_up_by_gc() {
    let net = Net::new().network(&[("one", AGREE), ("two", SLOW)]);
    let id = killed(&net);
    let state = || {
        net.runtime
            .command(["state", &id])
            .output()
            .ok()
            .stdout
            .contains("stopped")
    };
    wait_until("init's end", state);
    let output = net.verb(&["gc"]).output().ok();
    assert_eq!(output.stdout, format!("n eth0 of {id}\n"));
    let expected = ["DEL two eth0", "DEL one eth0", "GC one ", "GC two "];
    assert_eq!(net.calls()[2..], expected);
    let log = net.log();
    assert!(
        log[4].contains("\"cni.dev/valid-attachments\":[]"),
        "{}",
        log[4]
    );
    assert!(!net.runtime.root().join(&id).join("netns").exists());
    // No attachment is left for `delete`.
    net.runtime.command(["delete", &id]).output().ok();
    assert_eq!(net.calls().len(), 6);
}

#[test]
fn deletion_by_force_ends_a_plugin() {
    let net = Net::new().network(&[("one", AGREE), ("two", SLOW)]);
    let id = net.runtime.id();
    let create = net.command("create", &sleeper(&net), "n").arg(&id).spawn();
    wait_until("the second plugin", || net.calls().len() == 2);
    net.runtime
        .command(["delete", "--force", &id])
        .output()
        .ok();
    create
        .wait()
        .fails(["network n: plugin two: ADD: ended, since the container was"]);
    assert_eq!(net.calls()[2..4], ["DEL two eth0", "DEL one eth0"]);
    net.runtime.is_clean();
}

#[test]
fn a_signal_ends_a_creation_and_its_plugin() {
    for (verb, signal) in [
        ("create", Signal::SIGINT),
        ("create", Signal::SIGTERM),
        ("run", Signal::SIGINT),
        ("run", Signal::SIGTERM),
    ] {
        let net = Net::new().network(&[("one", AGREE), ("two", SLOW)]);
        let id = net.runtime.id();
        let command = net.command(verb, &sleeper(&net), "n").arg(&id).spawn();
        wait_until("the second plugin", || net.calls().len() == 2);
        command.signal(signal);
        let output = command.wait();
        assert_eq!(output.signal, Some(signal as i32), "{output}");
        let reason = format!("interrupted by {signal}: network n: plugin two: ADD: killed");
        output.fails_as(128 + signal as i32, [reason.as_str()]);
        assert_eq!(net.calls()[2..], ["DEL two eth0", "DEL one eth0"]);
        net.runtime.is_clean();
    }
}

/// By force, too: what no plugin has taken back is kept for the next time.
#[test]
fn a_second_signal_to_delete_by_force_loses_nothing() {
    let script = "case $CNI_COMMAND in
        ADD) ok;; DEL) while test -e $0.no; do sleep 0.01; done;; esac";
    let net = Net::new().network(&[("one", AGREE), ("two", script)]);
    let no = net.runtime.folder().file("bin/two.no", "");
    let id = net.runtime.id();
    net.command("create", &sleeper(&net), "n")
        .arg(&id)
        .output()
        .ok();
    let delete = net.runtime.command(["delete", "--force", &id]).spawn();
    wait_until("DEL", || net.calls().len() == 3);
    delete.signal(Signal::SIGTERM);
    delete.signal(Signal::SIGINT);
    delete.wait().fails(["plugin two: DEL: killed"]);
    fs::remove_file(no).unwrap();
    net.runtime
        .command(["delete", "--force", &id])
        .output()
        .ok();
    assert_eq!(net.calls()[3..], ["DEL two eth0", "DEL one eth0"]);
    net.runtime.is_clean();
}

/// Only a second signal ends a DEL, and it can be repeated.
#[test]
fn a_second_signal_ends_the_taking_back() {
    let script = "case $CNI_COMMAND in ADD) exec sleep 1000;;
        DEL) while test -e $0.no; do sleep 0.01; done;; esac";
    for second in [None, Some(Signal::SIGTERM)] {
        let net = Net::new().network(&[("one", script)]);
        let no = net.runtime.folder().file("bin/one.no", "");
        let id = net.runtime.id();
        let create = net.command("create", &sleeper(&net), "n").arg(&id).spawn();
        wait_until("ADD", || net.calls().len() == 1);
        create.signal(Signal::SIGINT);
        wait_until("DEL", || net.calls().len() == 2);
        if let Some(signal) = second {
            create.signal(signal);
            let left =
                "ADD: killed; then, when it was taken back: network n: plugin one: DEL: killed";
            create
                .wait()
                .fails_as(128 + 2, ["interrupted by SIGINT: ", left]);
            fs::remove_file(no).unwrap();
            net.runtime.command(["delete", &id]).output().ok();
        } else {
            fs::remove_file(no).unwrap();
            create.wait().fails_as(128 + 2, ["ADD: killed"]);
        }
        net.runtime.is_clean();
    }
}

#[test]
fn a_network_is_checked() {
    let script = r#"case $CNI_COMMAND in ADD) ok;; CHECK)
        test ! -e $LOG.gone || { echo '{"code":9,"msg":"eth0 is gone"}'; exit 1; };; esac"#;
    let net = Net::new().network(&[("one", AGREE), ("two", script)]);
    let container = net.create(&sleeper(&net), "n");
    net.runtime
        .command(["network", "check", &container.id])
        .output()
        .ok();
    assert_eq!(net.calls()[2..], ["CHECK one eth0", "CHECK two eth0"]);
    assert!(net.log()[2].contains("\"prevResult\":{"));
    net.runtime.folder().file("log.gone", "");
    let check = net
        .runtime
        .command(["network", "check", &container.id])
        .output();
    let message = "network n: plugin two: CHECK: eth0 is gone (code 9)";
    check.fails([&format!("network check {}: ", container.id), message]);
    container.delete().ok();
    let other = net.create(&sleeper(&net), "none");
    let check = net
        .runtime
        .command(["network", "check", &other.id])
        .output();
    check.fails(["container is attached to no network"]);
    net.runtime
        .command(["network", "check", "nobody"])
        .output()
        .fails(["does not exist"]);
}

#[test]
fn networks_are_listed_and_inspected() {
    let script = r#"case $CNI_COMMAND in ADD) ok;;
        VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}';;
        STATUS) echo '{"code":50,"msg":"no daemon"}'; exit 1;; esac"#;
    let net = Net::new().network(&[("one", script)]);
    let net = net.conf("bad.conf", json!([]));
    let output = net.verb(&["ls"]).output().ok();
    let row = output.stdout.lines().nth(1).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[..3], ["n", "1.1.0", "one"]);
    assert!(
        output.stderr.contains("bad.conf\": expected an object"),
        "{output}"
    );
    let json = net.verb(&["ls", "--format", "json"]).output().ok();
    let list: Value = json.stdout.parse().unwrap();
    assert_eq!(list[0]["plugins"], json!(["one"]));
    let container = net.create(&sleeper(&net), "n");
    let text = net.verb(&["inspect", "n"]).output().ok();
    let found: Value = text.stdout.parse().unwrap();
    assert_eq!(found["name"], "n");
    assert_eq!(found["programs"][0]["supportedVersions"], json!(["1.1.0"]));
    let problem = "network n: plugin one: STATUS: no daemon (code 50)";
    assert_eq!(found["problem"], problem);
    let expected = json!([{"id": container.id, "interface": "eth0", "addresses": ["10.7.0.2"]}]);
    assert_eq!(found["containers"], expected);
    net.verb(&["inspect", "m"])
        .output()
        .fails(["network m: no configuration"]);
    container.delete().ok();
}

#[test]
fn plugins_collect_with_a_list_of_what_is_valid() {
    let plugins = json!([{"type": "one"}]);
    let off = json!({"cniVersion": "1.1.0", "name": "off", "plugins": plugins, "disableGC": true});
    let old = json!({"cniVersion": "1.0.0", "name": "old", "plugins": plugins});
    let net = Net::new()
        .network(&[("one", AGREE)])
        .conf("off.conflist", off)
        .conf("old.conflist", old);
    let container = net.create(&sleeper(&net), "n");
    assert_eq!(net.verb(&["gc"]).output().ok().stdout, "");
    // Neither a version that knows no GC nor a network that disables it is asked.
    assert_eq!(net.calls(), ["ADD one eth0", "GC one "]);
    let valid = json!([{"containerID": container.id, "ifname": "eth0"}]);
    assert!(net.log()[1].contains(&format!("\"cni.dev/valid-attachments\":{valid}")));
    net.verb(&["gc", "old"]).output().ok();
    net.verb(&["gc", "m"])
        .output()
        .fails(["network m: no configuration"]);
    assert_eq!(net.calls().len(), 2);
    container.delete().ok();
}

#[test]
fn files_for_names_are_mounted() {
    let net = Net::new().network(&[("one", AGREE)]);
    let look = "cat /etc/resolv.conf /etc/hosts; echo x >>/etc/hosts || echo read-only";
    let bundle = net.runtime.bundle().user(1000, 1000).shell(look);
    let run = net
        .command("run", &bundle, "n")
        .arg("--network-files")
        .arg(net.runtime.id());
    let output = run.output().ok();
    let expected = "nameserver 10.7.0.1\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n\
                    10.7.0.2\tcoracle\nread-only\n";
    assert_eq!(output.stdout, expected, "{output}");
    let bundle = bundle.set("/annotations/run.coracle.network.files", json!("true"));
    let bundle = bundle.set(
        "/annotations/run.coracle.network.dns",
        json!("9.9.9.9,8.8.8.8"),
    );
    let run = net
        .command("run", &bundle, "n")
        .arg(net.runtime.id())
        .output()
        .ok();
    assert!(
        run.stdout
            .starts_with("nameserver 9.9.9.9\nnameserver 8.8.8.8\n127."),
        "{run}"
    );
    net.runtime.is_clean();
}

#[test]
fn a_user_namespace_has_its_network() {
    let script = "case $CNI_COMMAND in ADD) nsenter --net=$CNI_NETNS ip link add d9 type veth peer d8 \
                  >&2 && ok;; esac";
    let net = Net::new().network(&[("one", script)]);
    let bundle = net
        .runtime
        .bundle()
        .shell("ls /sys/class/net; stat -c %u /sys/class/net/d9/mtu");
    let run = net
        .command("run", &bundle.user_namespace(), "n")
        .arg(net.runtime.id());
    let output = run.output().ok();
    assert!(output.stdout.contains("d9\n"), "{output}");
    assert!(
        output.stdout.ends_with("\n0\n"),
        "its device is not its own\n{output}"
    );
    net.runtime.is_clean();
}

#[test]
fn an_ordinary_user_is_told_why() {
    let limit = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    if limit.trim() == "0" {
        coracle_integration::skip!("ordinary users may make no user namespace here");
    }
    let script = "case $CNI_COMMAND in ADD) test -e $CNI_NETNS && ip link add b9 type bridge >&2 && ok;; \
                  esac";
    let user = "case $CNI_COMMAND in ADD) stat -Lc %i $CNI_NETNS >&2; ok;; esac";
    let net = Net::of(Runtime::for_user(54_322))
        .network(&[("one", script)])
        .plugin("user", user);
    let net = net.conf(
        "u.conf",
        json!({"cniVersion": "1.1.0", "name": "u", "type": "user"}),
    );
    let mut bundle = net.runtime.bundle();
    let spec = net.runtime.bare().args(["spec", "--rootless", "--bundle"]);
    spec.arg(&bundle.dir).output().ok();
    let text = fs::read_to_string(bundle.dir.join("config.json")).unwrap();
    bundle.config = text.parse().unwrap();
    let bundle = bundle
        .set("/process/terminal", json!(false))
        .args(["sleep", "100"]);
    let message = "(without CAP_NET_ADMIN only plugins made for user mode can work)";
    plain(net.try_create(&bundle, "n")).fails(["network n: plugin one: ADD: exit status", message]);
    assert_eq!(net.calls(), ["ADD one eth0", "DEL one eth0"]);
    let container = net.create(&bundle, "u");
    container.delete_by_force().ok();
    assert_eq!(net.calls()[2..], ["ADD user eth0", "DEL user eth0"]);
    net.runtime.is_clean();
}

#[test]
fn plugins_inherit_nothing() {
    let script =
        "case $CNI_COMMAND in ADD) ls -l /proc/self/fd >$LOG.fds; env >$LOG.env; ok;; esac";
    let net = Net::new().network(&[("one", script)]);
    let create = net
        .command("create", &sleeper(&net), "n")
        .env("SECRET", "x");
    let create = create.arg("--preserve-fds=1").arg(net.runtime.id());
    create.after("exec 3</etc").output().ok();
    let read = |name: &str| fs::read_to_string(net.runtime.folder().join(name)).unwrap();
    let fds = read("log.fds");
    // `ls` itself has /proc/self/fd open, and nothing else above 2.
    assert!(!fds.contains("/etc"), "{fds}");
    assert_eq!(fds.lines().count(), 5, "{fds}");
    let env = read("log.env");
    assert!(
        !env.contains("SECRET") && !env.contains("CORACLE_TEST"),
        "{env}"
    );
    assert!(env.contains("CNI_NETNS=/"), "{env}");
}

#[test]
fn explain_names_the_networks() {
    let net = Net::new();
    let bundle = net
        .runtime
        .bundle()
        .set("/annotations/run.coracle.network", json!("nonesuch"));
    let explain = net.runtime.bare().arg("explain").arg(&bundle.write().dir);
    explain
        .output()
        .fails(["network nonesuch: no configuration of that name"]);
    let bundle = bundle.set("/annotations/run.coracle.network", json!("container:a"));
    let explain = net.runtime.bare().arg("explain").arg(&bundle.write().dir);
    explain
        .output()
        .fails(["container:a", "accepted only from --network"]);
}
