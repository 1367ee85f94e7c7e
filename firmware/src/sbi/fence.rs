//! A remote fence under way.

use std::sync::Arc;

use cpu::{Hart, HartShared, Request, event};

/// Requests to harts that must be served before the caller of a remote fence goes on.
#[must_use]
pub struct Fence(Vec<(Arc<HartShared>, u64)>);

impl Fence {
    /// Nothing to wait for.
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Asks `hart` for the fence.
    pub(super) fn post(&mut self, hart: &Arc<HartShared>, request: Request) {
        self.0.push((hart.clone(), hart.post(request)));
    }

    /// Whether all harts have served their request, or will before they execute anything.
    pub fn is_complete(&self) -> bool {
        self.0.iter().all(|(hart, ticket)| hart.is_served(*ticket))
    }

    /// Waits for the other harts on the thread of `hart`, the caller, and serves what others ask of it meanwhile: two
    /// harts that fence each other do not wait for ever. `false` if the machine wants the hart to pause; it then pauses
    /// as between two instructions, and waits on when it goes on.
    pub fn wait(&self, hart: &mut Hart) -> bool {
        loop {
            hart.serve_requests();
            if self.is_complete() {
                return true;
            }
            if hart.shared().events() & event::PAUSE != 0 {
                return false;
            }
            std::thread::yield_now();
        }
    }
}

impl std::fmt::Debug for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(hart, ticket)| (hart.id(), ticket))).finish()
    }
}
