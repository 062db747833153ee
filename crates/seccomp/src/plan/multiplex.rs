//! 32-bit x86, POWER and IBM Z have two interfaces for sockets and for System V IPC: a system call
//! for most operations, and the multiplexers `socketcall(2)` and `ipc(2)`, whose first argument
//! selects the operation.
//!
//! A rule for `socket` that did not cover `socketcall` would deny nothing, so a rule applies to
//! both, as with libseccomp. The multiplexer's second argument points to the real arguments, which
//! a filter cannot read. There a condition on the first real argument is dropped, and conditions on
//! later ones compare the multiplexer's own registers.

use super::abi::Abi;
use coracle_bundle::{SeccompCondition, SeccompOperator};

const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;

/// A call that can also be made by a multiplexer.
pub(crate) struct Multiplexed {
    /// The multiplexer's number.
    pub(crate) number: u32,
    which: SeccompCondition,
}

impl Multiplexed {
    /// The conditions for the multiplexer, from those for the call itself.
    pub(crate) fn conditions(&self, own: &[SeccompCondition]) -> Vec<SeccompCondition> {
        let others = own.iter().filter(|condition| condition.index != 0);
        std::iter::once(&self.which)
            .chain(others)
            .copied()
            .collect()
    }
}

/// `SYS_…` of linux/net.h and the numbers of linux/ipc.h. All three machines have the same numbers.
pub(crate) fn multiplexed(abi: Abi, name: &str) -> Option<Multiplexed> {
    if !abi.has_multiplexers() {
        return None;
    }
    let (number, operator, value) = match socket(name) {
        // The kernel selects by 32 bits: a register with more bits set would pass a comparison of
        // all 64.
        Some(value) if abi.has_wide_arguments() => {
            (SOCKETCALL, SeccompOperator::MaskedEqual(0xffff_ffff), value)
        }
        Some(value) => (SOCKETCALL, SeccompOperator::Equal, value),
        // The upper half is a version; the kernel selects the call by the lower half.
        None => (IPC, SeccompOperator::MaskedEqual(0xffff), ipc(name)?),
    };
    let which = SeccompCondition {
        index: 0,
        operator,
        value,
    };
    Some(Multiplexed { number, which })
}

fn socket(name: &str) -> Option<u64> {
    Some(match name {
        "socket" => 1,
        "bind" => 2,
        "connect" => 3,
        "listen" => 4,
        "accept" => 5,
        "getsockname" => 6,
        "getpeername" => 7,
        "socketpair" => 8,
        "send" => 9,
        "recv" => 10,
        "sendto" => 11,
        "recvfrom" => 12,
        "shutdown" => 13,
        "setsockopt" => 14,
        "getsockopt" => 15,
        "sendmsg" => 16,
        "recvmsg" => 17,
        "accept4" => 18,
        "recvmmsg" => 19,
        "sendmmsg" => 20,
        _ => return None,
    })
}

fn ipc(name: &str) -> Option<u64> {
    Some(match name {
        "semop" => 1,
        "semget" => 2,
        "semctl" => 3,
        "semtimedop" => 4,
        "msgsnd" => 11,
        "msgrcv" => 12,
        "msgget" => 13,
        "msgctl" => 14,
        "shmat" => 21,
        "shmdt" => 22,
        "shmget" => 23,
        "shmctl" => 24,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::table::Table;

    #[test]
    fn every_call_behind_the_old_doors_has_a_number_somewhere() {
        let table = Table::new();
        for name in [
            "send",
            "recv",
            "accept",
            "socket",
            "semtimedop",
            "shmctl",
            "msgget",
        ] {
            assert!(
                table.find(name).is_some() && multiplexed(Abi::X86, name).is_some(),
                "{name}"
            );
        }
        let none = |abi, name| multiplexed(abi, name).is_none();
        assert!(none(Abi::X86, "socketcall") && none(Abi::X86, "ipc"));
        assert!(none(Abi::X86_64, "socket"));
    }

    #[test]
    fn the_first_condition_makes_room() {
        let on = |index| SeccompCondition {
            index,
            operator: SeccompOperator::Equal,
            value: 16,
        };
        let call = multiplexed(Abi::X86, "socket").unwrap();
        let conditions = call.conditions(&[on(0), on(2)]);
        assert_eq!(conditions[1..], [on(2)]);
        assert_eq!((conditions[0].index, conditions[0].value), (0, 1));
    }
}
