//! Read-only memory: what harts find at their reset vector.

use bus::device_tree::Node;
use bus::{Device, Placement, StateError, Width};
use serde::{Deserialize, Serialize};

const NAME: &str = "rom";

/// The contents are configuration.
#[derive(Serialize, Deserialize)]
struct State;

/// Why a ROM could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{length} bytes do not fit in a ROM of {size} bytes")]
pub struct TooLarge {
    /// Bytes of contents.
    pub length: usize,
    /// Size of the ROM in bytes.
    pub size: usize,
}

/// A ROM.
pub struct Rom {
    bytes: Box<[u8]>,
}

impl Rom {
    /// A ROM of `size` bytes that begins with `contents`; the rest is zero.
    pub fn new(mut contents: Vec<u8>, size: usize) -> Result<Self, TooLarge> {
        if contents.len() > size {
            return Err(TooLarge { length: contents.len(), size });
        }
        contents.resize(size, 0);
        Ok(Self { bytes: contents.into() })
    }
}

impl Device for Rom {
    fn name(&self) -> &'static str {
        NAME
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, offset: u64, width: Width) -> u64 {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let bytes = self.bytes[from..].iter().take(width.bytes() as usize);
        bytes.rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn write(&self, offset: u64, _: Width, _: u64) {
        tracing::debug!("rom: write at {offset:#x} ignored");
    }

    fn peek(&self, offset: u64, width: Width) -> u64 {
        self.read(offset, width)
    }

    fn register_width(&self, _: u64) -> Width {
        Width::Byte
    }

    fn executable(&self) -> bool {
        true
    }

    fn reset(&self) {}

    fn describe(&self, _: &Placement) -> Option<Node> {
        None
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        bus::save(NAME, &State)
    }

    fn restore(&self, state: &[u8]) -> Result<(), StateError> {
        let State = bus::restore(NAME, state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_little_endian_padded_and_constant() {
        let rom = Rom::new(vec![1, 2, 3, 4, 5], 16).unwrap();
        rom.write(0, Width::Word, 0xffff_ffff);
        assert_eq!(rom.read(0, Width::Word), 0x0403_0201);
        assert_eq!(rom.read(1, Width::Double), 0x0504_0302);
        assert_eq!(rom.read(15, Width::Byte), 0);
        assert_eq!(rom.size(), 16);
        assert!(rom.executable());
    }

    #[test]
    fn contents_beyond_the_size_are_refused() {
        assert_eq!(Rom::new(vec![0; 17], 16).err().unwrap().to_string(), "17 bytes do not fit in a ROM of 16 bytes");
    }
}
