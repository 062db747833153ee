//! The containers that `kill` and `delete` are for.

use std::ffi::CString;

use coracle_bundle::ContainerId;
use coracle_container::{Status, Store};
use coracle_sys::Pattern;

use crate::arguments::table::{Flag, switch};
use crate::arguments::{Arguments, Usage};
use crate::error::Error;

/// The flag by which the first argument is an expression.
pub(super) const FLAGS: &[Flag] = &[switch(
    "regex",
    "Take ID for a regular expression, for all that match",
)
.short('r')];

/// One container, or all whose id matches.
#[derive(Debug)]
pub(super) enum Targets {
    One(ContainerId),
    Matching(Pattern),
}

impl Targets {
    pub(super) fn read(arguments: &Arguments) -> Result<Self, Usage> {
        if !arguments.is_on("regex") {
            return Ok(Self::One(arguments.id()?));
        }
        let text = arguments.words.first().cloned().unwrap_or_default();
        let pattern = CString::new(text.as_encoded_bytes());
        let pattern = pattern.ok().and_then(|text| Pattern::new(&text));
        pattern.map(Self::Matching).ok_or_else(|| Usage::Value {
            flag: "regex",
            value: text.to_string_lossy().into_owned(),
            expected: "an extended regular expression".to_owned(),
        })
    }

    /// Acts on each; of those that match, on those whose status is wanted, and on all even if one
    /// fails.
    pub(super) fn each(
        &self,
        verb: &'static str,
        store: &Store,
        is_wanted: impl Fn(Status) -> bool,
        mut act: impl FnMut(&ContainerId) -> Result<(), coracle_container::Error>,
    ) -> Result<(), Error> {
        let pattern = match self {
            Self::One(id) => return Ok(act(id)?),
            Self::Matching(pattern) => pattern,
        };
        let mut failures = Vec::new();
        for state in coracle_container::list(store)?.containers {
            let text = CString::new(state.id.as_str()).unwrap_or_default();
            let Ok(id) = ContainerId::parse(&state.id) else {
                continue;
            };
            if pattern.matches(&text)
                && is_wanted(state.status)
                && let Err(source) = act(&id)
            {
                failures.push(Error::failed(verb, &id, source).to_string());
            }
        }
        match failures.is_empty() {
            true => Ok(()),
            false => Err(Error::Several(failures.join("; "))),
        }
    }
}
