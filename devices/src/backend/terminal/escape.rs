//! The escape key: Ctrl-A, followed by a command.

const CTRL_A: u8 = 0x01;

/// The answer to a request for help.
pub(super) const HELP: &str = "\r\n\
    Ctrl-A x       end the emulator\r\n\
    Ctrl-A p       press the power key: the guest shuts down\r\n\
    Ctrl-A g       let gdb connect; the guest goes on until it does\r\n\
    Ctrl-A h       this help\r\n\
    Ctrl-A Ctrl-A  send Ctrl-A to the guest (Ctrl-A a, too)\r\n";

/// The answer to a command that there is not.
pub(super) const HINT: &str = "\r\n[unknown command: Ctrl-A h shows which there are]\r\n";

/// What a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// This byte goes to the guest.
    Input(u8),
    /// The user wants the emulator to end.
    Quit,
    /// The user presses the power key.
    PowerKey,
    /// The user wants a debugger to be able to connect.
    Debugger,
    /// The user wants to know the commands.
    Help,
    /// There is no such command; the key goes nowhere.
    Unknown,
}

/// Recognises commands in the bytes that a terminal sends.
#[derive(Default)]
pub(super) struct Escape {
    /// The last byte was the escape key.
    escaped: bool,
}

impl Escape {
    /// What the next byte leads to; `None` for the escape key, which leads to something only with what follows.
    pub(super) fn push(&mut self, byte: u8) -> Option<Action> {
        if !self.escaped {
            self.escaped = byte == CTRL_A;
            return (!self.escaped).then_some(Action::Input(byte));
        }
        self.escaped = false;
        Some(match byte {
            CTRL_A | b'a' => Action::Input(CTRL_A),
            b'x' => Action::Quit,
            b'p' => Action::PowerKey,
            b'g' => Action::Debugger,
            b'h' | b'?' => Action::Help,
            _ => Action::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(bytes: &[u8]) -> Vec<Action> {
        let mut escape = Escape::default();
        bytes.iter().filter_map(|byte| escape.push(*byte)).collect()
    }

    #[test]
    fn every_byte_but_the_escape_key_passes() {
        for byte in (0..=255).filter(|byte| *byte != CTRL_A) {
            assert_eq!(actions(&[byte]), [Action::Input(byte)]);
        }
        assert_eq!(actions(&[CTRL_A]), []);
    }

    #[test]
    fn commands() {
        use Action::{Debugger, Help, Input, PowerKey, Quit, Unknown};
        assert_eq!(actions(b"\x01x"), [Quit]);
        assert_eq!(actions(b"\x01p"), [PowerKey]);
        assert_eq!(actions(b"\x01g"), [Debugger]);
        assert_eq!(actions(b"\x01h"), [Help]);
        assert_eq!(actions(b"\x01a\x01\x01"), [Input(1), Input(1)]);
        assert_eq!(actions(b"\x01zx"), [Unknown, Input(b'x')], "a command takes one byte");
        assert_eq!(actions(b"\x01\x01x"), [Input(1), Input(b'x')], "a sent Ctrl-A does not escape");
    }
}
