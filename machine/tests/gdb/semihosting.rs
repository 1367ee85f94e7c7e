//! Semihosting under a debugger: calls are stepped over, wait and go on, and can be left.

use std::time::{Duration, Instant};

use crate::debugger::{Debugger, Machine, engines};

/// Reads two characters, writes both, ends with the first one's code.
const READ: &str = "
    start:  li      a0, 7
            call    semihost
            mv      s2, a0
    second: li      a0, 7
            call    semihost
    got:    la      s1, text
            sb      s2, 0(s1)
            sb      a0, 1(s1)
            li      a0, 4
            la      a1, text
            call    semihost
            la      a1, exit
            sd      s2, 8(a1)
            li      a0, 0x18
            call    semihost
            .balign 16
    semihost: slli  zero, zero, 0x1f
    call:   ebreak
    behind: srai    zero, zero, 7
            ret
            .balign 8
    exit:   .dword  0x20026, 0
    text:   .dword  0
";

const A0: usize = 10;
const S2: usize = 18;
const PC: usize = 32;

/// Lets the machine run until it waits in a call, and interrupts it there.
#[track_caller]
fn run_into(debugger: &mut Debugger, call: u64) {
    let start = Instant::now();
    loop {
        debugger.tell("vCont;c");
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(debugger.interrupt(), "T02thread:p01.01;");
        if debugger.pc() == call {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it never makes the call");
    }
}

#[test]
fn a_call_that_waits_is_found_at_its_ebreak_and_goes_on() {
    for engine in engines() {
        let mut machine = Machine::semihosting(engine, READ);
        let mut debugger = machine.attach();
        let (call, behind) = (machine.symbol("call"), machine.symbol("behind"));
        for _ in 0..3 {
            run_into(&mut debugger, call);
            assert_eq!(debugger.register(A0), 7);
        }
        // A step over it waits, too; a breakpoint at it has been passed.
        debugger.ok(&format!("Z0,{call:x},4"));
        debugger.tell("vCont;s:p1.1");
        std::thread::sleep(Duration::from_millis(20));
        machine.console.type_in(b"*");
        assert_eq!(debugger.packet().as_deref(), Some("T05thread:p01.01;"));
        assert_eq!((debugger.pc(), debugger.register(A0)), (behind, u64::from(b'*')));
        assert_eq!(debugger.ask("vCont;c"), "T05thread:p01.01;swbreak:;");
        assert_eq!((debugger.pc(), debugger.register(A0)), (call, 7));
        machine.console.type_in(b"+");
        debugger.ok(&format!("z0,{call:x},4"));
        assert_eq!(debugger.ask("vCont;c"), "W2a");
        assert_eq!(machine.exit_code(), 0x2a);
        assert_eq!(machine.console.output(), b"*+");
    }
}

#[test]
fn a_hart_that_is_moved_forgets_its_call() {
    for engine in engines() {
        let mut machine = Machine::semihosting(engine, READ);
        let mut debugger = machine.attach();
        run_into(&mut debugger, machine.symbol("call"));
        // Instead of the character that did not come: 'a', and 'b'.
        debugger.set_register(S2, u64::from(b'a'));
        debugger.set_register(A0, u64::from(b'b'));
        debugger.set_register(PC, machine.symbol("got"));
        assert_eq!(debugger.ask("vCont;c"), "W61");
        assert_eq!(machine.exit_code(), b'a');
        assert_eq!(machine.console.output(), b"ab");
    }
}
