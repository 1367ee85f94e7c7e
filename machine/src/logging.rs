//! Log lines on standard error, limited: a guest that does the same wrong thing a million times fills neither the
//! terminal nor a disk.
//!
//! Each place in the program that logs may write twenty lines in ten seconds. What it has beyond that is counted, and
//! told in one line when the window is over and somebody logs, or at the end.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Lines that one place may write in a window.
const BURST: u32 = 20;

/// How long a window is, from its first line on.
const WINDOW: Duration = Duration::from_secs(10);

/// Writes what is left to tell when it is dropped.
#[must_use]
pub struct Logging(Arc<Limiter>);

/// The crates that a level is about. Others log what only their own developers can read, the JIT's compiler most of all.
const OWN: [&str; 7] = ["vervet", "machine", "cpu", "devices", "bus", "firmware", "packages"];

/// Starts to log to standard error, from the level on that `VERVET_LOG` names: warnings, if it names none.
pub fn start() -> Logging {
    let filter = filter(std::env::var("VERVET_LOG").ok().as_deref());
    let limiter = Arc::new(Limiter::default());
    let format = Limited { format: tracing_subscriber::fmt::format().without_time(), limiter: limiter.clone() };
    tracing_subscriber::fmt().event_format(format).with_env_filter(filter).with_writer(std::io::stderr).init();
    Logging(limiter)
}

/// What is logged. Targets that the user names are taken as they are; a level alone is for our own crates.
fn filter(setting: Option<&str>) -> EnvFilter {
    let given = setting.unwrap_or("warn").trim();
    let Ok(level) = given.parse::<LevelFilter>() else {
        return EnvFilter::try_new(given).unwrap_or_else(|_| EnvFilter::new("warn"));
    };
    let own = OWN.map(|name| format!("{name}={level}")).join(",");
    EnvFilter::new(format!("{},{own}", level.min(LevelFilter::WARN)))
}

impl Drop for Logging {
    fn drop(&mut self) {
        for notice in self.0.finish() {
            eprintln!("{notice}");
        }
    }
}

/// What a place in the program has logged in its window.
struct Window {
    /// Its module.
    module: &'static str,
    since: Instant,
    written: u32,
    suppressed: u64,
}

/// A line that tells of others.
#[derive(Debug, PartialEq, Eq)]
struct Notice {
    module: &'static str,
    suppressed: u64,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { module, suppressed } = self;
        write!(f, "{module}: {suppressed} similar message{} suppressed", if *suppressed == 1 { "" } else { "s" })
    }
}

/// Counts lines by the place that writes them.
#[derive(Default)]
struct Limiter {
    windows: Mutex<HashMap<Identifier, Window>>,
}

impl Limiter {
    /// Whether a place may write a line now, and what is to be told before.
    fn admit(&self, place: Identifier, module: &'static str, now: Instant) -> (bool, Vec<Notice>) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut notices = Vec::new();
        // There are as many as places that have logged lately.
        windows.retain(|_, window| {
            let over = now.saturating_duration_since(window.since) >= WINDOW;
            if over && window.suppressed != 0 {
                notices.push(Notice { module: window.module, suppressed: window.suppressed });
            }
            !over
        });
        let window = windows.entry(place).or_insert(Window { module, since: now, written: 0, suppressed: 0 });
        if window.written == BURST {
            window.suppressed += 1;
            return (false, notices);
        }
        window.written += 1;
        (true, notices)
    }

    /// What has not been told yet.
    fn finish(&self) -> Vec<Notice> {
        let windows = std::mem::take(&mut *self.windows.lock().unwrap_or_else(PoisonError::into_inner));
        let silent = windows.into_values().filter(|window| window.suppressed != 0);
        silent.map(|Window { module, suppressed, .. }| Notice { module, suppressed }).collect()
    }
}

/// A format that leaves out what the limiter does not admit.
struct Limited {
    format: Format<Full, ()>,
    limiter: Arc<Limiter>,
}

impl<S, N> FormatEvent<S, N> for Limited
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let (admitted, notices) = self.limiter.admit(metadata.callsite(), metadata.target(), Instant::now());
        for notice in notices {
            writeln!(writer, "{notice}")?;
        }
        if admitted { self.format.format_event(context, writer, event) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_level_is_for_our_own_crates() {
        let directives = |setting| {
            let text = filter(setting).to_string();
            let mut parts: Vec<String> = text.split(',').map(str::to_owned).collect();
            parts.sort();
            parts
        };
        let debug = directives(Some("debug"));
        assert!(debug.contains(&"warn".into()) && debug.contains(&"cpu=debug".into()), "{debug:?}");
        assert_eq!(debug.len(), 1 + OWN.len());
        assert!(directives(Some("off")).iter().all(|part| part.ends_with("off")));
        assert_eq!(directives(Some("cranelift_codegen=debug,info")), ["cranelift_codegen=debug", "info"]);
        // What is none, and nothing, are warnings.
        for setting in [Some("cpu=loud"), None] {
            assert!(directives(setting).contains(&"warn".into()), "{setting:?}");
        }
    }

    /// A million mistakes make twenty lines; another place still has its own.
    #[test]
    fn a_flood_is_cut_off_and_counted() {
        let (output, limiter) = (Output::default(), Arc::new(Limiter::default()));
        let format = Limited { format: tracing_subscriber::fmt::format().without_time(), limiter: limiter.clone() };
        let written = output.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(format)
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || written.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            for value in 0..1_000_000 {
                tracing::debug!("device: write of {value:#x} ignored");
            }
            tracing::warn!("another");
        });
        let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 21, "{text}");
        assert!(text.contains("write of 0x13 ignored") && !text.contains("write of 0x14 ignored"));
        assert!(text.ends_with("another\n"));
        let notices = limiter.finish();
        assert_eq!(notices, [Notice { module: module_path!(), suppressed: 999_980 }]);
        assert_eq!(notices[0].to_string(), format!("{}: 999980 similar messages suppressed", module_path!()));
        assert_eq!(limiter.finish(), [], "told once");
    }

    #[test]
    fn a_window_that_is_over_is_told_of_and_begins_anew() {
        let places = tracing::metadata!(
            name: "test",
            target: "test",
            level: tracing::Level::DEBUG,
            fields: &[],
            callsite: &CALLSITE,
            kind: tracing::metadata::Kind::EVENT,
        );
        struct Callsite;
        static CALLSITE: Callsite = Callsite;
        impl tracing::Callsite for Callsite {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &tracing::Metadata<'_> {
                unreachable!("nobody asks")
            }
        }
        let (limiter, place, start) = (Limiter::default(), places.callsite(), Instant::now());
        let admit = |seconds| limiter.admit(place.clone(), "test", start + Duration::from_secs(seconds));
        for _ in 0..BURST {
            assert_eq!(admit(0), (true, vec![]));
        }
        assert_eq!(admit(1), (false, vec![]));
        assert_eq!(admit(9), (false, vec![]));
        assert_eq!(admit(10), (true, vec![Notice { module: "test", suppressed: 2 }]));
        assert_eq!(admit(11), (true, vec![]));
        assert_eq!(limiter.finish(), []);
    }
}
