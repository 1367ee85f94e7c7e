//! The host-target interface of riscv-tests: a program tells its end and its output through the doubleword `tohost`.
//!
//! A write to `tohost` is a command: bits 63:56 name a device, 55:48 a command, 47:0 hold the payload. Device 0 is the
//! system-call proxy: an odd payload is an exit code, an even one the address of a call's number and arguments. Device
//! 1 is the console. The host answers through `fromhost`.

use bus::Ram;

/// What a program wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// It has ended: 0 is success.
    Exit(u64),
    /// It writes to the console.
    Write(Vec<u8>),
}

/// Most bytes that one system call writes.
const MOST_BYTES: u64 = 1 << 20;

const SYSCALL_WRITE: u64 = 64;
const SYSCALL_EXIT: u64 = 93;

/// The interface of one program.
#[derive(Clone, Copy, Debug)]
pub struct Htif {
    /// Guest-physical address of `tohost`.
    pub tohost: u64,
    /// Guest-physical address of `fromhost`, if the program has one.
    pub fromhost: Option<u64>,
}

impl Htif {
    /// Takes the command in `tohost`, if there is one, and answers it.
    pub fn serve(&self, ram: &Ram) -> Option<Request> {
        let command = read(ram, self.tohost)?;
        if command == 0 {
            return None;
        }
        let payload = command & 0xffff_ffff_ffff;
        let request = match (command >> 56, command >> 48 & 0xff) {
            (0, 0) if payload & 1 != 0 => Some(Request::Exit(payload >> 1)),
            (0, 0) => self.system_call(ram, payload),
            (1, 1) => Some(Request::Write(vec![payload as u8])),
            (device, number) => {
                tracing::debug!(device, number, "unknown HTIF command");
                None
            }
        };
        if !matches!(request, Some(Request::Exit(_))) {
            self.answer(ram, command & 0xffff_0000_0000_0000 | 1);
        }
        request
    }

    fn system_call(&self, ram: &Ram, arguments: u64) -> Option<Request> {
        let argument = |index: u64| read(ram, arguments.checked_add(8 * index)?);
        let (result, request) = match argument(0)? {
            SYSCALL_WRITE => {
                let mut bytes = vec![0; argument(3)?.min(MOST_BYTES) as usize];
                ram.read(argument(2)?, &mut bytes)?;
                (bytes.len() as u64, Some(Request::Write(bytes)))
            }
            SYSCALL_EXIT => return Some(Request::Exit(argument(1)?)),
            number => {
                tracing::debug!(number, "unknown HTIF system call");
                (u64::MAX, None)
            }
        };
        ram.write(arguments, &result.to_le_bytes())?;
        request
    }

    fn answer(&self, ram: &Ram, value: u64) {
        // A symbol outside of RAM cannot be answered; the program hangs, and its limits end it.
        let _ = ram.write(self.tohost, &0u64.to_le_bytes());
        if let Some(fromhost) = self.fromhost {
            let _ = ram.write(fromhost, &value.to_le_bytes());
        }
    }
}

fn read(ram: &Ram, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    ram.read(address, &mut bytes)?;
    Some(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x8000_0000;

    fn htif() -> (Ram, Htif) {
        (Ram::new(BASE, 0x4000).unwrap(), Htif { tohost: BASE, fromhost: Some(BASE + 64) })
    }

    #[test]
    fn exit_codes_and_console_output() {
        let (ram, htif) = htif();
        assert_eq!(htif.serve(&ram), None);
        ram.write(BASE, &(0x0101_u64 << 48 | u64::from(b'x')).to_le_bytes()).unwrap();
        assert_eq!(htif.serve(&ram), Some(Request::Write(b"x".to_vec())));
        assert_eq!(read(&ram, BASE), Some(0), "taken");
        assert_eq!(read(&ram, BASE + 64), Some(0x0101 << 48 | 1), "answered");
        ram.write(BASE, &(5u64 << 1 | 1).to_le_bytes()).unwrap();
        assert_eq!(htif.serve(&ram), Some(Request::Exit(5)));
    }

    #[test]
    fn the_write_call_and_hostile_arguments() {
        let (ram, htif) = htif();
        ram.write(BASE + 0x1000, b"hello").unwrap();
        let call = |arguments: [u64; 4], at: u64| {
            for (index, argument) in arguments.into_iter().enumerate() {
                ram.write(BASE + 0x100 + 8 * index as u64, &argument.to_le_bytes()).unwrap();
            }
            ram.write(BASE, &at.to_le_bytes()).unwrap();
            htif.serve(&ram)
        };
        assert_eq!(call([64, 1, BASE + 0x1000, 5], BASE + 0x100), Some(Request::Write(b"hello".to_vec())));
        assert_eq!(read(&ram, BASE + 0x100), Some(5));
        assert_eq!(call([64, 1, BASE + 0x1000, u64::MAX], BASE + 0x100), None, "leaves RAM");
        assert_eq!(call([64, 1, u64::MAX, 5], BASE + 0x100), None);
        assert_eq!(call([0; 4], 0xffff_ffff_fff8), None);
        assert_eq!(call([93, 7, 0, 0], BASE + 0x100), Some(Request::Exit(7)));
    }
}
