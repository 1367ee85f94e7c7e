//! How a guest is asked to shut down, and who ended a run.

use std::io::Write;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, at, never};
use devices::virtio::input::PowerKey;

/// Who ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest, with this exit code.
    Guest(u8),
    /// The user.
    User,
}

/// The power key, and how long the guest may take when it is pressed.
pub struct Shutdown {
    key: PowerKey,
    grace: Duration,
    /// Set once the guest has been asked: until then it may.
    deadline: Option<Instant>,
}

/// So far away that it never comes.
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

impl Shutdown {
    /// A guest with this power key gets `grace` to shut down.
    pub fn new(key: PowerKey, grace: Duration) -> Self {
        Self { key, grace, deadline: None }
    }

    /// Whether the guest has been asked.
    pub(crate) fn is_under_way(&self) -> bool {
        self.deadline.is_some()
    }

    /// Presses the key. False if the guest has been asked before, or does not listen: then it ends at once.
    pub(crate) fn ask(&mut self) -> bool {
        if self.is_under_way() || !self.key.press() {
            return false;
        }
        tell("the guest has been asked to shut down; asked again, or by Ctrl-A x, it ends at once");
        self.deadline = Some(Instant::now().checked_add(self.grace).unwrap_or_else(|| Instant::now() + A_YEAR));
        true
    }

    /// Receives something when the time is over.
    pub(crate) fn over(&self) -> Receiver<Instant> {
        self.deadline.map_or_else(never, at)
    }

    /// The time is over.
    pub(crate) fn give_up(&self) {
        tell(&format!("the guest has not shut down within {} s and ends now", self.grace.as_secs()));
    }
}

/// A message to the user, who may have gone.
pub(crate) fn tell(message: &str) {
    let _ = writeln!(std::io::stderr(), "vervet: {message}");
}
