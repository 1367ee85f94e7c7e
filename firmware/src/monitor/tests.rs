use std::sync::{Arc, Mutex};

use bus::{AddressSpace, Clock, PowerRequest, Ram, TICKS_PER_SECOND};
use cpu::{Configuration, Engine, HartBox, HartShared, Stop};

use super::*;
use crate::device_tree::{Board, Chosen, Cpu};
use crate::sbi::{Console, Outcome, Sbi};

const BASE: u64 = 0x8000_0000;
const SIZE: u64 = 16 << 20;

/// A terminal at which somebody has typed ahead.
#[derive(Default)]
struct Terminal {
    output: Mutex<Vec<u8>>,
    input: Mutex<Vec<u8>>,
}

impl Console for Terminal {
    fn write(&self, bytes: &[u8]) -> usize {
        self.output.lock().unwrap().extend(bytes);
        bytes.len()
    }

    fn read(&self, bytes: &mut [u8]) -> usize {
        let mut input = self.input.lock().unwrap();
        let count = input.len().min(bytes.len());
        bytes[..count].copy_from_slice(&input.drain(..count).collect::<Vec<_>>());
        count
    }
}

fn board() -> Board {
    Board {
        model: "vervet,virt".into(),
        compatible: vec!["riscv-virtio".into()],
        memory: vec![(BASE, SIZE)],
        harts: 3,
        cpu: Cpu {
            isa_base: "rv64i".into(),
            isa: "rv64imafdc_zicsr".into(),
            mmu_type: Some("riscv,sv57".into()),
            ..Cpu::default()
        },
        devices: vec![bus::device_tree::Node::new("serial@10000000").string("compatible", "ns16550a")],
        chosen: Chosen { bootargs: "quiet".into(), ..Chosen::default() },
        ..Board::default()
    }
}

/// Runs the monitor with `input` until it ends the machine: how it ended it, and what it said.
fn run(input: &str) -> (PowerRequest, String) {
    let ram = Ram::new(BASE, SIZE).unwrap();
    let room = Room { ram: BASE..BASE + SIZE, lowest: BASE + (2 << 20) };
    let monitor = program(&room).unwrap();
    monitor.place(&ram);
    let device_tree = BASE + SIZE - (1 << 20);
    ram.write(device_tree, &board().to_dtb()).unwrap();

    let clock = Clock::manual();
    let shared = Arc::new(HartShared::new(0));
    let terminal = Arc::new(Terminal::default());
    terminal.input.lock().unwrap().extend(input.bytes());
    let sbi = Sbi::new(std::slice::from_ref(&shared), &clock, terminal.clone());
    let configuration = Configuration {
        extensions: ExtensionSet::from_cpu_argument(CPU).unwrap(),
        page_table_levels: 3,
        built_in_sbi: true,
        semihosting: None,
        reset_vector: 0,
    };
    let mut hart = HartBox::new(configuration, shared, Arc::new(AddressSpace::new(ram)), clock.clone());
    sbi.boot(&mut hart, monitor.entry(), device_tree);
    let mut engine = Engine::interpreter();
    let output = || String::from_utf8(terminal.output.lock().unwrap().clone()).unwrap();
    for _ in 0..100_000 {
        match engine.run(&mut hart, 1_000_000) {
            Stop::EnvironmentCall => match sbi.call(&mut hart) {
                Outcome::Continue => {}
                Outcome::Power(request) => return (request, output()),
                other => panic!("{other:?}"),
            },
            Stop::WaitForInterrupt => clock.advance(TICKS_PER_SECOND / 100),
            Stop::Budget => clock.advance(TICKS_PER_SECOND / 1000),
            stop => panic!("{stop:?}"),
        }
    }
    panic!("the monitor does not end: {}", output());
}

#[test]
fn it_shows_the_machine_and_measures_it() {
    let (request, output) = run("poweroff\r");
    assert_eq!(request, PowerRequest::Off(0));
    for line in [
        "Vervet monitor: there is no operating system to run.",
        "machine       vervet,virt",
        "isa           rv64imafdc_zicsr",
        "mmu           riscv,sv57",
        "harts         3, this one is 0",
        "memory        0x80000000, 16 MiB",
        "console       -",
        "arguments     quiet",
        "device tree   0x80f00000",
        "SBI           3.0, implementation 0x76657276",
        "Type help for the commands.",
        "> poweroff",
    ] {
        assert!(output.lines().any(|shown| shown == line), "{line:?} is not in {output}");
    }
    // One million instructions are a thousandth of a second here: 1000 million per second.
    for work in ["arithmetic", "memory", "calls"] {
        let line = output.lines().find(|line| line.starts_with(work) && line.contains("instructions in")).unwrap();
        let rate: u64 = line.rsplit(" us: ").next().unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!((900..1200).contains(&rate), "{line}");
        let count: u64 = line[work.len()..].trim().split(' ').next().unwrap().parse().unwrap();
        assert!(count > 5_000_000, "{line}");
    }
}

#[test]
fn it_shows_memory_registers_and_devices() {
    let commands = "memory 80200000 20\rcsr\rdevices\rmemory\rreboot\r";
    let (request, output) = run(commands);
    assert_eq!(request, PowerRequest::Reset);
    let first = output.lines().find(|line| line.starts_with("0x80200000: ")).unwrap();
    // mv s10, a0 is addi s10, a0, 0.
    assert!(first.starts_with("0x80200000: 13 0d 05 00 ") || first.starts_with("0x80200000: 2a 8d "), "{first}");
    assert!(output.lines().any(|line| line.starts_with("0x80200010: ")) && !output.contains("0x80200020: "));
    assert!(output.contains("\nscounteren    0x0000000000000007\r"), "{output}");
    assert!(output.contains("\n    serial@10000000  - ns16550a\r"), "{output}");
    assert!(output.contains("\n    cpu@2  - riscv\r"), "{output}");
    assert!(output.contains("\nmemory ADDRESS [BYTES], for example"), "{output}");
}

#[test]
fn mistakes_come_back_to_the_prompt() {
    let (request, output) = run("nothing here\r\r   \rmemory 10\rhelq\x7fp\rinfo2\r poweroff now\r");
    assert_eq!(request, PowerRequest::Off(0));
    assert!(output.contains("unknown command: nothing here; help lists the commands"));
    assert!(output.contains("unknown command: info2"));
    assert!(output.contains("trap: scause 0x5, stval 0x10, sepc 0x802"), "{output}");
    assert!(output.contains("memory ADDRESS [BYTES]  memory, both numbers hexadecimal"), "backspace works");
}

#[test]
fn a_line_longer_than_its_buffer_is_cut() {
    let (_, output) = run(&format!("{}\rpoweroff\r", "x".repeat(10_000)));
    let cut = format!("unknown command: {};", "x".repeat(126));
    assert!(output.contains(&cut), "{output}");
}

#[test]
fn a_machine_without_room_is_refused() {
    let room = Room { ram: BASE..BASE + (2 << 20), lowest: BASE + (2 << 20) };
    assert!(program(&room).unwrap_err().to_string().contains("not in RAM"));
}
