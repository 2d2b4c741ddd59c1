//! Rules: what they are compiled to, and the engine that judges events by them.
//!
//! Everything here is a pure function of records: no clock, no I/O, no log, no Kubernetes client. That is what lets a replay after a crash, a test
//! and a simulation run the very same code.

mod breaker;
pub mod cel;
mod change;
pub mod compile;
mod dedupe;
pub mod engine;
mod explained;
mod fault;
mod filter;
mod groups;
mod index;
mod interest;
mod near;
mod remembered;
mod silences;
mod spend;
mod state;
mod timetable;
mod trigger;
mod windows;
mod writes;

#[cfg(test)]
mod tests;

pub use breaker::{Gate, Trip};
pub use change::{Followed, values};
pub use compile::{CompiledAction, CompiledSource, Rule, compile};
pub use engine::{Engine, Judged, SeenBy, emitted, event_of_restore, give_back_at_once};
pub use explained::{OfCondition, OfSource, Said, explained};
pub use fault::{EvalError, Fault};
pub use interest::{Concern, Interest};
pub use near::NearMiss;
pub use silences::fault_of_silence;
pub use state::Progress;
pub use timetable::{Due, Timetable, TimetableFault, timetables};
pub use writes::Released;
