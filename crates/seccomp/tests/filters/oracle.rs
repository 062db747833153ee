//! libseccomp, in a small C program that is built for the test.

use crate::model::{plain_rules, value};
use coracle_bundle::{Seccomp, SeccompOperator};
use coracle_seccomp::Abi;
use coracle_sys::FilterInstruction;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub(crate) struct Oracle {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

pub(crate) struct Filter {
    pub(crate) program: Vec<FilterInstruction>,
    pub(crate) microseconds: i64,
}

impl Oracle {
    /// Builds and starts it; the reason if that cannot be.
    pub(crate) fn start(name: &str) -> Result<Self, String> {
        let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("oracle-{name}"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filters/oracle.c");
        let built = Command::new("cc")
            .args(["-O1", "-Wall", "-o"])
            .args([&binary, &source])
            .arg("-lseccomp")
            .output()
            .map_err(|error| format!("no C compiler: {error}"))?;
        if !built.status.success() {
            let text = String::from_utf8_lossy(&built.stderr);
            let missing = text.contains("seccomp.h") || text.contains("-lseccomp");
            assert!(missing, "{text}");
            return Err("libseccomp's header or library is not installed".to_owned());
        }
        let mut child = Command::new(&binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Ok(Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        })
    }

    /// libseccomp's program, made as runc makes it; its errno if it refuses.
    pub(crate) fn filter(
        &mut self,
        profile: &Seccomp,
        abis: &[Abi],
        optimize: u8,
    ) -> Result<Filter, i64> {
        let mut text = format!("begin {} {optimize}\n", value(profile.default_action));
        for (place, abi) in abis.iter().enumerate() {
            let verb = match (place, abi) {
                (0, Abi::X86_64) => continue,
                (0, _) => "only",
                _ => "arch",
            };
            writeln!(text, "{verb} {}", abi.name()).unwrap();
        }
        for (name, verdict, conditions) in plain_rules(profile) {
            write!(text, "rule {verdict} {name} {}", conditions.len()).unwrap();
            for condition in conditions {
                let (operator, a, b) = match condition.operator {
                    SeccompOperator::NotEqual => (1, condition.value, 0),
                    SeccompOperator::Less => (2, condition.value, 0),
                    SeccompOperator::LessOrEqual => (3, condition.value, 0),
                    SeccompOperator::Equal => (4, condition.value, 0),
                    SeccompOperator::GreaterOrEqual => (5, condition.value, 0),
                    SeccompOperator::Greater => (6, condition.value, 0),
                    SeccompOperator::MaskedEqual(mask) => (7, mask, condition.value),
                };
                write!(text, " {} {operator} {a} {b}", condition.index).unwrap();
            }
            text.push('\n');
        }
        text.push_str("end\n");
        let answer = self.ask(&text);
        let (count, microseconds) = answer.split_once(' ').unwrap();
        let count: i64 = count.parse().unwrap();
        let Ok(length) = usize::try_from(count) else {
            return Err(-count);
        };
        let mut bytes = vec![0; length * 8];
        self.output.read_exact(&mut bytes).unwrap();
        // libseccomp writes in the order of bytes of the filter's machine.
        if abis == [Abi::S390x] {
            for chunk in bytes.chunks_exact_mut(8) {
                chunk[..2].reverse();
                chunk[4..].reverse();
            }
        }
        let program = bytes.chunks_exact(8).map(|chunk| FilterInstruction {
            code: u16::from_le_bytes([chunk[0], chunk[1]]),
            jump_true: chunk[2],
            jump_false: chunk[3],
            constant: u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]),
        });
        Ok(Filter {
            program: program.collect(),
            microseconds: microseconds.parse().unwrap(),
        })
    }

    /// libseccomp's number; negative for none.
    pub(crate) fn number(&mut self, abi: Abi, name: &str) -> i64 {
        let answer = self.ask(&format!("number {} {name}\n", abi.name()));
        answer.parse().unwrap()
    }

    /// Nanoseconds that the last filter takes to load.
    pub(crate) fn load(&mut self) -> i64 {
        self.ask("load\n").parse().unwrap()
    }

    fn ask(&mut self, question: &str) -> String {
        self.input.write_all(question.as_bytes()).unwrap();
        self.input.flush().unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
