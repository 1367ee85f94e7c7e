//! The 16550A UART (National Semiconductor PC16550D data sheet): registers of one byte, 16-byte FIFOs, interrupts.
//!
//! The line has no speed: what is transmitted is gone as soon as the backend has taken it, and input arrives as soon
//! as there is room for it. Only the receiver's timeout interrupt counts characters of the programmed length.
//!
//! Input is never lost. It waits in the backend while the FIFO is full, and also until the guest looks for input, by
//! enabling the receive interrupt or by polling LSR: drivers clear the FIFO and read RBR blindly when they start, which
//! would swallow the beginning of what was typed or piped in before.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use bus::device_tree::Node;
use bus::{Alarm, Clock, Device, IrqLine, Placement, StateError, TICKS_PER_SECOND, Width};
use serde::{Deserialize, Serialize};

use crate::backend::CharacterBackend;
use crate::lock;

const NAME: &str = "uart";

/// Frequency of the clock that the divisor divides, in Hz (as on QEMU's `virt` board).
const CLOCK_FREQUENCY: u32 = 3_686_400;

/// Depth of each FIFO in bytes.
const FIFO_DEPTH: usize = 16;

/// Registers by offset; several share one (data sheet, table "Register Addresses").
mod register {
    /// RBR (read), THR (write), DLL (while LCR.DLAB).
    pub const DATA: u64 = 0;
    /// IER, DLM (while LCR.DLAB).
    pub const IER: u64 = 1;
    /// IIR (read), FCR (write).
    pub const IIR_FCR: u64 = 2;
    pub const LCR: u64 = 3;
    pub const MCR: u64 = 4;
    pub const LSR: u64 = 5;
    pub const MSR: u64 = 6;
    pub const SCR: u64 = 7;
}

/// Interrupt enable register.
mod ier {
    pub const RECEIVED_DATA: u8 = 1;
    pub const THR_EMPTY: u8 = 1 << 1;
    pub const LINE_STATUS: u8 = 1 << 2;
    pub const MODEM_STATUS: u8 = 1 << 3;
    pub const ALL: u8 = 0xf;
}

/// Interrupt identification register: bits 3:0, in the order of priority.
mod iir {
    pub const LINE_STATUS: u8 = 0b0110;
    pub const RECEIVED_DATA: u8 = 0b0100;
    pub const CHARACTER_TIMEOUT: u8 = 0b1100;
    pub const THR_EMPTY: u8 = 0b0010;
    pub const MODEM_STATUS: u8 = 0b0000;
    pub const NONE: u8 = 0b0001;
    pub const FIFOS_ENABLED: u8 = 0b1100_0000;
}

/// FIFO control register.
mod fcr {
    pub const ENABLE: u8 = 1;
    pub const CLEAR_RECEIVER: u8 = 1 << 1;
    pub const CLEAR_TRANSMITTER: u8 = 1 << 2;
    pub const TRIGGER_SHIFT: u32 = 6;
    /// The bits that are kept: the clearing ones clear themselves.
    pub const KEPT: u8 = 0b1100_1001;
}

/// Line control register.
mod lcr {
    pub const WORD_LENGTH: u8 = 0b11;
    pub const TWO_STOP_BITS: u8 = 1 << 2;
    pub const PARITY: u8 = 1 << 3;
    pub const BREAK: u8 = 1 << 6;
    pub const DIVISOR_LATCH: u8 = 1 << 7;
}

/// Modem control register.
mod mcr {
    pub const DTR: u8 = 1;
    pub const RTS: u8 = 1 << 1;
    pub const OUT1: u8 = 1 << 2;
    pub const OUT2: u8 = 1 << 3;
    pub const LOOPBACK: u8 = 1 << 4;
    pub const ALL: u8 = 0x1f;
}

/// Line status register.
mod lsr {
    pub const DATA_READY: u8 = 1;
    pub const OVERRUN: u8 = 1 << 1;
    pub const BREAK: u8 = 1 << 4;
    pub const THR_EMPTY: u8 = 1 << 5;
    pub const TRANSMITTER_EMPTY: u8 = 1 << 6;
    /// What a read clears.
    pub const ERRORS: u8 = 0b1_1110;
}

/// Modem status register.
mod msr {
    pub const DELTA_CTS: u8 = 1;
    pub const DELTA_DSR: u8 = 1 << 1;
    pub const TRAILING_EDGE_RI: u8 = 1 << 2;
    pub const DELTA_DCD: u8 = 1 << 3;
    pub const CTS: u8 = 1 << 4;
    pub const DSR: u8 = 1 << 5;
    pub const RI: u8 = 1 << 6;
    pub const DCD: u8 = 1 << 7;
    pub const DELTAS: u8 = 0xf;
    /// The levels of a line with somebody at its other end.
    pub const CONNECTED: u8 = CTS | DSR | DCD;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    /// Received and not read. The front is RBR.
    receive: VecDeque<u8>,
    /// Written to THR and not taken by the backend.
    transmit: VecDeque<u8>,
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    /// The error bits of LSR; the others follow from the FIFOs.
    line_errors: u8,
    msr: u8,
    scr: u8,
    divisor: u16,
    /// The transmitter has become empty, and the guest has neither learnt it from IIR nor written THR.
    thr_empty_pending: bool,
    /// The FIFO was left alone for four character times.
    timeout_pending: bool,
    /// When it will have been, in ticks of the clock.
    timeout_at: Option<u64>,
    /// The guest has looked for input since the receiver was last cleared.
    listening: bool,
    /// The last access was a read of LSR that found room to transmit.
    read_lsr: bool,
}

impl State {
    fn power_on() -> Self {
        Self {
            receive: VecDeque::with_capacity(FIFO_DEPTH),
            transmit: VecDeque::with_capacity(FIFO_DEPTH),
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            line_errors: 0,
            msr: msr::CONNECTED,
            scr: 0,
            divisor: 12,
            thr_empty_pending: false,
            timeout_pending: false,
            timeout_at: None,
            listening: false,
            read_lsr: false,
        }
    }

    /// Whether the guest could have brought the registers here.
    fn is_possible(&self) -> bool {
        let Self {
            receive,
            transmit,
            ier,
            fcr,
            lcr: _,
            mcr,
            line_errors,
            msr: _,
            scr: _,
            divisor: _,
            thr_empty_pending: _,
            timeout_pending: _,
            timeout_at: _,
            listening: _,
            read_lsr: _,
        } = self;
        receive.len() <= FIFO_DEPTH
            && transmit.len() <= FIFO_DEPTH
            && ier & !ier::ALL == 0
            && fcr & !fcr::KEPT == 0
            && mcr & !mcr::ALL == 0
            && line_errors & !lsr::ERRORS == 0
    }

    fn fifos_enabled(&self) -> bool {
        self.fcr & fcr::ENABLE != 0
    }

    fn loopback(&self) -> bool {
        self.mcr & mcr::LOOPBACK != 0
    }

    fn depth(&self) -> usize {
        if self.fifos_enabled() { FIFO_DEPTH } else { 1 }
    }

    /// The number of received bytes at which the received-data interrupt comes.
    fn trigger(&self) -> usize {
        if self.fifos_enabled() { [1, 4, 8, 14][usize::from(self.fcr >> fcr::TRIGGER_SHIFT)] } else { 1 }
    }

    /// How many bytes of input the receiver takes now. A guest that polls gets them one by one, so that none is in the
    /// FIFO when another driver takes over and clears it.
    fn room(&self) -> usize {
        let depth = match self {
            _ if self.loopback() => 0,
            Self { ier, .. } if ier & ier::RECEIVED_DATA != 0 => self.depth(),
            Self { listening: true, .. } => 1,
            _ => 0,
        };
        depth.saturating_sub(self.receive.len())
    }

    /// Four times the length of a character on the line, in ticks.
    fn timeout(&self) -> u64 {
        let bits = |flag| u64::from(self.lcr & flag != 0);
        let start_and_stop = 2 + bits(lcr::TWO_STOP_BITS);
        let character = start_and_stop + 5 + u64::from(self.lcr & lcr::WORD_LENGTH) + bits(lcr::PARITY);
        // The clock runs at sixteen times the baud rate. A divisor of zero stops it; it counts as one here.
        4 * character * 16 * u64::from(self.divisor.max(1)) * TICKS_PER_SECOND / u64::from(CLOCK_FREQUENCY)
    }

    /// The FIFO was filled or read: the time until the timeout interrupt starts anew.
    fn restart_timeout(&mut self, now: u64) {
        let waiting = self.fifos_enabled() && !self.receive.is_empty();
        self.timeout_at = waiting.then(|| now.saturating_add(self.timeout()));
    }

    fn clear_receiver(&mut self) {
        self.receive.clear();
        self.listening = false;
        self.timeout_pending = false;
        self.timeout_at = None;
    }

    fn clear_transmitter(&mut self) {
        self.thr_empty_pending |= !self.transmit.is_empty();
        self.transmit.clear();
    }

    fn lsr(&self) -> u8 {
        let mut value = self.line_errors;
        if !self.receive.is_empty() {
            value |= lsr::DATA_READY;
        }
        if self.transmit.is_empty() {
            value |= lsr::THR_EMPTY | lsr::TRANSMITTER_EMPTY;
        }
        value
    }

    /// The pending interrupt of the highest priority (data sheet, table "Interrupt Control Functions").
    fn interrupt(&self) -> u8 {
        let enabled = |flag| self.ier & flag != 0;
        match self {
            _ if enabled(ier::LINE_STATUS) && self.line_errors != 0 => iir::LINE_STATUS,
            _ if enabled(ier::RECEIVED_DATA) && self.receive.len() >= self.trigger() => iir::RECEIVED_DATA,
            _ if enabled(ier::RECEIVED_DATA) && self.timeout_pending => iir::CHARACTER_TIMEOUT,
            _ if enabled(ier::THR_EMPTY) && self.thr_empty_pending => iir::THR_EMPTY,
            _ if enabled(ier::MODEM_STATUS) && self.msr & msr::DELTAS != 0 => iir::MODEM_STATUS,
            _ => iir::NONE,
        }
    }

    fn iir(&self) -> u8 {
        self.interrupt() | if self.fifos_enabled() { iir::FIFOS_ENABLED } else { 0 }
    }

    /// The modem's inputs changed: in loopback they are MCR's outputs.
    fn update_modem_status(&mut self) {
        let output = |flag, level| if self.mcr & flag != 0 { level } else { 0 };
        let levels = if self.loopback() {
            output(mcr::RTS, msr::CTS)
                | output(mcr::DTR, msr::DSR)
                | output(mcr::OUT1, msr::RI)
                | output(mcr::OUT2, msr::DCD)
        } else {
            msr::CONNECTED
        };
        let changed = self.msr ^ levels;
        let delta = |level, delta| if changed & level != 0 { delta } else { 0 };
        let ring_ended = if self.msr & !levels & msr::RI != 0 { msr::TRAILING_EDGE_RI } else { 0 };
        let deltas = delta(msr::CTS, msr::DELTA_CTS)
            | delta(msr::DSR, msr::DELTA_DSR)
            | delta(msr::DCD, msr::DELTA_DCD)
            | ring_ended;
        self.msr = self.msr & msr::DELTAS | deltas | levels;
    }

    fn read(&self, offset: u64) -> u8 {
        let divisor_latch = self.lcr & lcr::DIVISOR_LATCH != 0;
        match offset {
            register::DATA if divisor_latch => self.divisor as u8,
            register::DATA => self.receive.front().copied().unwrap_or(0),
            register::IER if divisor_latch => (self.divisor >> 8) as u8,
            register::IER => self.ier,
            register::IIR_FCR => self.iir(),
            register::LCR => self.lcr,
            register::MCR => self.mcr,
            register::LSR => self.lsr(),
            register::MSR => self.msr,
            register::SCR => self.scr,
            _ => 0,
        }
    }

    /// What a read of `offset` does besides returning [`State::read`].
    fn after_read(&mut self, offset: u64, now: u64) {
        match offset {
            register::DATA if self.lcr & lcr::DIVISOR_LATCH == 0 => {
                self.receive.pop_front();
                self.timeout_pending = false;
                self.restart_timeout(now);
            }
            register::IIR_FCR if self.interrupt() == iir::THR_EMPTY => self.thr_empty_pending = false,
            // A guest that wanted room to transmit has found it at the first look: one that looks again wants input.
            register::LSR => {
                self.line_errors = 0;
                self.listening |= self.read_lsr;
            }
            register::MSR => self.msr &= !msr::DELTAS,
            _ => {}
        }
        self.read_lsr = offset == register::LSR && self.transmit.is_empty();
    }

    fn write(&mut self, offset: u64, value: u8, now: u64) {
        self.read_lsr = false;
        let divisor_latch = self.lcr & lcr::DIVISOR_LATCH != 0;
        match offset {
            register::DATA if divisor_latch => self.divisor = self.divisor & 0xff00 | u16::from(value),
            register::DATA if self.loopback() => {
                self.loop_back(value, now);
                self.thr_empty_pending = true;
            }
            register::DATA => {
                self.thr_empty_pending = false;
                if self.transmit.len() < self.depth() {
                    self.transmit.push_back(value);
                } else {
                    tracing::debug!("uart: a byte was written while the transmitter was full, and is lost");
                }
            }
            register::IER if divisor_latch => self.divisor = self.divisor & 0xff | u16::from(value) << 8,
            register::IER => {
                let enabled = value & !self.ier;
                self.ier = value & ier::ALL;
                self.thr_empty_pending |= enabled & ier::THR_EMPTY != 0 && self.transmit.is_empty();
                self.listening |= enabled & ier::RECEIVED_DATA != 0;
            }
            register::IIR_FCR => self.write_fcr(value, now),
            register::LCR => {
                let begun = value & !self.lcr & lcr::BREAK != 0;
                self.lcr = value;
                if begun && self.loopback() {
                    self.loop_back(0, now);
                    self.line_errors |= lsr::BREAK;
                }
            }
            register::MCR => {
                self.mcr = value & mcr::ALL;
                self.update_modem_status();
            }
            register::SCR => self.scr = value,
            // LSR and MSR: written by the factory's tests alone.
            _ => tracing::debug!("uart: write of {value:#04x} at {offset:#x} ignored"),
        }
    }

    fn write_fcr(&mut self, value: u8, now: u64) {
        // The other bits are only written while the FIFOs are enabled.
        let kept = if value & fcr::ENABLE != 0 { value & fcr::KEPT } else { 0 };
        let disabled = self.fcr & !kept & fcr::ENABLE != 0;
        self.fcr = kept;
        // A change of mode clears the FIFOs. The byte that RBR held before there were any is none of theirs.
        let enabled = kept & fcr::ENABLE != 0;
        if disabled || enabled && value & fcr::CLEAR_RECEIVER != 0 {
            self.clear_receiver();
        }
        if disabled || enabled && value & fcr::CLEAR_TRANSMITTER != 0 {
            self.clear_transmitter();
        }
        if self.timeout_at.is_none() {
            self.restart_timeout(now);
        }
    }

    /// The transmitter's output is the receiver's input.
    fn loop_back(&mut self, byte: u8, now: u64) {
        if self.receive.len() < self.depth() {
            self.receive.push_back(byte);
            self.restart_timeout(now);
            return;
        }
        self.line_errors |= lsr::OVERRUN;
        if !self.fifos_enabled() {
            // RBR is overwritten; a FIFO keeps what it has (data sheet, "Line Status Register", bit 1).
            self.receive.clear();
            self.receive.push_back(byte);
        }
    }
}

struct Inner {
    state: State,
    paused: bool,
}

/// The UART.
pub struct Uart {
    line: IrqLine,
    backend: Arc<dyn CharacterBackend>,
    clock: Clock,
    timeout: Alarm,
    inner: Mutex<Inner>,
    /// Held while `timeout` is set to what the state says, so that the last setting is the newest. Taken before
    /// `inner`, never by the alarm.
    arming: Mutex<()>,
}

impl Uart {
    /// A UART whose interrupt is `line` and whose other end is `backend`.
    pub fn new(line: IrqLine, backend: Arc<dyn CharacterBackend>, clock: Clock) -> Arc<Self> {
        let uart = Arc::new_cyclic(|weak: &Weak<Self>| {
            let rung = weak.clone();
            let timeout = clock.alarm(move || {
                if let Some(uart) = rung.upgrade() {
                    let mut inner = lock(&uart.inner);
                    if !inner.paused {
                        uart.sync(&mut inner);
                    }
                }
            });
            let inner = Inner { state: State::power_on(), paused: false };
            Self {
                line,
                backend: backend.clone(),
                clock: clock.clone(),
                timeout,
                inner: Mutex::new(inner),
                arming: Mutex::new(()),
            }
        });
        let weak = Arc::downgrade(&uart);
        backend.attach(Box::new(move || {
            if let Some(uart) = weak.upgrade() {
                uart.access(|_, _| ());
            }
        }));
        uart
    }

    /// Does `change` to the registers, then everything that follows from it.
    fn access<T>(&self, change: impl FnOnce(&mut State, u64) -> T) -> T {
        let mut inner = lock(&self.inner);
        let (timeout_at, listening) = (inner.state.timeout_at, inner.state.listening);
        let result = change(&mut inner.state, self.clock.now());
        if inner.state.listening && !listening {
            self.backend.claim();
        }
        self.exchange(&mut inner);
        self.sync(&mut inner);
        let rearm = inner.state.timeout_at != timeout_at;
        drop(inner);
        if rearm {
            self.arm();
        }
        result
    }

    /// Moves bytes between the FIFOs and the backend as far as both sides have room.
    fn exchange(&self, inner: &mut Inner) {
        let Inner { state, paused: false } = inner else { return };
        if !state.transmit.is_empty() {
            let taken = self.backend.write(state.transmit.make_contiguous());
            state.transmit.drain(..taken.min(state.transmit.len()));
            state.thr_empty_pending |= state.transmit.is_empty();
        }
        let mut buffer = [0; FIFO_DEPTH];
        let room = state.room();
        if room > 0 {
            let count = self.backend.read(&mut buffer[..room]).min(room);
            if count > 0 {
                state.receive.extend(&buffer[..count]);
                state.restart_timeout(self.clock.now());
            }
        }
    }

    /// Derives the timeout and the line from the state.
    fn sync(&self, inner: &mut Inner) {
        let state = &mut inner.state;
        if state.timeout_at.is_some_and(|deadline| deadline <= self.clock.now()) {
            state.timeout_at = None;
            state.timeout_pending = true;
        }
        self.line.set(state.interrupt() != iir::NONE);
    }

    /// Sets the alarm to what the state says. No lock of the device may be held: an alarm in the past rings in here.
    fn arm(&self) {
        let _arming = lock(&self.arming);
        let deadline = lock(&self.inner).state.timeout_at;
        self.timeout.set(deadline);
    }
}

impl Device for Uart {
    fn name(&self) -> &'static str {
        NAME
    }

    fn size(&self) -> u64 {
        0x100
    }

    /// Reads the register at `offset`; of a wider access the other bytes are zero.
    fn read(&self, offset: u64, _: Width) -> u64 {
        self.access(|state, now| {
            let value = state.read(offset);
            state.after_read(offset, now);
            u64::from(value)
        })
    }

    /// Writes the register at `offset`; the other bytes of a wider access are ignored.
    fn write(&self, offset: u64, _: Width, value: u64) {
        self.access(|state, now| state.write(offset, value as u8, now));
    }

    fn peek(&self, offset: u64, _: Width) -> u64 {
        u64::from(lock(&self.inner).state.read(offset))
    }

    fn register_width(&self, _: u64) -> Width {
        Width::Byte
    }

    fn reset(&self) {
        self.access(|state, _| *state = State::power_on());
    }

    fn describe(&self, placement: &Placement) -> Option<Node> {
        let node = placement.node("serial").string("compatible", "ns16550a");
        Some(node.cells("clock-frequency", &[CLOCK_FREQUENCY]))
    }

    fn pause(&self) {
        lock(&self.inner).paused = true;
    }

    fn resume(&self) {
        lock(&self.inner).paused = false;
        self.access(|_, _| ());
        self.arm();
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        bus::save(NAME, &lock(&self.inner).state)
    }

    fn restore(&self, state: &[u8]) -> Result<(), StateError> {
        let state: State = bus::restore(NAME, state)?;
        if !state.is_possible() {
            return Err(StateError::Mismatch { device: NAME.into(), reason: "impossible register values".into() });
        }
        let mut inner = lock(&self.inner);
        if state.listening {
            self.backend.claim();
        }
        inner.state = state;
        self.line.set(inner.state.interrupt() != iir::NONE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::register::*;
    use super::*;
    use crate::backend::memory::MemoryBackend;
    use crate::recorder::Recorder;

    struct Bench {
        uart: Arc<Uart>,
        backend: Arc<MemoryBackend>,
        clock: Clock,
        irq: Arc<Recorder>,
    }

    impl Bench {
        fn new() -> Self {
            let (backend, clock, irq) = (MemoryBackend::new(), Clock::manual(), Recorder::new());
            let uart = Uart::new(irq.line(0), backend.clone(), clock.clone());
            Self { uart, backend, clock, irq }
        }

        /// FIFOs with the trigger level of `fcr`, and the interrupts of `ier`.
        fn with(fcr: u8, ier: u8) -> Self {
            let bench = Self::new();
            bench.set(IIR_FCR, fcr::ENABLE | fcr);
            bench.set(IER, ier);
            bench
        }

        fn get(&self, offset: u64) -> u8 {
            self.uart.read(offset, Width::Byte) as u8
        }

        fn set(&self, offset: u64, value: u8) {
            self.uart.write(offset, Width::Byte, value.into());
        }

        fn irq(&self) -> bool {
            self.irq.level(0)
        }

        /// IIR without the FIFO bits.
        fn iir(&self) -> u8 {
            self.get(IIR_FCR) & !iir::FIFOS_ENABLED
        }

        /// All that a driver reads while data is ready.
        fn drain(&self) -> Vec<u8> {
            std::iter::from_fn(|| (self.get(LSR) & lsr::DATA_READY != 0).then(|| self.get(DATA))).collect()
        }
    }

    const TRIGGER_8: u8 = 0b1000_0000;

    #[test]
    fn written_bytes_reach_the_backend() {
        let bench = Bench::new();
        for byte in b"hello" {
            assert_eq!(bench.get(LSR), lsr::THR_EMPTY | lsr::TRANSMITTER_EMPTY);
            bench.set(DATA, *byte);
        }
        assert_eq!(bench.backend.output(), b"hello");
    }

    #[test]
    fn a_full_backend_fills_the_transmitter_and_empties_it_later() {
        let bench = Bench::with(0, ier::THR_EMPTY);
        assert_eq!(bench.iir(), iir::THR_EMPTY);
        assert!(!bench.irq(), "reading IIR acknowledges");
        bench.backend.limit_output(2);
        for byte in 0..18 {
            bench.set(DATA, byte);
        }
        assert_eq!(bench.get(LSR) & lsr::THR_EMPTY, 0);
        let _ = bench.iir();
        bench.set(DATA, 99);
        assert!(!bench.irq());
        bench.backend.limit_output(usize::MAX);
        assert!(bench.irq(), "the transmitter has become empty");
        assert_eq!(bench.backend.output(), (0..18).collect::<Vec<_>>(), "the byte without room is lost");
    }

    #[test]
    fn the_transmitter_interrupts_when_enabled_while_empty() {
        let bench = Bench::new();
        assert!(!bench.irq());
        bench.set(IER, ier::THR_EMPTY);
        assert!(bench.irq());
        assert_eq!(bench.iir(), iir::THR_EMPTY);
        assert_eq!(bench.iir(), iir::NONE);
        bench.set(DATA, b'x');
        assert!(bench.irq());
        bench.set(IER, 0);
        assert!(!bench.irq());
    }

    #[test]
    fn input_interrupts_at_the_trigger_level_and_by_timeout_below() {
        let bench = Bench::with(TRIGGER_8, ier::RECEIVED_DATA);
        bench.set(LCR, 3);
        bench.backend.type_in(b"1234567");
        assert!(!bench.irq());
        bench.backend.type_in(b"8");
        assert_eq!(bench.iir(), iir::RECEIVED_DATA);
        assert_eq!(bench.get(DATA), b'1');
        assert!(!bench.irq(), "below the trigger level");
        // Four characters of ten bits at 3686400 / 16 / 12 = 19200 baud, in ticks of 100 ns.
        bench.clock.advance(20_832);
        assert!(!bench.irq());
        bench.clock.advance(2);
        assert_eq!(bench.iir(), iir::CHARACTER_TIMEOUT);
        assert_eq!(bench.get(DATA), b'2');
        assert!(!bench.irq(), "a read ends the timeout");
        bench.clock.advance(1_000_000);
        assert!(bench.irq());
        assert_eq!(bench.drain(), b"345678");
        bench.clock.advance(1_000_000);
        assert!(!bench.irq(), "an empty FIFO has no timeout");
    }

    #[test]
    fn input_beyond_the_fifo_waits_and_none_is_lost() {
        let bench = Bench::with(TRIGGER_8, ier::RECEIVED_DATA);
        let bytes: Vec<u8> = (0..100).collect();
        bench.backend.type_in(&bytes);
        assert_eq!(bench.backend.unread(), 100 - FIFO_DEPTH);
        assert_eq!(bench.drain(), bytes);
        assert_eq!(bench.get(LSR) & lsr::OVERRUN, 0);
    }

    #[test]
    fn input_waits_for_a_driver_through_its_start() {
        let bench = Bench::new();
        bench.backend.type_in(b"typed ahead");
        // The console output of the boot loader, which has to wait once, then the start of Linux's 8250 driver.
        bench.backend.limit_output(0);
        bench.set(DATA, b'>');
        for _ in 0..5 {
            assert_eq!(bench.get(LSR) & lsr::THR_EMPTY, 0);
        }
        bench.backend.limit_output(usize::MAX);
        for byte in b"boot" {
            while bench.get(LSR) & lsr::THR_EMPTY == 0 {}
            bench.set(DATA, *byte);
        }
        for fcr in [1, 7, 0] {
            bench.set(IIR_FCR, fcr);
        }
        for _ in 0..2 {
            for register in [LSR, DATA, IIR_FCR, MSR] {
                bench.get(register);
            }
        }
        bench.set(LCR, 3);
        bench.set(IER, ier::RECEIVED_DATA | ier::LINE_STATUS);
        bench.set(IIR_FCR, fcr::ENABLE);
        bench.set(IIR_FCR, fcr::ENABLE | TRIGGER_8);
        assert!(bench.irq());
        assert_eq!(bench.drain(), b"typed ahead");
    }

    #[test]
    fn a_polling_guest_gets_its_input() {
        let bench = Bench::new();
        bench.backend.type_in(b"abc");
        let mut received = Vec::new();
        for _ in 0..20 {
            if bench.get(LSR) & lsr::DATA_READY != 0 {
                received.push(bench.get(DATA));
            }
        }
        assert_eq!(received, b"abc");
        assert_eq!(bench.get(DATA), 0);
    }

    #[test]
    fn a_pause_holds_input() {
        let bench = Bench::with(0, ier::RECEIVED_DATA);
        bench.uart.pause();
        bench.backend.type_in(b"x");
        assert!(!bench.irq());
        assert_eq!(bench.backend.unread(), 1);
        bench.uart.resume();
        assert!(bench.irq());
    }

    #[test]
    fn the_divisor_latch_hides_the_data_and_ier() {
        let bench = Bench::new();
        bench.set(IER, 0xff);
        bench.set(LCR, lcr::DIVISOR_LATCH | 3);
        bench.set(DATA, 0x34);
        bench.set(IER, 0x12);
        assert_eq!((bench.get(DATA), bench.get(IER)), (0x34, 0x12));
        bench.set(LCR, 3);
        assert_eq!((bench.get(DATA), bench.get(IER)), (0, 0x0f));
        assert_eq!(bench.backend.output(), b"");
    }

    #[test]
    fn loopback_leads_outputs_to_inputs() {
        let bench = Bench::with(0, ier::ALL);
        bench.backend.type_in(b"z");
        assert_eq!(bench.drain(), b"z");
        let _ = bench.iir();
        bench.set(MCR, mcr::LOOPBACK | mcr::RTS | mcr::OUT1);
        assert_eq!(bench.iir(), iir::MODEM_STATUS);
        assert_eq!(bench.get(MSR), msr::CTS | msr::RI | msr::DELTA_DSR | msr::DELTA_DCD);
        assert!(!bench.irq(), "reading MSR acknowledges");
        bench.backend.type_in(b"held");
        for byte in 0..17 {
            bench.set(DATA, byte);
        }
        assert_eq!(bench.iir(), iir::LINE_STATUS, "the highest priority comes first");
        assert_eq!(bench.get(LSR) & lsr::OVERRUN, lsr::OVERRUN);
        assert_eq!(bench.iir(), iir::RECEIVED_DATA);
        assert_eq!(bench.drain(), (0..16).collect::<Vec<_>>());
        assert_eq!(bench.iir(), iir::THR_EMPTY);
        assert_eq!(bench.iir(), iir::NONE);
        bench.set(MCR, mcr::OUT2);
        assert_eq!(bench.get(MSR) & msr::TRAILING_EDGE_RI, msr::TRAILING_EDGE_RI);
        assert_eq!(bench.backend.output(), b"", "nothing left the UART");
        assert_eq!(bench.drain(), b"held");
    }

    #[test]
    fn without_fifos_the_buffer_holds_one_byte() {
        let bench = Bench::new();
        bench.set(IER, ier::RECEIVED_DATA);
        bench.backend.type_in(b"ab");
        assert_eq!(bench.backend.unread(), 1);
        assert_eq!(bench.get(IIR_FCR), iir::RECEIVED_DATA, "no FIFO bits");
        assert_eq!(bench.drain(), b"ab");
        assert!(!bench.irq());
        bench.set(MCR, mcr::LOOPBACK);
        bench.set(DATA, 1);
        bench.set(DATA, 2);
        assert_eq!(bench.get(LSR) & lsr::OVERRUN, lsr::OVERRUN);
        assert_eq!(bench.get(DATA), 2, "RBR is overwritten");
    }

    #[test]
    fn clearing_the_fifos_clears_them() {
        let bench = Bench::with(0, ier::RECEIVED_DATA);
        bench.backend.type_in(b"x");
        bench.set(IIR_FCR, fcr::ENABLE | fcr::CLEAR_RECEIVER);
        assert_eq!(bench.get(LSR) & lsr::DATA_READY, 0);
        assert!(!bench.irq());
        bench.backend.type_in(b"y");
        bench.set(IIR_FCR, 0);
        assert_eq!(bench.get(LSR) & lsr::DATA_READY, 0, "and so does switching them off");
    }

    #[test]
    fn scratch_register_and_reset() {
        let bench = Bench::with(TRIGGER_8, ier::ALL);
        bench.set(SCR, 0xa5);
        assert_eq!(bench.get(SCR), 0xa5);
        bench.uart.reset();
        assert!(!bench.irq());
        let registers = [IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR].map(|register| bench.get(register));
        assert_eq!(registers, [0, 1, 0, 0, 0x60, 0xb0, 0]);
    }

    #[test]
    fn a_restored_timeout_still_comes() {
        let bench = Bench::with(TRIGGER_8, ier::RECEIVED_DATA);
        bench.backend.type_in(b"x");
        bench.uart.pause();
        let saved = bench.uart.save().unwrap();
        let other = Bench::new();
        other.uart.pause();
        other.uart.restore(&saved).unwrap();
        other.uart.resume();
        assert!(!other.irq());
        other.clock.advance(1_000_000);
        assert_eq!(other.iir(), iir::CHARACTER_TIMEOUT);
        assert_eq!(other.drain(), b"x");
    }
}
