//! What no debugger would send.

use devices::backend::memory::MemoryBackend;
use machine::gdb::converse;

use crate::debugger::{Machine, board, engines};
use crate::{COUNT, Debugger};

/// Whether the machine still answers as it should.
#[track_caller]
fn assert_sane(debugger: &mut Debugger) {
    assert_eq!(debugger.ask("m80000000,0"), "");
    assert_eq!(debugger.register(65 + 0xf14), 0);
}

#[test]
fn damaged_packets_are_asked_for_again_and_answers_repeated() {
    let machine = Machine::waiting(engines()[0], 1, COUNT);
    let mut debugger = machine.connect();
    debugger.send(b"$qC#00");
    assert_eq!(debugger.byte(), Some(b'-'));
    debugger.send(b"$p20#d2");
    assert_eq!(debugger.byte(), Some(b'+'));
    let answer = debugger.packet().unwrap();
    debugger.send(b"-");
    assert_eq!(debugger.packet().unwrap(), answer);
}

#[test]
fn what_is_said_of_features_is_no_part_of_another_answer() {
    let machine = Machine::waiting(engines()[0], 1, COUNT);
    let mut debugger = machine.attach();
    debugger.send(b"$qSupported:\xff\xfe#");
    let sum = b"qSupported:\xff\xfe".iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    debugger.send(format!("{sum:02x}").as_bytes());
    let answer = debugger.packet().unwrap();
    assert!(answer == "E16" || answer.contains("binary-upload+"), "{answer}");
    assert!(!debugger.ask("?").contains("binary-upload"));
}

#[test]
fn malformed_packets_get_an_error_and_the_session_goes_on() {
    let machine = Machine::waiting(engines()[0], 2, COUNT);
    let mut debugger = machine.attach();
    debugger.ok("Hgp1.1");
    for body in [
        "vCont;s",
        "vCont;x",
        "vCont;",
        "vCont;s:p1.1;s",
        "vCont;r5:p1.1",
        "Z0,zz,4",
        "Z0,8000000000000000000,4",
        "m",
        "m,",
        "mzz,1",
        "M80000000,4:0",
        "Hg-1",
        "Hgzz",
        "G00",
        "pzz",
        "P5=00",
        "qXfer:features:read:target.xml:0",
        "qXfer:features:read:other.xml:0,100",
        "qRcmd,zz",
        "X80000000,4:",
        "bs",
        "bc",
        "vFile:open:2f,0,0",
        "vAttach;1",
        "QNonStop:1",
        "qC*",
        "",
    ] {
        let answer = debugger.ask(body);
        assert!(answer.is_empty() || answer.starts_with('E') || answer.starts_with("OK"), "{body}: {answer}");
        // It still knows the client: multiprocess thread ids, the chosen thread.
        assert_eq!(debugger.ask("qfThreadInfo"), "mp01.01,p01.02", "{body}");
        assert_sane(&mut debugger);
    }
    // Longer than any buffer.
    debugger.tell(&format!("M80000000,{:x}:{}", 1 << 20, "00".repeat(1 << 20)));
    assert_eq!(debugger.packet().as_deref(), Some("E16"));
    assert_sane(&mut debugger);
    // Commands while the machine runs: gdb waits for the stop, others do not.
    debugger.tell("vCont;c");
    for body in ["g", "m80000000,4", "p20", "Z0,80000000,4", "vCont;c", "vCont;x", "G00", "qRcmd,7374617473"] {
        debugger.tell(body);
    }
    debugger.send(b"\x03");
    loop {
        let answer = debugger.packet().unwrap();
        if answer.starts_with("T02") {
            break;
        }
    }
    assert_sane(&mut debugger);
}

#[test]
fn noise_of_any_kind_leaves_the_machine_as_it_was() {
    // A fixed sequence: xorshift.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let machine = Machine::waiting(engines()[0], 1, COUNT);
    let commands: [&str; 16] = [
        "vCont;c",
        "vCont;s:p1.1",
        "g",
        "p",
        "P",
        "Z0,",
        "z0,",
        "Z2,",
        "m",
        "qXfer:",
        "qRcmd,",
        "Hg",
        "?",
        "T",
        "H",
        "vCont?",
    ];
    for _ in 0..60 {
        let mut debugger = machine.connect();
        for _ in 0..40 {
            let mut body: String = commands[random() as usize % commands.len()].into();
            for _ in 0..random() % 12 {
                body.push(char::from(b"0123456789abcdef,;:-.=p"[random() as usize % 23]));
            }
            match random() % 8 {
                0 => debugger.send(&random().to_le_bytes()),
                1 => debugger.send(b"\x03"),
                2 => debugger.send(body.as_bytes()),
                _ => debugger.tell(&body),
            }
        }
        // What it answers nobody reads.
    }
    assert_sane(&mut machine.attach());
}

#[test]
fn conversations_of_noise_end_and_leave_a_machine_that_answers() {
    let (mut board, _) = board(engines()[0], 2, COUNT, MemoryBackend::new(), None);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |most: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % most
    };
    let starts: [&[u8]; 20] = [
        b"?",
        b"g",
        b"p20",
        b"P1=",
        b"m80000000,",
        b"M80000000,8:",
        b"X80001000,4:",
        b"vCont;c",
        b"vCont;s:p1.1;c",
        b"Z0,8000",
        b"z0,",
        b"Z2,80000",
        b"Hg",
        b"qSupported:multiprocess+;",
        b"QStartNoAckMode",
        b"qXfer:features:read:target.xml:0,",
        b"D",
        b"k",
        b"qRcmd,696e666f206d656d",
        b"qRcmd,7265736574",
    ];
    for _ in 0..50 {
        board.reset();
        let mut parts = vec![Vec::new()];
        for _ in 0..random(30) {
            let mut body = starts[random(starts.len())].to_vec();
            body.extend((0..random(6)).map(|_| b"0123456789abcdef,;:-.=}*#"[random(25)]));
            let sum = body.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            let last = parts.last_mut().unwrap();
            match random(10) {
                0 => last.push(3),
                1 => last.push(b'-'),
                2 => parts.push(Vec::new()),
                3 => last.extend(&body),
                _ => last.extend([b"$", &body[..], format!("#{sum:02x}").as_bytes()].concat()),
            }
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        converse(&mut board, &parts).unwrap();
        assert!(!board.machine.is_running());
        let answer = converse(&mut board, &[b"$?#3f"]).unwrap();
        assert!(answer.starts_with(b"+$T05"), "{}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn a_second_debugger_is_told_no() {
    let machine = Machine::waiting(engines()[0], 1, COUNT);
    let mut first = machine.attach();
    let mut second = machine.connect();
    assert_eq!(second.packet().as_deref(), Some("E.another debugger is attached"));
    assert_eq!(second.byte(), None, "and the connection is closed");
    assert_sane(&mut first);
    first.ok("D;1");
    drop(first);
    assert_sane(&mut machine.attach());
}

#[test]
#[cfg(unix)]
fn a_unix_socket_serves_as_well_and_is_removed() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gdb");
    // Left behind by somebody who is gone.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let address = format!("unix:{}", path.display()).parse().unwrap();
    let mut machine = Machine::new(engines()[0], 1, COUNT, false, &address);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"$?#3f").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+$T05");
    stream.write_all(b"+$k#6b").unwrap();
    assert_eq!(machine.exit_code(), 0);
    assert!(!path.exists());
}
