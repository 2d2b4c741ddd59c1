//! Texts with `${ expression }` in them, and JSON made of such texts.
//!
//! Structure comes first: JSON is parsed before any text in it is filled, so that a value can never become structure. A value that is filled
//! in is data: a `${` in it stays what it is.

use serde_json::{Map, Value};

use super::{
    CelFault, Names, Program, Scope, convert,
    lexer::{Token, tokens},
};
use crate::{
    rule::fault::{EvalError, Fault},
    text::percent_encoded,
};

/// Expressions in one text.
const MAX_EXPRESSIONS: usize = 64;

/// What the filled texts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Always text: for fields whose schema says string.
    Text,
    /// A text that is exactly one `${ }` becomes the value, of its own type: for free-form JSON.
    Typed,
    /// An address: what is filled in is percent-encoded and stands behind the host. A text that is exactly one `${ }` is filled in as it is.
    Url,
}

/// A text with expressions: `a ${ expr } b`. `$${` stands for `${`.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Literal(String),
    Expression(Program),
}

impl Text {
    /// Compiles a text.
    ///
    /// # Errors
    /// All faults of all its expressions, with their places in the text.
    pub fn compile(text: &str, names: &Names) -> Result<Self, Vec<CelFault>> {
        let mut parts = Vec::new();
        let mut faults = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find("${").map(|found| found + at) {
            if found > at && text.as_bytes()[found - 1] == b'$' {
                literal.push_str(&text[at..found - 1]);
                literal.push_str("${");
                at = found + 2;
                continue;
            }
            literal.push_str(&text[at..found]);
            let start = found + 2;
            let Some(length) = closing(&text[start..]) else {
                faults.push(CelFault::at(
                    text,
                    found,
                    "this `${` has no closing `}`; write `$${` for the characters themselves",
                ));
                return Err(faults);
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            match Program::compile_all(&text[start..start + length], names) {
                Ok(program) => parts.push(Part::Expression(program)),
                Err(inner) => faults.extend(inner.into_iter().map(|fault| moved(fault, text, start))),
            }
            at = start + length + 1;
        }
        literal.push_str(&text[at..]);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        let expressions = parts.iter().filter(|part| matches!(part, Part::Expression(_))).count();
        if expressions > MAX_EXPRESSIONS {
            faults.push(CelFault::at(
                text,
                0,
                format!("{expressions} expressions in one text; {MAX_EXPRESSIONS} are allowed"),
            ));
        }
        parts.shrink_to_fit();
        if faults.is_empty() { Ok(Self { parts }) } else { Err(faults) }
    }

    /// The text filled in.
    ///
    /// # Errors
    /// When an expression fails or gives null.
    pub fn fill(&self, scope: &Scope<'_>) -> Result<String, EvalError> {
        self.fill_with(scope, |value| value)
    }

    /// The address filled in.
    fn fill_url(&self, scope: &Scope<'_>) -> Result<String, EvalError> {
        match self.parts.as_slice() {
            [Part::Expression(_)] => self.fill(scope),
            _ => {
                let address = self.fill_with(scope, |value| percent_encoded(&value))?;
                let path = address.split(['?', '#']).next().unwrap_or_default();
                if path.split('/').any(|part| part == "." || part == "..") {
                    return Err(EvalError::new(
                        "filled in, the address has a part `.` or `..`, which would lead elsewhere",
                    ));
                }
                Ok(address)
            }
        }
    }

    fn fill_with(&self, scope: &Scope<'_>, encode: fn(String) -> String) -> Result<String, EvalError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Expression(program) => {
                    let value = program.evaluate(scope)?;
                    let value = convert::to_text(&value)
                        .ok_or_else(|| EvalError::new(format!("{} is null", program.source().trim())))?;
                    text.push_str(&encode(value));
                }
            }
            if text.len() > convert::MAX_RENDERED {
                return Err(too_large());
            }
        }
        Ok(text)
    }

    /// The text filled in, or the value when the text is one `${ }` and nothing else.
    fn fill_typed(&self, scope: &Scope<'_>) -> Result<Value, EvalError> {
        match self.parts.as_slice() {
            [Part::Expression(program)] => program.evaluate(scope),
            _ => self.fill(scope).map(Value::String),
        }
    }

    /// The text when it has no expressions.
    fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether a value that is filled in could be, or become part of, an address' host.
    fn leaves_host_open(&self) -> bool {
        match self.parts.as_slice() {
            [Part::Expression(_)] => false,
            [Part::Literal(start), ..] => {
                let behind = start.split_once("://").map_or(start.as_str(), |(_, behind)| behind);
                !behind.contains(['/', '?', '#'])
            }
            _ => true,
        }
    }

    fn programs(&self) -> impl Iterator<Item = &Program> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expression(program) => Some(program),
            Part::Literal(_) => None,
        })
    }
}

fn too_large() -> EvalError {
    EvalError::new(format!("filled in, it is larger than {} KiB", convert::MAX_RENDERED >> 10))
}

/// The offset of the `}` that ends the expression.
fn closing(expression: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (offset, token) in tokens(expression) {
        match token {
            Token::Open(b'{') => depth += 1,
            Token::Close(b'}') if depth == 0 => return Some(offset),
            Token::Close(b'}') => depth -= 1,
            _ => {}
        }
    }
    None
}

/// A fault of the expression that starts at `start`, as a fault of the whole text.
fn moved(fault: CelFault, text: &str, start: usize) -> CelFault {
    let origin = CelFault::at(text, start, "");
    let column = if fault.line == 1 { fault.column + origin.column - 1 } else { fault.column };
    CelFault { line: fault.line + origin.line - 1, column, message: fault.message }
}

/// JSON whose texts may hold expressions.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    path: String,
    root: Node,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Fixed(Value),
    Text(Text, Mode),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Template {
    /// Compiles a JSON value; `path` is what faults and errors call it. Keys are not filled in.
    ///
    /// # Errors
    /// All faults of all texts.
    pub fn compile(value: &Value, mode: Mode, names: &Names, path: &str) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let root = compile_node(value, mode, names, path, &mut faults);
        if faults.is_empty() { Ok(Self { path: path.to_owned(), root }) } else { Err(faults) }
    }

    /// JSON that is never filled in.
    pub(in crate::rule) fn fixed(value: Value, path: &str) -> Self {
        Self { path: path.to_owned(), root: Node::Fixed(value) }
    }

    /// JSON that is the value of an expression.
    pub(in crate::rule) fn evaluated(program: Program, path: &str) -> Self {
        let text = Text { parts: vec![Part::Expression(program)] };
        Self { path: path.to_owned(), root: Node::Text(text, Mode::Typed) }
    }

    /// One object of several templates, such as an action of which some fields take expressions and others do not.
    pub(in crate::rule) fn object(fields: Vec<(String, Template)>, path: &str) -> Self {
        let fields = fields.into_iter().map(|(key, field)| (key, field.root)).collect();
        Self { path: path.to_owned(), root: Node::Object(fields) }
    }

    /// The JSON filled in.
    ///
    /// # Errors
    /// When an expression fails, with the path of its field; when all texts together are larger than 256 KiB.
    pub fn fill(&self, scope: &Scope<'_>) -> Result<Value, EvalError> {
        let mut room = convert::MAX_RENDERED;
        fill_node(&self.root, scope, &self.path, &mut room)
    }

    /// The field that it is the value of: the last one of its path.
    pub fn field(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    /// Whether no text holds an expression: it is always filled in to the same.
    pub fn is_static(&self) -> bool {
        is_static(&self.root)
    }

    /// All expressions.
    pub(in crate::rule) fn programs(&self) -> Vec<&Program> {
        let mut programs = Vec::new();
        collect(&self.root, &mut programs);
        programs
    }
}

fn compile_node(value: &Value, mode: Mode, names: &Names, path: &str, faults: &mut Vec<Fault>) -> Node {
    match value {
        Value::String(text) => match Text::compile(text, names) {
            Ok(text) => match text.literal() {
                Some(literal) => Node::Fixed(Value::String(literal.to_owned())),
                None if mode == Mode::Url && text.leaves_host_open() => {
                    let message = "`${ }` may stand behind the host only, or be the whole address";
                    faults.push(Fault::new(path, message));
                    Node::Fixed(Value::Null)
                }
                None => Node::Text(text, mode),
            },
            Err(inner) => {
                faults.extend(inner.into_iter().map(|fault| fault.of(path)));
                Node::Fixed(Value::Null)
            }
        },
        Value::Array(items) => {
            let nodes: Vec<Node> = items
                .iter()
                .enumerate()
                .map(|(index, item)| compile_node(item, mode, names, &format!("{path}[{index}]"), faults))
                .collect();
            Node::List(nodes)
        }
        Value::Object(map) => {
            let mut fields = Vec::with_capacity(map.len());
            for (key, item) in map {
                let path = child(path, key);
                if key.contains("${") {
                    faults.push(Fault::new(path.clone(), "keys take no `${ }`"));
                }
                fields.push((key.clone(), compile_node(item, mode, names, &path, faults)));
            }
            Node::Object(fields)
        }
        other => Node::Fixed(other.clone()),
    }
}

fn child(path: &str, key: &str) -> String {
    if key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        format!("{path}.{key}")
    } else {
        format!("{path}[{key:?}]")
    }
}

fn fill_node(node: &Node, scope: &Scope<'_>, path: &str, room: &mut usize) -> Result<Value, EvalError> {
    Ok(match node {
        Node::Fixed(value) => value.clone(),
        Node::Text(text, mode) => {
            let value = match mode {
                Mode::Text => text.fill(scope).map(Value::String),
                Mode::Typed => text.fill_typed(scope),
                Mode::Url => text.fill_url(scope).map(Value::String),
            }
            .map_err(|error| error.at(path))?;
            *room = room.checked_sub(size(&value)).ok_or_else(|| too_large().at(path))?;
            value
        }
        Node::List(items) => {
            let mut filled = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                filled.push(fill_node(item, scope, &format!("{path}[{index}]"), room)?);
            }
            Value::Array(filled)
        }
        Node::Object(fields) => {
            let mut filled = Map::new();
            for (key, field) in fields {
                filled.insert(key.clone(), fill_node(field, scope, &child(path, key), room)?);
            }
            Value::Object(filled)
        }
    })
}

/// About as many bytes as the value takes in JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size(item) + 1).sum::<usize>() + 2,
        Value::Object(map) => map.iter().map(|(key, item)| key.len() + size(item) + 4).sum::<usize>() + 2,
        _ => 8,
    }
}

fn is_static(node: &Node) -> bool {
    match node {
        Node::Fixed(_) => true,
        Node::Text(..) => false,
        Node::List(items) => items.iter().all(is_static),
        Node::Object(fields) => fields.iter().all(|(_, field)| is_static(field)),
    }
}

fn collect<'t>(node: &'t Node, programs: &mut Vec<&'t Program>) {
    match node {
        Node::Fixed(_) => {}
        Node::Text(text, _) => programs.extend(text.programs()),
        Node::List(items) => items.iter().for_each(|item| collect(item, programs)),
        Node::Object(fields) => fields.iter().for_each(|(_, field)| collect(field, programs)),
    }
}
