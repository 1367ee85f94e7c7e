//! Numbers of the CSRs that the SBI works with (privileged specification, "CSR Listing"). The names are its own.

pub(super) const SSTATUS: u16 = 0x100;
pub(super) const STVEC: u16 = 0x105;
pub(super) const SCOUNTEREN: u16 = 0x106;
pub(super) const SEPC: u16 = 0x141;
pub(super) const SCAUSE: u16 = 0x142;
pub(super) const STVAL: u16 = 0x143;
pub(super) const STIMECMP: u16 = 0x14d;
pub(super) const SATP: u16 = 0x180;
pub(super) const MSTATUS: u16 = 0x300;
pub(super) const MEDELEG: u16 = 0x302;
pub(super) const MIDELEG: u16 = 0x303;
pub(super) const MCOUNTEREN: u16 = 0x306;
pub(super) const MENVCFG: u16 = 0x30a;
pub(super) const MSTATEEN0: u16 = 0x30c;
pub(super) const MCOUNTINHIBIT: u16 = 0x320;
/// There is none: `mhpmevent3` is the first.
pub(super) const MHPMEVENT0: u16 = 0x320;
pub(super) const MCYCLE: u16 = 0xb00;
pub(super) const CYCLE: u16 = 0xc00;
pub(super) const MVENDORID: u16 = 0xf11;
pub(super) const MARCHID: u16 = 0xf12;
pub(super) const MIMPID: u16 = 0xf13;
