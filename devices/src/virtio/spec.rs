//! Numbers of the Virtual I/O Device (VIRTIO) specification, version 1.3, under the names it gives them.

/// Bits of the device status field (§2.1).
pub mod status {
    /// The guest has found the device.
    pub const ACKNOWLEDGE: u32 = 1;
    /// The guest knows how to drive it.
    pub const DRIVER: u32 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u32 = 4;
    /// Feature negotiation is complete.
    pub const FEATURES_OK: u32 = 8;
    /// The device cannot go on without a reset.
    pub const DEVICE_NEEDS_RESET: u32 = 64;
    /// The guest has given up on the device.
    pub const FAILED: u32 = 128;
}

/// Feature bits of the ring and the transport (§6), as masks.
pub mod feature {
    /// Descriptors may refer to tables of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// `used_event` and `avail_event` are in use.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// The device is no legacy device.
    pub const VERSION_1: u64 = 1 << 32;
}

/// Flags of a split virtqueue (§2.7).
pub mod ring {
    /// `flags` of a descriptor: it continues in `next`.
    pub const DESC_F_NEXT: u16 = 1;
    /// `flags` of a descriptor: the device writes the buffer (else it reads it).
    pub const DESC_F_WRITE: u16 = 2;
    /// `flags` of a descriptor: the buffer is a table of descriptors.
    pub const DESC_F_INDIRECT: u16 = 4;
    /// `flags` of the available ring: the driver asks for no interrupts.
    pub const AVAIL_F_NO_INTERRUPT: u16 = 1;
    /// `flags` of the used ring: the device asks for no notifications.
    pub const USED_F_NO_NOTIFY: u16 = 1;
    /// Bytes of a descriptor.
    pub const DESCRIPTOR_SIZE: u64 = 16;
    /// The largest queue that the split format allows (§2.7).
    pub const MAX_SIZE: u16 = 1 << 15;
}

/// Offsets of the memory-mapped registers and their fixed values (§4.2.2).
pub mod mmio {
    /// "virt".
    pub const MAGIC: u32 = 0x7472_6976;
    /// The register layout that is not the legacy one.
    pub const VERSION_2: u32 = 2;
    /// `InterruptStatus`: a queue was used.
    pub const INTERRUPT_USED: u32 = 1;
    /// `InterruptStatus`: the configuration, or `DEVICE_NEEDS_RESET`, has changed.
    pub const INTERRUPT_CONFIG: u32 = 2;

    /// `MagicValue`, R.
    pub const MAGIC_VALUE: u64 = 0x000;
    /// `Version`, R.
    pub const VERSION: u64 = 0x004;
    /// `DeviceID`, R.
    pub const DEVICE_ID: u64 = 0x008;
    /// `VendorID`, R.
    pub const VENDOR_ID: u64 = 0x00c;
    /// `DeviceFeatures`, R.
    pub const DEVICE_FEATURES: u64 = 0x010;
    /// `DeviceFeaturesSel`, W.
    pub const DEVICE_FEATURES_SEL: u64 = 0x014;
    /// `DriverFeatures`, W.
    pub const DRIVER_FEATURES: u64 = 0x020;
    /// `DriverFeaturesSel`, W.
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    /// `QueueSel`, W.
    pub const QUEUE_SEL: u64 = 0x030;
    /// `QueueSizeMax`, R.
    pub const QUEUE_SIZE_MAX: u64 = 0x034;
    /// `QueueSize`, W.
    pub const QUEUE_SIZE: u64 = 0x038;
    /// `QueueReady`, RW.
    pub const QUEUE_READY: u64 = 0x044;
    /// `QueueNotify`, W.
    pub const QUEUE_NOTIFY: u64 = 0x050;
    /// `InterruptStatus`, R.
    pub const INTERRUPT_STATUS: u64 = 0x060;
    /// `InterruptACK`, W.
    pub const INTERRUPT_ACK: u64 = 0x064;
    /// `Status`, RW.
    pub const STATUS: u64 = 0x070;
    /// `QueueDescLow`, W.
    pub const QUEUE_DESC_LOW: u64 = 0x080;
    /// `QueueDescHigh`, W.
    pub const QUEUE_DESC_HIGH: u64 = 0x084;
    /// `QueueDriverLow`, W: the available ring.
    pub const QUEUE_DRIVER_LOW: u64 = 0x090;
    /// `QueueDriverHigh`, W.
    pub const QUEUE_DRIVER_HIGH: u64 = 0x094;
    /// `QueueDeviceLow`, W: the used ring.
    pub const QUEUE_DEVICE_LOW: u64 = 0x0a0;
    /// `QueueDeviceHigh`, W.
    pub const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
    /// `SHMSel`, W.
    pub const SHM_SEL: u64 = 0x0ac;
    /// `SHMLenLow`, R.
    pub const SHM_LEN_LOW: u64 = 0x0b0;
    /// `SHMLenHigh`, R.
    pub const SHM_LEN_HIGH: u64 = 0x0b4;
    /// `SHMBaseLow`, R.
    pub const SHM_BASE_LOW: u64 = 0x0b8;
    /// `SHMBaseHigh`, R.
    pub const SHM_BASE_HIGH: u64 = 0x0bc;
    /// `ConfigGeneration`, R.
    pub const CONFIG_GENERATION: u64 = 0x0fc;
    /// The device's configuration space, to the end of the window.
    pub const CONFIG: u64 = 0x100;
}

/// Device types (§5).
pub mod device {
    /// No device: an empty slot.
    pub const NONE: u32 = 0;
    /// Block device.
    pub const BLOCK: u32 = 2;
    /// Console.
    pub const CONSOLE: u32 = 3;
    /// Entropy source.
    pub const ENTROPY: u32 = 4;
}

/// The block device (§5.2).
pub mod blk {
    /// Feature: `seg_max` is valid.
    pub const F_SEG_MAX: u64 = 1 << 2;
    /// Feature: the device is read-only.
    pub const F_RO: u64 = 1 << 5;
    /// Feature: `blk_size` is valid.
    pub const F_BLK_SIZE: u64 = 1 << 6;
    /// Feature: the flush command, and a write-back cache.
    pub const F_FLUSH: u64 = 1 << 9;
    /// Feature: `topology` is valid.
    pub const F_TOPOLOGY: u64 = 1 << 10;
    /// Feature: the discard command.
    pub const F_DISCARD: u64 = 1 << 13;
    /// Feature: the write zeroes command.
    pub const F_WRITE_ZEROES: u64 = 1 << 14;

    /// Request: read.
    pub const T_IN: u32 = 0;
    /// Request: write.
    pub const T_OUT: u32 = 1;
    /// Request: make earlier writes durable.
    pub const T_FLUSH: u32 = 4;
    /// Request: the serial number.
    pub const T_GET_ID: u32 = 8;
    /// Request: the contents of a range are no longer needed.
    pub const T_DISCARD: u32 = 11;
    /// Request: a range shall read as zeroes.
    pub const T_WRITE_ZEROES: u32 = 13;

    /// Status: success.
    pub const S_OK: u8 = 0;
    /// Status: the request failed.
    pub const S_IOERR: u8 = 1;
    /// Status: the request is not supported.
    pub const S_UNSUPP: u8 = 2;

    /// Bytes of a request's header: type, reserved, sector.
    pub const HEADER_SIZE: u64 = 16;
    /// Bytes of a range of a discard or write zeroes request: sector, num_sectors, flags.
    pub const RANGE_SIZE: u64 = 16;
    /// `flags` of a range: a write zeroes request may deallocate.
    pub const RANGE_F_UNMAP: u32 = 1;
    /// Bytes of the serial number.
    pub const ID_SIZE: usize = 20;
    /// Bytes of a sector, the unit of every address (§5.2.4), whatever `blk_size` says.
    pub const SECTOR_SIZE: u64 = 512;
}

/// The console (§5.3).
pub mod console {
    /// Queue of port 0 from device to driver.
    pub const RECEIVEQ: u16 = 0;
    /// Queue of port 0 from driver to device.
    pub const TRANSMITQ: u16 = 1;
}
