//! What is refused before an expression is ever evaluated: too long, too deep, unknown names and functions, wrong kinds of result.
//!
//! The first checks run before the parser sees the text, for a parser can be killed by what it parses (cel-rust issues 212, 305, 306).

use std::collections::BTreeSet;

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, ListExpr, LiteralValue, operators},
};

use super::{
    CelFault, Names,
    functions::compile_pattern,
    lexer::{Token, tokens},
    library::{GLOBAL, MEMBER, NAMESPACES, TYPES},
};

/// Bytes of an expression; the schema says so too.
pub(super) const MAX_SOURCE: usize = 4 << 10;
/// Brackets within brackets.
pub(super) const MAX_NESTING: usize = 32;
/// Levels of the syntax tree: a sum of so many terms, for instance. The interpreter recurses, see [`super::stack`].
pub(super) const MAX_DEPTH: usize = 64;
/// Loops within loops.
const MAX_LOOPS: usize = 2;
/// Elements of a literal list or map.
const MAX_LITERAL: usize = 256;

/// Refuses what the parser should not see.
pub(super) fn before_parsing(source: &str) -> Result<(), CelFault> {
    if source.trim().is_empty() {
        return Err(CelFault::at(source, 0, "the expression is empty"));
    }
    if source.len() > MAX_SOURCE {
        return Err(CelFault::at(
            source,
            0,
            format!("the expression has {} bytes; {MAX_SOURCE} are allowed", source.len()),
        ));
    }
    let mut depth = 0usize;
    for (offset, token) in tokens(source) {
        match token {
            Token::Open(_) => depth += 1,
            Token::Close(_) => depth = depth.saturating_sub(1),
            Token::Unterminated => return Err(CelFault::at(source, offset, "this text has no closing quote")),
            Token::Other => {}
        }
        if depth > MAX_NESTING {
            return Err(CelFault::at(source, offset, format!("brackets are nested more than {MAX_NESTING} deep")));
        }
    }
    Ok(())
}

/// Refuses what the parser took but nobody could evaluate, or not cheaply: all faults at once.
pub(super) fn after_parsing(
    source: &str,
    root: &IdedExpr,
    names: &Names,
    offset: impl Fn(u64) -> usize,
) -> Result<(), Vec<CelFault>> {
    if levels(root) > MAX_DEPTH {
        let message = format!("more than {MAX_DEPTH} operations are chained or nested: use variables for parts of it");
        return Err(vec![CelFault::at(source, 0, message)]);
    }
    let mut walk = Walk { names, bound: Vec::new(), loops: 0, faults: Vec::new() };
    walk.expression(root);
    if walk.faults.is_empty() {
        return Ok(());
    }
    Err(walk.faults.into_iter().map(|(id, message)| CelFault::at(source, offset(id), message)).collect())
}

/// How deep the interpreter recurses for the expression.
pub(super) fn levels(node: &IdedExpr) -> usize {
    let mut deepest = 0;
    each_child(node, &mut |child| deepest = deepest.max(levels(child)));
    deepest + 1
}

pub(super) fn each_child<'e>(node: &'e IdedExpr, visit: &mut dyn FnMut(&'e IdedExpr)) {
    match &node.expr {
        Expr::Call(call) => {
            call.target.iter().for_each(|target| visit(target));
            call.args.iter().for_each(visit);
        }
        Expr::List(list) => list.elements.iter().for_each(visit),
        Expr::Map(map) => map.entries.iter().for_each(|entry| {
            if let EntryExpr::MapEntry(entry) = &entry.expr {
                visit(&entry.key);
                visit(&entry.value);
            }
        }),
        Expr::Select(select) => visit(&select.operand),
        Expr::Comprehension(comprehension) => {
            visit(&comprehension.iter_range);
            visit(&comprehension.accu_init);
            visit(&comprehension.loop_cond);
            visit(&comprehension.loop_step);
            visit(&comprehension.result);
        }
        _ => {}
    }
}

/// Every node of the expression.
pub(super) fn visit<'e>(node: &'e IdedExpr, seen: &mut dyn FnMut(&'e IdedExpr)) {
    seen(node);
    each_child(node, &mut |child| visit(child, seen));
}

struct Walk<'n> {
    names: &'n Names,
    bound: Vec<String>,
    loops: usize,
    faults: Vec<(u64, String)>,
}

impl Walk<'_> {
    fn expression(&mut self, node: &IdedExpr) {
        match &node.expr {
            Expr::Ident(name) => self.name(node.id, name),
            Expr::Select(select) => {
                self.field(&select.operand, &select.field);
                self.expression(&select.operand);
            }
            Expr::Call(_) => self.call(node),
            Expr::List(ListExpr { elements, .. }) if elements.len() > MAX_LITERAL => {
                self.fault(node, format!("a list of {} elements; {MAX_LITERAL} are allowed", elements.len()));
            }
            Expr::Map(map) if map.entries.len() > MAX_LITERAL => {
                self.fault(node, format!("a map of {} entries; {MAX_LITERAL} are allowed", map.entries.len()));
            }
            Expr::Struct(message) => {
                self.fault(node, format!("there are no messages such as `{}` here", message.type_name))
            }
            Expr::Comprehension(comprehension) => {
                let counts = !matches!(&comprehension.iter_range.expr, Expr::List(list) if list.elements.is_empty());
                self.expression(&comprehension.iter_range);
                self.expression(&comprehension.accu_init);
                self.loops += usize::from(counts);
                if self.loops > MAX_LOOPS {
                    self.fault(node, format!("loops are nested more than {MAX_LOOPS} deep"));
                } else {
                    let before = self.bound.len();
                    self.bound.push(comprehension.iter_var.clone());
                    self.bound.extend(comprehension.iter_var2.clone());
                    self.bound.push(comprehension.accu_var.clone());
                    self.expression(&comprehension.loop_cond);
                    self.expression(&comprehension.loop_step);
                    self.expression(&comprehension.result);
                    self.bound.truncate(before);
                }
                self.loops -= usize::from(counts);
            }
            _ => each_child(node, &mut |child| self.expression(child)),
        }
    }

    fn fault(&mut self, node: &IdedExpr, message: String) {
        self.faults.push((node.id, message));
    }

    fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().any(|bound| bound == name)
    }

    fn name(&mut self, id: u64, name: &str) {
        let plain = name.trim_start_matches('.');
        let known = self.is_bound(name)
            || name.starts_with(['@', '#'])
            || self.names.roots.contains(plain)
            || TYPES.contains(&plain);
        if !known {
            let known = list(self.names.roots.iter().map(String::as_str));
            let message = format!("unknown name `{name}`: known are {known}{}", self.names.hint(plain));
            self.faults.push((id, message));
        }
    }

    /// Checks `operand.field` where the operand is a name whose fields are known.
    fn field(&mut self, operand: &IdedExpr, field: &str) {
        let Expr::Ident(root) = &operand.expr else { return };
        if self.is_bound(root) || !self.names.roots.contains(root) {
            return;
        }
        let Some(known) = self.names.fields_of(root) else { return };
        if !known.iter().any(|name| name == field) {
            let known = if known.is_empty() { "none".to_owned() } else { list(known.iter().map(String::as_str)) };
            self.fault(operand, format!("`{root}` has no `{field}`: known are {known}"));
        }
    }

    fn call(&mut self, node: &IdedExpr) {
        let Expr::Call(call) = &node.expr else { return };
        let name = call.func_name.as_str();
        match (&call.target, call.args.as_slice()) {
            (None, [operand, field]) if name == operators::OPT_SELECT || name == operators::INDEX => {
                if let Expr::Literal(LiteralValue::String(field)) = &field.expr {
                    self.field(operand, field.inner());
                }
            }
            (None, _) if is_operator(name) => {}
            (None, args) => self.function(node, GLOBAL, name, args.len(), ""),
            (Some(target), args) => match &target.expr {
                Expr::Ident(space) if NAMESPACES.contains(&space.as_str()) && !self.is_bound(space) => {
                    self.function(node, GLOBAL, &format!("{space}.{name}"), args.len(), "");
                    args.iter().for_each(|arg| self.expression(arg));
                    return;
                }
                _ if name.starts_with('@') => {}
                _ => self.function(node, MEMBER, name, args.len(), "."),
            },
        }
        if matches!(name, "matches" | "find" | "findAll") {
            let pattern = call.args.get(usize::from(call.target.is_none()));
            if let Some(Expr::Literal(LiteralValue::String(text))) = pattern.map(|pattern| &pattern.expr)
                && let Err(error) = compile_pattern(text.inner())
            {
                self.fault(node, error);
            }
        }
        each_child(node, &mut |child| self.expression(child));
    }

    fn function(&mut self, node: &IdedExpr, known: &[(&str, &[usize])], name: &str, count: usize, dot: &str) {
        let Some((_, counts)) = known.iter().find(|(known, _)| *known == name) else {
            let other = if dot.is_empty() { MEMBER } else { GLOBAL };
            let hint = match other.iter().any(|(known, _)| *known == name) {
                true if dot.is_empty() => format!(": write it behind a value, `value.{name}(…)`"),
                true => format!(": write it in front, `{name}(…)`"),
                false => String::new(),
            };
            return self.fault(node, format!("unknown function `{dot}{name}`{hint}"));
        };
        if !counts.contains(&count) {
            let counts = counts.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ");
            self.fault(node, format!("`{dot}{name}` takes {counts} arguments, not {count}"));
        }
    }
}

fn is_operator(name: &str) -> bool {
    name.starts_with(['_', '@', '!', '-'])
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}

/// What a condition surely gives, when that is neither true nor false.
pub(super) fn surely_not_bool(node: &IdedExpr) -> Option<&'static str> {
    match &node.expr {
        Expr::Literal(LiteralValue::Boolean(_)) => None,
        Expr::Literal(LiteralValue::String(_)) => Some("a text"),
        Expr::Literal(LiteralValue::Null) => Some("null"),
        Expr::Literal(LiteralValue::Bytes(_)) => Some("bytes"),
        Expr::Literal(_) => Some("a number"),
        Expr::List(_) => Some("a list"),
        Expr::Map(_) => Some("a map"),
        Expr::Call(call) => match call.func_name.as_str() {
            operators::ADD => Some("a sum"),
            operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO | operators::NEGATE => {
                Some("a number")
            }
            "size" | "int" | "uint" | "double" | "indexOf" | "lastIndexOf" => Some("a number"),
            "string" | "lowerAscii" | "upperAscii" | "trim" | "replace" | "join" | "substring" | "format" => {
                Some("a text")
            }
            "timestamp" => Some("a time"),
            "duration" => Some("a duration"),
            operators::CONDITIONAL => call.args.iter().skip(1).find_map(surely_not_bool),
            _ => None,
        },
        _ => None,
    }
}

/// The path of the first selection of `key`, `event.data.count`, for the message that it is missing.
pub(super) fn path_of(root: &IdedExpr, key: &str) -> Option<String> {
    let mut found = None;
    visit(root, &mut |node| {
        let last = match &node.expr {
            Expr::Select(select) if !select.test => select.field == key,
            Expr::Call(call) if call.func_name == operators::INDEX => {
                matches!(call.args.get(1).map(|arg| &arg.expr), Some(Expr::Literal(LiteralValue::String(text))) if text.inner() == key)
            }
            _ => false,
        };
        if last && found.is_none() {
            found = path(node);
        }
    });
    found
}

fn path(node: &IdedExpr) -> Option<String> {
    match &node.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => path(&select.operand).map(|above| format!("{above}.{}", select.field)),
        Expr::Call(call) if call.func_name == operators::INDEX => match (call.args.first(), call.args.get(1)) {
            (Some(above), Some(IdedExpr { expr: Expr::Literal(key), .. })) => match key {
                LiteralValue::String(key) => path(above).map(|above| format!("{above}[{:?}]", key.inner())),
                LiteralValue::Int(index) => path(above).map(|above| format!("{above}[{}]", index.inner())),
                _ => None,
            },
            _ => None,
        },
        // The wrappers that count the cost.
        Expr::Call(call) if call.func_name.starts_with('@') => call.args.first().and_then(path),
        _ => None,
    }
}
