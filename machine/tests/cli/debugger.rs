//! A debugger comes to a guest that was started without `--gdb`: by a key or by a signal.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use rustix::process::Signal;

use crate::command::{Folder, LIMIT, vervet, wait};
use crate::elf::echo;
use crate::pseudo_terminal::{Session, send};

/// What comes before the address in the message.
const MESSAGE: &str = "vervet: gdb can connect: target remote ";

/// Attaches to the address that the rest of a line tells, has a look and detaches: the guest is stopped meanwhile.
#[track_caller]
fn visit(line: &str, while_attached: impl FnOnce()) {
    let mut stream = TcpStream::connect(line.trim()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut ask = |request: &[u8]| {
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        // Up to the checksum of the packet behind the acknowledgement.
        while !answer.contains(&b'#') {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&answer));
            answer.push(byte[0]);
        }
        stream.read_exact(&mut [0; 2]).unwrap();
        String::from_utf8(answer).unwrap()
    };
    assert!(ask(b"$?#3f").starts_with("+$T05"));
    while_attached();
    assert_eq!(ask(b"+$D#44"), "+$OK#");
}

#[test]
fn a_key_opens_the_server_and_the_guest_goes_on() {
    let folder = Folder::new();
    let program = folder.file("echo", echo().bytes());
    let mut command = vervet();
    command.args(["run", "--bios", "none", "--kernel"]).arg(program);
    let mut session = Session::start(&mut command);
    session.expect("<ready>");
    session.type_keys(b"\x01h");
    session.expect("Ctrl-A g ");
    session.expect("Ctrl-A Ctrl-A");
    session.type_keys(b"\x01g");
    session.expect(MESSAGE);
    let address = session.expect("\n");
    session.type_keys(b"abc");
    session.expect("abc");
    visit(&address, || ());
    session.type_keys(b"xyz");
    session.expect("xyz");
    // Asked again, it tells the same.
    session.type_keys(b"\x01g");
    session.expect(MESSAGE);
    assert_eq!(session.expect("\n"), address);
    visit(&address, || ());
    session.type_keys(b"q");
    assert_eq!(session.end().code(), Some(7));
}

#[test]
fn a_signal_opens_the_server_and_a_taken_port_is_no_obstacle() {
    let folder = Folder::new();
    let program = folder.file("echo", echo().bytes());
    // Whoever comes first has the default port.
    let mut addresses = Vec::new();
    let mut children = Vec::new();
    for _ in 0..2 {
        let mut command = vervet();
        command.args(["run", "--bios", "none", "--kernel"]).arg(&program);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let read_up_to = |pipe: &mut dyn Read, end: &str| {
            let mut seen = Vec::new();
            let mut byte = [0];
            while !seen.ends_with(end.as_bytes()) {
                assert_eq!(pipe.read(&mut byte).unwrap(), 1, "ended after {:?}", String::from_utf8_lossy(&seen));
                seen.push(byte[0]);
            }
            String::from_utf8(seen).unwrap()
        };
        read_up_to(child.stdout.as_mut().unwrap(), "<ready>\n");
        send(&child, Signal::USR1);
        read_up_to(child.stderr.as_mut().unwrap(), MESSAGE);
        let address = read_up_to(child.stderr.as_mut().unwrap(), "\n");
        assert!(!addresses.contains(&address));
        visit(&address, || {
            // It is stopped: input waits.
            child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        });
        read_up_to(child.stdout.as_mut().unwrap(), "x");
        addresses.push(address);
        children.push(child);
    }
    for mut child in children {
        child.stdin.take().unwrap().write_all(b"q").unwrap();
        assert_eq!(wait(&mut child).code(), Some(7));
    }
}
