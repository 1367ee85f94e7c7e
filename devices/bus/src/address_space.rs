//! The guest-physical address space: RAM and the windows of devices.

use std::sync::Arc;

use crate::{Device, Ram, Width};

/// Why a device could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The window overlaps another one, or RAM, or the end of the address space.
    #[error("{device} at {base:#x} overlaps {other} or leaves the address space")]
    Overlap {
        /// The device to be mapped.
        device: &'static str,
        /// Guest-physical address.
        base: u64,
        /// What is there.
        other: &'static str,
    },
}

/// A device at its place.
#[derive(Clone)]
pub struct Mapped {
    /// Guest-physical address of the window.
    pub base: u64,
    /// Size of the window in bytes.
    pub size: u64,
    /// The device.
    pub device: Arc<dyn Device>,
}

/// The guest-physical address space of a machine: fixed once the machine is built, then shared by all harts.
pub struct AddressSpace {
    ram: Ram,
    /// Sorted by base, disjoint.
    devices: Vec<Mapped>,
}

impl AddressSpace {
    /// An address space of RAM alone.
    pub fn new(ram: Ram) -> Self {
        Self { ram, devices: Vec::new() }
    }

    /// Maps `device` at `base`.
    pub fn map(&mut self, base: u64, device: Arc<dyn Device>) -> Result<(), MapError> {
        let size = device.size();
        let overlap = |other| MapError::Overlap { device: device.name(), base, other };
        let end = base.checked_add(size).ok_or(overlap("nothing"))?;
        if base < self.ram.base() + self.ram.size() && self.ram.base() < end {
            return Err(overlap("RAM"));
        }
        let index = self.devices.partition_point(|mapped| mapped.base < base);
        let before = index.checked_sub(1).map(|i| &self.devices[i]).filter(|m| m.base + m.size > base);
        if let Some(other) = before.or(self.devices.get(index).filter(|m| m.base < end)) {
            return Err(overlap(other.device.name()));
        }
        self.devices.insert(index, Mapped { base, size, device });
        Ok(())
    }

    /// The RAM.
    #[inline]
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// The devices, by address.
    pub fn devices(&self) -> &[Mapped] {
        &self.devices
    }

    /// The device whose window holds all `length` bytes at guest-physical `address`, and the offset in the window.
    pub fn device(&self, address: u64, length: u64) -> Option<(&dyn Device, u64)> {
        let index = self.devices.partition_point(|mapped| mapped.base <= address).checked_sub(1)?;
        let mapped = &self.devices[index];
        let offset = address - mapped.base;
        (offset < mapped.size && length <= mapped.size - offset).then(|| (&*mapped.device, offset))
    }

    /// Loads from RAM or a device; `None` where nothing is mapped (an access fault).
    pub fn read(&self, address: u64, width: Width) -> Option<u64> {
        if let Some(offset) = self.ram.offset(address, width.bytes()) {
            return self.ram.load(offset, width);
        }
        let (device, offset) = self.device(address, width.bytes())?;
        Some(width.zero_extend(device.read(offset, width)))
    }

    /// Stores to RAM or a device; `None` where nothing is mapped (an access fault).
    pub fn write(&self, address: u64, width: Width, value: u64) -> Option<()> {
        if let Some(offset) = self.ram.offset(address, width.bytes()) {
            self.ram.announce_write();
            self.ram.store(offset, width, value)?;
            self.ram.note_write(offset, width.bytes());
            return Some(());
        }
        let (device, offset) = self.device(address, width.bytes())?;
        device.write(offset, width, width.zero_extend(value));
        Some(())
    }

    /// Loads without side effects, for a debugger.
    pub fn peek(&self, address: u64, width: Width) -> Option<u64> {
        if let Some(offset) = self.ram.offset(address, width.bytes()) {
            return self.ram.load(offset, width);
        }
        let (device, offset) = self.device(address, width.bytes())?;
        Some(width.zero_extend(device.peek(offset, width)))
    }

    /// Fetches a 16-bit instruction parcel from a device that code may run from (ROM); `None` is an access fault.
    pub fn fetch_parcel(&self, address: u64) -> Option<u16> {
        if let Some(offset) = self.ram.offset(address, 2) {
            return self.ram.load_u16(offset);
        }
        let (device, offset) = self.device(address, 2)?;
        device.executable().then(|| device.read(offset, Width::Half) as u16)
    }
}
