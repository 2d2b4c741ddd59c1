//! What is known of a value's type before an expression is evaluated.

use super::{node::Operator, value::Value};

/// The type of a value, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Static {
    /// Anything: what comes out of events.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    List,
    Map,
    Timestamp,
    Duration,
    Type,
    Optional,
    Url,
    Ip,
    Cidr,
    Quantity,
    Semver,
    Format,
}

use Static::{Bool, Bytes, Double, Duration, Dyn, Int, List, Map, Null, Optional, String, Timestamp, Uint};

impl Static {
    /// The names of types in the table of functions.
    pub(super) const NAMES: [(&'static str, Static); 20] = [
        ("dyn", Dyn),
        ("null", Null),
        ("bool", Bool),
        ("int", Int),
        ("uint", Uint),
        ("double", Double),
        ("string", String),
        ("bytes", Bytes),
        ("list", List),
        ("map", Map),
        ("timestamp", Timestamp),
        ("duration", Duration),
        ("type", Static::Type),
        ("optional", Optional),
        ("url", Static::Url),
        ("ip", Static::Ip),
        ("cidr", Static::Cidr),
        ("quantity", Static::Quantity),
        ("semver", Static::Semver),
        ("format", Static::Format),
    ];

    /// As messages name it.
    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, one)| *one == self).map_or("dyn", |(name, _)| name)
    }

    pub(super) fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Null => Null,
            Value::Bool(_) => Bool,
            Value::Int(_) => Int,
            Value::Uint(_) => Uint,
            Value::Double(_) => Double,
            Value::String(_) | Value::Pattern(_) => String,
            Value::Bytes(_) => Bytes,
            Value::List(_) => List,
            Value::Map(_) => Map,
            Value::Timestamp(_) => Timestamp,
            Value::Duration(_) => Duration,
            Value::Type(_) => Static::Type,
            Value::Optional(_) => Optional,
            Value::Url(_) => Static::Url,
            Value::Ip(_) => Static::Ip,
            Value::Cidr(_) => Static::Cidr,
            Value::Quantity(_) => Static::Quantity,
            Value::Semver(_) => Static::Semver,
            Value::Format(_) => Static::Format,
        }
    }

    /// Whether a value of this type may be given where the other type is wanted.
    pub(super) fn may_be(self, wanted: Static) -> bool {
        self == Dyn || wanted == Dyn || self == wanted
    }

    fn is_number(self) -> bool {
        matches!(self, Int | Uint | Double)
    }

    /// The type that both are, or nothing exact.
    pub(super) fn or(self, other: Static) -> Self {
        if self == other { self } else { Dyn }
    }

    /// Whether values of the two types can be compared with `==`; with null anything can.
    fn comparable(self, other: Static) -> bool {
        self.may_be(other) || self == Null || other == Null || self.is_number() && other.is_number()
    }

    /// What an expression gives, when that is surely no whole number.
    pub(super) fn surely_not_whole(self) -> Option<&'static str> {
        match self {
            Int | Uint => None,
            Bool => Some("true or false"),
            Double => Some("a double"),
            other => other.surely_not_bool(),
        }
    }

    /// What a condition gives, when that is surely neither true nor false.
    pub(super) fn surely_not_bool(self) -> Option<&'static str> {
        match self {
            Dyn | Bool => None,
            Int | Uint | Double => Some("a number"),
            String => Some("a text"),
            List => Some("a list"),
            Map => Some("a map"),
            Null => Some("null"),
            Bytes => Some("bytes"),
            Timestamp => Some("a time"),
            Duration => Some("a duration"),
            Optional => Some("an optional"),
            other => Some(match other {
                Static::Type => "a type",
                Static::Url => "a URL",
                Static::Ip => "an IP address",
                Static::Cidr => "a CIDR",
                Static::Quantity => "a quantity",
                Static::Semver => "a version",
                _ => "a format",
            }),
        }
    }
}

/// The type of `left operator right`, or nothing when there is no such operation.
pub(super) fn of_binary(operator: Operator, left: Static, right: Static) -> Option<Static> {
    match operator {
        Operator::Equal | Operator::NotEqual => left.comparable(right).then_some(Bool),
        Operator::In => [List, Map].iter().any(|all| right.may_be(*all)).then_some(Bool),
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            let ordered = |one: Static| {
                one == Dyn || one.is_number() || matches!(one, String | Bytes | Bool | Timestamp | Duration)
            };
            let fit = left.may_be(right) || left.is_number() && right.is_number();
            (ordered(left) && ordered(right) && fit).then_some(Bool)
        }
        _ => of_arithmetic(operator, left, right),
    }
}

const SUMS: [(Static, Static, Static); 9] = [
    (Int, Int, Int),
    (Uint, Uint, Uint),
    (Double, Double, Double),
    (String, String, String),
    (Bytes, Bytes, Bytes),
    (List, List, List),
    (Timestamp, Duration, Timestamp),
    (Duration, Timestamp, Timestamp),
    (Duration, Duration, Duration),
];
const DIFFERENCES: [(Static, Static, Static); 6] = [
    (Int, Int, Int),
    (Uint, Uint, Uint),
    (Double, Double, Double),
    (Timestamp, Duration, Timestamp),
    (Timestamp, Timestamp, Duration),
    (Duration, Duration, Duration),
];
const PRODUCTS: [(Static, Static, Static); 3] = [(Int, Int, Int), (Uint, Uint, Uint), (Double, Double, Double)];

fn of_arithmetic(operator: Operator, left: Static, right: Static) -> Option<Static> {
    let table = match operator {
        Operator::Add => SUMS.as_slice(),
        Operator::Subtract => &DIFFERENCES,
        Operator::Modulo => &PRODUCTS[..2],
        _ => &PRODUCTS,
    };
    let fits = table.iter().filter(|(a, b, _)| left.may_be(*a) && right.may_be(*b)).map(|(.., result)| *result);
    fits.reduce(Static::or)
}
