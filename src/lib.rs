//! Signalbox: event-driven infrastructure for Kubernetes.
//!
//! Data takes one path: sources append events to the log, the engine judges them, the runner carries out what was decided, outcomes go
//! back to the log. Folders stand on levels and use lower ones only; `tests/layers.rs` holds the table.

pub mod actions;
pub mod api;
pub mod app;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod event;
pub mod kubernetes;
pub mod manifest;
pub mod net;
pub mod poison;
pub mod record;
pub mod rule;
pub mod runner;
pub mod server;
pub mod shard;
pub mod sinks;
pub mod sources;
pub mod status;
pub mod telemetry;
pub mod text;
pub mod trial;
