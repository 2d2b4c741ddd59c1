//! What an expression is compiled to: names are found, functions chosen, literal patterns compiled.

use std::fmt;

use super::{
    library::Overload,
    value::{Key, Value},
};

/// A part of an expression.
pub(super) struct Node {
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Literal(Value<'static>),
    /// A name that a macro binds, by its place among those that are bound around it.
    Local {
        slot: usize,
        name: Box<str>,
    },
    /// A name of the scope.
    Root(Root),
    /// `variables.<name>`
    Variable(Box<str>),
    Select {
        operand: Box<Node>,
        field: Box<str>,
        optional: bool,
    },
    /// `has(operand.field)`
    Has {
        operand: Box<Node>,
        field: Box<str>,
    },
    /// The pair is the operand and the key.
    Index {
        pair: Box<[Node; 2]>,
        optional: bool,
    },
    /// Elements, and whether they are left out when they are optionals without a value.
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Conditional(Box<[Node; 3]>),
    Binary {
        operator: Operator,
        pair: Box<[Node; 2]>,
    },
    Call {
        overloads: &'static [Overload],
        args: Vec<Node>,
    },
    Loop(Box<Loop>),
    /// `cel.bind(name, value, body)`
    Bind {
        name: Box<str>,
        pair: Box<[Node; 2]>,
    },
    /// `value.optMap(name, body)`, or `optFlatMap`
    Optional {
        name: Box<str>,
        flat: bool,
        pair: Box<[Node; 2]>,
    },
}

/// A macro that goes through a list or a map.
pub(super) struct Loop {
    pub(super) over: Over,
    pub(super) range: Node,
    /// One name for elements or keys, or two: index and element, or key and value.
    pub(super) names: Vec<Box<str>>,
    pub(super) filter: Option<Node>,
    pub(super) body: Node,
}

/// What a loop makes of what it goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformList,
    TransformMap,
    TransformMapEntry,
    SortBy,
}

impl Over {
    pub(super) fn name(self) -> &'static str {
        match self {
            Over::All => "all",
            Over::Exists => "exists",
            Over::ExistsOne => "exists_one",
            Over::Map => "map",
            Over::Filter => "filter",
            Over::TransformList => "transformList",
            Over::TransformMap => "transformMap",
            Over::TransformMapEntry => "transformMapEntry",
            Over::SortBy => "sortBy",
        }
    }
}

/// An operator of two operands that are both evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

impl Operator {
    const ALL: [(Operator, &'static str, &'static str); 12] = [
        (Operator::Add, "_+_", "+"),
        (Operator::Subtract, "_-_", "-"),
        (Operator::Multiply, "_*_", "*"),
        (Operator::Divide, "_/_", "/"),
        (Operator::Modulo, "_%_", "%"),
        (Operator::Equal, "_==_", "=="),
        (Operator::NotEqual, "_!=_", "!="),
        (Operator::Less, "_<_", "<"),
        (Operator::LessOrEqual, "_<=_", "<="),
        (Operator::Greater, "_>_", ">"),
        (Operator::GreaterOrEqual, "_>=_", ">="),
        (Operator::In, "@in", "in"),
    ];

    /// The operator of this function name.
    pub(super) fn of(function: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name, _)| *name == function).map(|(operator, ..)| *operator)
    }

    /// Its function name, as messages tell it.
    pub(super) fn function(self) -> &'static str {
        Self::ALL.iter().find(|(operator, ..)| *operator == self).map_or("", |(_, name, _)| name)
    }

    fn sign(self) -> &'static str {
        Self::ALL.iter().find(|(operator, ..)| *operator == self).map_or("", |(.., sign)| sign)
    }
}

/// A name of the scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Event,
    Object,
    OldObject,
    Source,
    Rule,
    Now,
    Actions,
    Firing,
    Group,
    Count,
    /// What was added by this name.
    Other(Box<str>),
}

impl Root {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "event" => Root::Event,
            "object" => Root::Object,
            "oldObject" => Root::OldObject,
            "source" => Root::Source,
            "rule" => Root::Rule,
            "now" => Root::Now,
            "actions" => Root::Actions,
            "firing" => Root::Firing,
            "group" => Root::Group,
            "count" => Root::Count,
            other => Root::Other(other.into()),
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Root::Event => "event",
            Root::Object => "object",
            Root::OldObject => "oldObject",
            Root::Source => "source",
            Root::Rule => "rule",
            Root::Now => "now",
            Root::Actions => "actions",
            Root::Firing => "firing",
            Root::Group => "group",
            Root::Count => "count",
            Root::Other(name) => name,
        }
    }
}

impl Node {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind }
    }

    /// The nodes below this one, in the order of the text.
    pub(super) fn children(&self) -> Vec<&Node> {
        match &self.kind {
            Kind::Literal(_) | Kind::Local { .. } | Kind::Root(_) | Kind::Variable(_) => Vec::new(),
            Kind::Select { operand, .. } | Kind::Has { operand, .. } => vec![operand],
            Kind::Not(operand) | Kind::Negate(operand) => vec![operand],
            Kind::Index { pair, .. }
            | Kind::And(pair)
            | Kind::Or(pair)
            | Kind::Binary { pair, .. }
            | Kind::Bind { pair, .. }
            | Kind::Optional { pair, .. } => pair.iter().collect(),
            Kind::Conditional(three) => three.iter().collect(),
            Kind::List(items) => items.iter().map(|(item, _)| item).collect(),
            Kind::Map(entries) => entries.iter().flat_map(|(key, value, _)| [key, value]).collect(),
            Kind::Call { args, .. } => args.iter().collect(),
            Kind::Loop(one) => [&one.range].into_iter().chain(&one.filter).chain([&one.body]).collect(),
        }
    }

    /// How deep the evaluator recurses.
    pub(super) fn levels(&self) -> usize {
        1 + self.children().into_iter().map(Node::levels).max().unwrap_or(0)
    }
}

/// The expression as it could have been written.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Literal(value) => literal(value, f),
            Kind::Local { name, .. } => f.write_str(name),
            Kind::Root(root) => f.write_str(root.name()),
            Kind::Variable(name) => write!(f, "variables.{name}"),
            Kind::Select { operand, field, optional } => {
                write!(f, "{}.{}{}", operand.inner(), if *optional { "?" } else { "" }, escaped(field))
            }
            Kind::Has { operand, field } => write!(f, "has({}.{})", operand.inner(), escaped(field)),
            Kind::Index { pair, optional } => {
                write!(f, "{}[{}{}]", pair[0].inner(), if *optional { "?" } else { "" }, pair[1])
            }
            Kind::List(items) => {
                f.write_str("[")?;
                separated(f, items, |f, (item, optional)| write!(f, "{}{item}", if *optional { "?" } else { "" }))?;
                f.write_str("]")
            }
            Kind::Map(entries) => {
                f.write_str("{")?;
                separated(f, entries, |f, (key, value, optional)| {
                    write!(f, "{}{key}: {value}", if *optional { "?" } else { "" })
                })?;
                f.write_str("}")
            }
            Kind::And(pair) => write!(f, "{} && {}", pair[0].inner(), pair[1].inner()),
            Kind::Or(pair) => write!(f, "{} || {}", pair[0].inner(), pair[1].inner()),
            Kind::Not(operand) => write!(f, "!{}", operand.inner()),
            Kind::Negate(operand) => write!(f, "-{}", operand.inner()),
            Kind::Conditional(three) => {
                write!(f, "{} ? {} : {}", three[0].inner(), three[1].inner(), three[2].inner())
            }
            Kind::Binary { operator, pair } => {
                write!(f, "{} {} {}", pair[0].inner(), operator.sign(), pair[1].inner())
            }
            Kind::Call { overloads, args } => call(overloads, args, f),
            Kind::Loop(one) => {
                write!(f, "{}.{}({}", one.range.inner(), one.over.name(), one.names.join(", "))?;
                one.filter.iter().try_for_each(|filter| write!(f, ", {filter}"))?;
                // What `filter` keeps is its condition; there is no more to it.
                if one.over == Over::Filter { f.write_str(")") } else { write!(f, ", {})", one.body) }
            }
            Kind::Bind { name, pair } => write!(f, "cel.bind({name}, {}, {})", pair[0], pair[1]),
            Kind::Optional { name, flat, pair } => {
                write!(f, "{}.{}({name}, {})", pair[0].inner(), if *flat { "optFlatMap" } else { "optMap" }, pair[1])
            }
        }
    }
}

/// A node as part of another one, in brackets where it could be taken apart.
struct Inner<'n>(&'n Node);

impl fmt::Display for Inner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind {
            Kind::And(_)
            | Kind::Or(_)
            | Kind::Conditional(_)
            | Kind::Binary { .. }
            | Kind::Not(_)
            | Kind::Negate(_) => {
                write!(f, "({})", self.0)
            }
            _ => self.0.fmt(f),
        }
    }
}

impl Node {
    fn inner(&self) -> Inner<'_> {
        Inner(self)
    }
}

fn call(overloads: &[Overload], args: &[Node], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (name, member) = overloads.first().map_or(("", false), |overload| (overload.name, overload.member));
    match args {
        [target, rest @ ..] if member => {
            write!(f, "{}.{name}(", target.inner())?;
            separated(f, rest, |f, arg| write!(f, "{arg}"))?;
        }
        args => {
            write!(f, "{name}(")?;
            separated(f, args, |f, arg| write!(f, "{arg}"))?;
        }
    }
    f.write_str(")")
}

fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    write: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write(f, item)?;
    }
    Ok(())
}

fn escaped(field: &str) -> String {
    if field.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') { field.to_owned() } else { format!("`{field}`") }
}

fn literal(value: &Value<'static>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let quoted = |f: &mut fmt::Formatter<'_>, text: &str| {
        write!(f, "'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n"))
    };
    match value {
        Value::Null => f.write_str("null"),
        Value::Uint(number) => write!(f, "{number}u"),
        Value::Double(number) => write!(f, "{number:?}"),
        Value::String(text) => quoted(f, text),
        Value::Pattern(pattern) => quoted(f, &pattern.source),
        Value::Type(name) => f.write_str(name),
        Value::Bytes(bytes) => write!(f, "b'{}'", bytes.escape_ascii()),
        other => match Key::of(other) {
            Some(key) => write!(f, "{key}"),
            None => f.write_str(other.type_name()),
        },
    }
}
