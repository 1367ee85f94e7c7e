//! Memory as gdb sees it: the address space of a hart, or guest-physical addresses, without side effects on either.

use std::fmt::Write;

use bus::{AddressSpace, PAGE_SIZE, Width};

use super::target::Target;

/// Reads guest-physical memory within a page; how many bytes there were. Registers of devices are read as a whole, and
/// once, even where only a part of one is wanted.
fn read_physical(bus: &AddressSpace, address: u64, data: &mut [u8], effects: bool) -> usize {
    if bus.ram().read(address, data).is_some() {
        return data.len();
    }
    let mut done = 0;
    while done < data.len() {
        let at = address.wrapping_add(done as u64);
        let Some((device, offset)) = bus.device(at, 1) else { break };
        let width = device.register_width(offset);
        let within = (offset % width.bytes()) as usize;
        let register = at - within as u64;
        let value = if effects { bus.read(register, width) } else { bus.peek(register, width) };
        let Some(value) = value else { break };
        let bytes = &value.to_le_bytes()[within..width.bytes() as usize];
        let part = bytes.len().min(data.len() - done);
        data[done..done + part].copy_from_slice(&bytes[..part]);
        done += part;
    }
    done
}

/// Writes guest-physical memory within a page. Registers of devices are written as a whole where all of one is given,
/// else by a narrower access, of which the device makes what it makes of a hart's.
fn write_physical(bus: &AddressSpace, address: u64, data: &[u8]) -> Option<()> {
    if bus.ram().write(address, data).is_some() {
        return Some(());
    }
    let mut done = 0;
    while done < data.len() {
        let (at, rest) = (address.wrapping_add(done as u64), &data[done..]);
        let (device, offset) = bus.device(at, 1)?;
        let register = device.register_width(offset);
        let fits = |width: &Width| {
            let bytes = width.bytes();
            *width <= register && offset.is_multiple_of(bytes) && bytes as usize <= rest.len()
        };
        let width = Width::ALL.into_iter().rev().find(fits)?;
        let (bytes, _) = rest.split_at(width.bytes() as usize);
        let mut value = [0; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        bus.write(at, width, u64::from_le_bytes(value))?;
        done += bytes.len();
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
    use std::sync::{Arc, Mutex};

    use bus::device_tree::Node;
    use bus::{Device, Placement, Ram, StateError};

    use super::*;

    #[test]
    fn pages_of_a_range() {
        let parts: Vec<_> = pages(0xffe, 0x1004).collect();
        assert_eq!(parts, [(0xffe, 0..2), (0x1000, 2..0x1002), (0x2000, 0x1002..0x1004)]);
        assert_eq!(pages(7, 0).count(), 0);
        // Around the end of the address space.
        assert_eq!(pages(u64::MAX, 2).collect::<Vec<_>>(), [(u64::MAX, 0..1), (0, 1..2)]);
    }

    /// A device with a register of each width, two bytes first, that remembers its accesses.
    struct Registers(Mutex<Vec<(u64, Width, Option<u64>)>>);

    impl Device for Registers {
        fn name(&self) -> &'static str {
            "registers"
        }
        fn size(&self) -> u64 {
            24
        }
        fn read(&self, offset: u64, width: Width) -> u64 {
            self.0.lock().unwrap().push((offset, width, None));
            self.peek(offset, width)
        }
        fn write(&self, offset: u64, width: Width, value: u64) {
            self.0.lock().unwrap().push((offset, width, Some(value)));
        }
        fn peek(&self, offset: u64, _: Width) -> u64 {
            0x0706_0504_0302_0100 + 0x0808_0808_0808_0808 * (offset / 8) + 0x0101_0101_0101_0101 * (offset % 8)
        }
        fn register_width(&self, offset: u64) -> Width {
            match offset {
                0..2 => Width::Byte,
                2..4 => Width::Half,
                4..8 => Width::Word,
                _ => Width::Double,
            }
        }
        fn reset(&self) {}
        fn describe(&self, _: &Placement) -> Option<Node> {
            None
        }
        fn save(&self) -> Result<Vec<u8>, StateError> {
            Ok(Vec::new())
        }
        fn restore(&self, _: &[u8]) -> Result<(), StateError> {
            Ok(())
        }
    }

    #[test]
    fn devices_are_accessed_register_by_register() {
        use Width::{Byte, Double, Half, Word};

        const BASE: u64 = 0x1000_0000;
        let device = Arc::new(Registers(Mutex::default()));
        let mut bus = AddressSpace::new(Ram::new(0x8000_0000, PAGE_SIZE).unwrap());
        bus.map(BASE, device.clone()).unwrap();
        let accesses = || std::mem::take(&mut *device.0.lock().unwrap());
        for start in 0..24u8 {
            for end in start..=24 {
                let mut bytes = vec![0xff; usize::from(end - start)];
                assert_eq!(read_physical(&bus, BASE + u64::from(start), &mut bytes, false), bytes.len());
                assert_eq!(bytes, (start..end).collect::<Vec<_>>());
            }
        }
        assert_eq!(accesses(), []);
        let mut bytes = [0; 32];
        assert_eq!(read_physical(&bus, BASE, &mut bytes, true), 24, "behind it is nothing");
        let whole = [(0, Byte), (1, Byte), (2, Half), (4, Word), (8, Double), (16, Double)];
        assert_eq!(accesses(), whole.map(|(offset, width)| (offset, width, None)));
        assert_eq!(read_physical(&bus, BASE + 5, &mut bytes[..1], true), 1);
        assert_eq!(accesses(), [(4, Word, None)]);

        assert_eq!(write_physical(&bus, BASE, &[1; 16]), Some(()));
        let value = 0x0101_0101_0101_0101;
        assert_eq!(
            accesses(),
            [
                (0, Byte, Some(1)),
                (1, Byte, Some(1)),
                (2, Half, Some(0x101)),
                (4, Word, Some(0x101_0101)),
                (8, Double, Some(value))
            ]
        );
        assert_eq!(write_physical(&bus, BASE + 5, &[2; 7]), Some(()));
        assert_eq!(accesses(), [(5, Byte, Some(2)), (6, Half, Some(0x202)), (8, Word, Some(0x202_0202))]);
    }
}
