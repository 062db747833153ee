//! The annotation `run.coracle.landlock`: rules of Landlock, landlock(7), by the kernel's names.

use std::ffi::CString;

/// Accesses that the process gives up, except where rules allow them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Landlock {
    /// Accesses to files that are denied where no rule allows them; a bit each.
    pub fs: u64,
    /// Accesses to TCP ports, likewise.
    pub net: u64,
    /// What the process and its descendants can only do among themselves.
    pub scoped: u64,
    /// Paths in the container, each with the accesses that are allowed to it and below it: some of
    /// those that are denied elsewhere.
    pub paths: Vec<(CString, u64)>,
    /// Ports, each with the accesses that are allowed to it.
    pub ports: Vec<(u16, u64)>,
}

/// An access or a scope: its name, which is the kernel's in small letters, its bit, and the ABI
/// that brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LandlockRight {
    /// `read_file`.
    pub name: &'static str,
    /// In `LANDLOCK_ACCESS_FS_…`, `LANDLOCK_ACCESS_NET_…` or `LANDLOCK_SCOPE_…`.
    pub bit: u64,
    /// The least version of the ABI.
    pub abi: u32,
}

const fn right(name: &'static str, bit: u32, abi: u32) -> LandlockRight {
    LandlockRight {
        name,
        bit: 1 << bit,
        abi,
    }
}

/// `LANDLOCK_ACCESS_FS_…`.
pub const LANDLOCK_FS: [LandlockRight; 16] = [
    right("execute", 0, 1),
    right("write_file", 1, 1),
    right("read_file", 2, 1),
    right("read_dir", 3, 1),
    right("remove_dir", 4, 1),
    right("remove_file", 5, 1),
    right("make_char", 6, 1),
    right("make_dir", 7, 1),
    right("make_reg", 8, 1),
    right("make_sock", 9, 1),
    right("make_fifo", 10, 1),
    right("make_block", 11, 1),
    right("make_sym", 12, 1),
    right("refer", 13, 2),
    right("truncate", 14, 3),
    right("ioctl_dev", 15, 5),
];

/// `LANDLOCK_ACCESS_NET_…`.
pub const LANDLOCK_NET: [LandlockRight; 2] = [right("bind_tcp", 0, 4), right("connect_tcp", 1, 4)];

/// `LANDLOCK_SCOPE_…`.
pub const LANDLOCK_SCOPES: [LandlockRight; 2] =
    [right("abstract_unix_socket", 0, 6), right("signal", 1, 6)];

/// The names of the bits, in the order of the table.
pub fn landlock_names(
    table: &'static [LandlockRight],
    bits: u64,
) -> impl Iterator<Item = &'static LandlockRight> {
    table.iter().filter(move |right| right.bit & bits != 0)
}
