//! Log lines on standard error, as text or JSON.

use std::error::Error;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Own};

/// Starts logging; panics are logged too.
///
/// # Errors
/// When logging was started before.
pub(super) fn start(own: &Own) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_new(&own.log_level)?;
    // A log that cannot be written (a full disk, a reader that is gone) is not to be reported there: that would panic.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let builder = builder.log_internal_errors(false);
    let started = match own.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    started.map_err(|e| e.to_string())?;
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        tracing::error!(at, thread, message, "panic");
    }));
    Ok(())
}
