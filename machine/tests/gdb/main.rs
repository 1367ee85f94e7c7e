//! The gdb server, spoken to over a socket by the protocol, on machines with bare programs and with both engines.

mod debugger;
mod hostile;
mod semihosting;

use std::time::{Duration, Instant};

use debugger::{Debugger, Machine, engines, hex};
use machine::board::virt::RAM_BASE;

/// Each hart counts in a doubleword of its own, by a function in a page of its own, until `flag` is set.
const COUNT: &str = "
    start:  csrr    t0, mhartid
            la      s0, counters
            slli    t0, t0, 3
            add     s0, s0, t0
            la      s1, flag
    loop:   call    work
            ld      t1, 0(s0)
            addi    t1, t1, 1
    store:  sd      t1, 0(s0)
            ld      t2, 0(s1)
            beqz    t2, loop
            li      t0, 0x73333
            li      t1, 0x100000
            sw      t0, 0(t1)
    end:    j       end
            .balign 4096
    work:   addi    s2, s2, 1
            ret
            .balign 4096
    counters: .dword 0, 0, 0, 0
    flag:   .dword  0
";

const MSTATUS: usize = 65 + 0x300;
const MSCRATCH: usize = 65 + 0x340;
const MHARTID: usize = 65 + 0xf14;
const SATP: usize = 65 + 0x180;
const PRIVILEGE: usize = 65 + 0x1000;
/// x9.
const S1: usize = 9;

/// Sets a point (`Z0` to `Z4`) and lets the machine run until it stops.
#[track_caller]
fn run_to(debugger: &mut Debugger, kind: u8, address: u64, length: u64) -> String {
    debugger.ok(&format!("Z{kind},{address:x},{length:x}"));
    debugger.ask("vCont;c")
}

#[test]
fn the_description_names_all_registers_and_each_can_be_read() {
    let machine = Machine::waiting(engines()[0], 2, COUNT);
    let mut debugger = machine.attach();
    assert_eq!(debugger.ask("?"), "T05thread:p01.01;");
    assert_eq!(debugger.ask("qfThreadInfo"), "mp01.01,p01.02");
    let description = debugger.document("features:read:target.xml");
    for name in ["cpu", "fpu", "csr", "virtual"] {
        assert!(description.contains(&format!("org.gnu.gdb.riscv.{name}")), "{description}");
    }
    let mut names = Vec::new();
    for line in description.lines().filter(|line| line.starts_with("<reg ")) {
        let field = |name: &str| line.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap();
        let number = field("regnum").parse().unwrap();
        assert!(!names.contains(&field("name")), "{line}");
        names.push(field("name"));
        debugger.register(number);
    }
    for name in ["zero", "a0", "pc", "fa0", "fcsr", "satp", "mstatus", "pmpaddr15", "mhpmcounter31", "priv"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(names.len() > 190, "{}", names.len());
    // A CSR that the hart has not, and a number that gdb knows nothing of.
    assert_eq!((debugger.ask(&format!("p{:x}", 65 + 0x7ff)), debugger.ask("p1fff")), ("E79".into(), String::new()));
    let map = debugger.document("memory-map:read:");
    assert!(map.contains("type=\"rom\" start=\"0x1000\""), "{map}");
}

#[test]
fn registers_are_read_and_written_with_effect() {
    let machine = Machine::waiting(engines()[0], 2, COUNT);
    let mut debugger = machine.attach();
    assert_eq!(debugger.pc(), 0x1000, "the reset vector");
    assert_eq!(debugger.register(PRIVILEGE), 3);
    debugger.ok("Hgp1.2");
    assert_eq!(debugger.register(MHARTID), 1);
    debugger.ok("Hgp1.1");
    assert_eq!(debugger.register(MHARTID), 0);
    assert_eq!(debugger.set_register(S1, 0x1122_3344_5566_7788), "OK");
    assert_eq!(debugger.set_register(0, 5), "OK", "and ignored");
    let registers = debugger::bytes(&debugger.ask("g"));
    assert_eq!(registers.len(), 65 * 8);
    assert_eq!(registers[..8], [0; 8]);
    assert_eq!(registers[8 * S1..][..8], 0x1122_3344_5566_7788u64.to_le_bytes());
    let mut changed = registers.clone();
    changed[8 * 5] = 9;
    debugger.ok(&format!("G{}", hex(&changed)));
    assert_eq!(debugger.register(5), 9);
    // WARL as for an instruction; read-only ones are refused.
    assert_eq!(debugger.set_register(MSCRATCH, u64::MAX), "OK");
    assert_eq!(debugger.register(MSCRATCH), u64::MAX);
    assert_eq!(debugger.set_register(SATP, 5 << 60), "OK");
    assert_eq!(debugger.register(SATP), 0);
    assert_eq!(debugger.set_register(MHARTID, 1), "E16");
    let status = debugger.register(MSTATUS);
    assert_eq!(debugger.set_register(MSTATUS, status | 1 << 13), "OK");
    assert_eq!(debugger.set_register(33, 7), "OK");
    assert_eq!(debugger.register(MSTATUS) >> 13 & 3, 3, "a written floating-point register is dirty");
    assert_eq!(debugger.set_register(PRIVILEGE, 1), "OK");
    assert_eq!(debugger.register(PRIVILEGE), 1);
    assert_eq!(debugger.set_register(PRIVILEGE, 2), "E16");
}

#[test]
fn memory_of_all_kinds() {
    let machine = Machine::waiting(engines()[0], 1, COUNT);
    let mut debugger = machine.attach();
    let flag = machine.symbol("flag");
    debugger.ok(&format!("M{flag:x},8:0102030405060708"));
    assert_eq!(debugger.doubleword(flag), 0x0807_0605_0403_0201);
    // Binary, with an escaped byte.
    debugger.send(b"$X80100000,2:a}\x03#5a");
    assert_eq!(debugger.packet().as_deref(), Some("OK"));
    assert_eq!(debugger.ask("m80100000,2"), "6123");
    assert_eq!(debugger.ask("x80100000,2"), "ba}\x03");
    debugger.ask("?");
    assert_eq!(debugger.ask("x80100000,2"), "ba}\x03", "whether a digits' packet came before or not");
    debugger.ask("?");
    assert_eq!(debugger.ask("x40000000,8"), "E0e");
    assert_eq!(debugger.ask("x0,0"), "b");
    // Nothing is mapped there; a range that begins in memory is cut.
    assert_eq!(debugger.ask("m40000000,8"), "E0e");
    assert_eq!(debugger.ask("M40000000,1:00"), "E0e");
    assert_eq!(debugger.ask(&format!("m{:x},8", RAM_BASE + (4 << 20) - 4)), "00000000");
    assert_eq!(debugger.ask(&format!("M{:x},8:0000000000000000", RAM_BASE + (4 << 20) - 4)), "E0e");
    assert_eq!(debugger.ask("mffffffffffffffff,8"), "E0e");
    // Registers of virtio-mmio are words ("virt", 2: the version), those of the UART bytes, mtimecmp is a doubleword.
    assert_eq!(debugger.ask("m10001000,4"), hex(b"virt"));
    assert_eq!(debugger.ask("m10001001,5"), hex(b"irt\x02\0"));
    assert_eq!(debugger.ask("m10000005,1"), "60", "the line status register");
    assert_eq!(debugger.ask("m10000000,8")[10..12], *"60");
    assert_eq!(debugger.ask("m2004000,8"), "f".repeat(16));
    debugger.ok("M2004002,2:0000");
    assert_eq!(debugger.ask("m2004000,8"), "ffff0000ffffffff");
    // A page table of one leaf: the first gigabyte leads to RAM.
    let root = RAM_BASE + 0x20_0000;
    debugger.ok(&format!("M{root:x},8:{}", hex(&(RAM_BASE >> 12 << 10 | 0xcf).to_le_bytes())));
    assert_eq!(debugger.set_register(SATP, 8 << 60 | root >> 12), "OK");
    assert_eq!(debugger.doubleword(flag), 0x0807_0605_0403_0201, "M-mode does not translate");
    assert_eq!(debugger.set_register(PRIVILEGE, 1), "OK");
    assert_eq!(debugger.ask(&format!("m{flag:x},8")), "E0e");
    assert_eq!(debugger.doubleword(flag - RAM_BASE), 0x0807_0605_0403_0201);
    assert!(debugger.monitor("info mem").contains("0x0000000000000000 0x0000000080000000 0x0000000040000000 rwx--ad"));
    assert!(debugger.monitor("translate 0x3000").contains("0x80003000 (RAM)"));
    assert!(debugger.monitor("translate 0x40000000").contains("Page fault"));
    debugger.monitor("phys on");
    assert_eq!(debugger.doubleword(flag), 0x0807_0605_0403_0201);
}

#[test]
fn breakpoints_stop_where_they_are_until_they_are_taken_away() {
    for engine in engines() {
        let machine = Machine::waiting(engine, 1, COUNT);
        let mut debugger = machine.attach();
        let (work, counters) = (machine.symbol("work"), machine.symbol("counters"));
        assert_eq!(run_to(&mut debugger, 0, work, 2), "T05thread:p01.01;swbreak:;");
        assert_eq!((debugger.pc(), debugger.doubleword(counters)), (work, 0));
        // Told once, it is passed; and met again.
        for visit in 1..100 {
            assert_eq!(debugger.ask("vCont;c"), "T05thread:p01.01;swbreak:;");
            assert_eq!((debugger.pc(), debugger.doubleword(counters)), (work, visit));
        }
        // As gdb does it: away, one step, back again.
        debugger.ok(&format!("z0,{work:x},2"));
        assert_eq!(debugger.ask("vCont;s:p1.1"), "T05thread:p01.01;");
        assert_eq!(debugger.pc(), work + 4);
        let store = machine.symbol("store");
        assert_eq!(run_to(&mut debugger, 1, store, 4), "T05thread:p01.01;hwbreak:;");
        assert_eq!(debugger.pc(), store);
        debugger.ok(&format!("z1,{store:x},4"));
        // A range is stepped through as a whole, a function called from it is not.
        let start = machine.symbol("loop");
        assert_eq!(debugger.ask(&format!("vCont;r{store:x},{:x}:p1.1;c", store + 8)), "T05thread:p01.01;");
        assert!(!(store..store + 8).contains(&debugger.pc()));
        debugger.tell("vCont;c");
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(debugger.interrupt(), "T02thread:p01.01;");
        assert!(debugger.doubleword(counters) > 1000);
        assert!((RAM_BASE..machine.symbol("counters")).contains(&debugger.pc()), "{start:#x}");
    }
}

#[test]
fn watchpoints_stop_before_the_access() {
    for engine in engines() {
        let machine = Machine::waiting(engine, 1, COUNT);
        let mut debugger = machine.attach();
        let (store, counters) = (machine.symbol("store"), machine.symbol("counters"));
        // Hot first.
        debugger.tell("vCont;c");
        std::thread::sleep(Duration::from_millis(50));
        debugger.interrupt();
        let stop = run_to(&mut debugger, 2, counters, 8);
        assert_eq!(stop, format!("T05thread:p01.01;watch:{counters:x};"));
        let before = debugger.doubleword(counters);
        assert_eq!((debugger.pc(), debugger.register(6)), (store, before + 1));
        for visit in 1..50 {
            debugger.ask("vCont;c");
            assert_eq!((debugger.pc(), debugger.doubleword(counters)), (store, before + visit));
        }
        debugger.ok(&format!("z2,{counters:x},8"));
        // One byte in the middle: loads of the doubleword around it, and its stores.
        let stop = run_to(&mut debugger, 3, counters + 3, 1);
        assert_eq!(stop, format!("T05thread:p01.01;rwatch:{:x};", counters + 3));
        assert_ne!(debugger.pc(), store);
        debugger.ok(&format!("z3,{:x},1", counters + 3));
        let stop = run_to(&mut debugger, 4, counters + 7, 9);
        assert_eq!(stop, format!("T05thread:p01.01;awatch:{:x};", counters + 7));
        // A step, too, stops before an access that is watched.
        debugger.ok(&format!("z4,{:x},9", counters + 7));
        assert_eq!(run_to(&mut debugger, 0, store, 4), "T05thread:p01.01;swbreak:;");
        debugger.ok(&format!("Z2,{counters:x},8"));
        assert_eq!(debugger.ask("vCont;s:p1.1"), "T05thread:p01.01;", "but the one it has been told to execute");
    }
}

#[test]
fn harts_stop_together_and_run_alone_if_told_to() {
    for engine in engines() {
        let machine = Machine::waiting(engine, 4, COUNT);
        let mut debugger = machine.attach();
        let (work, counters) = (machine.symbol("work"), machine.symbol("counters"));
        debugger.tell("vCont;c");
        std::thread::sleep(Duration::from_millis(50));
        debugger.interrupt();
        let counts = |debugger: &mut Debugger| -> Vec<u64> {
            (0..4).map(|hart| debugger.doubleword(counters + 8 * hart)).collect()
        };
        let before = counts(&mut debugger);
        assert_eq!(counts(&mut debugger), before, "they stand still");
        // Only the third hart.
        debugger.tell("vCont;c:p1.3");
        std::thread::sleep(Duration::from_millis(50));
        debugger.interrupt();
        let after = counts(&mut debugger);
        assert!(after[2] > before[2], "{before:?} {after:?}");
        assert_eq!([after[0], after[1], after[3]], [before[0], before[1], before[3]]);
        // Steps of one with the others at rest, and with the others running.
        debugger.ok("Hgp1.2");
        for command in ["vCont;s:p1.2", "vCont;s:p1.2;c"] {
            let mut instructions = debugger.register(65 + 0xb02);
            for _ in 0..20 {
                assert_eq!(debugger.ask(command), "T05thread:p01.02;");
                let now = debugger.register(65 + 0xb02);
                assert_eq!(now, instructions + 1);
                instructions = now;
            }
        }
        // All meet the breakpoint, each is told.
        let mut seen = [false; 4];
        debugger.ok(&format!("Z0,{work:x},2"));
        for _ in 0..1000 {
            let stop = debugger.ask("vCont;c");
            let hart: usize = stop.strip_prefix("T05thread:p01.0").unwrap()[..1].parse().unwrap();
            assert!(stop.ends_with(";swbreak:;"), "{stop}");
            seen[hart - 1] = true;
            debugger.ok(&format!("Hgp1.{hart}"));
            assert_eq!(debugger.pc(), work);
        }
        assert_eq!(seen, [true; 4]);
    }
}

#[test]
fn an_interrupt_is_answered_at_once() {
    for engine in engines() {
        let machine = Machine::waiting(engine, 2, COUNT);
        let mut debugger = machine.attach();
        let mut times = Vec::new();
        for _ in 0..20 {
            debugger.tell("vCont;c");
            std::thread::sleep(Duration::from_millis(10));
            let start = Instant::now();
            assert!(debugger.interrupt().starts_with("T02thread:p01."));
            times.push(start.elapsed());
        }
        times.sort();
        // Half of them; a loaded host delays some. How fast it is on an idle one, `tests/peers/gdb` measures.
        assert!(times[10] < Duration::from_secs(1), "{times:?}");
    }
}

#[test]
fn debuggers_come_and_go_and_the_guest_goes_on() {
    for engine in engines() {
        let machine = Machine::waiting(engine, 2, COUNT);
        let (work, counters) = (machine.symbol("work"), machine.symbol("counters"));
        let mut last = 0;
        for round in 0..100 {
            let mut debugger = machine.attach();
            let now = debugger.doubleword(counters);
            assert!(round == 0 || now >= last, "{round}");
            last = now;
            // What the debugger leaves behind must not stop anybody.
            debugger.ok(&format!("Z0,{work:x},2"));
            match round % 3 {
                0 => debugger.ok("D;1"),
                1 => debugger.send(b"$m80000000,"),
                _ => debugger.tell("vCont;c"),
            }
        }
        let mut debugger = machine.attach();
        let before = debugger.doubleword(counters);
        debugger.ok("D;1");
        drop(debugger);
        std::thread::sleep(Duration::from_millis(50));
        assert!(machine.attach().doubleword(counters) > before, "it runs without a debugger");
    }
}

#[test]
fn a_guest_that_waits_is_not_started_by_a_connection_that_ends() {
    let machine = Machine::waiting(engines()[0], 1, COUNT);
    for _ in 0..3 {
        drop(machine.connect());
        machine.attach().send(b"$vCont;c#");
    }
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(machine.attach().pc(), 0x1000);
}

#[test]
fn the_guest_ends_and_the_debugger_ends_it() {
    let mut machine = Machine::waiting(engines()[0], 1, COUNT);
    let mut debugger = machine.attach();
    debugger.ok(&format!("M{:x},1:01", machine.symbol("flag")));
    assert_eq!(debugger.ask("vCont;c"), "W07");
    assert_eq!(machine.exit_code(), 7);

    let mut machine = Machine::waiting(engines()[0], 1, COUNT);
    machine.attach().tell("k");
    assert_eq!(machine.exit_code(), 0);

    let mut machine = Machine::waiting(engines()[0], 1, COUNT);
    machine.attach().monitor("quit");
    assert_eq!(machine.exit_code(), 0);
}

#[test]
fn monitor_commands() {
    for engine in engines() {
        let machine = Machine::waiting(engine, 2, COUNT);
        let mut debugger = machine.attach();
        assert!(debugger.monitor("help").contains("translate"));
        assert_eq!(debugger.monitor(""), debugger.monitor("help"));
        assert!(debugger.monitor("frobnicate").starts_with("no such command"));
        assert!(debugger.monitor("translate xyz").contains("is no address"));
        assert!(debugger.monitor("phys maybe").contains("neither"));
        assert!(debugger.monitor("info devices").contains("uart"));
        assert!(debugger.monitor("info mem").contains("Bare"));
        let loop_start = machine.symbol("loop");
        // Whichever hart comes first.
        let stops = ["T05thread:p01.01;swbreak:;", "T05thread:p01.02;swbreak:;"];
        let stop = run_to(&mut debugger, 0, loop_start, 4);
        assert!(stops.contains(&stop.as_str()), "{stop}");
        assert!(debugger.monitor("info tlb").contains("0x0000000080000000 0x0000000080000000 --x"));
        assert!(debugger.monitor("stats").contains("hart 1:"));
        debugger.ok(&format!("M{:x},1:07", machine.symbol("flag")));
        debugger.monitor("reset");
        assert_eq!((debugger.pc(), debugger.doubleword(machine.symbol("flag"))), (0x1000, 0), "loaded again");
        let stop = debugger.ask("vCont;c");
        assert!(stops.contains(&stop.as_str()), "breakpoints stay: {stop}");
    }
}

#[test]
fn translated_code_goes_on_beside_a_breakpoint_in_another_page() {
    let machine = Machine::waiting(engines()[1], 1, COUNT);
    let mut debugger = machine.attach();
    // Instructions in translated code, and interpreted ones.
    let counts = |debugger: &mut Debugger| -> [u64; 2] {
        let stats = debugger.monitor("stats");
        ["translated", "interpreted"].map(|name| {
            let before = stats.split(name).next().unwrap().trim_end();
            before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
        })
    };
    let mut run = |point: u64| {
        let [translated, interpreted] = counts(&mut debugger);
        debugger.ok(&format!("Z0,{point:x},4"));
        debugger.tell("vCont;c");
        std::thread::sleep(Duration::from_millis(200));
        debugger.interrupt();
        debugger.ok(&format!("z0,{point:x},4"));
        let now = counts(&mut debugger);
        [now[0] - translated, now[1] - interpreted]
    };
    let cold = machine.symbol("flag");
    run(cold);
    let [translated, interpreted] = run(cold);
    assert!(interpreted < translated / 50, "{translated} translated, {interpreted} interpreted");
    let [_, interpreted] = run(machine.symbol("end"));
    assert!(interpreted > 1000, "in the page of the loop nothing is");
    let [translated, interpreted] = run(cold);
    assert!(interpreted < translated / 50, "{translated} translated, {interpreted} interpreted, again");
}

#[test]
fn steps_mask_interrupts_unless_told_otherwise() {
    const TIMER: &str = "
                la      t0, handler
                csrw    mtvec, t0
                li      t0, 0x80
                csrw    mie, t0
                csrsi   mstatus, 8
        loop:   addi    s1, s1, 1
                j       loop
                .balign 4
        handler: addi   s2, s2, 1
                j       handler
    ";
    let machine = Machine::waiting(engines()[0], 1, TIMER);
    let mut debugger = machine.attach();
    let (start, handler) = (machine.symbol("loop"), machine.symbol("handler"));
    // mtimecmp is zero after the reset, so that the timer's interrupt is always pending.
    debugger.ok("M2004000,8:0000000000000000");
    let mut pc = 0;
    for _ in 0..100 {
        debugger.ask("vCont;s:p1.1");
        pc = debugger.pc();
        assert_ne!(pc, handler);
    }
    assert!((start..handler).contains(&pc), "{pc:#x}");
    debugger.monitor("interrupts on");
    debugger.ask("vCont;s:p1.1");
    assert_eq!((debugger.pc(), debugger.register(18)), (handler, 0), "the handler, before its first instruction");
}
