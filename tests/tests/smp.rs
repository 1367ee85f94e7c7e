//! Several harts: litmus tests of the memory model, fences, interrupts, timers and states across harts, pauses.

use std::time::Duration;

use cpu::{EngineKind, JitOptions};
use tests::smp::{cross_hart, litmus};

/// Far more time than anything needs, even on a busy host.
const LIMIT: Duration = Duration::from_secs(300);

/// The engines under test: the JIT compiles everything before it runs, with optimisation or without.
fn engines() -> [EngineKind; 3] {
    let baseline =
        JitOptions { threshold: 100, baseline_threshold: Some(1), cache_size: 8 << 20, ..JitOptions::default() };
    [EngineKind::Interpreter, jit(1), EngineKind::Jit(baseline)]
}

fn jit(threshold: u32) -> EngineKind {
    EngineKind::Jit(JitOptions { threshold, cache_size: 8 << 20, ..JitOptions::default() })
}

#[test]
fn no_litmus_test_has_a_forbidden_outcome() {
    for engine in engines() {
        for test in litmus::tests() {
            // Code is compiled anew each time that it is written.
            let rounds = if test.writes_code() { 128 } else { 4096 };
            if let Err(failure) = test.run(engine, rounds, 1, LIMIT) {
                panic!("{engine:?}: {failure}");
            }
        }
    }
}

#[test]
fn harts_overlap_so_that_stores_are_seen_late() {
    for engine in engines() {
        for test in litmus::tests() {
            let Some(witness) = test.witness else { continue };
            let mut runs = (0..1000).map(|seed| test.run(engine, 20_000, seed, LIMIT).unwrap());
            assert!(runs.any(|run| run.count(witness) > 0), "{engine:?}: {}: harts never overlap", test.name);
        }
    }
}

fn run(name: &str, harts: u64, rounds: u32) {
    for engine in engines() {
        if let Err(failure) = cross_hart::run(name, harts, rounds, engine, LIMIT) {
            panic!("{name} with {harts} harts, {engine:?}: {failure}");
        }
    }
}

#[test]
fn remote_fences_of_translations_are_complete_when_they_return() {
    run("remote_sfence", 2, 500);
    run("remote_sfence", 4, 80);
}

#[test]
fn remote_fences_of_instructions_are_complete_when_they_return() {
    run("remote_fence_i", 2, 150);
    run("remote_fence_i", 4, 30);
}

#[test]
fn harts_start_stop_and_suspend() {
    run("hart_states", 2, 100);
    run("hart_states", 512, 2);
}

#[test]
fn no_interrupt_between_harts_is_lost() {
    run("interrupt_ring", 2, 2000);
    run("interrupt_ring", 16, 200);
}

#[test]
fn timers_of_all_harts_ring_in_time() {
    run("timers", 4, 300);
}

/// Two and four harts that fence each other all the time are paused and go on; now and then on another machine.
#[test]
fn harts_that_fence_each_other_can_be_paused_saved_and_moved() {
    for engine in engines() {
        for (name, harts, rounds) in [("remote_sfence", 2, 500), ("remote_fence_i", 4, 30)] {
            let mut machine = cross_hart::board(name, harts, rounds, engine).unwrap().machine;
            let mut moves = 0;
            for pauses in 0.. {
                machine.start().unwrap();
                let event = machine.wait(Some(Duration::from_micros(500)));
                machine.pause().unwrap();
                if let Some(event) = event {
                    let off = machine::Event::Power(bus::PowerRequest::Off(0));
                    assert_eq!(event, off, "{name}, {engine:?}, after {pauses} pauses and {moves} moves");
                    break;
                }
                if pauses % 32 == 16 {
                    let state = postcard::to_stdvec(&machine.save().unwrap()).unwrap();
                    machine = cross_hart::board(name, harts, rounds, engine).unwrap().machine;
                    machine.restore(postcard::from_bytes(&state).unwrap()).unwrap();
                    assert!(postcard::to_stdvec(&machine.save().unwrap()).unwrap() == state, "the state has changed");
                    moves += 1;
                }
            }
        }
    }
}
