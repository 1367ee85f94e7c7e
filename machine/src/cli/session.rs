//! The user's side of a run: the terminal, signals, and what the user wants by them: to end the run, to debug it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Context;
use devices::backend::CharacterBackend;
use devices::backend::terminal::{Restorer, Terminal, Wish};

use crate::{Event, Events};

/// The terminal, taken over; it is as before once the session is dropped or the process panics.
pub struct Session {
    terminal: Terminal,
    ending: Arc<Ending>,
}

/// The user's wishes. They can come before there is a machine to tell.
#[derive(Default)]
struct Ending(Mutex<Wishes>);

#[derive(Default)]
struct Wishes {
    spoken: Vec<Wish>,
    /// The signal by which the first one came to end the run.
    signal: Option<i32>,
    /// Who is told.
    events: Option<Events>,
}

fn event(wish: Wish) -> Event {
    match wish {
        Wish::Quit => Event::Quit,
        Wish::PowerKey => Event::PowerKey,
        Wish::Debugger => Event::Debugger,
    }
}

impl Ending {
    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn ask(&self, wish: Wish, signal: Option<i32>) {
        let mut wishes = self.wishes();
        wishes.signal = wishes.signal.or(signal);
        match &wishes.events {
            Some(events) => events.send(event(wish)),
            None => wishes.spoken.push(wish),
        }
    }

    fn connect(&self, events: &Events) {
        let mut wishes = self.wishes();
        wishes.events = Some(events.clone());
        for wish in wishes.spoken.drain(..) {
            events.send(event(wish));
        }
    }
}

impl Session {
    /// Takes over the terminal and the signals that end a process.
    pub fn open() -> anyhow::Result<Self> {
        let ending = Arc::<Ending>::default();
        let heard = ending.clone();
        // Held before the terminal changes: one that comes in between would leave it so.
        let signals = hold_signals().context("signals cannot be handled")?;
        let terminal = Terminal::open(move |wish| heard.ask(wish, None)).context("the terminal cannot be used")?;
        hear_signals(signals, ending.clone(), terminal.restorer()).context("signals cannot be handled")?;
        let restorer = terminal.restorer();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restorer.restore();
            hook(panic);
        }));
        Ok(Self { terminal, ending })
    }

    /// The console behind the terminal.
    pub fn console(&self) -> Arc<dyn CharacterBackend> {
        self.terminal.backend()
    }

    /// Has `events` told of the user's wishes, also of those that are past.
    pub fn connect(&self, events: &Events) {
        self.ending.connect(events);
    }

    /// Restores the terminal, for messages of the emulator's own.
    pub fn restore(&self) {
        self.terminal.restorer().restore();
    }

    /// Restores the terminal. If a signal ended the run, and the guest did not end `by_itself`, the process ends by it
    /// here, so that its parent sees the cause.
    pub fn close(self, by_itself: bool) -> anyhow::Result<()> {
        let signal = self.ending.wishes().signal;
        drop(self);
        match signal {
            Some(signal) if !by_itself => end_by(signal).context("the process cannot end by its signal"),
            _ => Ok(()),
        }
    }
}

#[cfg(unix)]
type HeldSignals = signal_hook::iterator::Signals;

/// Raw mode keeps the keyboard's interrupt from being one; what else ends a process here restores its console itself.
#[cfg(not(unix))]
type HeldSignals = ();

/// The signal that asks for a debugger.
#[cfg(unix)]
const DEBUGGER: i32 = signal_hook::consts::SIGUSR1;

/// Keeps the signals that end a process from doing so, and the terminal's own hang-up if it is in raw mode: without one,
/// `nohup` keeps its meaning.
#[cfg(unix)]
fn hold_signals() -> io::Result<HeldSignals> {
    use std::io::IsTerminal;

    use signal_hook::consts::{SIGHUP, TERM_SIGNALS};

    let hang_up = io::stdin().is_terminal().then_some(SIGHUP);
    HeldSignals::new(TERM_SIGNALS.iter().copied().chain([DEBUGGER]).chain(hang_up))
}

#[cfg(not(unix))]
fn hold_signals() -> io::Result<HeldSignals> {
    Ok(())
}

/// Has `ending` asked by the signals held.
#[cfg(unix)]
fn hear_signals(mut signals: HeldSignals, ending: Arc<Ending>, restorer: Restorer) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGQUIT};

    let thread = std::thread::Builder::new().name("signals".into());
    thread.spawn(move || {
        let mut hung_up = false;
        for signal in signals.forever() {
            if signal == DEBUGGER {
                ending.ask(Wish::Debugger, None);
                continue;
            }
            restorer.give_up();
            match signal {
                SIGQUIT => ending.ask(Wish::Quit, Some(signal)),
                // A terminal is closed once; but its shell, too, passes the news on.
                SIGHUP if std::mem::replace(&mut hung_up, true) => {}
                _ => ending.ask(Wish::PowerKey, Some(signal)),
            }
        }
    })?;
    Ok(())
}

#[cfg(unix)]
fn end_by(signal: i32) -> io::Result<()> {
    signal_hook::low_level::emulate_default_handler(signal)
}

#[cfg(not(unix))]
fn hear_signals(_: HeldSignals, _: Arc<Ending>, _: Restorer) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn end_by(_: i32) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wiring;

    #[test]
    fn a_wish_is_heard_before_and_after_there_is_a_machine() {
        let wiring = Wiring::new(1);
        let ending = Ending::default();
        ending.ask(Wish::PowerKey, Some(15));
        ending.connect(&wiring.events);
        assert_eq!(wiring.received.try_recv(), Ok(Event::PowerKey));
        ending.ask(Wish::Quit, None);
        assert_eq!(wiring.received.try_recv(), Ok(Event::Quit));
        assert!(wiring.received.is_empty());
        assert_eq!(ending.wishes().signal, Some(15), "the first cause stays");
    }
}
