//! A TAP interface of Linux (Documentation/networking/tuntap): frames of a network interface as reads and writes of a
//! file, behind a header that tells what remains to be done to them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;
use rustix::ioctl::{IntegerSetter, Setter, ioctl, opcode};

const DEVICE: &str = "/dev/net/tun";
/// Bytes of an interface's name, with the zero at its end (`IFNAMSIZ`).
const NAME_SIZE: usize = 16;

// linux/if_tun.h: group 'T'.
const TUNSETIFF: u32 = opcode::write::<i32>(b'T', 202);
const TUNSETOFFLOAD: u32 = opcode::write::<u32>(b'T', 208);
const TUNSETVNETLE: u32 = opcode::write::<i32>(b'T', 220);
/// Frames with their Ethernet header.
const IFF_TAP: u16 = 0x0002;
/// Without a packet information header.
const IFF_NO_PI: u16 = 0x1000;
/// Behind a `virtio_net_hdr`.
const IFF_VNET_HDR: u16 = 0x4000;
/// We take partial checksums, and TCP segments over IPv4 and IPv6 to be cut.
const TUN_F_CSUM: usize = 1;
const TUN_F_TSO4: usize = 2;
const TUN_F_TSO6: usize = 4;
/// We take several UDP datagrams as one packet, over IPv4 and IPv6 (Linux 6.2).
const TUN_F_USO4: usize = 0x20;
const TUN_F_USO6: usize = 0x40;

/// `struct ifreq` with its flags: as large as the kernel's, which reads and writes all of it.
#[repr(C)]
struct Request {
    name: [u8; NAME_SIZE],
    flags: u16,
    rest: [u8; 22],
}

/// Why a TAP interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The name is none.
    #[error("tap \"{0}\": expected the name of an interface, such as tap0")]
    Name(String),
    /// The host has none.
    #[error("{DEVICE}: {0}; the host's kernel has no TAP interfaces, or their module is not loaded: modprobe tun")]
    Missing(io::Error),
    /// The user may not open the device.
    #[error("{DEVICE}: {0}; let your user read and write it")]
    Device(io::Error),
    /// The user may not use the interface.
    #[error("tap {0}: it is not there, or not yours; as root: ip tuntap add {0} mode tap user YOU")]
    Permission(String),
    /// Somebody else uses it.
    #[error("tap {0}: it is in use; end who uses it, or choose another interface")]
    Busy(String),
    /// It cannot be used for another reason.
    #[error("tap {name}: {reason}; is it a TAP interface with one queue?")]
    Other {
        /// Which.
        name: String,
        /// The host's reason.
        reason: io::Error,
    },
    /// The host has no threads or sockets left.
    #[error("the TAP interface cannot be served: {0}")]
    Host(#[from] io::Error),
}

/// An open interface.
pub struct Interface {
    file: File,
    takes_datagrams: bool,
}

impl Interface {
    /// Opens the interface `name`, which is made if that is allowed and then ends with this. Reads and writes do not
    /// block.
    pub fn open(name: &str) -> Result<Self, TapError> {
        let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'%';
        if name.is_empty() || name.len() >= NAME_SIZE || !name.bytes().all(allowed) {
            return Err(TapError::Name(name.into()));
        }
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(DEVICE, flags, rustix::fs::Mode::empty()).map_err(|error| match error {
            rustix::io::Errno::NOENT | rustix::io::Errno::NODEV | rustix::io::Errno::NXIO => {
                TapError::Missing(error.into())
            }
            _ => TapError::Device(error.into()),
        })?;
        let mut interface = Self { file: file.into(), takes_datagrams: false };
        interface.bind(name).map_err(|error| match error {
            rustix::io::Errno::PERM => TapError::Permission(name.into()),
            rustix::io::Errno::BUSY => TapError::Busy(name.into()),
            _ => TapError::Other { name: name.into(), reason: error.into() },
        })?;
        Ok(interface)
    }

    #[expect(unsafe_code, reason = "ioctl")]
    fn bind(&mut self, name: &str) -> rustix::io::Result<()> {
        let mut request = Request { name: [0; NAME_SIZE], flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, rest: [0; 22] };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        // SAFETY: TUNSETIFF takes a pointer to a `struct ifreq`, 40 bytes on hosts of 64 bits, which `Request` is; the
        // setter passes one to a copy that lives as long as the call.
        unsafe { ioctl(&self.file, Setter::<TUNSETIFF, Request>::new(request)) }?;
        // SAFETY: TUNSETVNETLE takes a pointer to an `int`.
        unsafe { ioctl(&self.file, Setter::<TUNSETVNETLE, i32>::new(1)) }?;
        let offer = |offloads| {
            // SAFETY: TUNSETOFFLOAD takes a number in place of a pointer, and touches no memory of ours.
            unsafe { ioctl(&self.file, IntegerSetter::<TUNSETOFFLOAD>::new_usize(offloads)) }
        };
        let segments = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
        // An older kernel refuses what it does not know.
        self.takes_datagrams = offer(segments | TUN_F_USO4 | TUN_F_USO6).is_ok();
        if self.takes_datagrams { Ok(()) } else { offer(segments) }
    }

    /// Whether the host takes and gives several UDP datagrams as one packet.
    pub fn takes_datagrams(&self) -> bool {
        self.takes_datagrams
    }

    /// The interface's frames.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for Interface {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

const _: () = assert!(size_of::<Request>() == 40);
