//! Room on the stack for the parser and the evaluator, which recurse. What they need is bounded by the limits of [`super::check`]; a thread's
//! own stack may be smaller, and overflowing it would end the process.

/// The parser goes 96 levels deep before it refuses; a level takes about 200 KiB when it is not optimised.
const PARSING: usize = if cfg!(debug_assertions) { 32 << 20 } else { 4 << 20 };
/// What a level of the syntax tree takes while it is evaluated: at most 50 KiB where it is not optimised, doubled.
const LEVEL: usize = if cfg!(debug_assertions) { 96 << 10 } else { 16 << 10 };

/// What going through a value takes: 128 levels that are made and 128 of JSON.
const VALUES: usize = 256 * if cfg!(debug_assertions) { 16 << 10 } else { 2 << 10 };

/// Runs the parser, and what goes through the tree it made.
pub(super) fn for_parsing<T>(parse: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(PARSING, PARSING, parse)
}

/// Runs the evaluator on a tree of so many levels: on the present stack if that has room.
pub(super) fn for_evaluating<T>(levels: usize, evaluate: impl FnOnce() -> T) -> T {
    let room = (levels + 2) * LEVEL + VALUES;
    stacker::maybe_grow(room, room, evaluate)
}

/// Runs what goes through a value.
pub(super) fn for_values<T>(run: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(VALUES, VALUES, run)
}
