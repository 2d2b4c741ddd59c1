//! The evaluator: goes through the nodes of an expression, charges each, and may note what each was.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use super::{
    failure::Failure,
    library::Overload,
    node::{Kind, Node, Operator},
    operators,
    scope::Scope,
    value::{Key, List, Map, Value},
};

pub(super) type Answer<'a> = Result<Value<'a>, Failure>;

/// Arguments up to this many need no allocation.
const FEW: usize = 4;

/// How deep lists, maps and optionals that expressions make may lie within each other. JSON may go as deep: see [`super::stack`].
const MAX_DEPTH: usize = 128;

/// One evaluation.
pub(super) struct Run<'s, 'a> {
    pub(super) scope: &'s Scope<'a>,
    /// Values of the names that macros around the present node bind.
    pub(super) locals: Vec<Value<'a>>,
    /// What the parts of the expression were, if somebody wants to know.
    seen: Option<Seen<'s, 'a>>,
}

/// Each evaluation of each part, in the order in which they ended.
pub(super) type Seen<'s, 'a> = Vec<(&'s Node, Answer<'a>)>;

/// Evaluations of parts that are noted: the body of a loop is evaluated for each element.
const MAX_SEEN: usize = 256;

impl<'s, 'a> Run<'s, 'a> {
    pub(super) fn new(scope: &'s Scope<'a>) -> Self {
        Self { scope, locals: Vec::new(), seen: None }
    }

    /// The value of the expression, and what its parts were.
    pub(super) fn explained(scope: &'s Scope<'a>, node: &'s Node) -> Seen<'s, 'a> {
        let mut run = Self { scope, locals: Vec::new(), seen: Some(Vec::new()) };
        // Its value is the last that was noted.
        let _ = run.value(node);
        run.seen.unwrap_or_default()
    }

    pub(super) fn value(&mut self, node: &'s Node) -> Answer<'a> {
        self.scope.meter().charge(1)?;
        let answer = self.node(node).and_then(bounded);
        if let Some(seen) = &mut self.seen
            && !matches!(node.kind, Kind::Literal(_))
        {
            if seen.len() >= MAX_SEEN {
                // The first are kept, and the last: the whole.
                seen.pop();
            }
            seen.push((node, answer.clone()));
        }
        answer
    }

    /// As [`Run::value`], without a copy of what stands in the expression.
    pub(super) fn operand(&mut self, node: &'s Node) -> Result<Cow<'s, Value<'a>>, Failure> {
        match &node.kind {
            Kind::Literal(value) => {
                self.scope.meter().charge(1)?;
                Ok(Cow::Borrowed(value))
            }
            _ => self.value(node).map(Cow::Owned),
        }
    }

    fn node(&mut self, node: &'s Node) -> Answer<'a> {
        match &node.kind {
            Kind::Literal(value) => Ok(value.clone()),
            Kind::Local { slot, name } => {
                self.locals.get(*slot).cloned().ok_or_else(|| Failure::new(format!("`{name}` has no value")))
            }
            Kind::Root(root) => {
                let value = self.scope.root(root);
                value.ok_or_else(|| Failure::new(format!("`{}` has no value here", root.name())))
            }
            Kind::Variable(name) => self.scope.variable(name),
            Kind::Select { operand, field, optional } => {
                let operand = self.value(operand)?;
                self.select(node, operand, field, *optional)
            }
            Kind::Has { operand, field } => {
                let operand = self.value(operand)?;
                has(node, operand, field)
            }
            Kind::Index { pair, optional } => {
                let operand = self.value(&pair[0])?;
                let key = self.operand(&pair[1])?;
                self.index(node, operand, &key, *optional)
            }
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::And(pair) => self.logic(pair, false, "_&&_"),
            Kind::Or(pair) => self.logic(pair, true, "_||_"),
            Kind::Not(operand) => match self.value(operand)? {
                Value::Bool(value) => Ok(Value::Bool(!value)),
                other => Err(Failure::no_overload("!_", &[&other])),
            },
            Kind::Negate(operand) => operators::negate(&self.value(operand)?),
            Kind::Conditional(three) => match self.value(&three[0])? {
                Value::Bool(true) => self.value(&three[1]),
                Value::Bool(false) => self.value(&three[2]),
                other => Err(Failure::no_overload("_?_:_", &[&other])),
            },
            Kind::Binary { operator, pair } => self.binary(*operator, pair),
            Kind::Call { overloads, args } => self.call(overloads, args),
            Kind::Loop(one) => {
                let bound = self.locals.len();
                let answer = self.run_loop(one);
                self.locals.truncate(bound);
                answer
            }
            Kind::Bind { pair, .. } => {
                let value = self.value(&pair[0])?;
                self.with_local(value, &pair[1])
            }
            Kind::Optional { flat, pair, .. } => match self.value(&pair[0])? {
                Value::Optional(None) => Ok(Value::Optional(None)),
                Value::Optional(Some(value)) => match self.with_local((*value).clone(), &pair[1])? {
                    value if !flat => Ok(Value::some(value)),
                    value @ Value::Optional(_) => Ok(value),
                    other => Err(Failure::no_overload("optFlatMap", &[&other])),
                },
                other => Err(Failure::no_overload("optMap", &[&other])),
            },
        }
    }

    fn with_local(&mut self, value: Value<'a>, body: &'s Node) -> Answer<'a> {
        self.locals.push(value);
        let answer = self.value(body);
        self.locals.pop();
        answer
    }

    /// `&&` and `||`: the side that decides makes up for a failure of the other one.
    fn logic(&mut self, pair: &'s [Node; 2], decides: bool, operator: &str) -> Answer<'a> {
        let left = self.truth(&pair[0], operator);
        match &left {
            Ok(value) if *value == decides => return Ok(Value::Bool(decides)),
            Err(failure) if !failure.may_be_absorbed() => return left.map(Value::Bool),
            _ => {}
        }
        match (left, self.truth(&pair[1], operator)) {
            (_, Ok(value)) if value == decides => Ok(Value::Bool(decides)),
            (_, Err(failure)) if !failure.may_be_absorbed() => Err(failure),
            (Err(failure), _) | (_, Err(failure)) => Err(failure),
            _ => Ok(Value::Bool(!decides)),
        }
    }

    /// Whether the node is true.
    pub(super) fn truth(&mut self, node: &'s Node, operator: &str) -> Result<bool, Failure> {
        match self.value(node)? {
            Value::Bool(value) => Ok(value),
            other => Err(Failure::no_overload(operator, &[&other])),
        }
    }

    fn binary(&mut self, operator: Operator, pair: &'s [Node; 2]) -> Answer<'a> {
        let left = self.operand(&pair[0])?;
        let right = self.operand(&pair[1])?;
        operators::binary(operator, &left, &right, self.scope.meter())
    }

    fn select(&self, node: &Node, operand: Value<'a>, field: &str, optional: bool) -> Answer<'a> {
        match operand {
            Value::Map(map) => match map.field(field) {
                Some(value) if optional => Ok(Value::some(value)),
                Some(value) => Ok(value),
                None if optional => Ok(Value::Optional(None)),
                None => Err(Failure::Missing(told(node))),
            },
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => self.select(node, (*value).clone(), field, true),
            other => Err(no_fields(node, &other)),
        }
    }

    fn index(&self, node: &Node, operand: Value<'a>, key: &Value<'a>, optional: bool) -> Answer<'a> {
        match &operand {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => return self.index(node, (**value).clone(), key, true),
            _ => {}
        }
        let found = match (&operand, key) {
            (Value::List(list), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => at(list, key),
            (Value::Map(map), key) => match Key::of(key) {
                Some(key) => {
                    self.scope.meter().bytes(key.length())?;
                    map.get(&key)
                }
                None if matches!(key, Value::Double(_)) => None,
                None => return Err(Failure::no_overload("_[_]", &[&operand, key])),
            },
            _ => return Err(Failure::no_overload("_[_]", &[&operand, key])),
        };
        match (found, operand) {
            (Some(value), _) if optional => Ok(Value::some(value)),
            (Some(value), _) => Ok(value),
            (None, _) if optional => Ok(Value::Optional(None)),
            (None, Value::List(list)) => {
                let index = Key::of(key).map_or_else(String::new, |key| format!(" {key}"));
                Err(Failure::new(format!("index{index} is out of bounds: the list has {} elements", list.len())))
            }
            (None, _) => Err(Failure::Missing(match (path(node), Key::of(key)) {
                (Some(path), _) => path,
                (None, Some(key)) => key.to_string(),
                (None, None) => "a double".to_owned(),
            })),
        }
    }

    fn list(&mut self, nodes: &'s [(Node, bool)]) -> Answer<'a> {
        let mut items = Vec::with_capacity(nodes.len());
        for (node, optional) in nodes {
            match self.value(node)? {
                Value::Optional(value) if *optional => items.extend(value.map(|value| (*value).clone())),
                other if *optional => return Err(Failure::no_overload("[?_]", &[&other])),
                value => items.push(value),
            }
        }
        Ok(Value::list(items))
    }

    fn map(&mut self, nodes: &'s [(Node, Node, bool)]) -> Answer<'a> {
        let mut entries = BTreeMap::new();
        for (key, value, optional) in nodes {
            let key = match self.value(key)? {
                Value::Double(_) => return Err(Failure::new("a double cannot be a key of a map")),
                other => Key::of(&other).ok_or_else(|| {
                    Failure::new(format!("a value of the type {} cannot be a key of a map", other.type_name()))
                })?,
            };
            let value = match self.value(value)? {
                Value::Optional(None) if *optional => continue,
                Value::Optional(Some(value)) if *optional => Arc::unwrap_or_clone(value),
                other if *optional => return Err(Failure::no_overload("{?_: _}", &[&other])),
                value => value,
            };
            self.scope.meter().bytes(key.length())?;
            if entries.contains_key(&key) {
                return Err(Failure::new(format!("the key {key} stands twice in a map")));
            }
            entries.insert(key, value);
        }
        Ok(Value::map(entries))
    }

    fn call(&mut self, overloads: &'static [Overload], nodes: &'s [Node]) -> Answer<'a> {
        if nodes.len() > FEW {
            let args = nodes.iter().map(|node| self.value(node)).collect::<Result<Vec<_>, _>>()?;
            return self.apply(overloads, &args);
        }
        let mut args = [const { Value::Null }; FEW];
        for (arg, node) in args.iter_mut().zip(nodes) {
            *arg = self.value(node)?;
        }
        self.apply(overloads, &args[..nodes.len()])
    }

    fn apply(&self, overloads: &'static [Overload], args: &[Value<'a>]) -> Answer<'a> {
        match overloads.iter().find(|overload| overload.takes(args)) {
            Some(overload) => {
                overload.charge(args, self.scope.meter())?;
                (overload.call)(args, self.scope.meter())
            }
            None => {
                let name = overloads.first().map_or("", |overload| overload.name);
                Err(Failure::no_overload(name, &args.iter().collect::<Vec<_>>()))
            }
        }
    }
}

/// Refuses what is nested so deep that going through it could overflow the stack. What a part adds to its operands is a few levels.
fn bounded(value: Value<'_>) -> Answer<'_> {
    if value.depth() > MAX_DEPTH {
        return Err(Failure::new(format!("lists, maps and optionals nested more than {MAX_DEPTH} deep")));
    }
    Ok(value)
}

fn at<'a>(list: &List<'a>, index: &Value<'a>) -> Option<Value<'a>> {
    let index = match Key::of(index)? {
        Key::Int(index) => usize::try_from(index).ok()?,
        Key::Uint(index) => usize::try_from(index).ok()?,
        _ => return None,
    };
    list.get(index)
}

fn has<'a>(node: &Node, operand: Value<'a>, field: &str) -> Answer<'a> {
    match operand {
        Value::Map(map) => Ok(Value::Bool(match map {
            Map::Fields(fields) => fields.get(field).is_some(),
            made => made.field(field).is_some(),
        })),
        Value::Optional(None) => Ok(Value::Bool(false)),
        Value::Optional(Some(value)) => has(node, (*value).clone(), field),
        other => Err(no_fields(node, &other)),
    }
}

fn no_fields(node: &Node, operand: &Value<'_>) -> Failure {
    let (Kind::Select { operand: of, field, .. } | Kind::Has { operand: of, field }) = &node.kind else {
        return Failure::no_overload("_._", &[operand]);
    };
    let of = path(of).unwrap_or_else(|| "this".to_owned());
    match operand {
        Value::Null => Failure::new(format!("{of} is null and has no field {field}")),
        other => Failure::new(format!("{of} is a {} and has no field {field}", other.type_name())),
    }
}

/// The path of a selection, or at least its last field.
fn told(node: &Node) -> String {
    match (path(node), &node.kind) {
        (Some(path), _) => path,
        (None, Kind::Select { field, .. } | Kind::Has { field, .. }) => field.to_string(),
        _ => "a field".to_owned(),
    }
}

/// The path of selections that begin with a name: `event.data.count`.
fn path(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Root(root) => Some(root.name().to_owned()),
        Kind::Variable(name) => Some(format!("variables.{name}")),
        Kind::Local { name, .. } => Some(name.to_string()),
        Kind::Select { operand, field, .. } => path(operand).map(|above| format!("{above}.{field}")),
        Kind::Index { pair, .. } => match &pair[1].kind {
            Kind::Literal(Value::String(key)) => path(&pair[0]).map(|above| format!("{above}[{:?}]", &**key)),
            Kind::Literal(Value::Int(index)) => path(&pair[0]).map(|above| format!("{above}[{index}]")),
            _ => None,
        },
        _ => None,
    }
}
