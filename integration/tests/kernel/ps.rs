//! `ps` without options, which reads /proc, beside the machine's ps(1).

use coracle_integration::{Receiver, Runtime, json, needs, wait_until};

/// All columns but C, STIME and TIME, which the next moment changes, and TTY: ps(1) knows only the
/// host's terminals.
fn lasting(table: &str) -> Vec<String> {
    let header = table.lines().next().unwrap_or_default();
    let command = header.find("CMD").unwrap_or_default();
    let of_line = |line: &str| {
        let (cells, command) = line.split_at(command);
        let cells = cells.split_whitespace().enumerate();
        let cells = cells.filter(|(column, _)| ![3, 4, 5, 6].contains(column));
        let cells: Vec<_> = cells.map(|(_, cell)| cell).collect();
        format!("{} {command}", cells.join(" "))
    };
    table.lines().map(of_line).collect()
}

#[test]
fn the_table_is_that_of_ps() {
    needs::program("ps");
    let runtime = Runtime::new();
    let script = "sh -c 'sleep 1000; true' \"$@\" & exec sleep 1000";
    let odd = [
        "sh",
        "-c",
        script,
        "",
        "\x1b[31m\t",
        "two\nlines",
        "",
        "ü",
        "",
    ];
    let bundle = runtime.bundle().args(odd).user(65534, 65534);
    let bundle = bundle.set("/process/terminal", json!(true));
    let socket = Receiver::new(&runtime.folder().join("socket"));
    let container = runtime.create_with(&bundle, ["--console-socket", socket.path()]);
    let _terminal = socket.receive();
    let shown = |options: &[&str]| {
        let command = runtime.command(["ps", &container.id]).args(options);
        command.env("LC_ALL", "C.UTF-8").output().ok().stdout
    };
    assert_eq!(shown(&[]).lines().count(), 2);
    container.start().ok();
    wait_until("three processes", || {
        shown(&[]).matches(" sleep 1000\n").count() == 2
    });
    let (ours, theirs) = (shown(&[]), shown(&["-ef"]));
    assert_eq!(ours.lines().next(), theirs.lines().next());
    assert_eq!(lasting(&ours), lasting(&theirs));
    assert_eq!(ours.lines().count(), 4, "{ours}");
    assert!(ours.contains(" pts/0 "), "{ours}");
}

#[test]
fn the_table_needs_no_program() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let ps = |options: &[&str]| {
        let command = runtime.command(["ps", &container.id]).args(options);
        command.env("PATH", "/nonexistent").output()
    };
    let table = ps(&[]).ok().stdout;
    assert!(table.ends_with(" sleep 1000\n"), "{table}");
    ps(&["-ef"]).fails(["run ps"]);
}
