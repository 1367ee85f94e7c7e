//! The SiFive test finisher: one register with which a guest ends the machine, the target of Linux's
//! `syscon-poweroff` and `syscon-reboot`.

use bus::device_tree::Node;
use bus::{Device, Placement, PowerRequest, PowerSwitch, StateError, Width};
use serde::{Deserialize, Serialize};

const NAME: &str = "finisher";

/// Commands: the low half of the register. The high half is the exit code of [`FAIL`].
const FAIL: u16 = 0x3333;
const PASS: u16 = 0x5555;
const RESET: u16 = 0x7777;

/// The register is a button: nothing stays.
#[derive(Serialize, Deserialize)]
struct State;

/// The test finisher.
pub struct Finisher {
    power: PowerSwitch,
}

impl Finisher {
    /// A finisher that presses `power`.
    pub fn new(power: PowerSwitch) -> Self {
        Self { power }
    }

    /// The nodes by which an operating system powers off and reboots through the finisher with this phandle; they go
    /// under the tree's root.
    pub fn power_nodes(phandle: u32) -> [Node; 2] {
        [("poweroff", "syscon-poweroff", PASS), ("reboot", "syscon-reboot", RESET)].map(
            |(name, compatible, command)| {
                Node::new(name)
                    .string("compatible", compatible)
                    .cells("regmap", &[phandle])
                    .cells("offset", &[0])
                    .cells("value", &[command.into()])
            },
        )
    }
}

impl Device for Finisher {
    fn name(&self) -> &'static str {
        NAME
    }

    fn size(&self) -> u64 {
        0x1000
    }

    fn read(&self, _: u64, _: Width) -> u64 {
        0
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        match (offset, value as u16) {
            _ if width == Width::Byte => tracing::debug!("finisher: a byte cannot hold a command"),
            (0, PASS) => self.power.press(PowerRequest::Off(0)),
            // A process has 8 bits for its exit code.
            (0, FAIL) => self.power.press(PowerRequest::Off((value >> 16) as u8)),
            (0, RESET) => self.power.press(PowerRequest::Reset),
            _ => tracing::debug!("finisher: write of {value:#x} at {offset:#x} ignored"),
        }
    }

    fn peek(&self, offset: u64, width: Width) -> u64 {
        self.read(offset, width)
    }

    fn reset(&self) {}

    fn describe(&self, placement: &Placement) -> Option<Node> {
        Some(placement.node("test").strings("compatible", &["sifive,test1", "sifive,test0", "syscon"]))
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
    use dtoolkit::{Node as _, Property as _};
    use std::sync::{Arc, Mutex};

    #[test]
    fn commands_press_the_switch_and_nothing_else_does() {
        let pressed = Arc::new(Mutex::new(Vec::new()));
        let log = pressed.clone();
        let finisher = Finisher::new(PowerSwitch::new(move |request| log.lock().unwrap().push(request)));
        for (offset, width, value) in [
            (0, Width::Word, 0x5555),
            (0, Width::Half, 0x7777),
            (0, Width::Word, 0x002a_3333),
            (0, Width::Double, 0x0101_3333),
            (0, Width::Word, 0x1234),
            (0, Width::Byte, 0x55),
            (4, Width::Word, 0x5555),
        ] {
            finisher.write(offset, width, value);
        }
        use PowerRequest::{Off, Reset};
        assert_eq!(*pressed.lock().unwrap(), [Off(0), Reset, Off(42), Off(1)]);
    }

    #[test]
    fn the_power_nodes_name_the_finisher_and_its_commands() {
        for (node, command) in Finisher::power_nodes(7).into_iter().zip([0x5555u32, 0x7777]) {
            let node = node.into_inner();
            assert_eq!(node.property("regmap").unwrap().value(), 7u32.to_be_bytes());
            assert_eq!(node.property("offset").unwrap().value(), 0u32.to_be_bytes());
            assert_eq!(node.property("value").unwrap().value(), command.to_be_bytes());
        }
    }
}
