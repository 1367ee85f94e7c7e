//! The memory-mapped transport, register version 2 (virtio 1.3 §4.2).
//!
//! Registers take aligned 32-bit accesses only (§4.2.2.2); others read as zero and write nothing. The configuration
//! space takes every access. An empty slot has DeviceID 0, and the driver leaves it alone (§4.2.3.1).
//!
//! Invariants: the line is high exactly while `InterruptStatus` is not zero; the device has a session exactly while
//! `DRIVER_OK` is set and its queues were well-formed then; once `Status` reads zero, nothing of an earlier session
//! touches guest memory.

use std::sync::{Arc, Mutex};

use bus::device_tree::{Node, Placement};
use bus::{Device, IrqLine, Ram, StateError, Width};
use serde::{Deserialize, Serialize};

use super::spec::{feature, mmio as reg, status};
use super::{Queue, QueueError, QueueLayout, QueuePosition, Session, Transport, VirtioDevice, spec};
use crate::lock;

/// Bytes of the register window: one page, as on QEMU's `virt` board.
pub const WINDOW_SIZE: u64 = 0x1000;

const VENDOR: u32 = u32::from_le_bytes(*b"VRVT");

const RING_FEATURES: u64 = feature::VERSION_1 | feature::INDIRECT_DESC | feature::EVENT_IDX;

/// What the device's own threads change: `InterruptStatus` and the line, `DEVICE_NEEDS_RESET`, `ConfigGeneration`.
struct Lines {
    state: Mutex<LineState>,
    line: IrqLine,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct LineState {
    interrupt_status: u32,
    needs_reset: bool,
    config_generation: u32,
}

impl Lines {
    fn update(&self, change: impl FnOnce(&mut LineState)) {
        let mut state = lock(&self.state);
        change(&mut state);
        // Under the lock: two threads cannot drive the line in the wrong order.
        self.line.set(state.interrupt_status != 0);
    }
}

impl Transport for Lines {
    fn queue_interrupt(&self, _queue: u16) {
        self.update(|state| state.interrupt_status |= reg::INTERRUPT_USED);
    }

    fn config_interrupt(&self) {
        self.update(|state| {
            state.config_generation = state.config_generation.wrapping_add(1);
            state.interrupt_status |= reg::INTERRUPT_CONFIG;
        });
    }

    fn needs_reset(&self) {
        self.update(|state| {
            state.needs_reset = true;
            state.interrupt_status |= reg::INTERRUPT_CONFIG;
        });
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct QueueRegisters {
    layout: QueueLayout,
    ready: bool,
}

/// The registers that only harts change.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Registers {
    /// Without `DEVICE_NEEDS_RESET`, which is in [`LineState`].
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    queues: Vec<QueueRegisters>,
}

#[derive(Serialize, Deserialize)]
struct State {
    device_id: u32,
    /// The features on offer: a guest keeps what it has negotiated.
    device_features: u64,
    registers: Registers,
    lines: LineState,
    positions: Vec<Option<QueuePosition>>,
    device: Vec<u8>,
}

/// A virtio-mmio slot: a device, or none.
pub struct VirtioMmio {
    device: Option<Box<dyn VirtioDevice>>,
    ram: Ram,
    registers: Mutex<Registers>,
    lines: Arc<Lines>,
}

impl VirtioMmio {
    /// A slot with `device`, which reaches `ram` and interrupts by `line`.
    pub fn new(device: Box<dyn VirtioDevice>, ram: Ram, line: IrqLine) -> Self {
        Self::slot(Some(device), ram, line)
    }

    /// An empty slot.
    pub fn empty(ram: Ram, line: IrqLine) -> Self {
        Self::slot(None, ram, line)
    }

    fn slot(device: Option<Box<dyn VirtioDevice>>, ram: Ram, line: IrqLine) -> Self {
        let slot =
            Self { device, ram, registers: Mutex::default(), lines: Arc::new(Lines { state: Mutex::default(), line }) };
        *lock(&slot.registers) = slot.power_on();
        slot
    }

    fn power_on(&self) -> Registers {
        Registers { queues: vec![QueueRegisters::default(); self.queue_sizes().len()], ..Registers::default() }
    }

    fn queue_sizes(&self) -> &[u16] {
        self.device.as_ref().map_or(&[], |device| device.queue_sizes())
    }

    fn offered(&self) -> u64 {
        self.device.as_ref().map_or(0, |device| device.features() | RING_FEATURES)
    }

    fn device_id(&self) -> u32 {
        self.device.as_ref().map_or(spec::device::NONE, |device| device.id())
    }

    fn read_register(&self, offset: u64) -> u32 {
        let registers = lock(&self.registers);
        let queue = registers.queue_sel as usize;
        match offset {
            reg::MAGIC_VALUE => reg::MAGIC,
            reg::VERSION => reg::VERSION_2,
            reg::DEVICE_ID => self.device_id(),
            reg::VENDOR_ID => VENDOR,
            // An empty slot has nothing more.
            _ if self.device.is_none() => 0,
            reg::DEVICE_FEATURES => match registers.device_features_sel {
                0 => self.offered() as u32,
                1 => (self.offered() >> 32) as u32,
                _ => 0,
            },
            reg::QUEUE_SIZE_MAX => self.queue_sizes().get(queue).map_or(0, |size| u32::from(*size)),
            reg::QUEUE_READY => registers.queues.get(queue).map_or(0, |queue| u32::from(queue.ready)),
            reg::INTERRUPT_STATUS => lock(&self.lines.state).interrupt_status,
            reg::STATUS => {
                let needs_reset = lock(&self.lines.state).needs_reset;
                registers.status | if needs_reset { status::DEVICE_NEEDS_RESET } else { 0 }
            }
            // No shared memory region exists: length and base are -1 (§4.2.2).
            reg::SHM_LEN_LOW | reg::SHM_LEN_HIGH | reg::SHM_BASE_LOW | reg::SHM_BASE_HIGH => u32::MAX,
            reg::CONFIG_GENERATION => lock(&self.lines.state).config_generation,
            _ => {
                tracing::debug!("virtio-mmio: read of write-only or reserved register {offset:#x}");
                0
            }
        }
    }

    fn write_register(&self, offset: u64, value: u32) {
        let Some(device) = &self.device else { return };
        let registers = &mut *lock(&self.registers);
        match offset {
            reg::DEVICE_FEATURES_SEL => registers.device_features_sel = value,
            reg::DRIVER_FEATURES_SEL => registers.driver_features_sel = value,
            // What was agreed stays agreed (§2.2.2).
            reg::DRIVER_FEATURES if registers.status & status::FEATURES_OK != 0 => {
                tracing::debug!("{}: features written after FEATURES_OK", device.name());
            }
            reg::DRIVER_FEATURES => {
                let shift = match registers.driver_features_sel {
                    0 => 0,
                    1 => 32,
                    _ => return,
                };
                registers.driver_features &= !(u64::from(u32::MAX) << shift);
                registers.driver_features |= u64::from(value) << shift;
            }
            reg::QUEUE_SEL => registers.queue_sel = value,
            reg::QUEUE_SIZE => registers.edit_layout(|layout| layout.size = value),
            reg::QUEUE_DESC_LOW => registers.edit_layout(|layout| set_low(&mut layout.descriptors, value)),
            reg::QUEUE_DESC_HIGH => registers.edit_layout(|layout| set_high(&mut layout.descriptors, value)),
            reg::QUEUE_DRIVER_LOW => registers.edit_layout(|layout| set_low(&mut layout.available, value)),
            reg::QUEUE_DRIVER_HIGH => registers.edit_layout(|layout| set_high(&mut layout.available, value)),
            reg::QUEUE_DEVICE_LOW => registers.edit_layout(|layout| set_low(&mut layout.used, value)),
            reg::QUEUE_DEVICE_HIGH => registers.edit_layout(|layout| set_high(&mut layout.used, value)),
            reg::QUEUE_READY => self.write_queue_ready(&**device, registers, value & 1 != 0),
            reg::QUEUE_NOTIFY => match u16::try_from(value) {
                // Before DRIVER_OK a notification means nothing (§3.1.1).
                Ok(queue) if usize::from(queue) < registers.queues.len() => {
                    if registers.status & status::DRIVER_OK != 0 {
                        device.notify(queue);
                    }
                }
                _ => tracing::debug!("{}: notification of queue {value}, which does not exist", device.name()),
            },
            reg::INTERRUPT_ACK => self.lines.update(|state| state.interrupt_status &= !value),
            reg::STATUS => self.write_status(&**device, registers, value),
            // Selects among regions of which there are none.
            reg::SHM_SEL => {}
            _ => tracing::debug!("{}: write of read-only or reserved register {offset:#x}", device.name()),
        }
    }

    fn build_queue(&self, registers: &Registers, index: usize) -> Result<Option<Queue>, QueueError> {
        match (registers.queues.get(index), self.queue_sizes().get(index)) {
            (Some(queue), Some(&max)) if queue.ready => {
                Queue::new(&self.ram, &queue.layout, max, registers.driver_features).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn build_session(&self, registers: &Registers) -> Result<Session, QueueError> {
        let queues: Result<_, _> = (0..registers.queues.len()).map(|i| self.build_queue(registers, i)).collect();
        Ok(Session::new(registers.driver_features, queues?, self.lines.clone()))
    }

    fn write_queue_ready(&self, device: &dyn VirtioDevice, registers: &mut Registers, ready: bool) {
        let index = registers.queue_sel as usize;
        let Some(queue) = registers.queues.get_mut(index) else {
            return;
        };
        if queue.ready == ready {
            return;
        }
        queue.ready = ready;
        // Before DRIVER_OK it is a setting like the others.
        if registers.status & status::DRIVER_OK != 0 {
            match self.build_queue(registers, index) {
                Ok(queue) => device.set_queue(index as u16, queue),
                Err(error) => self.refuse(device, &error),
            }
        }
    }

    fn refuse(&self, device: &dyn VirtioDevice, error: &QueueError) {
        tracing::debug!("{}: the device needs a reset: {error}", device.name());
        device.stop();
        self.lines.needs_reset();
    }

    fn write_status(&self, device: &dyn VirtioDevice, registers: &mut Registers, value: u32) {
        if value == 0 {
            return self.reset_locked(registers);
        }
        // A driver only adds bits (§2.1.1).
        let old = registers.status;
        registers.status |= value & (status::ACKNOWLEDGE | status::DRIVER | status::FAILED);
        if value & !old & status::FEATURES_OK != 0 {
            let features = registers.driver_features;
            if features & !self.offered() == 0 && features & feature::VERSION_1 != 0 {
                registers.status |= status::FEATURES_OK;
            } else {
                // The driver reads the bit back and gives up (§3.1.1 step 6).
                tracing::debug!("{}: features {features:#x} refused, offered {:#x}", device.name(), self.offered());
            }
        }
        if value & !old & status::DRIVER_OK != 0 {
            if registers.status & status::FEATURES_OK == 0 {
                tracing::debug!("{}: DRIVER_OK without FEATURES_OK ignored", device.name());
                return;
            }
            registers.status |= status::DRIVER_OK;
            match self.build_session(registers) {
                Ok(session) => device.start(session),
                Err(error) => self.refuse(device, &error),
            }
        }
    }

    /// Resets the device before `Status` reads zero, whichever hart looks (§2.4.1).
    fn reset_locked(&self, registers: &mut Registers) {
        if let Some(device) = &self.device {
            device.stop();
        }
        *registers = self.power_on();
        self.lines.update(|state| {
            // The generation goes on counting: a driver may compare it over a reset.
            *state = LineState { config_generation: state.config_generation, ..LineState::default() }
        });
    }

    fn decode(&self, name: &str, state: &[u8]) -> Result<(State, Option<Session>), StateError> {
        let mismatch = |reason: String| StateError::Mismatch { device: name.into(), reason };
        let state: State = bus::restore(name, state)?;
        if state.device_id != self.device_id() {
            let (saved, here) = (state.device_id, self.device_id());
            return Err(mismatch(format!("the saved slot held virtio device type {saved}, this one holds {here}")));
        }
        if state.device_features != self.offered() {
            let (saved, here) = (state.device_features, self.offered());
            return Err(mismatch(format!("the saved device offered features {saved:#x}, this one offers {here:#x}")));
        }
        if state.registers.queues.len() != self.queue_sizes().len() {
            return Err(mismatch("the saved device had another number of queues".into()));
        }
        let running = state.registers.status & status::DRIVER_OK != 0 && !state.lines.needs_reset;
        if !running {
            return Ok((state, None));
        }
        let mut session = self.build_session(&state.registers).map_err(|error| mismatch(error.to_string()))?;
        if state.positions.len() != session.queues.len() {
            return Err(mismatch("queue positions are missing".into()));
        }
        for (queue, position) in session.queues.iter_mut().zip(&state.positions) {
            match (queue, position) {
                (Some(queue), Some(position)) => queue.set_position(*position),
                (None, None) => {}
                _ => return Err(mismatch("queue positions do not belong to the enabled queues".into())),
            }
        }
        Ok((state, Some(session)))
    }

    fn read_bytes(&self, offset: u64, width: Width) -> u64 {
        match offset.checked_sub(reg::CONFIG) {
            Some(offset) => {
                let mut bytes = [0; 8];
                if let Some(device) = &self.device {
                    device.read_config(offset, &mut bytes[..width.bytes() as usize]);
                }
                u64::from_le_bytes(bytes)
            }
            None if width == Width::Word && offset.is_multiple_of(4) => self.read_register(offset).into(),
            None => {
                tracing::debug!("virtio-mmio: read of {} bytes at register {offset:#x}", width.bytes());
                0
            }
        }
    }
}

impl Registers {
    /// Changes the selected queue's layout, which stands still while the queue is ready (§4.2.2.2).
    fn edit_layout(&mut self, edit: impl FnOnce(&mut QueueLayout)) {
        match self.queues.get_mut(self.queue_sel as usize) {
            Some(queue) if !queue.ready => edit(&mut queue.layout),
            _ => tracing::debug!("virtio-mmio: layout of a missing or running queue {} written", self.queue_sel),
        }
    }
}

fn set_low(register: &mut u64, value: u32) {
    *register = *register & !0xffff_ffff | u64::from(value);
}

fn set_high(register: &mut u64, value: u32) {
    *register = *register & 0xffff_ffff | u64::from(value) << 32;
}

impl Device for VirtioMmio {
    fn name(&self) -> &'static str {
        self.device.as_ref().map_or("virtio-empty", |device| device.name())
    }

    fn size(&self) -> u64 {
        WINDOW_SIZE
    }

    fn read(&self, offset: u64, width: Width) -> u64 {
        self.read_bytes(offset, width)
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        match offset.checked_sub(reg::CONFIG) {
            Some(offset) => {
                if let Some(device) = &self.device {
                    device.write_config(offset, &value.to_le_bytes()[..width.bytes() as usize]);
                }
            }
            None if width == Width::Word && offset.is_multiple_of(4) => self.write_register(offset, value as u32),
            None => tracing::debug!("virtio-mmio: write of {} bytes at register {offset:#x}", width.bytes()),
        }
    }

    // No register of this transport changes by being read.
    fn peek(&self, offset: u64, width: Width) -> u64 {
        self.read_bytes(offset, width)
    }

    fn register_width(&self, offset: u64) -> Width {
        // The fields of the configuration have all widths.
        if offset < reg::CONFIG { Width::Word } else { Width::Byte }
    }

    fn reset(&self) {
        self.reset_locked(&mut lock(&self.registers));
    }

    fn describe(&self, placement: &Placement) -> Option<Node> {
        Some(placement.node("virtio_mmio").string("compatible", "virtio,mmio"))
    }

    fn pause(&self) {
        if let Some(device) = &self.device {
            device.pause();
        }
    }

    fn resume(&self) {
        if let Some(device) = &self.device {
            device.resume();
        }
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        let Self { device, ram: _, registers, lines } = self;
        let state = State {
            device_id: self.device_id(),
            device_features: self.offered(),
            registers: lock(registers).clone(),
            lines: lock(&lines.state).clone(),
            positions: device.as_ref().map_or_else(Vec::new, |device| device.positions()),
            device: device.as_ref().map_or_else(|| Ok(Vec::new()), |device| device.save())?,
        };
        bus::save(self.name(), &state)
    }

    fn restore(&self, state: &[u8]) -> Result<(), StateError> {
        let (state, session) = self.decode(self.name(), state)?;
        let State { device_id: _, device_features: _, registers, lines, positions: _, device: device_state } = state;
        let mut current = lock(&self.registers);
        if let Some(device) = &self.device {
            device.restore(&device_state, session)?;
        }
        *current = registers;
        // A line that was low at the save stays low: the level is that of the saved InterruptStatus.
        self.lines.update(|state| *state = lines);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::driver::{DATA, Driver, RAM_BASE, RAM_SIZE, TestDisk, Wire, descriptor, readable, writable};
    use super::super::{Worker, blk::Blk, rng::Rng};
    use super::*;

    const ALL: u64 = u64::MAX;

    fn blk() -> Driver {
        let disk = TestDisk::new(64, false);
        Driver::new(Box::new(Worker::new(Blk::new(disk, "").unwrap()).unwrap()))
    }

    /// A flush gets its answer.
    #[track_caller]
    fn assert_serves(driver: &mut Driver) {
        driver.ram.write(DATA, &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xee]).unwrap();
        driver.run(0, &[readable(DATA, 16), writable(DATA + 16, 1)]);
        assert_eq!(driver.bytes(DATA + 16, 1), [0]);
    }

    #[test]
    fn an_empty_slot_has_device_id_0_and_ignores_everything() {
        let ram = Ram::new(RAM_BASE, RAM_SIZE).unwrap();
        let wire = Arc::new(Wire::default());
        let slot = VirtioMmio::empty(ram, IrqLine::new(wire.clone(), 1));
        let read = |offset| slot.read(offset, Width::Word) as u32;
        assert_eq!((read(0), read(4), read(8), read(12)), (0x7472_6976, 2, 0, VENDOR));
        for offset in (0..WINDOW_SIZE).step_by(4) {
            slot.write(offset, Width::Word, 0xffff_ffff);
            slot.write(offset, Width::Word, 0);
            assert!(offset < 16 || read(offset) == 0, "{offset:#x}");
        }
        let state = slot.save().unwrap();
        slot.reset();
        slot.restore(&state).unwrap();
        assert!(!wire.level());
        assert!(blk().mmio.restore(&state).is_err());
    }

    #[test]
    fn no_access_of_any_width_does_harm() {
        let mut driver = blk();
        for initialised in [false, true] {
            for width in Width::ALL {
                for offset in 0..=WINDOW_SIZE - width.bytes() {
                    if initialised {
                        driver.initialise(ALL, 16);
                    }
                    for value in [u64::MAX, 0, 1, 0x8000_0000, 0x8080_8080_8080_8080] {
                        let before = driver.mmio.read(offset, width);
                        assert_eq!(driver.mmio.peek(offset, width), before);
                        assert_eq!(before, width.zero_extend(before));
                        let whole = width == Width::Word && offset % 4 == 0;
                        assert!(offset >= reg::CONFIG || whole || before == 0, "{width:?} at {offset:#x}");
                        let status = driver.status();
                        driver.mmio.write(offset, width, width.zero_extend(value));
                        assert!(whole || driver.status() == status, "{width:?} at {offset:#x}");
                    }
                }
            }
        }
        driver.initialise(ALL, 16);
        assert_serves(&mut driver);
    }

    #[test]
    fn negotiation() {
        let mut driver = blk();
        assert_eq!(driver.read(reg::DEVICE_ID), 2);
        assert_eq!(driver.offered() & RING_FEATURES, RING_FEATURES);
        driver.write(reg::DEVICE_FEATURES_SEL, 2);
        assert_eq!(driver.read(reg::DEVICE_FEATURES), 0);
        let set = |half, bits| {
            driver.write(reg::DRIVER_FEATURES_SEL, half);
            driver.write(reg::DRIVER_FEATURES, bits);
        };
        let accepted = || {
            driver.write(reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
            driver.write(reg::STATUS, status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK);
            driver.status() & status::FEATURES_OK != 0
        };
        assert!(!accepted(), "VERSION_1 is mandatory");
        driver.add_status(status::DRIVER_OK);
        assert_eq!(driver.status() & status::DRIVER_OK, 0, "no DRIVER_OK without FEATURES_OK");
        set(1, 1);
        set(0, 1 << 4);
        assert!(!accepted(), "a feature that is not offered");
        set(0, 0);
        set(2, u32::MAX);
        assert!(accepted());
        set(1, u32::MAX);
        driver.add_status(status::DRIVER_OK);
        assert_eq!(driver.status(), 0xf, "features stand still after FEATURES_OK");
        driver.add_status(status::FAILED);
        assert_eq!(driver.status(), 0x8f);
        driver.write(reg::STATUS, 0);
        assert_eq!(driver.status(), 0);
        driver.initialise(ALL, 16);
        assert_serves(&mut driver);
    }

    #[test]
    fn fixed_registers() {
        let driver = blk();
        for select in [0, 1, u32::MAX] {
            driver.write(reg::SHM_SEL, select);
            for register in [reg::SHM_LEN_LOW, reg::SHM_LEN_HIGH, reg::SHM_BASE_LOW, reg::SHM_BASE_HIGH] {
                assert_eq!(driver.read(register), u32::MAX);
            }
        }
        driver.write(reg::QUEUE_SEL, 0);
        assert_eq!(driver.read(reg::QUEUE_SIZE_MAX), 256);
        for missing in [1, 0x1_0000, u32::MAX] {
            driver.write(reg::QUEUE_SEL, missing);
            assert_eq!(driver.read(reg::QUEUE_SIZE_MAX), 0);
            driver.write(reg::QUEUE_READY, 1);
            assert_eq!(driver.read(reg::QUEUE_READY), 0);
        }
    }

    #[test]
    fn every_malformed_queue_needs_a_reset_and_is_cured_by_it() {
        let mut driver = blk();
        let end = RAM_BASE + RAM_SIZE;
        type Break = fn(&mut super::super::driver::Ring, u64);
        let breaks: [Break; 9] = [
            |ring, _| ring.size = 0,
            |ring, _| ring.size = 12,
            |ring, _| ring.size = 512,
            |ring, _| ring.descriptors += 8,
            |ring, _| ring.available += 1,
            |ring, _| ring.used += 2,
            |ring, end| ring.descriptors = end - 16,
            |ring, end| ring.available = end,
            |ring, _| ring.used = u64::MAX - 3,
        ];
        for (i, breaking) in breaks.iter().enumerate() {
            driver.negotiate(ALL);
            driver.add_queue(16);
            let mut ring = driver.rings[0].clone();
            breaking(&mut ring, end);
            driver.write_layout(&ring);
            driver.write(reg::QUEUE_READY, 0);
            driver.write_layout(&ring);
            driver.write(reg::QUEUE_READY, 1);
            assert!(!driver.wire.level());
            driver.add_status(status::DRIVER_OK);
            driver.wait_needs_reset();
            driver.notify(0);
            assert_eq!(driver.read(reg::INTERRUPT_STATUS), reg::INTERRUPT_CONFIG, "case {i}");
            let state = driver.mmio.save().unwrap();
            let other =
                driver.clone_with(Box::new(Worker::new(Blk::new(TestDisk::new(64, false), "").unwrap()).unwrap()));
            other.mmio.restore(&state).unwrap();
            other.wait_needs_reset();
            driver.initialise(ALL, 16);
            assert_eq!(driver.status(), 0xf);
            assert!(!driver.wire.level());
            assert_serves(&mut driver);
        }
    }

    #[test]
    fn every_malformed_ring_in_use_needs_a_reset_and_is_cured_by_it() {
        let mut driver = blk();
        type Break = fn(&mut Driver);
        let breaks: [Break; 7] = [
            |driver| driver.put_descriptor(0, 0, descriptor(DATA, 16, 1, 0)),
            |driver| driver.put_descriptor(0, 0, descriptor(DATA, 16, 1, 16)),
            |driver| driver.put_descriptor(0, 0, descriptor(0x1000_0000, 16, 0, 0)),
            |driver| driver.put_descriptor(0, 0, descriptor(DATA, 24, 4, 0)),
            |driver| driver.put_descriptor(0, 0, descriptor(DATA, 32, 5, 0)),
            |driver| driver.expose(0, 16),
            |driver| {
                driver.rings[0].avail_idx = 99;
                driver.expose(0, 0);
            },
        ];
        for breaking in breaks {
            driver.initialise(ALL, 16);
            assert_serves(&mut driver);
            breaking(&mut driver);
            driver.expose(0, 0);
            driver.notify(0);
            driver.wait_needs_reset();
        }
        driver.initialise(ALL, 16);
        assert_serves(&mut driver);
    }

    #[test]
    fn the_layout_of_a_ready_queue_stands_still() {
        let mut driver = blk();
        driver.initialise(ALL, 16);
        driver.write(reg::QUEUE_SEL, 0);
        for register in [reg::QUEUE_SIZE, reg::QUEUE_DESC_LOW, reg::QUEUE_DRIVER_HIGH, reg::QUEUE_DEVICE_LOW] {
            driver.write(register, 0x123);
        }
        assert_serves(&mut driver);
    }

    #[test]
    fn interrupts_and_configuration_changes() {
        let driver = blk();
        let lines: &dyn Transport = &*driver.mmio.lines;
        let generation = driver.read(reg::CONFIG_GENERATION);
        lines.config_interrupt();
        assert_eq!(driver.read(reg::CONFIG_GENERATION), generation + 1);
        lines.queue_interrupt(0);
        assert_eq!(driver.read(reg::INTERRUPT_STATUS), 3);
        driver.write(reg::INTERRUPT_ACK, 1);
        assert_eq!((driver.read(reg::INTERRUPT_STATUS), driver.wire.level()), (2, true));
        driver.write(reg::INTERRUPT_ACK, u32::MAX);
        assert_eq!((driver.read(reg::INTERRUPT_STATUS), driver.wire.level()), (0, false));
        lines.queue_interrupt(0);
        driver.mmio.reset();
        assert_eq!((driver.read(reg::INTERRUPT_STATUS), driver.wire.level()), (0, false));
        assert_eq!(driver.wire.edges(), 2);
    }

    #[test]
    fn the_entropy_device_gives_different_bytes() {
        let mut driver = Driver::new(Box::new(Worker::new(Rng).unwrap()));
        assert_eq!(driver.read(reg::DEVICE_ID), 4);
        driver.initialise(ALL, 64);
        assert_eq!(driver.run(0, &[writable(DATA, 33), writable(DATA + 64, 31)]), 64);
        let (first, second) = (driver.bytes(DATA, 33), driver.bytes(DATA + 64, 31));
        assert_ne!(first[..31], second);
        assert_eq!(driver.bytes(DATA + 33, 31), [0; 31]);
        assert_eq!(driver.run(0, &[writable(DATA, 0x8000)]), 4096, "as much as one request gets");
        assert_ne!(driver.bytes(DATA, 33), first);
        for _ in 0..100 {
            driver.add(0, &[writable(DATA, 8)]);
            if driver.rings[0].avail_idx.is_multiple_of(50) {
                driver.notify(0);
                while driver.used_idx(0) != driver.rings[0].avail_idx {
                    std::thread::yield_now();
                }
            }
        }
        driver.add(0, &[readable(DATA, 8)]);
        driver.notify(0);
        driver.wait_needs_reset();
    }

    #[test]
    fn the_device_tree_node() {
        let placement = Placement {
            base: 0x1000_1000,
            size: 0x1000,
            interrupts: vec![1],
            interrupt_parent: 3,
            ..Placement::default()
        };
        let node = blk().mmio.describe(&placement).unwrap().into_inner();
        let mut tree = bus::device_tree::DeviceTree::new();
        tree.root.add_child(node);
        let text = tree.to_string();
        for expected in ["virtio_mmio@10001000 {", "compatible = \"virtio,mmio\";", "interrupts = <0x01>;"] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    fn any_store() -> impl Strategy<Value = (u64, u32)> {
        let registers = [
            reg::QUEUE_SIZE,
            reg::QUEUE_READY,
            reg::QUEUE_NOTIFY,
            reg::STATUS,
            reg::QUEUE_DESC_LOW,
            reg::QUEUE_DRIVER_LOW,
            reg::QUEUE_DEVICE_LOW,
        ];
        let register =
            prop_oneof![4 => prop::sample::select(registers.to_vec()), 1 => (0..0x48u64).prop_map(|i| 4 * i)];
        let in_ram = (0..RAM_SIZE as u32 / 16).prop_map(|i| RAM_BASE as u32 + 16 * i);
        let value = prop_oneof![4 => 0..16u32, 4 => in_ram, 1 => any::<u32>()];
        (register, value)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_driver_breaks_the_transport(
            memory in prop::collection::vec(prop_oneof![3 => 0..4u16, 1 => any::<u16>()], 0x100),
            stores in prop::collection::vec(any_store(), 0..80),
        ) {
            let mut driver = blk();
            // Rings of nonsense wherever a queue is put.
            let memory: Vec<u8> = memory.into_iter().flat_map(u16::to_le_bytes).collect();
            for address in (RAM_BASE..RAM_BASE + RAM_SIZE).step_by(memory.len()) {
                driver.ram.write(address, &memory).unwrap();
            }
            driver.initialise(ALL, 16);
            for (register, value) in stores {
                driver.write(register, value);
                prop_assert_eq!(driver.read(reg::MAGIC_VALUE), reg::MAGIC);
            }
            driver.mmio.pause();
            let state = driver.mmio.save().unwrap();
            driver.mmio.restore(&state).unwrap();
            prop_assert_eq!(driver.mmio.save().unwrap(), state);
            driver.mmio.resume();
            driver.initialise(ALL, 16);
            assert_serves(&mut driver);
        }
    }
}
