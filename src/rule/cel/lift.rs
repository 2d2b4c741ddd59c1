//! What an expression asks of single fields, so that an index can answer it for many expressions at once.
//!
//! A [`Demand`] is one of the parts that must all be true for the expression to be. It may be wider than what is written (numbers are compared as
//! doubles), never narrower: where it does not hold, the expression is false, whatever else in it fails. So `&&` says, of which a false side
//! absorbs an error of the other; and conditions go together in the same way.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use super::{
    Program,
    node::{Kind, Node, Operator, Root},
    value::Value,
};

/// Names of a path, from `event` or `object` on.
pub(in crate::rule) type Path = Vec<Arc<str>>;

/// Names that are in most paths: rules share them.
static COMMON: LazyLock<[Arc<str>; 16]> = LazyLock::new(|| {
    [
        "event",
        "object",
        "data",
        "metadata",
        "regarding",
        "spec",
        "status",
        "type",
        "subject",
        "kind",
        "name",
        "namespace",
        "labels",
        "reason",
        "count",
        "phase",
    ]
    .map(Arc::from)
});

/// A name of a path.
pub(in crate::rule) fn named(name: &str) -> Arc<str> {
    COMMON.iter().find(|known| ***known == *name).map_or_else(|| Arc::from(name), Arc::clone)
}

/// A path has so many names at most, or is not lifted.
const MAX_PATH: usize = 32;
/// What is written of variables within variables is followed so far.
const MAX_DEPTH: usize = 8;

/// What must be true of one field.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rule) struct Demand {
    pub(in crate::rule) path: Path,
    pub(in crate::rule) test: Test,
    /// Of each name of the path a bit: whether the expression is surely false where this is the first name that is not there. Otherwise it may be
    /// an error, which has to be told.
    pub(in crate::rule) without: u32,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rule) enum Test {
    /// One of these.
    Equal(Vec<Scalar>),
    /// A text that begins so.
    Prefix(Arc<str>),
    /// A text that holds this.
    Contains(Arc<str>),
    /// A number between these, or one of them.
    Within(f64, f64),
    /// Anything.
    Present,
}

/// A value that can be looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::rule) enum Scalar {
    Null,
    Bool(bool),
    /// The bits of a double, 0 without a sign.
    Number(u64),
    Text(Arc<str>),
}

impl Scalar {
    pub(in crate::rule) fn number(number: f64) -> Self {
        Self::Number(if number == 0.0 { 0.0_f64.to_bits() } else { number.to_bits() })
    }

    fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::String(text) => Self::Text(Arc::from(&**text)),
            other => Self::number(number(other)?),
        })
    }
}

/// What the conditions, which must all be true, ask of single fields.
pub(in crate::rule) fn demands<'p>(
    conditions: impl Iterator<Item = &'p Program>,
    variables: &'p [(String, Program)],
) -> Vec<Demand> {
    let mut lifter = Lifter { variables, demands: Vec::new() };
    conditions.for_each(|program| lifter.all(&program.0.root));
    let mut demands = merged(lifter.demands);
    let asked: Vec<Path> =
        demands.iter().filter(|demand| demand.test == Test::Present).map(|demand| demand.path.clone()).collect();
    for demand in &mut demands {
        for path in asked.iter().filter(|path| demand.path.starts_with(path)) {
            demand.without |= 1 << (path.len() - 1);
        }
    }
    demands
}

/// Bounds of the same number put together.
fn merged(demands: Vec<Demand>) -> Vec<Demand> {
    let mut bounds: BTreeMap<Path, usize> = BTreeMap::new();
    let mut merged: Vec<Demand> = Vec::new();
    for demand in demands {
        let Test::Within(low, high) = demand.test else {
            merged.push(demand);
            continue;
        };
        let known = *bounds.entry(demand.path.clone()).or_insert(merged.len());
        match merged.get_mut(known) {
            Some(Demand { test: Test::Within(known_low, known_high), without, .. }) => {
                (*known_low, *known_high) = (known_low.max(low), known_high.min(high));
                *without |= demand.without;
            }
            _ => merged.push(demand),
        }
    }
    merged
}

struct Lifter<'p> {
    variables: &'p [(String, Program)],
    demands: Vec<Demand>,
}

/// A field that is read: where it is, where an optional begins, and what stands for it if it is not there.
struct Field {
    path: Path,
    optional_from: Option<usize>,
    default: Option<Scalar>,
}

impl Field {
    /// A demand of its value. `holds` says whether the default meets it; nothing: that would be an error.
    fn demand(self, test: Test, holds: impl Fn(&Scalar) -> Option<bool>) -> Option<Demand> {
        let without = match (self.optional_from, &self.default) {
            (None, None) => 0,
            (Some(from), Some(default)) if holds(default) == Some(false) => u32::MAX << from,
            (Some(_), Some(_)) => 0,
            // An optional is not compared with its value, and what is no optional has no default.
            (Some(_), None) | (None, Some(_)) => return None,
        };
        Some(Demand { path: self.path, test, without })
    }
}

impl<'p> Lifter<'p> {
    fn all(&mut self, node: &'p Node) {
        match &node.kind {
            Kind::And(sides) => sides.iter().for_each(|side| self.all(side)),
            Kind::Variable(_) => {
                if let Some(node) = self.resolved(node) {
                    self.all(node);
                }
            }
            _ => {
                let demand = self.one(node);
                self.demands.extend(demand.filter(|demand| is_indexed(&demand.path)));
            }
        }
    }

    fn one(&self, node: &Node) -> Option<Demand> {
        match &node.kind {
            Kind::Binary { operator: Operator::Equal, pair } => {
                let [left, right] = &**pair;
                let (field, literal) = match (self.field(left), self.field(right)) {
                    (Some(field), None) => (field, right),
                    (None, Some(field)) => (field, left),
                    _ => return None,
                };
                equal(field, vec![scalar(literal)?])
            }
            Kind::Binary { operator: Operator::In, pair } => {
                let Kind::List(elements) = &pair[1].kind else { return None };
                let known = elements.iter().map(|(element, optional)| scalar(element).filter(|_| !optional));
                equal(self.field(&pair[0])?, known.collect::<Option<_>>()?)
            }
            Kind::Binary { operator, pair } => self.bound(*operator, pair),
            Kind::Or(sides) => self.either(&sides[0], &sides[1]),
            Kind::Has { operand, field } => {
                let mut path =
                    self.field(operand).filter(|field| field.optional_from.is_none() && field.default.is_none())?.path;
                path.push(named(field));
                let without = 1_u32.checked_shl(u32::try_from(path.len() - 1).ok()?)?;
                Some(Demand { path, test: Test::Present, without })
            }
            Kind::Call { overloads, args } => self.call(overloads.first()?.name, args),
            _ => None,
        }
    }

    fn call(&self, name: &str, args: &[Node]) -> Option<Demand> {
        let [this, part] = args else { return None };
        let Some(Scalar::Text(part)) = scalar(part) else { return None };
        let test: fn(&str, &str) -> bool = match name {
            "startsWith" => |text, part| text.starts_with(part),
            "contains" => |text, part| text.contains(part),
            _ => return None,
        };
        let holds = |default: &Scalar| match default {
            Scalar::Text(text) => Some(test(text, &part)),
            _ => None,
        };
        let wanted =
            if name == "startsWith" { Test::Prefix(Arc::clone(&part)) } else { Test::Contains(Arc::clone(&part)) };
        self.field(this)?.demand(wanted, holds)
    }

    fn bound(&self, operator: Operator, pair: &[Node; 2]) -> Option<Demand> {
        let [left, right] = pair;
        let below = match operator {
            Operator::Less | Operator::LessOrEqual => true,
            Operator::Greater | Operator::GreaterOrEqual => false,
            _ => return None,
        };
        let (field, literal, below) = match (self.field(left), self.field(right)) {
            (Some(field), None) => (field, right, below),
            (None, Some(field)) => (field, left, !below),
            _ => return None,
        };
        let Kind::Literal(literal) = &literal.kind else { return None };
        let bound = number(literal)?;
        let (low, high) = if below { (f64::NEG_INFINITY, bound) } else { (bound, f64::INFINITY) };
        field.demand(Test::Within(low, high), |default| match default {
            Scalar::Number(bits) => Some((low..=high).contains(&f64::from_bits(*bits))),
            _ => None,
        })
    }

    /// One field that is one of several values.
    fn either(&self, left: &Node, right: &Node) -> Option<Demand> {
        let (left, right) = (self.one(left)?, self.one(right)?);
        let (Test::Equal(mut values), Test::Equal(more)) = (left.test, right.test) else { return None };
        values.extend(more);
        if left.path != right.path {
            return None;
        }
        Some(Demand { path: left.path, test: Test::Equal(values), without: left.without & right.without })
    }

    fn field(&self, node: &Node) -> Option<Field> {
        let node = self.resolved(node)?;
        let mut field = match &node.kind {
            Kind::Root(root @ (Root::Event | Root::Object)) => {
                return Some(Field { path: vec![named(root.name())], optional_from: None, default: None });
            }
            Kind::Select { operand, field, optional } => self.below(operand, field, *optional)?,
            Kind::Index { pair, optional } => match scalar(&pair[1])? {
                Scalar::Text(field) => self.below(&pair[0], &field, *optional)?,
                _ => return None,
            },
            Kind::Call { overloads, args } if overloads.first()?.name == "orValue" => {
                let [optional, default] = args.as_slice() else { return None };
                let default = scalar(default)?;
                let mut field = self.field(optional).filter(|field| field.default.is_none())?;
                field.default = Some(default);
                field
            }
            _ => return None,
        };
        if field.path.len() > MAX_PATH {
            return None;
        }
        field.path.shrink_to_fit();
        Some(field)
    }

    fn below(&self, operand: &Node, name: &str, optional: bool) -> Option<Field> {
        let mut field = self.field(operand).filter(|field| field.default.is_none())?;
        if optional {
            field.optional_from = field.optional_from.or(Some(field.path.len()));
        }
        field.path.push(named(name));
        Some(field)
    }

    /// What a variable stands for.
    fn resolved<'n>(&self, mut node: &'n Node) -> Option<&'n Node>
    where
        'p: 'n,
    {
        for _ in 0..MAX_DEPTH {
            let Kind::Variable(name) = &node.kind else { return Some(node) };
            node = &self.variables.iter().find(|(known, _)| **known == **name)?.1.0.root;
        }
        None
    }
}

fn equal(field: Field, values: Vec<Scalar>) -> Option<Demand> {
    let known = values.clone();
    field.demand(Test::Equal(values), |default| Some(known.contains(default)))
}

/// Whether every rule that looks at an event finds the same there: what was looked up of an object depends on the account, whether it has left a
/// selector on the source, and what is told of it as it was on the rule.
fn is_indexed(path: &[Arc<str>]) -> bool {
    let names: Vec<&str> = path.iter().map(|name| &**name).collect();
    match names.as_slice() {
        ["event", "data", "regarding", "labels" | "owner", ..] | ["event", "time", ..] => false,
        ["event", "data", "selector" | "oldObject", ..] => false,
        [_, _, ..] => true,
        _ => false,
    }
}

fn scalar(node: &Node) -> Option<Scalar> {
    match &node.kind {
        Kind::Literal(value) => Scalar::of(value),
        _ => None,
    }
}

/// A number as a double: of one that has more digits, the nearest.
#[expect(clippy::cast_precision_loss, reason = "the nearest is meant")]
fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(value) => Some(*value as f64),
        Value::Uint(value) => Some(*value as f64),
        Value::Double(value) => Some(*value).filter(|value| !value.is_nan()),
        _ => None,
    }
}
