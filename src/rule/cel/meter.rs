//! What an evaluation may cost. The crate bounds nothing, so the syntax tree is rewritten before it is used: loops, sums and comparisons
//! report what they are about to do to a budget, which fails the evaluation when it is used up.
//!
//! The count depends on the expression and its data only, never on time: a replay fails where the first run failed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use cel::{
    Env, ExecutionError, IdedExpr,
    common::{
        ast::{CallExpr, EntryExpr, Expr, ListExpr, LiteralValue, operators},
        traits::Iterable,
        types::{CelBool, CelBytes, CelInt, CelString, DYN_TYPE, INT_TYPE, Kind, Type},
        value::{CowVal, StaticVal, Val},
    },
};

use super::{
    convert,
    functions::{MAX_TEXT, RENAMED},
    object::{MAX_LIST, is_object, too_long},
};

/// What the expressions of one rule may cost for one event, in steps of the interpreter. A step takes about 0.1 µs, so about 10 ms in all: an
/// event waits for the rules before it, so this is less than the 0.1 s that the API server allows a validation rule.
pub(super) const COST_LIMIT: u64 = 100_000;
/// Bytes of text that count as one step: comparing or copying them takes about as long.
const BYTES_PER_STEP: u64 = 64;

/// The name under which the budget stands in a scope; no expression can write it.
pub(super) const BUDGET: &str = "@budget";

static BUDGET_TYPE: std::sync::LazyLock<Type> = std::sync::LazyLock::new(|| Type::new_opaque_type("signalbox.budget"));

/// What is left of [`COST_LIMIT`].
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<AtomicU64>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(COST_LIMIT)))
    }
}

impl Budget {
    pub(super) fn charge(&self, cost: u64) -> Result<(), ExecutionError> {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(cost), Ordering::Relaxed);
        if cost > left {
            return Err(ExecutionError::function_error(
                "cost",
                format!("the expression costs more than {COST_LIMIT} steps for this event"),
            ));
        }
        Ok(())
    }

    fn left(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Val for Budget {
    fn get_type(&self) -> &Type {
        &BUDGET_TYPE
    }

    fn cel_type() -> &'static Type {
        &BUDGET_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }
}

impl StaticVal for Budget {}

// === The rewriting ===

/// Makes the expression count what it costs.
pub(super) fn instrument(expression: &mut IdedExpr) {
    walk(expression, false);
}

fn walk(node: &mut IdedExpr, in_loop: bool) {
    match &mut node.expr {
        Expr::Call(call) => {
            if let Some(target) = &mut call.target {
                walk(target, in_loop);
            }
            call.args.iter_mut().for_each(|arg| walk(arg, in_loop));
            rewrite_call(node, in_loop);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(|element| {
            walk(element, in_loop);
            if in_loop {
                wrap(element, "@scan");
            }
        }),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    walk(&mut entry.key, in_loop);
                    walk(&mut entry.value, in_loop);
                    if in_loop {
                        wrap(&mut entry.value, "@scan");
                    }
                }
            }
        }
        Expr::Select(select) => walk(&mut select.operand, in_loop),
        Expr::Comprehension(comprehension) => {
            let weight = nodes(&comprehension.loop_step) + nodes(&comprehension.loop_cond);
            walk(&mut comprehension.iter_range, in_loop);
            walk(&mut comprehension.accu_init, in_loop);
            walk(&mut comprehension.loop_cond, true);
            walk(&mut comprehension.loop_step, true);
            walk(&mut comprehension.result, in_loop);
            if !is_empty_list(&comprehension.iter_range.expr) {
                let range = std::mem::take(&mut comprehension.iter_range);
                let weight = literal(i64::try_from(weight).unwrap_or(i64::MAX));
                comprehension.iter_range = call("@iterate", vec![range, weight, budget()]);
            }
        }
        Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}

fn rewrite_call(node: &mut IdedExpr, in_loop: bool) {
    let Expr::Call(call_expr) = &mut node.expr else { return };
    let name = call_expr.func_name.clone();
    let accumulates =
        matches!(call_expr.args.first().map(|arg| &arg.expr), Some(Expr::Ident(name)) if name.starts_with('@'));
    let containers = call_expr.args.iter().all(|arg| !matches!(arg.expr, Expr::Literal(_)));
    match name.as_str() {
        operators::CONDITIONAL
        | operators::LOGICAL_AND
        | operators::LOGICAL_OR
        | operators::LOGICAL_NOT
        | operators::NOT_STRICTLY_FALSE
        | operators::NEGATE
        | operators::INDEX
        | operators::OPT_INDEX
        | operators::OPT_SELECT => return,
        // The accumulator of `map` and `filter` is left as the interpreter knows it: it appends in place.
        operators::ADD if accumulates => return,
        _ => {}
    }
    if in_loop {
        let deep = name == operators::IN;
        for arg in &mut call_expr.args {
            wrap(arg, if deep { "@weigh" } else { "@scan" });
        }
        if let Some(target) = call_expr.target.as_deref_mut().filter(|target| !is_namespace(target)) {
            wrap(target, "@scan");
        }
    }
    match name.as_str() {
        operators::ADD => {
            call_expr.func_name = "@add".to_owned();
            call_expr.args.push(budget());
        }
        operators::EQUALS | operators::NOT_EQUALS if containers => {
            call_expr.func_name = "@equal".to_owned();
            call_expr.args.push(budget());
            if name == operators::NOT_EQUALS {
                let equal = std::mem::take(node);
                let id = equal.id;
                *node = call(operators::LOGICAL_NOT, vec![equal]);
                node.id = id;
            }
        }
        "distinct" | "sort" | "@sortByAssociatedKeys" => {
            if let Some(target) = call_expr.target.as_deref_mut() {
                wrap(target, "@square");
            }
        }
        renamed if RENAMED.contains(&renamed) => {
            call_expr.func_name = format!("@{renamed}");
        }
        _ => {}
    }
}

pub(super) fn is_namespace(target: &IdedExpr) -> bool {
    matches!(&target.expr, Expr::Ident(name) if super::library::NAMESPACES.contains(&name.as_str()))
}

fn is_empty_list(expr: &Expr) -> bool {
    matches!(expr, Expr::List(ListExpr { elements, .. }) if elements.is_empty())
}

fn wrap(node: &mut IdedExpr, function: &str) {
    match &node.expr {
        Expr::Literal(_) | Expr::Unspecified => return,
        Expr::Ident(name) if name.starts_with('@') || name.starts_with('#') => return,
        _ => {}
    }
    let inner = std::mem::take(node);
    let id = inner.id;
    *node = call(function, vec![inner, budget()]);
    node.id = id;
}

fn call(function: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Call(CallExpr { func_name: function.to_owned(), target: None, args }) }
}

fn budget() -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Ident(BUDGET.to_owned()) }
}

fn literal(value: i64) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(value.into())) }
}

/// How many steps the expression takes at most, loops inside it not counted: they count themselves.
fn nodes(node: &IdedExpr) -> u64 {
    1 + match &node.expr {
        Expr::Call(call) => call.args.iter().chain(call.target.as_deref()).map(nodes).sum(),
        Expr::List(list) => list.elements.iter().map(nodes).sum(),
        Expr::Map(map) => map.entries.iter().fold(0, |sum, entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => sum + nodes(&entry.key) + nodes(&entry.value),
            EntryExpr::StructField(field) => sum + nodes(&field.value),
        }),
        Expr::Select(select) => nodes(&select.operand),
        Expr::Comprehension(comprehension) => nodes(&comprehension.iter_range),
        _ => 0,
    }
}

// === The functions that the rewriting uses ===

pub(super) fn register(env: &mut Env) -> Result<(), cel::DeclarationError> {
    let any = || DYN_TYPE;
    let budget = || (*BUDGET_TYPE).to_owned();
    env.add_overload("@iterate", "@iterate", vec![any(), INT_TYPE, budget()], iterate)?;
    env.add_overload("@scan", "@scan", vec![any(), budget()], |args| {
        charge(args, |value, limit| weigh(value, limit, false))
    })?;
    env.add_overload("@weigh", "@weigh", vec![any(), budget()], |args| {
        charge(args, |value, limit| weigh(value, limit, true))
    })?;
    env.add_overload("@square", "@square", vec![any(), budget()], |args| charge(args, square))?;
    env.add_overload("@add", "@add", vec![any(), any(), budget()], add)?;
    env.add_overload("@equal", "@equal", vec![any(), any(), budget()], equal)?;
    Ok(())
}

fn purse<'x>(args: &'x [CowVal<'_, '_>]) -> Result<&'x Budget, ExecutionError> {
    args.last()
        .and_then(|budget| budget.downcast_ref::<Budget>())
        .ok_or_else(|| ExecutionError::InternalError("no budget".to_owned()))
}

fn first<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    args.into_iter().next().ok_or_else(ExecutionError::missing_argument_or_target)
}

fn iterate<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let length = args.first().and_then(|range| range.as_sizer()).map_or(0, |sizer| *sizer.size().inner());
    let length = usize::try_from(length).unwrap_or(0);
    if length > MAX_LIST {
        return Err(too_long(length));
    }
    let weight = args.get(1).and_then(|weight| weight.downcast_ref::<CelInt>()).map_or(1, |weight| *weight.inner());
    purse(&args)?.charge(length as u64 * weight.unsigned_abs())?;
    first(args)
}

fn charge<'b, 'v>(
    args: Vec<CowVal<'b, 'v>>,
    cost: impl Fn(&dyn Val, u64) -> u64,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let budget = purse(&args)?;
    if let Some(value) = args.first() {
        budget.charge(cost(value.as_ref(), budget.left()))?;
    }
    first(args)
}

fn square(value: &dyn Val, _: u64) -> u64 {
    let length = value.as_sizer().map_or(0, |sizer| sizer.size().inner().unsigned_abs());
    length.saturating_mul(length) / 8
}

/// What copying the value costs; no more than just beyond `limit` is counted. Lazy objects cost nothing to copy, but with `deep`
/// they are counted too, for comparisons.
fn weigh(value: &dyn Val, limit: u64, deep: bool) -> u64 {
    if let Some(text) = value.downcast_ref::<CelString>() {
        return text.inner().len() as u64 / BYTES_PER_STEP;
    }
    if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        return bytes.inner().len() as u64 / BYTES_PER_STEP;
    }
    if is_object(value) && !deep {
        return 0;
    }
    let Some(iterable) = value.as_iterable() else { return 0 };
    let size = value.as_sizer().map_or(0, |sizer| sizer.size().inner().unsigned_abs());
    if size > limit {
        return size;
    }
    let indexer = value.as_indexer().filter(|_| value.get_type().kind() == Kind::Map);
    let mut cost = 0;
    let mut items = Iterable::iter(iterable);
    while let Some(item) = items.next() {
        cost += 1 + match indexer.map(|indexer| indexer.get(item)) {
            None => weigh(item, limit.saturating_sub(cost), deep),
            Some(Ok(value)) => weigh(value.as_ref(), limit.saturating_sub(cost), deep),
            Some(Err(_)) => 0,
        };
        if cost > limit {
            break;
        }
    }
    cost
}

fn add<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let budget = purse(&args)?;
    let [left, right, ..] = args.as_slice() else {
        return Err(ExecutionError::invalid_argument_count(2, args.len()));
    };
    let cost = weigh(left.as_ref(), budget.left(), false) + weigh(right.as_ref(), budget.left(), false);
    budget.charge(cost)?;
    let bytes = |value: &CowVal| value.downcast_ref::<CelString>().map_or(0, |text| text.inner().len());
    if bytes(left) + bytes(right) > MAX_TEXT {
        return Err(ExecutionError::function_error("_+_", format!("a text longer than {MAX_TEXT} bytes")));
    }
    let no_overload = || {
        ExecutionError::no_such_overload(
            operators::ADD,
            vec![left.get_type().name().to_owned(), right.get_type().name().to_owned()],
        )
    };
    let sum = left.as_adder().ok_or_else(no_overload)?.add(right.as_ref()).map_err(|error| match error {
        ExecutionError::UnsupportedBinaryOperator(..) => no_overload(),
        other => other,
    })?;
    Ok(CowVal::Owned(sum.into_owned()))
}

fn equal<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let budget = purse(&args)?;
    let [left, right, ..] = args.as_slice() else {
        return Err(ExecutionError::invalid_argument_count(2, args.len()));
    };
    if left.as_iterable().is_some() && right.as_iterable().is_some() {
        budget.charge(weigh(left.as_ref(), budget.left(), true))?;
    }
    Ok(CowVal::owned(CelBool::from(convert::equal(left.as_ref(), right.as_ref()))))
}
