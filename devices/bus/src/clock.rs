//! Time: one monotonic clock for the whole machine, and precise alarms on it.
//!
//! All of the guest's timers (`time`, `mtime`, `mtimecmp`, `stimecmp`, the RTC) read this clock, which stands still
//! while the machine is paused. A virtual clock moves only when told to: tests are deterministic with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

/// Frequency of the clock in Hz, the device tree's `timebase-frequency` (as on QEMU's `virt` board).
pub const TICKS_PER_SECOND: u64 = 10_000_000;

const NANOSECONDS_PER_TICK: u64 = 1_000_000_000 / TICKS_PER_SECOND;

enum Source {
    /// Ticks at `since` plus the host's time since then; `None` while paused.
    Host { ticks: u64, since: Option<Instant> },
    /// Ticks.
    Virtual(u64),
}

impl Source {
    fn now(&self) -> u64 {
        match self {
            Source::Host { ticks, since: Some(since) } => {
                // In 64 bits, as this is on the guest's way to every `time`.
                let elapsed = since.elapsed();
                let seconds = elapsed.as_secs().wrapping_mul(TICKS_PER_SECOND);
                ticks.wrapping_add(seconds).wrapping_add(u64::from(elapsed.subsec_nanos()) / NANOSECONDS_PER_TICK)
            }
            Source::Host { ticks, since: None } | Source::Virtual(ticks) => *ticks,
        }
    }
}

type Callback = Arc<dyn Fn() + Send + Sync>;

struct Schedule {
    /// Armed alarms by (deadline, alarm).
    armed: BTreeMap<(u64, u64), Callback>,
    next_id: u64,
    /// When the alarm thread will wake by itself; a nearer deadline must wake it.
    sleeping_until: Option<Instant>,
    /// How often an alarm was armed since the alarm thread looked last.
    armings: u32,
    /// How often the alarm thread has woken.
    wakes: u64,
    thread_started: bool,
}

struct Inner {
    /// Written only by pause, resume, set and advance; read for every `time`. Taken before `schedule`.
    source: std::sync::RwLock<Source>,
    schedule: Mutex<Schedule>,
    wake: Condvar,
}

/// The machine's clock. Cloning makes another handle on the same clock.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves the schedule whole: it is only changed by single map operations.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Clock {
    fn new(source: Source) -> Self {
        let schedule = Schedule {
            armed: BTreeMap::new(),
            next_id: 0,
            sleeping_until: None,
            armings: 0,
            wakes: 0,
            thread_started: false,
        };
        Self(Arc::new(Inner { source: source.into(), schedule: schedule.into(), wake: Condvar::new() }))
    }

    /// A clock that runs with the host's monotonic time, from zero.
    pub fn host() -> Self {
        Self::new(Source::Host { ticks: 0, since: Some(Instant::now()) })
    }

    /// A clock that moves by [`Clock::advance`] alone, from zero.
    pub fn manual() -> Self {
        Self::new(Source::Virtual(0))
    }

    fn source(&self) -> std::sync::RwLockReadGuard<'_, Source> {
        self.0.source.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn source_mut(&self) -> std::sync::RwLockWriteGuard<'_, Source> {
        self.0.source.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The time in ticks of [`TICKS_PER_SECOND`].
    pub fn now(&self) -> u64 {
        self.source().now()
    }

    /// Stops the clock. Idempotent.
    pub fn pause(&self) {
        let mut source = self.source_mut();
        let now = source.now();
        if let Source::Host { ticks, since } = &mut *source {
            (*ticks, *since) = (now, None);
        }
    }

    /// Lets the clock go on from where [`Clock::pause`] stopped it. Idempotent.
    pub fn resume(&self) {
        if let Source::Host { since: since @ None, .. } = &mut *self.source_mut() {
            *since = Some(Instant::now());
        }
        self.reschedule();
    }

    /// Sets the time, for a restored state; alarms armed before fire when the new time reaches them.
    pub fn set(&self, now: u64) {
        match &mut *self.source_mut() {
            Source::Host { ticks, since } => {
                *ticks = now;
                *since = since.map(|_| Instant::now());
            }
            Source::Virtual(ticks) => *ticks = now,
        }
        self.reschedule();
    }

    /// Moves a virtual clock on and fires what is due, on this thread. Does nothing to a host clock.
    pub fn advance(&self, ticks: u64) {
        if let Source::Virtual(now) = &mut *self.source_mut() {
            *now = now.wrapping_add(ticks);
        }
        self.reschedule();
    }

    /// How long the host must wait until `deadline`: zero if it has passed, `None` if the clock stands still.
    pub fn until(&self, deadline: u64) -> Option<Duration> {
        let source = self.source();
        let ticks = deadline.saturating_sub(source.now());
        match &*source {
            _ if ticks == 0 => Some(Duration::ZERO),
            Source::Host { since: Some(_), .. } => {
                Some(Duration::from_nanos(ticks.saturating_mul(NANOSECONDS_PER_TICK)))
            }
            _ => None,
        }
    }

    /// An alarm on this clock, not armed. `ring` is called on the clock's own thread (a virtual clock: on the thread
    /// that moves it) and must not block or arm this alarm's clock.
    pub fn alarm(&self, ring: impl Fn() + Send + Sync + 'static) -> Alarm {
        let mut schedule = lock(&self.0.schedule);
        let id = schedule.next_id;
        schedule.next_id += 1;
        Alarm { clock: self.clone(), id, ring: Arc::new(ring), deadline: Mutex::new(None) }
    }

    fn is_host(&self) -> bool {
        matches!(&*self.source(), Source::Host { .. })
    }

    /// After a change of the time: a virtual clock fires what is due, a host clock's thread looks anew.
    fn reschedule(&self) {
        if self.is_host() {
            self.0.wake.notify_one();
        } else {
            for ring in self.take_due() {
                ring();
            }
        }
    }

    fn take_due(&self) -> Vec<Callback> {
        let now = self.now();
        let mut schedule = lock(&self.0.schedule);
        let later = schedule.armed.split_off(&(now.saturating_add(1), 0));
        std::mem::replace(&mut schedule.armed, later).into_values().collect()
    }

    fn arm(&self, deadline: u64, id: u64, ring: &Callback) {
        if !self.is_host() {
            lock(&self.0.schedule).armed.insert((deadline, id), ring.clone());
            return self.reschedule();
        }
        let due = self.until(deadline).map(|wait| Instant::now().checked_add(wait));
        let mut schedule = lock(&self.0.schedule);
        schedule.armed.insert((deadline, id), ring.clone());
        schedule.armings = schedule.armings.saturating_add(1);
        if !schedule.thread_started {
            schedule.thread_started = true;
            let inner = Arc::downgrade(&self.0);
            let spawned = std::thread::Builder::new().name("alarms".into()).spawn(move || run_alarms(inner));
            if let Err(error) = spawned {
                // Timers would never fire: nothing that the guest does could end well.
                panic!("the host cannot start the alarm thread: {error}");
            }
        } else if let Some(Some(due)) = due
            && schedule.sleeping_until.is_none_or(|until| due < until)
        {
            self.0.wake.notify_one();
        }
    }
}

/// The alarm thread of a host clock: sleeps until the nearest deadline, fires, ends with the last handle.
///
/// Waking it costs two switches of threads. A busy guest arms its timers thousands of times in a second, mostly for a
/// few milliseconds ahead and hardly ever to let them ring: then the thread rather looks by itself in short intervals,
/// and only nearer deadlines wake it.
fn run_alarms(inner: Weak<Inner>) {
    const INTERVAL: Duration = Duration::from_millis(1);
    /// How long the thread sleeps with nothing to do, so that it notices the end of its clock.
    const IDLE: Duration = Duration::from_millis(500);
    while let Some(inner) = inner.upgrade() {
        let clock = Clock(inner);
        for ring in clock.take_due() {
            ring();
        }
        let schedule = lock(&clock.0.schedule);
        let first = schedule.armed.keys().next().map(|(deadline, _)| *deadline);
        drop(schedule);
        let wait = first.and_then(|deadline| clock.until(deadline)).unwrap_or(IDLE).min(IDLE);
        let mut schedule = lock(&clock.0.schedule);
        let wait = if std::mem::take(&mut schedule.armings) > 1 { wait.min(INTERVAL) } else { wait };
        if schedule.armed.keys().next().map(|(deadline, _)| *deadline) != first || wait.is_zero() {
            continue;
        }
        schedule.sleeping_until = Instant::now().checked_add(wait);
        let (mut schedule, _) =
            clock.0.wake.wait_timeout(schedule, wait).unwrap_or_else(|poisoned| poisoned.into_inner());
        schedule.sleeping_until = None;
        schedule.wakes += 1;
    }
}

/// A one-shot alarm on a [`Clock`]; disarmed when dropped.
pub struct Alarm {
    clock: Clock,
    id: u64,
    ring: Callback,
    deadline: Mutex<Option<u64>>,
}

impl Alarm {
    /// Arms the alarm for `deadline` in ticks, instead of an earlier setting; `None` disarms it. A deadline that has
    /// passed rings at once. A ring under way may still arrive after this returns.
    pub fn set(&self, deadline: Option<u64>) {
        let mut current = lock(&self.deadline);
        if *current == deadline
            && deadline.is_none_or(|d| lock(&self.clock.0.schedule).armed.contains_key(&(d, self.id)))
        {
            return;
        }
        if let Some(old) = current.take() {
            lock(&self.clock.0.schedule).armed.remove(&(old, self.id));
        }
        *current = deadline;
        drop(current);
        if let Some(deadline) = deadline {
            self.clock.arm(deadline, self.id, &self.ring);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.set(None);
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
            assert!(start.elapsed() < Duration::from_secs(10), "never rang");
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
        let wakes = lock(&clock.0.schedule).wakes;
        assert!(wakes < ROUNDS / 4, "{wakes} times");
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
}
