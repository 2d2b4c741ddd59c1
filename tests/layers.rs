//! The table of levels: a folder may use folders of a lower level only, and none of its own level.
//!
//! A new arrow between folders is a change of the design: it is made here, on purpose.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Folder (or file) of `src/` and its level. Leaves may be used by everybody and use nobody.
const LEVELS: [(&str, u8); 21] = [
    ("api", 0),
    ("event", 1),
    ("net", 1),
    ("record", 2),
    ("rule", 3),
    ("bus", 3),
    ("kubernetes", 4),
    ("manifest", 4),
    ("sinks", 4),
    ("sources", 5),
    ("actions", 5),
    ("status", 5),
    ("runner", 6),
    ("trial", 6),
    ("shard", 7),
    ("controller", 8),
    ("server", 8),
    ("cli", 8),
    ("app", 9),
    ("main", 10),
    ("lib", 10),
];
const LEAVES: [&str; 5] = ["clock", "config", "poison", "telemetry", "text"];

/// What leaves may use all the same: the words they count and the durations they parse.
const LEAVES_MAY_USE: [&str; 3] = ["api", "record", "bus"];

#[test]
fn folders_use_lower_levels_only() {
    let levels: BTreeMap<&str, u8> = LEVELS.into_iter().collect();
    let mut faults = Vec::new();
    for file in code_files(Path::new("src")) {
        let room = room_of(&file);
        for used in used_rooms(&fs::read_to_string(&file).expect("read a source file")) {
            if used == room || LEAVES.contains(&used.as_str()) {
                continue;
            }
            let allowed = match levels.get(room.as_str()) {
                Some(level) => levels.get(used.as_str()).is_some_and(|other| other < level),
                None => LEAVES.contains(&room.as_str()) && LEAVES_MAY_USE.contains(&used.as_str()),
            };
            if !allowed {
                faults.push(format!("{}: {room} must not use {used}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_engine_knows_no_clock_and_no_io() {
    for file in code_files(Path::new("src/rule")).into_iter().chain(code_files(Path::new("src/record"))) {
        let text = code_of(&fs::read_to_string(&file).expect("read a source file"));
        for word in ["tokio::", "std::fs", "std::net", "SystemTime", "Instant::now", "Timestamp::now", "kube::Client"] {
            assert!(!text.contains(word), "{}: {word}", file.display());
        }
    }
}

#[test]
fn an_arrow_upwards_is_found() {
    assert_eq!(used_rooms("use crate::runner::Runner;\nlet x = crate::status::y();"), ["runner", "status"]);
    assert_eq!(used_rooms("use crate::{\n    api::X,\n    bus::{Bus, Y},\n};"), ["api", "bus"]);
    assert_eq!(used_rooms("// see crate::shard\n"), Vec::<String>::new());
}

#[test]
fn tests_are_no_code_and_what_stands_behind_them_is() {
    let inline = "use crate::a;\n#[cfg(test)]\nmod tests {\n    use crate::b;\n}\nuse crate::c;\n";
    assert_eq!(used_rooms(inline), ["a", "c"]);
    assert_eq!(used_rooms("#[cfg(test)]\nmod tests;\nuse crate::a;\n"), ["a"]);
    let of_tests = ["src/rule/tests.rs", "src/rule/tests/cases.rs"].map(|path| is_test(Path::new(path)));
    let of_code = ["src/rule/mod.rs", "src/status/contests.rs"].map(|path| is_test(Path::new(path)));
    assert_eq!((of_tests, of_code), ([true; 2], [false; 2]));
}

/// The Rust files below the folder, without those of tests, which may reach further.
fn code_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = rust_files(folder);
    files.retain(|file| !is_test(file));
    assert!(!files.is_empty(), "{} has no code", folder.display());
    files
}

/// Whether the file is named `tests.rs` or lies in a folder `tests`.
fn is_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("read a folder").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The room a file belongs to: the first part of its path below `src/`.
fn room_of(file: &Path) -> String {
    let below = file.strip_prefix("src").expect("files of src");
    let first = below.components().next().expect("a path has parts").as_os_str().to_string_lossy().into_owned();
    match first.strip_suffix(".rs") {
        Some(name) => name.to_owned(),
        None if first == "bin" => "main".to_owned(),
        None => first,
    }
}

/// The code without comments and without the tests in the file.
fn code_of(text: &str) -> String {
    let (mut code, mut rest) = (String::new(), text);
    while let Some((before, tests)) = rest.split_once("#[cfg(test)]\nmod tests {\n") {
        code.push_str(before);
        rest = tests.split_once("\n}\n").map_or("", |(_, behind)| behind);
    }
    code.push_str(rest);
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rooms named after `crate::` or `signalbox::`, alone or in a list of a `use`.
fn used_rooms(text: &str) -> Vec<String> {
    let code = code_of(text);
    let mut rooms = Vec::new();
    for prefix in ["crate::", "signalbox::"] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(list) => rooms.extend(heads_of(list)),
                None => rooms.push(word(rest)),
            }
        }
    }
    rooms.retain(|room| room.chars().next().is_some_and(|first| first.is_ascii_lowercase()));
    rooms
}

/// The first words of the entries of a `{ … }` list, nested lists left out.
fn heads_of(list: &str) -> Vec<String> {
    let (mut depth, mut start, mut heads) = (0usize, true, Vec::new());
    for (at, symbol) in list.char_indices() {
        match symbol {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            symbol if start && !symbol.is_whitespace() => {
                heads.push(word(&list[at..]));
                start = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|symbol| symbol.is_ascii_alphanumeric() || *symbol == '_').collect()
}
