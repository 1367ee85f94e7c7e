//! The machine as gdb sees it: one process with a thread per hart.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use cpu::extension::Extension;
use cpu::{DebugPoints, Hart, Privilege, Stop, WatchKind, Watchpoint};
use gdbstub::common::{Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadRangeStepping, MultiThreadRangeSteppingOps, MultiThreadResume, MultiThreadResumeOps,
    MultiThreadSchedulerLocking, MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps};
use gdbstub::target::ext::breakpoints::{
    self as ext, Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps,
    SwBreakpoint, SwBreakpointOps,
};
use gdbstub::target::ext::memory_map::{MemoryMap, MemoryMapOps};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{self, TargetError, TargetResult};

use super::arch::{Register, Registers, Riscv64, target_description};
use super::memory::memory_map;
use super::{hart_of, is_at_point, thread_of};
use crate::board::virt::Board;
use crate::{Core, Order};

/// EFAULT: there is nothing at the address.
pub(super) const NO_MEMORY: u8 = 14;
/// EINVAL: the register cannot have the value.
const BAD_VALUE: u8 = 22;

/// What a debugger has chosen by monitor commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// Addresses are guest-physical.
    pub physical: bool,
    /// Reading a device's register has the effects that a hart's load has.
    pub effects: bool,
    /// Interrupts are taken while stepping.
    pub interrupts: bool,
}

/// The breakpoints and watchpoints that gdb has inserted; an address may have both kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Points {
    software: BTreeSet<u64>,
    hardware: BTreeSet<u64>,
    watchpoints: Vec<Watchpoint>,
}

/// What a debugger has asked of the harts for the next run.
#[derive(Clone, Debug, Default)]
struct Actions {
    harts: Vec<Option<Order>>,
    /// Whether harts that were not named rest.
    locked: bool,
    /// Whether the machine is to run.
    resume: bool,
}

/// A machine and what its debugger has asked for.
pub(super) struct Target<'b> {
    pub(super) board: &'b mut Board,
    pub(super) settings: Settings,
    points: Points,
    /// What the harts know of the points.
    known: Points,
    actions: Actions,
    /// The hart that the debugger was told of last.
    current: usize,
    /// The hart whose memory was accessed last.
    accessed: Option<usize>,
    /// Whether a command ends the run.
    pub(super) quit: bool,
    description: String,
    memory_map: String,
}

impl<'b> Target<'b> {
    pub(super) fn new(board: &'b mut Board) -> Self {
        Self {
            description: String::new(),
            memory_map: memory_map(board.machine.bus()),
            board,
            settings: Settings::default(),
            points: Points::default(),
            known: Points::default(),
            actions: Actions::default(),
            current: 0,
            accessed: None,
            quit: false,
        }
    }

    /// A hart, if it exists and the machine is paused.
    pub(super) fn core(&mut self, index: usize) -> Option<&mut Core> {
        self.board.machine.cores().get_mut(index)
    }

    fn hart(&mut self, thread: Tid) -> TargetResult<&mut Hart, Self> {
        self.core(hart_of(thread)).map(|core| &mut *core.hart).ok_or(TargetError::NonFatal)
    }

    /// The hart that commands without an own choice are about.
    pub(super) fn current_hart(&mut self) -> Option<&mut Hart> {
        let current = self.current;
        self.core(current).map(|core| &mut *core.hart)
    }

    pub(super) fn current_thread(&self) -> Tid {
        thread_of(self.current)
    }

    /// The hart whose memory has been accessed since this was last asked.
    pub(super) fn take_accessed(&mut self) -> Option<usize> {
        self.accessed.take()
    }

    /// Whether the debugger wants the run to end.
    pub(super) fn quits(&self) -> bool {
        self.quit
    }

    /// The debugger is gone: nothing of what it wanted holds any more. The machine must be paused.
    pub(super) fn forget_debugger(&mut self) {
        self.settings = Settings::default();
        self.points = Points::default();
        self.actions = Actions::default();
        self.tell_points();
        for core in self.board.machine.cores() {
            core.told = None;
        }
    }

    /// Makes the points known to the harts, unless they know them: gdb takes all away at each stop and inserts them
    /// again, which should cost no translation.
    fn tell_points(&mut self) {
        if self.known == self.points {
            return;
        }
        self.known = self.points.clone();
        let Points { software, hardware, watchpoints } = &self.points;
        let breakpoints = software.union(hardware).copied().collect();
        let points = Arc::new(DebugPoints { breakpoints, watchpoints: watchpoints.clone() });
        for core in self.board.machine.cores() {
            core.hart.set_debug_points(&points);
        }
    }

    /// The orders for the harts, if the debugger wants the machine to run.
    pub(super) fn take_orders(&mut self) -> Option<Vec<Order>> {
        let actions = std::mem::take(&mut self.actions);
        if !actions.resume || self.board.machine.is_running() {
            return None;
        }
        self.tell_points();
        let default = if actions.locked { Order::Rest } else { Order::Run };
        let harts = self.board.machine.cores().len();
        Some((0..harts).map(|hart| actions.harts.get(hart).cloned().flatten().unwrap_or(default.clone())).collect())
    }

    fn act(&mut self, thread: Tid, order: Order) {
        // A thread that does not exist has nothing to do.
        let (hart, harts) = (hart_of(thread), self.board.machine.harts());
        if hart < harts {
            self.actions.harts.resize(harts, None);
            self.actions.harts[hart] = Some(order);
        }
    }

    fn step(&self, start: u64, end: u64) -> Order {
        Order::Step { within: start..end, masks_interrupts: !self.settings.interrupts }
    }

    /// Why the machine, now paused, has stopped for the debugger. Of several harts one that has done its step comes
    /// first, then they take turns; what the others met they meet again when they go on.
    pub(super) fn stop_reason(&mut self) -> Option<MultiThreadStopReason<u64>> {
        let harts = self.board.machine.cores().len();
        let current = self.current;
        let turns = (1..=harts).map(|distance| (current + distance) % harts);
        let stepped = turns.clone().find(|index| self.board.machine.cores()[*index].stop == Some(Stop::Budget));
        for index in stepped.into_iter().chain(turns) {
            let Some(core) = self.core(index) else { continue };
            let (Some(stop), pc) = (core.stop, core.hart.pc()) else { continue };
            core.told = is_at_point(stop).then_some(pc);
            self.current = index;
            let tid = thread_of(index);
            return Some(match stop {
                Stop::Breakpoint if self.known.software.contains(&pc) => MultiThreadStopReason::SwBreak(tid),
                Stop::Breakpoint => MultiThreadStopReason::HwBreak(tid),
                Stop::Watchpoint { address, kind } => {
                    MultiThreadStopReason::Watch { tid, kind: protocol_kind(kind), addr: address }
                }
                _ => MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGTRAP },
            });
        }
        None
    }
}

fn protocol_kind(kind: WatchKind) -> ext::WatchKind {
    match kind {
        WatchKind::Read => ext::WatchKind::Read,
        WatchKind::Write => ext::WatchKind::Write,
        WatchKind::Access => ext::WatchKind::ReadWrite,
    }
}

fn watch_kind(kind: ext::WatchKind) -> WatchKind {
    match kind {
        ext::WatchKind::Read => WatchKind::Read,
        ext::WatchKind::Write => WatchKind::Write,
        ext::WatchKind::ReadWrite => WatchKind::Access,
    }
}

/// The part of a document that was asked for.
fn excerpt(document: &str, offset: u64, buffer: &mut [u8]) -> usize {
    let start = usize::try_from(offset).map_or(document.len(), |offset| offset.min(document.len()));
    let rest = &document.as_bytes()[start..];
    let length = rest.len().min(buffer.len());
    buffer[..length].copy_from_slice(&rest[..length]);
    length
}

impl target::Target for Target<'_> {
    type Arch = Riscv64;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, Riscv64, Infallible> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn support_memory_map(&mut self) -> Option<MemoryMapOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(&mut self) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        // Made when it is first asked for: the harts are at hand then.
        if self.description.is_empty()
            && let Some(core) = self.core(0)
        {
            self.description = target_description(&mut core.hart);
        }
        Some(self)
    }
}

impl MultiThreadBase for Target<'_> {
    fn read_registers(&mut self, registers: &mut Registers, thread: Tid) -> TargetResult<(), Self> {
        let hart = self.hart(thread)?;
        let f = hart.has(Extension::F).then(|| std::array::from_fn(|r| hart.f(r)));
        *registers = Registers { x: std::array::from_fn(|r| hart.x(r)), pc: hart.pc(), f };
        Ok(())
    }

    fn write_registers(&mut self, registers: &Registers, thread: Tid) -> TargetResult<(), Self> {
        let hart = self.hart(thread)?;
        let Registers { x, pc, f } = registers;
        for (r, value) in x.iter().enumerate() {
            hart.set_x(r, *value);
        }
        hart.set_pc(*pc);
        for (r, value) in f.iter().flatten().enumerate() {
            hart.write_float_register(r, *value);
        }
        Ok(())
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], thread: Tid) -> TargetResult<usize, Self> {
        self.accessed = Some(hart_of(thread));
        let length = self.read_memory(hart_of(thread), start, data);
        if length == 0 && !data.is_empty() { Err(TargetError::Errno(NO_MEMORY)) } else { Ok(length) }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], thread: Tid) -> TargetResult<(), Self> {
        self.accessed = Some(hart_of(thread));
        self.write_memory(hart_of(thread), start, data).ok_or(TargetError::Errno(NO_MEMORY))
    }

    fn list_active_threads(&mut self, thread_is_active: &mut dyn FnMut(Tid)) -> Result<(), Infallible> {
        (0..self.board.machine.harts()).map(thread_of).for_each(thread_is_active);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl SingleRegisterAccess<Tid> for Target<'_> {
    fn read_register(&mut self, thread: Tid, register: Register, buffer: &mut [u8]) -> TargetResult<usize, Self> {
        let hart = self.hart(thread)?;
        let value = match register {
            Register::X(r) => Some(hart.x(r)),
            Register::Pc => Some(hart.pc()),
            Register::F(r) => hart.has(Extension::F).then(|| hart.f(r)),
            Register::Csr(number) => hart.inspect_csr(number),
            Register::Privilege => Some(hart.privilege() as u64),
        };
        let bytes = value.ok_or(TargetError::NonFatal)?.to_le_bytes();
        buffer.get_mut(..bytes.len()).ok_or(TargetError::NonFatal)?.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write_register(&mut self, thread: Tid, register: Register, value: &[u8]) -> TargetResult<(), Self> {
        let hart = self.hart(thread)?;
        let value = u64::from_le_bytes(value.try_into().map_err(|_| TargetError::Errno(BAD_VALUE))?);
        match register {
            Register::X(r) => hart.set_x(r, value),
            Register::Pc => hart.set_pc(value),
            Register::F(r) if hart.has(Extension::F) => hart.write_float_register(r, value),
            Register::F(_) => return Err(TargetError::NonFatal),
            Register::Csr(number) => hart.edit_csr(number, value).ok_or(TargetError::Errno(BAD_VALUE))?,
            Register::Privilege => {
                let mode = (value < 4).then(|| Privilege::from_bits(value)).flatten();
                hart.set_privilege(mode.ok_or(TargetError::Errno(BAD_VALUE))?);
            }
        }
        Ok(())
    }
}

impl MultiThreadResume for Target<'_> {
    fn resume(&mut self) -> Result<(), Infallible> {
        self.actions.resume = true;
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Infallible> {
        self.actions = Actions::default();
        Ok(())
    }

    // Harts know no signals: one that gdb sends along is not delivered.
    fn set_resume_action_continue(&mut self, thread: Tid, _: Option<Signal>) -> Result<(), Infallible> {
        self.act(thread, Order::Run);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_range_step(&mut self) -> Option<MultiThreadRangeSteppingOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Target<'_> {
    fn set_resume_action_step(&mut self, thread: Tid, _: Option<Signal>) -> Result<(), Infallible> {
        let order = self.step(0, 0);
        self.act(thread, order);
        Ok(())
    }
}

impl MultiThreadRangeStepping for Target<'_> {
    fn set_resume_action_range_step(&mut self, thread: Tid, start: u64, end: u64) -> Result<(), Infallible> {
        let order = self.step(start, end);
        self.act(thread, order);
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Target<'_> {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Infallible> {
        self.actions.locked = true;
        Ok(())
    }
}

impl Breakpoints for Target<'_> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

// Both kinds are the same here: no instruction is replaced. To insert or to remove one twice is no error.
impl SwBreakpoint for Target<'_> {
    fn add_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        self.points.software.insert(address);
        Ok(true)
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        self.points.software.remove(&address);
        Ok(true)
    }
}

impl HwBreakpoint for Target<'_> {
    fn add_hw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        self.points.hardware.insert(address);
        Ok(true)
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        self.points.hardware.remove(&address);
        Ok(true)
    }
}

impl HwWatchpoint for Target<'_> {
    fn add_hw_watchpoint(&mut self, start: u64, length: u64, kind: ext::WatchKind) -> TargetResult<bool, Self> {
        let point = Watchpoint { start, length, kind: watch_kind(kind) };
        if !self.points.watchpoints.contains(&point) {
            self.points.watchpoints.push(point);
        }
        Ok(true)
    }

    fn remove_hw_watchpoint(&mut self, start: u64, length: u64, kind: ext::WatchKind) -> TargetResult<bool, Self> {
        let point = Watchpoint { start, length, kind: watch_kind(kind) };
        self.points.watchpoints.retain(|other| *other != point);
        Ok(true)
    }
}

impl ThreadExtraInfo for Target<'_> {
    fn thread_extra_info(&self, thread: Tid, buffer: &mut [u8]) -> Result<usize, Infallible> {
        Ok(excerpt(&format!("hart {}", hart_of(thread)), 0, buffer))
    }
}

impl TargetDescriptionXmlOverride for Target<'_> {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        buffer: &mut [u8],
    ) -> TargetResult<usize, Self> {
        if annex != b"target.xml" || self.description.is_empty() {
            return Err(TargetError::NonFatal);
        }
        let length = length.min(buffer.len());
        Ok(excerpt(&self.description, offset, &mut buffer[..length]))
    }
}

impl MemoryMap for Target<'_> {
    fn memory_map_xml(&self, offset: u64, length: usize, buffer: &mut [u8]) -> TargetResult<usize, Self> {
        let length = length.min(buffer.len());
        Ok(excerpt(&self.memory_map, offset, &mut buffer[..length]))
    }
}

impl MonitorCmd for Target<'_> {
    fn handle_monitor_cmd(&mut self, command: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), Infallible> {
        self.monitor(&String::from_utf8_lossy(command), &mut out);
        Ok(())
    }
}
