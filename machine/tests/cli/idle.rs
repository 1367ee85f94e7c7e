//! What a guest with nothing to do costs its host.

use std::fs;
use std::time::Duration;

use crate::command::vervet;
use crate::pseudo_terminal::Session;

/// Processor time that a process has used, in the ticks of proc(5): hundredths of a second.
fn processor_ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name in parentheses may hold anything; `utime` is the 14th field, `stime` the 15th.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn eight_harts_that_idle_take_less_than_three_hundredths_of_a_core() {
    const SECONDS: u64 = 10;
    let mut session = Session::start(vervet().args(["run", "--smp", "8", "--engine", "jit"]));
    session.expect("vervet:~# ");
    // What the guest has started, and the compiler's queue, come to their end some time.
    let shares = std::iter::repeat_with(|| {
        let before = processor_ticks(session.child.id());
        std::thread::sleep(Duration::from_secs(SECONDS));
        processor_ticks(session.child.id()) - before
    });
    let busy: Vec<u64> = shares.take(20).take_while(|ticks| *ticks >= 3 * SECONDS).collect();
    assert!(busy.len() < 20, "ticks in each {SECONDS} seconds: {busy:?}");
    session.type_keys(b"poweroff\r");
    assert_eq!(session.end().code(), Some(0));
}
