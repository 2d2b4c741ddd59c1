//! Object changes as events.
