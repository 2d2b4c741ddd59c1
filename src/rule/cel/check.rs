//! What is refused by its shape: too long, too deep, loops within loops.
//!
//! The first checks run before the parser sees the text, for a parser can be killed by what it parses (cel-rust issues 212, 305, 306).

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr},
};

use super::{
    CelFault,
    lexer::{Token, tokens},
};

/// Bytes of an expression; the schema says so too.
const MAX_SOURCE: usize = 4 << 10;
/// Brackets within brackets.
const MAX_NESTING: usize = 32;
/// Levels of the syntax tree: a sum of so many terms, for instance. The evaluator recurses, see [`super::stack`].
const MAX_DEPTH: usize = 64;
/// Loops within loops.
pub(super) const MAX_LOOPS: usize = 2;
/// Elements of a literal list or map.
pub(super) const MAX_LITERAL: usize = 256;

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

/// Refuses what the parser took but would take too much of the stack.
pub(super) fn after_parsing(source: &str, root: &IdedExpr) -> Result<(), CelFault> {
    if levels(root) > MAX_DEPTH {
        let message = format!("more than {MAX_DEPTH} operations are chained or nested: use variables for parts of it");
        return Err(CelFault::at(source, 0, message));
    }
    Ok(())
}

fn levels(node: &IdedExpr) -> usize {
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
        _ => {}
    }
}

/// Every node of the expression.
pub(super) fn visit<'e>(node: &'e IdedExpr, seen: &mut dyn FnMut(&'e IdedExpr)) {
    seen(node);
    each_child(node, &mut |child| visit(child, seen));
}
