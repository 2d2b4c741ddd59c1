//! Log lines: text or JSON, chosen by a filter.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, Layer as _, Registry, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::LogFormat;

/// Why log lines cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("read the log filter {filter:?}: {source}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else has set up logging in this process.
    #[error("set up log lines: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Writes log lines to standard error from now on, in colours where that is a terminal. `filter` is as `info` or `info,signalbox::sources=debug`.
///
/// # Errors
/// When the filter cannot be read, or when called twice.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(filter).map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    Registry::default().with(lines.with_filter(filter)).try_init()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_refused_by_its_text() {
        let error = init(LogFormat::Json, "signalbox=lots").expect_err("no level");
        assert!(error.to_string().contains("signalbox=lots"), "{error}");
    }
}
