//! The types of the table of verbs and flags, which parsing, help and usage texts read.

/// A flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) short: Option<char>,
    /// The name of its value in help, in capitals, or its choices: `text|json`. `None` for a
    /// switch, which is on or off.
    pub(crate) placeholder: Option<&'static str>,
    /// Whether all its values are used, not only the last.
    pub(crate) repeats: bool,
    pub(crate) help: &'static str,
    /// Whether it is accepted, but not shown in help.
    pub(crate) hidden: bool,
}

/// A flag that is on or off.
pub(crate) const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        placeholder: None,
        repeats: false,
        help,
        hidden: false,
    }
}

/// A flag with a value of any bytes.
pub(crate) const fn value(
    name: &'static str,
    placeholder: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        placeholder: Some(placeholder),
        ..switch(name, help)
    }
}

/// A flag with a value that may be repeated.
pub(crate) const fn values(
    name: &'static str,
    placeholder: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        repeats: true,
        ..value(name, placeholder, help)
    }
}

impl Flag {
    /// The values to choose from, where there are only a few.
    pub(crate) fn choices(&self) -> impl Iterator<Item = &'static str> + use<> {
        let value = self.placeholder.unwrap_or_default();
        let is_choice = |word: &&str| !word.is_empty() && !word.contains(char::is_uppercase);
        value.split('|').filter(is_choice)
    }

    /// The same flag with a short name.
    pub(crate) const fn short(self, letter: char) -> Self {
        Self {
            short: Some(letter),
            ..self
        }
    }

    /// The same flag, not shown in help.
    pub(crate) const fn hidden(self) -> Self {
        Self {
            hidden: true,
            ..self
        }
    }
}

/// The flags of a table whose rows also hold the meaning of each flag.
pub(crate) const fn flags_of<T: Copy, const N: usize>(rows: &[(Flag, T); N]) -> [Flag; N] {
    let mut flags = [switch("", ""); N];
    let mut at = 0;
    while at < N {
        #[allow(clippy::indexing_slicing, reason = "both arrays have N items")]
        {
            flags[at] = rows[at].0;
        }
        at += 1;
    }
    flags
}

/// Where flags may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Before and after the arguments: `create ID --bundle DIR`.
    Anywhere,
    /// Only before the first argument: later words belong to the container's command, as in `exec
    /// ID sh -c ls`, or to ps(1).
    First,
}

/// A line behind the program's name, and what it does.
pub(crate) type Example = (&'static str, &'static str);

/// The command line syntax of a verb, or of the program itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    /// Empty for the program itself.
    pub(crate) name: &'static str,
    /// The arguments after the options.
    pub(crate) synopsis: &'static str,
    pub(crate) about: &'static str,
    pub(crate) order: Order,
    /// Groups of flags, since verbs share some.
    pub(crate) flags: &'static [&'static [Flag]],
    pub(crate) examples: &'static [Example],
}

/// The flags that every command has.
const COMMON: &[Flag] = &[
    switch("help", "Print help").short('h'),
    switch("version", "Print the version").short('v'),
];

/// The flags of a verb's outputs, which `create`, `run` and `exec` share.
pub(crate) const OUTPUTS: &[Flag] = &[
    value(
        "console-socket",
        "PATH",
        "Send the terminal's master to this AF_UNIX socket",
    ),
    value(
        "pidfd-socket",
        "PATH",
        "Send a pidfd of the process to this AF_UNIX socket",
    ),
    value("pid-file", "PATH", "Write the process' id to this file"),
    value(
        "preserve-fds",
        "N",
        "Pass N more descriptors, after those of LISTEN_FDS",
    ),
];

impl Command {
    /// Whether the first argument is a container's id, which error messages name.
    pub(crate) fn takes_id(&self) -> bool {
        self.synopsis.starts_with("ID")
    }

    /// All flags; those that every command has come last.
    pub(crate) fn flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        let common = std::iter::once(&COMMON);
        self.flags.iter().chain(common).copied().flatten()
    }

    /// All flags but those that every command has.
    pub(crate) fn own_flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        self.flags.iter().copied().flatten()
    }

    /// The flag with this long or short name. As in Go, either may have one dash or two.
    pub(crate) fn flag(&self, name: &[u8]) -> Option<&'static Flag> {
        let is_short = |short: char| name == short.encode_utf8(&mut [0; 4]).as_bytes();
        self.flags()
            .find(|flag| flag.name.as_bytes() == name || flag.short.is_some_and(is_short))
    }
}
