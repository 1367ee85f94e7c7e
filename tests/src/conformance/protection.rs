//! Physical memory protection: entries without a pattern against accesses around their borders. The expectation is the
//! rule of the privileged specification, "Priority and Matching Logic", byte by byte.

use super::rows::{Body, Random};

/// Around here lie the borders and the accesses.
const MIDDLE: u64 = 0x8040_0800;
const ENTRIES: usize = 8;

const READ: u8 = 1;
const WRITE: u8 = 2;
const EXECUTE: u8 = 4;

/// Whether an entry matches a byte.
fn matches(configuration: u8, before: u64, address: u64, byte: u64) -> bool {
    match configuration >> 3 & 3 {
        0 => false,
        1 => before << 2 <= byte && byte < address << 2,
        2 => address == byte >> 2,
        _ => {
            let ones = address.trailing_ones();
            address >> ones >> 1 == byte >> (ones + 3)
        }
    }
}

fn allowed(entries: &[(u8, u64)], first: u64, length: u64, right: u8) -> bool {
    for (index, &(configuration, address)) in entries.iter().enumerate() {
        let before = if index == 0 { 0 } else { entries[index - 1].1 };
        let hits = (first..first + length).filter(|byte| matches(configuration, before, address, *byte)).count() as u64;
        if hits != 0 {
            return hits == length && configuration & right != 0;
        }
    }
    false
}

/// The program: rows of configuration, addresses, access and cause.
pub(super) fn bodies() -> Vec<(&'static str, String)> {
    let mut random = Random(0x0123_4567_89ab_cdef);
    let mut pick = |count: u64| random.next().map_or(0, |value| (value >> 20) % count);
    // (number, bytes, right, cause when refused, cause when allowed from S)
    let accesses: [(u64, u64, u8, u64, u64); 6] = [
        (0, 1, READ, 5, u64::MAX),
        (1, 4, READ, 5, u64::MAX),
        (2, 8, READ, 5, u64::MAX),
        (3, 4, WRITE, 7, u64::MAX),
        (4, 8, WRITE, 7, u64::MAX),
        (5, 4, EXECUTE, 1, 9),
    ];
    let mut rows = Vec::new();
    for _ in 0..1500 {
        let entries: Vec<(u8, u64)> = (0..ENTRIES)
            .map(|_| {
                let mode = [0, 1, 1, 2, 3, 3, 3][pick(7) as usize];
                let rights = [0, READ, READ | WRITE, EXECUTE, READ | EXECUTE, READ | WRITE | EXECUTE][pick(6) as usize];
                let near = (MIDDLE >> 2) - 8 + pick(16);
                let address = match (mode, pick(4)) {
                    (3, 0) => near | 1,
                    (3, 1) => near | 3,
                    (3, 2) => near | ((1 << (pick(12) + 2)) - 1),
                    (1, 3) => [MIDDLE >> 14 << 12, u64::MAX >> 10][pick(2) as usize],
                    _ => near,
                };
                (rights | mode << 3, address)
            })
            .collect();
        let (number, bytes, right, refused, done) = accesses[pick(6) as usize];
        let granularity = if matches!(number, 0 | 3 | 5) { 4 } else { bytes.min(4) };
        let address = MIDDLE - 32 + pick(64) / granularity * granularity;
        let cause = if allowed(&entries, address, bytes, right) { done } else { refused };
        let configuration = entries.iter().rev().fold(0, |word, (byte, _)| word << 8 | u64::from(*byte));
        let mut row = [0; 12];
        row[0] = configuration;
        for (slot, (_, address)) in row[1..].iter_mut().zip(&entries) {
            *slot = *address;
        }
        row[9..].copy_from_slice(&[address, number, cause]);
        rows.push(row);
    }
    let mut body = Body::new(&format!(
        "    li a0, {:#x}\n    li a1, 0x73\n    li a2, 64\n1:\n    sw a1, 0(a0)\n    addi a0, a0, 4\n    addi a2, a2, -1\n    \
         bnez a2, 1b\n    fence.i\n    li s11, 0x0000007300000073\n",
        MIDDLE - 128
    ));
    let addresses: String =
        (0..ENTRIES).map(|i| format!("    ld a0, {}(s0)\n    csrw pmpaddr{i}, a0\n", 8 + 8 * i)).collect();
    body.table(
        "random entries",
        &rows,
        &format!(
            "    csrw pmpcfg0, zero
{addresses}    ld a0, 0(s0)
    csrw pmpcfg0, a0
    csrr a1, pmpcfg0
    check_equal a0, a1
    sfence.vma
    ld a1, 72(s0)
    ld a2, 80(s0)
    ld a3, 88(s0)
    la s6, 9f
    li s2, -1
    li s7, 0
    li t0, STATUS_MPP
    csrc mstatus, t0
    li t0, 0x800
    csrs mstatus, t0
    csrw mepc, a1
    li t0, 5
    beq a2, t0, 5f
    li t0, STATUS_MPRV
    csrs mstatus, t0
    beqz a2, 1f
    addi a2, a2, -1
    beqz a2, 2f
    addi a2, a2, -1
    beqz a2, 3f
    addi a2, a2, -1
    beqz a2, 4f
    sd s11, 0(a1)
    j 9f
1:
    lb a0, 0(a1)
    j 9f
2:
    lw a0, 0(a1)
    j 9f
3:
    ld a0, 0(a1)
    j 9f
4:
    sw s11, 0(a1)
    j 9f
5:
    mret
9:
    la s6, unexpected
    li t0, STATUS_MPRV
    csrc mstatus, t0
    check_equal s2, a3
"
        ),
    );
    vec![("pmp_matching", body.finish()), ("smepmp", lockdown())]
}

/// What LRWX of an entry allow while MML is set: M-mode, and the other modes (the truth table of Smepmp).
const LOCKED_DOWN: [(&str, &str); 16] = [
    ("", ""),
    ("", "x"),
    ("rw", "r"),
    ("rw", "rw"),
    ("", "r"),
    ("", "rx"),
    ("", "rw"),
    ("", "rwx"),
    ("", ""),
    ("x", ""),
    ("x", "x"),
    ("rx", "x"),
    ("r", ""),
    ("rx", ""),
    ("rw", ""),
    ("r", "r"),
];

/// The program of Smepmp: every entry, access and mode in lockdown; and what can be changed then.
fn lockdown() -> String {
    let mut rows = Vec::new();
    for (lrwx, (machine, other)) in (0..16_u64).zip(LOCKED_DOWN) {
        let bit = |from: u64, to: u64| (lrwx >> from & 1) << to;
        let configuration = bit(3, 7) | bit(2, 0) | bit(1, 1) | bit(0, 2) | 3 << 3;
        for (mode, rights) in [(3, machine), (1, other), (0, other)] {
            for (number, right, refused, done) in [(0, 'r', 5, u64::MAX), (1, 'w', 7, u64::MAX), (2, 'x', 1, 8 + mode)]
            {
                rows.push([configuration, number, mode, if rights.contains(right) { done } else { refused }]);
            }
        }
    }
    let mut body = Body::new(
        "    # A page under test, which holds ecalls.
    li s11, 0x80400000
    li a1, 0x73
    mv a0, s11
    li a2, 64
1:
    sw a1, 0(a0)
    addi a0, a0, 4
    addi a2, a2, -1
    bnez a2, 1b
    fence.i
    # Entry 0: the page; 1: this program, code for all modes that M-mode may read.
    srli t0, s11, 2
    ori t0, t0, 0x1ff
    csrw pmpaddr0, t0
    li t0, 0x2001ffff
    csrw pmpaddr1, t0
    # Lockdown cannot come before M-mode has code of its own: a bypass of locks lets it.
    csrr a0, mseccfg
    andi a0, a0, 7
    check a0, 0
    li t0, 4
    csrw mseccfg, t0
    csrr a0, mseccfg
    andi a0, a0, 7
    check a0, 4
    # A locked entry of code is M-mode's own under MML, until it is shared.
    li t0, 0x9d1f
    csrw pmpcfg0, t0
    li t0, 5
    csrw mseccfg, t0
    li s9, 0x9e00
    li t0, 0x9e1f
    csrw pmpcfg0, t0
    csrr a0, pmpcfg0
    check_equal a0, t0
    csrr a0, mseccfg
    andi a0, a0, 7
    check a0, 5
",
    );
    body.table(
        "lockdown",
        &rows,
        "    ld t0, 0(s0)
    ld a2, 8(s0)
    ld a4, 16(s0)
    ld a3, 24(s0)
    or t0, t0, s9
    csrw pmpcfg0, t0
    csrr a1, pmpcfg0
    check_equal a1, t0
    sfence.vma
    la s6, 9f
    li s2, -1
    li s7, 0
    li t0, STATUS_MPP
    csrc mstatus, t0
    slli t0, a4, 11
    csrs mstatus, t0
    csrw mepc, s11
    li t0, 2
    beq a2, t0, 2f
    li t0, STATUS_MPRV
    csrs mstatus, t0
    bnez a2, 1f
    lw a0, 0(s11)
    j 9f
1:
    li a0, 0x73
    sw a0, 0(s11)
    j 9f
2:
    mret
9:
    la s6, unexpected
    li t0, STATUS_MPRV
    csrc mstatus, t0
    check_equal s2, a3
",
    );
    body.code(
        "    # MML and MMWP are sticky, the bypass is not.
    li t0, 0x9e98
    csrw pmpcfg0, t0
    csrw mseccfg, zero
    csrr a0, mseccfg
    andi a0, a0, 7
    check a0, 1
    # With a locked entry it does not come back.
    li t0, 4
    csrs mseccfg, t0
    csrr a0, mseccfg
    andi a0, a0, 7
    check a0, 1
    # Locked entries stay now.
    li t0, 0x9e98
    csrw pmpcfg0, zero
    csrr a0, pmpcfg0
    check_equal a0, t0
    csrr a1, pmpaddr0
    csrw pmpaddr0, zero
    csrr a0, pmpaddr0
    check_equal a0, a1
    # No code of M-mode's can be added, shared or not; all else can.
    li s10, 0x80
1:
    andi t0, s10, 7
    li t1, 2
    beq t0, t1, 2f
    li t1, 3
    beq t0, t1, 3f
    li t1, 7
    beq t0, t1, 3f
    andi t0, s10, 4
    beqz t0, 3f
2:
    slli t0, s10, 16
    csrs pmpcfg0, t0
    csrr a0, pmpcfg0
    srli a0, a0, 16
    check a0, 0
3:
    addi s10, s10, 1
    li t0, 0x88
    bne s10, t0, 1b
    # Shared data, not locked; and data of M-mode's, locked.
    li t0, 0x9b1a0000
    csrs pmpcfg0, t0
    csrr a0, pmpcfg0
    li t0, 0x9b1a9e98
    check_equal a0, t0
    # What no entry matches M-mode may still use, but not execute.
    li a1, 0x80c00000
    lw a0, 0(a1)
    try MACHINE
    jr a1
    ecall
9:
    la s6, unexpected
    check s2, INSTRUCTION_ACCESS_FAULT
    check_equal s3, a1
    # Until the allowlist. The devices that end a program and print need an entry: M-mode's data.
    li t0, 0x7ffffff
    csrw pmpaddr4, t0
    li t0, 0x9b
    slli t0, t0, 32
    csrs pmpcfg0, t0
    li t0, 2
    csrs mseccfg, t0
    csrr a0, mseccfg
    andi a0, a0, 7
    check a0, 3
    as_mode MACHINE, 0
    refused LOAD_ACCESS_FAULT
    as_mode MACHINE, 1
    refused STORE_ACCESS_FAULT
    csrw mseccfg, zero
    csrr a0, mseccfg
    andi a0, a0, 7
    check a0, 3
",
    );
    body.finish()
}
