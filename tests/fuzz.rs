//! Random expressions and texts: whatever is made of them, nothing panics, nothing runs away, and the same comes out twice.
//!
//! Each target runs for FUZZ_SECONDS (2; `make fuzz`: 30). A failure names the seed; SEED=… begins with it.

use std::{
    env, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use signalbox::{
    event::Event,
    record::{RuleRef, RuleUid},
    rule::cel::{Mode, Names, Program, Scope, Template},
};

/// No evaluation takes so long, not even in a debug build on a busy machine: the budget is about 10 ms.
const LONG: Duration = Duration::from_secs(10);

/// Runs a target with one seed after the other.
fn fuzz(mut target: impl FnMut(&mut fastrand::Rng)) {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(2));
    let first = number("SEED").unwrap_or_else(|| fastrand::u64(..1 << 48));
    let start = Instant::now();
    let mut runs = 0;
    while runs == 0 || start.elapsed() < time {
        let seed = Seed(first + runs);
        let before = Instant::now();
        target(&mut fastrand::Rng::with_seed(seed.0));
        assert!(before.elapsed() < LONG, "took {:?}", before.elapsed());
        runs += 1;
    }
    println!("{runs} runs from SEED={first}");
}

/// Tells the seed when the run fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("run it again with SEED={}", self.0);
        }
    }
}

fn data() -> Value {
    json!({
        "n": 3, "u": u64::MAX, "i": i64::MIN, "d": 1.5, "s": "web-1 ä\n\"'", "t": true, "x": null,
        "l": [3, 1, 2], "texts": ["b", "a"], "m": {"a": 1, "b": {"c": [1, "x", null]}},
        "many": (0..3_000).collect::<Vec<_>>(), "long": "ab".repeat(50_000)
    })
}

/// What is evaluated, and how much of it is spent.
fn with_scope<T>(use_scope: impl Fn(&dyn Fn() -> Scope<'static>) -> T) -> T {
    use_scope(&|| Scope::empty().with_value("v", value()))
}

fn value() -> &'static Value {
    static VALUE: std::sync::OnceLock<Value> = std::sync::OnceLock::new();
    VALUE.get_or_init(data)
}

const ATOMS: [&str; 36] = [
    "v.n",
    "v.u",
    "v.i",
    "v.d",
    "v.s",
    "v.t",
    "v.x",
    "v.l",
    "v.texts",
    "v.m",
    "v.m.b.c",
    "v.many",
    "v.long",
    "v.none",
    "v.?none",
    "v.?n",
    "1",
    "-1",
    "0",
    "2u",
    "1.5",
    "'a'",
    "''",
    "b'a'",
    "true",
    "false",
    "null",
    "x",
    "y",
    "[]",
    "{}",
    "9223372036854775807",
    "'%s %d'",
    "duration('90s')",
    "timestamp('2026-01-01T00:00:00Z')",
    "int",
];
const MEMBERS: [&str; 34] = [
    "size()",
    "contains(@)",
    "startsWith(@)",
    "matches(@)",
    "find(@)",
    "findAll(@)",
    "split(@)",
    "join(@)",
    "replace(@, @)",
    "substring(@)",
    "charAt(@)",
    "indexOf(@)",
    "lastIndexOf(@, @)",
    "format([@, @])",
    "reverse()",
    "sort()",
    "distinct()",
    "flatten(@)",
    "slice(@, @)",
    "sum()",
    "max()",
    "first()",
    "orValue(@)",
    "optMap(x, @)",
    "all(x, @)",
    "exists(x, y, @)",
    "map(x, @)",
    "filter(x, @)",
    "sortBy(x, @)",
    "transformMap(x, y, @)",
    "transformMapEntry(x, y, {@: @})",
    "exists_one(x, @)",
    "getHours(@)",
    "upperAscii()",
];
const CALLS: [&str; 22] = [
    "size(@)",
    "string(@)",
    "int(@)",
    "uint(@)",
    "double(@)",
    "bytes(@)",
    "bool(@)",
    "type(@)",
    "dyn(@)",
    "timestamp(@)",
    "duration(@)",
    "quantity(@)",
    "semver(@, true)",
    "ip(@)",
    "cidr(@)",
    "url(@)",
    "base64.decode(@)",
    "math.greatest(@, @)",
    "math.bitShiftLeft(@, @)",
    "sets.contains(@, @)",
    "lists.range(@)",
    "cel.bind(x, @, @)",
];
const OPERATORS: [&str; 14] = ["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||"];

/// An expression that a grammar allows; types and names may be wrong.
fn expression(rng: &mut fastrand::Rng, depth: usize) -> String {
    let pick = |rng: &mut fastrand::Rng, from: &[&str]| from[rng.usize(..from.len())].to_owned();
    if depth == 0 {
        return pick(rng, &ATOMS);
    }
    let fill = |rng: &mut fastrand::Rng, form: String| {
        let parts: Vec<&str> = form.split('@').collect();
        let (last, before) = parts.split_last().expect("a form has a part");
        let mut made = String::new();
        for part in before {
            made += part;
            made += &expression(rng, depth - 1);
        }
        made + last
    };
    match rng.u8(..10) {
        0 | 1 => pick(rng, &ATOMS),
        2 | 3 => {
            let form = format!("(@) {} (@)", pick(rng, &OPERATORS));
            fill(rng, form)
        }
        4..=6 => {
            let form = format!("(@).{}", pick(rng, &MEMBERS));
            fill(rng, form)
        }
        7 => {
            let form = pick(rng, &CALLS);
            fill(rng, form)
        }
        8 => fill(rng, "(@) ? (@) : (@)".to_owned()),
        _ => {
            let forms = ["[@, ?@]", "{@: @}", "(@)[@]", "(@)[?@]", "!(@)", "-(@)", "has((@).a)", "(@).b", "(@).?a"];
            let form = pick(rng, &forms);
            fill(rng, form)
        }
    }
}

#[test]
fn expressions_of_the_grammar() {
    let names = Names::of(&["v", "x", "y"]);
    let mut compiled = 0_u64;
    fuzz(|rng| {
        let depth = rng.usize(1..5);
        let source = expression(rng, depth);
        let Ok(program) = Program::compile(&source, &names) else { return };
        compiled += 1;
        with_scope(|scope| {
            let value = program.evaluate(&scope());
            assert_eq!(value, program.evaluate(&scope()), "{source}: not the same twice");
            let explained = program.explain(&scope());
            if let Some(whole) = explained.first()
                && let (Ok(a), Ok(b)) = (&whole.value, &value)
            {
                assert_eq!(a, b, "{source} is explained as something else");
                // As it is told, it means the same.
                if let Ok(again) = Program::compile(&whole.expression, &names) {
                    assert_eq!(again.evaluate(&scope()), value, "{source} is told as {}", whole.expression);
                }
            }
        });
    });
    assert!(compiled > 0, "nothing compiles");
}

#[test]
fn expressions_of_any_characters() {
    let pieces = [
        "(", ")", "[", "]", "{", "}", "'", "\"", "'''", "r'", "b\"", "\\", ".", "?", ":", ",", "&&", "||", "!", "-",
        "+", "%", "==", "<", " in ", "\n", "//", "`", "$", "v", "event", "1", "1u", "0x", "1e9", ".5", "null", "has(",
        "\u{e4}",
    ];
    fuzz(|rng| {
        let source: String = (0..rng.usize(..60)).map(|_| pieces[rng.usize(..pieces.len())]).collect();
        if let Ok(program) = Program::compile(&source, &Names::of(&["v"])) {
            with_scope(|scope| drop(program.evaluate(&scope())));
        }
    });
}

#[test]
fn texts_stay_within_their_place() {
    let event = Event::new("i", "/s", "t", data());
    let rule = RuleRef { uid: RuleUid("u".into()), namespace: "shop".into(), name: "web".into() };
    let pieces = [
        "${",
        "$${",
        "}",
        "$",
        "{",
        "event.data.s",
        "event.data.n",
        "event.data.m",
        "event.data.none",
        "'}'",
        "\"",
        "a",
        " ",
        "\n",
        "?",
        "/",
        "..",
        "${event.data.s}",
        "${event.data.n}",
        "${event.data}",
        "${'\\r\\n'}",
        "${'/../'}",
    ];
    fuzz(|rng| {
        let mut text =
            |most: usize| -> String { (0..rng.usize(..most)).map(|_| pieces[rng.usize(..pieces.len())]).collect() };
        let body = json!({"a": text(8), "b": [text(8), {"c": text(8)}], "d": 1});
        for mode in [Mode::Text, Mode::Typed] {
            let Ok(template) = Template::compile(&body, mode, &Names::conditions(), "p") else { continue };
            let scope = || Scope::new(&event, "s", &rule, Default::default());
            let Ok(filled) = template.fill(&scope()) else { continue };
            assert_eq!(Ok(&filled), template.fill(&scope()).as_ref(), "{body}");
            // Values are filled in; the structure is the template's.
            let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
            assert_eq!((keys(&filled), keys(&filled["b"][1])), (keys(&body), keys(&body["b"][1])), "{body}");
            assert_eq!(filled["b"].as_array().map(Vec::len), Some(2), "{body}");
        }
        let address = format!("https://example.com/{}", text(6).replace(['\n', ' '], ""));
        if let Ok(template) = Template::compile(&json!(address), Mode::Url, &Names::conditions(), "p")
            && let Ok(filled) = template.fill(&Scope::new(&event, "s", &rule, Default::default()))
        {
            let filled = filled.as_str().expect("an address").to_owned();
            assert!(filled.starts_with("https://example.com/"), "{address}: {filled}");
            assert!(!filled.contains(['\r', '\n']), "{address}: {filled}");
        }
    });
}
