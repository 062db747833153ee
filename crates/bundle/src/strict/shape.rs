//! One walk over the text before oci-spec sees it.
//!
//! The path of a problem is gathered while the recursion unwinds, so a valid document pays for
//! none. An attacker's document cannot make the walk worse than n log n: keys are compared by
//! sorting, and serde_json bounds the depth at 128.

use super::{near, syntax};
use crate::capability::parse_prefixed;
use crate::error::{At, Document, Error, Shown};
use crate::validate::parse_number_list;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// What may stand at a place.
pub(crate) enum Shape {
    /// Nothing that this runtime reads.
    Any,
    /// Neither an object nor an array; its type is oci-spec's to check.
    Scalar,
    Object(&'static [Property]),
    List(&'static Shape),
    /// An object whose keys are free.
    Map(&'static Shape),
    /// A capability's name; oci-spec also takes spellings that the spec does not know.
    Capability,
    /// A name of a scheduler's flag; oci-spec has other names for two of them.
    SchedulerFlag,
    /// `pids.limit`; oci-spec takes its absence for zero.
    PidsLimit,
    /// A list of CPUs; oci-spec's sentence about a wrong one is not ours.
    CpuList,
    /// The type of a device to make.
    DeviceType,
}

/// A property that the spec knows.
pub(crate) struct Property {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) need: Need,
}

/// Whether a property must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Optional,
    Required,
    /// The numbers of a device: a fifo has none.
    UnlessFifo,
    /// The spec wants it, and the peers do without: a warning says what its absence means.
    Expected(&'static str),
}

/// More warnings than this help nobody, and a hostile document could flood a log.
const MAX_REMARKS: usize = 20;

/// What the walk noticed.
#[derive(Default)]
pub(super) struct Found {
    pub(super) odd_capability: bool,
    pub(super) pids_limit: bool,
    /// The last device's type was `p`.
    fifo: bool,
    problem: Option<Problem>,
    remarks: Vec<Problem>,
}

struct Problem {
    /// Innermost step first.
    path: Vec<Step>,
    text: String,
}

/// A step from a value to one inside it.
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Found {
    /// The warnings, one line each.
    pub(super) fn warnings(self, document: Document) -> Vec<String> {
        let warning = |remark: Problem| {
            let path: Vec<_> = remark.path.into_iter().rev().collect();
            line_at(At::Root(document), &path, &remark.text)
        };
        self.remarks.into_iter().map(warning).collect()
    }

    fn remark(&mut self, key: &str, text: String) {
        if self.remarks.len() < MAX_REMARKS {
            let path = vec![Step::Key(key.to_owned())];
            self.remarks.push(Problem { path, text });
        }
    }

    /// Notes the step that leads to what was remarked since there were `before` remarks.
    fn remarked_inside(&mut self, before: usize, step: impl Fn() -> Step) {
        let inside = self.remarks.iter_mut().skip(before);
        inside.for_each(|remark| remark.path.push(step()));
    }
}

fn line_at(at: At<'_>, path: &[Step], text: &str) -> String {
    match path.split_first() {
        None => format!("{at}{text}"),
        Some((Step::Key(key), rest)) => line_at(at.key(key), rest, text),
        Some((Step::Index(index), rest)) => line_at(at.index(*index), rest, text),
    }
}

/// Walks over `text`.
///
/// # Errors
/// Syntax, trailing text, a duplicate key, a wrong kind of value, a missing property.
pub(super) fn check(document: Document, shape: &'static Shape, text: &str) -> Result<Found, Error> {
    let mut found = Found::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let walk = Walk {
        shape,
        required: true,
        found: &mut found,
    };
    let result = walk
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    let Err(error) = result else { return Ok(found) };
    Err(match found.problem {
        Some(Problem { mut path, text }) => {
            path.reverse();
            refuse_at(At::Root(document), &path, &text)
        }
        None => syntax(document, &error),
    })
}

/// The error for what stands at `path`, outermost step first.
pub(super) fn refuse_at(at: At<'_>, path: &[Step], problem: &str) -> Error {
    match path.split_first() {
        None => at.refuse(problem),
        Some((Step::Key(key), rest)) => refuse_at(at.key(key), rest, problem),
        Some((Step::Index(index), rest)) => refuse_at(at.index(*index), rest, problem),
    }
}

struct Walk<'a> {
    shape: &'static Shape,
    required: bool,
    found: &'a mut Found,
}

impl Walk<'_> {
    /// Stops the walk.
    fn refuse<E: de::Error>(&mut self, text: String) -> E {
        self.found.problem = Some(Problem {
            path: Vec::new(),
            text,
        });
        E::custom("")
    }

    fn unexpected<E: de::Error>(mut self, met: &str) -> E {
        let wanted = match self.shape {
            Shape::Object(_) | Shape::Map(_) => "an object",
            Shape::List(_) => "an array",
            _ => "a plain value",
        };
        self.refuse(format!("found {met}, expected {wanted}"))
    }

    fn scalar<E: de::Error>(self, met: &str) -> Result<(), E> {
        match self.shape {
            Shape::Object(_) | Shape::Map(_) | Shape::List(_) => Err(self.unexpected(met)),
            _ => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        // Elsewhere null is as good as absent.
        if self.required {
            Err(self.unexpected("null"))
        } else {
            Ok(())
        }
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.scalar("a boolean")
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.found.pids_limit |= matches!(self.shape, Shape::PidsLimit);
        self.scalar("a number")
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.found.pids_limit |= matches!(self.shape, Shape::PidsLimit);
        self.scalar("a number")
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.scalar("a number")
    }

    fn visit_str<E: de::Error>(mut self, text: &str) -> Result<(), E> {
        match self.shape {
            Shape::Capability if parse_prefixed(text).is_none() => {
                self.found.odd_capability = true;
                Ok(())
            }
            Shape::SchedulerFlag if !super::schema::SCHEDULER_FLAGS.contains(&text) => {
                let known = super::schema::SCHEDULER_FLAGS.join(", ");
                Err(self.refuse(format!("{} is not one of {known}", Shown(text))))
            }
            Shape::CpuList if !text.is_empty() => match parse_number_list(text) {
                Ok(_) => Ok(()),
                Err(problem) => Err(self.refuse(problem)),
            },
            Shape::DeviceType => {
                self.found.fifo = text == "p";
                Ok(())
            }
            _ => self.scalar("a string"),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let shape = match self.shape {
            Shape::List(shape) => shape,
            Shape::Any => &Shape::Any,
            _ => return Err(self.unexpected("an array")),
        };
        for index in 0.. {
            // A null among the elements is left to oci-spec: it knows none that may be null.
            let before = self.found.remarks.len();
            let walk = Walk {
                shape,
                required: false,
                found: &mut *self.found,
            };
            match elements.next_element_seed(walk) {
                Ok(Some(())) => self.found.remarked_inside(before, || Step::Index(index)),
                Ok(None) => break,
                Err(error) => return Err(inside(self.found, || Step::Index(index), error)),
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let (properties, others): (&'static [Property], &'static Shape) = match self.shape {
            Shape::Object(properties) => (properties, &Shape::Any),
            Shape::Map(shape) => (&[], shape),
            Shape::Any => (&[], &Shape::Any),
            _ => return Err(self.unexpected("an object")),
        };
        let mut seen = 0_u64;
        let mut free: Vec<Cow<'de, str>> = Vec::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            let position = properties.iter().position(|property| property.name == key);
            let (shape, required) = match position.and_then(|position| properties.get(position)) {
                Some(property) => (&property.shape, property.need == Need::Required),
                None => (others, false),
            };
            let before = self.found.remarks.len();
            let walk = Walk {
                shape,
                required,
                found: &mut *self.found,
            };
            if let Err(error) = entries.next_value_seed(walk) {
                return Err(inside(self.found, || Step::Key(key.into_owned()), error));
            }
            self.found
                .remarked_inside(before, || Step::Key(key.clone().into_owned()));
            match position {
                Some(position) if seen & (1 << position) != 0 => return Err(self.twice(&key)),
                Some(position) => seen |= 1 << position,
                None => {
                    if let Some(near) = near::known(properties, &key) {
                        let text = format!(" is not a property; did you mean {near}?");
                        self.found.remark(&key, text);
                    }
                    free.push(key);
                }
            }
        }
        free.sort_unstable();
        if let Some(twin) = free.windows(2).find_map(|pair| match pair {
            [first, second] if first == second => Some(first),
            _ => None,
        }) {
            return Err(self.twice(twin));
        }
        self.check_present(properties, seen)
    }
}

impl Walk<'_> {
    /// `seen` has a bit for each of the properties that are there.
    fn check_present<E: de::Error>(
        mut self,
        properties: &'static [Property],
        seen: u64,
    ) -> Result<(), E> {
        let missing = properties
            .iter()
            .enumerate()
            .filter(|(position, _)| seen & (1 << position) == 0);
        for (_, property) in missing {
            let needed = match property.need {
                Need::Optional => false,
                Need::Required => true,
                Need::UnlessFifo => !self.found.fifo,
                Need::Expected(meaning) => {
                    self.found.remark(property.name, format!(": {meaning}"));
                    false
                }
            };
            if needed {
                let error = self.refuse("required, but missing".to_owned());
                let step = || Step::Key(property.name.to_owned());
                return Err(inside(self.found, step, error));
            }
        }
        Ok(())
    }

    fn twice<E: de::Error>(&mut self, key: &str) -> E {
        self.refuse(format!("the key {} stands here twice", Shown(key)))
    }
}

/// Notes the step that leads to the problem, if there is one: errors of syntax need no path.
fn inside<E>(found: &mut Found, step: impl FnOnce() -> Step, error: E) -> E {
    if let Some(problem) = &mut found.problem {
        problem.path.push(step());
    }
    error
}

/// Takes a key as it stands in the text where it has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: de::Error>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}
