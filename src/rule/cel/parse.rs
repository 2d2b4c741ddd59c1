//! What an expression is compiled to.

use std::sync::{Arc, LazyLock};

use cel::{
    Env, IdedExpr,
    common::ast::{Expr, LiteralValue, operators},
};

use super::{
    CelFault, Names, check,
    functions::{self, Pattern, compile_pattern},
    meter,
};

/// The environment that all expressions share: building one takes longer than compiling an expression.
pub(super) static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_extension(cel::extensions::strings).expect("the strings library is added once");
    env.add_extension(cel::extensions::lists).expect("the lists library is added once");
    functions::register(&mut env).expect("our functions have names of their own");
    meter::register(&mut env).expect("the meter's functions have names of their own");
    Arc::new(env)
});

/// An expression, checked and made ready to be evaluated.
pub(super) struct Compiled {
    pub(super) source: Arc<str>,
    pub(super) expression: IdedExpr,
    /// Patterns that stand in the expression, in the order of their names there.
    pub(super) patterns: Box<[Pattern]>,
    /// What it gives, when that is surely neither true nor false.
    pub(super) surely: Option<&'static str>,
    pub(super) looked_up: LookedUp,
    /// How deep the interpreter recurses.
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
        let parsed = ENVIRONMENT.compile(source).map_err(|errors| {
            let of = |error: &cel::ParseError| CelFault {
                line: usize::try_from(error.pos.0).unwrap_or(1).max(1),
                column: usize::try_from(error.pos.1).unwrap_or(1).max(1),
                message: error.msg.trim().to_owned(),
            };
            errors.errors.iter().map(of).collect::<Vec<_>>()
        })?;
        let root = parsed.expression();
        let offset = |id: u64| parsed.source_info().offset_for(id).map_or(0, |(start, _)| start as usize);
        check::after_parsing(source, root, names, offset)?;
        let surely = check::surely_not_bool(root);
        let looked_up = looked_up(root);
        let mut expression = root.clone();
        let mut patterns = Vec::new();
        take_patterns(&mut expression, &mut patterns);
        meter::instrument(&mut expression);
        Ok(Self {
            source: source.into(),
            levels: check::levels(&expression),
            expression,
            patterns: patterns.into(),
            surely,
            looked_up,
        })
    }
}

pub(super) fn pattern_name(index: usize) -> String {
    format!("@pattern{index}")
}

/// Takes the literal patterns out of the expression, so that each is compiled once.
fn take_patterns(node: &mut IdedExpr, patterns: &mut Vec<Pattern>) {
    if let Expr::Call(call) = &mut node.expr
        && matches!(call.func_name.as_str(), "matches" | "find" | "findAll")
    {
        let index = usize::from(call.target.is_none());
        if let Some(argument) = call.args.get_mut(index)
            && let Expr::Literal(LiteralValue::String(text)) = &argument.expr
            && let Ok(regex) = compile_pattern(text.inner())
        {
            argument.expr = Expr::Ident(pattern_name(patterns.len()));
            patterns.push(Pattern(Arc::new(regex)));
        }
    }
    match &mut node.expr {
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| take_patterns(target, patterns));
            call.args.iter_mut().for_each(|arg| take_patterns(arg, patterns));
        }
        Expr::List(list) => list.elements.iter_mut().for_each(|element| take_patterns(element, patterns)),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| {
            if let cel::common::ast::EntryExpr::MapEntry(entry) = &mut entry.expr {
                take_patterns(&mut entry.key, patterns);
                take_patterns(&mut entry.value, patterns);
            }
        }),
        Expr::Select(select) => take_patterns(&mut select.operand, patterns),
        Expr::Comprehension(comprehension) => {
            take_patterns(&mut comprehension.iter_range, patterns);
            take_patterns(&mut comprehension.accu_init, patterns);
            take_patterns(&mut comprehension.loop_cond, patterns);
            take_patterns(&mut comprehension.loop_step, patterns);
            take_patterns(&mut comprehension.result, patterns);
        }
        _ => {}
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
