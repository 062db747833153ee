//! Values in GVariant's text format, as far as D-Bus has such values:
//! `uint64 5`, `'text'`, `[true, false]`, `('a', 1)`, `@as []`, `b'bytes'`.

use coracle_dbus::{Kind, Value};

type Parsed<T> = std::result::Result<T, &'static str>;

/// The limit on nesting, deeper than any property of a unit.
const DEPTH_MAX: usize = 8;
const EXPECTED: &str = "expected a value";

const KEYWORDS: [(&str, Kind); 10] = [
    ("boolean", Kind::Bool),
    ("byte", Kind::Byte),
    ("int16", Kind::I16),
    ("uint16", Kind::U16),
    ("int32", Kind::I32),
    ("uint32", Kind::U32),
    ("int64", Kind::I64),
    ("uint64", Kind::U64),
    ("string", Kind::Text),
    ("objectpath", Kind::Path),
];

/// Parses the whole text. Numbers without a type are `int32`. Floating point is not supported: no
/// unit has such a property.
pub(super) fn parse(text: &str) -> Parsed<Value> {
    let mut parser = Parser { rest: text };
    let value = parser.value(None, DEPTH_MAX)?;
    parser.skip_blanks();
    if parser.rest.is_empty() {
        Ok(value)
    } else {
        Err("there is more after the value")
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Skips `mark` if it comes next; returns whether it did.
    fn eats(&mut self, mark: &str) -> bool {
        self.skip_blanks();
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes the longest prefix of such characters.
    fn word(&mut self, belongs: fn(char) -> bool) -> &'a str {
        self.skip_blanks();
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn value(&mut self, kind: Option<&Kind>, depth: usize) -> Parsed<Value> {
        let depth = depth.checked_sub(1).ok_or("it is nested too deep")?;
        if self.eats("@") {
            let signature = self.word(|c| c.is_ascii_alphabetic() || "()".contains(c));
            let declared = Kind::one(signature).map_err(|_| "an unknown type")?;
            return self.declared(declared, kind, depth);
        }
        if self.eats("[") {
            return self.array(kind, depth);
        }
        if self.eats("(") {
            return self.tuple(kind, depth);
        }
        if self.eats("<") {
            let value = self.value(None, depth)?;
            return match self.eats(">") {
                true => fits(Value::Variant(Box::new(value)), kind),
                false => Err("expected `>`"),
            };
        }
        if self.eats("b'") {
            return self.bytes('\'', kind);
        }
        if self.eats("b\"") {
            return self.bytes('"', kind);
        }
        if self.eats("'") {
            return self.text('\'', kind);
        }
        if self.eats("\"") {
            return self.text('"', kind);
        }
        self.bare(kind, depth)
    }

    fn declared(&mut self, declared: Kind, kind: Option<&Kind>, depth: usize) -> Parsed<Value> {
        match kind {
            Some(kind) if *kind != declared => Err("the types do not agree"),
            _ => self.value(Some(&declared), depth),
        }
    }

    /// A keyword, a truth value or a number.
    fn bare(&mut self, kind: Option<&Kind>, depth: usize) -> Parsed<Value> {
        let word = self.word(|c| c.is_ascii_alphanumeric() || "+-._".contains(c));
        if let Some((_, declared)) = KEYWORDS.iter().find(|(name, _)| *name == word) {
            return self.declared(declared.clone(), kind, depth);
        }
        match word {
            "true" => fits(Value::Bool(true), kind),
            "false" => fits(Value::Bool(false), kind),
            word => number(word, kind),
        }
    }

    fn array(&mut self, kind: Option<&Kind>, depth: usize) -> Parsed<Value> {
        let mut of = match kind {
            None => None,
            Some(Kind::Array(of)) => Some((**of).clone()),
            Some(_) => return Err("the types do not agree"),
        };
        let mut values = Vec::new();
        while !self.eats("]") {
            if !values.is_empty() && !self.eats(",") {
                return Err("expected `,` or `]`");
            }
            let value = self.value(of.as_ref(), depth)?;
            of = Some(value.kind());
            values.push(value);
        }
        let of = of.ok_or("an empty array needs its type before it, such as @as")?;
        Ok(Value::Array(of, values))
    }

    fn tuple(&mut self, kind: Option<&Kind>, depth: usize) -> Parsed<Value> {
        let kinds = match kind {
            None => None,
            Some(Kind::Struct(kinds)) => Some(kinds),
            Some(_) => return Err("the types do not agree"),
        };
        let mut values = Vec::new();
        while !self.eats(")") {
            if !values.is_empty() && !self.eats(",") {
                return Err("expected `,` or `)`");
            }
            // `(1,)` is a tuple of one.
            if values.len() == 1 && self.eats(")") {
                break;
            }
            let kind = match kinds {
                None => None,
                Some(kinds) => Some(kinds.get(values.len()).ok_or("the types do not agree")?),
            };
            values.push(self.value(kind, depth)?);
        }
        if values.is_empty() || kinds.is_some_and(|kinds| kinds.len() != values.len()) {
            return Err("the types do not agree");
        }
        Ok(Value::Struct(values))
    }

    fn bytes(&mut self, quote: char, kind: Option<&Kind>) -> Parsed<Value> {
        let text = self.quoted(quote)?;
        // A byte string ends with a zero byte.
        let bytes = text.bytes().chain([0]).map(Value::Byte).collect();
        fits(Value::Array(Kind::Byte, bytes), kind)
    }

    fn text(&mut self, quote: char, kind: Option<&Kind>) -> Parsed<Value> {
        let text = self.quoted(quote)?;
        match kind {
            Some(Kind::Path) => Ok(Value::Path(text)),
            Some(Kind::Signature) => Ok(Value::Signature(text)),
            kind => fits(Value::Text(text), kind),
        }
    }

    /// The text up to the closing quote, with escapes resolved.
    fn quoted(&mut self, quote: char) -> Parsed<String> {
        let open = "a text without its closing quote";
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => text.push(match chars.next().ok_or(open)?.1 {
                    'n' => '\n',
                    't' => '\t',
                    same @ ('\\' | '\'' | '"') => same,
                    _ => return Err("an unknown escape in a text"),
                }),
                '\0' => return Err("a text holds a NUL byte"),
                c if c == quote => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err(open)
    }
}

fn fits(value: Value, kind: Option<&Kind>) -> Parsed<Value> {
    match kind {
        Some(kind) if value.kind() != *kind => Err("the types do not agree"),
        _ => Ok(value),
    }
}

fn number(word: &str, kind: Option<&Kind>) -> Parsed<Value> {
    let is_number = word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    if !is_number {
        return Err(EXPECTED);
    }
    let range = "a number that its type cannot hold";
    fn read<T: TryFrom<i128>>(word: &str) -> Option<T> {
        let (sign, digits) = match word.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, word.strip_prefix('+').unwrap_or(word)),
        };
        if digits.starts_with(['+', '-']) {
            return None;
        }
        let (digits, radix) = match digits.strip_prefix("0x") {
            Some(digits) => (digits, 16),
            None => (digits, 10),
        };
        let number = i128::from_str_radix(digits, radix).ok()?;
        number
            .checked_mul(sign)
            .and_then(|number| T::try_from(number).ok())
    }
    Ok(match kind {
        None | Some(Kind::I32) => Value::I32(read(word).ok_or(range)?),
        Some(Kind::Byte) => Value::Byte(read(word).ok_or(range)?),
        Some(Kind::I16) => Value::I16(read(word).ok_or(range)?),
        Some(Kind::U16) => Value::U16(read(word).ok_or(range)?),
        Some(Kind::U32) => Value::U32(read(word).ok_or(range)?),
        Some(Kind::I64) => Value::I64(read(word).ok_or(range)?),
        Some(Kind::U64) => Value::U64(read(word).ok_or(range)?),
        Some(_) => return Err("the types do not agree"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str) -> String {
        match parse(text) {
            Ok(value) => format!("{} {value}", value.kind()),
            Err(reason) => reason.to_owned(),
        }
    }

    #[test]
    fn values() {
        let cases = [
            ("15", "i 15"),
            (" -7 ", "i -7"),
            ("0x1f", "i 31"),
            ("uint64 18446744073709551615", "t infinity"),
            ("byte 0x7", "y 7"),
            ("true", "b true"),
            ("boolean false", "b false"),
            ("'a\\'b'", "s 'a'b'"),
            ("\"it's\"", "s 'it's'"),
            ("objectpath '/a'", "o '/a'"),
            ("['a', 'b']", "as ['a', 'b']"),
            ("@as []", "as []"),
            ("[uint64 1, 2]", "at [1, 2]"),
            ("@a(st) [('x', 1)]", "a(st) [('x', 1)]"),
            ("('a', uint32 1)", "(su) ('a', 1)"),
            ("(1,)", "(i) (1)"),
            ("<uint16 3>", "v <3>"),
            ("b'ab'", "ay [97, 98, 0]"),
        ];
        for (text, expected) in cases {
            assert_eq!(check(text), expected, "{text}");
        }
    }

    #[test]
    fn refusals() {
        let cases = [
            ("", EXPECTED),
            ("yes", EXPECTED),
            ("15 16", "there is more after the value"),
            ("'x", "a text without its closing quote"),
            ("'\\x'", "an unknown escape in a text"),
            ("[]", "an empty array needs its type before it, such as @as"),
            ("[1, 'a']", "the types do not agree"),
            ("[1 2]", "expected `,` or `]`"),
            ("()", "the types do not agree"),
            ("@s 1", "the types do not agree"),
            ("@zz 1", "an unknown type"),
            ("byte 256", "a number that its type cannot hold"),
            ("4294967296", "a number that its type cannot hold"),
            ("uint32 -1", "a number that its type cannot hold"),
            ("+-1", "a number that its type cannot hold"),
            ("uint64 'a'", "the types do not agree"),
            ("{'a': 1}", EXPECTED),
            ("1.5", "a number that its type cannot hold"),
            ("[[[[[[[[[1]]]]]]]]]", "it is nested too deep"),
        ];
        for (text, expected) in cases {
            assert_eq!(check(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_refused(text in "[-+@a-z0-9'\"\\\\(){}\\[\\]<>, .]{0,24}") {
            let _ = parse(&text);
        }

        #[test]
        fn numbers_are_what_they_say(number: i32, large: u64) {
            prop_assert_eq!(parse(&number.to_string()), Ok(Value::I32(number)));
            prop_assert_eq!(parse(&format!("uint64 {large}")), Ok(Value::U64(large)));
        }
    }
}
