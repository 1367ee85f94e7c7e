//! Memory as gdb sees it: the address space of a hart, or guest-physical addresses, without side effects on either.

use std::fmt::Write;

use bus::{AddressSpace, PAGE_SIZE, Width};

use super::target::Target;

/// The widths with which the registers of a device are accessed for a range of bytes: as it is if a register can have
/// it, else by words, else by bytes.
fn device_width(address: u64, length: usize) -> Width {
    let exact =
        Width::ALL.into_iter().find(|width| width.bytes() == length as u64 && address.is_multiple_of(width.bytes()));
    let words = (address | length as u64).is_multiple_of(Width::Word.bytes());
    exact.unwrap_or(if words { Width::Word } else { Width::Byte })
}

/// Reads guest-physical memory within a page; how many bytes there were.
fn read_physical(bus: &AddressSpace, address: u64, data: &mut [u8], effects: bool) -> usize {
    if bus.ram().read(address, data).is_some() {
        return data.len();
    }
    let width = device_width(address, data.len());
    let mut done = 0;
    for bytes in data.chunks_mut(width.bytes() as usize) {
        let at = address.wrapping_add(done as u64);
        let value = if effects { bus.read(at, width) } else { bus.peek(at, width) };
        let Some(value) = value else { break };
        bytes.copy_from_slice(&value.to_le_bytes()[..bytes.len()]);
        done += bytes.len();
    }
    done
}

/// Writes guest-physical memory within a page.
fn write_physical(bus: &AddressSpace, address: u64, data: &[u8]) -> Option<()> {
    if bus.ram().write(address, data).is_some() {
        return Some(());
    }
    let width = device_width(address, data.len());
    for (index, bytes) in data.chunks(width.bytes() as usize).enumerate() {
        let mut value = [0; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        bus.write(address.wrapping_add(index as u64 * width.bytes()), width, u64::from_le_bytes(value))?;
    }
    Some(())
}

/// The parts of `start..start + length` that lie in one page each: address and range in the data.
fn pages(start: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let address = start.wrapping_add(done as u64);
        let part = (length - done).min((PAGE_SIZE - address % PAGE_SIZE) as usize);
        let range = done..done + part;
        done += part;
        (part > 0).then_some((address, range))
    })
}

impl Target<'_> {
    /// Where an address of the debugger's leads.
    fn physical_address(&mut self, hart: usize, address: u64) -> Option<u64> {
        if self.settings.physical {
            return Some(address);
        }
        self.core(hart)?.hart.probe(address).ok()
    }

    /// Reads memory as a hart would find it; how many bytes could be read.
    pub(super) fn read_memory(&mut self, hart: usize, start: u64, data: &mut [u8]) -> usize {
        let mut done = 0;
        for (address, range) in pages(start, data.len()) {
            let Some(physical) = self.physical_address(hart, address) else { break };
            let length = range.len();
            let read = read_physical(self.board.machine.bus(), physical, &mut data[range], self.settings.effects);
            done += read;
            if read < length {
                break;
            }
        }
        done
    }

    /// Writes memory where a hart would find it: all of it, or nothing if any of it is not there.
    pub(super) fn write_memory(&mut self, hart: usize, start: u64, data: &[u8]) -> Option<()> {
        let parts = pages(start, data.len())
            .map(|(address, range)| Some((self.physical_address(hart, address)?, range)))
            .collect::<Option<Vec<_>>>()?;
        let bus = self.board.machine.bus();
        let exists = |address: u64, length: usize| {
            bus.ram().offset(address, length as u64).or_else(|| bus.device(address, length as u64).map(|_| 0)).is_some()
        };
        if !parts.iter().all(|(address, range)| exists(*address, range.len())) {
            return None;
        }
        parts.into_iter().try_for_each(|(address, range)| write_physical(bus, address, &data[range]))
    }
}

/// The memory map (gdb's manual, "Memory Map Format"). Virtual addresses can be anything; what gdb gains from the map is
/// to know that the boot ROM cannot be written.
pub(super) fn memory_map(bus: &AddressSpace) -> String {
    let mut xml = String::from("<?xml version=\"1.0\"?>\n<memory-map>\n");
    let mut region = |kind: &str, start: u64, length: u64| {
        if length > 0 {
            // Writing to a string does not fail.
            let _ = writeln!(xml, "<memory type=\"{kind}\" start=\"{start:#x}\" length=\"{length:#x}\"/>");
        }
    };
    let mut at = 0;
    for rom in bus.devices().iter().filter(|mapped| mapped.device.executable()) {
        region("ram", at, rom.base - at);
        region("rom", rom.base, rom.size);
        at = rom.base + rom.size;
    }
    region("ram", at, at.wrapping_neg());
    xml.push_str("</memory-map>\n");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_range() {
        let parts: Vec<_> = pages(0xffe, 0x1004).collect();
        assert_eq!(parts, [(0xffe, 0..2), (0x1000, 2..0x1002), (0x2000, 0x1002..0x1004)]);
        assert_eq!(pages(7, 0).count(), 0);
        // Around the end of the address space.
        assert_eq!(pages(u64::MAX, 2).collect::<Vec<_>>(), [(u64::MAX, 0..1), (0, 1..2)]);
    }

    #[test]
    fn widths_of_device_accesses() {
        assert_eq!(device_width(0x1000, 4), Width::Word);
        assert_eq!(device_width(0x1002, 4), Width::Byte);
        assert_eq!(device_width(0x1008, 8), Width::Double);
        assert_eq!(device_width(0x1000, 16), Width::Word);
        assert_eq!(device_width(0x1000, 5), Width::Byte);
    }
}
