//! Telling the user how far a transfer is: a callback trait and the bar for terminals.

use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Hears how transfers go. Calls come from the thread that fetches.
pub trait Progress: Send + Sync {
    /// Work on `what` begins: a transfer of `bytes` bytes, or work of unknown length.
    fn begin(&self, what: &str, bytes: Option<u64>);
    /// `bytes` more have been done.
    fn advance(&self, bytes: u64);
    /// The work begun last has ended, well or not.
    fn end(&self);
}

/// Says nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &str, _bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
}

/// A progress bar where standard error is a terminal, otherwise a plain line per file.
#[derive(Debug, Default)]
pub struct Terminal {
    bar: Mutex<Option<ProgressBar>>,
}

impl Terminal {
    fn with_bar(&self, f: impl FnOnce(&mut Option<ProgressBar>)) {
        // A panic elsewhere cannot leave the slot half-written: take it as it is.
        f(&mut self.bar.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }
}

impl Progress for Terminal {
    fn begin(&self, what: &str, bytes: Option<u64>) {
        if !std::io::stderr().is_terminal() {
            eprintln!("{what}");
            return;
        }
        let (bar, template) = match bytes {
            Some(bytes) => (
                ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr()),
                "{msg:40!} {wide_bar} {bytes:>10}/{total_bytes:10} {eta:>4}",
            ),
            None => (ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()), "{spinner} {msg} {bytes}"),
        };
        // A template that indicatif refuses would only cost the looks.
        let bar = match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        bar.set_message(what.to_owned());
        self.with_bar(|slot| *slot = Some(bar));
    }

    fn advance(&self, bytes: u64) {
        self.with_bar(|slot| {
            if let Some(bar) = slot {
                bar.inc(bytes);
            }
        });
    }

    fn end(&self) {
        self.with_bar(|slot| {
            if let Some(bar) = slot.take() {
                bar.finish_and_clear();
            }
        });
    }
}
