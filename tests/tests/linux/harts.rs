//! Linux on several harts, which come and go.

use cpu::{EngineKind, JitOptions};
use devices::backend::memory::MemoryBackend;
use machine::board::virt::Virt;

use crate::guest::{Guest, MEMORY, kernel};

#[test]
fn eight_harts_go_offline_and_come_back() {
    let console = MemoryBackend::new();
    let engine = EngineKind::Jit(JitOptions::default());
    let virt = Virt { memory: MEMORY, harts: 8, engine, console: console.clone(), ..Virt::new(kernel()) };
    let mut guest = Guest { board: virt.build().unwrap(), console };
    guest.boot();
    let online = |guest: &Guest, expected: &str| {
        let answer = guest.run("cat /sys/devices/system/cpu/online");
        assert!(answer.lines().any(|line| line.trim() == expected), "{answer}");
    };
    online(&guest, "0-7");
    guest.run("cpus=/sys/devices/system/cpu");
    // Something runs on all of them meanwhile.
    guest.run("for n in 1 2 3 4; do while :; do :; done & done");
    for _ in 0..3 {
        guest.run("for n in 1 2 3 4 5 6 7; do echo 0 >$cpus/cpu$n/online || break; done; true");
        online(&guest, "0");
        guest.run("for n in 7 5 3 1 2 4 6; do echo 1 >$cpus/cpu$n/online || break; done; true");
        online(&guest, "0-7");
    }
    guest.run("kill $(jobs -p); wait; true");
    // Each takes its own timer's interrupts.
    let before = guest.run("grep -i timer /proc/interrupts; sleep 1");
    assert!(before.contains("riscv-timer"), "{before}");
    guest.assert_kernel_is_content();
    guest.power_off();
}
