//! Misspelt fields of objects whose kind is known, and of what is told of them.

use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue, operators},
};

use super::{
    super::kinds::{Shape, misspelt},
    Builder,
};

impl Builder<'_> {
    /// What the value of an expression is made of; one shape for each kind that it may be of, none when nothing is known.
    pub(super) fn shapes(&self, node: &IdedExpr) -> Vec<Shape> {
        match &node.expr {
            Expr::Ident(name) => match self.bound.iter().rfind(|bound| bound.name == *name) {
                Some(bound) => bound.shapes.clone(),
                None if is_object(name) => self.names.object_shapes(),
                None => Vec::new(),
            },
            Expr::Select(select) if select.field == "data" && self.is_event(&select.operand) => {
                self.names.data_shapes()
            }
            Expr::Select(select) => below(&self.shapes(&select.operand), |shape| shape.field(&select.field)),
            Expr::Call(call) => match (call.func_name.as_str(), &call.target, call.args.as_slice()) {
                (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, None, [operand, key]) => {
                    let shapes = self.shapes(operand);
                    match &key.expr {
                        Expr::Literal(LiteralValue::String(field)) => {
                            below(&shapes, |shape| shape.field(field.inner()))
                        }
                        _ => below(&shapes, Shape::element),
                    }
                }
                ("filter", Some(target), [_, _]) => self.shapes(target),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// Refuses a field that the kind of the operand does not have: any at the top of an object, below it those that are nearly another one.
    pub(super) fn refuse_misspelt(&mut self, operand: &IdedExpr, field: &str) {
        let shapes = self.shapes(operand);
        let Some(near) = misspelt(&shapes, field) else { return };
        let top = matches!(&operand.expr, Expr::Ident(name) if is_object(name));
        let kinds = match shapes.as_slice() {
            [Shape::Own(_), ..] => self.names.told.iter().map(|told| told.name()).collect::<Vec<_>>().join(" or "),
            _ => self.names.kinds.join(" or "),
        };
        match near.as_slice() {
            [] if top => {
                self.fault(operand.id, format!("{kinds} has no field `{field}`"));
            }
            [] => {}
            [meant, ..] => {
                self.fault(operand.id, format!("{kinds} has no such field `{field}`: perhaps `{meant}` is meant"));
            }
        }
    }

    fn is_event(&self, node: &IdedExpr) -> bool {
        matches!(&node.expr, Expr::Ident(name) if name.trim_start_matches('.') == "event" && !self.is_bound(name))
    }
}

fn is_object(name: &str) -> bool {
    ["object", "oldObject"].contains(&name.trim_start_matches('.'))
}

fn below(shapes: &[Shape], lead: impl Fn(Shape) -> Shape) -> Vec<Shape> {
    shapes.iter().map(|shape| lead(*shape)).collect()
}
