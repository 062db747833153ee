//! Mount options: one table, by which they are parsed, and listed for `features`.
//!
//! `config.md § Linux mount options`; the extensions are crun's, and podman uses them.

use crate::error::{At, Error};
use crate::read::Notes;
use crate::{AttributeChange, MountOptions, Propagation, PropagationKind};
use coracle_sys::Depth;
use coracle_sys::mount_attribute::{
    ATIME_MASK, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY, RELATIME,
    STRICTATIME,
};
use std::ffi::{CStr, CString, NulError};

/// All known options, sorted, for `features`. Any other option is passed to the filesystem.
#[must_use]
pub fn mount_options() -> Vec<&'static str> {
    OPTIONS.iter().map(|(name, _)| *name).collect()
}

/// The effect of an option.
#[derive(Clone, Copy)]
enum Effect {
    Nothing,
    /// An option that crun accepts but that has no meaning in the kernel: leads to a warning.
    Meaningless,
    /// Sets or clears a flag of the mount.
    Bit(Reach, Switch, u64),
    /// Chooses an access time mode, or cancels the choice.
    Atime(Reach, Switch, u64),
    /// Sets a flag of the filesystem's superblock, or cancels it.
    Superblock(Switch, &'static CStr),
    Bind(Depth),
    Remount,
    Propagate(PropagationKind, bool),
    Idmap(Depth),
    TmpCopyUp,
    CopySymlink,
    SourceNofollow,
    DestinationNofollow,
}

#[derive(Clone, Copy)]
enum Reach {
    Mount,
    Tree,
}

#[derive(Clone, Copy)]
enum Switch {
    On,
    Off,
}

use Effect::{Atime, Bit, Meaningless, Propagate, Superblock};
use PropagationKind::{Private, Shared, Slave, Unbindable};
use Reach::{Mount, Tree};
use Switch::{Off, On};

/// Sorted by name.
const OPTIONS: &[(&str, Effect)] = &[
    ("async", Superblock(Off, c"sync")),
    ("atime", Atime(Mount, Off, NOATIME)),
    ("bind", Effect::Bind(Depth::Single)),
    ("copy-symlink", Effect::CopySymlink),
    ("defaults", Effect::Nothing),
    ("dest-nofollow", Effect::DestinationNofollow),
    ("dev", Bit(Mount, Off, NODEV)),
    ("diratime", Bit(Mount, Off, NODIRATIME)),
    ("dirsync", Superblock(On, c"dirsync")),
    ("exec", Bit(Mount, Off, NOEXEC)),
    ("idmap", Effect::Idmap(Depth::Single)),
    ("iversion", Superblock(On, c"iversion")),
    ("lazytime", Superblock(On, c"lazytime")),
    ("loud", Superblock(Off, c"silent")),
    ("mand", Superblock(On, c"mand")),
    ("noatime", Atime(Mount, On, NOATIME)),
    ("nodev", Bit(Mount, On, NODEV)),
    ("nodiratime", Bit(Mount, On, NODIRATIME)),
    ("noexec", Bit(Mount, On, NOEXEC)),
    ("noiversion", Superblock(Off, c"iversion")),
    ("nolazytime", Superblock(Off, c"lazytime")),
    ("nomand", Superblock(Off, c"mand")),
    ("norelatime", Atime(Mount, Off, RELATIME)),
    ("nostrictatime", Atime(Mount, Off, STRICTATIME)),
    ("nosuid", Bit(Mount, On, NOSUID)),
    ("nosymfollow", Bit(Mount, On, NOSYMFOLLOW)),
    ("private", Propagate(Private, false)),
    ("rasync", Meaningless),
    ("ratime", Atime(Tree, Off, NOATIME)),
    ("rbind", Effect::Bind(Depth::Recursive)),
    ("rdev", Bit(Tree, Off, NODEV)),
    ("rdiratime", Bit(Tree, Off, NODIRATIME)),
    ("rdirsync", Meaningless),
    ("relatime", Atime(Mount, On, RELATIME)),
    ("remount", Effect::Remount),
    ("rexec", Bit(Tree, Off, NOEXEC)),
    ("ridmap", Effect::Idmap(Depth::Recursive)),
    ("rmand", Meaningless),
    ("rnoatime", Atime(Tree, On, NOATIME)),
    ("rnodev", Bit(Tree, On, NODEV)),
    ("rnodiratime", Bit(Tree, On, NODIRATIME)),
    ("rnoexec", Bit(Tree, On, NOEXEC)),
    ("rnomand", Meaningless),
    ("rnorelatime", Atime(Tree, Off, RELATIME)),
    ("rnostrictatime", Atime(Tree, Off, STRICTATIME)),
    ("rnosuid", Bit(Tree, On, NOSUID)),
    ("rnosymfollow", Bit(Tree, On, NOSYMFOLLOW)),
    ("ro", Bit(Mount, On, RDONLY)),
    ("rprivate", Propagate(Private, true)),
    ("rrelatime", Atime(Tree, On, RELATIME)),
    ("rro", Bit(Tree, On, RDONLY)),
    ("rrw", Bit(Tree, Off, RDONLY)),
    ("rshared", Propagate(Shared, true)),
    ("rslave", Propagate(Slave, true)),
    ("rstrictatime", Atime(Tree, On, STRICTATIME)),
    ("rsuid", Bit(Tree, Off, NOSUID)),
    ("rsymfollow", Bit(Tree, Off, NOSYMFOLLOW)),
    ("rsync", Meaningless),
    ("runbindable", Propagate(Unbindable, true)),
    ("rw", Bit(Mount, Off, RDONLY)),
    ("shared", Propagate(Shared, false)),
    ("silent", Superblock(On, c"silent")),
    ("slave", Propagate(Slave, false)),
    ("src-nofollow", Effect::SourceNofollow),
    ("strictatime", Atime(Mount, On, STRICTATIME)),
    ("suid", Bit(Mount, Off, NOSUID)),
    ("symfollow", Bit(Mount, Off, NOSYMFOLLOW)),
    ("sync", Superblock(On, c"sync")),
    ("tmpcopyup", Effect::TmpCopyUp),
    ("unbindable", Propagate(Unbindable, false)),
];

/// Parses a list. Of contradicting options the last one counts.
///
/// # Errors
/// An option holds a NUL byte.
pub(crate) fn parse(
    texts: &[String],
    at: At<'_>,
    notes: &mut Notes,
) -> Result<MountOptions, Error> {
    let mut parsed = MountOptions {
        texts: texts.to_vec(),
        ..MountOptions::default()
    };
    let mut mount = Attributes::default();
    let mut tree = Attributes::default();
    for option in texts {
        match effect_of(option) {
            Some(Bit(reach, switch, bit)) => reach.of(&mut mount, &mut tree).bit(switch, bit),
            Some(Atime(reach, switch, mode)) => reach.of(&mut mount, &mut tree).atime(switch, mode),
            Some(Meaningless) => notes
                .warnings
                .push(format!("{at}: {option} means nothing and is ignored")),
            Some(effect) => parsed.apply(effect),
            None => match mapping_of(option) {
                Some((depth, mapping)) => {
                    parsed.idmap = Some(depth);
                    parsed.mapping = Some(mapping.to_owned());
                }
                None => add_data(&mut parsed.data, option)
                    .map_err(|_| at.refuse("an option holds a NUL byte"))?,
            },
        }
    }
    parsed.attributes = mount.change();
    parsed.recursive = tree.change();
    Ok(parsed)
}

fn effect_of(option: &str) -> Option<Effect> {
    // mount(8)'s form of `rro`. If it were passed to the filesystem, the mount could end up
    // writable.
    if let Some(flag) = option.strip_suffix("=recursive") {
        let effect = named(&format!("r{flag}"));
        return effect.filter(|effect| matches!(effect, Bit(Tree, ..) | Atime(Tree, ..)));
    }
    named(option)
}

fn named(option: &str) -> Option<Effect> {
    let position = OPTIONS
        .binary_search_by_key(&option, |(name, _)| name)
        .ok()?;
    OPTIONS.get(position).map(|(_, effect)| *effect)
}

/// Parses `idmap=uids=0-1-10;gids=0-1-10`, podman's form for crun.
fn mapping_of(option: &str) -> Option<(Depth, &str)> {
    let (key, mapping) = option.split_once('=')?;
    match key {
        "idmap" => Some((Depth::Single, mapping)),
        "ridmap" => Some((Depth::Recursive, mapping)),
        _ => None,
    }
}

/// Adds an option for the filesystem. A string may hold several, which mount(2) would have split at
/// commas, except at escaped (overlayfs) or quoted ones (SELinux).
fn add_data(data: &mut Vec<(CString, Option<CString>)>, option: &str) -> Result<(), NulError> {
    let mut escaped = false;
    let mut quoted = false;
    let separator = |character: char| {
        let splits = character == ',' && !escaped && !quoted;
        quoted ^= character == '"';
        escaped = character == '\\' && !escaped;
        splits
    };
    for entry in option.split(separator).filter(|entry| !entry.is_empty()) {
        data.push(match entry.split_once('=') {
            Some((key, value)) => {
                let value = CString::new(unquoted(key, value))?;
                (CString::new(key)?, Some(value))
            }
            None => (CString::new(entry)?, None),
        });
    }
    Ok(())
}

/// Removes the quotes around a label: SELinux does so for mount(2), but not for fsconfig(2).
fn unquoted<'a>(key: &str, value: &'a str) -> &'a str {
    let inside = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    match (key, inside) {
        ("context" | "fscontext" | "defcontext" | "rootcontext", Some(label)) => label,
        _ => value,
    }
}

impl Reach {
    fn of<'a>(self, mount: &'a mut Attributes, tree: &'a mut Attributes) -> &'a mut Attributes {
        match self {
            Reach::Mount => mount,
            Reach::Tree => tree,
        }
    }
}

/// The flags requested so far. The access time mode is a field of several bits: mount_setattr(2)
/// fails with EINVAL unless the whole field is cleared when a value is set.
#[derive(Default)]
struct Attributes {
    set: u64,
    clear: u64,
    atime: Option<u64>,
}

impl Attributes {
    fn bit(&mut self, switch: Switch, bit: u64) {
        match switch {
            On => (self.set, self.clear) = (self.set | bit, self.clear & !bit),
            Off => (self.set, self.clear) = (self.set & !bit, self.clear | bit),
        }
    }

    /// Cancelling a mode leaves the kernel's default, relatime. It has no effect if another mode
    /// was chosen.
    fn atime(&mut self, switch: Switch, mode: u64) {
        self.atime = match (switch, self.atime) {
            (On, _) => Some(mode),
            (Off, Some(other)) if other != mode => Some(other),
            (Off, _) => Some(RELATIME),
        };
    }

    fn change(self) -> AttributeChange {
        match self.atime {
            Some(mode) => AttributeChange {
                set: self.set | mode,
                clear: self.clear | ATIME_MASK,
            },
            None => AttributeChange {
                set: self.set,
                clear: self.clear,
            },
        }
    }
}

impl MountOptions {
    fn apply(&mut self, effect: Effect) {
        match effect {
            Superblock(On, flag) if self.superblock.contains(&flag) => {}
            Superblock(On, flag) => self.superblock.push(flag),
            Superblock(Off, flag) => self.superblock.retain(|known| *known != flag),
            Effect::Bind(bind) => self.bind = Some(bind),
            Effect::Remount => self.remount = true,
            Propagate(kind, recursive) => self.propagation.push(Propagation { kind, recursive }),
            Effect::Idmap(kind) => self.idmap = Some(kind),
            Effect::TmpCopyUp => self.tmpcopyup = true,
            Effect::CopySymlink => self.copy_symlink = true,
            Effect::SourceNofollow => self.src_nofollow = true,
            Effect::DestinationNofollow => self.dest_nofollow = true,
            Bit(..) | Atime(..) | Meaningless | Effect::Nothing => {}
        }
    }
}

/// Parses `linux.rootfsPropagation`, whose values are those of the mount options.
pub(crate) fn propagation(word: &str) -> Option<Propagation> {
    match named(word)? {
        Propagate(kind, recursive) => Some(Propagation { kind, recursive }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Document;
    use proptest::prelude::*;

    fn parsed(list: &[String]) -> Result<MountOptions, Error> {
        parse(list, At::Root(Document::Config), &mut Notes::default())
    }

    fn options(list: &[&str]) -> MountOptions {
        let texts: Vec<String> = list.iter().map(|option| (*option).to_owned()).collect();
        parsed(&texts).unwrap()
    }

    #[test]
    fn the_table_is_sorted_without_duplicates() {
        assert!(OPTIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(!mount_options().contains(&"acl"));
        assert_eq!(mount_options().len(), 70);
    }

    #[test]
    fn last_of_a_pair_wins() {
        let cases: [(&[&str], u64, u64); 12] = [
            (&["ro", "rw"], 0, RDONLY),
            (&["rw", "ro"], RDONLY, 0),
            (&["nosuid", "nodev", "suid"], NODEV, NOSUID),
            (&["noatime", "relatime"], RELATIME, ATIME_MASK),
            (&["relatime", "strictatime"], STRICTATIME, ATIME_MASK),
            (&["strictatime", "noatime"], NOATIME, ATIME_MASK),
            (&["noatime", "atime"], 0, ATIME_MASK),
            (&["nostrictatime"], 0, ATIME_MASK),
            (&["strictatime", "norelatime"], STRICTATIME, ATIME_MASK),
            (&["strictatime", "atime"], STRICTATIME, ATIME_MASK),
            (&["nodiratime", "noatime"], NODIRATIME | NOATIME, ATIME_MASK),
            (&["defaults"], 0, 0),
        ];
        for (list, set, clear) in cases {
            assert_eq!(
                options(list).attributes,
                AttributeChange { set, clear },
                "{list:?}"
            );
            assert_eq!(options(list).recursive, AttributeChange::default());
        }
    }

    #[test]
    fn recursive_ones_are_kept_apart() {
        let parsed = options(&["rro", "rnosuid", "rw", "rnoatime"]);
        assert_eq!(
            parsed.attributes,
            AttributeChange {
                set: 0,
                clear: RDONLY
            }
        );
        let recursive = AttributeChange {
            set: RDONLY | NOSUID | NOATIME,
            clear: ATIME_MASK,
        };
        assert_eq!(parsed.recursive, recursive);
    }

    #[test]
    fn recursive_ones_as_mount_writes_them() {
        for (ours, theirs) in [
            ("rro", "ro=recursive"),
            ("rdev", "dev=recursive"),
            ("rnoatime", "noatime=recursive"),
        ] {
            assert_eq!(options(&[ours]).recursive, options(&[theirs]).recursive);
            assert!(options(&[theirs]).data.is_empty());
        }
        for other in [
            "bind=recursive",
            "private=recursive",
            "o=recursive",
            "=recursive",
            "ro=recursive=recursive",
        ] {
            assert_eq!(options(&[other]).recursive, AttributeChange::default());
            assert_eq!(options(&[other]).data.len(), 1);
        }
    }

    #[test]
    fn superblock_flags_are_by_name() {
        assert_eq!(
            options(&["sync", "lazytime", "sync", "async"]).superblock,
            [c"lazytime"]
        );
        assert_eq!(
            options(&["silent", "dirsync", "loud"]).superblock,
            [c"dirsync"]
        );
    }

    #[test]
    fn data_keeps_its_order_and_quoting() {
        let shown = |list: &[&str]| {
            let entries = options(list).data;
            let texts = entries.iter().map(|(key, value)| match value {
                Some(value) => format!("{}={}", key.to_str().unwrap(), value.to_str().unwrap()),
                None => key.to_str().unwrap().to_owned(),
            });
            texts.collect::<Vec<_>>().join("|")
        };
        assert_eq!(
            shown(&["size=1m", "ro", "acl", "mode=1777"]),
            "size=1m|acl|mode=1777"
        );
        assert_eq!(shown(&["size=1m,mode=755", ""]), "size=1m|mode=755");
        assert_eq!(
            shown(&["lowerdir=/a\\,b:/c,index=off"]),
            "lowerdir=/a\\,b:/c|index=off"
        );
        assert_eq!(shown(&["x=\"a,b\",y=c"]), "x=\"a,b\"|y=c");
        let label = "u:r:t:s0:c1,c2";
        assert_eq!(
            shown(&[&format!("context=\"{label}\"")]),
            format!("context={label}")
        );
        assert!(parsed(&["a\0b".to_owned()]).is_err());
    }

    #[test]
    fn idmap_may_carry_a_mapping() {
        let parsed = options(&["idmap=uids=0-1-10;gids=0-1-10"]);
        assert_eq!(parsed.mapping.as_deref(), Some("uids=0-1-10;gids=0-1-10"));
        assert_eq!(parsed.idmap, Some(Depth::Single));
        assert!(parsed.data.is_empty());
        assert_eq!(options(&["idmap", "ridmap"]).idmap, Some(Depth::Recursive));
    }

    fn any_options() -> impl Strategy<Value = Vec<String>> {
        let known = proptest::sample::select(mount_options()).prop_map(str::to_owned);
        proptest::collection::vec(known, 0..12)
    }

    proptest! {
        /// An option overrides those before it that decide the same thing.
        #[test]
        fn the_last_word_decides(list in any_options(), last in any_options()) {
            let whole = [list.clone(), last.clone()].concat();
            let (whole, alone) = (parsed(&whole).unwrap(), parsed(&last).unwrap());
            let decided = |change: AttributeChange| (change.set | change.clear) & !ATIME_MASK;
            for (whole, alone) in
                [(whole.attributes, alone.attributes), (whole.recursive, alone.recursive)]
            {
                let mask = decided(alone);
                prop_assert_eq!(whole.set & mask, alone.set & mask);
                prop_assert_eq!(whole.clear & mask, alone.clear & mask);
            }
        }

        /// mount_setattr(2) takes every outcome: no bit both set and cleared, and the access
        /// time field is cleared as a whole or not at all.
        #[test]
        fn the_kernel_takes_every_outcome(list in any_options()) {
            let parsed = parsed(&list).unwrap();
            for change in [parsed.attributes, parsed.recursive] {
                prop_assert_eq!(change.set & change.clear & !ATIME_MASK, 0);
                let field = change.clear & ATIME_MASK;
                prop_assert!(field == 0 || field == ATIME_MASK);
                prop_assert!(change.set & ATIME_MASK == 0 || field == ATIME_MASK);
            }
            prop_assert!(parsed.data.is_empty());
        }
    }
}
