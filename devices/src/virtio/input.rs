//! The input device (virtio 1.3 §5.8), as a keyboard with one key: power. Guests shut down when it is pressed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use bus::StateError;
use serde::{Deserialize, Serialize};

use super::read_config_bytes;
use super::spec::{device, input as spec};
use super::worker::{Events, Port, Service, Waker};
use crate::lock;

const QUEUE_SIZE: u16 = 64;
/// Events that wait for the driver at most: sixteen presses.
const MOST_EVENTS: usize = 64;

/// A power key; clones are the same key.
#[derive(Clone, Default)]
pub struct PowerKey(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    waker: OnceLock<Waker>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct State {
    /// What of the configuration the driver has selected (§5.8.4).
    select: u8,
    subselect: u8,
    /// Events that the driver has not had room for: type, code and value.
    events: VecDeque<(u16, u16, u32)>,
    /// A driver takes events.
    listening: bool,
}

impl PowerKey {
    /// Presses and releases the key, if a driver is there to hear of it; whether there is.
    pub fn press(&self) -> bool {
        let state = &mut *lock(&self.0.state);
        if !state.listening || state.events.len() >= MOST_EVENTS {
            return false;
        }
        let report = (spec::EV_SYN, spec::SYN_REPORT, 0);
        let key = |value| (spec::EV_KEY, spec::KEY_POWER, value);
        state.events.extend([key(1), report, key(0), report]);
        if let Some(waker) = self.0.waker.get() {
            waker.wake();
        }
        true
    }
}

impl State {
    /// The selected part of the configuration; none is empty.
    fn selected(&self) -> Vec<u8> {
        match (self.select, self.subselect) {
            (spec::CFG_ID_NAME, 0) => b"Vervet power key".to_vec(),
            (spec::CFG_ID_DEVIDS, 0) => [spec::BUS_VIRTUAL, 0, 0, 0].map(u16::to_le_bytes).concat(),
            // Every event has a SYN_REPORT behind it; EV_SYN need not be named (§5.8.4).
            (spec::CFG_EV_BITS, kind) if u16::from(kind) == spec::EV_KEY => {
                let mut bits = vec![0; usize::from(spec::KEY_POWER) / 8 + 1];
                bits[usize::from(spec::KEY_POWER) / 8] = 1 << (spec::KEY_POWER % 8);
                bits
            }
            _ => Vec::new(),
        }
    }
}

impl Service for PowerKey {
    fn name(&self) -> &'static str {
        "virtio-input"
    }

    fn id(&self) -> u32 {
        device::INPUT
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE, QUEUE_SIZE]
    }

    fn read_config(&self, offset: u64, bytes: &mut [u8]) {
        let state = lock(&self.0.state);
        let selected = state.selected();
        let mut config = vec![state.select, state.subselect, selected.len() as u8, 0, 0, 0, 0, 0];
        config.extend(selected);
        read_config_bytes(&config, offset, bytes);
    }

    fn write_config(&self, offset: u64, bytes: &[u8]) {
        let state = &mut *lock(&self.0.state);
        for (at, byte) in (offset..).zip(bytes) {
            match at {
                0 => state.select = *byte,
                1 => state.subselect = *byte,
                _ => tracing::debug!("virtio-input: write of {byte:#x} to read-only configuration at {at:#x}"),
            }
        }
    }

    fn attach(&self, waker: Waker) {
        // Called once.
        let _ = self.0.waker.set(waker);
    }

    fn serve(&self, port: &Port, _events: Events) -> Events {
        let Some(mut session) = port.session() else {
            return Events::NONE;
        };
        let state = &mut *lock(&self.0.state);
        state.listening = session.ram(spec::EVENTQ).is_some();
        // What the driver says of lights and sounds goes nowhere.
        while let Some(chain) = session.pop(spec::STATUSQ) {
            session.complete(spec::STATUSQ, &chain, 0);
        }
        while let Some(&(kind, code, value)) = state.events.front() {
            let Some(chain) = session.pop(spec::EVENTQ) else { break };
            let event = [&kind.to_le_bytes()[..], &code.to_le_bytes(), &value.to_le_bytes()].concat();
            let Some(ram) = session.ram(spec::EVENTQ) else { break };
            if chain.writable.write(ram, 0, &event).is_none() {
                session.fail(&"an input event buffer of less than 8 bytes (virtio 1.3 §5.8.6)");
                break;
            }
            session.complete(spec::EVENTQ, &chain, event.len() as u32);
            state.events.pop_front();
        }
        session.interrupt(spec::STATUSQ);
        session.interrupt(spec::EVENTQ);
        state.listening &= !session.is_broken();
        Events::NONE
    }

    fn reset(&self, _queue: Option<u16>) {
        let state = &mut *lock(&self.0.state);
        state.events.clear();
        // Until the next session or queue is looked at.
        state.listening = false;
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        bus::save(self.name(), &*lock(&self.0.state))
    }

    fn restore(&self, state: &[u8]) -> Result<(), StateError> {
        let state: State = bus::restore(self.name(), state)?;
        if state.events.len() > MOST_EVENTS {
            let reason = format!("{} input events wait, more than {MOST_EVENTS}", state.events.len());
            return Err(StateError::Mismatch { device: self.name().into(), reason });
        }
        *lock(&self.0.state) = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bus::{Device, Width};

    use super::super::Worker;
    use super::super::driver::{DATA, Driver, wait_until, writable};
    use super::super::spec::mmio as reg;
    use super::*;

    const ALL: u64 = u64::MAX;

    fn driver(key: &PowerKey) -> Driver {
        Driver::new(Box::new(Worker::new(key.clone()).unwrap()))
    }

    fn select(driver: &Driver, select: u8, subselect: u8) -> Vec<u8> {
        driver.mmio.write(reg::CONFIG, Width::Byte, select.into());
        driver.mmio.write(reg::CONFIG + 1, Width::Byte, subselect.into());
        let size = driver.mmio.read(reg::CONFIG + 2, Width::Byte);
        (0..size).map(|i| driver.mmio.read(reg::CONFIG + 8 + i, Width::Byte) as u8).collect()
    }

    #[test]
    fn it_is_a_keyboard_with_a_power_key() {
        let driver = driver(&PowerKey::default());
        assert_eq!(driver.read(reg::DEVICE_ID), 18);
        assert_eq!(select(&driver, 1, 0), b"Vervet power key");
        assert_eq!(select(&driver, 3, 0), [6, 0, 0, 0, 0, 0, 0, 0]);
        let keys = select(&driver, 0x11, 1);
        let pressed = |key: usize| keys.get(key / 8).is_some_and(|byte| byte >> (key % 8) & 1 != 0);
        assert_eq!((0..1024).filter(|key| pressed(*key)).collect::<Vec<_>>(), [116]);
        for (first, second) in [(0, 0), (2, 0), (0x10, 0), (0x11, 0), (0x11, 2), (0x12, 0), (0xff, 0xff)] {
            assert_eq!(select(&driver, first, second), [], "{first:#x} {second:#x}");
        }
    }

    #[test]
    fn a_press_is_told_once_there_is_a_driver_and_room() {
        let key = PowerKey::default();
        let mut driver = driver(&key);
        assert!(!key.press(), "nobody listens");
        driver.initialise(ALL, 16);
        wait_until("a listener", || lock(&key.0.state).listening);
        for i in 0..3 {
            driver.add(0, &[writable(DATA + 8 * i, 8)]);
        }
        driver.notify(0);
        assert!(key.press());
        for i in 0..3 {
            assert_eq!(driver.wait_used(0).1, 8, "{i}");
        }
        wait_until("the interrupt", || driver.wire.level());
        assert_eq!(
            driver.bytes(DATA, 24),
            [1, 0, 116, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 116, 0, 0, 0, 0, 0]
        );
        driver.add(0, &[writable(DATA, 8)]);
        driver.notify(0);
        driver.wait_used(0);
        assert_eq!(driver.bytes(DATA, 8), [0; 8]);
        driver.write(reg::STATUS, 0);
        assert!(!key.press(), "the driver has gone");
    }

    #[test]
    fn a_buffer_too_small_breaks_the_session_and_presses_are_bounded() {
        let key = PowerKey::default();
        let mut driver = driver(&key);
        driver.initialise(ALL, 16);
        wait_until("a listener", || lock(&key.0.state).listening);
        let pressed = (0..100).take_while(|_| key.press()).count();
        assert_eq!(pressed, MOST_EVENTS / 4);
        driver.add(0, &[writable(DATA, 7)]);
        driver.notify(0);
        driver.wait_needs_reset();
        wait_until("the end", || !key.press());
    }

    #[test]
    fn a_press_outlives_a_saved_state() {
        let key = PowerKey::default();
        let mut driver = driver(&key);
        driver.initialise(ALL, 16);
        wait_until("a listener", || lock(&key.0.state).listening);
        driver.mmio.pause();
        assert!(key.press());
        let state = driver.mmio.save().unwrap();
        let mut other = driver.clone_with(Box::new(Worker::new(PowerKey::default()).unwrap()));
        other.mmio.pause();
        other.mmio.restore(&state).unwrap();
        assert_eq!(other.mmio.save().unwrap(), state);
        other.mmio.resume();
        other.add(0, &[writable(DATA, 8)]);
        other.notify(0);
        other.wait_used(0);
        assert_eq!(other.bytes(DATA, 8), [1, 0, 116, 0, 1, 0, 0, 0]);
    }
}
