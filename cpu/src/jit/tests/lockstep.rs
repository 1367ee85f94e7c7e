//! Lockstep: what is right passes, and every kind of mistake is reported.

use super::*;
use crate::Difference;
use crate::jit::region::Region;

pub(super) fn lockstep(threshold: u32) -> EngineKind {
    EngineKind::Jit(JitOptions { threshold, cache_size: 8 << 20, lockstep: true, ..JitOptions::default() })
}

#[cfg(target_arch = "x86_64")]
#[test]
fn baseline_code_is_the_same_step_by_step() {
    for kind in [baseline(ALONE), baseline(2)] {
        let EngineKind::Jit(options) = kind else { unreachable!() };
        let kind = EngineKind::Jit(JitOptions { lockstep: true, ..options });
        compare_random_programs(kind);
        compare_steady_loops(kind);
        compare_system_instructions(kind);
    }
}

#[test]
fn random_programs_are_the_same_step_by_step() {
    compare_random_programs(lockstep(1));
}

#[test]
fn a_store_conditional_that_traps_keeps_the_reservation() {
    // Of what traps, nothing is repeated: it may have changed nothing.
    for kind in [EngineKind::Interpreter, lockstep(1)] {
        let mut machine = Machine::new(kind);
        let source = "lr.w a0, (t0)\nsc.w a1, a2, (x0)";
        machine.ram.write(CODE, &assemble(source, CODE, &ExtensionSet::implemented()).unwrap().bytes).unwrap();
        machine.load(BASE, &[0x1050_0073]); // wfi
        machine.hart.write_csr(0x305, BASE).unwrap(); // mtvec
        machine.hart.set_x(5, DATA);
        assert_eq!(machine.run(100), Stop::WaitForInterrupt);
        assert_eq!(machine.hart.reservation.offset, DATA - BASE);
    }
}

#[test]
fn steady_loops_are_the_same_step_by_step() {
    compare_steady_loops(lockstep(1));
}

#[test]
fn system_instructions_are_the_same_step_by_step() {
    compare_system_instructions(lockstep(1));
}

#[test]
fn accesses_follow_mappings_step_by_step() {
    accesses_follow_mappings(lockstep(1), crate::Privilege::Supervisor, Tables::GLOBAL, false);
    accesses_follow_mappings(lockstep(1), crate::Privilege::User, Tables::USER, false);
    // Views are for range entries.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    accesses_follow_mappings(lockstep(1), crate::Privilege::User, Tables::USER, true);
}

#[test]
fn budgets_are_exact_in_lockstep() {
    let mut machine = Machine::new(lockstep(1));
    machine.load(CODE, COUNTDOWN);
    for budget in [1, 2, 511, 512, 513, 1000, 4097, 10_000, 3] {
        let before = machine.hart.counts.retired;
        assert_eq!(machine.run(budget), Stop::Budget);
        assert_eq!(machine.hart.counts.retired - before, budget);
    }
    assert!(machine.statistics().translated > 12_000);
}

/// The difference that a program comes to where its regions are translated with a mistake. It runs in M-mode, `t0` is
/// [`DATA`], where doublewords count up from -5.
fn difference(source: &str, mistake: fn(&mut Region)) -> Difference {
    let mut machine = Machine::new(lockstep(1));
    let bytes = assemble(&format!("{source}\nwfi"), CODE, &ExtensionSet::implemented()).unwrap().bytes;
    machine.ram.write(CODE, &bytes).unwrap();
    for place in 0..64 {
        machine.ram.write(DATA + 8 * place, &place.wrapping_sub(5).to_le_bytes()).unwrap();
    }
    machine.load(BASE, &[0x1050_0073]); // wfi
    machine.hart.write_csr(0x305, BASE).unwrap(); // mtvec
    machine.hart.set_x(5, DATA);
    // Right, it passes.
    assert_eq!(machine.run(2000), Stop::WaitForInterrupt);
    let Engine::Jit(jit) = &machine.engine else { unreachable!() };
    jit.shared.set_mistake(mistake);
    machine.ram.write(CODE, &bytes).unwrap();
    machine.hart.set_pc(CODE);
    machine.hart.csr.fflags = 0;
    for r in 6..32 {
        machine.hart.set_x(r, 0);
        machine.hart.set_f(r, 0);
    }
    assert_eq!(machine.engine.run(&mut machine.hart, 2000), Stop::Difference, "{source}");
    let difference = *machine.hart.take_difference().unwrap();
    assert_eq!(machine.engine.run(&mut machine.hart, 2000), Stop::Difference, "it does not go on");
    difference
}

/// Has the first instruction of a region with a mnemonic translated as another encoding.
fn exchange(region: &mut Region, mnemonic: &str, other: &str) {
    let op = region.blocks.iter_mut().flat_map(|block| &mut block.ops).find(|op| op.opcode.row().mnemonic == mnemonic);
    let Some(op) = op else { return };
    let bytes = assemble(other, CODE, &ExtensionSet::implemented()).unwrap().bytes;
    let word = u32::from_le_bytes(bytes.try_into().unwrap());
    (op.opcode, op.insn) = isa::decode(word, &ExtensionSet::implemented()).unwrap();
}

#[track_caller]
fn assert_tells(difference: &Difference, lines: &[&str]) {
    let text = difference.to_string();
    for line in lines {
        assert!(text.contains(line), "no \"{line}\" in:\n{text}");
    }
}

#[test]
fn a_wrong_register_is_told_with_the_instruction_that_wrote_it() {
    let found = difference("addi a0, x0, 5\nadd a1, a0, a0\nxor a2, a1, t0", |region| {
        exchange(region, "add", "sub a1, a0, a0");
    });
    assert_tells(
        &found,
        &[
            "differ: registers differ",
            "Machine mode, 3 instructions from 0x80001000",
            "a1             0x0000000000000000 0x000000000000000a 0x0000000000000000  last changed at 0x80001004",
            "a2             0x0000000000000000 0x000000008000800a 0x0000000080008000  last changed at 0x80001008",
            "     1  0x0000000080001004  00a505b3  add a1,a0,a0",
        ],
    );
    let text = found.to_string();
    assert!(!text.contains("\na0 ") && !text.contains("memory"), "{text}");
}

#[test]
fn a_wrong_float_and_its_flags_are_told() {
    let setup = "lui a0, 6\ncsrrs x0, mstatus, a0\naddi a1, x0, 3\nfcvt.d.l fa0, a1\n";
    let found = difference(&format!("{setup}fdiv.d fa1, fa0, fa2"), |region| {
        exchange(region, "fdiv.d", "fmul.d fa1, fa0, fa2");
    });
    // 3 / 0 is infinite, and a division by zero.
    assert_tells(&found, &["fa1 ", "0x7ff0000000000000", "fflags         0x0000000000000000 0x0000000000000008"]);
}

#[test]
fn a_wrong_store_is_told() {
    let source = "addi a0, x0, -2\nsd a0, 8(t0)\nadd a1, a0, a0";
    let found = difference(source, |region| exchange(region, "sd", "sw a0, 8(t0)"));
    assert_tells(
        &found,
        &[
            "the interpreter makes a store of 0xfffffffffffffffe in 8 bytes at 0x80008008",
            "the JIT has made a store of 0xfffffffe in 4 bytes at 0x80008008",
            "sd a0,8(t0)  <- the last",
        ],
    );
    assert!(!found.to_string().contains("add a1"), "it comes later");
    let found = difference(source, |region| exchange(region, "sd", "sd a0, 16(t0)"));
    assert_tells(&found, &["the JIT has made a store of 0xfffffffffffffffe in 8 bytes at 0x80008010"]);
    let found = difference(source, |region| exchange(region, "sd", "addi x0, x0, 0"));
    assert_tells(&found, &["the JIT has made none"]);
    let found = difference("addi a0, x0, -2", |region| exchange(region, "addi", "sd a0, 8(t0)"));
    assert_tells(&found, &["the interpreter makes no such access"]);
}

#[test]
fn a_wrong_load_is_told() {
    let source = "lw a0, 0(t0)\nsd a0, 256(t0)";
    let found = difference(source, |region| exchange(region, "lw", "lwu a0, 0(t0)"));
    assert_tells(&found, &["store of 0xfffffffffffffffb", "store of 0xfffffffb"]);
    let found = difference(source, |region| exchange(region, "lw", "lw a0, 8(t0)"));
    assert_tells(
        &found,
        &["makes a load of 4 bytes at 0x80008000;", "made a load of 4 bytes at 0x80008008, which gives"],
    );
}

#[test]
fn what_an_atomic_leaves_in_memory_is_compared() {
    let source = "addi a0, x0, 8\naddi a1, t0, 64\namoadd.d a2, a0, (a1)";
    let found = difference(source, |region| exchange(region, "amoadd.d", "amoxor.d a2, a0, (a1)"));
    // It held 3, and 11 since the program has run once.
    assert_tells(&found, &["memory differs", "0x0000000080008040 0x0000000000000013 0x0000000000000003"]);
    let found = difference(&format!("{source}\nld a3, 64(t0)"), |region| {
        exchange(region, "amoadd.d", "amoxor.d a2, a0, (a1)");
    });
    assert_tells(&found, &["other bytes than it had before, or had stored", "ld a3,64(t0)  <- the last"]);
}

#[test]
fn a_wrong_way_is_told() {
    let source = "addi a0, x0, 1\nbeq a0, x0, on\naddi a1, x0, 1\non: addi a2, x0, 1";
    let found = difference(source, |region| exchange(region, "beq", "bne a0, x0, 0x80001008"));
    assert_tells(&found, &["registers differ", "a1 "]);
}

#[test]
fn a_wrong_count_is_told() {
    let found = difference("addi a0, x0, 1\nadd x0, x0, x0", |region| {
        for block in &mut region.blocks {
            block.ops.retain(|op| op.opcode.row().mnemonic != "add");
        }
    });
    assert_tells(&found, &["registers differ", "pc  "]);
}

#[test]
fn a_trap_of_one_alone_is_told() {
    let found = difference("ld a0, 8(t0)", |region| exchange(region, "ld", "ld a0, 8(x0)"));
    assert_tells(
        &found,
        &["the interpreter does not trap as the JIT does: LoadAccessFault (0x8)", "ld a0,8(t0)  <- the last"],
    );
    // The handler is at the start of RAM.
    let found = difference("sub a1, x0, x0\nld a0, 8(a1)", |region| {
        exchange(region, "sub", "add a1, t0, x0");
    });
    assert_tells(&found, &["makes a load of 8 bytes at 0x8;", "made a load of 8 bytes at 0x80008008"]);
}

/// Where accesses have range entries.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_translation_that_outlives_its_fence_is_told() {
    const PAGE: u64 = 8;
    let mut machine = paged_machine(lockstep(1));
    Tables(&machine.ram).map(PAGE, Some(DATA));
    machine.load(CODE, &[0x0005_3583, 0x00b6_0633, RETURN]); // ld a1, (a0); add a2, a2, a1; ret
    machine.hart.set_x(10, PAGE * PAGE_SIZE);
    (0..3).for_each(|_| call(&mut machine, CODE));
    // What a fence does, but for the range entries.
    Tables(&machine.ram).map(PAGE, Some(DATA + PAGE_SIZE));
    machine.hart.tlb.read.fill(crate::tlb::Entry::default());
    machine.hart.set_pc(CODE);
    machine.hart.set_x(1, BASE + 0x2_0000);
    assert_eq!(machine.engine.run(&mut machine.hart, 2000), Stop::Difference);
    let found = machine.hart.take_difference().unwrap();
    assert_tells(&found, &["a load of 8 bytes at 0x8000", "in another page than the one that the address leads to"]);
}

#[test]
fn what_devices_write_meanwhile_is_no_difference() {
    // A loop that counts in memory where somebody else does too.
    let mut machine = Machine::new(lockstep(1));
    machine.load(CODE, COUNTDOWN);
    machine.hart.set_x(10, 1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let ram = machine.ram.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                ram.write(DATA, &[0x55; 8]).unwrap();
            }
        });
        machine.run(200_000);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(machine.statistics().translated > 100_000);
}

#[test]
fn code_that_overwrites_itself_is_believed() {
    let mut machine = Machine::new(lockstep(1));
    // The instruction before the store is no longer what it was when it ran.
    let program = "lui t0, 0x80001\nslli t0, t0, 32\nsrli t0, t0, 32\nlui a1, 0x100\naddi a1, a1, 0x513\n\
                   patched: addi a0, a0, 2\nsw a1, 20(t0)\nend: jal x0, end";
    let bytes = assemble(program, CODE, &ExtensionSet::implemented()).unwrap().bytes;
    machine.ram.write(CODE, &bytes).unwrap();
    machine.run(2000);
    assert_eq!(machine.hart.x(10), 2);
}
