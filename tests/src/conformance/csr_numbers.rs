//! Every CSR number, read and written in each mode: there, or an illegal instruction (privileged specification, "CSR
//! Listing").

use super::rows::Body;

/// The registers of a hart with F, D, Zicntr, Zihpm, Sscofpmf, Sstc, Smepmp, Smstateen, sixteen PMP entries and RV64's
/// modes M, S and U, and with the registers by which a debugger sees that there are no triggers.
fn present(number: u64) -> bool {
    matches!(
        number,
        0x001..=0x003
            | 0x100
            | 0x104..=0x106
            | 0x10a
            | 0x10c..=0x10f
            | 0x140..=0x144
            | 0x14d
            | 0x180
            | 0x300..=0x306
            | 0x30a
            | 0x30c..=0x30f
            | 0x320
            | 0x323..=0x33f
            | 0x340..=0x344
            | 0x3a0
            | 0x3a2
            | 0x3b0..=0x3bf
            | 0x747
            | 0x7a0..=0x7a2
            | 0x7a4
            | 0xb00
            | 0xb02..=0xb1f
            | 0xc00..=0xc1f
            | 0xda0
            | 0xf11..=0xf15
    )
}

/// Whether another hart may have it: extensions that ours lacks, registers of RV32, debugging, custom ranges, and
/// performance counters, of which a hart may have fewer.
fn depends(number: u64) -> bool {
    let custom = matches!(number >> 6, 0x20..=0x23 | 0x5b..=0x5f | 0x6b..=0x6f | 0x7b..=0x7f | 0x9b..=0x9f | 0x17 | 0x1b..=0x1f | 0x33 | 0x37 | 0x3b | 0x3f);
    custom
        || matches!(
            number,
            0x005..=0x017
                | 0x10c..=0x120
                | 0x145..=0x17f
                | 0x181..=0x18f
                | 0x200..=0x2ff
                | 0x307..=0x31f
                | 0x321..=0x322
                | 0x345..=0x39f
                | 0x3a1
                | 0x3a3..=0x3af
                | 0x3c0..=0x3ff
                | 0x5a8
                | 0x600..=0x7ff
                | 0xa00..=0xaff
                | 0xb80..=0xbff
                | 0xc20..=0xcff
                | 0xd00..=0xfff
        )
        || matches!(number, 0x326..=0x33f | 0xb06..=0xb1f | 0xc06..=0xc1f)
}

fn accessible(number: u64, mode: u64, write: bool) -> bool {
    let read_only = number >> 10 == 3;
    present(number) && number >> 8 & 3 <= mode && !(write && read_only)
}

/// Names and bodies of the programs: the numbers that are the same on every hart, and the others.
pub(super) fn bodies() -> Vec<(&'static str, String)> {
    vec![
        ("csr_numbers", body(|number| !depends(number) || present(number) && number >> 8 == 0xf)),
        ("csr_absent", body(depends)),
    ]
}

fn body(include: fn(u64) -> bool) -> String {
    let mut body = Body::new(
        "    li t0, STATUS_FS
    csrs mstatus, t0
    li t0, -1
    csrw mcounteren, t0
    csrw scounteren, t0
    csrw mstateen1, t0
    csrw mstateen2, t0
    csrw mstateen3, t0
    li t0, 1
    slli t0, t0, 63
    csrs menvcfg, t0
    li t0, -1
    csrw stimecmp, t0
    la s11, patch
",
    );
    for (name, mode) in [("MACHINE", 3), ("SUPERVISOR", 1), ("USER", 0)] {
        for write in [false, true] {
            // csrrs a0, number, x0 or, which counts as a write even of nothing, csrrs a0, number, a1.
            let source = if write { 11 << 15 } else { 0 };
            let rows: Vec<[u64; 2]> = (0..4096)
                .filter(|number| include(*number))
                .map(|number| {
                    let instruction = number << 20 | source | 2 << 12 | 10 << 7 | 0x73;
                    [instruction, if accessible(number, mode, write) { 8 + mode } else { 2 }]
                })
                .collect();
            body.table(
                &format!("{name}, write {write}"),
                &rows,
                &format!(
                    "    ld a2, 0(s0)
    ld a3, 8(s0)
    sw a2, 0(s11)
    fence.i
    li a1, 0
    li s9, {name}
    jal ra, run
    check_equal s2, a3
    li t0, ILLEGAL_INSTRUCTION
    bne s2, t0, 1f
    check_equal s4, s11
    beqz s3, 1f
    check_equal s3, a2
1:
"
                ),
            );
        }
    }
    body.code(
        "    j 1f
# Runs the patched instruction, and an ecall, in mode s9.
    .balign 4
run:
    la s6, 2f
    li s2, -1
    li s7, 0
    li t6, STATUS_MPP
    csrc mstatus, t6
    slli t6, s9, 11
    csrs mstatus, t6
    csrw mepc, s11
    mret
    .balign 4
patch:
    .word 0
    ecall
2:
    la s6, unexpected
    ret
1:
",
    );
    body.finish()
}
