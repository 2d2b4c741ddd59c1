//! From the text of an expression to what is evaluated.

use std::sync::{Arc, LazyLock};

use cel::{
    Env, IdedExpr,
    common::ast::{Expr, LiteralValue, operators},
};

use super::{
    CelFault, Names,
    build::Builder,
    check,
    node::Node,
    old::{self, Place},
    static_type::Static,
};

/// What parses. It has neither macros nor functions: those are ours.
static PARSER: LazyLock<Env> = LazyLock::new(Env::default);

/// An expression, checked and made ready to be evaluated.
pub(super) struct Compiled {
    pub(super) source: Arc<str>,
    pub(super) root: Node,
    /// The type of what it gives.
    pub(super) type_: Static,
    pub(super) looked_up: LookedUp,
    /// What it reads of `oldObject`.
    pub(super) places: Vec<Place>,
    /// How deep the evaluator recurses.
    pub(super) levels: usize,
}

/// What of the object that a Kubernetes Event regards is not in the Event and has to be looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::rule) struct LookedUp {
    /// `event.data.regarding.labels`
    pub(in crate::rule) labels: bool,
    /// `event.data.regarding.owner`
    pub(in crate::rule) owner: bool,
}

impl LookedUp {
    pub(in crate::rule) fn or(self, other: Self) -> Self {
        Self { labels: self.labels || other.labels, owner: self.owner || other.owner }
    }
}

impl Compiled {
    /// Compiles an expression that uses no other names than these.
    ///
    /// # Errors
    /// All faults.
    pub(super) fn parse(source: &str, names: &Names) -> Result<Self, Vec<CelFault>> {
        let parser = PARSER.parser().enable_ident_escape_syntax(true);
        let (root, info) = parser.parse_with_source_info(source).map_err(|errors| {
            let of = |error: &cel::ParseError| CelFault {
                line: usize::try_from(error.pos.0).unwrap_or(1).max(1),
                column: usize::try_from(error.pos.1).unwrap_or(1).max(1),
                message: error.msg.trim().to_owned(),
            };
            errors.errors.iter().map(of).collect::<Vec<_>>()
        })?;
        check::after_parsing(source, &root).map_err(|fault| vec![fault])?;
        let offset = |id: u64| info.offset_for(id).map_or(0, |(start, _)| start as usize);
        let mut builder = Builder::new(names);
        let (node, type_) = builder.expression(&root);
        if !builder.faults.is_empty() {
            let fault = |(id, message)| CelFault::at(source, offset(id), message);
            return Err(builder.faults.into_iter().map(fault).collect());
        }
        let places = if names.roots.contains(old::NAME) { old::places(source, &root, &offset)? } else { Vec::new() };
        let (levels, looked_up) = (node.levels(), looked_up(&root));
        Ok(Self { source: source.into(), levels, root: node, type_, looked_up, places })
    }
}

/// Which of `…regarding.labels` and `…regarding.owner` are selected, in any of the ways to select.
fn looked_up(root: &IdedExpr) -> LookedUp {
    let selection = |node: &IdedExpr| -> Option<(String, IdedExpr)> {
        match &node.expr {
            Expr::Select(select) => Some((select.field.clone(), (*select.operand).clone())),
            Expr::Call(call)
                if [operators::INDEX, operators::OPT_INDEX, operators::OPT_SELECT]
                    .contains(&call.func_name.as_str()) =>
            {
                match (call.args.first(), call.args.get(1).map(|key| &key.expr)) {
                    (Some(operand), Some(Expr::Literal(LiteralValue::String(key)))) => {
                        Some((key.inner().to_owned(), operand.clone()))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    };
    let mut found = LookedUp::default();
    check::visit(root, &mut |node| {
        if let Some((field, operand)) = selection(node)
            && selection(&operand).is_some_and(|(above, _)| above == "regarding")
        {
            found.labels |= field == "labels";
            found.owner |= field == "owner";
        }
    });
    found
}
