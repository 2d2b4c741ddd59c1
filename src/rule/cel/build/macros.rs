//! The macros: what they bind, and what they make of it.

use cel::{IdedExpr, common::ast::Expr};

use super::{
    super::{
        check::MAX_LOOPS,
        kinds::Shape,
        node::{Kind, Loop, Node, Over},
        static_type::Static,
        value::Value,
    },
    Bound, Builder, Typed,
};

impl Builder<'_> {
    /// A macro behind a value, if this is one.
    pub(super) fn macro_call(
        &mut self,
        node: &IdedExpr,
        name: &str,
        target: &IdedExpr,
        args: &[IdedExpr],
    ) -> Option<Typed> {
        let (over, names, filter, body) = match (name, args) {
            ("optMap" | "optFlatMap", [name_, body]) => {
                return Some(self.optional(name_, target, body, name == "optFlatMap"));
            }
            ("all", [name, body]) => (Over::All, vec![name], None, body),
            ("all", [key, value, body]) => (Over::All, vec![key, value], None, body),
            ("exists", [name, body]) => (Over::Exists, vec![name], None, body),
            ("exists", [key, value, body]) => (Over::Exists, vec![key, value], None, body),
            ("exists_one" | "existsOne", [name, body]) => (Over::ExistsOne, vec![name], None, body),
            ("exists_one" | "existsOne", [key, value, body]) => (Over::ExistsOne, vec![key, value], None, body),
            ("map", [name, body]) => (Over::Map, vec![name], None, body),
            ("map", [name, filter, body]) => (Over::Map, vec![name], Some(filter), body),
            ("filter", [name, filter]) => (Over::Filter, vec![name], Some(filter), name),
            ("sortBy", [name, body]) => (Over::SortBy, vec![name], None, body),
            ("transformList", [key, value, body]) => (Over::TransformList, vec![key, value], None, body),
            ("transformList", [key, value, filter, body]) => {
                (Over::TransformList, vec![key, value], Some(filter), body)
            }
            ("transformMap", [key, value, body]) => (Over::TransformMap, vec![key, value], None, body),
            ("transformMap", [key, value, filter, body]) => (Over::TransformMap, vec![key, value], Some(filter), body),
            ("transformMapEntry", [key, value, body]) => (Over::TransformMapEntry, vec![key, value], None, body),
            ("transformMapEntry", [key, value, filter, body]) => {
                (Over::TransformMapEntry, vec![key, value], Some(filter), body)
            }
            ("all" | "exists" | "exists_one" | "existsOne" | "map" | "filter" | "sortBy", _) => {
                let takes = if name == "map" { "2 or 3" } else { "2" };
                return Some(self.fault(node.id, format!("`.{name}` takes {takes} arguments, not {}", args.len())));
            }
            _ => return None,
        };
        Some(self.loop_over(node, over, target, &names, filter, body))
    }

    fn loop_over(
        &mut self,
        node: &IdedExpr,
        over: Over,
        target: &IdedExpr,
        names: &[&IdedExpr],
        filter: Option<&IdedExpr>,
        body: &IdedExpr,
    ) -> Typed {
        let (range, of_range) = self.expression(target);
        let shapes = self.shapes(target);
        if !of_range.may_be(Static::List) && (!of_range.may_be(Static::Map) || over == Over::SortBy) {
            return self.no_overload(node.id, over.name(), &[of_range]);
        }
        let Some(names) = self.new_names(names) else {
            return (Node::new(Kind::Literal(Value::Null)), Static::Dyn);
        };
        self.loops += 1;
        let built = if self.loops > MAX_LOOPS {
            self.fault(node.id, format!("loops are nested more than {MAX_LOOPS} deep"))
        } else {
            let outer = self.bound.len();
            for (index, name) in names.iter().enumerate() {
                // The last name stands for elements; alone, for the keys of a map.
                let shapes = if index + 1 == names.len() { elements(&shapes, names.len()) } else { Vec::new() };
                self.bound.push(Bound { name: name.to_string(), type_: Static::Dyn, shapes });
            }
            let filter = filter.map(|filter| self.condition(filter, over.name()));
            let body = match over {
                Over::All | Over::Exists | Over::ExistsOne => self.condition(body, over.name()),
                _ => self.expression(body).0,
            };
            self.bound.truncate(outer);
            let type_ = match over {
                Over::All | Over::Exists | Over::ExistsOne => Static::Bool,
                Over::TransformMap | Over::TransformMapEntry => Static::Map,
                _ => Static::List,
            };
            (Node::new(Kind::Loop(Box::new(Loop { over, range, names, filter, body }))), type_)
        };
        self.loops -= 1;
        built
    }

    /// Names that a macro binds.
    fn new_names(&mut self, names: &[&IdedExpr]) -> Option<Vec<Box<str>>> {
        let mut new = Vec::new();
        for name in names {
            match &name.expr {
                Expr::Ident(name) if !name.starts_with('.') => new.push(name.as_str().into()),
                _ => {
                    self.fault(name.id, "a macro's variable is a plain name".to_owned());
                    return None;
                }
            }
        }
        if new.len() == 2 && new[0] == new[1] {
            self.fault(names[1].id, format!("`{}` stands for two things", new[0]));
            return None;
        }
        Some(new)
    }

    pub(super) fn bind(&mut self, name: &IdedExpr, value: &IdedExpr, body: &IdedExpr) -> Typed {
        let shapes = self.shapes(value);
        let (value, type_) = self.expression(value);
        let Some(names) = self.new_names(&[name]) else {
            return (Node::new(Kind::Literal(Value::Null)), Static::Dyn);
        };
        let name = names.into_iter().next().unwrap_or_default();
        self.bound.push(Bound { name: name.to_string(), type_, shapes });
        let (body, type_) = self.expression(body);
        self.bound.pop();
        (Node::new(Kind::Bind { name, pair: Box::new([value, body]) }), type_)
    }

    fn optional(&mut self, name: &IdedExpr, target: &IdedExpr, body: &IdedExpr, flat: bool) -> Typed {
        let shapes = self.shapes(target);
        let (target_node, of) = self.expression(target);
        let called = if flat { "optFlatMap" } else { "optMap" };
        if !of.may_be(Static::Optional) {
            return self.no_overload(target.id, called, &[of]);
        }
        let Some(names) = self.new_names(&[name]) else {
            return (Node::new(Kind::Literal(Value::Null)), Static::Dyn);
        };
        let name = names.into_iter().next().unwrap_or_default();
        self.bound.push(Bound { name: name.to_string(), type_: Static::Dyn, shapes });
        let (body, _) = self.expression(body);
        self.bound.pop();
        (Node::new(Kind::Optional { name, flat, pair: Box::new([target_node, body]) }), Static::Optional)
    }
}

/// What the elements of a range are made of, for a loop with so many names.
fn elements(range: &[Shape], names: usize) -> Vec<Shape> {
    let element = |shape: &Shape| match (shape, names) {
        (Shape::Map(_), 1) => Shape::Any,
        (shape, _) => shape.element(),
    };
    range.iter().map(element).collect()
}
