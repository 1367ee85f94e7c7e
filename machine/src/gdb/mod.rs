//! Debugging by gdb: a server of its remote serial protocol (gdb's manual, appendix "Remote Protocol").
//!
//! The protocol's packets are the `gdbstub` crate's business, below it is `wire`, which makes packets of bytes,
//! acknowledges them and lets nothing through that is damaged, and beyond it `target`, which is the machine as gdb
//! sees it: a process with a thread per hart, all of which stop together.
//!
//! **Threads.** All of this happens on the thread that owns the machine ([`supervise`]); the server's own threads only
//! accept connections and read. While a debugger looks at the machine, it is paused, and its harts are at hand.
//!
//! **A client that is gone** leaves nothing behind: its breakpoints vanish and the guest goes on.

mod arch;
mod client;
mod memory;
mod monitor;
mod server;
mod target;
mod transfer;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::PowerRequest;
use cpu::{Difference, Stop};
use crossbeam::channel::{Receiver, never};
use crossbeam::select;
use devices::virtio::input::PowerKey;
use gdbstub::common::{Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;

use crate::board::virt::Board;
use crate::shutdown::tell;
use crate::{End, Event, MachineError, Shutdown};
use client::{Client, Next};
pub use server::{Address, Server, ServerError};
use server::{Message, Stream};
use target::Target;

/// Why a machine's supervision failed.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// The machine failed.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A hart's thread ended with a panic.
    #[error("hart {0} ended by an internal error")]
    Crashed(u64),
    /// The engines differ.
    #[error(transparent)]
    Difference(#[from] Box<Difference>),
}

/// Runs the machine until its guest, its user or a debugger ends it. With `waits`, it starts only when a debugger says so.
///
/// # Errors
/// The host gives no threads, or a hart failed.
pub fn supervise(
    board: &mut Board,
    server: Option<&Server>,
    waits: bool,
    shutdown: Shutdown,
) -> Result<End, SuperviseError> {
    if !waits {
        board.machine.start()?;
    }
    let events = board.machine.received().clone();
    let mut supervisor = Supervisor { target: Target::new(board), client: None, shutdown, server, opened: None };
    let end = supervisor.run(&events)?;
    supervisor.target.board.machine.pause()?;
    Ok(end)
}

/// Has a debugger attach to the paused machine that sends these `parts` without listening, and leaves; what it was
/// answered. For those who look for what no debugger would send. The machine is paused again afterwards.
///
/// # Errors
/// As for [`supervise`].
pub fn converse(board: &mut Board, parts: &[&[u8]]) -> Result<Vec<u8>, SuperviseError> {
    const ID: u64 = 0;
    let shutdown = Shutdown::new(PowerKey::default(), Duration::ZERO);
    let mut supervisor = Supervisor { target: Target::new(board), client: None, shutdown, server: None, opened: None };
    let stream = Arc::new(Stream::Script(Mutex::default()));
    let parts = parts.iter().map(|part| Message::Data(ID, part.to_vec()));
    let messages = std::iter::once(Message::Connected(ID, stream.clone())).chain(parts).chain([Message::Closed(ID)]);
    'conversation: for message in messages {
        let mut end = supervisor.message(message)?;
        // What a running machine tells.
        loop {
            if end.is_some() {
                break 'conversation;
            }
            let machine = &supervisor.target.board.machine;
            let patience = if machine.is_running() { Duration::from_micros(100) } else { Duration::ZERO };
            let Some(event) = machine.wait(Some(patience)) else { break };
            end = supervisor.event(event)?;
        }
    }
    supervisor.client = None;
    supervisor.target.board.machine.pause()?;
    supervisor.target.forget_debugger();
    drop(supervisor);
    match Arc::into_inner(stream) {
        Some(Stream::Script(sent)) => Ok(sent.into_inner().unwrap_or_else(PoisonError::into_inner)),
        _ => Ok(Vec::new()),
    }
}

/// The machine, and the debugger that is attached to it.
struct Supervisor<'b> {
    target: Target<'b>,
    client: Option<Client<'b>>,
    shutdown: Shutdown,
    /// Where debuggers connect from the start.
    server: Option<&'b Server>,
    /// Where they connect since the user asked for it.
    opened: Option<Server>,
}

impl Supervisor<'_> {
    fn run(&mut self, events: &Receiver<Event>) -> Result<End, SuperviseError> {
        // A server that is gone brings nobody any more.
        let mut silent = false;
        loop {
            let over = self.shutdown.over();
            let messages = match self.server() {
                Some(server) if !silent => server.messages().clone(),
                _ => never(),
            };
            let end = select! {
                recv(events) -> event => match event {
                    Ok(event) => self.event(event)?,
                    Err(_) => Some(End::User),
                },
                recv(over) -> _ => {
                    self.shutdown.give_up();
                    Some(End::User)
                },
                recv(messages) -> message => match message {
                    Ok(message) => self.message(message)?,
                    Err(_) => {
                        silent = true;
                        None
                    }
                },
            };
            if let Some(end) = end {
                let code = if let End::Guest(code) = end { code } else { 0 };
                self.report(MultiThreadStopReason::Exited(code));
                return Ok(end);
            }
        }
    }

    fn server(&self) -> Option<&Server> {
        self.server.or(self.opened.as_ref())
    }

    /// Has debuggers find a server, and the user know where.
    fn open_server(&mut self) {
        if self.server().is_none() {
            match Server::open() {
                Ok(server) => self.opened = Some(server),
                Err(error) => tell(&error.to_string()),
            }
        }
        if let Some(server) = self.server() {
            server.announce();
        }
    }

    /// Something happened in the machine. Who ends it, if that does.
    fn event(&mut self, event: Event) -> Result<Option<End>, SuperviseError> {
        let machine = &mut self.target.board.machine;
        match event {
            Event::Power(PowerRequest::Off(code)) => return Ok(Some(End::Guest(code))),
            // It has shut down; nobody wants it to begin again.
            Event::Power(PowerRequest::Reset) if self.shutdown.is_under_way() => return Ok(Some(End::Guest(0))),
            Event::Power(PowerRequest::Reset) => {
                let running = machine.is_running();
                machine.pause()?;
                self.target.board.reset();
                if running {
                    self.target.board.machine.start()?;
                }
            }
            Event::PowerKey if self.shutdown.ask() => {}
            Event::Quit | Event::PowerKey => return Ok(Some(End::User)),
            Event::Debugger => self.open_server(),
            Event::Watch => {}
            Event::Stopped(run) => {
                // Harts that stop together each tell of it; the first one counts.
                if run == machine.run_number() && machine.is_running() {
                    machine.pause()?;
                    if let Some(difference) = machine.take_difference() {
                        return Err(SuperviseError::Difference(difference));
                    }
                    match self.target.stop_reason() {
                        Some(reason) if self.client.is_some() => self.report(reason),
                        _ => self.target.board.machine.start()?,
                    }
                }
            }
            Event::Crashed(hart) => return Err(SuperviseError::Crashed(hart)),
        }
        Ok(None)
    }

    /// Something happened at the server. Who ends the run, if the debugger kills the machine.
    fn message(&mut self, message: Message) -> Result<Option<End>, SuperviseError> {
        match message {
            Message::Connected(id, stream) => self.attach(id, stream)?,
            Message::Data(id, bytes) => {
                let mut bytes = &bytes[..];
                while !bytes.is_empty() {
                    let Some(client) = self.client.as_mut().filter(|client| client.id() == id) else { break };
                    let next = client.receive(&mut self.target, &mut bytes);
                    if let Some(end) = self.follow(next)? {
                        return Ok(Some(end));
                    }
                }
            }
            Message::Closed(id) => {
                if self.client.as_ref().is_some_and(|client| client.id() == id) {
                    self.lose()?;
                }
            }
        }
        Ok(None)
    }

    fn follow(&mut self, next: Next) -> Result<Option<End>, SuperviseError> {
        match next {
            Next::Wait => {}
            Next::Detach => {
                self.lose()?;
                self.target.board.machine.start()?;
            }
            Next::Lost => self.lose()?,
            Next::Kill => return Ok(Some(End::User)),
            Next::Interrupt => {
                self.target.board.machine.pause()?;
                // A hart may have met a breakpoint at the same time. It does so again when it goes on.
                let tid = self.target.current_thread();
                self.report(MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGINT });
            }
        }
        if let Some(orders) = self.target.take_orders() {
            self.target.board.machine.start_with(&orders)?;
        }
        // A command can end the run.
        Ok(self.target.quits().then_some(End::User))
    }

    /// A debugger attaches: the machine stops.
    fn attach(&mut self, id: u64, stream: Arc<Stream>) -> Result<(), SuperviseError> {
        if self.client.is_some() {
            wire::refuse(&stream);
            return Ok(());
        }
        match Client::new(id, stream, &mut self.target) {
            Ok(client) => {
                self.target.board.machine.pause()?;
                self.client = Some(client);
            }
            Err(error) => tracing::warn!("a debugger cannot attach: {error}"),
        }
        Ok(())
    }

    /// The debugger is gone: the guest goes on, unless it waits for one to start it.
    fn lose(&mut self) -> Result<(), SuperviseError> {
        self.client = None;
        self.target.board.machine.pause()?;
        self.target.forget_debugger();
        let machine = &mut self.target.board.machine;
        if machine.run_number() > 0 {
            machine.start()?;
        }
        Ok(())
    }

    fn report(&mut self, reason: MultiThreadStopReason<u64>) {
        if let Some(client) = &mut self.client {
            client.report(&mut self.target, reason);
        }
    }
}

/// The thread that stands for a hart: they count from 1.
fn thread_of(hart: usize) -> Tid {
    Tid::MIN.saturating_add(hart)
}

/// The hart that a thread stands for.
fn hart_of(thread: Tid) -> usize {
    thread.get() - 1
}

/// Whether a hart's stop is at a point that it has to pass when it goes on.
fn is_at_point(stop: Stop) -> bool {
    matches!(stop, Stop::Breakpoint | Stop::Watchpoint { .. })
}
