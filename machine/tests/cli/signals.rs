//! Without a terminal: the end of the input is not the end of the guest, output that nobody takes does not keep the
//! process from ending.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::command::{Folder, vervet, wait};
use crate::elf::echo;
use crate::pseudo_terminal::send;

/// The echo program on pipes, once it is ready.
fn start(folder: &Folder) -> (Child, ChildStdout) {
    let program = folder.file("echo", echo().bytes());
    let mut command = vervet();
    command.args(["run", "--bios", "none", "--kernel"]).arg(program);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    expect(&mut output, "<ready>\n");
    (child, output)
}

#[track_caller]
fn expect(output: &mut impl Read, text: &str) {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(text.as_bytes()) {
        assert_eq!(output.read(&mut byte).unwrap(), 1, "ended after {:?}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
}

/// Ends the process by SIGTERM, which takes no longer than a stuck reader is waited for.
#[track_caller]
fn terminate(mut child: Child) {
    let start = Instant::now();
    send(&child, Signal::TERM);
    assert_eq!(wait(&mut child).signal(), Some(Signal::TERM.as_raw()));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn the_end_of_the_input_is_not_the_end() {
    let folder = Folder::new();
    let (mut child, mut output) = start(&folder);
    // There is no escape key in a pipe.
    child.stdin.take().unwrap().write_all(b"ab\x01x\n").unwrap();
    expect(&mut output, "ab\x01x\n");
    std::thread::sleep(Duration::from_millis(100));
    assert!(child.try_wait().unwrap().is_none(), "it ended with its input");
    terminate(child);
}

#[test]
fn the_guest_ends_the_process_after_its_last_output() {
    let folder = Folder::new();
    let (mut child, output) = start(&folder);
    child.stdin.take().unwrap().write_all(b"last thoughtsq").unwrap();
    let output = crate::command::drain(output);
    assert_eq!(wait(&mut child).code(), Some(7));
    assert_eq!(output.join().unwrap(), "last thoughts");
}

#[test]
fn a_reader_that_is_gone_does_not_matter() {
    let folder = Folder::new();
    let (mut child, output) = start(&folder);
    drop(output);
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"to nobody").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(child.try_wait().unwrap().is_none(), "it ended with its reader");
    input.write_all(b"q").unwrap();
    assert_eq!(wait(&mut child).code(), Some(7));
    let (mut child, output) = start(&folder);
    drop(output);
    child.stdin.take().unwrap().write_all(b"f").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    terminate(child);
}

#[test]
fn a_reader_that_stands_still_does_not_keep_the_process_from_ending() {
    let folder = Folder::new();
    let (mut child, output) = start(&folder);
    child.stdin.take().unwrap().write_all(b"f").unwrap();
    // Time for the pipe and the buffers before it to fill.
    std::thread::sleep(Duration::from_millis(500));
    terminate(child);
    drop(output);
}
