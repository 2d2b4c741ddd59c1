//! The functions that expressions may call, and the names that need no scope. What is not listed here is refused before it is evaluated, even if
//! the environment knows it.

/// Names in front of a dot that belong to a function.
pub(super) const NAMESPACES: [&str; 3] = ["optional", "strings", "sets"];
/// Names of types.
pub(super) const TYPES: [&str; 12] =
    ["bool", "bytes", "double", "duration", "int", "list", "map", "null_type", "string", "timestamp", "type", "uint"];

/// Functions: name, and how many arguments it may have.
pub(super) const GLOBAL: &[(&str, &[usize])] = &[
    ("bool", &[1]),
    ("bytes", &[1]),
    ("double", &[1]),
    ("duration", &[1]),
    ("dyn", &[1]),
    ("has", &[1]),
    ("int", &[1]),
    ("matches", &[2]),
    ("optional.none", &[0]),
    ("optional.of", &[1]),
    ("optional.ofNonZeroValue", &[1]),
    ("sets.contains", &[2]),
    ("sets.equivalent", &[2]),
    ("sets.intersects", &[2]),
    ("size", &[1]),
    ("string", &[1]),
    ("strings.quote", &[1]),
    ("timestamp", &[1]),
    ("type", &[1]),
    ("uint", &[1]),
];

/// Functions behind a dot, macros included: name, and how many arguments it may have.
pub(super) const MEMBER: &[(&str, &[usize])] = &[
    ("all", &[2]),
    ("charAt", &[1]),
    ("contains", &[1]),
    ("distinct", &[0]),
    ("endsWith", &[1]),
    ("exists", &[2]),
    ("existsOne", &[2]),
    ("exists_one", &[2]),
    ("filter", &[2]),
    ("find", &[1]),
    ("findAll", &[1, 2]),
    ("flatten", &[0, 1]),
    ("format", &[1]),
    ("getDate", &[0, 1]),
    ("getDayOfMonth", &[0, 1]),
    ("getDayOfWeek", &[0, 1]),
    ("getDayOfYear", &[0, 1]),
    ("getFullYear", &[0, 1]),
    ("getHours", &[0, 1]),
    ("getMilliseconds", &[0, 1]),
    ("getMinutes", &[0, 1]),
    ("getMonth", &[0, 1]),
    ("getSeconds", &[0, 1]),
    ("hasValue", &[0]),
    ("indexOf", &[1, 2]),
    ("isSorted", &[0]),
    ("join", &[0, 1]),
    ("lastIndexOf", &[1]),
    ("lowerAscii", &[0]),
    ("map", &[2, 3]),
    ("matches", &[1]),
    ("max", &[0]),
    ("min", &[0]),
    ("optFlatMap", &[2]),
    ("optMap", &[2]),
    ("or", &[1]),
    ("orValue", &[1]),
    ("replace", &[2, 3]),
    ("reverse", &[0]),
    ("size", &[0]),
    ("slice", &[2]),
    ("sort", &[0]),
    ("sortBy", &[2]),
    ("split", &[1, 2]),
    ("startsWith", &[1]),
    ("substring", &[1, 2]),
    ("sum", &[0]),
    ("trim", &[0]),
    ("upperAscii", &[0]),
    ("value", &[0]),
];

/// All functions: whether it stands behind a dot, name, number of arguments.
#[cfg(test)]
pub(super) fn known_functions() -> impl Iterator<Item = (bool, &'static str, usize)> {
    let flat = |member: bool, table: &'static [(&'static str, &'static [usize])]| {
        table.iter().flat_map(move |(name, counts)| counts.iter().map(move |count| (member, *name, *count)))
    };
    flat(false, GLOBAL).chain(flat(true, MEMBER))
}
