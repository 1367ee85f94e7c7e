use std::collections::BTreeMap;
use std::sync::Arc;

use bus::{AddressSpace, Clock, Ram};

use super::*;
use crate::extension::ExtensionSet;
use crate::isa::assembler::{Program, assemble};
use crate::{Configuration, EngineKind, Engines, HartBox, HartShared};

const BASE: u64 = 0x8000_0000;
const SIZE: u64 = 0x10_0000;

/// A hart in M-mode with a program at the start of RAM, and its engine.
struct Machine {
    hart: HartBox,
    engine: Engine,
    program: Program,
}

impl Machine {
    fn new(kind: EngineKind, source: &str) -> Self {
        let program = assemble(source, BASE, &ExtensionSet::implemented()).unwrap();
        let ram = Ram::new(BASE, SIZE).unwrap();
        ram.write(BASE, &program.bytes).unwrap();
        let configuration = Configuration {
            extensions: ExtensionSet::implemented(),
            page_table_levels: 5,
            built_in_sbi: false,
            semihosting: None,
            reset_vector: BASE,
        };
        let engines = Engines::new(kind, &ram, &configuration).unwrap();
        let bus = Arc::new(AddressSpace::new(ram));
        let hart = HartBox::new(configuration, Arc::new(HartShared::new(0)), bus, Clock::manual());
        Self { hart, engine: engines.engine(), program }
    }

    fn symbol(&self, name: &str) -> u64 {
        self.program.symbols.iter().find(|(symbol, _)| *symbol == name).unwrap().1.to_owned()
    }

    fn set(&mut self, breakpoints: &[u64], watchpoints: &[Watchpoint]) {
        let points =
            DebugPoints { breakpoints: breakpoints.iter().copied().collect(), watchpoints: watchpoints.to_vec() };
        self.hart.set_debug_points(&Arc::new(points));
    }

    fn run(&mut self, budget: u64) -> Stop {
        self.engine.run(&mut self.hart, budget)
    }

    /// Executes the instruction that the hart has stopped at.
    fn step_on(&mut self) {
        let step = SingleStep { ignores_breakpoint: true, ignores_watchpoints: true, masks_interrupts: false };
        assert_eq!(self.engine.step(&mut self.hart, step), Stop::Budget);
    }
}

fn engines() -> Vec<EngineKind> {
    vec![
        EngineKind::Interpreter,
        #[cfg(feature = "jit")]
        EngineKind::Jit(crate::JitOptions { threshold: 1, ..crate::JitOptions::default() }),
        #[cfg(feature = "jit")]
        EngineKind::Jit(crate::JitOptions { threshold: 2, ..crate::JitOptions::default() }),
    ]
}

/// Functions in several pages that call and jump to each other, in loops.
const PROGRAM: &str = "
            li      s0, 40
    outer:  li      s1, 3
    inner:  call    far
            addi    s1, s1, -1
            bnez    s1, inner
            la      t0, near
            jalr    t0
            addi    s0, s0, -1
            bnez    s0, outer
    end:    j       end
    near:   addi    s2, s2, 1
            ret
            .balign 4096
    far:    andi    t1, s0, 1
            beqz    t1, even
            j       farther
    even:   addi    s3, s3, 1
            ret
            .balign 4096
    farther: addi   s4, s4, 1
            li      t2, 4
    again:  addi    t2, t2, -1
            bnez    t2, again
            ret
";

#[test]
fn every_breakpoint_is_met_each_time_and_exactly() {
    for kind in engines() {
        // What happens, instruction by instruction.
        let mut machine = Machine::new(kind, PROGRAM);
        let end = machine.symbol("end");
        let mut visits: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        while machine.hart.pc() != end {
            visits.entry(machine.hart.pc()).or_default().push(machine.hart.counts().retired);
            machine.step_on();
        }
        assert!(visits.len() > 20, "{visits:?}");
        for (&address, expected) in &visits {
            let mut machine = Machine::new(kind, PROGRAM);
            // Warm: regions and links are there before the breakpoint is.
            let warm = expected[expected.len() / 2];
            assert_eq!(machine.run(warm), Stop::Budget);
            machine.set(&[address, end], &[]);
            let mut met = Vec::new();
            while machine.run(1_000_000) == Stop::Breakpoint && machine.hart.pc() != end {
                assert_eq!(machine.hart.pc(), address, "{kind:?}");
                met.push(machine.hart.counts().retired);
                machine.step_on();
            }
            let expected: Vec<u64> = expected.iter().copied().filter(|retired| *retired >= warm).collect();
            assert_eq!(met, expected, "{kind:?} {address:#x}");
            assert_eq!(machine.hart.pc(), end);
        }
    }
}

#[test]
fn a_breakpoint_that_was_taken_away_is_gone() {
    for kind in engines() {
        let mut machine = Machine::new(kind, PROGRAM);
        let (far, end) = (machine.symbol("far"), machine.symbol("end"));
        machine.set(&[far], &[]);
        assert_eq!(machine.run(1_000_000), Stop::Breakpoint);
        assert_eq!(machine.run(1_000_000), Stop::Breakpoint, "nothing is let through by itself");
        machine.set(&[end], &[]);
        assert_eq!((machine.run(1_000_000), machine.hart.pc()), (Stop::Breakpoint, end));
        assert_eq!((machine.hart.x(18), machine.hart.x(19), machine.hart.x(20)), (40, 60, 60));
    }
}

#[test]
fn breakpoints_in_code_that_rewrites_itself_and_at_addresses_without_memory() {
    const SOURCE: &str = "
                li      s0, 100
        loop:   la      t0, patch
                lw      t1, 0(t0)
                li      t2, 0x00100000
                xor     t1, t1, t2
                sw      t1, 0(t0)
                fence.i
        patch:  addi    s1, s1, 1
                addi    s0, s0, -1
                bnez    s0, loop
                li      t0, 0x1000
                jr      t0
    ";
    for kind in engines() {
        let mut machine = Machine::new(kind, SOURCE);
        let patch = machine.symbol("patch");
        machine.set(&[patch, 0x1000], &[]);
        for visit in 0..100 {
            assert_eq!((machine.run(1_000_000), machine.hart.pc()), (Stop::Breakpoint, patch), "{visit}");
            machine.step_on();
        }
        assert_eq!(machine.hart.x(9), 50, "every second time it adds nothing");
        // There is nothing at 0x1000: the breakpoint comes before the fault.
        assert_eq!((machine.run(1_000_000), machine.hart.pc()), (Stop::Breakpoint, 0x1000));
        assert_eq!(machine.hart.csrs().mcause, 0);
        machine.step_on();
        assert_eq!((machine.hart.csrs().mcause, machine.hart.csrs().mepc), (1, 0x1000));
    }
}

/// One access at `a0` per instruction, in a loop so that all engines are at their best.
const ACCESSES: &str = "
            li      s0, 50
    loop:   lb      t0, 0(a0)
            lw      t0, 0(a0)
            ld      t0, 0(a0)
            sb      zero, 0(a0)
            sd      zero, 0(a0)
            addi    s0, s0, -1
            bnez    s0, loop
            andi    a0, a0, -8
            amoadd.w zero, zero, (a0)
            lr.d    t0, (a0)
            sc.d    t1, zero, (a0)
            cbo.zero (a0)
    end:    j       end
";

/// The bytes that the instruction at `pc` accesses, and how.
fn access_at(hart: &Hart, pc: u64) -> Option<(u64, u64, WatchKind)> {
    let word = hart.ram.load_u32(pc - BASE).unwrap();
    let address = hart.x(10);
    match (word & 0x7f, word >> 12 & 7) {
        (0x03, 0) => Some((address, 1, WatchKind::Read)),
        (0x03, 2) => Some((address, 4, WatchKind::Read)),
        (0x03, 3) => Some((address, 8, WatchKind::Read)),
        (0x23, 0) => Some((address, 1, WatchKind::Write)),
        (0x23, 3) => Some((address, 8, WatchKind::Write)),
        (0x2f, 2) => Some((address, 4, WatchKind::Access)),
        (0x2f, 3) if word >> 27 == 2 => Some((address, 8, WatchKind::Read)),
        (0x2f, 3) => Some((address, 8, WatchKind::Write)),
        (0x0f, 2) => Some((address & !63, 64, WatchKind::Write)),
        _ => None,
    }
}

#[test]
fn watchpoints_stop_before_each_access_to_one_of_their_bytes_and_at_no_other() {
    let data = BASE + 0x8000;
    for kind in engines() {
        for watch in [WatchKind::Read, WatchKind::Write, WatchKind::Access] {
            for (start, length) in [(data + 3, 1), (data - 1, 2), (data + 8, 3), (data - 64, 200), (data, 0)] {
                // Aligned, misaligned, and over the border of a page.
                for address in [data, data + 1, data - 3] {
                    let mut machine = Machine::new(kind, ACCESSES);
                    let end = machine.symbol("end");
                    machine.hart.set_x(10, address);
                    let point = Watchpoint { start, length, kind: watch };
                    machine.set(&[], &[point]);
                    let mut seen = Vec::new();
                    loop {
                        let budget = 1_000_000;
                        let before = machine.hart.counts().retired;
                        match machine.run(budget) {
                            Stop::Watchpoint { address, kind } => {
                                assert_eq!(kind, watch);
                                assert!((start..start + length).contains(&address));
                                seen.push(machine.hart.counts().retired);
                                machine.step_on();
                            }
                            Stop::Budget => break assert_eq!(machine.hart.counts().retired - before, budget),
                            stop => panic!("{stop:?}"),
                        }
                    }
                    let mut reference = Machine::new(EngineKind::Interpreter, ACCESSES);
                    reference.hart.set_x(10, address);
                    let mut expected = Vec::new();
                    while reference.hart.pc() != end {
                        if let Some((first, bytes, kind)) = access_at(&reference.hart, reference.hart.pc()) {
                            let applies = watch.includes(kind);
                            if applies && length > 0 && first < start + length && start < first + bytes {
                                expected.push(reference.hart.counts().retired);
                            }
                        }
                        reference.step_on();
                    }
                    assert_eq!(seen, expected, "{engine:?} {point:x?} {address:#x}", engine = kind);
                }
            }
        }
    }
}

#[test]
fn a_step_takes_traps_and_masks_interrupts_if_told_to() {
    let source = "
                la      t0, handler
                csrw    mtvec, t0
                csrsi   mie, 8
                csrsi   mstatus, 8
                nop
        next:   ecall
                nop
                .balign 4
        handler: j      handler
    ";
    let mut machine = Machine::new(EngineKind::Interpreter, source);
    let handler = machine.symbol("handler");
    for _ in 0..5 {
        machine.step_on();
    }
    let next = machine.symbol("next");
    machine.hart.shared().change_pending(1 << crate::interrupt::MSI, 0);
    let masked = SingleStep { masks_interrupts: true, ..SingleStep::default() };
    assert_eq!(machine.engine.step(&mut machine.hart, masked), Stop::Budget);
    assert_eq!(machine.hart.pc(), next, "the nop");
    machine.step_on();
    assert_eq!((machine.hart.pc(), machine.hart.csrs().mepc), (handler, next), "the interrupt, and no more");
    machine.hart.shared().change_pending(0, 1 << crate::interrupt::MSI);
    machine.hart.set_pc(next);
    machine.step_on();
    assert_eq!((machine.hart.pc(), machine.hart.csrs().mcause), (handler, 11), "the trap");
}

#[test]
fn all_csrs_can_be_inspected_and_edited_from_any_mode() {
    let mut machine = Machine::new(EngineKind::Interpreter, "nop");
    let hart = &mut machine.hart;
    hart.set_privilege(Privilege::User);
    assert_eq!(hart.read_csr(0x340), None, "an instruction could not");
    assert_eq!(hart.edit_csr(0x340, 7), Some(()));
    assert_eq!(hart.inspect_csr(0x340), Some(7));
    assert_eq!(hart.edit_csr(0xf14, 7), None, "read-only");
    assert_eq!((hart.has_csr(0x7ff), hart.inspect_csr(0x7ff)), (false, None));
    assert_eq!(hart.inspect_csr(0x003), Some(0), "though floating point is off");
    assert_eq!(hart.csrs().mstatus, 0, "and stays off");
    assert_eq!((hart.edit_csr(0xb02, 100), hart.inspect_csr(0xb02)), (Some(()), Some(100)));
    // WARL: an unsupported mode leaves satp as it is, a supported one turns on.
    assert_eq!((hart.edit_csr(0x180, 5 << 60), hart.inspect_csr(0x180)), (Some(()), Some(0)));
    assert_eq!((hart.edit_csr(0x180, 8 << 60 | BASE >> 12), hart.page_table_mode()), (Some(()), "Sv39"));
}

#[test]
fn page_tables_are_shown_and_endless_ones_given_up() {
    let mut machine = Machine::new(EngineKind::Interpreter, "nop");
    let hart = &mut machine.hart;
    let root = BASE + 0x1_0000;
    let leaf = |physical: u64| physical >> 12 << 10 | pte::V | pte::R | pte::X;
    // A gigabyte at the top of the address space, and the root itself as next level in slot 1.
    hart.ram.write(root + 8 * 511, &leaf(0x4000_0000).to_le_bytes()).unwrap();
    hart.edit_csr(0x180, 8 << 60 | root >> 12).unwrap();
    let mut found = Vec::new();
    assert!(hart.mappings(10_000, &mut |mapping| found.push(mapping)));
    let [mapping] = found[..] else { panic!("{found:x?}") };
    assert_eq!((mapping.address, mapping.physical, mapping.size), (0xffff_ffff_c000_0000, 0x4000_0000, 1 << 30));
    assert_eq!(mapping.flags(), "r-x----");
    hart.ram.write(root + 8, &(root >> 12 << 10 | pte::V).to_le_bytes()).unwrap();
    assert!(hart.mappings(10_000, &mut |_| ()), "three levels of it end");
    assert!(!hart.mappings(1_000, &mut |_| ()));
}

/// A loop with an instruction and a load that triggers of the program's own are about. Its handler skips what has led to
/// it, and counts in s2.
const TRIGGERED: &str = "
                la      t0, handler
                csrw    mtvec, t0
                csrsi   mstatus, 8
                la      t0, place
                csrw    tdata2, t0
                li      t1, 0x6000000000000044
                csrw    tdata1, t1
                csrwi   tselect, 1
                la      t0, data
                csrw    tdata2, t0
                li      t1, 0x6000000000000041
                csrw    tdata1, t1
                li      s2, 0
    again:      addi    s0, s0, 1
    place:      xori    s1, s1, 1
    load:       ld      a0, 0(t0)
                j       again
    handler:    csrr    s3, mepc
                addi    s3, s3, 4
                csrw    mepc, s3
                addi    s2, s2, 1
                mret
    data:       .dword  0
";

#[test]
fn a_debuggers_points_and_the_guests_triggers_do_not_clash() {
    const S2: usize = 18;
    for kind in engines() {
        let mut machine = Machine::new(kind, TRIGGERED);
        let [place, load, handler, data] = ["place", "load", "handler", "data"].map(|name| machine.symbol(name));
        assert_eq!(machine.run(5_000), Stop::Budget);
        let fired = machine.hart.x(S2);
        assert!(fired > 500, "{kind:?}: {fired}");
        // The debugger comes first; what the guest wants follows when it goes on.
        let watchpoint = Watchpoint { start: data, length: 8, kind: WatchKind::Read };
        machine.set(&[place], &[watchpoint]);
        for _ in 0..3 {
            assert_eq!((machine.run(5_000), machine.hart.pc()), (Stop::Breakpoint, place), "{kind:?}");
            machine.step_on();
            assert_eq!((machine.hart.pc(), machine.hart.csrs().mepc), (handler, place), "{kind:?}");
            let stop = Stop::Watchpoint { address: data, kind: WatchKind::Read };
            assert_eq!((machine.run(5_000), machine.hart.pc()), (stop, load), "{kind:?}");
            machine.step_on();
            assert_eq!((machine.hart.pc(), machine.hart.csrs().mtval), (handler, data), "{kind:?}");
        }
        // Without a debugger, and in another machine, the triggers stay.
        machine.set(&[], &[]);
        let before = machine.hart.x(S2);
        assert_eq!(machine.run(5_000), Stop::Budget);
        assert!(machine.hart.x(S2) > before + 500, "{kind:?}");
        let mut other = Machine::new(kind, TRIGGERED);
        other.hart.restore(machine.hart.save()).unwrap();
        let before = other.hart.x(S2);
        assert_eq!(other.run(5_000), Stop::Budget);
        assert!(other.hart.x(S2) > before + 500, "{kind:?}");
        // A reset takes them away.
        other.hart.reset();
        assert_eq!(other.hart.inspect_csr(0x7a1), Some(0xf << 60));
        other.hart.edit_csr(0x300, 1 << 3).unwrap();
        other.hart.set_pc(place);
        other.step_on();
        assert_eq!(other.hart.pc(), load, "{kind:?}");
    }
}
