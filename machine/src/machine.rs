//! A machine: harts on host threads, devices on a bus, and the power switch between them.
//!
//! While the machine is paused it owns its harts; while it runs each hart's thread does. So nothing can touch a hart
//! that runs, by construction: [`Machine::pause`] asks every thread to stop at an instruction boundary and takes the
//! harts back.

use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bus::{AddressSpace, Clock, PowerRequest, PowerSwitch, StateError};
use cpu::{Difference, Engine, HartBox, HartShared, HartState, SingleStep, Stop, event};
use crossbeam::channel::{Receiver, Sender};
use firmware::sbi::{Fence, Outcome, Sbi, SbiState};
use serde::{Deserialize, Serialize};

use crate::semihosting::{self, Semihosting};

/// What a running machine tells its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest pressed the power switch; its harts have been told to pause.
    Power(PowerRequest),
    /// The user wants to leave at once: the console's escape key, a signal.
    Quit,
    /// The user wants the guest to shut down: another escape key, other signals.
    PowerKey,
    /// The user wants a debugger to be able to connect: an escape key, a signal.
    Debugger,
    /// A page that is being watched was written.
    Watch,
    /// A hart has stopped for the debugger, or by a difference in lockstep, in the run of this number
    /// ([`Machine::run_number`]).
    Stopped(u64),
    /// A hart's thread ended with a panic: a bug of the emulator.
    Crashed(u64),
}

/// Why a machine's operation failed.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The host gave no thread.
    #[error("the host cannot start a thread for hart {hart}: {source}")]
    Thread {
        /// Number of the hart.
        hart: u64,
        /// The host's reason.
        source: std::io::Error,
    },
    /// A hart's thread panicked.
    #[error("hart {0} ended by an internal error; the guest cannot go on")]
    HartCrashed(u64),
    /// A state could not be saved or restored.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The sending half of a machine's events: what the console, signals and devices hold.
#[derive(Clone)]
pub struct Events {
    sender: Sender<Event>,
    harts: Arc<[Arc<HartShared>]>,
}

impl Events {
    /// Sends an event; a machine that is gone does not hear it.
    pub fn send(&self, event: Event) {
        let _ = self.sender.send(event);
    }

    /// A power switch that stops all harts and tells the machine's owner.
    pub fn power_switch(&self) -> PowerSwitch {
        let events = self.clone();
        PowerSwitch::new(move |request| {
            for hart in events.harts.iter() {
                hart.raise(event::PAUSE);
            }
            events.send(Event::Power(request));
        })
    }
}

/// One hart with the engine that runs it.
pub struct Core {
    /// The hart.
    pub hart: HartBox,
    /// Its engine.
    pub engine: Engine,
    /// Why it stopped in the last run, if that was for the debugger's sake; [`Stop::Budget`] is a step that is done.
    pub stop: Option<Stop>,
    /// The `pc` at which the debugger was told of a breakpoint or a watchpoint: going on from there passes it.
    pub told: Option<u64>,
    /// The remote fence that it waits for.
    fence: Option<Fence>,
    /// The semihosting call that it waits for, and the address of its `ebreak`, where `pc` is meanwhile.
    call: Option<(u64, semihosting::Call)>,
}

/// What a hart does while the machine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// It runs.
    #[default]
    Run,
    /// It executes an instruction, and more as long as `pc` is in the range, and stops for the debugger.
    Step {
        /// Virtual addresses; none for a single instruction.
        within: Range<u64>,
        /// Whether interrupts wait.
        masks_interrupts: bool,
    },
    /// It executes nothing, but answers the other harts.
    Rest,
}

impl Core {
    /// A hart with a fresh engine.
    pub fn new(hart: HartBox, engine: Engine) -> Self {
        Self { hart, engine, stop: None, told: None, fence: None, call: None }
    }
}

/// What all harts' threads share.
struct Common {
    sbi: Option<Sbi>,
    semihosting: Option<Semihosting>,
    power: PowerSwitch,
    events: Events,
}

/// Everything of a machine, serialised.
#[derive(Serialize, Deserialize)]
pub struct MachineState {
    /// The clock's ticks.
    time: u64,
    harts: Vec<HartState>,
    sbi: Option<SbiState>,
    /// Name, address and state of each device.
    devices: Vec<(String, u64, Vec<u8>)>,
    /// Pages of RAM that are not zero: number and bytes.
    pages: Vec<(u64, Vec<u8>)>,
}

/// A machine.
pub struct Machine {
    bus: Arc<AddressSpace>,
    clock: Clock,
    harts: Arc<[Arc<HartShared>]>,
    common: Arc<Common>,
    received: Receiver<Event>,
    /// The harts, while paused.
    cores: Vec<Core>,
    /// Their threads, while running.
    threads: Vec<JoinHandle<Core>>,
    /// Counts the starts.
    run_number: u64,
}

/// The channel and the harts' shared parts, made before the devices that need them.
pub struct Wiring {
    /// The shared parts of the harts.
    pub harts: Arc<[Arc<HartShared>]>,
    /// Where devices and the console send events.
    pub events: Events,
    pub(crate) received: Receiver<Event>,
}

impl Wiring {
    /// Wiring for `count` harts.
    pub fn new(count: u64) -> Self {
        let (sender, received) = crossbeam::channel::unbounded();
        let harts: Arc<[_]> = (0..count).map(|id| Arc::new(HartShared::new(id))).collect();
        Self { events: Events { sender, harts: harts.clone() }, harts, received }
    }
}

impl Machine {
    /// Puts a machine together, paused, its devices and harts in their reset state.
    pub fn new(
        wiring: Wiring,
        bus: Arc<AddressSpace>,
        clock: Clock,
        cores: Vec<Core>,
        sbi: Option<Sbi>,
        semihosting: Option<Semihosting>,
    ) -> Self {
        clock.pause();
        let Wiring { harts, events, received } = wiring;
        for hart in harts.iter() {
            hart.set_running(false);
        }
        let common = Arc::new(Common { sbi, semihosting, power: events.power_switch(), events });
        Self { bus, clock, harts, common, received, cores, threads: Vec::new(), run_number: 0 }
    }

    /// The physical address space.
    pub fn bus(&self) -> &Arc<AddressSpace> {
        &self.bus
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Where events can be sent to.
    pub fn events(&self) -> &Events {
        &self.common.events
    }

    /// The built-in SBI, if the machine has it.
    pub fn sbi(&self) -> Option<&Sbi> {
        self.common.sbi.as_ref()
    }

    /// The harts; empty while the machine runs.
    pub fn cores(&mut self) -> &mut [Core] {
        &mut self.cores
    }

    /// What a hart in lockstep has stopped by. The machine must be paused.
    pub fn take_difference(&mut self) -> Option<Box<Difference>> {
        self.cores.iter_mut().find_map(|core| core.hart.take_difference())
    }

    /// How many harts there are.
    pub fn harts(&self) -> usize {
        self.harts.len()
    }

    /// Whether the harts' threads run.
    pub fn is_running(&self) -> bool {
        !self.threads.is_empty()
    }

    /// The number of the current run, or of the last one.
    pub fn run_number(&self) -> u64 {
        self.run_number
    }

    /// Where events arrive, for who waits for other things as well.
    pub fn received(&self) -> &Receiver<Event> {
        &self.received
    }

    /// Starts the harts' threads, the clock and the devices.
    ///
    /// # Errors
    /// The host gives no threads; the machine stays paused.
    pub fn start(&mut self) -> Result<(), MachineError> {
        self.start_with(&[])
    }

    /// Starts the machine with an order for each hart; harts without one run.
    ///
    /// # Errors
    /// The host gives no threads; the machine stays paused.
    pub fn start_with(&mut self, orders: &[Order]) -> Result<(), MachineError> {
        if self.is_running() {
            return Ok(());
        }
        self.run_number += 1;
        for hart in self.harts.iter() {
            hart.withdraw(event::PAUSE);
            hart.set_running(true);
        }
        for mapped in self.bus.devices() {
            mapped.device.resume();
        }
        self.clock.resume();
        for (index, mut core) in std::mem::take(&mut self.cores).into_iter().enumerate() {
            core.stop = None;
            let (order, run_number) = (orders.get(index).cloned().unwrap_or_default(), self.run_number);
            let hart = core.hart.shared().id();
            let common = self.common.clone();
            let thread = std::thread::Builder::new().name(format!("hart {hart}"));
            match thread.spawn(move || run_hart(core, &common, order, run_number)) {
                Ok(thread) => self.threads.push(thread),
                Err(source) => {
                    // The core went with the closure: what is left cannot go on without it.
                    let _ = self.pause();
                    return Err(MachineError::Thread { hart, source });
                }
            }
        }
        Ok(())
    }

    /// Stops all harts at an instruction boundary, then devices and clock.
    ///
    /// # Errors
    /// A hart's thread has panicked.
    pub fn pause(&mut self) -> Result<(), MachineError> {
        if !self.is_running() {
            return Ok(());
        }
        for hart in self.harts.iter() {
            hart.raise(event::PAUSE);
        }
        let mut crashed = None;
        for (id, thread) in std::mem::take(&mut self.threads).into_iter().enumerate() {
            match thread.join() {
                Ok(core) => self.cores.push(core),
                Err(_) => crashed = Some(id as u64),
            }
        }
        for core in &mut self.cores {
            core.hart.serve_requests();
        }
        // A hart that was waiting for others' answers has them now: a paused machine has no fence under way, and there
        // is none to be saved.
        for core in &mut self.cores {
            core.fence.take_if(|fence| fence.is_complete());
        }
        self.clock.pause();
        for mapped in self.bus.devices() {
            mapped.device.pause();
        }
        for hart in self.harts.iter() {
            hart.withdraw(event::PAUSE);
            hart.set_running(false);
        }
        crashed.map_or(Ok(()), |hart| Err(MachineError::HartCrashed(hart)))
    }

    /// Waits for the next event; `None` after the timeout.
    pub fn wait(&self, timeout: Option<Duration>) -> Option<Event> {
        match timeout {
            None => self.received.recv().ok(),
            Some(timeout) => self.received.recv_timeout(timeout).ok(),
        }
    }

    /// Puts devices and harts into their reset state and forgets what the guest has sent before; the user's wishes
    /// are kept. The machine must be paused; RAM keeps what it has.
    pub fn reset(&mut self) {
        let wishes: Vec<_> = self
            .received
            .try_iter()
            .filter(|event| matches!(event, Event::Quit | Event::PowerKey | Event::Debugger))
            .collect();
        for wish in wishes {
            self.common.events.send(wish);
        }
        for mapped in self.bus.devices() {
            mapped.device.reset();
        }
        for core in &mut self.cores {
            core.hart.reset();
            (core.stop, core.told, core.fence, core.call) = (None, None, None, None);
        }
        if let Some(sbi) = &self.common.sbi {
            sbi.reset();
        }
        if let Some(semihosting) = &self.common.semihosting {
            semihosting.reset();
        }
    }

    /// Has the boot hart of the paused machine start at `entry` on the built-in SBI, with the address of the device
    /// tree. Does nothing on a machine without.
    pub fn enter_supervisor(&mut self, entry: u64, device_tree: u64) {
        if let (Some(sbi), Some(core)) = (&self.common.sbi, self.cores.first_mut()) {
            sbi.boot(&mut core.hart, entry, device_tree);
        }
    }

    /// Runs one hart on this thread, for at most `budget` instructions: SBI calls are answered, `wfi` waits. The
    /// machine must be paused; the clock and the devices run meanwhile only if the caller lets them.
    pub fn run_hart(&mut self, index: usize, budget: u64) -> Stop {
        let common = self.common.clone();
        run_core(&mut self.cores[index], &common, budget)
    }

    /// Serialises the paused machine.
    ///
    /// # Errors
    /// A device cannot be saved.
    pub fn save(&mut self) -> Result<MachineState, MachineError> {
        self.pause()?;
        let devices = self.bus.devices().iter();
        let devices = devices
            .map(|mapped| Ok((mapped.device.name().to_owned(), mapped.base, mapped.device.save()?)))
            .collect::<Result<_, StateError>>()?;
        let ram = self.bus.ram();
        let mut page = vec![0; bus::PAGE_SIZE as usize];
        let mut pages = Vec::new();
        for number in 0..ram.size() / bus::PAGE_SIZE {
            if ram.read(ram.base() + number * bus::PAGE_SIZE, &mut page).is_some() && page.iter().any(|byte| *byte != 0)
            {
                pages.push((number, page.clone()));
            }
        }
        Ok(MachineState {
            time: self.clock.now(),
            harts: self.cores.iter().map(|core| core.hart.save()).collect(),
            sbi: self.common.sbi.as_ref().map(Sbi::save),
            devices,
            pages,
        })
    }

    /// Takes over the state of a machine with the same board. The machine must be fresh and paused; after an error it
    /// is of no use.
    ///
    /// # Errors
    /// The state is of another board, or damaged.
    pub fn restore(&mut self, state: MachineState) -> Result<(), MachineError> {
        let MachineState { time, harts, sbi, devices, pages } = state;
        let mismatch = |reason: &str| StateError::Mismatch { device: "machine".into(), reason: reason.into() };
        let here: Vec<_> = self.bus.devices().iter().map(|m| (m.device.name(), m.base)).collect();
        let there: Vec<_> = devices.iter().map(|(name, base, _)| (name.as_str(), *base)).collect();
        if here != there || harts.len() != self.cores.len() {
            return Err(mismatch("it was saved on a machine with other devices or harts").into());
        }
        self.clock.set(time);
        let ram = self.bus.ram();
        // A fresh machine holds what it is to start; the guest may have zeroed that since.
        let zero = [0; bus::PAGE_SIZE as usize];
        let mut page = zero;
        for number in 0..ram.size() / bus::PAGE_SIZE {
            let address = ram.base() + number * bus::PAGE_SIZE;
            if ram.read(address, &mut page).is_some() && page != zero {
                ram.write(address, &zero);
            }
        }
        for (number, bytes) in pages {
            let address = number.checked_mul(bus::PAGE_SIZE).and_then(|offset| offset.checked_add(ram.base()));
            let address = address.ok_or_else(|| mismatch("a page lies outside of RAM"))?;
            ram.write(address, &bytes).ok_or_else(|| mismatch("a page lies outside of RAM"))?;
        }
        for (mapped, (_, _, state)) in self.bus.devices().iter().zip(&devices) {
            mapped.device.restore(state)?;
        }
        for (core, state) in self.cores.iter_mut().zip(harts) {
            core.hart.restore(state)?;
        }
        match (&self.common.sbi, sbi) {
            (Some(sbi), Some(state)) => sbi.restore(state)?,
            (None, None) => {}
            _ => return Err(mismatch("one of the machines has the built-in SBI, the other has not").into()),
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = self.pause() {
            tracing::error!("{error}");
        }
    }
}

/// A hart's thread: does as it is told until a pause, or until it stops for the debugger.
fn run_hart(mut core: Core, common: &Common, order: Order, run_number: u64) -> Core {
    /// Tells the owner when the thread unwinds.
    struct OnPanic<'a>(&'a Common, u64);
    impl Drop for OnPanic<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.events.send(Event::Crashed(self.1));
            }
        }
    }
    let _guard = OnPanic(common, core.hart.shared().id());
    let stop = match order {
        Order::Run => run_on(&mut core, common),
        Order::Step { within, masks_interrupts } => step_within(&mut core, common, &within, masks_interrupts),
        Order::Rest => loop {
            if let Some(Stop::Pause) = core.hart.rest() {
                break Stop::Pause;
            }
        },
    };
    if stop != Stop::Pause {
        core.stop = Some(stop);
        common.events.send(Event::Stopped(run_number));
    }
    core
}

/// Runs a hart until a pause, a breakpoint or a watchpoint.
fn run_on(core: &mut Core, common: &Common) -> Stop {
    if core.told == Some(core.hart.pc()) {
        let pass = SingleStep { ignores_breakpoint: true, ignores_watchpoints: true, masks_interrupts: true };
        // Where gdb steps by breakpoints it puts one at the next instruction and lets no other hart run: it has to be
        // met before an interrupt's handler can come to wait for one of them.
        let next = SingleStep { masks_interrupts: true, ..SingleStep::default() };
        for step in [pass, next] {
            match step_core(core, common, step) {
                Stop::Budget => core.told = None,
                stop => return stop,
            }
        }
    }
    core.told = None;
    loop {
        match run_core(core, common, u64::MAX) {
            stop @ (Stop::Pause | Stop::Breakpoint | Stop::Watchpoint { .. } | Stop::Difference) => return stop,
            Stop::Watch => common.events.send(Event::Watch),
            Stop::Budget | Stop::EnvironmentCall | Stop::Semihosting | Stop::WaitForInterrupt => {}
        }
    }
}

/// Executes one instruction, and more while `pc` is in the range: [`Stop::Budget`], or what ended it before.
fn step_within(core: &mut Core, common: &Common, within: &Range<u64>, masks_interrupts: bool) -> Stop {
    let ignores_watchpoints = core.told == Some(core.hart.pc());
    let mut step = SingleStep { ignores_breakpoint: true, ignores_watchpoints, masks_interrupts };
    loop {
        match step_core(core, common, step) {
            Stop::Budget if within.contains(&core.hart.pc()) => {}
            Stop::Pause => return Stop::Pause,
            stop => {
                core.told = None;
                return stop;
            }
        }
        core.told = None;
        step = SingleStep { masks_interrupts, ..SingleStep::default() };
    }
}

/// Has a hart execute one instruction, SBI calls included; `wfi` does not wait. [`Stop::Budget`] if it did.
fn step_core(core: &mut Core, common: &Common, step: SingleStep) -> Stop {
    if has_call(core) {
        return finish_call(core, common).unwrap_or(Stop::Budget);
    }
    if let Some(stop) = make_ready(core, common) {
        return stop;
    }
    match core.engine.step(&mut core.hart, step) {
        Stop::EnvironmentCall => {
            answer(core, common);
            // The step is done when the call is, even if the hart is to rest now.
            finish_fence(core).unwrap_or(Stop::Budget)
        }
        Stop::Semihosting => {
            begin_call(core);
            finish_call(core, common).unwrap_or(Stop::Budget)
        }
        Stop::WaitForInterrupt => Stop::Budget,
        stop => stop,
    }
}

/// Runs a hart until it has to stop for its owner's sake.
fn run_core(core: &mut Core, common: &Common, budget: u64) -> Stop {
    let limit = core.hart.counts().retired.saturating_add(budget);
    loop {
        if let Some(stop) = make_ready(core, common) {
            return stop;
        }
        let left = limit.saturating_sub(core.hart.counts().retired);
        match core.engine.run(&mut core.hart, left) {
            Stop::EnvironmentCall => answer(core, common),
            Stop::Semihosting => begin_call(core),
            Stop::WaitForInterrupt => {
                while !core.hart.has_pending_interrupt() {
                    if let Some(stop) = core.hart.rest() {
                        return stop;
                    }
                }
            }
            stop => return stop,
        }
    }
}

/// Waits until a hart may execute instructions: its remote fence is complete, its semihosting call has been answered,
/// and the SBI has started it.
fn make_ready(core: &mut Core, common: &Common) -> Option<Stop> {
    if let Some(stop) = finish_fence(core).or_else(|| finish_call(core, common)) {
        return Some(stop);
    }
    if let Some(sbi) = &common.sbi {
        // A stopped or suspended hart rests: it serves what others ask of it and looks again after each event.
        while !sbi.wake(&mut core.hart) {
            if let Some(stop) = core.hart.rest() {
                return Some(stop);
            }
        }
    }
    None
}

/// Waits until the remote fence of a hart is complete, if it has one under way.
fn finish_fence(core: &mut Core) -> Option<Stop> {
    if let Some(waiting) = &core.fence {
        if !waiting.wait(&mut core.hart) {
            return Some(Stop::Pause);
        }
        core.fence = None;
    }
    None
}

/// Begins the semihosting call that has just stopped a hart: `pc` goes back to its `ebreak` until it is answered.
fn begin_call(core: &mut Core) {
    let address = core.hart.pc().wrapping_sub(4);
    core.hart.set_pc(address);
    core.call = Some((address, semihosting::Call::default()));
}

/// Whether a hart has a semihosting call under way. A debugger that moves it elsewhere has it forget the call.
fn has_call(core: &mut Core) -> bool {
    let pc = core.hart.pc();
    core.call.take_if(|(address, _)| *address != pc);
    core.call.is_some()
}

/// Waits until the semihosting call of a hart has been answered, if it has one under way.
fn finish_call(core: &mut Core, common: &Common) -> Option<Stop> {
    let semihosting = common.semihosting.as_ref()?;
    let (address, mut call) = if has_call(core) { core.call.take()? } else { return None };
    loop {
        match semihosting.answer(&mut core.hart, &mut call) {
            semihosting::Outcome::Wait => {
                if let Some(stop) = core.hart.rest() {
                    core.call = Some((address, call));
                    return Some(stop);
                }
                continue;
            }
            semihosting::Outcome::Exit(code) => common.power.press(PowerRequest::Off(code)),
            semihosting::Outcome::Done => {}
        }
        core.hart.set_pc(address.wrapping_add(4));
        return None;
    }
}

/// Answers the `ecall` that has just stopped a hart.
fn answer(core: &mut Core, common: &Common) {
    let Some(sbi) = &common.sbi else { return };
    match sbi.call(&mut core.hart) {
        Outcome::Continue | Outcome::Rest => {}
        Outcome::Fence(waiting) => core.fence = Some(waiting),
        Outcome::Power(request) => common.power.press(request),
    }
}
