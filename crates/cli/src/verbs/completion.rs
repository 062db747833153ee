//! `completion SHELL`: the script by which a shell completes our lines.
//!
//! The scripts know nothing of verbs and flags: at each TAB they have `completion words WORD...`
//! print what may become of the last word, so that they fit whichever release is installed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use coracle_container::{Search, State};
use coracle_text::escaped;

use super::verb::{Context, Request, Verb};
use crate::arguments::complete::{Offer, complete};
use crate::arguments::table::{Command, Order};
use crate::arguments::{Arguments, Expected, Usage};
use crate::error::Error;
use crate::{output, root};

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "completion",
        synopsis: "bash|zsh|fish",
        about: "Print the script by which a shell completes the lines of this program",
        order: Order::First,
        flags: &[],
        examples: &[
            (
                "completion bash",
                "Print it: in ~/.bashrc, `source <(coracle completion bash)` uses it",
            ),
            (
                "completion zsh",
                "Print it, for a file _coracle in a directory of $fpath",
            ),
            (
                "completion fish",
                "Print it, for ~/.config/fish/completions/coracle.fish",
            ),
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

const SCRIPTS: [(&str, &str); 3] = [
    ("bash", include_str!("completion/coracle.bash")),
    ("zsh", include_str!("completion/_coracle")),
    ("fish", include_str!("completion/coracle.fish")),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Completion {
    Script(&'static str),
    /// What scripts ask: the words behind the program's name, the last not finished.
    Words(Vec<OsString>),
}

fn read(arguments: &Arguments) -> Result<Completion, Usage> {
    arguments.expect(Expected::Minimum(1))?;
    let (first, rest) = match arguments.words.split_first() {
        Some((first, rest)) => (first.as_bytes(), rest),
        None => (&b""[..], &[][..]),
    };
    if first == b"words" {
        return Ok(Completion::Words(rest.to_vec()));
    }
    arguments.expect(Expected::Exactly(1))?;
    let mut scripts = SCRIPTS.into_iter();
    let script = scripts.find(|(shell, _)| shell.as_bytes() == first);
    let (_, script) = script.ok_or(Usage::Subcommand {
        verb: VERB.command.name,
        expected: VERB.command.synopsis,
    })?;
    Ok(Completion::Script(script))
}

impl Request for Completion {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        match self {
            Self::Script(script) => output::text(script)?,
            Self::Words(words) => output::text(&answer(words, context)?)?,
        }
        Ok(0)
    }
}

/// A line a candidate, with what it means behind a tab; or a word with a colon for what shells find
/// themselves.
fn answer(words: &[OsString], context: &Context) -> Result<String, Error> {
    let current = words.last().map(|word| word.to_string_lossy());
    let commands = context.verbs.iter().map(|verb| &verb.command);
    let candidates: Vec<(String, String)> = match complete(words.to_vec(), commands) {
        Offer::Files => return Ok(":files\n".to_owned()),
        Offer::Directories => return Ok(":directories\n".to_owned()),
        Offer::Words(words) => {
            let owned = |(word, meaning): (String, &str)| (word, meaning.to_owned());
            words.into_iter().map(owned).collect()
        }
        Offer::Containers(root) => {
            let store = context.store_at(&root::find(root.as_deref())?);
            let containers = coracle_container::list(&store)?.containers.into_iter();
            let shown = |state: State| (state.id, state.status.to_string());
            containers.map(shown).collect()
        }
        Offer::Networks => {
            let (networks, _) = coracle_container::networks(&Search::default())?;
            let shown = networks.into_iter();
            let shown = shown.map(|one| (one.name, one.plugins.join(",")));
            shown.collect()
        }
    };
    let current = current.unwrap_or_default();
    let line = |(word, meaning): (String, String)| {
        let (word, meaning) = (escaped(&word), escaped(&meaning));
        word.starts_with(&*current)
            .then(|| match meaning.is_empty() {
                true => format!("{word}\n"),
                false => format!("{word}\t{meaning}\n"),
            })
    };
    Ok(candidates.into_iter().filter_map(line).collect())
}
