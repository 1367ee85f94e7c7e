//! A hart: its architectural state and what it is connected to.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use bus::{AddressSpace, Alarm, Clock, CodeListener, PAGE_SIZE, PageFlags, Ram, StateError};
use serde::{Deserialize, Serialize};

use crate::counters::{Counts, Watched};
use crate::csr::{Csrs, mstatus};
use crate::debug::Debug;
use crate::extension::{Extension, ExtensionSet};
use crate::lockstep::{Lockstep, Repetition};
use crate::masking::Masking;
use crate::mmu::Access;
use crate::pmp::Pmp;
use crate::shared::{Forget, HartShared, Request, event};
use crate::tlb::{Context, Tlb};
use crate::trap::{Exception, Trap, interrupt};
use crate::{Privilege, Trapped, WatchKind};

/// What a hart can do: fixed when the machine is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The extensions.
    pub extensions: ExtensionSet,
    /// Levels of the widest page table: 3 for Sv39, 4 for Sv48, 5 for Sv57.
    pub page_table_levels: u32,
    /// Whether an S-mode `ecall` stops the hart for the built-in SBI instead of trapping to M-mode.
    pub built_in_sbi: bool,
    /// The least privileged mode whose semihosting calls stop the hart, if there are any: an `ebreak` in their sequence
    /// of instructions is an exception otherwise.
    pub semihosting: Option<Privilege>,
    /// Where the hart starts after a reset.
    pub reset_vector: u64,
}

/// Why a hart's run ended, at an instruction boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The instructions asked for have been executed.
    Budget,
    /// An S-mode `ecall` for the built-in SBI; `pc` is behind it.
    EnvironmentCall,
    /// A semihosting call; `pc` is behind its `ebreak`.
    Semihosting,
    /// `wfi` with nothing pending: the thread may park until an event.
    WaitForInterrupt,
    /// Somebody asked for a pause ([`event::PAUSE`], which stays raised until withdrawn).
    Pause,
    /// A page that is being watched was written.
    Watch,
    /// There is a debugger's breakpoint at `pc`.
    Breakpoint,
    /// The instruction at `pc` is about to access bytes that a debugger watches.
    Watchpoint {
        /// Virtual address of the first of them.
        address: u64,
        /// Which accesses the watchpoint is about.
        kind: WatchKind,
    },
    /// The JIT and the interpreter have differed ([`Hart::take_difference`]); the hart cannot go on.
    Difference,
}

/// Block size in bytes of Zicbom, Zicbop and Zicboz.
pub const CACHE_BLOCK_SIZE: u64 = 64;

/// A reservation made by `lr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub(crate) struct Reservation {
    /// Offset in RAM.
    pub offset: u64,
    /// Bytes: 4 or 8, or 0 if there is no reservation.
    pub width: u64,
    /// What was loaded, zero-extended.
    pub value: u64,
}

/// The register that takes what a decoded instruction writes to `x0`.
pub(crate) const NOWHERE: u8 = 32;

/// A hart. Its thread owns it; others reach [`HartShared`]. The integer registers come first, where translated code reaches
/// them by the shortest encodings.
#[repr(C)]
pub struct Hart {
    /// As many as a register field of a decoded instruction can name, so that nobody has to check it. Beyond the 32
    /// there is only [`NOWHERE`].
    pub(crate) x: [u64; 256],
    pub(crate) f: [u64; 32],
    /// The address of the next instruction; inside a block, of the block.
    pub(crate) pc: u64,
    /// Where the instruction under way goes on.
    pub(crate) next_pc: u64,
    /// The value of `counts.retired` at which the interpreter's chain of blocks ends.
    pub(crate) chain_end: u64,
    pub(crate) privilege: Privilege,
    pub(crate) csr: Csrs,
    pub(crate) pmp: Pmp,
    pub(crate) counts: Counts,
    pub(crate) watched: Watched,
    pub(crate) reservation: Reservation,
    /// SIE's bit if an enabled interrupt may be pending without being taken: then setting SIE, too, is more than a change
    /// of `sstatus`.
    pub(crate) waiting: u64,
    /// Whether the S-mode timer's deadline has been found to have passed.
    pub(crate) timer_is_due: bool,
    /// The trap that the last [`Trapped`] is about.
    pub(crate) trap: Trap,
    /// Why the run ends after this instruction.
    pub(crate) stop: Option<Stop>,
    pub(crate) tlb: Tlb,
    /// What is done to the addresses of loads and stores.
    pub(crate) masking: Masking,
    pub(crate) data_context: Context,
    pub(crate) fetch_context: Context,
    /// Counts what makes decoded code unreachable by virtual address: writes to it.
    pub(crate) code_generation: u64,
    pub(crate) debug: Debug,
    pub(crate) ram: Ram,
    pub(crate) configuration: Configuration,
    #[cfg(feature = "jit")]
    pub(crate) views: crate::mmu::Views,
    #[cfg(feature = "jit")]
    pub(crate) jit: crate::jit::State,
    /// What there is while the interpreter repeats what translated code does.
    pub(crate) lockstep: Option<Box<Lockstep>>,
    /// There is one at the moments when it does.
    pub(crate) repetition: Option<Box<Repetition>>,
    /// The machine's other harts.
    peers: Vec<Arc<HartShared>>,
    bus: Arc<AddressSpace>,
    shared: Arc<HartShared>,
    clock: Clock,
    timer: Alarm,
}

/// The architectural state of a hart, for saving and restoring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HartState {
    x: [u64; 32],
    f: [u64; 32],
    pc: u64,
    privilege: Privilege,
    csr: Csrs,
    pmp: Pmp,
    counts: Counts,
    reservation: Reservation,
    /// Bits of `mip` that come from lines, and SSIP.
    pending: u64,
}

impl Hart {
    /// A hart in its reset state.
    pub(crate) fn new(
        configuration: Configuration,
        shared: Arc<HartShared>,
        bus: Arc<AddressSpace>,
        clock: Clock,
    ) -> Self {
        let listener: Arc<dyn CodeListener> = shared.clone();
        bus.ram().add_code_listener(Arc::downgrade(&listener));
        let ring = shared.clone();
        let timer = clock.alarm(move || ring.raise(event::TIMER | event::INTERRUPT));
        let mut hart = Self {
            x: [0; 256],
            f: [0; 32],
            pc: 0,
            next_pc: 0,
            chain_end: 0,
            privilege: Privilege::Machine,
            csr: Csrs::default(),
            pmp: Pmp::default(),
            counts: Counts::default(),
            watched: Watched::NOTHING,
            reservation: Reservation::default(),
            trap: Trap { exception: Exception::IllegalInstruction, value: 0 },
            stop: None,
            tlb: Tlb::default(),
            masking: Masking::OFF,
            data_context: Context::default(),
            fetch_context: Context::default(),
            code_generation: 0,
            waiting: 0,
            timer_is_due: false,
            debug: Debug::default(),
            ram: bus.ram().clone(),
            configuration,
            #[cfg(feature = "jit")]
            views: crate::mmu::Views::new(bus.ram()),
            #[cfg(feature = "jit")]
            jit: crate::jit::State::default(),
            lockstep: None,
            repetition: None,
            peers: Vec::new(),
            bus,
            shared,
            clock,
            timer,
        };
        hart.reset();
        hart
    }

    /// Back to the reset state (§3.4): M-mode, interrupts and translation off. Bits of `mip` that are levels of
    /// lines follow their devices.
    pub fn reset(&mut self) {
        self.x = [0; 256];
        self.f = [0; 32];
        self.pc = self.configuration.reset_vector;
        self.privilege = Privilege::Machine;
        self.csr = Csrs { stimecmp: u64::MAX, ..Csrs::default() };
        self.pmp = Pmp::default();
        self.reservation = Reservation::default();
        self.stop = None;
        self.shared.change_pending(0, 1 << crate::trap::interrupt::SSI);
        self.forget_translations();
        self.update_triggers();
        self.arm_supervisor_timer();
    }

    /// Whether the hart has an extension.
    #[inline]
    pub fn has(&self, extension: Extension) -> bool {
        self.configuration.extensions.contains(extension)
    }

    /// What the hart can do.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Bits of an instruction address that must be zero: 1 with compressed instructions, else 3.
    #[inline]
    pub(crate) fn instruction_alignment(&self) -> u64 {
        if self.has(Extension::Zca) { 1 } else { 3 }
    }

    /// The part that other threads may touch.
    pub fn shared(&self) -> &Arc<HartShared> {
        &self.shared
    }

    /// The physical address space.
    pub fn bus(&self) -> &Arc<AddressSpace> {
        &self.bus
    }

    /// The machine's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Integer register `r`, 0 to 31.
    ///
    /// # Panics
    /// There is no such register.
    pub fn x(&self, r: usize) -> u64 {
        self.x[r]
    }

    /// Writes integer register `r`; `x0` stays zero.
    pub fn set_x(&mut self, r: usize, value: u64) {
        if r != 0 {
            self.x[r] = value;
        }
    }

    /// The 64 bits of floating-point register `r`, 0 to 31.
    pub fn f(&self, r: usize) -> u64 {
        self.f[r]
    }

    /// Writes floating-point register `r`.
    pub fn set_f(&mut self, r: usize, value: u64) {
        self.f[r] = value;
    }

    /// The address of the next instruction. Only meaningful between runs.
    pub fn pc(&self) -> u64 {
        self.pc
    }

    /// Sets the address of the next instruction.
    pub fn set_pc(&mut self, pc: u64) {
        self.pc = pc & !self.instruction_alignment();
    }

    /// The privilege mode.
    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// Sets the privilege mode.
    pub fn set_privilege(&mut self, privilege: Privilege) {
        self.privilege = privilege;
        self.filter_counters(0);
        self.update_mode();
        self.reconsider_interrupts();
    }

    /// What the hart counts.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The CSRs that are plain storage.
    pub fn csrs(&self) -> &Csrs {
        &self.csr
    }

    /// Opens all of memory to S- and U-mode, as firmware does.
    pub fn open_pmp(&mut self) {
        self.pmp.open();
        self.forget_translations();
    }

    pub(crate) fn set_timer_alarm(&self, deadline: Option<u64>) {
        self.timer.set(deadline);
    }

    /// Re-derives what depends on the privilege, `mstatus` and `satp`.
    pub(crate) fn update_mode(&mut self) {
        if mstatus::SUM.get(self.csr.mstatus) == 0 {
            self.tlb.forget_user_pages();
        }
        self.masking = self.data_masking();
        let data_privilege = self.data_privilege();
        let readable = mstatus::MXR.get(self.csr.mstatus) != 0;
        let data_satp = if self.translates(data_privilege) { self.csr.satp } else { 0 };
        let fetch_satp = if self.translates(self.privilege) { self.csr.satp } else { 0 };
        // Asking for one context may retire the other's number: then both are asked for again.
        loop {
            let generation = self.tlb.generation();
            self.data_context = self.tlb.context(data_satp, data_privilege, readable);
            self.fetch_context = self.tlb.context(fetch_satp, self.privilege, false);
            if self.tlb.generation() == generation {
                break;
            }
        }
    }

    /// Forgets all cached translations.
    pub(crate) fn forget_translations(&mut self) {
        self.tlb.flush();
        self.update_mode();
    }

    /// `sfence.vma` on this hart: for one address or all, for one address space or all.
    pub(crate) fn fence_translations(&mut self, address: Option<u64>, asid: Option<u64>) {
        match (address, asid) {
            (Some(address), asid) => {
                self.tlb.flush_page(address, asid);
            }
            (None, Some(asid)) => self.tlb.flush_asid(asid),
            (None, None) => self.tlb.flush(),
        }
        self.update_mode();
    }

    /// `fence.i` on this hart: stores that other harts made before are seen. Never called inside of translated code,
    /// which others may wait for this hart to leave. Where no code was written that somebody has decoded, nothing is
    /// forgotten: whatever was, has raised [`event::CODE`] by the time that all peers have been heard.
    pub(crate) fn fence_instructions(&mut self) {
        if self.has_peers() {
            self.wait_for_peers();
        }
        if self.shared.take_events(event::CODE) != 0 {
            self.forget_code();
        }
    }

    /// Whether the machine has other harts.
    pub(crate) fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Has code looked at again before it runs.
    fn forget_code(&mut self) {
        self.code_generation += 1;
    }

    /// After a change that may have made an interrupt deliverable: has it taken at the next block boundary.
    pub(crate) fn reconsider_interrupts(&mut self) {
        if self.deliverable_interrupt().is_some() {
            self.shared.raise(event::INTERRUPT);
        }
        self.note_waiting_interrupts();
    }

    /// Keeps [`Hart::waiting`] up to date. Whatever else makes an interrupt pending raises an event, which is polled
    /// for.
    pub(crate) fn note_waiting_interrupts(&mut self) {
        let timer = u64::from(self.timer_is_due) << interrupt::STI;
        let pending = self.shared.pending() | self.csr.software_pending | timer;
        self.waiting = if pending & self.csr.mie != 0 { mstatus::SIE.mask() } else { 0 };
    }

    /// Writes `fflags` and `frm`, which make the floating-point state dirty.
    pub(crate) fn write_float_status(&mut self, flags: u64, rounding: u64) {
        self.csr.fflags = flags;
        self.csr.frm = rounding;
        self.dirty_floats();
    }

    /// Adds flags that the host's floating-point unit has raised for the guest.
    #[cfg(feature = "jit")]
    pub(crate) fn accrue_float_flags(&mut self, flags: u64) {
        if flags != 0 {
            self.csr.fflags |= flags;
            self.dirty_floats();
        }
    }

    #[inline(always)]
    pub(crate) fn dirty_floats(&mut self) {
        self.csr.mstatus |= mstatus::FS.mask();
    }

    /// Tells those who listen to the page of RAM at `offset` of a store that took the slow path.
    pub(crate) fn note_store(&self, offset: u64, length: u64) {
        // The store comes before the look at the flags: `bus::Ram`, "writers and listeners".
        fence(Ordering::SeqCst);
        self.note_atomic_store(offset, length);
    }

    /// The same of a sequentially consistent atomic store, which needs no fence.
    pub(crate) fn note_atomic_store(&self, offset: u64, length: u64) {
        let flags = self.ram.flags(offset);
        if flags.is_empty() {
            return;
        }
        self.ram.note_write(offset, length);
        if flags.contains(PageFlags::WATCH) {
            self.shared.raise(event::WATCH);
        }
    }

    /// Makes known the machine's other harts, whose writes to code this hart has to hear of.
    pub fn set_peers<'a>(&mut self, harts: impl IntoIterator<Item = &'a Arc<HartShared>>) {
        self.peers = harts.into_iter().filter(|hart| hart.id() != self.shared.id()).cloned().collect();
        self.tlb.log_dropped_writes(!self.peers.is_empty());
    }

    /// Makes somebody a listener of the page of RAM at `offset`: writes to it no longer take the fast path, on this
    /// hart from now on, on the others from their next poll. The version that what is read from now on belongs to
    /// ([`Ram::set_flag`]).
    ///
    /// A peer may write unheard until then. It makes up for it: whenever it drops a write entry for a page of code it
    /// counts that as a write, at its next poll at the latest, so that code read in between is stale. Only
    /// [`Hart::fence_instructions`] promises more, and waits.
    pub(crate) fn listen_to_writes(&mut self, offset: u64, flag: PageFlags) -> u32 {
        let page = offset & !(PAGE_SIZE - 1);
        if let Some(version) = self.ram.flagged_version(page, flag) {
            return version;
        }
        let mut version = 0;
        self.shared.announce(&self.peers, page, || {
            let (is_new, current) = self.ram.set_flag(page, flag);
            version = current;
            if is_new {
                self.tlb.forget_writes_to(self.ram.host_base() as u64 + page);
            }
            is_new
        });
        version
    }

    /// Waits until no hart can have written unheard, before now, to a page that any hart has set a flag of.
    fn wait_for_peers(&mut self) {
        let (shared, peers) = (self.shared.clone(), std::mem::take(&mut self.peers));
        shared.wait_for(&peers, || self.forget_writes());
        self.peers = peers;
    }

    /// Forgets what peers have asked for. Never called inside of translated code, which keeps the pages of its accesses
    /// at hand beyond the life of their TLB entries.
    fn forget_writes(&mut self) {
        let shared = self.shared.clone();
        shared.forget(|asked| {
            for forget in asked {
                match forget {
                    // This hart may have written unheard since the peer looked.
                    Forget::Page(offset) => {
                        if self.tlb.forget_writes_to(self.ram.host_base() as u64 + offset) {
                            self.ram.note_write(offset, PAGE_SIZE);
                        }
                    }
                    Forget::Everything => self.tlb.forget_all_writes(),
                }
            }
            // The same holds of what was dropped before; of pages that nobody listens to it means nothing.
            for host in self.tlb.take_dropped_writes() {
                self.ram.note_write(self.host_offset(host), PAGE_SIZE);
            }
        });
    }

    fn serve_code_events(&mut self, events: u32) {
        if events & event::FENCE != 0 {
            self.fence_instructions();
        }
        if events & event::CODE != 0 {
            self.forget_code();
        }
    }

    /// Serves what is posted for this hart and takes a due interrupt; a reason to stop, if there is one.
    pub(crate) fn serve_events(&mut self) -> Option<Stop> {
        let events = self.shared.take_events(!event::PAUSE);
        if events & event::REQUEST != 0 {
            self.serve_requests();
        }
        self.serve_code_events(events);
        if events & event::TIMER != 0 {
            // The alarm may ring for a deadline that has been moved on.
            self.arm_supervisor_timer();
        }
        if events & event::WATCH != 0 {
            self.shared.raise(events & event::INTERRUPT);
            return Some(Stop::Watch);
        }
        if self.shared.events() & event::PAUSE != 0 {
            self.shared.raise(events & event::INTERRUPT);
            return Some(Stop::Pause);
        }
        if events & (event::INTERRUPT | event::TIMER) != 0 {
            self.take_interrupt();
        }
        None
    }

    /// Parks the hart's thread until something happens, without executing an instruction: serves what others ask of it.
    /// Interrupts stay pending, and are looked at again when the hart runs. A reason to stop, if there is one.
    pub fn rest(&mut self) -> Option<Stop> {
        self.shared.park();
        let events = self.shared.take_events(!event::PAUSE);
        if events & event::REQUEST != 0 {
            self.serve_requests();
        }
        self.serve_code_events(events);
        if events & event::TIMER != 0 {
            self.arm_supervisor_timer();
        }
        if events & event::WATCH != 0 {
            return Some(Stop::Watch);
        }
        (self.shared.events() & event::PAUSE != 0).then_some(Stop::Pause)
    }

    /// Serves what other harts have posted: pages to listen to, remote fences.
    pub fn serve_requests(&mut self) {
        /// Beyond this many pages a fence by address costs more than a full one.
        const PAGES: u64 = 64;
        self.forget_writes();
        let (requests, ticket) = self.shared.take_requests();
        for request in requests {
            match request {
                Request::FenceI => self.fence_instructions(),
                Request::SfenceVma { start, size, asid } => {
                    let pages = size.div_ceil(PAGE_SIZE);
                    if size == 0 || pages > PAGES {
                        self.fence_translations(None, asid.map(u64::from));
                    } else {
                        for page in 0..=pages {
                            let address = start.wrapping_add(page * PAGE_SIZE);
                            self.fence_translations(Some(address), asid.map(u64::from));
                        }
                    }
                }
            }
        }
        self.shared.set_served(ticket);
    }

    /// Whether `wfi` would end at once: an interrupt is pending and enabled, whatever the global enables say (§3.3.3).
    pub fn has_pending_interrupt(&self) -> bool {
        self.mip() & self.csr.mie != 0
    }

    /// The architectural state.
    pub fn save(&self) -> HartState {
        HartState {
            x: std::array::from_fn(|r| self.x[r]),
            f: self.f,
            pc: self.pc,
            privilege: self.privilege,
            csr: self.csr.clone(),
            pmp: self.pmp.clone(),
            counts: self.counts.clone(),
            reservation: self.reservation,
            pending: self.shared.pending(),
        }
    }

    /// Takes over a state saved on a hart of the same configuration.
    pub fn restore(&mut self, state: HartState) -> Result<(), StateError> {
        let HartState { x, f, pc, privilege, csr, pmp, counts, reservation, pending } = state;
        if !self.supports_satp_mode(crate::csr::satp::MODE.get(csr.satp)) {
            return Err(StateError::Mismatch {
                device: format!("hart {}", self.shared.id()),
                reason: "its page-table mode is not offered by this machine".into(),
            });
        }
        self.x[..32].copy_from_slice(&x);
        (self.f, self.pc, self.privilege) = (f, pc, privilege);
        self.x[0] = 0;
        (self.csr, self.pmp, self.counts) = (csr, pmp, counts);
        // Used as an offset only where an access has led to the same one.
        self.reservation = reservation;
        self.shared.change_pending(pending, !pending);
        self.forget_translations();
        self.forget_code();
        self.update_triggers();
        self.arm_supervisor_timer();
        Ok(())
    }

    /// Fetches the encoding at `address` by parcels, each translated and checked.
    pub(crate) fn fetch_word(&mut self, address: u64) -> Result<u32, Trapped> {
        if address & self.instruction_alignment() != 0 {
            return Err(self.raise(Exception::InstructionAddressMisaligned, address));
        }
        let low = self.fetch_parcel(address)?;
        if low & 3 != 3 {
            return Ok(low.into());
        }
        let high = self.fetch_parcel(address.wrapping_add(2))?;
        Ok(u32::from(high) << 16 | u32::from(low))
    }

    fn fetch_parcel(&mut self, address: u64) -> Result<u16, Trapped> {
        let physical = self.translate(address, 2, Access::Execute)?;
        match self.bus.fetch_parcel(physical) {
            Some(parcel) => Ok(parcel),
            None => Err(self.raise(Exception::InstructionAccessFault, address)),
        }
    }
}
