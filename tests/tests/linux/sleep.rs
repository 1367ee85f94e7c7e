//! Linux asleep: suspended to RAM by the built-in SBI, and woken by the console.

use std::time::Duration;

use devices::backend::memory::MemoryBackend;
use machine::board::virt::Virt;

use crate::guest::{Guest, MEMORY, PROMPT, kernel};

#[test]
fn the_system_sleeps_until_a_key_wakes_it() {
    let console = MemoryBackend::new();
    let virt = Virt { memory: MEMORY, harts: 2, console: console.clone(), ..Virt::new(kernel()) };
    let mut guest = Guest { board: virt.build().unwrap(), console };
    guest.boot();
    guest.run("echo enabled >/sys/class/tty/ttyS0/power/wakeup");
    guest.type_line("echo mem >/sys/power/state; echo \"<$?>\"");
    // A key that comes before the system sleeps is only read; the next one wakes it.
    let awake = (0..180).any(|_| {
        let woken = guest.console.wait_for("<0>", Duration::from_secs(1)).is_ok();
        if !woken {
            guest.type_line("");
        }
        woken
    });
    assert!(awake, "it sleeps on");
    // The keys made the shell prompt: back in step.
    guest.type_line("echo in st''ep");
    guest.expect("in step\r\n");
    guest.expect(PROMPT);
    let log = guest.run("dmesg");
    for line in ["PM: suspend entry (deep)", "PM: suspend exit", "SBI PMU extension is available"] {
        assert!(log.contains(line), "no '{line}' in the log:\n{log}");
    }
    let online = guest.run("cat /sys/devices/system/cpu/online");
    assert!(online.lines().any(|line| line.trim() == "0-1"), "{online}");
    guest.assert_kernel_is_content();
    guest.power_off();
}
