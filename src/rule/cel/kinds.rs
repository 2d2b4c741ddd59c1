//! The fields of Kubernetes' own kinds, as far as misspelt ones are to be found. `kinds.txt` is made of k8s-openapi's types by a test.
//!
//! A newer API server may know more fields. So below the top of an object a field is refused only when its name is nearly that of another one.

use std::{collections::BTreeMap, sync::LazyLock};

/// What a value is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Nothing is known of it.
    Any,
    /// An object of the type of this number.
    Object(usize),
    /// A list of such objects.
    List(usize),
    /// A map of such objects.
    Map(usize),
    /// An object that is no one's but ours, by its fields.
    Own(&'static [(&'static str, Shape)]),
}

struct Kinds {
    /// Types by API version and kind.
    roots: BTreeMap<(&'static str, &'static str), usize>,
    types: Vec<Vec<(&'static str, Shape)>>,
}

static KINDS: LazyLock<Kinds> = LazyLock::new(|| {
    let (roots, types) = include_str!("kinds.txt").split_once("\n\n").unwrap_or_default();
    let root = |line: &'static str| {
        let mut words = line.split(' ');
        Some(((words.next()?, words.next()?), words.next()?.parse().ok()?))
    };
    Kinds {
        roots: roots.lines().filter_map(root).collect(),
        types: types.lines().map(|line| line.split(' ').map(field).collect()).collect(),
    }
});

/// `name`, `name:3` for an object, `name:[]3` for a list, `name:{}3` for a map.
fn field(text: &'static str) -> (&'static str, Shape) {
    let Some((name, type_)) = text.split_once(':') else { return (text, Shape::Any) };
    let number = |digits: &str, shape: fn(usize) -> Shape| digits.parse().map_or(Shape::Any, shape);
    let shape = match (type_.strip_prefix("[]"), type_.strip_prefix("{}")) {
        (Some(type_), _) => number(type_, Shape::List),
        (_, Some(type_)) => number(type_, Shape::Map),
        _ => number(type_, Shape::Object),
    };
    (name, shape)
}

/// The shape of objects of the kind, if it is one of Kubernetes' own.
pub(super) fn shape_of(api_version: &str, kind: &str) -> Option<Shape> {
    KINDS.roots.get(&(api_version, kind)).copied().map(Shape::Object)
}

impl Shape {
    fn fields(self) -> &'static [(&'static str, Shape)] {
        match self {
            Shape::Object(type_) => KINDS.types.get(type_).map_or(&[], Vec::as_slice),
            Shape::Own(fields) => fields,
            _ => &[],
        }
    }

    /// The shape of a field, or of a value in a map.
    pub(super) fn field(self, name: &str) -> Shape {
        match self {
            Shape::Map(type_) => Shape::Object(type_),
            object => object.fields().iter().find(|(known, _)| *known == name).map_or(Shape::Any, |(_, shape)| *shape),
        }
    }

    /// The shape of an element, or of a value in a map.
    pub(super) fn element(self) -> Shape {
        match self {
            Shape::List(type_) | Shape::Map(type_) => Shape::Object(type_),
            _ => Shape::Any,
        }
    }
}

/// What is wrong with a field of a value that has one of these shapes: the fields that were perhaps meant.
pub(super) fn misspelt(shapes: &[Shape], name: &str) -> Option<Vec<&'static str>> {
    let objects = shapes.iter().all(|shape| matches!(shape, Shape::Object(_) | Shape::Own(_)));
    let known: Vec<&str> = shapes.iter().flat_map(|shape| shape.fields()).map(|(known, _)| *known).collect();
    if !objects || known.is_empty() || known.contains(&name) {
        return None;
    }
    Some(near(known, name))
}

/// The names that differ in a letter or two only, the nearest first, each once.
pub(crate) fn near<'k>(known: impl IntoIterator<Item = &'k str>, name: &str) -> Vec<&'k str> {
    let most = if name.len() < 4 { 1 } else { 2 };
    // What is as long as no name is would take long.
    let known = known.into_iter().filter(|known| known.len().abs_diff(name.len()) <= most);
    let mut near: Vec<&str> = known.filter(|known| distance(known, name) <= most).collect();
    near.sort_unstable_by_key(|known| (distance(known, name), *known));
    near.dedup();
    near
}

/// How many letters have to be put in, left out, changed or swapped with the next to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_near_when_a_letter_or_two_differ() {
        assert_eq!(distance("spec", "sepc"), 1);
        assert_eq!(distance("replicas", "replcas"), 1);
        assert_eq!(distance("", "ab"), 2);
        let deployment = [shape_of("apps/v1", "Deployment").expect("known")];
        assert_eq!(misspelt(&deployment, "sepc"), Some(vec!["spec"]));
        assert_eq!(misspelt(&deployment, "spec"), None);
        assert_eq!(misspelt(&deployment, "nothing"), Some(vec![]));
        assert_eq!(misspelt(&[], "sepc"), None);
        assert_eq!(misspelt(&[Shape::Any], "sepc"), None);
    }

    #[test]
    fn fields_lead_to_the_types_below() {
        let pod = shape_of("v1", "Pod").expect("known");
        let container = pod.field("spec").field("containers").element();
        assert!(container.fields().iter().any(|(name, _)| *name == "image"), "{:?}", container.fields());
        assert_eq!(pod.field("metadata").field("labels"), Shape::Any);
        assert_eq!(shape_of("v1", "Deployment"), None);
    }
}
