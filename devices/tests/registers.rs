//! What holds for the registers of every device: each access has a defined result, a peek changes nothing, and a saved
//! state restored into a fresh device shows the same.

#[path = "../src/recorder.rs"]
mod recorder;

use std::sync::Arc;

use bus::{Clock, Device, PowerSwitch, StateError, Width};
use devices::aclint::{Clint, Sswi};
use devices::backend::memory::MemoryBackend;
use devices::finisher::Finisher;
use devices::plic::Plic;
use devices::rom::Rom;
use devices::rtc::GoldfishRtc;
use devices::uart::Uart;
use devices::{aclint, plic};
use recorder::Recorder;

const HARTS: u32 = 3;

struct Bench {
    device: Arc<dyn Device>,
    lines: Arc<Recorder>,
    clock: Clock,
    backend: Arc<MemoryBackend>,
}

/// One of each device, fresh.
fn all() -> Vec<Bench> {
    type Build = fn(&Arc<Recorder>, &Clock, &Arc<MemoryBackend>) -> Arc<dyn Device>;
    let builds: [Build; 7] = [
        |lines, clock, backend| Uart::new(lines.line(0), backend.clone(), clock.clone()),
        |lines, clock, _| {
            let wall_clock = clock.clone();
            GoldfishRtc::new(lines.line(0), clock.clone(), move || 0x1234_5678_9abc_def0 + wall_clock.now() * 100)
        },
        |lines, clock, _| {
            let hart = |hart| aclint::HartLines { software: lines.line(2 * hart), timer: lines.line(2 * hart + 1) };
            Clint::new(clock.clone(), (0..HARTS).map(hart).collect())
        },
        |lines, _, _| Arc::new(Sswi::new((0..HARTS).map(|hart| lines.line(hart)).collect())),
        |lines, _, _| {
            let hart = |hart| plic::HartLines { machine: lines.line(2 * hart), supervisor: lines.line(2 * hart + 1) };
            Arc::new(Plic::new(95, (0..HARTS).map(hart).collect()))
        },
        |_, _, _| Arc::new(Finisher::new(PowerSwitch::new(|_| ()))),
        |_, _, _| Arc::new(Rom::new((0..=255).collect(), 0x1000).unwrap()),
    ];
    let bench = |build: Build| {
        let (lines, clock, backend) = (Recorder::new(), Clock::manual(), MemoryBackend::new());
        backend.type_in(&[0x5a; 64]);
        clock.advance(0x1_2345_6789);
        Bench { device: build(&lines, &clock, &backend), lines, clock, backend }
    };
    builds.map(bench).into()
}

/// Every offset of small windows; of large ones the first page of each block of registers, and the ends.
fn offsets(size: u64, width: Width) -> Vec<u64> {
    let last = size - width.bytes();
    if size <= 0x1_0000 {
        return (0..=last).collect();
    }
    let block = |base: u64| base..(base + 0x400).min(last + 1);
    let blocks = [0, 0x1000, 0x2000, 0x20_0000, 0x20_1000, 0x20_5000, 0x20_6000, 0x30_0000, size - 0x400];
    blocks.into_iter().flat_map(block).filter(|offset| *offset <= last).collect()
}

fn accesses(device: &dyn Device) -> impl Iterator<Item = (u64, Width)> {
    let size = device.size();
    Width::ALL.into_iter().flat_map(move |width| offsets(size, width).into_iter().map(move |at| (at, width)))
}

/// What a debugger sees.
fn view(device: &dyn Device) -> Vec<u64> {
    accesses(device).map(|(at, width)| device.peek(at, width)).collect()
}

/// A reproducible stream of values (an xorshift generator).
fn values(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    }
}

/// Writes and reads everything, with the time going on.
fn exercise(bench: &Bench, seed: u64) {
    let mut value = values(seed);
    for (at, width) in accesses(&*bench.device) {
        let peeked = bench.device.peek(at, width);
        assert_eq!(bench.device.peek(at, width), peeked, "a second peek differs");
        let read = bench.device.read(at, width);
        assert_eq!(read & !width.mask(), 0, "{} {at:#x} {width:?}: more bits than asked for", bench.device.name());
        assert_eq!(read, peeked, "{} {at:#x} {width:?}: a read differs from a peek", bench.device.name());
        bench.device.write(at, width, value() & width.mask());
        if at.is_multiple_of(64) {
            bench.clock.advance(value() % 100_000);
        }
    }
}

#[test]
fn every_width_at_every_offset_has_a_defined_result() {
    for bench in all() {
        for seed in [1, 0x9e37_79b9_7f4a_7c15] {
            exercise(&bench, seed);
        }
        // Values that a random number is seldom.
        for (at, width) in accesses(&*bench.device) {
            for value in [0, width.mask(), 1] {
                bench.device.write(at, width, value);
            }
            bench.device.read(at, width);
        }
        assert!(bench.backend.output().len() < 1 << 24);
    }
}

#[test]
fn peeking_changes_nothing() {
    for bench in all() {
        exercise(&bench, 7);
        let (saved, levels) = (bench.device.save().unwrap(), bench.lines.levels());
        let seen = view(&*bench.device);
        assert_eq!(view(&*bench.device), seen, "{}", bench.device.name());
        assert_eq!(bench.device.save().unwrap(), saved, "{}", bench.device.name());
        assert_eq!(bench.lines.levels(), levels);
    }
}

#[test]
fn a_restored_device_shows_what_the_saved_one_did() {
    for seed in 1..6 {
        for (bench, fresh) in all().into_iter().zip(all()) {
            let name = bench.device.name();
            exercise(&bench, seed);
            bench.device.pause();
            fresh.device.pause();
            fresh.clock.set(bench.clock.now());
            let saved = bench.device.save().unwrap();
            fresh.device.restore(&saved).unwrap();
            assert_eq!(view(&*fresh.device), view(&*bench.device), "{name}");
            if name != "sswi" {
                let low = |levels: std::collections::BTreeMap<u32, bool>| {
                    levels.into_iter().filter(|(_, level)| *level).collect::<Vec<_>>()
                };
                assert_eq!(low(fresh.lines.levels()), low(bench.lines.levels()), "{name}");
            }
            assert_eq!(fresh.device.save().unwrap(), saved, "{name}");
        }
    }
}

#[test]
fn a_reset_device_is_a_fresh_one() {
    for (bench, fresh) in all().into_iter().zip(all()) {
        let name = bench.device.name();
        exercise(&bench, 3);
        bench.device.reset();
        // The RTC keeps its time, and the CLINT's follows the clock.
        if name != "rtc" {
            fresh.clock.set(bench.clock.now());
            assert_eq!(view(&*bench.device), view(&*fresh.device), "{name}");
        }
        assert!(name == "sswi" || bench.lines.levels().values().all(|level| !level), "{name}: a line is high");
    }
}

#[test]
fn damaged_states_are_refused_whole_or_taken_whole() {
    for bench in all() {
        let name = bench.device.name();
        exercise(&bench, 11);
        bench.device.pause();
        let saved = bench.device.save().unwrap();
        let seen = view(&*bench.device);
        for length in (0..saved.len()).chain([saved.len() + 1]) {
            let mut damaged = saved.clone();
            damaged.resize(length, 0);
            assert!(matches!(bench.device.restore(&damaged), Err(StateError::Restore { .. })), "{name} of {length}");
        }
        assert_eq!(view(&*bench.device), seen, "{name}: a refused state has left a trace");
        let mut value = values(5);
        for _ in 0..300.min(saved.len() * 20) {
            let mut damaged = saved.clone();
            let index = value() as usize % damaged.len();
            damaged[index] = value() as u8;
            if bench.device.restore(&damaged).is_ok() {
                for offset in 0..16.min(bench.device.size() / 4) {
                    bench.device.read(offset * 4, Width::Word);
                    bench.device.write(offset * 4, Width::Word, value() & 0xffff_ffff);
                }
            }
        }
    }
}
