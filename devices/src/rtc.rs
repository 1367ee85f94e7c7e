//! The goldfish real-time clock, as Linux's `rtc-goldfish` knows it: nanoseconds since the epoch, and an alarm.
//!
//! It follows the host's wall clock, ahead of it by what the guest has set. The alarm is timed by the machine's clock,
//! so that a step of the host's time moves neither the alarm nor its interrupt.

use std::sync::{Arc, Mutex, Weak};
use std::time::SystemTime;

use bus::device_tree::Node;
use bus::{Alarm, Clock, Device, IrqLine, Placement, StateError, TICKS_PER_SECOND, Width};
use serde::{Deserialize, Serialize};

use crate::lock;

const NAME: &str = "rtc";

const NANOSECONDS_PER_TICK: u64 = 1_000_000_000 / TICKS_PER_SECOND;

/// Registers by offset, 32 bits each.
mod register {
    /// Reading latches the high half; writing sets the low half.
    pub const TIME_LOW: u64 = 0x00;
    pub const TIME_HIGH: u64 = 0x04;
    /// Writing arms the alarm.
    pub const ALARM_LOW: u64 = 0x08;
    pub const ALARM_HIGH: u64 = 0x0c;
    pub const IRQ_ENABLED: u64 = 0x10;
    pub const CLEAR_ALARM: u64 = 0x14;
    pub const ALARM_STATUS: u64 = 0x18;
    pub const CLEAR_INTERRUPT: u64 = 0x1c;
}

/// The host's wall clock in nanoseconds since the epoch.
pub fn host_wall_clock() -> u64 {
    // A host whose clock stands before 1970 has no time to give.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    /// What the time is ahead of the host's, in nanoseconds modulo 2^64.
    offset: u64,
    /// TIME_HIGH as it was when TIME_LOW was read.
    time_high: u32,
    /// In nanoseconds since the epoch.
    alarm: u64,
    alarm_armed: bool,
    interrupt_pending: bool,
    interrupt_enabled: bool,
}

impl State {
    fn power_on() -> Self {
        Self {
            offset: 0,
            time_high: 0,
            alarm: 0,
            alarm_armed: false,
            interrupt_pending: false,
            interrupt_enabled: false,
        }
    }
}

struct Inner {
    state: State,
    /// When the armed alarm comes, in ticks of the clock.
    deadline: Option<u64>,
    paused: bool,
}

/// The real-time clock.
pub struct GoldfishRtc {
    line: IrqLine,
    clock: Clock,
    wall_clock: Box<dyn Fn() -> u64 + Send + Sync>,
    alarm: Alarm,
    inner: Mutex<Inner>,
    /// Held while `alarm` is set to what the state says, so that the last setting is the newest. Taken before `inner`,
    /// never by the alarm.
    arming: Mutex<()>,
}

impl GoldfishRtc {
    /// A clock that shows `wall_clock`, in nanoseconds since the epoch, and whose alarm interrupts by `line`.
    pub fn new(line: IrqLine, clock: Clock, wall_clock: impl Fn() -> u64 + Send + Sync + 'static) -> Arc<Self> {
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let rung = weak.clone();
            let alarm = clock.alarm(move || {
                if let Some(rtc) = rung.upgrade() {
                    rtc.ring();
                }
            });
            let inner = Inner { state: State::power_on(), deadline: None, paused: false };
            Self {
                line,
                clock: clock.clone(),
                wall_clock: Box::new(wall_clock),
                alarm,
                inner: Mutex::new(inner),
                arming: Mutex::new(()),
            }
        })
    }

    fn time(&self, state: &State) -> u64 {
        (self.wall_clock)().wrapping_add(state.offset)
    }

    /// The alarm's time may have come.
    fn ring(&self) {
        let mut inner = lock(&self.inner);
        if !inner.paused && inner.deadline.is_some_and(|deadline| deadline <= self.clock.now()) {
            Self::fire(&mut inner);
            self.sync(&inner);
        }
    }

    fn fire(inner: &mut Inner) {
        inner.deadline = None;
        inner.state.alarm_armed = false;
        inner.state.interrupt_pending = true;
    }

    /// Drives the line to what the state says.
    fn sync(&self, inner: &Inner) {
        self.line.set(inner.state.interrupt_pending && inner.state.interrupt_enabled);
    }

    /// The time or the alarm has changed: computes anew when the alarm comes, which may be now.
    fn schedule(&self, inner: &mut Inner) {
        inner.deadline = None;
        if inner.state.alarm_armed && !inner.paused {
            match inner.state.alarm.saturating_sub(self.time(&inner.state)).div_ceil(NANOSECONDS_PER_TICK) {
                0 => Self::fire(inner),
                ticks => inner.deadline = Some(self.clock.now().saturating_add(ticks)),
            }
        }
        self.sync(inner);
    }

    /// Sets the alarm to what the state says. No lock of the device may be held: an alarm in the past rings in here.
    fn arm(&self) {
        let _arming = lock(&self.arming);
        let deadline = lock(&self.inner).deadline;
        self.alarm.set(deadline);
    }

    fn read_register(&self, state: &State, offset: u64) -> u32 {
        match offset {
            register::TIME_LOW => self.time(state) as u32,
            register::TIME_HIGH => state.time_high,
            register::ALARM_LOW => state.alarm as u32,
            register::ALARM_HIGH => (state.alarm >> 32) as u32,
            register::IRQ_ENABLED => state.interrupt_enabled.into(),
            register::ALARM_STATUS => state.alarm_armed.into(),
            _ => 0,
        }
    }
}

fn with_low(value: u64, low: u32) -> u64 {
    value & !0xffff_ffff | u64::from(low)
}

fn with_high(value: u64, high: u32) -> u64 {
    value & 0xffff_ffff | u64::from(high) << 32
}

impl Device for GoldfishRtc {
    fn name(&self) -> &'static str {
        NAME
    }

    fn size(&self) -> u64 {
        0x1000
    }

    /// Registers are words; other accesses read as zero.
    fn read(&self, offset: u64, width: Width) -> u64 {
        if width != Width::Word {
            return 0;
        }
        let mut inner = lock(&self.inner);
        if offset == register::TIME_LOW {
            let time = self.time(&inner.state);
            inner.state.time_high = (time >> 32) as u32;
            return u64::from(time as u32);
        }
        self.read_register(&inner.state, offset).into()
    }

    /// Registers are words; other accesses are ignored.
    fn write(&self, offset: u64, width: Width, value: u64) {
        if width != Width::Word {
            tracing::debug!("rtc: write of {width:?} at {offset:#x} ignored");
            return;
        }
        let value = value as u32;
        let mut inner = lock(&self.inner);
        let time = self.time(&inner.state);
        let state = &mut inner.state;
        match offset {
            register::TIME_LOW => state.offset = state.offset.wrapping_add(with_low(time, value).wrapping_sub(time)),
            register::TIME_HIGH => state.offset = state.offset.wrapping_add(with_high(time, value).wrapping_sub(time)),
            register::ALARM_LOW => {
                state.alarm = with_low(state.alarm, value);
                state.alarm_armed = true;
            }
            register::ALARM_HIGH => state.alarm = with_high(state.alarm, value),
            register::IRQ_ENABLED => state.interrupt_enabled = value & 1 != 0,
            register::CLEAR_ALARM => state.alarm_armed = false,
            register::CLEAR_INTERRUPT => state.interrupt_pending = false,
            _ => tracing::debug!("rtc: write of {value:#x} at {offset:#x} ignored"),
        }
        self.schedule(&mut inner);
        drop(inner);
        self.arm();
    }

    fn peek(&self, offset: u64, width: Width) -> u64 {
        if width == Width::Word { self.read_register(&lock(&self.inner).state, offset).into() } else { 0 }
    }

    /// The time that the guest has set stays, as a battery keeps it.
    fn reset(&self) {
        let mut inner = lock(&self.inner);
        inner.state = State { offset: inner.state.offset, ..State::power_on() };
        self.schedule(&mut inner);
        drop(inner);
        self.arm();
    }

    fn describe(&self, placement: &Placement) -> Option<Node> {
        Some(placement.node("rtc").string("compatible", "google,goldfish-rtc"))
    }

    fn pause(&self) {
        let mut inner = lock(&self.inner);
        inner.paused = true;
        self.schedule(&mut inner);
        drop(inner);
        self.arm();
    }

    /// The host's time has gone on meanwhile: an alarm that it has passed comes now.
    fn resume(&self) {
        let mut inner = lock(&self.inner);
        inner.paused = false;
        self.schedule(&mut inner);
        drop(inner);
        self.arm();
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        bus::save(NAME, &lock(&self.inner).state)
    }

    fn restore(&self, state: &[u8]) -> Result<(), StateError> {
        let state = bus::restore(NAME, state)?;
        let mut inner = lock(&self.inner);
        inner.state = state;
        self.schedule(&mut inner);
        drop(inner);
        self.arm();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Recorder;
    use Width::Word;

    const START: u64 = 0x1234_5678_ffff_ff00;

    /// A clock whose host's time is START and the virtual time since then.
    fn rtc(clock: &Clock) -> (Arc<GoldfishRtc>, Arc<Recorder>) {
        let (recorder, wall) = (Recorder::new(), clock.clone());
        let rtc = GoldfishRtc::new(recorder.line(0), clock.clone(), move || START + wall.now() * NANOSECONDS_PER_TICK);
        (rtc, recorder)
    }

    fn time(rtc: &GoldfishRtc) -> u64 {
        rtc.read(register::TIME_LOW, Word) | rtc.read(register::TIME_HIGH, Word) << 32
    }

    fn set_alarm(rtc: &GoldfishRtc, time: u64) {
        rtc.write(register::ALARM_HIGH, Word, time >> 32);
        rtc.write(register::ALARM_LOW, Word, time & 0xffff_ffff);
    }

    #[test]
    fn the_high_half_is_latched_with_the_low_one() {
        let clock = Clock::manual();
        let (rtc, _) = rtc(&clock);
        let low = rtc.read(register::TIME_LOW, Word);
        clock.advance(100);
        assert_eq!(rtc.read(register::TIME_HIGH, Word) << 32 | low, START);
        assert_eq!(rtc.peek(register::TIME_LOW, Word), (START + 10_000) & 0xffff_ffff);
        assert_eq!(rtc.peek(register::TIME_HIGH, Word), START >> 32, "a peek latches nothing");
        assert_eq!(time(&rtc), START + 10_000);
    }

    #[test]
    fn the_guest_sets_the_time_and_it_goes_on_from_there() {
        let clock = Clock::manual();
        let (rtc, _) = rtc(&clock);
        rtc.write(register::TIME_HIGH, Word, 0x42);
        rtc.write(register::TIME_LOW, Word, 0x17);
        assert_eq!(time(&rtc), 0x42_0000_0017);
        clock.advance(3);
        assert_eq!(time(&rtc), 0x42_0000_0017 + 300);
        rtc.reset();
        assert_eq!(time(&rtc), 0x42_0000_0017 + 300, "a reset takes no battery out");
    }

    #[test]
    fn the_alarm_interrupts_once_when_enabled() {
        let clock = Clock::manual();
        let (rtc, line) = rtc(&clock);
        set_alarm(&rtc, START + 1001);
        rtc.write(register::IRQ_ENABLED, Word, 1);
        assert_eq!(rtc.read(register::ALARM_STATUS, Word), 1);
        clock.advance(10);
        assert!(!line.level(0), "not before its time");
        clock.advance(1);
        assert!(line.level(0));
        assert_eq!(rtc.read(register::ALARM_STATUS, Word), 0);
        rtc.write(register::IRQ_ENABLED, Word, 0);
        assert!(!line.level(0));
        rtc.write(register::IRQ_ENABLED, Word, 1);
        assert!(line.level(0), "the interrupt stays pending while disabled");
        rtc.write(register::CLEAR_INTERRUPT, Word, 0);
        assert!(!line.level(0));
        clock.advance(1_000_000);
        assert!(!line.level(0));
    }

    #[test]
    fn an_alarm_can_be_cleared_lie_in_the_past_or_be_overtaken() {
        let clock = Clock::manual();
        let (rtc, line) = rtc(&clock);
        rtc.write(register::IRQ_ENABLED, Word, 1);
        set_alarm(&rtc, START + 1000);
        rtc.write(register::CLEAR_ALARM, Word, 1);
        clock.advance(100);
        assert!(!line.level(0));
        set_alarm(&rtc, START);
        assert!(line.level(0), "in the past it comes at once");
        rtc.write(register::CLEAR_INTERRUPT, Word, 1);
        set_alarm(&rtc, START + (1 << 40));
        rtc.write(register::TIME_HIGH, Word, (START >> 32) + (1 << 9));
        assert!(line.level(0), "the time was set beyond it");
    }

    #[test]
    fn a_paused_alarm_comes_after_the_pause() {
        let clock = Clock::manual();
        let (rtc, line) = rtc(&clock);
        rtc.write(register::IRQ_ENABLED, Word, 1);
        set_alarm(&rtc, START + 1000);
        rtc.pause();
        clock.advance(20);
        assert!(!line.level(0));
        let saved = rtc.save().unwrap();
        rtc.resume();
        assert!(line.level(0));

        let (fresh, line) = self::rtc(&clock);
        fresh.pause();
        fresh.restore(&saved).unwrap();
        assert!(!line.level(0), "restoring makes no interrupt that was not there");
        fresh.resume();
        assert!(line.level(0));
        assert!(fresh.restore(&saved[1..]).is_err());
    }
}
