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
    /// Network device.
    pub const NETWORK: u32 = 1;
    /// Block device.
    pub const BLOCK: u32 = 2;
    /// Console.
    pub const CONSOLE: u32 = 3;
    /// Entropy source.
    pub const ENTROPY: u32 = 4;
    /// Input device.
    pub const INPUT: u32 = 18;
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
    /// Feature: several queues.
    pub const F_MQ: u64 = 1 << 12;
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

/// The input device (§5.8), and the numbers of Linux's input layer that it uses.
pub mod input {
    /// Queue of events from device to driver.
    pub const EVENTQ: u16 = 0;
    /// Queue of events from driver to device.
    pub const STATUSQ: u16 = 1;
    /// Configuration `select`: the device's name.
    pub const CFG_ID_NAME: u8 = 0x01;
    /// Configuration `select`: bus, vendor, product and version.
    pub const CFG_ID_DEVIDS: u8 = 0x03;
    /// Configuration `select`: codes of the event type in `subsel`, as a bitmap.
    pub const CFG_EV_BITS: u8 = 0x11;
    /// Bus of a device that is on none.
    pub const BUS_VIRTUAL: u16 = 0x06;
    /// Event type: the end of a report.
    pub const EV_SYN: u16 = 0;
    /// Its code.
    pub const SYN_REPORT: u16 = 0;
    /// Event type: a key is pressed (1) or released (0).
    pub const EV_KEY: u16 = 1;
    /// The power key.
    pub const KEY_POWER: u16 = 116;
}

/// The network device (§5.1).
pub mod net {
    /// Feature: the device completes checksums of packets that the driver sends.
    pub const F_CSUM: u64 = 1 << 0;
    /// Feature: the driver takes packets with partial checksums.
    pub const F_GUEST_CSUM: u64 = 1 << 1;
    /// Feature: the driver may change at run time which offloads it takes.
    pub const F_CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
    /// Feature: `mtu` is valid.
    pub const F_MTU: u64 = 1 << 3;
    /// Feature: `mac` is valid.
    pub const F_MAC: u64 = 1 << 5;
    /// Feature: the driver takes large TCP segments over IPv4.
    pub const F_GUEST_TSO4: u64 = 1 << 7;
    /// Feature: the driver takes large TCP segments over IPv6.
    pub const F_GUEST_TSO6: u64 = 1 << 8;
    /// Feature: the device takes large TCP segments over IPv4.
    pub const F_HOST_TSO4: u64 = 1 << 11;
    /// Feature: the device takes large TCP segments over IPv6.
    pub const F_HOST_TSO6: u64 = 1 << 12;
    /// Feature: a received packet may fill several chains.
    pub const F_MRG_RXBUF: u64 = 1 << 15;
    /// Feature: `status` is valid.
    pub const F_STATUS: u64 = 1 << 16;
    /// Feature: there is a control queue.
    pub const F_CTRL_VQ: u64 = 1 << 17;
    /// Feature: receive modes can be set.
    pub const F_CTRL_RX: u64 = 1 << 18;
    /// Feature: more receive modes can be set.
    pub const F_CTRL_RX_EXTRA: u64 = 1 << 20;
    /// Feature: there are several pairs of queues.
    pub const F_MQ: u64 = 1 << 22;
    /// Feature: the driver can set the MAC address.
    pub const F_CTRL_MAC_ADDR: u64 = 1 << 23;
    /// Feature: the driver takes several UDP datagrams over IPv4 as one packet.
    pub const F_GUEST_USO4: u64 = 1 << 54;
    /// Feature: the driver takes several UDP datagrams over IPv6 as one packet.
    pub const F_GUEST_USO6: u64 = 1 << 55;
    /// Feature: the device takes several UDP datagrams as one packet.
    pub const F_HOST_USO: u64 = 1 << 56;

    /// `status`: the link is up.
    pub const S_LINK_UP: u16 = 1;

    /// Bytes of a packet's header: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers.
    pub const HEADER_SIZE: usize = 12;
    /// `flags`: the checksum is partial.
    pub const HDR_F_NEEDS_CSUM: u8 = 1;
    /// `gso_type`: nothing to segment.
    pub const HDR_GSO_NONE: u8 = 0;
    /// `gso_type`: TCP over IPv4.
    pub const HDR_GSO_TCPV4: u8 = 1;
    /// `gso_type`: TCP over IPv6.
    pub const HDR_GSO_TCPV6: u8 = 4;
    /// `gso_type`: UDP, over IPv4 or IPv6.
    pub const HDR_GSO_UDP_L4: u8 = 5;

    /// Class of control commands: receive modes.
    pub const CTRL_RX: u8 = 0;
    /// Receive mode: everything.
    pub const CTRL_RX_PROMISC: u8 = 0;
    /// Receive mode: all multicast packets.
    pub const CTRL_RX_ALLMULTI: u8 = 1;
    /// Receive mode: all unicast packets.
    pub const CTRL_RX_ALLUNI: u8 = 2;
    /// Receive mode: no multicast packets.
    pub const CTRL_RX_NOMULTI: u8 = 3;
    /// Receive mode: no unicast packets.
    pub const CTRL_RX_NOUNI: u8 = 4;
    /// Receive mode: no broadcast packets.
    pub const CTRL_RX_NOBCAST: u8 = 5;
    /// Class of control commands: MAC addresses.
    pub const CTRL_MAC: u8 = 1;
    /// Sets the tables of addresses to receive.
    pub const CTRL_MAC_TABLE_SET: u8 = 0;
    /// Sets the card's address.
    pub const CTRL_MAC_ADDR_SET: u8 = 1;
    /// Class of control commands: several queues.
    pub const CTRL_MQ: u8 = 4;
    /// Sets the number of pairs in use.
    pub const CTRL_MQ_VQ_PAIRS_SET: u8 = 0;
    /// Class of control commands: offloads that the driver takes.
    pub const CTRL_GUEST_OFFLOADS: u8 = 5;
    /// Sets them, by the bits of their features.
    pub const CTRL_GUEST_OFFLOADS_SET: u8 = 0;
    /// The command was done.
    pub const CTRL_OK: u8 = 0;
    /// It was not.
    pub const CTRL_ERR: u8 = 1;
}
