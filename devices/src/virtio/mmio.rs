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
use super::{Queue, QueueError, QueueLayout, QueuePosition, Session, Transport, VirtioDevice, lock, spec};

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
        let slot = Self {
            device,
            ram,
            registers: Mutex::default(),
            lines: Arc::new(Lines { state: Mutex::default(), line }),
        };
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
        let Some(queue) = registers.queues.get_mut(index) else { return };
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
            None if width == Width::Word && offset % 4 == 0 => self.read_register(offset).into(),
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
            None if width == Width::Word && offset % 4 == 0 => self.write_register(offset, value as u32),
            None => tracing::debug!("virtio-mmio: write of {} bytes at register {offset:#x}", width.bytes()),
        }
    }

    // No register of this transport changes by being read.
    fn peek(&self, offset: u64, width: Width) -> u64 {
        self.read_bytes(offset, width)
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
