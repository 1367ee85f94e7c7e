//! Time: one monotonic clock for the whole machine, and precise alarms on it.
//!
//! All of the guest's timers (`time`, `mtime`, `mtimecmp`, `stimecmp`, the RTC) read this clock, which stands still
//! while the machine is paused. A virtual clock moves only when told to: tests are deterministic with it.
//!
//! Harts read the time and arm their timers all the time, so neither takes a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

/// Frequency of the clock in Hz, the device tree's `timebase-frequency` (as on QEMU's `virt` board).
pub const TICKS_PER_SECOND: u64 = 10_000_000;

const NANOSECONDS_PER_TICK: u64 = 1_000_000_000 / TICKS_PER_SECOND;

/// No time: a clock that runs, an alarm that is not armed.
const NEVER: u64 = u64::MAX;

/// The clock is being stopped: who reads it waits until it is known where it stands.
const STOPPING: u64 = u64::MAX - 1;

struct Inner {
    /// Whether the clock moves by [`Clock::advance`] alone.
    is_virtual: bool,
    /// Where the host's time is counted from.
    origin: Instant,
    /// What the guest's time is ahead of the host's, in ticks, wrapping.
    offset: AtomicU64,
    /// The time at which the clock stands still, [`NEVER`] if it runs, [`STOPPING`] for a moment. A virtual clock
    /// always stands still.
    stands_at: AtomicU64,
    /// Held while the clock is stopped, started or set.
    change: Mutex<()>,
    alarms: RwLock<Vec<Arc<Slot>>>,
    thread: Once,
    /// When the alarm thread looks by itself; 0 while it looks, or where the clock stands still. A nearer deadline must
    /// wake the thread.
    looks_at: AtomicU64,
    /// Held by the alarm thread from looking to sleeping.
    gate: Mutex<()>,
    wake: Condvar,
    /// How often the alarm thread has looked.
    looks: AtomicU64,
}

/// What the alarm thread sees of an alarm.
struct Slot {
    /// In ticks; [`NEVER`] if the alarm is not armed. Who takes it rings.
    deadline: AtomicU64,
    /// How often it was armed.
    armings: AtomicU64,
    ring: Box<dyn Fn() + Send + Sync>,
}

/// The machine's clock. Cloning makes another handle on the same clock.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clock {
    fn new(is_virtual: bool) -> Self {
        Self(Arc::new(Inner {
            is_virtual,
            origin: Instant::now(),
            offset: 0.into(),
            stands_at: if is_virtual { 0 } else { NEVER }.into(),
            change: ().into(),
            alarms: Vec::new().into(),
            thread: Once::new(),
            looks_at: 0.into(),
            gate: ().into(),
            wake: Condvar::new(),
            looks: 0.into(),
        }))
    }

    /// A clock that runs with the host's monotonic time, from zero.
    pub fn host() -> Self {
        Self::new(false)
    }

    /// A clock that moves by [`Clock::advance`] alone, from zero.
    pub fn manual() -> Self {
        Self::new(true)
    }

    /// The host's time in ticks.
    fn elapsed(&self) -> u64 {
        // In 64 bits, as this is on the guest's way to every `time`.
        let elapsed = self.0.origin.elapsed();
        let seconds = elapsed.as_secs().wrapping_mul(TICKS_PER_SECOND);
        seconds.wrapping_add(u64::from(elapsed.subsec_nanos()) / NANOSECONDS_PER_TICK)
    }

    /// The time in ticks of [`TICKS_PER_SECOND`].
    pub fn now(&self) -> u64 {
        loop {
            // The clock starts by setting the offset and then that it runs: who sees the latter sees the former.
            match self.0.stands_at.load(Ordering::Acquire) {
                NEVER => {}
                STOPPING => {
                    std::hint::spin_loop();
                    continue;
                }
                stands_at => return stands_at,
            }
            let offset = self.0.offset.load(Ordering::Acquire);
            let now = self.elapsed().wrapping_add(offset);
            // Had the clock been stopped meanwhile, `now` might lie behind where it stands.
            if self.0.stands_at.load(Ordering::SeqCst) == NEVER && self.0.offset.load(Ordering::Acquire) == offset {
                return now;
            }
        }
    }

    /// Stops the clock. Idempotent.
    pub fn pause(&self) {
        let _change = lock(&self.0.change);
        if self.0.stands_at.load(Ordering::Acquire) == NEVER {
            // Whoever still finds the clock running has read the host's time before it is read here.
            self.0.stands_at.store(STOPPING, Ordering::SeqCst);
            let now = self.elapsed().wrapping_add(self.0.offset.load(Ordering::Acquire));
            self.0.stands_at.store(now.min(STOPPING - 1), Ordering::Release);
        }
    }

    /// Lets the clock go on from where [`Clock::pause`] stopped it. Idempotent.
    pub fn resume(&self) {
        let change = lock(&self.0.change);
        let stands_at = self.0.stands_at.load(Ordering::Acquire);
        if stands_at != NEVER && !self.0.is_virtual {
            self.0.offset.store(stands_at.wrapping_sub(self.elapsed()), Ordering::Release);
            self.0.stands_at.store(NEVER, Ordering::Release);
        }
        drop(change);
        self.reschedule();
    }

    /// Sets the time, for a restored state; alarms armed before ring when the new time reaches them.
    pub fn set(&self, now: u64) {
        let change = lock(&self.0.change);
        if self.0.stands_at.load(Ordering::Acquire) == NEVER {
            self.0.offset.store(now.wrapping_sub(self.elapsed()), Ordering::Release);
        } else {
            self.0.stands_at.store(now.min(STOPPING - 1), Ordering::Release);
        }
        drop(change);
        self.reschedule();
    }

    /// Moves a virtual clock on and rings what is due, on this thread. Does nothing to a host clock.
    pub fn advance(&self, ticks: u64) {
        if self.0.is_virtual {
            self.set(self.now().wrapping_add(ticks));
        }
    }

    /// How long the host must wait until `deadline`: zero if it has passed, `None` if the clock stands still.
    fn until(&self, deadline: u64) -> Option<Duration> {
        let ticks = deadline.saturating_sub(self.now());
        if ticks == 0 {
            return Some(Duration::ZERO);
        }
        let runs = self.0.stands_at.load(Ordering::Acquire) == NEVER;
        runs.then(|| Duration::from_nanos(ticks.saturating_mul(NANOSECONDS_PER_TICK)))
    }

    /// An alarm on this clock, not armed. `ring` is called on the clock's own thread (a virtual clock: on the thread
    /// that moves it) and must not block or arm this alarm's clock.
    pub fn alarm(&self, ring: impl Fn() + Send + Sync + 'static) -> Alarm {
        let slot = Arc::new(Slot { deadline: NEVER.into(), armings: 0.into(), ring: Box::new(ring) });
        self.0.alarms.write().unwrap_or_else(PoisonError::into_inner).push(slot.clone());
        Alarm { clock: self.clone(), slot }
    }

    /// After a change of the time: a virtual clock rings what is due, a host clock's thread looks anew.
    fn reschedule(&self) {
        if self.0.is_virtual {
            self.ring_due();
        } else {
            self.wake();
        }
    }

    fn wake(&self) {
        // The thread is not between looking and sleeping.
        drop(lock(&self.0.gate));
        self.0.wake.notify_one();
    }

    fn alarms(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Slot>>> {
        self.0.alarms.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings what is due, in the order of the deadlines.
    fn ring_due(&self) {
        let now = self.now();
        let deadline_of = |slot: &Arc<Slot>| slot.deadline.load(Ordering::SeqCst);
        let is_due = |slot: &&Arc<Slot>| deadline_of(slot) <= now;
        // Not rung under the lock: a callback may take locks of its own.
        let mut due: Vec<_> =
            self.alarms().iter().filter(is_due).map(|slot| (deadline_of(slot), slot.clone())).collect();
        due.sort_by_key(|(deadline, _)| *deadline);
        for (deadline, slot) in due {
            // It may have been armed anew.
            if slot.deadline.compare_exchange(deadline, NEVER, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                (slot.ring)();
            }
        }
    }

    /// The nearest deadline, and how often alarms were armed so far.
    fn look(&self) -> (u64, u64) {
        let alarms = self.alarms();
        let armings = alarms.iter().fold(0, |sum: u64, slot| sum.wrapping_add(slot.armings.load(Ordering::Relaxed)));
        (alarms.iter().map(|slot| slot.deadline.load(Ordering::SeqCst)).min().unwrap_or(NEVER), armings)
    }

    /// After an alarm was armed.
    fn heed(&self, deadline: u64) {
        if self.0.is_virtual {
            return self.ring_due();
        }
        self.0.thread.call_once(|| {
            let inner = Arc::downgrade(&self.0);
            let spawned = std::thread::Builder::new().name("alarms".into()).spawn(move || run_alarms(inner));
            if let Err(error) = spawned {
                // Timers would never ring: nothing that the guest does could end well.
                panic!("the host cannot start the alarm thread: {error}");
            }
        });
        // The thread says when it will look, and then looks; the deadline was set before this asks. One sees the other.
        if deadline < self.0.looks_at.load(Ordering::SeqCst) {
            self.wake();
        }
    }
}

fn ticks(duration: Duration) -> u64 {
    duration.as_nanos() as u64 / NANOSECONDS_PER_TICK
}

/// The alarm thread of a host clock: sleeps until the nearest deadline, rings, ends with the last handle.
///
/// Waking it costs two switches of threads. A busy guest arms its timers thousands of times in a second, mostly for a
/// few milliseconds ahead and hardly ever to let them ring: then the thread rather looks by itself in short intervals,
/// and only nearer deadlines wake it.
fn run_alarms(inner: Weak<Inner>) {
    const INTERVAL: Duration = Duration::from_millis(1);
    /// How long the thread sleeps with nothing to do, so that it notices the end of its clock.
    const IDLE: Duration = Duration::from_millis(500);
    // Since when, and from which number on, armings are counted; whether there are many.
    let (mut since, mut armings_before, mut busy) = (0, 0, false);
    while let Some(inner) = inner.upgrade() {
        let clock = Clock(inner);
        clock.ring_due();
        let gate = lock(&clock.0.gate);
        let (first, armings) = clock.look();
        let is_over = clock.now().saturating_sub(since) >= ticks(INTERVAL);
        busy = armings.wrapping_sub(armings_before) > 1 || busy && !is_over;
        if is_over {
            (since, armings_before) = (clock.now(), armings);
        }
        let longest = if busy { INTERVAL } else { IDLE };
        // Exactly the deadline that the thread sleeps for: timers are moved away and back to it all the time.
        let looks_at = first.min(clock.now().saturating_add(ticks(longest)));
        // Where the clock stands still, its start wakes the thread.
        let wait = clock.until(looks_at);
        clock.0.looks_at.store(if wait.is_some() { looks_at } else { 0 }, Ordering::SeqCst);
        if clock.look().0 >= looks_at || wait.is_none() {
            drop(clock.0.wake.wait_timeout(gate, wait.unwrap_or(IDLE)));
        }
        clock.0.looks_at.store(0, Ordering::SeqCst);
        clock.0.looks.fetch_add(1, Ordering::Relaxed);
    }
}

/// A one-shot alarm on a [`Clock`]; disarmed when dropped.
pub struct Alarm {
    clock: Clock,
    slot: Arc<Slot>,
}

impl Alarm {
    /// Arms the alarm for `deadline` in ticks, instead of an earlier setting; `None` disarms it, and so does a deadline
    /// of `u64::MAX`, which no clock reaches. A deadline that has passed rings at once. A ring under way may still
    /// arrive after this returns.
    pub fn set(&self, deadline: Option<u64>) {
        let deadline = deadline.unwrap_or(NEVER);
        if self.slot.deadline.swap(deadline, Ordering::SeqCst) != deadline && deadline != NEVER {
            self.slot.armings.fetch_add(1, Ordering::Relaxed);
            self.clock.heed(deadline);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.set(None);
        let mut alarms = self.clock.0.alarms.write().unwrap_or_else(PoisonError::into_inner);
        alarms.retain(|slot| !Arc::ptr_eq(slot, &self.slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn counter(clock: &Clock) -> (Arc<AtomicU32>, Alarm) {
        let count = Arc::new(AtomicU32::new(0));
        let ring = count.clone();
        let alarm = clock.alarm(move || {
            ring.fetch_add(1, Ordering::SeqCst);
        });
        (count, alarm)
    }

    #[test]
    fn a_virtual_clock_rings_when_it_gets_there_and_once() {
        let clock = Clock::manual();
        let (count, alarm) = counter(&clock);
        alarm.set(Some(10));
        clock.advance(9);
        assert_eq!(count.load(Ordering::SeqCst), 0);
        clock.advance(1);
        clock.advance(100);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        alarm.set(Some(110));
        assert_eq!(count.load(Ordering::SeqCst), 2, "a passed deadline rings at once");
        alarm.set(Some(200));
        alarm.set(None);
        clock.advance(1000);
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_host_clock_rings_soon_after_its_deadline() {
        let clock = Clock::host();
        let (count, alarm) = counter(&clock);
        let (_, far) = counter(&clock);
        far.set(Some(clock.now() + 1000 * TICKS_PER_SECOND));
        std::thread::sleep(Duration::from_millis(5));
        alarm.set(Some(clock.now() + TICKS_PER_SECOND / 1000));
        let start = Instant::now();
        while count.load(Ordering::SeqCst) == 0 {
            assert!(start.elapsed() < Duration::from_millis(400), "not before the thread looked by itself");
            std::thread::yield_now();
        }
        assert!(start.elapsed() >= Duration::from_micros(900));
    }

    #[test]
    fn a_timer_that_is_armed_all_the_time_does_not_wake_the_alarm_thread_each_time() {
        const ROUNDS: u64 = 50_000;
        let clock = Clock::host();
        let (count, alarm) = counter(&clock);
        for round in 0..ROUNDS {
            // Now far away, now a few milliseconds ahead, as a kernel does that goes idle and comes back.
            let milliseconds = if round % 2 == 0 { 1000 } else { 4 };
            alarm.set(Some(clock.now() + milliseconds * TICKS_PER_SECOND / 1000));
        }
        let looks = clock.0.looks.load(Ordering::SeqCst);
        assert!(looks < ROUNDS / 4, "{looks} times");
        alarm.set(Some(clock.now() + 1));
        while count.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_paused_clock_stands_still() {
        let clock = Clock::host();
        clock.pause();
        let before = clock.now();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.now(), before);
        assert_eq!(clock.until(before + 1), None);
        clock.resume();
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.now() > before);
    }

    #[test]
    fn no_ring_is_lost_where_many_harts_arm_at_once() {
        let clock = Clock::host();
        std::thread::scope(|scope| {
            for hart in 0..4 {
                let clock = clock.clone();
                scope.spawn(move || {
                    let (count, alarm) = counter(&clock);
                    let mut rung = 0;
                    for round in 0..2000_u64 {
                        // Nearer and nearer, as a hart does that changes its mind, with others in between.
                        alarm.set(Some(clock.now() + TICKS_PER_SECOND));
                        alarm.set(Some(clock.now() + (round * 7 + hart * 131) % 997));
                        let start = Instant::now();
                        while count.load(Ordering::SeqCst) == rung {
                            assert!(start.elapsed() < Duration::from_millis(800), "the ring of round {round} is lost");
                            std::thread::yield_now();
                        }
                        rung = count.load(Ordering::SeqCst);
                    }
                    assert_eq!(rung, 2000, "an alarm rings once");
                });
            }
        });
    }

    #[test]
    fn time_never_goes_back_while_the_clock_stops_and_starts() {
        let clock = Clock::host();
        let stop = Arc::new(AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut before = 0;
                    while stop.load(Ordering::Relaxed) == 0 {
                        let now = clock.now();
                        assert!(now >= before, "{now} after {before}");
                        before = now;
                    }
                });
            }
            for _ in 0..20_000 {
                clock.pause();
                clock.resume();
            }
            stop.store(1, Ordering::Relaxed);
        });
    }

    #[test]
    fn an_alarm_of_a_paused_clock_rings_once_it_goes_on() {
        let clock = Clock::host();
        let (count, alarm) = counter(&clock);
        alarm.set(Some(clock.now() + TICKS_PER_SECOND / 500));
        clock.pause();
        std::thread::sleep(Duration::from_millis(10));
        let rung = count.load(Ordering::SeqCst);
        let start = Instant::now();
        clock.resume();
        while count.load(Ordering::SeqCst) == 0 {
            assert!(start.elapsed() < Duration::from_millis(400), "not before the thread looked by itself");
            std::thread::yield_now();
        }
        // It rang before the pause on a host that was slow, if at all.
        assert!(rung <= 1);
        clock.set(0);
        alarm.set(Some(10 * TICKS_PER_SECOND));
        clock.set(10 * TICKS_PER_SECOND);
        let start = Instant::now();
        while count.load(Ordering::SeqCst) < 2 {
            assert!(start.elapsed() < Duration::from_millis(400), "setting the time is heard of");
            std::thread::yield_now();
        }
    }
}
