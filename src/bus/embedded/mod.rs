//! The embedded bus.
/// How long a record that nobody waits for may stay unsynced.
pub const LINGER: std::time::Duration = std::time::Duration::from_millis(50);
/// The largest record, in bytes.
pub const MAX_RECORD: usize = 8 << 20;
