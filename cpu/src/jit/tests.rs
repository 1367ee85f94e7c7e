//! The JIT against the interpreter.

#[cfg(target_arch = "x86_64")]
mod baseline;
mod lockstep;

use std::sync::Arc;
use std::time::Duration;

use bus::{AddressSpace, Clock, PAGE_SIZE, Ram};

use super::JitOptions;
use crate::extension::ExtensionSet;
use crate::isa::assembler::assemble;
use crate::isa::{self, Flow, Opcode};
use crate::{Configuration, Engine, EngineKind, Engines, HartBox, HartShared, Stop, event};

const BASE: u64 = 0x8000_0000;
const CODE: u64 = BASE + 0x1000;
const DATA: u64 = BASE + 0x8000;
const SIZE: u64 = 1 << 20;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn configuration() -> Configuration {
    Configuration {
        extensions: ExtensionSet::implemented(),
        page_table_levels: 5,
        built_in_sbi: false,
        semihosting: None,
        reset_vector: CODE,
    }
}

fn jit(threshold: u32) -> EngineKind {
    EngineKind::Jit(JitOptions { threshold, cache_size: 8 << 20, ..JitOptions::default() })
}

/// Baseline code from the first execution on; regions once its counters have run out so often.
fn baseline(threshold: u32) -> EngineKind {
    let options = JitOptions { threshold, baseline_threshold: Some(1), ..JitOptions::default() };
    EngineKind::Jit(JitOptions { cache_size: 8 << 20, ..options })
}

/// Baseline code alone.
const ALONE: u32 = u32::MAX;

/// Engines that compile whatever they run. Baseline code is x86-64 hosts'.
fn compiling() -> Vec<EngineKind> {
    let both = [baseline(ALONE), baseline(2)];
    [jit(1)].into_iter().chain(both.into_iter().filter(|_| cfg!(target_arch = "x86_64"))).collect()
}

/// A machine with one hart.
struct Machine {
    ram: Ram,
    hart: HartBox,
    engine: Engine,
}

impl Machine {
    fn new(kind: EngineKind) -> Self {
        let ram = Ram::new(BASE, SIZE).unwrap();
        let engine = Engines::new(kind, &ram, &configuration()).unwrap().engine();
        let bus = Arc::new(AddressSpace::new(ram.clone()));
        let hart = HartBox::new(configuration(), Arc::new(HartShared::new(0)), bus, Clock::host());
        Self { ram, hart, engine }
    }

    fn load(&self, address: u64, words: &[u32]) {
        for (place, word) in words.iter().enumerate() {
            self.ram.write(address + 4 * place as u64, &word.to_le_bytes()).unwrap();
        }
    }

    fn run(&mut self, budget: u64) -> Stop {
        let stop = self.engine.run(&mut self.hart, budget);
        if let Some(difference) = self.hart.take_difference() {
            panic!("{difference}");
        }
        stop
    }

    fn memory(&self) -> Vec<u8> {
        let mut bytes = vec![0; SIZE as usize];
        self.ram.read(BASE, &mut bytes).unwrap();
        bytes
    }

    fn statistics(&self) -> super::JitStatistics {
        match &self.engine {
            Engine::Jit(jit) => jit.statistics(),
            Engine::Interpreter(_) => unreachable!(),
        }
    }
}

impl Drop for Machine {
    /// Whatever the compiler refuses would go unnoticed: it is interpreted.
    fn drop(&mut self) {
        if let (Engine::Jit(jit), false) = (&self.engine, std::thread::panicking()) {
            assert_eq!(jit.shared.statistics().failed, 0, "the compiler has refused a region");
        }
    }
}

/// Goes on behind the instruction that trapped, somewhere in the page of [`CODE`].
const HANDLER: &[u32] = &[
    0x3402_92f3, // csrrw t0, mscratch, t0
    0x1403_1373, // csrrw t1, sscratch, t1
    0x0000_1317, // auipc t1, 1
    0x00c3_5313, // srli t1, t1, 12
    0x00c3_1313, // slli t1, t1, 12
    0x3410_22f3, // csrr t0, mepc
    0x0042_8293, // addi t0, t0, 4
    0x0342_9293, // slli t0, t0, 52
    0x0342_d293, // srli t0, t0, 52
    0x0062_82b3, // add t0, t0, t1
    0x3412_9073, // csrw mepc, t0
    0x1403_1373, // csrrw t1, sscratch, t1
    0x3402_92f3, // csrrw t0, mscratch, t0
    0x3020_0073, // mret
];

/// Registers whose content depends on time or on when interrupts are taken, or that take the handler away.
fn is_unsteady(csr: u32) -> bool {
    matches!(
        csr,
        0xc01 | 0xc81 | 0x14d | 0x104 | 0x144 | 0x304 | 0x344 | 0x303 | 0x302 | 0x305 | 0x340 | 0x140 | 0x180 | 0x320
    ) || (0x323..=0x33f).contains(&csr)
        || (0x3a0..=0x3ef).contains(&csr)
        || csr & 0xc00 == 0xc00 && csr & 0xff > 2
        || (0xb03..=0xb1f).contains(&csr)
}

/// A random encoding of a row of the table.
fn encoding(random: &mut Random, opcode: Opcode) -> Option<u32> {
    let pattern = &opcode.row().pattern;
    let mut word = random.next() as u32 & !pattern.mask | pattern.value;
    if pattern.length == 2 {
        word &= 0xffff;
    }
    let is_csr = word & 0x7f == 0x73 && word >> 12 & 3 != 0;
    if is_csr && random.below(2) == 0 {
        // One of those that translated code accesses itself.
        let number = [0x001, 0x100, 0x141, 0x142, 0x143, 0x341, 0x342, 0x343][random.below(8) as usize];
        word = word & 0xf_ffff | number << 20;
    }
    let (found, insn) = isa::decode(word, &ExtensionSet::implemented())?;
    let row = found.row();
    if word & 0x7f == 0x73 && word >> 12 & 7 != 0 && is_unsteady(word >> 20) {
        return None;
    }
    // Far targets would leave the page at once.
    if matches!(row.flow, Flow::Branch | Flow::Jump) && i64::from(insn.imm).unsigned_abs() > 256 {
        return None;
    }
    (row.mnemonic != "wfi" && row.mnemonic != "mret" && row.mnemonic != "sret").then_some(word)
}

/// `jal`.
fn jump_and_link(rd: u32, distance: i64) -> u32 {
    let distance = distance as u32;
    let (upper, sign) = ((distance >> 12 & 0xff) << 12, (distance >> 20 & 1) << 31);
    0x6f | rd << 7 | upper | (distance >> 11 & 1) << 20 | (distance >> 1 & 0x3ff) << 21 | sign
}

fn random_program(random: &mut Random) -> Vec<u8> {
    let opcodes: Vec<Opcode> = Opcode::all().collect();
    let mut bytes = Vec::new();
    while bytes.len() < 700 {
        // Mostly valid, sometimes not.
        if random.below(64) == 0 {
            bytes.extend((random.next() as u16).to_le_bytes());
            continue;
        }
        match random.below(32) {
            0 => bytes.extend(RETURN.to_le_bytes()),
            1 | 2 => {
                let distance = (random.below(300) as i64 & !1) - (bytes.len() as i64).min(150);
                bytes.extend(jump_and_link(1, distance).to_le_bytes());
            }
            _ => {}
        }
        let opcode = opcodes[random.below(opcodes.len() as u64) as usize];
        let Some(word) = encoding(random, opcode) else { continue };
        let length = if word & 3 == 3 { 4 } else { 2 };
        bytes.extend(&word.to_le_bytes()[..length]);
    }
    // Back to the start.
    let offset = -(bytes.len() as i64 + 4);
    bytes.extend([0x01, 0x00, 0x01, 0x00]); // two c.nop
    bytes.extend(jump_and_link(0, offset).to_le_bytes());
    bytes
}

const INTERESTING: [u64; 16] = [
    0,
    1,
    u64::MAX,
    i64::MIN as u64,
    0x7ff8_0000_0000_0000,
    0x7ff0_0000_0000_0001,
    0x7ff0_0000_0000_0000,
    0x0000_0000_0000_0001,
    0x000f_ffff_ffff_ffff,
    0x7fef_ffff_ffff_ffff,
    0x3ff0_0000_0000_0000,
    0xc3e0_0000_0000_0000,
    0xffff_ffff_7fc0_0000,
    0xffff_ffff_7f80_0001,
    0xffff_ffff_0080_0000,
    0xffff_ffff_4f00_0000,
];

fn prepare(machine: &mut Machine, program: &[u8], seed: u64) {
    let mut random = Random(seed);
    machine.load(BASE, HANDLER);
    machine.ram.write(CODE, program).unwrap();
    for at in (0..0x4000).step_by(8) {
        let value = if random.below(2) == 0 { random.next() } else { INTERESTING[random.below(16) as usize] };
        machine.ram.write(DATA - 0x2000 + at, &value.to_le_bytes()).unwrap();
    }
    let hart = &mut machine.hart;
    for r in 1..32 {
        // Most are addresses, some at a page's end.
        let value = match random.below(8) {
            0 => INTERESTING[random.below(16) as usize],
            1 => random.next(),
            2 => DATA + PAGE_SIZE - 4,
            _ => DATA + random.below(64) * 8,
        };
        hart.set_x(r, value);
    }
    for r in 0..32 {
        let single = 0xffff_ffff_0000_0000 | random.next() >> 32;
        let value = match random.below(4) {
            0 => INTERESTING[random.below(16) as usize],
            1 => single,
            2 => 0x3ff0_0000_0000_0000 | random.next() >> 12,
            _ => random.next(),
        };
        hart.set_f(r, value);
    }
    hart.set_pc(CODE);
    let mut set = |number, value| hart.write_csr(number, value).unwrap();
    set(0x305, BASE); // mtvec
    set(0x300, 0x6000 | random.below(2) << 13); // mstatus.FS
    set(0x003, random.below(6) << 5 & 0xe0); // fcsr
    // Code cannot be written, by nobody; when a store to it shows would be the engine's choice. The rest is open.
    set(0x3b0, (BASE >> 2) | 0x3ff);
    set(0x3b1, u64::MAX >> 10);
    set(0x3a0, 0x1f << 8 | 0x9d);
}

fn assert_equal(reference: &Machine, other: &Machine, what: &str) {
    let (a, b) = (&reference.hart, &other.hart);
    assert_eq!(a.counts.retired, b.counts.retired, "{what}: retired (pc {:#x}, {:#x})", a.pc, b.pc);
    assert_eq!(a.pc, b.pc, "{what}: pc");
    for r in 0..32 {
        assert_eq!(a.x[r], b.x[r], "{what}: x{r} (pc {:#x})", a.pc);
        assert_eq!(a.f[r], b.f[r], "{what}: f{r} (pc {:#x})", a.pc);
    }
    assert_eq!(a.csr, b.csr, "{what}: CSRs");
    assert_eq!(a.privilege, b.privilege, "{what}: privilege");
    assert_eq!(a.reservation, b.reservation, "{what}: reservation");
    assert!(reference.memory() == other.memory(), "{what}: memory");
}

#[test]
fn random_programs_do_the_same_as_interpreted() {
    compare_random_programs(jit(1));
}

fn compare_random_programs(kind: EngineKind) {
    let programs = std::env::var("RANDOM_PROGRAMS").ok().and_then(|count| count.parse().ok()).unwrap_or(24);
    let first = std::env::var("RANDOM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1_u64);
    for seed in first..first + programs {
        compare_random_program(kind, seed);
    }
}

fn compare_random_program(kind: EngineKind, seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let program = random_program(&mut random);
    let mut machines = [Machine::new(EngineKind::Interpreter), Machine::new(kind)];
    for machine in &mut machines {
        prepare(machine, &program, random.0);
    }
    for round in 0..4 {
        for machine in &mut machines {
            let limit = machine.hart.counts.retired + 1500;
            // A stop other than the budget's is at the same place in both.
            while machine.hart.counts.retired < limit {
                let left = limit - machine.hart.counts.retired;
                let before = machine.hart.counts.retired;
                if machine.run(left) == Stop::Budget && machine.hart.counts.retired == before {
                    break; // nothing but traps
                }
            }
        }
        let [reference, other] = &machines;
        assert_equal(reference, other, &format!("program {seed}, round {round}"));
    }
}

/// Counts a0 down from 2^20 by 1, through a store.
const COUNTDOWN: &[u32] = &[
    0x0010_0537, // lui a0, 0x100
    0x8000_85b7, // lui a1, 0x80008
    0x0205_9593, // slli a1, a1, 32
    0x0205_d593, // srli a1, a1, 32
    0x00a5_b023, // sd a0, 0(a1)
    0xfff5_0513, // addi a0, a0, -1
    0xfe05_1ce3, // bnez a0, -8
    0x0000_006f, // j .
];

#[test]
fn what_is_to_be_compiled_at_once_runs_translated() {
    for kind in compiling() {
        let mut machine = Machine::new(kind);
        machine.load(CODE, COUNTDOWN);
        machine.run(4 << 20);
        let statistics = machine.statistics();
        let all = statistics.translated + statistics.interpreted;
        assert_eq!(all, 4 << 20);
        assert!(statistics.translated * 100 >= all * 99, "{kind:?}: {statistics:?}");
        assert_eq!(machine.hart.pc, CODE + 28);
    }
}

#[test]
fn budgets_are_exact() {
    let mut machines = [Machine::new(EngineKind::Interpreter), Machine::new(jit(1))];
    for budget in [1, 2, 511, 512, 513, 1000, 4097, 3] {
        for machine in &mut machines {
            machine.load(CODE, COUNTDOWN);
            let before = machine.hart.counts.retired;
            assert_eq!(machine.run(budget), Stop::Budget);
            assert_eq!(machine.hart.counts.retired - before, budget);
        }
        let [reference, other] = &machines;
        assert_equal(reference, other, "countdown");
    }
}

/// Runs on a thread of its own until told to pause; fails if that does not end it.
fn ends_when_told(mut machine: Machine, tell: impl FnOnce(&Ram, &HartShared)) -> Machine {
    let (ram, shared) = (machine.ram.clone(), machine.hart.shared().clone());
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        machine.run(u64::MAX);
        sender.send(()).ok();
        machine
    });
    std::thread::sleep(Duration::from_millis(300));
    tell(&ram, &shared);
    receiver.recv_timeout(Duration::from_secs(20)).expect("the hart goes on");
    thread.join().unwrap()
}

#[test]
fn an_interrupt_reaches_a_loop_that_touches_no_memory() {
    for kind in compiling().into_iter().chain([jit(50)]) {
        let machine = Machine::new(kind);
        machine.load(CODE, &[0x0010_0513, 0x0000_006f]); // li a0, 1; j .
        let machine = ends_when_told(machine, |_, shared| shared.raise(event::PAUSE));
        assert_eq!(machine.hart.pc, CODE + 4);
        assert!(machine.statistics().translated > 0);
    }
}

#[test]
fn a_loop_sees_what_somebody_else_stores() {
    for kind in compiling().into_iter().chain([jit(50)]) {
        let machine = Machine::new(kind);
        // lui a1, 0x80008; slli, srli; 1: ld a0, 0(a1); beqz a0, 1b; wfi
        let program = [0x8000_85b7, 0x0205_9593, 0x0205_d593, 0x0005_b503, 0xfe05_0ee3, 0x1050_0073];
        machine.load(CODE, &program);
        let machine = ends_when_told(machine, |ram, _| ram.store_u64(DATA - BASE, 7).unwrap());
        assert_eq!(machine.hart.x(10), 7);
        assert!(machine.statistics().translated > 0);
    }
}

#[test]
fn code_that_is_written_is_translated_anew() {
    for kind in compiling() {
        let mut machine = Machine::new(kind);
        // A loop of: a0 += N, where the immediate N is rewritten each time round, with fence.i.
        // lui a1,0x80001; slli; srli; lw a2,32(a1) is the instruction at `patched`.
        let program = [
            0x8000_15b7, // lui a1, 0x80001
            0x0205_9593, // slli a1, a1, 32
            0x0205_d593, // srli a1, a1, 32
            0x0010_06b7, // lui a3, 0x100: one more in the immediate of an addi
            0x0640_0713, // li a4, 100
            0x01c5_a603, // loop: lw a2, 28(a1)
            0x0000_100f, // fence.i
            0x0015_0513, // patched: addi a0, a0, 1
            0x00d6_0633, // add a2, a2, a3
            0x00c5_ae23, // sw a2, 28(a1)
            0xfff7_0713, // addi a4, a4, -1
            0xfe07_14e3, // bnez a4, loop
            0x0000_006f, // j .
        ];
        machine.load(CODE, &program);
        machine.run(2000);
        assert_eq!(machine.hart.pc, CODE + 48);
        assert_eq!(machine.hart.x(10), (1..=100).sum::<u64>());
        assert!(machine.statistics().translated > 0);
    }
}

#[test]
fn code_written_by_a_device_is_seen_without_a_fence() {
    for kind in compiling().into_iter().chain([jit(50)]) {
        let machine = Machine::new(kind);
        machine.load(CODE, &[0x0010_0513, 0x0000_006f]); // li a0, 1; 1: j 1b
        let machine = ends_when_told(machine, |ram, _| {
            // wfi
            ram.write(CODE + 4, &0x1050_0073_u32.to_le_bytes()).unwrap();
        });
        assert_eq!(machine.hart.pc, CODE + 8);
    }
}

/// Sv39 tables at `BASE + 0x10000`: the pages of two virtual addresses, all rights, and an identity gigapage for the
/// rest.
struct Tables<'a>(&'a Ram);

impl Tables<'_> {
    /// V, R, W, X, A, D.
    const ALL: u64 = 0xcf;
    const USER: u64 = 0x10;
    const GLOBAL: u64 = 0x20;

    const ROOT: u64 = BASE + 0x1_0000;
    const MIDDLE: u64 = BASE + 0x1_1000;
    const LEAVES: u64 = BASE + 0x1_2000;

    fn write(&self, address: u64, value: u64) {
        self.0.write(address, &value.to_le_bytes()).unwrap();
    }

    fn prepare(&self) {
        self.write(Self::ROOT, (Self::MIDDLE >> 12) << 10 | 1);
        self.write(Self::ROOT + 16, (BASE >> 12) << 10 | Self::ALL);
        self.write(Self::MIDDLE, (Self::LEAVES >> 12) << 10 | 1);
    }

    /// Maps the page at virtual address `page * 4096` below 2 MiB.
    fn map(&self, page: u64, physical: Option<u64>) {
        self.write(Self::LEAVES + page * 8, physical.map_or(0, |physical| (physical >> 12) << 10 | Self::ALL));
    }

    fn satp(asid: u64) -> u64 {
        8 << 60 | asid << 44 | Self::ROOT >> 12
    }
}

/// A machine in S-mode with those tables on, and PMP open.
fn paged_machine(kind: EngineKind) -> Machine {
    let mut machine = Machine::new(kind);
    Tables(&machine.ram).prepare();
    let hart = &mut machine.hart;
    hart.open_pmp();
    hart.write_csr(0x305, BASE).unwrap();
    hart.write_csr(0x180, Tables::satp(1)).unwrap();
    hart.set_privilege(crate::Privilege::Supervisor);
    machine
}

const RETURN: u32 = 0x0000_8067; // ret

/// Calls `address` with ra leading to a `j .` that is `BASE + 0x20000`.
fn call(machine: &mut Machine, address: u64) {
    const END: u64 = BASE + 0x2_0000;
    machine.load(END, &[0x0000_006f]);
    machine.hart.set_pc(address);
    machine.hart.set_x(1, END);
    machine.run(2000);
    assert_eq!(machine.hart.pc, END, "the call comes back");
}

/// What programs with calls leave in `a0`: functions that call others, themselves and each other, that return
/// elsewhere than behind their call, or change what they return by.
#[test]
fn calls_are_followed_and_returns_lead_where_the_return_address_says() {
    const CALLS: &[(&str, u64)] = &[
        ("fibonacci", 6765),
        ("both", 0x111),
        ("skip", 5),
        ("tail", 12),
        ("even", 1),
        ("swap", 3),
        ("copy", 303),
        ("deep", 5),
    ];
    let source = "
        fibonacci: li a0, 20
        fib: addi sp, sp, -24
        sd ra, 0(sp)
        sd s0, 8(sp)
        sd s1, 16(sp)
        li a1, 2
        bltu a0, a1, small
        mv s0, a0
        addi a0, a0, -1
        jal ra, fib
        mv s1, a0
        addi a0, s0, -2
        jal ra, fib
        add a0, a0, s1
        small: ld ra, 0(sp)
        ld s0, 8(sp)
        ld s1, 16(sp)
        addi sp, sp, 24
        ret
        both: mv s2, ra
        li a0, 0
        jal ra, leaf
        slli a0, a0, 4
        jal ra, leaf
        slli a0, a0, 4
        jal ra, leaf
        jr s2
        leaf: addi a0, a0, 1
        ret
        skip: mv s2, ra
        li a0, 1
        jal ra, skips
        li a0, 100
        addi a0, a0, 4
        jr s2
        skips: addi ra, ra, 4
        ret
        tail: mv s2, ra
        li a0, 4
        jal ra, tails
        addi a0, a0, 1
        jr s2
        tails: addi a0, a0, 6
        j leaf
        even: li a0, 1000
        evens: addi sp, sp, -8
        sd ra, 0(sp)
        li a1, 1
        beqz a0, done
        addi a0, a0, -1
        jal ra, odds
        done: mv a0, a1
        ld ra, 0(sp)
        addi sp, sp, 8
        ret
        odds: addi sp, sp, -8
        sd ra, 0(sp)
        li a1, 0
        beqz a0, done
        addi a0, a0, -1
        jal ra, evens
        j done
        swap: mv s2, ra
        li a0, 0
        jal ra, first
        addi a0, a0, 1
        jal ra, second
        jr s2
        first: mv t1, ra
        addi a0, a0, 1
        jr t1
        second: addi a0, a0, 1
        mv t1, ra
        mv ra, t1
        ret
        copy: mv s2, ra
        li a0, 0
        li a2, 101
        again: jal ra, thrice
        addi a2, a2, -1
        bnez a2, again
        jr s2
        thrice: mv s3, ra
        jal ra, leaf
        jal ra, leaf
        jal ra, leaf
        jr s3
        deep: mv s2, ra
        li a0, 0
        jal ra, one
        jr s2
        one: mv s3, ra
        jal ra, two
        addi a0, a0, 1
        mv ra, s3
        ret
        two: mv s4, ra
        jal ra, three
        addi a0, a0, 1
        mv ra, s4
        ret
        three: mv s5, ra
        jal ra, four
        addi a0, a0, 1
        mv ra, s5
        ret
        four: mv s6, ra
        jal ra, leaf
        addi a0, a0, 1
        mv ra, s6
        ret";
    let program = assemble(source, CODE, &ExtensionSet::known()).unwrap();
    let kinds = [EngineKind::Interpreter, lockstep::lockstep(1), lockstep::lockstep(3)];
    for kind in kinds.into_iter().chain(compiling()) {
        let mut machine = Machine::new(kind);
        machine.ram.write(CODE, &program.bytes).unwrap();
        for (name, result) in CALLS.iter().cycle().take(3 * CALLS.len()) {
            const END: u64 = BASE + 0x2_0000;
            machine.load(END, &[0x0000_006f]); // j .
            machine.hart.set_pc(program.symbols[*name]);
            machine.hart.set_x(1, END);
            machine.hart.set_x(2, DATA + 0x6000);
            machine.run(2_000_000);
            assert_eq!(
                (machine.hart.pc, machine.hart.x(10), machine.hart.x(2)),
                (END, *result, DATA + 0x6000),
                "{name}"
            );
        }
    }
}

#[test]
fn a_remapped_page_runs_its_new_code_after_a_fence() {
    for kind in compiling() {
        let mut machine = paged_machine(kind);
        machine.load(CODE, &[0x0010_0513, RETURN]); // li a0, 1
        machine.load(CODE + 0x1000, &[0x0020_0513, RETURN]); // li a0, 2
        for round in 0..6 {
            Tables(&machine.ram).map(5, Some(CODE + round % 2 * 0x1000));
            machine.hart.fence_translations((round > 2).then_some(0x5000), None);
            call(&mut machine, 0x5000);
            assert_eq!(machine.hart.x(10), 1 + round % 2);
        }
        assert!(machine.statistics().translated > machine.statistics().interpreted);
    }
}

#[test]
fn one_physical_page_at_two_virtual_addresses() {
    for kind in compiling() {
        let mut machine = paged_machine(kind);
        machine.load(CODE, &[0x0000_0517, RETURN]); // auipc a0, 0
        for page in [5, 9, 5, 9] {
            Tables(&machine.ram).map(page, Some(CODE));
            call(&mut machine, page * 4096);
            assert_eq!(machine.hart.x(10), page * 4096);
        }
    }
}

#[test]
fn a_region_over_two_pages_follows_the_second_ones_mapping() {
    for kind in compiling() {
        let mut machine = paged_machine(kind);
        // The first page ends in a jump into the second.
        machine.load(CODE + 0xffc, &[0x0040_006f]); // j +4
        machine.load(CODE + 0x1000, &[0x0010_0513, RETURN]);
        machine.load(CODE + 0x2000, &[0x0020_0513, RETURN]);
        let tables = |machine: &Machine, second| {
            Tables(&machine.ram).map(5, Some(CODE));
            Tables(&machine.ram).map(6, second);
        };
        for (second, value) in [(0x1000, 1), (0x2000, 2), (0x1000, 1), (0x2000, 2)] {
            tables(&machine, Some(CODE + second));
            machine.hart.fence_translations(Some(0x6000), None);
            call(&mut machine, 0x6000);
            call(&mut machine, 0x5ffc);
            assert_eq!(machine.hart.x(10), value);
        }
        // And where it is gone, the jump arrives and the fetch faults.
        tables(&machine, None);
        machine.hart.fence_translations(Some(0x6000), None);
        machine.load(BASE, &[0x0000_006f]);
        machine.hart.set_pc(0x5ffc);
        machine.run(100);
        assert_eq!((machine.hart.csr.mcause, machine.hart.csr.mepc, machine.hart.csr.mtval), (12, 0x6000, 0x6000));
    }
}

#[test]
fn address_spaces_keep_apart() {
    for kind in compiling() {
        let mut machine = paged_machine(kind);
        machine.load(CODE, &[0x0010_0513, RETURN]);
        machine.load(CODE + 0x1000, &[0x0020_0513, RETURN]);
        // A second set of tables, for another ASID: only the leaves differ.
        let second = BASE + 0x1_8000;
        let tables = Tables(&machine.ram);
        tables.map(5, Some(CODE));
        tables.write(second, ((second + 0x1000) >> 12) << 10 | 1);
        tables.write(second + 16, (BASE >> 12) << 10 | 0xcf);
        tables.write(second + 0x1000, ((second + 0x2000) >> 12) << 10 | 1);
        tables.write(second + 0x2000 + 40, ((CODE + 0x1000) >> 12) << 10 | 0xcf);
        for round in 0..6 {
            let satp = if round % 2 == 0 { Tables::satp(1) } else { 8 << 60 | 2 << 44 | second >> 12 };
            machine.hart.write_csr(0x180, satp).unwrap();
            call(&mut machine, 0x5000);
            assert_eq!(machine.hart.x(10), 1 + round % 2);
        }
    }
}

/// Loads and stores at random places of four virtual pages, which are mapped anew now and then. With `views`, loads have
/// missed their runs for long before.
fn accesses_follow_mappings(kind: EngineKind, privilege: crate::Privilege, flags: u64, views: bool) {
    const PAGES: u64 = 4;
    const FIRST: u64 = 8 * PAGE_SIZE;
    let mut machine = paged_machine(kind);
    let mut random = Random(flags | 1);
    // ld a0, 0(a1); ld a2, 8(a1); sd a3, 16(a1); ret
    machine.load(CODE, &[0x0005_b503, 0x0085_b603, 0x00d5_b823, RETURN]);
    Tables(&machine.ram).write(Tables::ROOT + 16, (BASE >> 12) << 10 | Tables::ALL | flags);
    machine.hart.set_privilege(privilege);
    let mut memory: Vec<u8> = (0..8 * PAGE_SIZE).map(|_| random.next() as u8).collect();
    machine.ram.write(DATA, &memory).unwrap();
    let usual = if views { [6, 1, 4, 2] } else { [0, 1, 2, 3] };
    let mut mapping = usual;
    for round in 0..600 {
        if round == 0 || random.below(4) == 0 {
            let page = random.below(PAGES);
            mapping[page as usize] = if views && random.below(3) != 0 { usual[page as usize] } else { random.below(8) };
            for (page, physical) in (8..).zip(mapping) {
                let leaf = ((DATA >> 12) + physical) << 10 | Tables::ALL | flags;
                Tables(&machine.ram).write(Tables::LEAVES + page * 8, leaf);
            }
            match random.below(3) {
                0 => machine.hart.fence_translations(None, None),
                1 if flags & Tables::GLOBAL == 0 => machine.hart.fence_translations(None, Some(1)),
                _ if round == 0 => machine.hart.fence_translations(None, None),
                _ => machine.hart.fence_translations(Some(FIRST + page * PAGE_SIZE + random.below(PAGE_SIZE)), None),
            }
        }
        // Where two pages meet now and then.
        let place = match random.below(4) {
            0 => PAGE_SIZE * (1 + random.below(PAGES - 1)) - random.below(24),
            1 => random.below(PAGES * PAGE_SIZE - 24),
            _ => random.below((PAGES * PAGE_SIZE - 24) / 8) * 8,
        };
        let physical = |place: u64| (mapping[(place / PAGE_SIZE) as usize] * PAGE_SIZE + place % PAGE_SIZE) as usize;
        let load = |memory: &[u8], place| {
            u64::from_le_bytes(std::array::from_fn(|byte| memory[physical(place + byte as u64)]))
        };
        for _ in 0..1 + random.below(3) {
            let (first, second, stored) = (load(&memory, place), load(&memory, place + 8), random.next());
            machine.hart.set_x(11, FIRST + place);
            machine.hart.set_x(13, stored);
            call(&mut machine, CODE);
            assert_eq!((machine.hart.x(10), machine.hart.x(12)), (first, second), "round {round}, place {place:#x}");
            for (byte, value) in (0..).zip(stored.to_le_bytes()) {
                memory[physical(place + 16 + byte)] = value;
            }
        }
        if round == 0 && views {
            for _ in 0..20_000 {
                let place = random.below(PAGES * PAGE_SIZE / 8 - 2) * 8;
                machine.hart.set_x(11, FIRST + place);
                machine.hart.set_x(13, load(&memory, place + 16));
                call(&mut machine, CODE);
            }
            assert!(machine.hart.gathered_run(FIRST, false).is_some_and(|run| run.length > PAGE_SIZE), "a view");
        }
    }
    let mut bytes = vec![0; memory.len()];
    machine.ram.read(DATA, &mut bytes).unwrap();
    assert!(bytes == memory, "what was stored");
    // In lockstep services make what misses its run.
    let is_quick = machine.statistics().slow_accesses < 3000;
    assert!(is_quick || machine.hart.lockstep.is_some(), "{:?}", machine.statistics());
}

#[test]
fn user_accesses_follow_mappings() {
    accesses_follow_mappings(jit(1), crate::Privilege::User, Tables::USER, false);
    // Views are for range entries.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    accesses_follow_mappings(jit(1), crate::Privilege::User, Tables::USER, true);
}

#[test]
fn supervisor_accesses_follow_mappings() {
    accesses_follow_mappings(jit(1), crate::Privilege::Supervisor, 0, false);
    accesses_follow_mappings(jit(1), crate::Privilege::Supervisor, Tables::GLOBAL, false);
}

#[test]
fn who_asks_hears_of_stores_to_pages_that_range_entries_have_left() {
    const PAGES: u64 = 4;
    const FIRST: u64 = 8 * PAGE_SIZE;
    // The TLB has one slot for these and the pages at `FIRST`.
    const RIVAL: u64 = BASE + FIRST;
    let mut machine = paged_machine(jit(1));
    machine.hart.set_peers([&Arc::new(HartShared::new(1))]);
    let mut random = Random(7);
    // sd a3, 0(a1); ret, twice: each has an entry of its own.
    let functions = [CODE, CODE + 0x100];
    for function in functions {
        machine.load(function, &[0x00d5_b023, RETURN]);
    }
    let tables = Tables(&machine.ram);
    tables.write(Tables::ROOT + 16, (BASE >> 12) << 10 | Tables::ALL | Tables::USER);
    let physical = |page: u64| DATA + page * 3 % PAGES * 2 * PAGE_SIZE;
    for page in 0..PAGES {
        tables.write(Tables::LEAVES + (8 + page) * 8, (physical(page) >> 12) << 10 | Tables::ALL | Tables::USER);
    }
    machine.hart.fence_translations(None, None);
    machine.hart.set_privilege(crate::Privilege::User);
    let host = |machine: &Machine, address: u64| machine.ram.host_base() as u64 + address - BASE;
    let mut told = 0;
    for round in 0..2000 {
        // From here on somebody wants to hear of stores to this page.
        let wanted = random.below(PAGES);
        machine.hart.tlb.take_dropped_writes();
        let mut stored = false;
        for _ in 0..random.below(8) {
            let page = random.below(PAGES);
            let (function, place) = match random.below(4) {
                0 => (functions[1], RIVAL + page * PAGE_SIZE),
                _ => (functions[0], FIRST + page * PAGE_SIZE),
            };
            stored |= place == FIRST + wanted * PAGE_SIZE;
            machine.hart.set_x(11, place + random.below(PAGE_SIZE / 8) * 8);
            machine.hart.set_x(13, random.next());
            call(&mut machine, function);
        }
        let page = host(&machine, physical(wanted));
        let dropped = machine.hart.tlb.take_dropped_writes().contains(&page);
        let hears = dropped | machine.hart.tlb.forget_writes_to(page);
        assert!(hears || !stored, "round {round}");
        told += usize::from(stored);
    }
    assert!(told > 500, "{told}");
    let statistics = machine.statistics();
    assert!(statistics.slow_accesses < statistics.translated / 4, "entries move: {statistics:?}");
}

#[test]
fn a_page_that_becomes_code_is_no_longer_written_unheard() {
    for kind in compiling() {
        let mut machine = Machine::new(kind);
        // sd a3, 0(a1); ret
        machine.load(CODE, &[0x00d5_b023, RETURN]);
        let target = CODE + 0x2000;
        let store = |machine: &mut Machine, value: u64| {
            machine.hart.set_x(11, target);
            machine.hart.set_x(13, value);
            call(machine, CODE);
        };
        for immediate in 1..5_u64 {
            // li a0, immediate; ret
            let program = immediate << 20 | 0x513 | u64::from(RETURN) << 32;
            for _ in 0..3 {
                store(&mut machine, program);
            }
            call(&mut machine, target);
            assert_eq!(machine.hart.x(10), immediate);
        }
    }
}

#[test]
fn retired_instructions_are_counted_without_a_budget() {
    let mut machine = Machine::new(jit(1));
    machine.load(CODE, &[0x0010_0513, 0x0010_0593, 0x1050_0073]); // li a0, 1; li a1, 1; wfi
    assert_eq!(machine.run(u64::MAX), Stop::WaitForInterrupt);
    assert_eq!(machine.hart.counts().retired, 3);
}

#[test]
fn flags_of_the_emulators_own_floats_are_not_the_guests() {
    let mut machine = Machine::new(jit(3));
    machine.hart.write_csr(0x300, 0x6000).unwrap(); // mstatus.FS
    machine.load(
        CODE,
        &[
            0x0010_5073, // csrwi fflags, 0
            0xfff5_0513, // addi a0, a0, -1
            0xfe05_1ee3, // bnez a0, to the line before
            0x0010_25f3, // csrr a1, fflags
            0x1050_0073, // wfi
        ],
    );
    machine.hart.set_x(10, u64::MAX);
    std::hint::black_box(std::hint::black_box(1.0) / std::hint::black_box(3.0));
    while machine.statistics().translated == 0 {
        assert_eq!(machine.run(1000), Stop::Budget);
    }
    machine.hart.set_x(10, 1000);
    while machine.run(1000) == Stop::Budget {}
    assert_eq!(machine.hart.x(11), 0);
}

#[test]
fn accesses_that_share_a_check_take_one_range_entry() {
    let mut machine = Machine::new(jit(1));
    let mut program = vec![0x0005_b503; 60]; // ld a0, 0(a1)
    program.push(0x0000_006f); // j .
    machine.load(CODE, &program);
    machine.hart.set_pc(CODE);
    machine.hart.set_x(11, DATA);
    machine.run(200);
    let Engine::Jit(jit) = &machine.engine else { unreachable!() };
    let statistics = jit.compiler_statistics();
    assert!(statistics.instructions > 60 && (1..10).contains(&statistics.ranges), "{statistics:?}");
}

#[test]
fn a_full_arena_is_emptied() {
    for kind in compiling() {
        // Code that is rewritten again and again fills the smallest arena.
        let EngineKind::Jit(options) = kind else { unreachable!() };
        let mut machine = Machine::new(EngineKind::Jit(JitOptions { cache_size: 16 << 10, ..options }));
        for round in 0..200_u32 {
            let mut program = vec![0x0015_0513; 40]; // addi a0, a0, 1
            program.extend([(round & 0x7ff) << 20 | 0x593, 0x0000_006f]); // li a1, round; j .
            machine.load(CODE + u64::from(round % 4) * 0x100, &program);
            machine.hart.set_pc(CODE + u64::from(round % 4) * 0x100);
            machine.hart.set_x(10, 0);
            machine.run(600);
            assert_eq!((machine.hart.x(10), machine.hart.x(11)), (40, u64::from(round & 0x7ff)));
        }
        let Engine::Jit(jit) = &machine.engine else { unreachable!() };
        assert!(jit.compiler_statistics().flushes > 0, "{:?}", jit.compiler_statistics());
    }
}

/// A loop of some loads, stores and arithmetic at addresses that go on by some step.
fn random_loop(random: &mut Random) -> String {
    let pick = |random: &mut Random, from: &[&str]| from[random.below(from.len() as u64) as usize].to_string();
    let mut lines = vec!["again:".to_string()];
    let mut steps = vec![];
    for base in ["a1", "a2"] {
        let by = [1, 4, 8, 12, 24, 64, 1024, -1, -8, -24][random.below(10) as usize];
        steps.push(match random.below(6) {
            0 => format!("add {base}, {base}, a5"),
            1 => format!("addi {base}, {base}, {by}\naddi {base}, {base}, {by}"),
            _ => format!("addi {base}, {base}, {by}"),
        });
    }
    if random.below(4) == 0 {
        steps.pop();
    }
    let mut body = vec![];
    for _ in 0..1 + random.below(4) {
        let (base, place) = (pick(random, &["a1", "a1", "a2", "s0"]), random.below(40) as i64 - 16);
        body.push(match random.below(3) {
            0 => format!("{} a3, {place}({base})", pick(random, &["sb", "sh", "sw", "sd"])),
            _ => {
                let to = pick(random, &["a0", "a6", "a7"]);
                format!("{} {to}, {place}({base})", pick(random, &["lbu", "lh", "lw", "ld", "lwu"]))
            }
        });
    }
    for _ in 0..random.below(4) {
        let [to, a, b] = std::array::from_fn(|_| pick(random, &["a0", "a3", "a6", "a7", "t3"]));
        body.push(format!("{} {to}, {a}, {b}", pick(random, &["add", "xor", "sub", "mul", "addw"])));
    }
    if random.below(3) == 0 {
        body.push(format!("andi t4, a6, {}\nbeq t4, x0, out", 1 << random.below(6)));
    }
    body.append(&mut steps);
    for place in (1..body.len()).rev() {
        body.swap(place, random.below(place as u64 + 1) as usize);
    }
    lines.append(&mut body);
    lines.push(
        "addi a4, a4, -1\nbne a4, x0, again\nout:\nadd t5, a0, a6\ncsrrs t6, instret, x0\njalr x0, 0(ra)".to_string(),
    );
    lines.join("\n")
}

#[test]
fn steady_loops_do_the_same_as_interpreted() {
    compare_steady_loops(jit(1));
}

fn compare_steady_loops(kind: EngineKind) {
    const PAGES: u64 = 8;
    const FIRST: u64 = 8 * PAGE_SIZE;
    const PLACES: u64 = 16;
    let mut translated = 0;
    for seed in 1..200_u64 {
        let mut machines = [paged_machine(EngineKind::Interpreter), paged_machine(kind)];
        let program = random_loop(&mut Random(seed));
        let bytes = assemble(&program, CODE, &ExtensionSet::known()).unwrap().bytes;
        for machine in &mut machines {
            let mut random = Random(seed << 20 | 7);
            machine.ram.write(CODE, &bytes).unwrap();
            machine.hart.set_privilege(crate::Privilege::Machine);
            for counteren in [0x306, 0x106] {
                machine.hart.write_csr(counteren, 7).unwrap();
            }
            machine.load(BASE, &[0x0000_006f]);
            machine.load(BASE + 0x2_0000, &[0x0000_006f]);
            let user = if seed % 2 == 0 { Tables::USER } else { 0 };
            Tables(&machine.ram).write(Tables::ROOT + 16, (BASE >> 12) << 10 | Tables::ALL | user);
            let data = BASE + 0x4_0000;
            for page in 0..PAGES {
                // Some lie behind each other in RAM too, and the last one is nowhere.
                let physical = data + (page + if random.below(3) == 0 { random.below(PLACES) } else { 0 }) * PAGE_SIZE;
                let leaf = if page == PAGES - 1 { 0 } else { (physical >> 12) << 10 | Tables::ALL | user };
                Tables(&machine.ram).write(Tables::LEAVES + (FIRST / PAGE_SIZE + page) * 8, leaf);
            }
            let bytes: Vec<u8> = (0..(PAGES + PLACES) * PAGE_SIZE).map(|_| random.next() as u8).collect();
            machine.ram.write(data, &bytes).unwrap();
            machine.hart.set_privilege(if user != 0 { crate::Privilege::User } else { crate::Privilege::Supervisor });
        }
        let mut random = Random(seed << 32 | 1);
        for round in 0..12 {
            let [first, second, invariant] = std::array::from_fn(|_| FIRST + random.below((PAGES - 1) * PAGE_SIZE));
            let (stride, rounds) = (random.below(40).wrapping_sub(4), 1 + random.below(700));
            let budgets = std::array::from_fn::<_, 4, _>(|_| 512 + random.below(3000));
            for machine in &mut machines {
                let values =
                    [(1, BASE + 0x2_0000), (8, invariant), (11, first), (12, second), (14, rounds), (15, stride)];
                for (register, value) in values {
                    machine.hart.set_x(register, value);
                }
                machine.hart.set_pc(CODE);
            }
            for budget in budgets {
                let stops = machines.each_mut().map(|machine| machine.run(budget));
                assert_eq!(stops[0], stops[1]);
                let [reference, other] = &machines;
                assert_equal(reference, other, &format!("seed {seed}, round {round}\n{program}"));
            }
            for machine in &mut machines {
                machine.hart.set_privilege(if seed % 2 == 0 {
                    crate::Privilege::User
                } else {
                    crate::Privilege::Supervisor
                });
            }
        }
        translated += machines[1].statistics().translated;
    }
    assert!(translated > 1_000_000, "{translated}");
}

/// A loop of floating-point operations on a handful of registers, few of which look at the bits of a result.
fn random_floats(random: &mut Random) -> String {
    const FLOATS: &[&str] = &["fa0", "fa1", "fa2", "fa3"];
    let pick = |random: &mut Random, from: &[&'static str]| from[random.below(from.len() as u64) as usize];
    let format = pick(random, &["d", "s"]);
    let [load, store] = if format == "d" { ["fld", "fsd"] } else { ["flw", "fsw"] };
    let mut lines = vec!["again:".to_string()];
    for place in 0..3 + random.below(12) {
        let [to, a, b, c] = std::array::from_fn(|_| pick(random, FLOATS));
        let integer = pick(random, &["a0", "a1", "a2"]);
        lines.push(match random.below(12) {
            0..4 => format!("{}.{format} {to}, {a}, {b}", pick(random, &["fadd", "fsub", "fmul", "fdiv"])),
            4 => format!("{}.{format} {to}, {a}, {b}, {c}", pick(random, &["fmadd", "fmsub", "fnmadd", "fnmsub"])),
            5 => format!("{}.{format} {to}, {a}, {b}", pick(random, &["fmin", "fmax", "fsgnj", "fsgnjn", "fsgnjx"])),
            6 => format!("{}.{format} {integer}, {a}, {b}", pick(random, &["feq", "flt", "fle"])),
            7 => match random.below(4) {
                0 => format!("fsqrt.{format} {to}, {a}"),
                1 => format!("fcvt.s.d {to}, {a}\nfcvt.d.s {to}, {to}"),
                2 => format!("fcvt.d.s {to}, {a}\nfcvt.s.d {to}, {to}"),
                _ => format!(
                    "{}.{format} {integer}, {a}, rtz",
                    pick(random, &["fcvt.w", "fcvt.wu", "fcvt.l", "fcvt.lu"])
                ),
            },
            8 => match random.below(3) {
                0 => format!("fmv.x.d {integer}, {a}"),
                1 => format!("fmv.x.w {integer}, {a}"),
                _ => format!("fclass.{format} {integer}, {a}"),
            },
            9 | 10 if random.below(3) > 0 => format!("{load} {to}, {}(s0)", random.below(32) * 8),
            9 | 10 => format!("{store} {a}, {}(s1)", random.below(16) * 8),
            _ => format!("andi a6, {integer}, 1\nbeq a6, x0, over{place}\nfadd.d {to}, {a}, {b}\nover{place}:"),
        });
    }
    if random.below(2) == 0 {
        lines.push("csrrw a5, fflags, x0\nsd a5, 128(s1)".to_string());
    }
    lines.push("addi s0, s0, 8\naddi s1, s1, 8\naddi a4, a4, -1\nbne a4, x0, again\nend: jal x0, end".to_string());
    lines.join("\n")
}

#[test]
fn floats_do_the_same_as_interpreted() {
    // Numbers whose sums and products are exact, for few flags to be raised at once, and what is not a number.
    let double = [0, 1 << 63, 1, 0x7ff << 52, 0xfff << 52, 0x7ff8_0000_0000_1234, 0x7ff0_0000_0000_0001];
    let single = [0, 1 << 31, 1, 0x7f80_0000, 0xff80_0000, 0x7fc0_1234, 0x7f80_0001];
    for kind in compiling() {
        let mut translated = 0;
        for seed in 1..200_u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let source = random_floats(&mut random);
            let program = assemble(&source, CODE, &ExtensionSet::known()).unwrap().bytes;
            let singles = source.contains("flw") || source.contains(".s ");
            let mut machines = [Machine::new(EngineKind::Interpreter), Machine::new(kind)];
            for machine in &mut machines {
                let mut random = Random(random.0);
                prepare(machine, &program, random.0);
                let mut value = || match (random.below(4), singles) {
                    (0, true) => u64::MAX << 32 | single[random.below(7) as usize],
                    (0, false) => double[random.below(7) as usize],
                    (_, true) => u64::MAX << 32 | u64::from((1.0 + random.below(4) as f32).to_bits()),
                    (_, false) => (1.0 + random.below(4) as f64).to_bits(),
                };
                for place in 0..128 {
                    machine.ram.write(DATA + 8 * place, &value().to_le_bytes()).unwrap();
                }
                for register in 10..14 {
                    machine.hart.set_f(register, value());
                }
                machine.hart.write_csr(0x003, 0).unwrap();
                for (register, value) in [(8, DATA), (9, DATA + 0x1000), (14, 400)] {
                    machine.hart.set_x(register, value);
                }
            }
            for round in 0..8 {
                for machine in &mut machines {
                    machine.run(1009);
                }
                let [reference, other] = &machines;
                assert_equal(reference, other, &format!("seed {seed}, round {round}\n{source}"));
            }
            translated += machines[1].statistics().translated;
        }
        assert!(translated > 500_000, "{translated}");
    }
}

/// A loop of what translated code does instead of helpers, with software interrupts that wait for SIE.
fn system_program(random: &mut Random) -> String {
    const CSRS: [&str; 7] = ["sscratch", "sepc", "scause", "stval", "mscratch", "mepc", "fflags"];
    let mut lines = vec!["again:".to_string()];
    for _ in 0..40 {
        let [rd, rs] = [0; 2].map(|_| ["x0", "a0", "a1", "a2", "a3", "a4", "a5"][random.below(7) as usize]);
        let operation = ["w", "s", "c"][random.below(3) as usize];
        let immediate = [0, 2, random.below(32)][random.below(3) as usize];
        let csr = if random.below(2) == 0 { "sstatus" } else { CSRS[random.below(7) as usize] };
        lines.push(match random.below(9) {
            0 | 1 => format!("csrr{operation} {rd}, {csr}, {rs}"),
            2..=4 => format!("csrr{operation}i {rd}, {csr}, {immediate}"),
            5 => "csrrsi x0, sip, 2".to_string(),
            6 => format!("cbo.zero ({})", ["s2", "s3", "s4"][random.below(3) as usize]),
            7 => "sd x0, 8(s2)".to_string(),
            _ => format!("add {rd}, {rs}, s5"),
        });
    }
    // The last instructions of a budget are interpreted: what was translated must show in the end all the same.
    for register in ["a0", "a1", "a2", "a3", "a4", "a5"] {
        lines.push(format!("add s7, s7, {register}"));
        lines.push("slli s8, s7, 7".into());
        lines.push("xor s7, s7, s8".into());
    }
    lines.push("jal x0, again".into());
    lines.join("\n")
}

#[test]
fn system_instructions_do_the_same_as_interpreted() {
    let (helped, translated) = compare_system_instructions(jit(1));
    assert!(helped * 3 < translated, "{helped} of {translated}");
}

/// Instructions that helpers executed, and all that ran translated.
fn compare_system_instructions(kind: EngineKind) -> (u64, u64) {
    const SUPERVISOR_HANDLER: u64 = BASE + 0x800;
    let assembled = |text: &str, at| assemble(text, at, &ExtensionSet::known()).unwrap().bytes;
    let (mut translated, mut helped, mut interrupts) = (0, 0, 0);
    for seed in 1..60_u64 {
        let program = system_program(&mut Random(seed));
        let mut machines = [Machine::new(EngineKind::Interpreter), Machine::new(kind)];
        for machine in &mut machines {
            let mut random = Random(seed << 20 | 5);
            prepare(machine, &assembled(&program, CODE), random.next());
            let handler = assembled("addi s10, s10, 1\ncsrrci x0, sip, 2\nsret", SUPERVISOR_HANDLER);
            machine.ram.write(SUPERVISOR_HANDLER, &handler).unwrap();
            let hart = &mut machine.hart;
            for (register, value) in
                [(18, DATA + 0x123), (19, DATA + 0x1000), (20, 0x1000), (21, random.next() & 0x122)]
            {
                hart.set_x(register, value);
            }
            let envcfg = [0, 0x80][usize::from(random.below(4) != 0)];
            let others = [0, 0x80][usize::from(random.below(4) != 0)];
            let set = [(0x303, 2), (0x304, 2), (0x105, SUPERVISOR_HANDLER), (0x30a, envcfg), (0x10a, others)];
            for (number, value) in set {
                hart.write_csr(number, value).unwrap();
            }
        }
        for round in 0..16_u64 {
            let privilege = match (seed + round) % 8 {
                0 => crate::Privilege::User,
                1 | 2 => crate::Privilege::Machine,
                _ => crate::Privilege::Supervisor,
            };
            for machine in &mut machines {
                let mut random = Random(seed << 20 | round << 8 | 9);
                let hart = &mut machine.hart;
                for register in 10..16 {
                    // Bits of `sstatus` that concern interrupts, and others.
                    let bits = if random.below(4) == 0 { random.next() } else { random.next() & 0x123 | 0x6000 };
                    hart.set_x(register, bits);
                }
                hart.csr.mstatus |= 0x6000;
                hart.set_pc(CODE);
                hart.set_privilege(privilege);
            }
            let stops = machines.each_mut().map(|machine| machine.run(1200));
            assert_eq!(stops[0], stops[1]);
            let [reference, other] = &machines;
            assert_equal(reference, other, &format!("seed {seed}, round {round}\n{program}"));
        }
        let statistics = machines[1].statistics();
        translated += statistics.translated;
        helped += statistics.helped;
        interrupts += machines[1].hart.counts.interrupts;
    }
    assert!(interrupts > 1000, "{interrupts} interrupts");
    (helped, translated)
}

#[test]
fn one_walk_serves_loads_and_stores_where_the_page_is_dirty() {
    use bus::{PageFlags, Width};
    const PAGE: u64 = 8;
    const ADDRESS: u64 = PAGE * PAGE_SIZE + 0x10;
    const W: u64 = 1 << 2;
    const D: u64 = 1 << 7;
    let after_load = |flags: u64, watch: bool| {
        let mut machine = paged_machine(EngineKind::Interpreter);
        let leaf = (DATA >> 12) << 10 | flags | Tables::USER;
        Tables(&machine.ram).write(Tables::LEAVES + PAGE * 8, leaf);
        machine.hart.set_privilege(crate::Privilege::User);
        if watch {
            machine.ram.set_flag(DATA - BASE, PageFlags::CODE);
        }
        assert!(machine.hart.load_virtual(ADDRESS, Width::Double).is_ok());
        let quick = machine.hart.store_quick(ADDRESS, Width::Double, 1).is_some();
        (quick, machine.hart.store_virtual(ADDRESS, Width::Double, 1).is_ok())
    };
    assert_eq!(after_load(Tables::ALL, false), (true, true));
    // Svade: the first store to a clean page is a page fault.
    assert_eq!(after_load(Tables::ALL & !D, false), (false, false));
    assert_eq!(after_load(Tables::ALL & !W, false), (false, false));
    assert_eq!(after_load(Tables::ALL, true), (false, true), "somebody listens");
}

#[test]
#[cfg(target_os = "linux")]
fn a_view_has_what_loads_may_use_as_freely() {
    const FIRST: u64 = 500;
    const DATA: u64 = BASE + 0x3_0000;
    // By page from 500 on: the last one of the table is 511.
    let physical = |page: u64| DATA + (page * 5 % 16) * PAGE_SIZE;
    let leaf = |page: u64| (physical(page) >> 12) << 10 | Tables::ALL | Tables::USER;
    let prepared = || {
        let mut machine = paged_machine(jit(1));
        for page in FIRST..512 {
            Tables(&machine.ram).write(Tables::LEAVES + page * 8, leaf(page));
        }
        machine.hart.set_privilege(crate::Privilege::User);
        machine
    };
    // The pages that the run of page 505 has, in a view that is made now or was made before.
    let run = |machine: &mut Machine, gather| {
        let run = machine.hart.gathered_run(505 * PAGE_SIZE + 8, gather)?;
        let first = run.base / PAGE_SIZE;
        Some((first, first + run.length / PAGE_SIZE - 1))
    };
    assert_eq!(run(&mut prepared(), false), None);
    let mut machine = prepared();
    assert_eq!(run(&mut machine, true), Some((500, 511)));
    let host = machine.hart.gathered_run(500 * PAGE_SIZE, false).unwrap().host;
    assert_eq!(machine.hart.gathered_run(505 * PAGE_SIZE, false).unwrap().host, host, "one view");
    // What ends a run, at page 508: no A, no U, another memory type, execute only, nothing, another page, no RAM.
    let other = leaf(508) ^ leaf(500) ^ leaf(501);
    let wrongs = [leaf(508) & !0x40, leaf(508) & !0x10, leaf(508) | 1 << 61, leaf(508) & !0x6, 0, other, 0x10df];
    for entry in wrongs {
        for gathered_before in [true, false] {
            let mut machine = prepared();
            if gathered_before {
                run(&mut machine, true);
            }
            Tables(&machine.ram).write(Tables::LEAVES + 508 * 8, entry);
            let expected = if entry == other && !gathered_before { (500, 511) } else { (500, 507) };
            assert_eq!(run(&mut machine, !gathered_before), Some(expected), "{entry:#x}, {gathered_before}");
        }
    }
    // What does not matter to a load: D, and what software notes.
    let mut machine = prepared();
    Tables(&machine.ram).write(Tables::LEAVES + 508 * 8, leaf(508) & !0x80 | 0x300);
    assert_eq!(run(&mut machine, true), Some((500, 511)));
    // PMP forbids one page.
    let hart = &mut machine.hart;
    hart.set_privilege(crate::Privilege::Machine);
    hart.write_csr(0x3b0, physical(503) >> 2 | 0x1ff).unwrap();
    hart.write_csr(0x3b1, u64::MAX >> 10).unwrap();
    hart.write_csr(0x3a0, 0x1f18).unwrap();
    hart.set_privilege(crate::Privilege::User);
    assert_eq!(run(&mut machine, false), Some((504, 511)));
    // S-mode has none.
    let mut machine = prepared();
    machine.hart.set_privilege(crate::Privilege::Supervisor);
    machine.hart.write_csr(0x100, 1 << 18).unwrap();
    assert_eq!(run(&mut machine, true), None);
}
