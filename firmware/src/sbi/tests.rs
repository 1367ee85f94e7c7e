use bus::{AddressSpace, Ram};
use cpu::csr::{envcfg, mstatus};
use cpu::extension::{Extension, ExtensionSet};
use cpu::{Configuration, HartBox, hpmevent, interrupt};
use sbi_spec::{base, dbcn, fwft, hsm, legacy, pmu as pmu_spec, rfnc, spi, srst, susp as susp_spec, time};

use super::*;

const BASE: u64 = 0x8000_0000;
const SIZE: u64 = 1 << 20;
const MISSING: i64 = -2;
const INVALID: i64 = -3;
const DENIED: i64 = -4;
const ADDRESS: i64 = -5;
const AVAILABLE: i64 = -6;
const LOCKED: i64 = -14;
const SSIP: u64 = 1 << interrupt::SSI;
const STIP: u64 = 1 << interrupt::STI;

/// A console that takes three bytes at a time and has some input.
#[derive(Default)]
struct TestConsole {
    output: Mutex<Vec<u8>>,
    input: Mutex<Vec<u8>>,
    stuck: bool,
}

impl Console for TestConsole {
    fn write(&self, bytes: &[u8]) -> usize {
        let count = if self.stuck { 0 } else { bytes.len().min(3) };
        self.output.lock().unwrap().extend(&bytes[..count]);
        count
    }

    fn read(&self, bytes: &mut [u8]) -> usize {
        let mut input = self.input.lock().unwrap();
        let count = input.len().min(bytes.len());
        bytes[..count].copy_from_slice(&input.drain(..count).collect::<Vec<_>>());
        count
    }
}

struct Machine {
    sbi: Sbi,
    harts: Vec<HartBox>,
    clock: Clock,
    ram: Ram,
    console: Arc<TestConsole>,
}

fn extensions(without: &[Extension]) -> ExtensionSet {
    let mut set = ExtensionSet::implemented();
    without.iter().for_each(|extension| set.disable(*extension));
    set
}

/// A machine whose hart 0 has been started at the base of RAM.
fn machine(count: u64, extensions: ExtensionSet, console: TestConsole) -> Machine {
    let ram = Ram::new(BASE, SIZE).unwrap();
    let bus = Arc::new(AddressSpace::new(ram.clone()));
    let clock = Clock::manual();
    let configuration =
        Configuration { extensions, page_table_levels: 5, built_in_sbi: true, semihosting: None, reset_vector: 0x1000 };
    let shared: Vec<_> = (0..count).map(|id| Arc::new(HartShared::new(id))).collect();
    let console = Arc::new(console);
    let sbi = Sbi::new(&shared, &clock, console.clone());
    let new_hart = |shared| HartBox::new(configuration.clone(), shared, bus.clone(), clock.clone());
    let mut harts: Vec<_> = shared.into_iter().map(new_hart).collect();
    sbi.boot(&mut harts[0], BASE, BASE + 0x1000);
    Machine { sbi, harts, clock, ram, console }
}

impl Machine {
    fn new(count: u64) -> Self {
        machine(count, extensions(&[]), TestConsole::default())
    }

    fn outcome(&mut self, hart: usize, extension: usize, function: usize, arguments: &[u64]) -> Outcome {
        let hart = &mut self.harts[hart];
        for index in 0..6 {
            hart.set_x(10 + index, arguments.get(index).copied().unwrap_or(0x5a5a));
        }
        hart.set_x(16, function as u64);
        hart.set_x(17, extension as u64);
        self.sbi.call(hart)
    }

    /// A call that returns at once: a0, a1.
    #[track_caller]
    fn call_from(&mut self, hart: usize, extension: usize, function: usize, arguments: &[u64]) -> (i64, u64) {
        let before: Vec<u64> = (0..32).map(|r| self.harts[hart].x(r)).collect();
        let outcome = self.outcome(hart, extension, function, arguments);
        assert!(matches!(outcome, Outcome::Continue), "{outcome:?}");
        let hart = &self.harts[hart];
        assert_eq!(hart.privilege(), Privilege::Supervisor);
        assert!((0..32).filter(|r| !(10..18).contains(r)).all(|r| hart.x(r) == before[r]));
        assert!((2..6).all(|index| hart.x(10 + index) == arguments.get(index).copied().unwrap_or(0x5a5a)));
        (hart.x(10) as i64, hart.x(11))
    }

    #[track_caller]
    fn call(&mut self, extension: usize, function: usize, arguments: &[u64]) -> (i64, u64) {
        self.call_from(0, extension, function, arguments)
    }

    fn state(&mut self, hartid: u64) -> u64 {
        self.call(hsm::EID_HSM, hsm::HART_GET_STATUS, &[hartid]).1
    }
}

#[test]
fn the_boot_hart_enters_supervisor_mode_with_everything_open() {
    let machine = Machine::new(1);
    let hart = &machine.harts[0];
    assert_eq!((hart.privilege(), hart.pc()), (Privilege::Supervisor, BASE));
    assert_eq!((hart.x(10), hart.x(11)), (0, BASE + 0x1000));
    let csrs = hart.csrs();
    assert_eq!(csrs.medeleg, 0xb1ff, "all that can be delegated but the S-mode ecall");
    assert_eq!(csrs.mideleg, interrupt::SUPERVISOR | 1 << interrupt::LCOFI);
    assert_eq!((csrs.satp, csrs.mie), (0, 0));
    assert_eq!(mstatus::SIE.get(csrs.mstatus), 0);
    assert_eq!(csrs.mcounteren & 7, 7);
    assert_eq!(envcfg::STCE.get(csrs.menvcfg), 1);
    assert_eq!(envcfg::PBMTE.get(csrs.menvcfg), 1);
    assert_eq!((envcfg::CBIE.get(csrs.menvcfg), envcfg::CBZE.get(csrs.menvcfg)), (3, 1));
    assert_eq!(envcfg::ADUE.get(csrs.menvcfg), 0, "off where both Svade and Svadu are offered");
    // Memory is open to S-mode.
    assert!(hart.probe(BASE).is_ok() && hart.probe(0).is_ok());
    assert!(hart.read_csr(0xc01).is_some(), "time");

    let svadu = self::machine(1, extensions(&[Extension::Svade]), TestConsole::default());
    assert_eq!(envcfg::ADUE.get(svadu.harts[0].csrs().menvcfg), 1, "on where Svadu is alone");
}

#[test]
fn the_base_extension_says_what_there_is() {
    let mut machine = Machine::new(1);
    let mut base = |function, argument| machine.call(base::EID_BASE, function, &[argument]);
    assert_eq!(base(base::GET_SBI_SPEC_VERSION, 0), (0, 0x0300_0000));
    assert_eq!(base(base::GET_SBI_IMPL_VERSION, 0), (0, 0x00_0100));
    for present in [
        0x10,
        time::EID_TIME,
        spi::EID_SPI,
        rfnc::EID_RFNC,
        hsm::EID_HSM,
        srst::EID_SRST,
        dbcn::EID_DBCN,
        fwft::EID_FWFT,
        pmu_spec::EID_PMU,
        susp_spec::EID_SUSP,
        0,
        8,
    ] {
        assert_eq!(base(base::PROBE_EXTENSION, present as u64), (0, 1), "{present:#x}");
    }
    for absent in [9, 0x0053_5345, 0x4350_5043, u64::MAX, 1 << 32] {
        assert_eq!(base(base::PROBE_EXTENSION, absent), (0, 0), "{absent:#x}");
    }
    assert_eq!(base(base::GET_MVENDORID, 0).0, 0);
    assert_eq!(base(7, 0), (MISSING, 0));
}

#[test]
fn absent_extensions_and_functions_are_not_supported() {
    let mut machine = Machine::new(1);
    for extension in [9, 15, 0x504d_5500, 0x0a00_0000, usize::MAX] {
        assert_eq!(machine.call(extension, 0, &[]), (MISSING, 0), "{extension:#x}");
    }
    for extension in [
        time::EID_TIME,
        spi::EID_SPI,
        rfnc::EID_RFNC,
        hsm::EID_HSM,
        srst::EID_SRST,
        dbcn::EID_DBCN,
        fwft::EID_FWFT,
        // Its function 7 is the snapshots'.
        pmu_spec::EID_PMU,
        susp_spec::EID_SUSP,
    ] {
        for function in [7, usize::MAX] {
            assert_eq!(machine.call(extension, function, &[]), (MISSING, 0), "{extension:#x}");
        }
    }
    for hypervisor in 3..7 {
        assert_eq!(machine.call(rfnc::EID_RFNC, hypervisor, &[1, 0]), (MISSING, 0));
    }
}

#[test]
fn the_timer_interrupts_with_and_without_sstc() {
    for without in [&[][..], &[Extension::Sstc]] {
        let mut machine = machine(2, extensions(without), TestConsole::default());
        let timer = |machine: &mut Machine, deadline| machine.call(time::EID_TIME, time::SET_TIMER, &[deadline]);
        assert_eq!(timer(&mut machine, 100), (0, 0));
        machine.clock.advance(99);
        assert_eq!(machine.harts[0].mip() & STIP, 0);
        machine.clock.advance(1);
        assert_eq!(machine.harts[0].mip() & STIP, STIP);
        assert_eq!(machine.harts[1].mip() & STIP, 0);
        timer(&mut machine, 200);
        assert_eq!(machine.harts[0].mip() & STIP, 0, "a new deadline clears the interrupt");
        timer(&mut machine, 50);
        assert_eq!(machine.harts[0].mip() & STIP, STIP, "a passed deadline interrupts at once");
        timer(&mut machine, u64::MAX);
        machine.clock.advance(1 << 60);
        assert_eq!(machine.harts[0].mip() & STIP, 0);
        assert!(matches!(machine.outcome(0, legacy::LEGACY_SET_TIMER, 0, &[1, 77]), Outcome::Continue));
        assert_eq!((machine.harts[0].x(10), machine.harts[0].x(11)), (0, 77), "a legacy call leaves a1 alone");
        assert_eq!(machine.harts[0].mip() & STIP, STIP);
    }
}

#[test]
fn hart_masks_name_harts_that_exist() {
    let mut machine = Machine::new(70);
    for hart in 1..70 {
        machine.call(hsm::EID_HSM, hsm::HART_START, &[hart, BASE, 0]);
    }
    let pending = |machine: &Machine| -> Vec<usize> {
        let all = machine.harts.iter().enumerate();
        let set = all.filter(|(_, hart)| hart.shared().pending() & SSIP != 0).map(|(index, _)| index).collect();
        machine.harts.iter().for_each(|hart| hart.shared().change_pending(0, SSIP));
        set
    };
    let mut send = |mask, base| {
        let (error, _) = machine.call(spi::EID_SPI, spi::SEND_IPI, &[mask, base]);
        (error, pending(&machine))
    };
    assert_eq!(send(0b1011, 0), (0, vec![0, 1, 3]));
    assert_eq!(send(1 << 63 | 1, 6), (0, vec![6, 69]));
    assert_eq!(send(1 << 63, 7), (INVALID, vec![]));
    assert_eq!(send(1, 69), (0, vec![69]));
    assert_eq!(send(2, 69), (INVALID, vec![]));
    assert_eq!(send(0, 70), (INVALID, vec![]));
    assert_eq!(send(1, u64::MAX - 1), (INVALID, vec![]));
    assert_eq!(send(0, 5), (0, vec![]));
    assert_eq!(send(0x1234, u64::MAX), (0, (0..70).collect()));
}

#[test]
fn interrupts_do_not_reach_stopped_harts() {
    let mut machine = Machine::new(2);
    assert_eq!(machine.call(spi::EID_SPI, spi::SEND_IPI, &[3, 0]), (0, 0));
    assert_eq!(machine.harts[1].shared().pending() & SSIP, 0);
    assert!(matches!(machine.outcome(0, legacy::LEGACY_CLEAR_IPI, 0, &[]), Outcome::Continue));
    assert_eq!(machine.harts[0].x(10), 1, "one had been pending");
    let _ = machine.outcome(0, legacy::LEGACY_CLEAR_IPI, 0, &[]);
    assert_eq!(machine.harts[0].x(10), 0);
}

#[test]
fn harts_start_and_stop() {
    let mut machine = Machine::new(2);
    let start =
        |machine: &mut Machine, hart, address| machine.call(hsm::EID_HSM, hsm::HART_START, &[hart, address, 0xabcd]).0;
    assert_eq!(machine.state(0), hsm::hart_state::STARTED as u64);
    assert_eq!(machine.state(1), hsm::hart_state::STOPPED as u64);
    assert_eq!(machine.call(hsm::EID_HSM, hsm::HART_GET_STATUS, &[2]), (INVALID, 0));
    assert!(machine.sbi.wake(&mut machine.harts[0]) && !machine.sbi.wake(&mut machine.harts[1]));

    assert_eq!(start(&mut machine, 2, BASE), INVALID);
    assert_eq!(start(&mut machine, 0, BASE), AVAILABLE);
    for outside in [BASE - 2, BASE + SIZE, BASE + 1, 0x1000_0000, u64::MAX] {
        assert_eq!(start(&mut machine, 1, outside), ADDRESS, "{outside:#x}");
    }
    assert_eq!(start(&mut machine, 1, BASE + 0x40), 0);
    assert_eq!(machine.state(1), hsm::hart_state::START_PENDING as u64);
    assert_eq!(start(&mut machine, 1, BASE), AVAILABLE);
    assert_ne!(machine.harts[1].shared().events(), 0, "its thread is woken");
    machine.harts[1].set_x(5, 1);
    assert!(machine.sbi.wake(&mut machine.harts[1]));
    assert_eq!(machine.state(1), hsm::hart_state::STARTED as u64);
    let hart = &machine.harts[1];
    assert_eq!((hart.pc(), hart.x(10), hart.x(11)), (BASE + 0x40, 1, 0xabcd));
    assert_eq!(hart.privilege(), Privilege::Supervisor);

    assert!(matches!(machine.outcome(1, hsm::EID_HSM, hsm::HART_STOP, &[]), Outcome::Rest));
    assert!(!machine.sbi.wake(&mut machine.harts[1]));
    assert_eq!(machine.state(1), hsm::hart_state::STOPPED as u64);
    assert_eq!(start(&mut machine, 1, BASE), 0);
}

#[test]
fn a_suspended_hart_wakes_by_an_interrupt() {
    let mut machine = Machine::new(1);
    let suspend = |machine: &mut Machine, kind, address| {
        machine.outcome(0, hsm::EID_HSM, hsm::HART_SUSPEND, &[kind, address, 0xabcd])
    };
    machine.harts[0].write_csr(0x104, SSIP).unwrap(); // sie
    machine.harts[0].set_pc(BASE + 0x100);
    assert!(matches!(suspend(&mut machine, 0, 0), Outcome::Rest));
    assert!(!machine.sbi.wake(&mut machine.harts[0]));
    machine.harts[0].shared().change_pending(SSIP, 0);
    assert!(machine.sbi.wake(&mut machine.harts[0]));
    assert_eq!((machine.harts[0].pc(), machine.harts[0].x(10), machine.harts[0].x(11)), (BASE + 0x100, 0, 0));

    machine.harts[0].write_csr(0x180, 8 << 60 | 5).unwrap(); // satp
    machine.harts[0].write_csr(0x100, 2).unwrap(); // sstatus.SIE
    let scounteren = machine.harts[0].csrs().scounteren;
    assert!(matches!(suspend(&mut machine, 0xffff_ffff_8000_0000, BASE + 0x200), Outcome::Rest));
    assert!(machine.sbi.wake(&mut machine.harts[0]));
    let hart = &machine.harts[0];
    assert_eq!((hart.pc(), hart.x(10), hart.x(11)), (BASE + 0x200, 0, 0xabcd));
    assert_eq!((hart.csrs().satp, hart.csrs().mstatus & 2), (0, 0));
    assert_eq!(hart.csrs().scounteren, scounteren);

    let mut error = |kind, address| machine.call(hsm::EID_HSM, hsm::HART_SUSPEND, &[kind, address]).0;
    assert_eq!(error(1, 0), INVALID);
    assert_eq!(error(0x1000_0000, 0), INVALID);
    assert_eq!(error(0x9000_0000, BASE), INVALID);
    assert_eq!(error(0x8000_0000, 0x10), ADDRESS);
}

#[test]
fn fences_are_complete_when_every_target_has_served_them() {
    let mut machine = Machine::new(3);
    machine.call(hsm::EID_HSM, hsm::HART_START, &[1, BASE, 0]);
    machine.sbi.wake(&mut machine.harts[1]);
    for (function, arguments) in [
        (rfnc::REMOTE_FENCE_I, vec![0, u64::MAX]),
        (rfnc::REMOTE_SFENCE_VMA, vec![3, 0, 0x1000, 0x2000]),
        (rfnc::REMOTE_SFENCE_VMA_ASID, vec![3, 0, u64::MAX, u64::MAX, 5]),
    ] {
        let Outcome::Fence(fence) = machine.outcome(0, rfnc::EID_RFNC, function, &arguments) else { panic!() };
        assert_eq!((machine.harts[0].x(10), machine.harts[0].x(11)), (0, 0));
        assert!(!fence.is_complete());
        machine.harts[0].serve_requests();
        assert!(!fence.is_complete(), "hart 1 has not served it");
        machine.harts[1].serve_requests();
        assert!(fence.is_complete(), "hart 2 is stopped");
    }
    assert_eq!(machine.call(rfnc::EID_RFNC, rfnc::REMOTE_FENCE_I, &[8, 0]), (INVALID, 0));
}

/// Two harts that fence each other a thousand times at once get done, and one that waits can be paused.
#[test]
fn harts_that_fence_each_other_do_not_wait_for_ever() {
    let mut machine = Machine::new(2);
    machine.call(hsm::EID_HSM, hsm::HART_START, &[1, BASE, 0]);
    machine.sbi.wake(&mut machine.harts[1]);
    let Machine { sbi, mut harts, .. } = machine;
    let (first, second) = harts.split_at_mut(1);
    let finished = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for hart in [&mut first[0], &mut second[0]] {
            scope.spawn(|| {
                let hart = hart;
                for _ in 0..1000 {
                    hart.set_x(10, 0);
                    hart.set_x(11, u64::MAX);
                    hart.set_x(16, rfnc::REMOTE_FENCE_I as u64);
                    hart.set_x(17, rfnc::EID_RFNC as u64);
                    let Outcome::Fence(fence) = sbi.call(hart) else { panic!() };
                    assert!(fence.wait(hart));
                }
                finished.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                while finished.load(std::sync::atomic::Ordering::SeqCst) < 2 {
                    hart.serve_requests();
                }
            });
        }
    });
    let hart = &mut harts[0];
    hart.set_x(10, 0);
    hart.set_x(11, u64::MAX);
    hart.set_x(16, rfnc::REMOTE_FENCE_I as u64);
    hart.set_x(17, rfnc::EID_RFNC as u64);
    let Outcome::Fence(fence) = sbi.call(hart) else { panic!() };
    hart.shared().raise(cpu::event::PAUSE);
    assert!(!fence.wait(hart));
    harts[1].serve_requests();
    assert!(fence.wait(&mut harts[0]));
}

#[test]
fn the_system_resets_as_asked() {
    let mut machine = Machine::new(1);
    let mut power = |kind, reason| match machine.outcome(0, srst::EID_SRST, srst::SYSTEM_RESET, &[kind, reason]) {
        Outcome::Power(request) => Ok(request),
        _ => Err(machine.harts[0].x(10) as i64),
    };
    assert_eq!(power(0, 0), Ok(PowerRequest::Off(0)));
    assert_eq!(power(0, 1), Ok(PowerRequest::Off(1)));
    assert_eq!(power(1, 0), Ok(PowerRequest::Reset));
    assert_eq!(power(2, 0xe000_0000), Ok(PowerRequest::Reset));
    assert_eq!(power(3, 0), Err(INVALID));
    assert_eq!(power(0xefff_ffff, 0), Err(INVALID));
    assert_eq!(power(0xf000_0000, 0), Err(MISSING));
    assert_eq!(power(1 << 32, 0), Err(INVALID));
    assert_eq!(power(0, 2), Err(INVALID));
    assert_eq!(power(0, 0xdfff_ffff), Err(INVALID));
    assert!(matches!(machine.outcome(0, legacy::LEGACY_SHUTDOWN, 0, &[]), Outcome::Power(PowerRequest::Off(0))));
}

#[test]
fn the_debug_console_moves_bytes_of_ram() {
    let mut machine = Machine::new(1);
    machine.ram.write(BASE + SIZE - 5, b"hello").unwrap();
    let call = |machine: &mut Machine, function, length, low, high| {
        machine.call(dbcn::EID_DBCN, function, &[length, low, high])
    };
    assert_eq!(call(&mut machine, dbcn::CONSOLE_WRITE, 5, BASE + SIZE - 5, 0), (0, 3), "it took three");
    assert_eq!(*machine.console.output.lock().unwrap(), b"hel");
    assert_eq!(machine.call(dbcn::EID_DBCN, dbcn::CONSOLE_WRITE_BYTE, &[0xff21]), (0, 0));
    assert_eq!(machine.console.output.lock().unwrap().pop(), Some(b'!'));

    machine.console.input.lock().unwrap().extend(b"abcdef");
    assert_eq!(call(&mut machine, dbcn::CONSOLE_READ, 4, BASE + 3, 0), (0, 4));
    let mut bytes = [0; 6];
    machine.ram.read(BASE + 2, &mut bytes).unwrap();
    assert_eq!(bytes, *b"\0abcd\0");
    assert!(matches!(machine.outcome(0, legacy::LEGACY_CONSOLE_GETCHAR, 0, &[]), Outcome::Continue));
    assert_eq!(machine.harts[0].x(10), u64::from(b'e'));
    assert_eq!(call(&mut machine, dbcn::CONSOLE_READ, 1 << 19, BASE, 0), (0, 1));
    assert_eq!(call(&mut machine, dbcn::CONSOLE_READ, 4, BASE, 0), (0, 0));
    let _ = machine.outcome(0, legacy::LEGACY_CONSOLE_GETCHAR, 0, &[]);
    assert_eq!(machine.harts[0].x(10), u64::MAX);

    for function in [dbcn::CONSOLE_WRITE, dbcn::CONSOLE_READ] {
        assert_eq!(call(&mut machine, function, 0, 0, 0), (0, 0), "nothing is nowhere");
        for (length, low, high) in [
            (6, BASE + SIZE - 5, 0),
            (1, BASE - 1, 0),
            (1, BASE, 1),
            (u64::MAX, BASE, 0),
            (SIZE + 1, BASE, 0),
            (2, u64::MAX, 0),
            (1, 0x1000_0000, 0),
        ] {
            assert_eq!(call(&mut machine, function, length, low, high), (INVALID, 0), "{length:#x} {low:#x} {high:#x}");
        }
    }
}

#[test]
fn a_byte_for_a_full_console_is_tried_again() {
    let stuck = TestConsole { stuck: true, ..TestConsole::default() };
    let mut machine = machine(1, extensions(&[]), stuck);
    for (extension, function) in [(dbcn::EID_DBCN, dbcn::CONSOLE_WRITE_BYTE), (legacy::LEGACY_CONSOLE_PUTCHAR, 0)] {
        machine.harts[0].set_pc(BASE + 0x104);
        assert!(matches!(machine.outcome(0, extension, function, &[33, 44]), Outcome::Continue));
        let hart = &machine.harts[0];
        assert_eq!((hart.pc(), hart.x(10), hart.x(11)), (BASE + 0x100, 33, 44));
    }
}

#[test]
fn firmware_features() {
    use fwft::feature_type::*;
    let mut machine = Machine::new(2);
    let set = |machine: &mut Machine, feature: usize, value, flags| {
        machine.call(fwft::EID_FWFT, fwft::SET, &[feature as u64, value, flags])
    };
    let get = |machine: &mut Machine, feature: usize| machine.call(fwft::EID_FWFT, fwft::GET, &[feature as u64]);
    assert_eq!(get(&mut machine, PTE_AD_HW_UPDATING), (0, 0));
    assert_eq!(set(&mut machine, PTE_AD_HW_UPDATING, 1, 0), (0, 0));
    assert_eq!(get(&mut machine, PTE_AD_HW_UPDATING), (0, 1));
    assert_eq!(envcfg::ADUE.get(machine.harts[0].csrs().menvcfg), 1);
    assert_eq!(envcfg::ADUE.get(machine.harts[1].csrs().menvcfg), 0, "features are local");
    assert_eq!(set(&mut machine, PTE_AD_HW_UPDATING, 2, 0), (INVALID, 0));
    assert_eq!(set(&mut machine, PTE_AD_HW_UPDATING, 0, 2), (INVALID, 0));
    assert_eq!(set(&mut machine, PTE_AD_HW_UPDATING, 0, 1), (0, 0));
    assert_eq!(set(&mut machine, PTE_AD_HW_UPDATING, 1, 0), (LOCKED, 0));
    assert_eq!(get(&mut machine, PTE_AD_HW_UPDATING), (0, 0));

    assert_eq!(get(&mut machine, MISALIGNED_EXC_DELEG), (0, 1));
    assert_eq!(set(&mut machine, MISALIGNED_EXC_DELEG, 1, 0), (0, 0));
    assert_eq!(set(&mut machine, MISALIGNED_EXC_DELEG, 0, 0), (DENIED, 0));
    for missing in [LANDING_PAD, SHADOW_STACK, DOUBLE_TRAP] {
        assert_eq!(get(&mut machine, missing), (MISSING, 0));
        assert_eq!(set(&mut machine, missing, 1, 0), (MISSING, 0));
    }
    for (asked, given) in [(0, 0), (1, 7), (7, 7), (8, 16), (16, 16), (0, 0)] {
        assert_eq!(set(&mut machine, POINTER_MASKING_PMLEN, asked, 0), (0, 0));
        assert_eq!(get(&mut machine, POINTER_MASKING_PMLEN), (0, given));
    }
    assert_eq!(set(&mut machine, POINTER_MASKING_PMLEN, 17, 0), (INVALID, 0));
    for reserved in [6, 0x4000_0000, 0x8000_0000, 0xffff_ffff, 1 << 40] {
        assert_eq!(get(&mut machine, reserved), (DENIED, 0));
        assert_eq!(set(&mut machine, reserved, 0, 0), (DENIED, 0));
    }
    let mut svade = self::machine(1, extensions(&[Extension::Svadu]), TestConsole::default());
    assert_eq!(get(&mut svade, PTE_AD_HW_UPDATING), (MISSING, 0));
}

#[test]
fn a_lock_ends_with_the_hart() {
    let mut machine = Machine::new(2);
    let feature = fwft::feature_type::PTE_AD_HW_UPDATING as u64;
    for _ in 0..2 {
        machine.call(hsm::EID_HSM, hsm::HART_START, &[1, BASE, 0]);
        machine.sbi.wake(&mut machine.harts[1]);
        assert_eq!(machine.call_from(1, fwft::EID_FWFT, fwft::SET, &[feature, 1, 1]), (0, 0));
        let _ = machine.outcome(1, hsm::EID_HSM, hsm::HART_STOP, &[]);
    }
}

#[test]
fn legacy_hart_masks_are_in_memory() {
    let mut machine = Machine::new(2);
    machine.call(hsm::EID_HSM, hsm::HART_START, &[1, BASE, 0]);
    machine.ram.write(BASE + 0x100, &2_u64.to_le_bytes()).unwrap();
    let _ = machine.outcome(0, legacy::LEGACY_SEND_IPI, 0, &[BASE + 0x100]);
    assert_eq!(machine.harts[0].x(10), 0);
    assert_eq!(machine.harts.iter().map(|hart| hart.shared().pending() & SSIP).collect::<Vec<_>>(), [0, SSIP]);
    let Outcome::Fence(fence) = machine.outcome(0, legacy::LEGACY_REMOTE_SFENCE_VMA_ASID, 0, &[0, 0, 0, 1]) else {
        panic!()
    };
    machine.harts.iter_mut().for_each(|hart| hart.serve_requests());
    assert!(fence.is_complete());

    // A mask that is nowhere is a fault of the call.
    let hart = &mut machine.harts[0];
    hart.write_csr(0x105, BASE + 0x800).unwrap(); // stvec
    hart.write_csr(0x100, 2).unwrap(); // sstatus.SIE
    hart.set_pc(BASE + 0x44);
    let _ = machine.outcome(0, legacy::LEGACY_REMOTE_FENCE_I, 0, &[0x10]);
    let hart = &machine.harts[0];
    assert_eq!((hart.pc(), hart.x(10)), (BASE + 0x800, 0x10));
    let csrs = hart.csrs();
    assert_eq!((csrs.sepc, csrs.scause, csrs.stval), (BASE + 0x40, 5, 0x10));
    let status = csrs.mstatus;
    assert_eq!((mstatus::SIE.get(status), mstatus::SPIE.get(status), mstatus::SPP.get(status)), (0, 1, 1));
}

#[test]
fn the_state_goes_over_to_another_machine() {
    let without_sstc = extensions(&[Extension::Sstc]);
    let mut first = machine(3, without_sstc, TestConsole::default());
    first.call(hsm::EID_HSM, hsm::HART_START, &[1, BASE + 0x40, 7]);
    first.call(time::EID_TIME, time::SET_TIMER, &[100]);
    let feature = fwft::feature_type::MISALIGNED_EXC_DELEG as u64;
    first.call(fwft::EID_FWFT, fwft::SET, &[feature, 1, 1]);
    let bytes = bus::save("sbi", &first.sbi.save()).unwrap();

    let mut second = machine(3, without_sstc, TestConsole::default());
    second.sbi.restore(bus::restore("sbi", &bytes).unwrap()).unwrap();
    assert!(second.sbi.wake(&mut second.harts[1]) && !second.sbi.wake(&mut second.harts[2]));
    assert_eq!((second.harts[1].pc(), second.harts[1].x(11)), (BASE + 0x40, 7));
    second.clock.advance(100);
    assert_eq!(second.harts[0].mip() & STIP, STIP);
    assert_eq!(second.call(fwft::EID_FWFT, fwft::SET, &[feature, 1, 0]), (LOCKED, 0));
    let other = machine(2, without_sstc, TestConsole::default());
    assert!(other.sbi.restore(first.sbi.save()).is_err());

    second.sbi.reset();
    assert!(!second.sbi.wake(&mut second.harts[1]));
    second.clock.advance(1000);
}

/// Counters as a supervisor's driver uses them.
#[test]
fn counters_are_handed_out_started_and_stopped() {
    use pmu_spec::*;
    const STARTED: i64 = -7;
    const STOPPED: i64 = -8;
    const ALL: u64 = 0xffff_ffff_ffff;
    let mut machine = Machine::new(2);
    let pmu = |machine: &mut Machine, function, arguments: &[u64]| machine.call(EID_PMU, function, arguments);
    assert_eq!(pmu(&mut machine, NUM_COUNTERS, &[]), (0, 48));
    assert_eq!(pmu(&mut machine, COUNTER_GET_INFO, &[0]), (0, 0x3fc00));
    assert_eq!(pmu(&mut machine, COUNTER_GET_INFO, &[3]), (0, 0x3fc03));
    assert_eq!(pmu(&mut machine, COUNTER_GET_INFO, &[1]), (INVALID, 0), "time is none");
    assert_eq!(pmu(&mut machine, COUNTER_GET_INFO, &[47]), (0, 1 << 63 | 0x3f000));
    assert_eq!(pmu(&mut machine, COUNTER_GET_INFO, &[48]), (INVALID, 0));

    let configure = |machine: &mut Machine, mask, flags, event| {
        machine.call(EID_PMU, COUNTER_CONFIG_MATCHING, &[0, mask, flags, event, 0])
    };
    let instructions = hardware_event::INSTRUCTIONS as u64;
    // Cleared, not in S-mode: SET_SINH.
    assert_eq!(configure(&mut machine, ALL, 2 | 1 << 6, instructions), (0, 3), "the first that can be programmed");
    assert_eq!(machine.harts[0].csrs().mhpmevent[0], 2 | hpmevent::OF | hpmevent::SINH);
    assert_eq!(machine.harts[0].csrs().mcountinhibit, 1 << 3);
    assert_eq!(configure(&mut machine, ALL, 0, hardware_event::CPU_CYCLES as u64), (0, 4));
    assert_eq!(configure(&mut machine, ALL, 0, hardware_event::BRANCH_MISSES as u64), (MISSING, 0));
    assert_eq!(configure(&mut machine, 1 << 4, 0, instructions), (MISSING, 0), "taken");
    assert_eq!(configure(&mut machine, 1 << 50, 0, instructions), (INVALID, 0));
    assert_eq!(configure(&mut machine, 0, 0, instructions), (INVALID, 0));
    assert_eq!(configure(&mut machine, ALL, 1 << 8, instructions), (INVALID, 0), "a flag that is none");
    // DTLB read misses; a raw event.
    assert_eq!(configure(&mut machine, ALL, 0, 1 << 16 | 3 << 3 | 1), (0, 5));
    assert_eq!(machine.harts[0].csrs().mhpmevent[2] & 0xff, 3);
    assert_eq!(machine.call(EID_PMU, COUNTER_CONFIG_MATCHING, &[0, ALL, 0, 2 << 16, 6]), (0, 6));
    assert_eq!(machine.call(EID_PMU, COUNTER_CONFIG_MATCHING, &[0, ALL, 0, 2 << 16, 99]), (MISSING, 0));
    // Skipping the match needs an event; then flags alone count.
    assert_eq!(configure(&mut machine, 1 << 9, 1, 0), (INVALID, 0));
    assert_eq!(configure(&mut machine, 1 << 4, 1 | 4, 0), (0, 4));
    assert_eq!(machine.harts[0].csrs().mcountinhibit & 1 << 4, 0, "started");

    assert_eq!(pmu(&mut machine, COUNTER_START, &[3, 1, 1, -5_i64 as u64]), (0, 0));
    assert_eq!(machine.harts[0].csrs().mhpmevent[0] & hpmevent::OF, 0, "it may interrupt");
    assert_eq!(as_machine(&mut machine.harts[0], |hart| hart.read_csr(0xb03)), Some(-5_i64 as u64));
    assert_eq!(pmu(&mut machine, COUNTER_START, &[3, 1, 0]), (STARTED, 0));
    assert_eq!(pmu(&mut machine, COUNTER_START, &[9, 1, 0]), (INVALID, 0), "it has no event");
    assert_eq!(pmu(&mut machine, COUNTER_START, &[3, 1, 2]).0, -9, "no shared memory");
    assert_eq!(pmu(&mut machine, COUNTER_STOP, &[3, 1, 0]), (0, 0));
    assert_eq!(pmu(&mut machine, COUNTER_STOP, &[3, 1, 1]), (STOPPED, 0));
    assert_eq!(configure(&mut machine, ALL, 0, instructions), (0, 3), "given back");
    assert_eq!(pmu(&mut machine, SNAPSHOT_SET_SHMEM, &[0, 0, 0]), (MISSING, 0));
}

#[test]
fn firmware_events_are_counted_where_they_happen() {
    use pmu_spec::*;
    const FIRMWARE: u64 = 15 << 16;
    let mut machine = Machine::new(2);
    machine.call(hsm::EID_HSM, hsm::HART_START, &[1, BASE, 0]);
    machine.sbi.wake(&mut machine.harts[1]);
    let configure = |machine: &mut Machine, hart, event: usize| {
        // Started at once.
        let arguments = [32, 0xffff, 2 | 4, FIRMWARE | event as u64, 0];
        machine.call_from(hart, EID_PMU, COUNTER_CONFIG_MATCHING, &arguments)
    };
    let read = |machine: &mut Machine, hart, index| machine.call_from(hart, EID_PMU, COUNTER_FW_READ, &[index]);
    assert_eq!(configure(&mut machine, 0, firmware_event::SET_TIMER), (0, 32));
    assert_eq!(configure(&mut machine, 0, firmware_event::IPI_SENT), (0, 33));
    assert_eq!(configure(&mut machine, 1, firmware_event::IPI_RECEIVED), (0, 32));
    assert_eq!(configure(&mut machine, 1, firmware_event::FENCE_I_RECEIVED), (0, 33));
    assert_eq!(configure(&mut machine, 0, firmware_event::PLATFORM), (MISSING, 0));
    for deadline in 1..4 {
        machine.call(time::EID_TIME, time::SET_TIMER, &[deadline]);
    }
    machine.call(spi::EID_SPI, spi::SEND_IPI, &[2, 0]);
    let Outcome::Fence(_) = machine.outcome(0, rfnc::EID_RFNC, rfnc::REMOTE_FENCE_I, &[2, 0]) else { panic!() };
    assert_eq!((read(&mut machine, 0, 32), read(&mut machine, 0, 33)), ((0, 3), (0, 1)));
    assert_eq!((read(&mut machine, 1, 32), read(&mut machine, 1, 33)), ((0, 1), (0, 1)));
    // A counter that stands still keeps its value, and goes on from it or from another one.
    assert_eq!(machine.call(EID_PMU, COUNTER_STOP, &[32, 1, 0]), (0, 0));
    machine.call(time::EID_TIME, time::SET_TIMER, &[9]);
    assert_eq!(read(&mut machine, 0, 32), (0, 3));
    assert_eq!(machine.call(EID_PMU, COUNTER_START, &[32, 1, 0, 77]), (0, 0));
    machine.call(time::EID_TIME, time::SET_TIMER, &[9]);
    assert_eq!(read(&mut machine, 0, 32), (0, 4));
    assert_eq!(machine.call(EID_PMU, COUNTER_STOP, &[32, 1, 0]), (0, 0));
    assert_eq!(machine.call(EID_PMU, COUNTER_START, &[32, 1, 1, 77]), (0, 0));
    assert_eq!(read(&mut machine, 0, 32), (0, 77));
    assert_eq!(machine.call(EID_PMU, COUNTER_STOP, &[32, 1, 1]), (0, 0));
    assert_eq!(read(&mut machine, 0, 32), (INVALID, 0), "it has no event any more");
    assert_eq!(read(&mut machine, 0, 3), (INVALID, 0));
}

#[test]
fn events_are_asked_about_in_memory() {
    use pmu_spec::*;
    let mut machine = Machine::new(1);
    let place = BASE + 0x4000;
    for (index, event) in [1_u32, 6, 15 << 16 | 5, 2 << 16].into_iter().enumerate() {
        let mut entry = [0xff; 16];
        entry[..4].copy_from_slice(&event.to_le_bytes());
        entry[8..].copy_from_slice(&7_u64.to_le_bytes());
        machine.ram.write(place + 16 * index as u64, &entry).unwrap();
    }
    assert_eq!(machine.call(EID_PMU, EVENT_GET_INFO, &[place, 0, 4, 0]), (0, 0));
    let answers = [0, 1, 2, 3].map(|index| {
        let mut word = [0; 4];
        machine.ram.read(place + 16 * index + 4, &mut word).unwrap();
        u32::from_le_bytes(word)
    });
    assert_eq!(answers, [1, 0, 1, 1]);
    for (arguments, error) in [
        ([place, 0, 4, 1], INVALID),
        ([place + 8, 0, 1, 0], INVALID),
        ([place, 0, 1 << 40, 0], INVALID),
        ([0, 0, 1, 0], ADDRESS),
        ([place, 1, 1, 0], ADDRESS),
    ] {
        assert_eq!(machine.call(EID_PMU, EVENT_GET_INFO, &arguments), (error, 0));
    }
}

#[test]
fn the_system_sleeps_when_all_other_harts_are_stopped() {
    let mut machine = Machine::new(2);
    let suspend = |machine: &mut Machine, kind, address| {
        machine.outcome(0, susp_spec::EID_SUSP, susp_spec::SUSPEND, &[kind, address, 0xabcd])
    };
    machine.call(hsm::EID_HSM, hsm::HART_START, &[1, BASE, 0]);
    machine.sbi.wake(&mut machine.harts[1]);
    assert!(matches!(suspend(&mut machine, 0, BASE), Outcome::Continue));
    assert_eq!(machine.harts[0].x(10) as i64, DENIED);
    assert!(matches!(machine.outcome(1, hsm::EID_HSM, hsm::HART_STOP, &[]), Outcome::Rest));
    let mut error = |kind, address| machine.call(susp_spec::EID_SUSP, susp_spec::SUSPEND, &[kind, address]).0;
    assert_eq!(error(1, BASE), INVALID);
    assert_eq!(error(0x8000_0000, BASE), INVALID);
    assert_eq!(error(0, 0x1000), ADDRESS);
    machine.harts[0].write_csr(0x104, SSIP).unwrap(); // sie
    assert!(matches!(suspend(&mut machine, 0, BASE + 0x300), Outcome::Rest));
    assert!(!machine.sbi.wake(&mut machine.harts[0]));
    machine.harts[0].shared().change_pending(SSIP, 0);
    assert!(machine.sbi.wake(&mut machine.harts[0]));
    let hart = &machine.harts[0];
    assert_eq!((hart.pc(), hart.x(10), hart.x(11)), (BASE + 0x300, 0, 0xabcd));
}
