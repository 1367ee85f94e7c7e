//! Every conformance program on every engine.

use cpu::{EngineKind, JitOptions};
use tests::conformance;

/// The engines under test.
fn engines() -> Vec<EngineKind> {
    let jit = |threshold| EngineKind::Jit(JitOptions { threshold, cache_size: 8 << 20, ..JitOptions::default() });
    let lockstep = JitOptions { threshold: 1, cache_size: 8 << 20, lockstep: true, ..JitOptions::default() };
    // Baseline code from the first execution on, alone, and with regions that soon take over from it.
    let baseline = |threshold| {
        let options =
            JitOptions { threshold, baseline_threshold: Some(1), cache_size: 8 << 20, ..JitOptions::default() };
        EngineKind::Jit(options)
    };
    let both = JitOptions { threshold: 20, baseline_threshold: Some(1), ..lockstep };
    vec![
        EngineKind::Interpreter,
        jit(20),
        jit(1),
        EngineKind::Jit(lockstep),
        EngineKind::Jit(both),
        baseline(u32::MAX),
        baseline(2),
    ]
}

fn run(name: &str) {
    let program = conformance::program(name).unwrap_or_else(|| panic!("there is no program '{name}'"));
    for engine in engines() {
        if let Err(failure) = program.run(engine, conformance::AMPLE_TIME) {
            panic!("{engine:?}: {failure}");
        }
    }
}

macro_rules! programs {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*

        #[test]
        fn all_programs_are_listed() {
            let mut listed = vec![$(stringify!($name)),*];
            let mut programs: Vec<_> = conformance::programs().iter().map(|program| program.name).collect();
            listed.sort();
            programs.sort();
            assert_eq!(listed, programs);
        }
    };
}

programs! {
    encodings rv64i_arithmetic rv64i_branches rv64i_memory rv64i_control
    m zaamo zabha zacas zalrsc
    f_arithmetic f_fused f_others f_conversions d_arithmetic d_fused d_others d_conversions fd_memory
    c_arithmetic c_control zcb_arithmetic
    zba zbb zbc zbkb zbkx zbs zicond
    zicsr csr_numbers csr_absent counters counters_exact sscofpmf sscofpmf_exact
    traps strict privileged interrupts
    paging_sv39 paging_sv48 paging_sv57 paging_svpbmt paging_strict
    paging_permissions_svade paging_permissions_svadu paging_spaces
    pmp pmp_matching smepmp smstateen pointer_masking pointer_masking_modes triggers triggers_strict
}
