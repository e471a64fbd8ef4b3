//! Log lines on standard error, as text or JSON.

use std::error::Error;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, Own};

/// Starts logging; panics are logged too.
///
/// # Errors
/// When logging was started before.
pub(super) fn start(own: &Own) -> Result<(), Box<dyn Error>> {
    let filter: Targets = own.log_level.parse()?;
    // A log that cannot be written (a full disk, a reader that is gone) is not to be reported there: that would panic.
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).log_internal_errors(false);
    let lines = lines.with_max_level(LevelFilter::TRACE);
    let started = match own.log_format {
        LogFormat::Text => lines.finish().with(filter).try_init(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(true).with_span_list(false);
            lines.finish().with(filter).try_init()
        }
    };
    started?;
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
