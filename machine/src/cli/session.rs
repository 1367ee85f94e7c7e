//! The user's side of a run: the terminal, and the ways in which the user ends the run.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Context;
use devices::backend::CharacterBackend;
use devices::backend::terminal::{Restorer, Terminal};

use crate::{Event, Events};

/// The terminal, taken over; it is as before once the session is dropped or the process panics.
pub struct Session {
    terminal: Terminal,
    ending: Arc<Ending>,
}

/// The user's wish to end the run. It can come before there is a machine to tell.
#[derive(Default)]
struct Ending(Mutex<Wish>);

#[derive(Default)]
struct Wish {
    spoken: bool,
    /// The signal by which it came.
    signal: Option<i32>,
    /// Who is told.
    events: Option<Events>,
}

impl Ending {
    fn wish(&self) -> MutexGuard<'_, Wish> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn ask(&self, signal: Option<i32>) {
        let mut wish = self.wish();
        wish.spoken = true;
        wish.signal = wish.signal.or(signal);
        if let Some(events) = &wish.events {
            events.send(Event::Quit);
        }
    }

    fn connect(&self, events: &Events) {
        let mut wish = self.wish();
        wish.events = Some(events.clone());
        if wish.spoken {
            events.send(Event::Quit);
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
        let terminal = Terminal::open(move || heard.ask(None)).context("the terminal cannot be used")?;
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

    /// Has `events` told of the user's wish to end the run, also of one that is past.
    pub fn connect(&self, events: &Events) {
        self.ending.connect(events);
    }

    /// Restores the terminal, for messages of the emulator's own.
    pub fn restore(&self) {
        self.terminal.restorer().restore();
    }

    /// Restores the terminal. If a signal ended the run the process ends by it here, so that its parent sees the cause.
    pub fn close(self) -> anyhow::Result<()> {
        let signal = self.ending.wish().signal;
        drop(self);
        match signal {
            None => Ok(()),
            Some(signal) => end_by(signal).context("the process cannot end by its signal"),
        }
    }
}

#[cfg(unix)]
type HeldSignals = signal_hook::iterator::Signals;

/// Raw mode keeps the keyboard's interrupt from being one; what else ends a process here restores its console itself.
#[cfg(not(unix))]
type HeldSignals = ();

/// Keeps the signals that end a process from doing so, and the terminal's own hang-up if it is in raw mode: without one,
/// `nohup` keeps its meaning.
#[cfg(unix)]
fn hold_signals() -> io::Result<HeldSignals> {
    use std::io::IsTerminal;

    use signal_hook::consts::{SIGHUP, TERM_SIGNALS};

    let hang_up = io::stdin().is_terminal().then_some(SIGHUP);
    HeldSignals::new(TERM_SIGNALS.iter().copied().chain(hang_up))
}

#[cfg(not(unix))]
fn hold_signals() -> io::Result<HeldSignals> {
    Ok(())
}

/// Has `ending` asked by the signals held.
#[cfg(unix)]
fn hear_signals(mut signals: HeldSignals, ending: Arc<Ending>, restorer: Restorer) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("signals".into());
    thread.spawn(move || {
        for signal in signals.forever() {
            restorer.give_up();
            ending.ask(Some(signal));
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
        ending.ask(Some(15));
        ending.connect(&wiring.events);
        assert_eq!(wiring.received.try_recv(), Ok(Event::Quit));
        ending.ask(None);
        assert_eq!(wiring.received.try_recv(), Ok(Event::Quit));
        assert!(wiring.received.is_empty());
        assert_eq!(ending.wish().signal, Some(15), "the first cause stays");
    }
}
