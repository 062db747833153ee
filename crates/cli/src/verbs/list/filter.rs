//! `list --filter`: which containers are shown.

use coracle_container::{State, Status};

/// What a filter looks like, for messages.
pub(super) const EXPECTED: &str =
    "status=creating|created|running|paused|stopped, id=START or annotation=NAME[=VALUE]";

/// One filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    Status(Status),
    /// How the id begins.
    Id(String),
    /// An annotation with this name, and with this value if there is one.
    Annotation(String, Option<String>),
}

impl Filter {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.split_once('=')? {
            ("status", name) => {
                let mut all = Status::ALL.into_iter();
                all.find(|status| status.name() == name).map(Self::Status)
            }
            ("id", start) if !start.is_empty() => Some(Self::Id(start.to_owned())),
            ("annotation", text) if !text.is_empty() => Some(match text.split_once('=') {
                Some((name, value)) => Self::Annotation(name.to_owned(), Some(value.to_owned())),
                None => Self::Annotation(text.to_owned(), None),
            }),
            _ => None,
        }
    }

    fn takes(&self, state: &State) -> bool {
        match self {
            Self::Status(status) => state.status == *status,
            Self::Id(start) => state.id.starts_with(start),
            Self::Annotation(name, value) => {
                let found = state.annotations.get(name);
                found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
            }
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// Whether the container is shown: of several filters of one kind one is enough, but for
/// annotations, which it must have all.
pub(super) fn takes(filters: &[Filter], state: &State) -> bool {
    filters.iter().all(|filter| match filter {
        Filter::Annotation(..) => filter.takes(state),
        _ => {
            let mut like = filters.iter().filter(|other| other.is_like(filter));
            like.any(|other| other.takes(state))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::row::row;
    use super::*;

    #[test]
    fn filters() {
        let state = row("web1", &[("tier", "front"), ("empty", "")]).state;
        for (filters, expected) in [
            ("", true),
            ("status=running", true),
            ("status=stopped", false),
            ("status=stopped status=running", true),
            ("id=we", true),
            ("id=web1", true),
            ("id=eb", false),
            ("id=x id=w status=running", true),
            ("id=w status=paused", false),
            ("annotation=tier", true),
            ("annotation=tier=front annotation=empty=", true),
            ("annotation=tier=front annotation=tier=back", false),
            ("annotation=none", false),
        ] {
            let words = filters.split_whitespace();
            let parsed: Option<Vec<_>> = words.map(Filter::parse).collect();
            assert_eq!(takes(&parsed.unwrap(), &state), expected, "{filters}");
        }
        for wrong in [
            "status=up",
            "status",
            "id=",
            "annotation=",
            "=x",
            "name=x",
            "",
        ] {
            assert_eq!(Filter::parse(wrong), None, "{wrong}");
        }
    }
}
