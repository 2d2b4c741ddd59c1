//! The functions that expressions may call: those of CEL and of Kubernetes' libraries. Not here: the API server's authorizer.
//!
//! A row is a signature and what carries it out. A `.` in front means that the first parameter stands before the dot. Rows of one name are
//! tried in turn. `dyn...` stands for one argument or more. What is not listed is refused when a rule is compiled.

mod conversions;
mod encoders;
mod format;
mod formats;
mod lists;
mod math;
mod network;
mod optionals;
mod quantity;
mod regexes;
mod semvers;
mod sets;
mod strings;
mod times;
mod url;

use std::{collections::BTreeMap, sync::LazyLock};

use super::{eval::Answer, failure::Failure, meter::Meter, static_type::Static, value::Value};

pub(super) use formats::NamedFormat;
pub(super) use network::{Cidr, Ip};
pub(super) use quantity::Quantity;
pub(super) use url::Url;

/// Names in front of a dot that belong to a function.
pub(super) const NAMESPACES: [&str; 11] =
    ["optional", "strings", "sets", "math", "lists", "base64", "ip", "cidr", "format", "jsonpatch", "cel"];

/// Names of types, and the type they stand for.
pub(super) const TYPES: [(&str, &str); 21] = [
    ("bool", "bool"),
    ("bytes", "bytes"),
    ("double", "double"),
    ("duration", "google.protobuf.Duration"),
    ("google.protobuf.Duration", "google.protobuf.Duration"),
    ("google.protobuf.Timestamp", "google.protobuf.Timestamp"),
    ("int", "int"),
    ("kubernetes.NamedFormat", "kubernetes.NamedFormat"),
    ("kubernetes.Quantity", "kubernetes.Quantity"),
    ("kubernetes.Semver", "kubernetes.Semver"),
    ("kubernetes.URL", "kubernetes.URL"),
    ("list", "list"),
    ("map", "map"),
    ("net.CIDR", "net.CIDR"),
    ("net.IP", "net.IP"),
    ("null_type", "null_type"),
    ("optional_type", "optional_type"),
    ("string", "string"),
    ("timestamp", "google.protobuf.Timestamp"),
    ("type", "type"),
    ("uint", "uint"),
];

/// Functions that charge what they read of their arguments, because it is less than all of them, or counts for more.
const CHARGING: [&str; 8] = ["bytes", "endsWith", "find", "findAll", "matches", "size", "startsWith", "string"];

/// What carries out a function. The texts and bytes among its arguments are paid for, but for those of [`CHARGING`]. Arguments have the types of its signature.
pub(super) type Function = for<'v> fn(&[Value<'v>], &Meter) -> Answer<'v>;

/// A row of a table.
type Row = (&'static str, Function);

/// A function for some types of arguments.
pub(super) struct Overload {
    pub(super) name: &'static str,
    /// Whether the first parameter stands before a dot.
    pub(super) member: bool,
    pub(super) params: Vec<Static>,
    /// Whether there may be more arguments like the last.
    pub(super) more: bool,
    pub(super) returns: Static,
    pub(super) call: Function,
    charges_itself: bool,
}

impl Overload {
    /// Whether it takes so many arguments, the one before the dot included.
    pub(super) fn counts(&self, arguments: usize) -> bool {
        self.params.len() == arguments || self.more && arguments > self.params.len()
    }

    /// Whether it may take values of these types.
    pub(super) fn fits(&self, types: &[Static]) -> bool {
        self.params.iter().zip(types).all(|(wanted, given)| given.may_be(*wanted))
    }

    /// Whether it takes these values.
    pub(super) fn takes(&self, args: &[Value<'_>]) -> bool {
        self.counts(args.len())
            && self.params.iter().zip(args).all(|(wanted, arg)| *wanted == Static::Dyn || Static::of(arg) == *wanted)
    }

    /// Charges going through the texts and bytes that it was given, unless it does that itself. What it takes for a `dyn` it does not read.
    pub(super) fn charge(&self, args: &[Value<'_>], meter: &Meter) -> Result<(), Failure> {
        if self.charges_itself {
            return Ok(());
        }
        let read = self.params.iter().zip(args).filter(|(wanted, _)| **wanted != Static::Dyn);
        meter.bytes(read.map(|(_, arg)| arg.length()).sum())
    }

    /// Reads a signature such as `.charAt(string, int): string`.
    fn read((signature, call): &Row) -> Option<Self> {
        let member = signature.starts_with('.');
        let (name, rest) = signature.trim_start_matches('.').split_once('(')?;
        let (params, returns) = rest.split_once("): ")?;
        let type_ = |name: &str| Static::NAMES.iter().find(|(known, _)| *known == name).map(|(_, type_)| *type_);
        let more = params.ends_with("...");
        let params = params.trim_end_matches("...");
        let params = params.split(", ").filter(|name| !name.is_empty()).map(type_).collect::<Option<Vec<_>>>()?;
        let charges_itself = CHARGING.contains(&name);
        Some(Self { name, member, params, more, returns: type_(returns)?, call: *call, charges_itself })
    }
}

static TABLES: [&[Row]; 15] = [
    conversions::ROWS,
    encoders::ROWS,
    format::ROWS,
    formats::ROWS,
    lists::ROWS,
    math::ROWS,
    network::ROWS,
    optionals::ROWS,
    quantity::ROWS,
    regexes::ROWS,
    semvers::ROWS,
    sets::ROWS,
    strings::ROWS,
    times::ROWS,
    url::ROWS,
];

/// All functions by name: those that stand in front, and those that stand behind a dot.
static FUNCTIONS: LazyLock<[BTreeMap<&'static str, Vec<Overload>>; 2]> = LazyLock::new(|| {
    let mut functions: [BTreeMap<_, Vec<Overload>>; 2] = Default::default();
    for row in TABLES.iter().flat_map(|table| table.iter()) {
        let overload = Overload::read(row).expect("the tables hold signatures; a test reads them all");
        functions[usize::from(overload.member)].entry(overload.name).or_default().push(overload);
    }
    functions
});

/// The functions of this name; none when there is no such name.
pub(super) fn overloads(name: &str, member: bool) -> &'static [Overload] {
    FUNCTIONS[usize::from(member)].get(name).map_or(&[], Vec::as_slice)
}

/// A function was given what its signature does not say: a row is wrong.
fn mismatch<'a>(args: &[Value<'a>]) -> Answer<'a> {
    Err(Failure::no_overload("this function", &args.iter().collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_can_be_read_and_stands_there_once() {
        let mut seen = std::collections::BTreeSet::new();
        for (signature, call) in TABLES.iter().flat_map(|table| table.iter()) {
            assert!(Overload::read(&(*signature, *call)).is_some(), "{signature}");
            assert!(seen.insert(*signature), "{signature} stands there twice");
        }
    }

    #[test]
    fn the_readme_names_every_function() {
        let readme = std::fs::read_to_string("README.md").expect("the README");
        let table = readme.split("| functions | |").nth(1).expect("the table of functions");
        for overload in FUNCTIONS.iter().flat_map(BTreeMap::values).flatten() {
            assert!(table.contains(&format!("`{}`", overload.name)), "{} is not in README.md", overload.name);
        }
    }

    #[test]
    fn a_function_does_what_its_signature_says_for_whatever_it_is_given() {
        // Values of each type; what comes out is of the type that the signature names, or an error of its own.
        for overload in FUNCTIONS.iter().flat_map(BTreeMap::values).flatten() {
            let arguments: Vec<Vec<Value<'_>>> = overload.params.iter().map(|param| samples(*param)).collect();
            for pick in 0..arguments.iter().map(Vec::len).max().unwrap_or(1) {
                let args: Vec<Value<'_>> = arguments.iter().map(|all| all[pick % all.len()].clone()).collect();
                match (overload.call)(&args, &Meter::default()) {
                    Ok(value) => assert!(Static::of(&value).may_be(overload.returns), "{} {args:?}", overload.name),
                    Err(Failure::Other(message)) => {
                        assert!(!message.contains("this function"), "{} takes {args:?}", overload.name);
                    }
                    Err(other) => panic!("{} {args:?}: {other:?}", overload.name),
                }
            }
        }
    }

    fn samples(type_: Static) -> Vec<Value<'static>> {
        let text = |text: &'static str| Value::from(text);
        match type_ {
            Static::Dyn => vec![Value::Null, Value::Int(1), text("a"), Value::list(vec![Value::Int(1)])],
            Static::Null => vec![Value::Null],
            Static::Bool => vec![Value::Bool(true)],
            Static::Int => vec![Value::Int(0), Value::Int(-1), Value::Int(i64::MAX), Value::Int(i64::MIN)],
            Static::Uint => vec![Value::Uint(0), Value::Uint(u64::MAX)],
            Static::Double => vec![Value::Double(0.5), Value::Double(f64::NAN), Value::Double(f64::INFINITY)],
            Static::String => {
                ["", "ä", "10Mi", "1.2.3", "::1", "10.0.0.0/8", "https://a/b?c", "(", "%s %d", "1h"].map(text).to_vec()
            }
            Static::Bytes => vec![Value::bytes([255, 0])],
            Static::List => vec![Value::list(Vec::new()), Value::list(vec![Value::Int(2), Value::Int(1)])],
            Static::Map => vec![Value::map(BTreeMap::new())],
            Static::Timestamp => vec![Value::Timestamp(super::super::times::Instant::EPOCH)],
            Static::Duration => vec![Value::Duration(k8s_openapi::jiff::SignedDuration::from_secs(90))],
            Static::Type => vec![Value::Type("int")],
            Static::Optional => vec![Value::Optional(None), Value::some(Value::Int(1))],
            Static::Url => made("url", "https://a:80/b?c=d"),
            Static::Ip => made("ip", "10.0.0.1"),
            Static::Cidr => made("cidr", "10.0.0.0/8"),
            Static::Quantity => made("quantity", "10Mi"),
            Static::Semver => made("semver", "1.2.3"),
            Static::Format => vec![Value::Format(formats::named("uuid").expect("a format"))],
        }
    }

    fn made(function: &str, text: &'static str) -> Vec<Value<'static>> {
        let overload = overloads(function, false).first().expect(function);
        vec![(overload.call)(&[Value::from(text)], &Meter::default()).expect(text)]
    }
}
