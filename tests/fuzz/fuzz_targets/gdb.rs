//! The gdb server takes any bytes: packets, commands of its monitor, noise, cut anywhere.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;

use cpu::EngineKind;
use cpu::extension::ExtensionSet;
use cpu::isa::assembler::assemble;
use firmware::image::firmware_from_bytes;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use machine::board::virt::{self, Board, Boot, RAM_BASE, Virt};
use machine::gdb::converse;

const MEMORY: u64 = 1 << 20;

/// What packets begin with.
const PACKETS: [&str; 43] = [
    "?",
    "g",
    "G",
    "p",
    "P",
    "m",
    "M",
    "X",
    "c",
    "s",
    "C",
    "S",
    "D",
    "k",
    "H",
    "Hg",
    "Hc",
    "T",
    "R",
    "r",
    "!",
    "Z0,80000000,4",
    "Z1,",
    "Z2,80000100,8",
    "Z3,",
    "Z4,",
    "z0,80000000,4",
    "z",
    "vCont;c",
    "vCont;s:p1.1;c",
    "vCont;r80000000,80000010:p1.1",
    "vCont",
    "vKill;1",
    "vAttach;",
    "vRun;",
    "qSupported:multiprocess+;swbreak+",
    "qXfer:features:read:target.xml:",
    "qXfer:memory-map:read::",
    "qfThreadInfo",
    "qThreadExtraInfo,p01.01",
    "QStartNoAckMode",
    "qC",
    "bs",
];

/// What commands of the monitor begin with.
const COMMANDS: [&str; 12] = [
    "help",
    "reset",
    "info devices",
    "info mem",
    "info tlb",
    "translate 0x",
    "phys on",
    "effects on",
    "interrupts on",
    "stats",
    "info",
    "quit",
];

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// A packet that begins as one that there is.
    Packet(u8, &'a [u8]),
    /// The same with a number in it, and what is behind.
    Numbers(u8, u64, u16, &'a [u8]),
    /// A command of the monitor.
    Command(u8, &'a str),
    /// Any packet.
    Any(&'a [u8]),
    /// Bytes as they are.
    Raw(&'a [u8]),
    Interrupt,
    /// A doubleword in RAM, such as an entry of a page table.
    Poke(u16, u64),
    /// A register, CSRs among them.
    Register(u16, u64),
    /// What comes next comes by itself.
    Cut,
}

fn packet(to: &mut Vec<u8>, body: &[u8]) {
    let sum = body.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    to.extend([b"$", body, format!("#{sum:02x}").as_bytes()].concat());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Two harts that count and call.
fn board() -> Board {
    let source = "
        start:  la      s0, counter
                li      t0, 1
        loop:   call    work
                amoadd.d t1, t0, (s0)
                j       loop
        work:   addi    s2, s2, 1
                ret
                .balign 4096
        counter: .dword 0";
    let program = assemble(source, RAM_BASE, &ExtensionSet::implemented()).expect("a program");
    let image = firmware_from_bytes("program", program.bytes, &virt::bare_room(MEMORY)).expect("an image");
    let boot = Boot::Bare(Arc::new(image));
    Virt { memory: MEMORY, harts: 2, engine: EngineKind::Interpreter, ..Virt::new(boot) }.build().expect("a board")
}

thread_local! {
    static BOARD: RefCell<Board> = RefCell::new(board());
}

fuzz_target!(|steps: Vec<Step>| {
    let mut parts = vec![Vec::new()];
    for step in steps.iter().take(64) {
        let bytes = parts.last_mut().expect("there is one");
        match step {
            Step::Packet(kind, rest) => {
                packet(bytes, &[PACKETS[usize::from(*kind) % PACKETS.len()].as_bytes(), rest].concat());
            }
            Step::Numbers(kind, first, second, rest) => {
                let start = PACKETS[usize::from(*kind) % PACKETS.len()];
                packet(bytes, &[format!("{start}{first:x},{second:x}").as_bytes(), rest].concat());
            }
            Step::Command(kind, rest) => {
                let command = format!("{}{rest}", COMMANDS[usize::from(*kind) % COMMANDS.len()]);
                packet(bytes, format!("qRcmd,{}", hex(command.as_bytes())).as_bytes());
            }
            Step::Any(body) => packet(bytes, body),
            Step::Raw(raw) => bytes.extend_from_slice(raw),
            Step::Interrupt => bytes.push(3),
            Step::Poke(offset, value) => {
                let address = RAM_BASE + u64::from(*offset) * 8;
                packet(bytes, format!("M{address:x},8:{}", hex(&value.to_le_bytes())).as_bytes());
            }
            Step::Register(number, value) => {
                packet(bytes, format!("P{:x}={}", number % 0x1100, hex(&value.to_le_bytes())).as_bytes());
            }
            Step::Cut => parts.push(Vec::new()),
        }
    }
    BOARD.with_borrow_mut(|board| {
        board.reset();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        converse(board, &parts).expect("a machine that works");
        assert!(!board.machine.is_running());
        // It still answers: a client that asks why it has stopped is told.
        let answer = converse(board, &[b"$?#3f"]).expect("a machine that works");
        assert!(answer.starts_with(b"+$T05"), "{}", String::from_utf8_lossy(&answer));
    });
});
