//! The advanced core-local interruptor (RISC-V ACLINT Specification 1.0): [`Clint`] is its MSWI and MTIMER devices in
//! one window, in the layout of SiFive's CLINT, [`Sswi`] its supervisor-level software interrupts.
//!
//! Registers take every aligned access: a narrow one reads or changes a part of the doubleword around it, and a
//! 64-bit one of `mtime` or `mtimecmp` is atomic. Misaligned accesses read as zero and are ignored.

use std::sync::{Arc, Mutex, Weak};

use bus::device_tree::Node;
use bus::{Alarm, Clock, Device, IrqLine, Placement, StateError, Width};
use serde::{Deserialize, Serialize};

use crate::lock;

const CLINT: &str = "clint";
const SSWI: &str = "sswi";

/// Offsets in the window of [`Clint`].
mod register {
    pub const MSIP: u64 = 0;
    pub const MTIMECMP: u64 = 0x4000;
    pub const MTIME: u64 = 0xbff8;
}

/// The most harts whose registers fit before `mtime`.
const MAX_HARTS: usize = 4095;

/// The lines to one hart.
pub struct HartLines {
    /// Machine software interrupt (`mip.MSIP`).
    pub software: IrqLine,
    /// Machine timer interrupt (`mip.MTIP`).
    pub timer: IrqLine,
}

#[derive(Clone, Serialize, Deserialize)]
struct HartState {
    msip: bool,
    mtimecmp: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct State {
    /// What `mtime` is ahead of the clock, modulo 2^64.
    mtime_offset: u64,
    harts: Vec<HartState>,
}

impl State {
    /// No timer interrupt until the guest asks for one.
    fn power_on(harts: usize) -> Self {
        Self { mtime_offset: 0, harts: vec![HartState { msip: false, mtimecmp: u64::MAX }; harts] }
    }

    fn mtime(&self, now: u64) -> u64 {
        now.wrapping_add(self.mtime_offset)
    }

    /// The registers in the doubleword at `offset`.
    fn doubleword(&self, offset: u64, now: u64) -> u64 {
        if offset < register::MTIMECMP {
            let first = ((offset - register::MSIP) / 4) as usize;
            let msip = |hart| self.harts.get(hart).is_some_and(|hart: &HartState| hart.msip);
            u64::from(msip(first)) | u64::from(msip(first + 1)) << 32
        } else if offset < register::MTIME {
            let hart = ((offset - register::MTIMECMP) / 8) as usize;
            self.harts.get(hart).map_or(0, |hart| hart.mtimecmp)
        } else if offset == register::MTIME {
            self.mtime(now)
        } else {
            0
        }
    }

    fn set_doubleword(&mut self, offset: u64, value: u64, now: u64) {
        if offset < register::MTIMECMP {
            let first = ((offset - register::MSIP) / 4) as usize;
            for (hart, msip) in [(first, value & 1 != 0), (first + 1, value >> 32 & 1 != 0)] {
                if let Some(hart) = self.harts.get_mut(hart) {
                    hart.msip = msip;
                }
            }
        } else if offset < register::MTIME {
            let hart = ((offset - register::MTIMECMP) / 8) as usize;
            if let Some(hart) = self.harts.get_mut(hart) {
                hart.mtimecmp = value;
            }
        } else if offset == register::MTIME {
            self.mtime_offset = value.wrapping_sub(now);
        }
    }

    /// When the timer interrupt of `hart` will come, in ticks of the clock; `None` if it has come or never will.
    fn deadline(&self, hart: usize, now: u64) -> Option<u64> {
        let wait = self.harts[hart].mtimecmp.checked_sub(self.mtime(now)).filter(|wait| *wait > 0)?;
        now.checked_add(wait)
    }
}

/// The part of the doubleword at `offset & !7` that an aligned access reaches: its mask and shift.
fn lane(offset: u64, width: Width) -> Option<(u64, u64)> {
    let shift = offset % 8 * 8;
    offset.is_multiple_of(width.bytes()).then(|| (width.mask() << shift, shift))
}

/// MSWI and MTIMER.
pub struct Clint {
    clock: Clock,
    lines: Vec<HartLines>,
    alarms: Vec<Alarm>,
    state: Mutex<State>,
    /// Held while alarms are set to what the state says, so that the last setting is the newest. Taken before `state`,
    /// never by an alarm.
    arming: Mutex<()>,
}

impl Clint {
    /// A CLINT for as many harts (at most 4095) as `lines`, whose `mtime` is `clock`.
    pub fn new(clock: Clock, lines: Vec<HartLines>) -> Arc<Self> {
        assert!(lines.len() <= MAX_HARTS, "a board with more harts than a CLINT can serve");
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let alarm = |hart| {
                let clint = weak.clone();
                clock.alarm(move || {
                    if let Some(clint) = clint.upgrade() {
                        clint.sync_timer(&lock(&clint.state), hart);
                    }
                })
            };
            let alarms = (0..lines.len()).map(alarm).collect();
            let state = Mutex::new(State::power_on(lines.len()));
            Self { clock: clock.clone(), lines, alarms, state, arming: Mutex::new(()) }
        })
    }

    fn sync_timer(&self, state: &State, hart: usize) {
        self.lines[hart].timer.set(state.mtime(self.clock.now()) >= state.harts[hart].mtimecmp);
    }

    /// Drives the lines of `harts` to what the state says.
    fn sync(&self, state: &State, harts: std::ops::Range<usize>) {
        for hart in harts {
            self.lines[hart].software.set(state.harts[hart].msip);
            self.sync_timer(state, hart);
        }
    }

    /// Sets the alarms of `harts`. The state must not be locked: an alarm in the past rings in here.
    fn arm(&self, harts: std::ops::Range<usize>) {
        let _arming = lock(&self.arming);
        for hart in harts {
            let now = self.clock.now();
            let deadline = lock(&self.state).deadline(hart, now);
            self.alarms[hart].set(deadline);
            if deadline.is_none() {
                // The moment may have come since the line was last derived, and the alarm not have rung.
                self.sync_timer(&lock(&self.state), hart);
            }
        }
    }

    fn replace(&self, state: State) {
        let mut current = lock(&self.state);
        *current = state;
        self.sync(&current, 0..self.lines.len());
        drop(current);
        self.arm(0..self.lines.len());
    }
}

impl Device for Clint {
    fn name(&self) -> &'static str {
        CLINT
    }

    fn size(&self) -> u64 {
        0x1_0000
    }

    fn read(&self, offset: u64, width: Width) -> u64 {
        let Some((mask, shift)) = lane(offset, width) else {
            return 0;
        };
        (lock(&self.state).doubleword(offset & !7, self.clock.now()) & mask) >> shift
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        let Some((mask, shift)) = lane(offset, width) else {
            tracing::debug!("clint: misaligned write at {offset:#x} ignored");
            return;
        };
        let mut state = lock(&self.state);
        let now = self.clock.now();
        let old = state.doubleword(offset & !7, now);
        state.set_doubleword(offset & !7, old & !mask | value << shift & mask, now);
        let harts = match offset & !7 {
            offset if offset < register::MTIMECMP => {
                let first = (offset / 4) as usize;
                first..first + 2
            }
            offset if offset < register::MTIME => {
                let hart = ((offset - register::MTIMECMP) / 8) as usize;
                hart..hart + 1
            }
            register::MTIME => 0..self.lines.len(),
            _ => 0..0,
        };
        let harts = harts.start.min(self.lines.len())..harts.end.min(self.lines.len());
        self.sync(&state, harts.clone());
        drop(state);
        if offset >= register::MTIMECMP {
            self.arm(harts);
        }
    }

    fn peek(&self, offset: u64, width: Width) -> u64 {
        self.read(offset, width)
    }

    fn register_width(&self, offset: u64) -> Width {
        if offset < register::MTIMECMP { Width::Word } else { Width::Double }
    }

    fn reset(&self) {
        self.replace(State::power_on(self.lines.len()));
    }

    fn describe(&self, placement: &Placement) -> Option<Node> {
        /// Numbers of the local interrupts (Privileged Architecture, `mip`).
        const MACHINE_SOFTWARE: u32 = 3;
        const MACHINE_TIMER: u32 = 7;
        let harts = placement.hart_interrupt_controllers.iter().take(self.lines.len());
        let inputs: Vec<_> = harts.flat_map(|hart| [*hart, MACHINE_SOFTWARE, *hart, MACHINE_TIMER]).collect();
        let node = placement.node("clint").strings("compatible", &["sifive,clint0", "riscv,clint0"]);
        Some(node.cells("interrupts-extended", &inputs))
    }

    fn resume(&self) {
        self.sync(&lock(&self.state), 0..self.lines.len());
        self.arm(0..self.lines.len());
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        bus::save(CLINT, &*lock(&self.state))
    }

    /// The clock's time must have been restored before: the timer lines depend on it.
    fn restore(&self, state: &[u8]) -> Result<(), StateError> {
        let state: State = bus::restore(CLINT, state)?;
        let State { mtime_offset: _, harts } = &state;
        if harts.len() != self.lines.len() {
            let reason = format!("it has {} harts instead of {}", harts.len(), self.lines.len());
            return Err(StateError::Mismatch { device: CLINT.into(), reason });
        }
        self.replace(state);
        Ok(())
    }
}

/// SSWI has no register that holds anything: the interrupt is `mip.SSIP`, which the hart keeps and clears.
#[derive(Serialize, Deserialize)]
struct SswiState;

/// SSWI: a write of 1 to SETSSIP of a hart makes its supervisor software interrupt pending.
pub struct Sswi {
    /// `mip.SSIP` by hart.
    lines: Vec<IrqLine>,
}

impl Sswi {
    /// An SSWI device for as many harts (at most 4095) as `lines`, each of which sets a hart's `mip.SSIP`. They are only
    /// ever driven high, once for each write: the sink must take each as an event.
    pub fn new(lines: Vec<IrqLine>) -> Self {
        assert!(lines.len() <= MAX_HARTS, "a board with more harts than SSWI can serve");
        Self { lines }
    }
}

impl Device for Sswi {
    fn name(&self) -> &'static str {
        SSWI
    }

    fn size(&self) -> u64 {
        0x4000
    }

    fn read(&self, _: u64, _: Width) -> u64 {
        0
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        let Some((mask, shift)) = lane(offset, width) else {
            tracing::debug!("sswi: misaligned write at {offset:#x} ignored");
            return;
        };
        let value = value << shift & mask;
        let first = (offset & !7) as usize / 4;
        for (hart, set) in [(first, value & 1 != 0), (first + 1, value >> 32 & 1 != 0)] {
            if let Some(line) = self.lines.get(hart).filter(|_| set) {
                line.set(true);
            }
        }
    }

    fn peek(&self, _: u64, _: Width) -> u64 {
        0
    }

    fn reset(&self) {}

    fn describe(&self, placement: &Placement) -> Option<Node> {
        /// Number of the local interrupt (Privileged Architecture, `mip`).
        const SUPERVISOR_SOFTWARE: u32 = 1;
        let harts = placement.hart_interrupt_controllers.iter().take(self.lines.len());
        let inputs: Vec<_> = harts.flat_map(|hart| [*hart, SUPERVISOR_SOFTWARE]).collect();
        Some(
            placement
                .node("sswi")
                .string("compatible", "riscv,aclint-sswi")
                .flag("interrupt-controller")
                .cells("#interrupt-cells", &[0])
                .cells("interrupts-extended", &inputs),
        )
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        bus::save(SSWI, &SswiState)
    }

    fn restore(&self, state: &[u8]) -> Result<(), StateError> {
        let SswiState = bus::restore(SSWI, state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Recorder;
    use Width::{Double, Half, Word};

    /// Input 2h of the recorder is hart h's software, 2h+1 its timer interrupt.
    fn clint(harts: u32) -> (Arc<Clint>, Clock, Arc<Recorder>) {
        let (clock, recorder) = (Clock::manual(), Recorder::new());
        let lines = |hart| HartLines { software: recorder.line(2 * hart), timer: recorder.line(2 * hart + 1) };
        let clint = Clint::new(clock.clone(), (0..harts).map(lines).collect());
        (clint, clock, recorder)
    }

    #[test]
    fn the_timer_interrupt_is_mtime_against_mtimecmp() {
        let (clint, clock, harts) = clint(2);
        clint.write(register::MTIMECMP + 8, Double, 100);
        clock.advance(99);
        assert!(!harts.level(3));
        clock.advance(1);
        assert!(harts.level(3) && !harts.level(1), "it rises when the times are equal");
        clint.write(register::MTIMECMP + 8, Double, 101);
        assert!(!harts.level(3));
        clint.write(register::MTIMECMP + 8, Double, 0);
        assert!(harts.level(3), "in the past it is high at once");
    }

    #[test]
    fn mtimecmp_is_written_in_halves_without_a_false_interrupt() {
        let (clint, clock, harts) = clint(1);
        clock.advance(0x1_8000_0000);
        // Privileged Architecture, "Machine Timer Registers": low to all ones, then high, then low.
        clint.write(register::MTIMECMP, Word, 0xffff_ffff);
        clint.write(register::MTIMECMP + 4, Word, 1);
        clint.write(register::MTIMECMP, Word, 0x8000_0010);
        assert!(!harts.level(1));
        assert_eq!(clint.read(register::MTIMECMP, Double), 0x1_8000_0010);
        clock.advance(16);
        assert!(harts.level(1));
    }

    #[test]
    fn writes_of_mtime_move_it_and_the_timer_with_it() {
        let (clint, clock, harts) = clint(1);
        clock.advance(1000);
        assert_eq!(clint.read(register::MTIME, Double), 1000);
        clint.write(register::MTIMECMP, Double, 5000);
        clint.write(register::MTIME, Double, 4990);
        assert!(!harts.level(1));
        clock.advance(10);
        assert!(harts.level(1));
        clint.write(register::MTIME, Double, 0);
        assert!(!harts.level(1));
        clock.advance(4999);
        assert!(!harts.level(1));
        clock.advance(1);
        assert!(harts.level(1));
        clint.write(register::MTIME + 4, Word, 7);
        assert_eq!(clint.read(register::MTIME, Double), 7 << 32 | 5000);
        assert_eq!(clint.read(register::MTIME + 4, Half), 7);
    }

    #[test]
    fn msip_is_one_bit_of_a_word() {
        let (clint, _, harts) = clint(3);
        clint.write(4, Word, 0xffff_ffff);
        assert_eq!([0, 4, 8, 12].map(|at| clint.read(at, Word)), [0, 1, 0, 0]);
        assert!(harts.level(2) && !harts.level(0) && !harts.level(4));
        clint.write(0, Double, 1);
        assert!(harts.level(0) && !harts.level(2));
        clint.write(12, Word, 1);
        assert_eq!(clint.read(12, Word), 0, "there is no fourth hart");
    }

    #[test]
    fn reset_and_restore_drive_the_lines() {
        let (clint, clock, harts) = clint(1);
        clock.advance(50);
        clint.write(0, Word, 1);
        clint.write(register::MTIMECMP, Double, 40);
        let passed = clint.save().unwrap();
        clint.write(register::MTIMECMP, Double, 60);
        let coming = clint.save().unwrap();
        clint.reset();
        assert!(!harts.level(0) && !harts.level(1));
        clint.restore(&passed).unwrap();
        assert!(harts.level(0) && harts.level(1));
        clint.restore(&coming).unwrap();
        assert!(!harts.level(1));
        let (fresh, clock, harts) = self::clint(1);
        clock.advance(50);
        fresh.restore(&coming).unwrap();
        clock.advance(9);
        assert!(!harts.level(1));
        clock.advance(1);
        assert!(harts.level(1), "the alarm is set by restoring");
        let (other, _, _) = self::clint(2);
        assert!(matches!(other.restore(&coming), Err(StateError::Mismatch { .. })));
    }

    #[test]
    fn a_host_clock_rings_the_timer() {
        let recorder = Recorder::new();
        let clock = Clock::host();
        let lines = HartLines { software: recorder.line(0), timer: recorder.line(1) };
        let clint = Clint::new(clock, vec![lines]);
        let deadline = clint.read(register::MTIME, Double) + 20_000;
        clint.write(register::MTIMECMP, Double, deadline);
        let start = std::time::Instant::now();
        while !recorder.level(1) {
            assert!(start.elapsed().as_secs() < 10, "never rang");
            std::thread::yield_now();
        }
        assert!(clint.read(register::MTIME, Double) >= deadline);
    }

    #[test]
    fn setssip_sets_and_reads_as_zero() {
        let harts = Recorder::new();
        let sswi = Sswi::new((0..3).map(|hart| harts.line(hart)).collect());
        sswi.write(4, Word, 0);
        assert!(!harts.level(1), "zero does nothing");
        sswi.write(4, Word, 1);
        sswi.write(12, Word, 1);
        sswi.write(1, Half, 1);
        assert_eq!(harts.levels().into_iter().collect::<Vec<_>>(), [(1, true)]);
        assert_eq!(sswi.read(4, Word), 0);
        sswi.write(0, Double, 1);
        assert!(harts.level(0));
    }
}
