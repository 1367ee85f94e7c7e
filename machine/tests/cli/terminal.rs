//! The terminal while a guest runs: raw, with an escape key, and as before after each way out. The quick start on it.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use rustix::process::Signal;

use crate::command::{Folder, vervet};
use crate::elf::echo;
use crate::pseudo_terminal::{Session, send};

/// `vervet` with the echo program in M-mode.
fn echoing(folder: &Folder) -> Command {
    let program = folder.file("echo", echo().bytes());
    let mut command = vervet();
    command.args(["run", "--bios", "none", "--kernel"]).arg(program);
    command
}

#[test]
fn keys_reach_the_guest_and_the_escape_key_does_not() {
    let folder = Folder::new();
    let mut session = Session::start(&mut echoing(&folder));
    session.expect("<ready>\r\n");
    assert!(session.is_raw());
    // Ctrl-C, Ctrl-Z and Ctrl-\ are the guest's, Ctrl-A for it is typed twice.
    session.type_keys(b"a\x03\x1a\x1c\x01\x01z");
    session.expect("a\x03\x1a\x1c\x01z");
    session.type_keys(b"\x01h");
    session.expect("Ctrl-A x");
    session.type_keys(b"r");
    session.expect("<ready>\r\n");
    session.type_keys(b"again\n");
    session.expect("again\r\n");
    session.type_keys(b"\x01x");
    assert_eq!(session.end().code(), Some(0));
}

#[test]
fn the_guest_ends_the_process_with_its_exit_code() {
    let folder = Folder::new();
    let mut session = Session::start(&mut echoing(&folder));
    session.expect("<ready>");
    assert!(session.is_raw());
    session.type_keys(b"q");
    assert_eq!(session.end().code(), Some(7));
}

#[test]
fn signals_end_the_process_and_leave_the_terminal_as_it_was() {
    let folder = Folder::new();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let session = Session::start(&mut echoing(&folder));
        // As early as there is anything to restore.
        session.expect_raw();
        send(&session.child, signal);
        assert_eq!(session.end().signal(), Some(signal.as_raw()));
    }
}

#[test]
fn a_refusal_leaves_the_terminal_as_it_was() {
    let mut session = Session::start(vervet().args(["run", "--kernel", "/nonexistent/kernel"]));
    session.expect("cannot be read");
    assert_eq!(session.end().code(), Some(1));
}

#[test]
fn the_quick_start_boots_to_a_shell() {
    let mut session = Session::start(&mut vervet());
    session.expect("vervet:~# ");
    assert!(session.is_raw());
    session.type_keys(b"echo $((6 * 7))x\r");
    session.expect("42x");
    session.expect("vervet:~# ");
    session.type_keys(b"poweroff\r");
    assert_eq!(session.end().code(), Some(0));
}

#[test]
fn without_debian_the_monitor_starts() {
    let cache = Folder::new();
    let mut command = vervet();
    command.args(["run", "--mirror", "file:///nonexistent"]).env("VERVET_CACHE", cache.path());
    let mut session = Session::start(&mut command);
    let message = session.expect("monitor instead");
    assert!(message.contains("/nonexistent") && message.contains("--mirror"), "{message}");
    session.expect("> ");
    session.type_keys(b"help\r");
    session.expect("poweroff");
    session.expect("> ");
    session.type_keys(b"poweroff\r");
    assert_eq!(session.end().code(), Some(0));
}
