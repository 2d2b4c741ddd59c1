//! Just enough of protobuf's text format to read cases: fields with a scalar, a message or a list of either.

use std::str::Chars;

/// Fields in their order; one may stand there several times.
#[derive(Debug, Default)]
pub struct Message(Vec<(String, Field)>);

#[derive(Debug)]
pub enum Field {
    /// A text without its quotes and escapes, a number or a word.
    Scalar(Vec<u8>),
    Message(Message),
}

impl Message {
    pub fn first(&self) -> Option<(&str, &Field)> {
        self.0.first().map(|(name, field)| (name.as_str(), field))
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    pub fn messages<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m Message> {
        self.0.iter().filter_map(move |(known, field)| match field {
            Field::Message(message) if known == name => Some(message),
            _ => None,
        })
    }

    pub fn message(&self, name: &str) -> Option<&Message> {
        self.0.iter().find_map(|(known, field)| match field {
            Field::Message(message) if known == name => Some(message),
            _ => None,
        })
    }

    /// A scalar, empty when there is none.
    pub fn text(&self, name: &str) -> String {
        let scalar = self.0.iter().find_map(|(known, field)| match field {
            Field::Scalar(text) if known == name => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        });
        scalar.unwrap_or_default()
    }
}

/// Reads a file.
pub fn parse(text: &str) -> Result<Message, String> {
    let mut reader = Reader { rest: text.chars() };
    let message = reader.fields()?;
    reader.skip();
    match reader.peek() {
        None => Ok(message),
        Some(other) => Err(format!("{other:?} is no field")),
    }
}

struct Reader<'t> {
    rest: Chars<'t>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    /// Past blanks, comments and separators.
    fn skip(&mut self) {
        loop {
            match self.peek() {
                Some(c) if c.is_whitespace() || c == ',' || c == ';' => {
                    self.rest.next();
                }
                Some('#') => while self.rest.next().is_some_and(|c| c != '\n') {},
                _ => return,
            }
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip();
        let found = self.peek() == Some(wanted);
        if found {
            self.rest.next();
        }
        found
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek().filter(|c| c.is_alphanumeric() || "_-+./".contains(*c)) {
            word.push(c);
            self.rest.next();
        }
        word
    }

    fn fields(&mut self) -> Result<Message, String> {
        let mut message = Message::default();
        loop {
            self.skip();
            let name = if self.take('[') {
                let name = self.word();
                self.take(']');
                name
            } else {
                self.word()
            };
            if name.is_empty() {
                return Ok(message);
            }
            self.take(':');
            if self.take('[') {
                while !self.take(']') {
                    let field = self.field(&name)?;
                    message.0.push((name.clone(), field));
                }
            } else {
                let field = self.field(&name)?;
                message.0.push((name, field));
            }
        }
    }

    fn field(&mut self, name: &str) -> Result<Field, String> {
        self.skip();
        match self.peek() {
            Some('{') => {
                self.rest.next();
                let message = self.fields()?;
                if self.take('}') { Ok(Field::Message(message)) } else { Err(format!("{name} does not end")) }
            }
            Some('"' | '\'') => {
                let mut text = Vec::new();
                while let Some(quote) = self.peek().filter(|c| ['"', '\''].contains(c)) {
                    self.rest.next();
                    self.string(quote, &mut text)?;
                    self.skip();
                }
                Ok(Field::Scalar(text))
            }
            _ => match self.word() {
                word if word.is_empty() => Err(format!("{name} has no value")),
                word => Ok(Field::Scalar(word.into_bytes())),
            },
        }
    }

    fn string(&mut self, quote: char, text: &mut Vec<u8>) -> Result<(), String> {
        loop {
            match self.rest.next().ok_or("a text does not end")? {
                c if c == quote => return Ok(()),
                '\\' => self.escape(text)?,
                c => text.extend(c.to_string().bytes()),
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), String> {
        let escape = self.rest.next().ok_or("an escape does not end")?;
        let unicode = |digits: String| {
            u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).ok_or(format!("\\u{digits}"))
        };
        match escape {
            'n' => text.push(b'\n'),
            'r' => text.push(b'\r'),
            't' => text.push(b'\t'),
            'a' => text.push(7),
            'b' => text.push(8),
            'f' => text.push(12),
            'v' => text.push(11),
            'x' | 'X' => {
                let digits = self.digits(2, 16);
                text.push(u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits}"))?);
            }
            'u' => text.extend(unicode(self.digits(4, 16))?.to_string().bytes()),
            'U' => text.extend(unicode(self.digits(8, 16))?.to_string().bytes()),
            '0'..='7' => {
                let digits = format!("{escape}{}", self.digits(2, 8));
                text.push(u8::from_str_radix(&digits, 8).map_err(|_| format!("\\{digits}"))?);
            }
            other => text.extend(other.to_string().bytes()),
        }
        Ok(())
    }

    fn digits(&mut self, most: usize, base: u32) -> String {
        let mut digits = String::new();
        while digits.len() < most
            && let Some(c) = self.peek().filter(|c| c.is_digit(base))
        {
            digits.push(c);
            self.rest.next();
        }
        digits
    }
}
