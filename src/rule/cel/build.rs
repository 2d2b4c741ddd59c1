//! From the parser's tree to nodes: names are found, functions chosen by number and types of arguments, literal patterns compiled; what cannot be
//! evaluated is refused, all faults at once.

mod macros;
mod shapes;

use std::collections::BTreeSet;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, EntryExpr, Expr, ListExpr, LiteralValue, MapExpr, operators},
};

use super::{
    Names,
    check::MAX_LITERAL,
    kinds::Shape,
    library::{self, NAMESPACES, TYPES},
    node::{Kind, Node, Operator, Root},
    pattern,
    static_type::{Static, of_binary},
    value::{Text, Value},
};

/// A node and what is known of its type.
pub(super) type Typed = (Node, Static);

/// A name that a macro binds.
struct Bound {
    name: String,
    type_: Static,
    shapes: Vec<Shape>,
}

/// Builds nodes; collects faults by the parser's ids.
pub(super) struct Builder<'n> {
    names: &'n Names,
    /// What macros around the present expression bind.
    bound: Vec<Bound>,
    loops: usize,
    pub(super) faults: Vec<(u64, String)>,
}

impl<'n> Builder<'n> {
    pub(super) fn new(names: &'n Names) -> Self {
        Self { names, bound: Vec::new(), loops: 0, faults: Vec::new() }
    }

    pub(super) fn expression(&mut self, node: &IdedExpr) -> Typed {
        match &node.expr {
            Expr::Ident(name) => self.name(node.id, name),
            Expr::Select(select) => self.select(node, &select.operand, &select.field),
            Expr::Call(call) => self.call(node, call),
            Expr::List(list) => self.list(node, list),
            Expr::Map(map) => self.map(node, map),
            Expr::Literal(value) => literal(value),
            Expr::Struct(message) => {
                self.fault(node.id, format!("there are no messages such as `{}` here", message.type_name))
            }
            Expr::Comprehension(_) | Expr::Unspecified => self.fault(node.id, "is not an expression".to_owned()),
        }
    }

    /// Notes a fault; what is given stands for the part that cannot be built.
    pub(super) fn fault(&mut self, id: u64, message: String) -> Typed {
        self.faults.push((id, message));
        (Node::new(Kind::Literal(Value::Null)), Static::Dyn)
    }

    fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().any(|bound| bound.name == name)
    }

    fn name(&mut self, id: u64, name: &str) -> Typed {
        if let Some(slot) = self.bound.iter().rposition(|bound| bound.name == name) {
            return (Node::new(Kind::Local { slot, name: name.into() }), self.bound[slot].type_);
        }
        let plain = name.trim_start_matches('.');
        if plain == "variables" && self.names.roots.contains(plain) {
            return self.fault(id, "`variables` is used as `variables.<name>`".to_owned());
        }
        if self.names.roots.contains(plain) {
            return (Node::new(Kind::Root(Root::of(plain))), self.names.type_of(plain));
        }
        if let Some(name) = TYPES.iter().find(|(known, _)| *known == plain).map(|(_, name)| *name) {
            return (Node::new(Kind::Literal(Value::Type(name))), Static::Type);
        }
        let known = listed(self.names.roots.iter().map(String::as_str));
        self.fault(id, format!("unknown name `{name}`: known are {known}{}", self.names.hint(plain)))
    }

    fn select(&mut self, node: &IdedExpr, operand: &IdedExpr, field: &str) -> Typed {
        if let Some(name) = self.type_by_path(node) {
            return (Node::new(Kind::Literal(Value::Type(name))), Static::Type);
        }
        let (type_, known) = self.field(operand, field);
        if known == Known::Variable {
            return (Node::new(Kind::Variable(field.into())), type_);
        }
        let (operand, of) = self.expression(operand);
        let type_ = self.selected(node.id, of, field, type_);
        (Node::new(Kind::Select { operand: Box::new(operand), field: field.into(), optional: false }), type_)
    }

    /// The type of a field of what has the type `of`, which is refused where that has none.
    fn selected(&mut self, id: u64, of: Static, field: &str, type_: Static) -> Static {
        match of {
            Static::Dyn | Static::Map => type_,
            Static::Optional => Static::Optional,
            other => self.fault(id, format!("a {} has no field `{field}`", other.name())).1,
        }
    }

    /// A type whose name has dots, such as `google.protobuf.Timestamp`.
    fn type_by_path(&self, node: &IdedExpr) -> Option<&'static str> {
        let path = dotted(node)?;
        let root = path.split('.').next()?;
        if self.is_bound(root) || self.names.roots.contains(root) {
            return None;
        }
        TYPES.iter().find(|(known, _)| *known == path).map(|(_, name)| *name)
    }

    /// Checks `operand.field` where the operand is a name whose fields are known.
    fn field(&mut self, operand: &IdedExpr, field: &str) -> (Static, Known) {
        self.refuse_misspelt(operand, field);
        let Expr::Ident(name) = &operand.expr else { return (Static::Dyn, Known::Value) };
        let root = name.trim_start_matches('.');
        if self.is_bound(name) || !self.names.roots.contains(root) {
            return (Static::Dyn, Known::Value);
        }
        if let Some(known) = self.names.fields_of(root)
            && !known.iter().any(|name| name == field)
        {
            let known = if known.is_empty() { "none".to_owned() } else { listed(known.iter().map(String::as_str)) };
            self.fault(operand.id, format!("`{root}` has no `{field}`: known are {known}"));
        }
        let known = if root == "variables" { Known::Variable } else { Known::Value };
        (self.names.type_of_field(root, field), known)
    }

    fn list(&mut self, node: &IdedExpr, list: &ListExpr) -> Typed {
        let count = list.elements.len();
        if count > MAX_LITERAL {
            return self.fault(node.id, format!("a list of {count} elements; {MAX_LITERAL} are allowed"));
        }
        let item = |(index, item)| {
            let optional = list.optional_indices.contains(&index);
            let (node, _) = self.expression(item);
            (node, optional)
        };
        let items: Vec<(Node, bool)> = list.elements.iter().enumerate().map(item).collect();
        (Node::new(Kind::List(items)), Static::List)
    }

    fn map(&mut self, node: &IdedExpr, map: &MapExpr) -> Typed {
        let count = map.entries.len();
        if count > MAX_LITERAL {
            return self.fault(node.id, format!("a map of {count} entries; {MAX_LITERAL} are allowed"));
        }
        let mut entries = Vec::new();
        for entry in &map.entries {
            if let EntryExpr::MapEntry(entry) = &entry.expr {
                let (key, of_key) = self.expression(&entry.key);
                if !matches!(of_key, Static::Dyn | Static::Bool | Static::Int | Static::Uint | Static::String) {
                    self.fault(entry.key.id, format!("a {} cannot be a key of a map", of_key.name()));
                }
                entries.push((key, self.expression(&entry.value).0, entry.optional));
            }
        }
        (Node::new(Kind::Map(entries)), Static::Map)
    }

    fn call(&mut self, node: &IdedExpr, call: &CallExpr) -> Typed {
        let name = call.func_name.as_str();
        match (&call.target, call.args.as_slice()) {
            (None, args) if name.starts_with(['_', '!', '-', '@']) => self.operator(node, name, args),
            (None, [arg]) if name == operators::HAS => self.has(node, arg),
            (None, args) => self.function(node, name, None, args),
            (Some(target), args) => match dotted(target) {
                Some(space)
                    if NAMESPACES.contains(&space.as_str())
                        && !self.is_bound(&space)
                        && !self.names.roots.contains(&space) =>
                {
                    match (space.as_str(), name, args) {
                        ("cel", "bind", [name, value, body]) => self.bind(name, value, body),
                        _ => self.function(node, &format!("{space}.{name}"), None, args),
                    }
                }
                _ => match self.macro_call(node, name, target, args) {
                    Some(built) => built,
                    None => self.function(node, name, Some(target), args),
                },
            },
        }
    }

    fn operator(&mut self, node: &IdedExpr, name: &str, args: &[IdedExpr]) -> Typed {
        match (name, args) {
            (operators::LOGICAL_AND, [left, right]) => self.logic(node, Kind::And, left, right),
            (operators::LOGICAL_OR, [left, right]) => self.logic(node, Kind::Or, left, right),
            (operators::LOGICAL_NOT, [operand]) => {
                let operand = self.condition(operand, "!_");
                (Node::new(Kind::Not(Box::new(operand))), Static::Bool)
            }
            (operators::NEGATE, [operand]) => {
                let (operand, type_) = self.expression(operand);
                if !matches!(type_, Static::Dyn | Static::Int | Static::Double) {
                    self.no_overload(node.id, "-_", &[type_]);
                }
                (Node::new(Kind::Negate(Box::new(operand))), type_)
            }
            (operators::CONDITIONAL, [test, yes, no]) => {
                let test = self.condition(test, "_?_:_");
                let ((yes, of_yes), (no, of_no)) = (self.expression(yes), self.expression(no));
                (Node::new(Kind::Conditional(Box::new([test, yes, no]))), of_yes.or(of_no))
            }
            (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [operand, key]) => {
                self.index(node, operand, key, name)
            }
            (_, [left, right]) => match Operator::of(name) {
                Some(operator) => {
                    let ((left, of_left), (right, of_right)) = (self.expression(left), self.expression(right));
                    let type_ = of_binary(operator, of_left, of_right).unwrap_or_else(|| {
                        self.no_overload(node.id, operator.function(), &[of_left, of_right]);
                        Static::Dyn
                    });
                    (Node::new(Kind::Binary { operator, pair: Box::new([left, right]) }), type_)
                }
                None => self.fault(node.id, format!("unknown operator `{name}`")),
            },
            _ => self.fault(node.id, format!("unknown operator `{name}`")),
        }
    }

    pub(super) fn no_overload(&mut self, id: u64, function: &str, types: &[Static]) -> Typed {
        let types = types.iter().map(|type_| type_.name()).collect::<Vec<_>>().join(", ");
        self.fault(id, format!("found no matching overload for '{function}' applied to '({types})'"))
    }

    /// A part that must be true or false.
    pub(super) fn condition(&mut self, node: &IdedExpr, operator: &str) -> Node {
        let (built, type_) = self.expression(node);
        if !type_.may_be(Static::Bool) {
            self.no_overload(node.id, operator, &[type_]);
        }
        built
    }

    fn logic(&mut self, node: &IdedExpr, kind: fn(Box<[Node; 2]>) -> Kind, left: &IdedExpr, right: &IdedExpr) -> Typed {
        let Expr::Call(CallExpr { func_name, .. }) = &node.expr else {
            return self.fault(node.id, "is not an expression".to_owned());
        };
        let pair = Box::new([self.condition(left, func_name), self.condition(right, func_name)]);
        (Node::new(kind(pair)), Static::Bool)
    }

    fn index(&mut self, node: &IdedExpr, operand: &IdedExpr, key: &IdedExpr, operator: &str) -> Typed {
        let optional = operator != operators::INDEX;
        let mut type_ = Static::Dyn;
        if let Expr::Literal(LiteralValue::String(field)) = &key.expr {
            let known;
            (type_, known) = self.field(operand, field.inner());
            if known == Known::Variable && !optional {
                return (Node::new(Kind::Variable(field.inner().into())), type_);
            }
        }
        let (operand, of) = self.expression(operand);
        let type_ = if optional { Static::Optional } else { type_ };
        if operator == operators::OPT_SELECT
            && let Expr::Literal(LiteralValue::String(field)) = &key.expr
        {
            let type_ = self.selected(node.id, of, field.inner(), type_);
            let field = field.inner().into();
            return (Node::new(Kind::Select { operand: Box::new(operand), field, optional }), type_);
        }
        let (key, of_key) = self.expression(key);
        let fits = match of {
            Static::List => matches!(of_key, Static::Dyn | Static::Int | Static::Uint | Static::Double),
            Static::Dyn | Static::Map | Static::Optional => true,
            _ => false,
        };
        if !fits {
            return self.no_overload(node.id, "_[_]", &[of, of_key]);
        }
        let type_ = if of == Static::Optional { Static::Optional } else { type_ };
        (Node::new(Kind::Index { pair: Box::new([operand, key]), optional }), type_)
    }

    fn has(&mut self, node: &IdedExpr, arg: &IdedExpr) -> Typed {
        let Expr::Select(select) = &arg.expr else {
            return self.fault(arg.id, "has() takes a field, as in has(event.data.reason)".to_owned());
        };
        let (_, known) = self.field(&select.operand, &select.field);
        if known == Known::Variable {
            return (Node::new(Kind::Literal(Value::Bool(true))), Static::Bool);
        }
        let (operand, of) = self.expression(&select.operand);
        self.selected(node.id, of, &select.field, Static::Bool);
        (Node::new(Kind::Has { operand: Box::new(operand), field: select.field.as_str().into() }), Static::Bool)
    }

    fn function(&mut self, node: &IdedExpr, name: &str, target: Option<&IdedExpr>, args: &[IdedExpr]) -> Typed {
        let member = target.is_some();
        let (nodes, types): (Vec<Node>, Vec<Static>) =
            target.into_iter().chain(args).map(|arg| self.expression(arg)).unzip();
        let dot = if member { "." } else { "" };
        let overloads = library::overloads(name, member);
        if overloads.is_empty() {
            let hint = match library::overloads(name, !member).is_empty() {
                true => String::new(),
                false if member => format!(": write it in front, `{name}(…)`"),
                false => format!(": write it behind a value, `value.{name}(…)`"),
            };
            return self.fault(node.id, format!("unknown function `{dot}{name}`{hint}"));
        }
        let counted = |overload: &&library::Overload| overload.counts(nodes.len());
        if !overloads.iter().any(|overload| counted(&overload)) {
            let counts: BTreeSet<usize> =
                overloads.iter().map(|overload| overload.params.len() - usize::from(member)).collect();
            let mut counts = counts.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ");
            if overloads.iter().any(|overload| overload.more) {
                counts.push_str(" or more");
            }
            return self.fault(node.id, format!("`{dot}{name}` takes {counts} arguments, not {}", args.len()));
        }
        let fitting = overloads.iter().filter(counted).filter(|overload| overload.fits(&types));
        match fitting.map(|overload| overload.returns).reduce(Static::or) {
            Some(returns) => (self.with_pattern(node, name, overloads, nodes), returns),
            None => self.no_overload(node.id, name, &types),
        }
    }

    /// The call, with a literal pattern compiled once and for all.
    fn with_pattern(
        &mut self,
        node: &IdedExpr,
        name: &str,
        overloads: &'static [library::Overload],
        mut args: Vec<Node>,
    ) -> Node {
        if matches!(name, "matches" | "find" | "findAll")
            && let Some(arg) = args.get_mut(1)
            && let Kind::Literal(Value::String(source)) = &arg.kind
        {
            match pattern::literal(source) {
                Ok(pattern) => arg.kind = Kind::Literal(Value::Pattern(pattern.into())),
                Err(error) => {
                    self.fault(node.id, error);
                }
            }
        }
        Node::new(Kind::Call { overloads, args })
    }
}

/// Whether a field is one of `variables`, which is evaluated when it is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Variable,
    Value,
}

fn literal(value: &LiteralValue) -> Typed {
    let value = match value {
        LiteralValue::Boolean(value) => Value::Bool(*value.inner()),
        LiteralValue::Bytes(value) => Value::bytes(value.inner()),
        LiteralValue::Double(value) => Value::Double(*value.inner()),
        LiteralValue::Int(value) => Value::Int(*value.inner()),
        LiteralValue::Null => Value::Null,
        LiteralValue::String(value) => Value::String(Text::Shared(value.inner().into())),
        LiteralValue::UInt(value) => Value::Uint(*value.inner()),
    };
    let type_ = Static::of(&value);
    (Node::new(Kind::Literal(value)), type_)
}

/// Names that are joined by dots: `google.protobuf.Timestamp`.
fn dotted(node: &IdedExpr) -> Option<String> {
    match &node.expr {
        Expr::Ident(name) => Some(name.trim_start_matches('.').to_owned()),
        Expr::Select(select) => dotted(&select.operand).map(|above| format!("{above}.{}", select.field)),
        _ => None,
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}
