//! The conformance cases that the makers of CEL publish (<https://github.com/google/cel-spec>), run on our evaluator. They are fetched as a Go
//! module into Go's cache; nothing of them is kept here but the names of those whose answer differs from ours.

#[path = "support/textproto.rs"]
mod textproto;

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use serde_json::Value;
use signalbox::rule::cel::{Names, Program, Scope};
use textproto::{Field, Message};

/// The module and its version; Go's checksum database vouches for what is in it.
const MODULE: &str = "cel.dev/expr@v0.26.0";
const GOLDEN: &str = "tests/golden/cel-conformance.txt";

/// Files about what we do not have.
const NOT_OURS: [(&str, &str); 9] = [
    ("block_ext", "cel.block, which compilers make"),
    ("dynamic", "protobuf messages"),
    ("enums", "protobuf enums"),
    ("proto2", "protobuf messages"),
    ("proto2_ext", "protobuf messages"),
    ("proto3", "protobuf messages"),
    ("type_deduction", "types that the checker deduces"),
    ("unknowns", "unknown values"),
    ("wrappers", "protobuf messages"),
];

/// What the check says, which cannot be left out here.
const CHECKED: [&str; 3] = ["no matching overload", "unknown name", "unknown function"];

/// What came of a case.
enum Outcome {
    Passed,
    NotApplicable(&'static str),
    Different(String),
}

#[test]
fn the_published_cases_give_what_they_should_but_for_those_that_are_listed() {
    let mut passed = 0;
    let mut not_applicable: BTreeMap<&str, usize> = BTreeMap::new();
    let mut different = Vec::new();
    for (file, text) in files() {
        let cases = textproto::parse(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        for section in cases.messages("section") {
            for case in section.messages("test") {
                match run(&file, case) {
                    Outcome::Passed => passed += 1,
                    Outcome::NotApplicable(why) => *not_applicable.entry(why).or_default() += 1,
                    Outcome::Different(how) => {
                        different.push(format!("{file}/{}/{}: {how}", section.text("name"), case.text("name")));
                    }
                }
            }
        }
    }
    let mut told = format!("{passed} pass\n");
    not_applicable.iter().for_each(|(why, count)| told += &format!("{count} do not apply: {why}\n"));
    told += &format!("{} differ:\n{}\n", different.len(), different.join("\n"));
    let made = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cel-conformance.txt");
    fs::write(&made, &told).expect("write what came out");
    let known = fs::read_to_string(GOLDEN).unwrap_or_default();
    assert!(told == known, "{GOLDEN} says otherwise: see {}, and copy it when the change is meant", made.display());
}

/// The files of cases, by name.
fn files() -> Vec<(String, String)> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .output()
        .expect("Go 1.26 or later is needed: https://go.dev/dl/");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let folder = told["Dir"].as_str().expect("the module is fetched from Go's proxy, or was before");
    let mut files: Vec<(String, String)> = fs::read_dir(PathBuf::from(folder).join("tests/simple/testdata"))
        .expect("the module has cases")
        .map(|entry| entry.expect("read a folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "textproto"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("read a file of cases"))
        })
        .collect();
    files.sort();
    files
}

fn run(file: &str, case: &Message) -> Outcome {
    if let Some((_, why)) = NOT_OURS.iter().find(|(name, _)| *name == file) {
        return Outcome::NotApplicable(why);
    }
    let expression = case.text("expr");
    if let Some(why) = not_applicable(case, &expression) {
        return Outcome::NotApplicable(why);
    }
    let mut source = format!("({expression}\n)");
    let fails = case.has("eval_error") || case.has("any_eval_errors");
    if !fails {
        let value = case.message("value").or_else(|| case.message("typed_result")?.message("result"));
        let Some(value) = value.map_or(Some("true".to_owned()), literal) else {
            return Outcome::NotApplicable("protobuf messages");
        };
        let same = if value == "double('NaN')" { "got != got" } else { "got == want && type(got) == type(want)" };
        source = format!("cel.bind(got, {source}, cel.bind(want, {value}, {same}))");
    }
    for binding in case.messages("bindings") {
        let Some(value) = binding.message("value").and_then(|value| value.message("value")).and_then(literal) else {
            return Outcome::NotApplicable("protobuf messages");
        };
        source = format!("cel.bind({}, dyn({value}), {source})", binding.text("key"));
    }
    outcome(&source, fails, case.has("disable_check"))
}

fn outcome(source: &str, fails: bool, unchecked: bool) -> Outcome {
    let program = match Program::compile(source, &Names::of(&[])) {
        Ok(program) => program,
        Err(_) if fails => return Outcome::Passed,
        Err(fault) if unchecked && CHECKED.iter().any(|part| fault.message.contains(part)) => {
            return Outcome::NotApplicable("names and types that the check refuses");
        }
        Err(fault) => return Outcome::Different(format!("refused, {}", fault.message)),
    };
    match (program.evaluate(&Scope::empty()), fails) {
        (Err(_), true) => Outcome::Passed,
        (Ok(Value::Bool(true)), false) => Outcome::Passed,
        (Ok(_), true) => Outcome::Different("gives a value".to_owned()),
        (Ok(_), false) => Outcome::Different("gives another value".to_owned()),
        (Err(error), false) => Outcome::Different(format!("fails, {error}")),
    }
}

fn not_applicable(case: &Message, expression: &str) -> Option<&'static str> {
    let messages = ["TestAllTypes", "NestedTestAllTypes", "google.protobuf.", "cel.expr.", "GlobalEnum", "proto."];
    let types = expression.replace("google.protobuf.Timestamp", "").replace("google.protobuf.Duration", "");
    let wrapped = |name: &str| types.contains(&format!("{name}{{"));
    if messages.iter().any(|message| types.contains(message)) || wrapped("Timestamp") || wrapped("Duration") {
        return Some("protobuf messages");
    }
    if case.has("container") {
        return Some("containers");
    }
    if case.has("unknown") {
        return Some("unknown values");
    }
    if case.has("check_only") {
        return Some("types that the checker deduces");
    }
    if case.has("disable_macros") {
        return Some("expressions without macros");
    }
    if case.messages("type_env").any(|declared| declared.has("function")) {
        return Some("functions of the cases' own");
    }
    let literals = ["true", "false", "null"];
    let odd = |name: String| name.contains('.') || literals.contains(&name.as_str());
    case.messages("bindings").any(|binding| odd(binding.text("key"))).then_some("names with dots, or of literals")
}

/// A value as CEL writes it; nothing for a message.
fn literal(value: &Message) -> Option<String> {
    let (kind, field) = value.first()?;
    Some(match (kind, field) {
        ("null_value", _) => "null".to_owned(),
        ("bool_value", Field::Scalar(text)) => plain(text),
        ("int64_value", Field::Scalar(text)) => match plain(text).as_str() {
            "-9223372036854775808" => "(-9223372036854775807 - 1)".to_owned(),
            number => format!("int({number})"),
        },
        ("uint64_value", Field::Scalar(text)) => format!("{}u", plain(text)),
        ("double_value", Field::Scalar(text)) => match plain(text).to_ascii_lowercase().as_str() {
            "nan" => "double('NaN')".to_owned(),
            "inf" | "infinity" => "double('Infinity')".to_owned(),
            "-inf" | "-infinity" => "double('-Infinity')".to_owned(),
            number => format!("double('{number}')"),
        },
        ("string_value", Field::Scalar(text)) => format!("string({})", bytes(text)),
        ("bytes_value", Field::Scalar(text)) => bytes(text),
        ("type_value", Field::Scalar(text)) => plain(text),
        ("list_value", Field::Message(list)) => {
            let items = list.messages("values").map(literal).collect::<Option<Vec<_>>>()?;
            format!("[{}]", items.join(", "))
        }
        ("map_value", Field::Message(map)) => {
            let entry = |entry: &Message| {
                Some(format!("{}: {}", literal(entry.message("key")?)?, literal(entry.message("value")?)?))
            };
            let entries = map.messages("entries").map(entry).collect::<Option<Vec<_>>>()?;
            format!("{{{}}}", entries.join(", "))
        }
        ("object_value", Field::Message(any)) => {
            let (name, Field::Message(time)) = any.first()? else { return None };
            let number = |name: &str| if time.has(name) { time.text(name) } else { "0".to_owned() };
            let (seconds, nanos) = (number("seconds"), number("nanos"));
            match name.rsplit('/').next()? {
                "google.protobuf.Timestamp" => format!("(timestamp(int({seconds})) + duration('{nanos}ns'))"),
                "google.protobuf.Duration" => format!("(duration('{seconds}s') + duration('{nanos}ns'))"),
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn plain(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// Bytes as CEL writes them.
fn bytes(text: &[u8]) -> String {
    let escaped: String = text.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    format!("b'{escaped}'")
}
