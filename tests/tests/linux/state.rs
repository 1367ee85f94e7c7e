//! A running Linux is paused, serialised, and goes on in a fresh machine.

use std::sync::Arc;
use std::time::Duration;

use devices::backend::disk::RawDisk;
use machine::MachineState;
use machine::board::virt::Slot;

use crate::guest::{Guest, PROMPT, kernel};

/// Moves a paused machine to a fresh one on the same console. A restored machine is saved as the same bytes.
fn moved(mut guest: Guest, slots: impl Fn() -> Vec<Slot>) -> Guest {
    let save = |guest: &mut Guest| postcard::to_stdvec(&guest.board.machine.save().unwrap()).unwrap();
    let state = save(&mut guest);
    let console = guest.console.clone();
    drop(guest);
    let mut fresh = Guest::with_console(kernel(), slots(), console);
    let decoded: MachineState = postcard::from_bytes(&state).unwrap();
    fresh.board.machine.restore(decoded).unwrap();
    if save(&mut fresh) != state {
        let shown = fresh.console.output();
        panic!("the restored machine differs from the saved one; it had shown {}", String::from_utf8_lossy(&shown));
    }
    fresh
}

#[test]
fn a_booting_linux_moves_from_machine_to_machine() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(8 << 20).unwrap();
    let slots = || {
        let disk = RawDisk::open(image.path(), false).unwrap();
        vec![Slot::Disk(Arc::new(disk), "disk".into()), Slot::Rng, Slot::Console]
    };
    let mut guest = Guest::new(kernel(), slots());
    for milliseconds in [0, 100, 300, 700, 1000, 1500] {
        guest.board.machine.start().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        guest.board.machine.pause().unwrap();
        guest = moved(guest, slots);
    }
    guest.board.machine.start().unwrap();
    guest.expect(PROMPT);

    // A write that is under way, a timer that runs, a shell that has read half a command.
    guest.type_line("x=kept; dd if=/dev/urandom of=/tmp/random bs=64k count=64 2>/dev/null; sha256sum </tmp/random");
    let sum = guest.expect(PROMPT);
    let sum = sum.split_whitespace().find(|word| word.len() == 64).expect("a sum").to_owned();
    guest.type_line("dd if=/tmp/random of=/dev/vda conv=fsync 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches; sleep 2");
    guest.console.type_in(b"echo $x");
    std::thread::sleep(Duration::from_millis(200));
    guest.board.machine.pause().unwrap();
    let mut guest = moved(guest, slots);
    guest.board.machine.start().unwrap();
    guest.type_line("$((40 + 2))");
    guest.expect("kept42");
    guest.expect(PROMPT);
    let read = guest.run("dd if=/dev/vda bs=64k count=64 2>/dev/null | sha256sum");
    assert!(read.contains(&sum), "the disk holds {read}, not {sum}");
    guest.assert_kernel_is_content();
    guest.power_off();
}

#[test]
fn a_state_of_another_board_is_refused() {
    let mut guest = Guest::new(kernel(), Vec::new());
    let state = guest.board.machine.save().unwrap();
    let error = Guest::new(kernel(), vec![Slot::Rng]).board.machine.restore(state).unwrap_err();
    assert!(error.to_string().contains("other devices or harts"), "{error}");
}
