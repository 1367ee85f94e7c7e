//! Baseline code: the same as interpreted, alone and together with regions that take over from it.

use super::*;

#[test]
fn random_programs_do_the_same() {
    compare_random_programs(baseline(ALONE));
    compare_random_programs(baseline(2));
}

#[test]
fn loops_do_the_same() {
    compare_steady_loops(baseline(ALONE));
    compare_steady_loops(baseline(2));
}

#[test]
fn system_instructions_do_the_same() {
    compare_system_instructions(baseline(ALONE));
    compare_system_instructions(baseline(2));
}

#[test]
fn accesses_follow_their_mappings() {
    for threshold in [ALONE, 2] {
        accesses_follow_mappings(baseline(threshold), crate::Privilege::Supervisor, Tables::GLOBAL, false);
        accesses_follow_mappings(baseline(threshold), crate::Privilege::User, Tables::USER, false);
    }
}
