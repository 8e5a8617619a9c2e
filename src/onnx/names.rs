//! Parses values of `metadata_props`: JSON, or the Python literals that `str(dict)` writes.
//!
//! The two differ in quotes, in keys (Python has numbers), in brackets (Python has tuples), in trailing commas and in a
//! few escapes. One parser accepts the union of both.

use std::fmt;

/// A JSON value or Python literal. Numbers keep their spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Literal {
    Text(String),
    Number(String),
    /// `true`, `None` and other bare words.
    Word(String),
    List(Vec<Literal>),
    Map(Vec<(Literal, Literal)>),
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Text(text) => write!(f, "{text:?}"),
            Literal::Number(word) | Literal::Word(word) => f.write_str(word),
            Literal::List(items) => write!(f, "a list of {}", items.len()),
            Literal::Map(entries) => write!(f, "a map of {}", entries.len()),
        }
    }
}

/// Parses one literal and nothing after it. The error says what is wrong and where.
pub(super) fn parse(text: &str) -> Result<Literal, String> {
    let mut reader = Reader { text, at: 0 };
    let literal = reader.literal(0)?;
    reader.skip_space();
    if reader.peek().is_some() {
        return reader.wrong("the end");
    }
    Ok(literal)
}

/// The maximum nesting. Names are flat, and the limit prevents a stack overflow by hostile files.
const MAX_DEPTH: u32 = 16;

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.next();
        }
        there
    }

    fn wrong<T>(&self, expected: &str) -> Result<T, String> {
        let found = self.peek().map_or("the end".to_owned(), |found| format!("{found:?}"));
        Err(format!("expected {expected} at byte {}, found {found}", self.at))
    }

    fn literal(&mut self, depth: u32) -> Result<Literal, String> {
        if depth > MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} deep"));
        }
        self.skip_space();
        match self.peek() {
            Some('{') => self.map(depth),
            Some('[') => self.list(']', depth),
            Some('(') => self.list(')', depth),
            Some('\'' | '"') => self.text().map(Literal::Text),
            Some(c) if c.is_ascii_digit() || c == '-' => {
                Ok(Literal::Number(self.word(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E'))))
            }
            // Python 2 wrote u'text'.
            Some('u') if self.text[self.at + 1..].starts_with(['\'', '"']) => {
                self.next();
                self.text().map(Literal::Text)
            }
            Some(c) if c.is_ascii_alphabetic() => Ok(Literal::Word(self.word(|c| c.is_ascii_alphanumeric()))),
            _ => self.wrong("a value"),
        }
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&belongs) {
            self.next();
        }
        self.text[start..self.at].to_owned()
    }

    fn list(&mut self, close: char, depth: u32) -> Result<Literal, String> {
        self.next();
        let mut items = Vec::new();
        loop {
            self.skip_space();
            if self.take(close) {
                return Ok(Literal::List(items));
            }
            items.push(self.literal(depth + 1)?);
            self.skip_space();
            if !self.take(',') && self.peek() != Some(close) {
                return self.wrong("a comma or the end of the list");
            }
        }
    }

    fn map(&mut self, depth: u32) -> Result<Literal, String> {
        self.next();
        let mut entries = Vec::new();
        loop {
            self.skip_space();
            if self.take('}') {
                return Ok(Literal::Map(entries));
            }
            let key = self.literal(depth + 1)?;
            self.skip_space();
            if !self.take(':') {
                return self.wrong("a colon");
            }
            entries.push((key, self.literal(depth + 1)?));
            self.skip_space();
            if !self.take(',') && self.peek() != Some('}') {
                return self.wrong("a comma or the end of the map");
            }
        }
    }

    fn text(&mut self) -> Result<String, String> {
        let quote = self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err("a text does not end".to_owned()),
                Some('\\') => self.escape(&mut text)?,
                next if next == quote => return Ok(text),
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), String> {
        let Some(kind) = self.next() else { return Err("a text does not end".to_owned()) };
        match kind {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            '\\' | '/' | '\'' | '"' => text.push(kind),
            'x' => text.push(self.hex(2)?),
            'u' => text.push(self.hex(4)?),
            'U' => text.push(self.hex(8)?),
            // Python keeps a backslash that escapes nothing.
            other => text.extend(['\\', other]),
        }
        Ok(())
    }

    /// `digits` hexadecimal digits. For a JSON surrogate pair, the second half is read too.
    fn hex(&mut self, digits: usize) -> Result<char, String> {
        let high = self.hex_digits(digits)?;
        let is_high_surrogate = (0xD800..0xDC00).contains(&high);
        if is_high_surrogate && self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            let low = self.hex_digits(4)?;
            if (0xDC00..0xE000).contains(&low) {
                let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
        Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex_digits(&mut self, digits: usize) -> Result<u32, String> {
        let mut code = 0u32;
        for _ in 0..digits {
            match self.peek().and_then(|digit| digit.to_digit(16)) {
                Some(digit) => code = (code << 4) | digit,
                None => return self.wrong("a hexadecimal digit"),
            }
            self.next();
        }
        Ok(code)
    }
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(source: &str) -> String {
        match parse(source) {
            Ok(Literal::Text(text)) => text,
            other => panic!("{source}: {other:?}"),
        }
    }

    #[test]
    fn escapes_of_both_languages() {
        assert_eq!(text(r#""a\"b\\c\/d\n""#), "a\"b\\c/d\n");
        assert_eq!(text(r#"'it\'s'"#), "it's");
        assert_eq!(text(r#""\u00e9""#), "é");
        assert_eq!(text(r#""\ud83d\ude00""#), "😀", "JSON writes a pair");
        assert_eq!(text(r"'\U0001F600\xe9'"), "😀é", "Python writes one");
        assert_eq!(text(r#""\ud83dx""#), "\u{FFFD}x", "half a pair");
        assert_eq!(text(r"'\q'"), r"\q");
        assert_eq!(text("u'old'"), "old");
    }

    #[test]
    fn what_does_not_parse_says_where() {
        let cases = [
            ("", "byte 0"),
            ("{0: 'a' 1: 'b'}", "byte 8"),
            ("[1, 2", "the end"),
            ("{'a'}", "a colon"),
            ("'open", "does not end"),
            ("[1] 2", "byte 4"),
            (r"'\u12'", "hexadecimal"),
            ("'\\", "does not end"),
        ];
        for (source, says) in cases {
            let error = parse(source).unwrap_err();
            assert!(error.contains(says), "{source}: {error}");
        }
        assert!(parse(&"[".repeat(100_000)).unwrap_err().contains("deep"));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(source in "\\PC*") {
            let _ = parse(&source);
        }

        #[test]
        fn json_names_come_back(names in proptest::collection::vec("\\PC*", 0..8)) {
            let json = serde_json::to_string(&names).unwrap();
            let expected = names.into_iter().map(Literal::Text).collect();
            prop_assert_eq!(parse(&json), Ok(Literal::List(expected)));
        }

        #[test]
        fn json_maps_come_back(names in proptest::collection::vec(".*", 0..8)) {
            let map: serde_json::Map<_, _> =
                names.iter().enumerate().map(|(i, name)| (i.to_string(), name.clone().into())).collect();
            let Ok(Literal::Map(entries)) = parse(&serde_json::Value::Object(map).to_string()) else {
                return Err(TestCaseError::fail("no map"));
            };
            for (key, value) in entries {
                let Literal::Text(key) = key else { return Err(TestCaseError::fail("no text key")) };
                prop_assert_eq!(value, Literal::Text(names[key.parse::<usize>().unwrap()].clone()));
            }
        }
    }
}
