//! Virtual addresses: every page-table entry that matters at every level of Sv39, Sv48 and Sv57, and every combination
//! of permission bits, access, mode and status. The expectation is the algorithm of the privileged specification,
//! "Virtual Address Translation Process", written down once more.

use super::rows::Body;

const V: u64 = 1;
const R: u64 = 2;
const W: u64 = 4;
const X: u64 = 8;
const U: u64 = 16;
const G: u64 = 32;
const A: u64 = 64;
const D: u64 = 128;

const STATUS_MPRV: u64 = 1 << 17;
const STATUS_SUM: u64 = 1 << 18;
const STATUS_MXR: u64 = 1 << 19;

/// Where the page tables lie, one page per level, and a spare one.
const TABLES: u64 = 0x8020_0000;
/// Pages whose numbers lie at [`OFFSET`] in each.
const PAGES: u64 = 0x8040_0000;
const PAGE_COUNT: u64 = 64;
const OFFSET: u64 = 0x128;
/// The page that test addresses lead to.
const TARGET: u64 = PAGES + 0x1_8000;
/// Nothing is there.
const NOTHING: u64 = 0x1f0_0000;

const NO_TRAP: u64 = u64::MAX;
const ECALL_FROM_USER: u64 = 8;
const ECALL_FROM_SUPERVISOR: u64 = 9;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Load,
    Store,
    Fetch,
    Amo,
    LoadReserved,
}

impl Access {
    const ALL: [Access; 5] = [Access::Load, Access::Store, Access::Fetch, Access::Amo, Access::LoadReserved];

    /// The privilege that the page must give.
    fn right(self) -> u64 {
        match self {
            Access::Load | Access::LoadReserved => R,
            Access::Store | Access::Amo => W,
            Access::Fetch => X,
        }
    }

    fn page_fault(self) -> u64 {
        match self {
            Access::Load | Access::LoadReserved => 13,
            Access::Store | Access::Amo => 15,
            Access::Fetch => 12,
        }
    }

    fn access_fault(self) -> u64 {
        match self {
            Access::Load | Access::LoadReserved => 5,
            Access::Store | Access::Amo => 7,
            Access::Fetch => 1,
        }
    }
}

/// What decides about an access beside the page table.
#[derive(Clone, Copy)]
struct Context {
    user: bool,
    sum: bool,
    mxr: bool,
    /// `menvcfg.ADUE`.
    update: bool,
    /// `menvcfg.PBMTE`.
    memory_types: bool,
}

enum Outcome {
    /// The physical address, and the leaf entry afterwards.
    Physical(u64, u64),
    Fault(u64),
}

/// The algorithm from step 2 on; `read` gives the entry of a level.
fn translate(levels: u32, address: u64, access: Access, context: Context, read: impl Fn(u32) -> (u64, u64)) -> Outcome {
    let fault = Outcome::Fault(access.page_fault());
    let bits = 12 + 9 * levels;
    let high = (address as i64) >> (bits - 1);
    if high != 0 && high != -1 {
        return fault;
    }
    let mut expected_table = None;
    for level in (0..levels).rev() {
        let (table, entry) = read(level);
        if expected_table.is_some_and(|expected| expected != table) {
            // The entry above leads to somewhere else: our programs let it lead to nothing, or to an empty page.
            return match expected_table {
                Some(NOTHING) => Outcome::Fault(access.access_fault()),
                _ => fault,
            };
        }
        let types = entry >> 61 & 3;
        let reserved = entry >> 54 & 0x7f != 0 || types == 3 || types != 0 && !context.memory_types;
        if entry & V == 0 || entry & R == 0 && entry & W != 0 || reserved {
            return fault;
        }
        if entry & (R | X) == 0 {
            if entry & (A | D | U) != 0 || entry >> 61 != 0 {
                return fault;
            }
            expected_table = Some((entry >> 10 & ((1 << 44) - 1)) << 12);
            continue;
        }
        let allowed_mode =
            if context.user { entry & U != 0 } else { entry & U == 0 || context.sum && access != Access::Fetch };
        let mut right = entry & access.right() != 0;
        if access.right() == R && context.mxr {
            right |= entry & X != 0;
        }
        if !allowed_mode || !right {
            return fault;
        }
        let ppn = entry >> 10 & ((1 << 44) - 1);
        let mut size_bits = 12 + 9 * level;
        if (ppn << 12) & ((1 << size_bits) - 1) != 0 {
            return fault;
        }
        if entry >> 63 != 0 {
            if level != 0 || ppn & 15 != 8 {
                return fault;
            }
            size_bits = 16;
        }
        let needed = A | if access.right() == W { D } else { 0 };
        if entry & needed != needed && !context.update {
            return fault;
        }
        let within = (1u64 << size_bits) - 1;
        return Outcome::Physical((ppn << 12) & !within | address & within, entry | needed);
    }
    fault
}

fn pointer(page: u64) -> u64 {
    page >> 12 << 10 | V
}

/// An address with another index at each level.
fn indices(levels: u32, leaf: u32) -> u64 {
    let upper = (leaf + 1..levels).fold(0, |address, level| address | u64::from(3 + level) << (12 + 9 * level));
    // Of a page as large as this level's, the part that leads to the target.
    let within = (1u64 << (12 + 9 * leaf)) - 1;
    let index = if leaf + 1 > levels { 0 } else { 5u64 << (12 + 9 * leaf) };
    upper | index | TARGET & within
}

/// A chain of tables down to a leaf.
struct Chain {
    levels: u32,
    leaf: u32,
    address: u64,
}

impl Chain {
    fn new(levels: u32, leaf: u32) -> Self {
        Self { levels, leaf, address: indices(levels, leaf) }
    }

    fn table(&self, level: u32) -> u64 {
        TABLES + u64::from(self.levels - 1 - level) * 4096
    }

    /// The address of the entry of a level.
    fn slot(&self, level: u32) -> u64 {
        self.table(level) + (self.address >> (12 + 9 * level) & 0x1ff) * 8
    }

    /// The page-table entry of a level as it is between the rows.
    fn entry(&self, level: u32) -> u64 {
        if level > self.leaf {
            pointer(self.table(level - 1))
        } else {
            let within = (1u64 << (12 + 9 * self.leaf)) - 1;
            (TARGET & !within) >> 12 << 10 | V | R | W | X | A | D
        }
    }

    fn satp(&self) -> u64 {
        u64::from(self.levels + 5) << 60 | self.table(self.levels - 1) >> 12
    }

    /// What an access does if the entry of `changed` is `entry`.
    fn outcome(&self, address: u64, changed: u32, entry: u64, access: Access, context: Context) -> Outcome {
        translate(self.levels, address, access, context, |level| {
            let value = if level == changed {
                entry
            } else if level < self.leaf {
                0
            } else {
                self.entry(level)
            };
            (self.table(level), value)
        })
    }

    /// Code that builds it and turns it on.
    fn build(&self) -> String {
        let mut code = format!(
            "    li a0, {TABLES:#x}\n    li a1, {:#x}\n1:\n    sd zero, 0(a0)\n    addi a0, a0, 8\n    bne a0, a1, 1b\n",
            TABLES + 8 * 4096
        );
        for level in self.leaf..self.levels {
            code +=
                &format!("    li a0, {:#x}\n    li a1, {:#x}\n    sd a1, 0(a0)\n", self.slot(level), self.entry(level));
        }
        code + &format!("    li a0, {:#x}\n    csrw satp, a0\n    sfence.vma\n", self.satp())
    }
}

/// Writes each page's number into it, and an `ecall` to the start of the target page.
const FILL: &str = "    li a0, 0x80400000
    li a1, 64
1:
    srli a2, a0, 12
    sd a2, 0x128(a0)
    li a2, 4096
    add a0, a0, a2
    addi a1, a1, -1
    bnez a1, 1b
";

/// Entries worth trying in place of the regular one.
fn variants(chain: &Chain, level: u32) -> Vec<u64> {
    let regular = chain.entry(level);
    let mut entries = vec![regular, 0, regular | G];
    entries.extend((0..10).map(|bit| regular ^ 1 << bit));
    entries.extend((54..64).map(|bit| regular | 1 << bit));
    entries.push(regular | 3 << 61);
    entries.push(regular | 1 << 63 | 1 << 61);
    if level == chain.leaf {
        // Superpages that are not aligned; physical pages that lie elsewhere would have no number to find.
        entries.extend((0..9 * level).map(|bit| regular | 1 << (10 + bit)));
        // W, or nothing, without R.
        entries.extend([R | W, R | W | X, R, X, W].map(|bits| regular & !bits));
        // Pointers to nowhere.
        entries.push(pointer(NOTHING));
        entries.push(pointer(NOTHING) | R | A);
        entries.push(pointer(TABLES + 7 * 4096));
        if level == 0 {
            // Svnapot: every encoding of the low bits of the page number.
            entries.extend((0..16).map(|low| regular & !(15 << 10) | low << 10 | 1 << 63));
            entries.extend((0..4).map(|types| regular & !(15 << 10) | 8 << 10 | 1 << 63 | types << 61));
        }
    } else {
        entries.extend([A, D, U, A | D, G].map(|bits| regular | bits));
        entries.push(pointer(NOTHING));
    }
    entries
}

/// Whether QEMU 10.0 does what the specification says of an entry: it takes the reserved memory type 3 for a valid one,
/// and a page table that is not in memory for an entry that is not valid.
fn judged_by_qemu(entry: u64, memory_types: bool) -> bool {
    !(entry >> 61 & 3 == 3 && memory_types) && entry != pointer(NOTHING)
}

/// All entries of interest at all levels, and addresses that are not canonical; those that QEMU can judge or the others.
fn geometry(levels: u32, memory_types: bool, judged: bool) -> String {
    let mut body = Body::new(FILL);
    if memory_types {
        body.code("    li a0, 1\n    slli a0, a0, 62\n    csrs menvcfg, a0\n");
    }
    let context = Context { user: false, sum: false, mxr: false, update: false, memory_types };
    for leaf in 0..levels {
        let chain = Chain::new(levels, leaf);
        let address = chain.address | OFFSET;
        let mut rows = Vec::new();
        let mut add = |address: u64, level: u32, entry: u64| {
            let (cause, value) = match chain.outcome(address, level, entry, Access::Load, context) {
                Outcome::Physical(physical, _) if (PAGES..PAGES + PAGE_COUNT * 4096).contains(&physical) => {
                    (NO_TRAP, physical >> 12)
                }
                Outcome::Physical(physical, _) if physical < 0x1_0000_0000 && physical & !0xfff == NOTHING => {
                    (5, address)
                }
                Outcome::Physical(physical, _) => panic!("{levels} levels, entry {entry:#x}: leads to {physical:#x}"),
                Outcome::Fault(cause) => (cause, address),
            };
            rows.push([chain.slot(level), entry, address, cause, value, chain.entry(level)]);
        };
        for level in leaf..levels {
            for entry in variants(&chain, level) {
                // Where a larger page would lead out of the pages that have numbers there is nothing to compare.
                let leads_away = level > leaf && entry & (R | X) != 0;
                if !leads_away && judged_by_qemu(entry, memory_types) == judged {
                    add(address, level, entry);
                }
            }
        }
        // The highest bit that is translated must be copied to all above it.
        for bit in (12 + 9 * levels - 1..64).filter(|_| judged) {
            add(address ^ 1 << bit, leaf, chain.entry(leaf));
        }
        body.code(&chain.build());
        body.table(
            &format!("Sv{} with a leaf at level {leaf}", 12 + 9 * levels),
            &rows,
            "    ld a0, 0(s0)
    ld a1, 8(s0)
    ld a2, 16(s0)
    ld a3, 24(s0)
    ld a4, 32(s0)
    ld a5, 40(s0)
    sd a1, 0(a0)
    sfence.vma
    la s6, 1f
    li s2, -1
    li s7, 0
    li a6, -1
    li t0, STATUS_MPP
    csrc mstatus, t0
    li t0, STATUS_MPRV | 0x800
    csrs mstatus, t0
    ld a6, 0(a2)
    mv s3, a6
1:
    la s6, unexpected
    li t0, STATUS_MPRV
    csrc mstatus, t0
    check_equal s2, a3
    check_equal s3, a4
    ld t0, 0(a0)
    check_equal t0, a1
    sd a5, 0(a0)
",
        );
        body.code("    csrw satp, zero\n");
    }
    body.finish()
}

/// Every combination of the low eight bits of a leaf with every access, mode and status.
fn permissions(update: bool) -> String {
    let mut body = Body::new(FILL);
    let chain = Chain::new(3, 0);
    body.code(&format!(
        "    li a0, {TARGET:#x}\n    li a1, 0x73\n    sw a1, 0(a0)\n    fence.i\n    li a0, {}\n    slli a0, a0, 61\n    \
         csrw menvcfg, a0\n",
        u8::from(update)
    ));
    body.code(&chain.build());
    body.code(&format!("    li s11, {:#x}\n    li s10, {:#x}\n    li s9, {TARGET:#x}\n", chain.slot(0), chain.address));
    for access in Access::ALL {
        let mut rows = Vec::new();
        for flags in 0..256u64 {
            for status in 0..8 {
                let (user, sum, mxr) = (status & 1 != 0, status & 2 != 0, status & 4 != 0);
                let context = Context { user, sum, mxr, update, memory_types: false };
                let entry = chain.entry(0) & !0xff | flags;
                let (cause, after) = match chain.outcome(chain.address, 0, entry, access, context) {
                    Outcome::Physical(_, after) if access == Access::Fetch => {
                        (if user { ECALL_FROM_USER } else { ECALL_FROM_SUPERVISOR }, after)
                    }
                    Outcome::Physical(_, after) => (NO_TRAP, after),
                    Outcome::Fault(cause) => (cause, entry),
                };
                let mprv = if access == Access::Fetch { 0 } else { STATUS_MPRV };
                let mode = if user { 0 } else { 1 << 11 };
                let bits = mprv | mode | if sum { STATUS_SUM } else { 0 } | if mxr { STATUS_MXR } else { 0 };
                rows.push([entry, bits, cause, after]);
            }
        }
        let instruction = match access {
            Access::Load => "    ld a5, 0x128(s10)\n",
            Access::Store => "    sd a5, 0x128(s10)\n",
            Access::Amo => "    addi a7, s10, 0x128\n    amoswap.d a6, a5, (a7)\n",
            Access::LoadReserved => "    addi a7, s10, 0x128\n    lr.d a5, (a7)\n",
            Access::Fetch => "    csrw mepc, s10\n    mret\n",
        };
        // A fault tells the address; a store that faults stores nothing.
        let tval = match access {
            Access::Fetch => "    li t0, INSTRUCTION_PAGE_FAULT\n    bne s2, t0, 2f\n    check_equal s3, s10\n2:\n",
            _ => "    li t0, -1\n    beq s2, t0, 2f\n    addi t0, s10, 0x128\n    check_equal s3, t0\n2:\n",
        };
        let effect = match access {
            Access::Fetch => "",
            Access::Load | Access::LoadReserved => {
                "    li t0, 77\n    li t1, -1\n    bne s2, t1, 3f\n    srli t0, s9, 12\n3:\n    check_equal a5, t0\n"
            }
            Access::Store | Access::Amo => {
                "    srli t0, s9, 12\n    li t1, -1\n    bne s2, t1, 3f\n    li t0, 77\n3:\n    ld t2, 0x128(s9)\n    \
                 check_equal t2, t0\n"
            }
        };
        body.table(
            &format!("{access:?}, ADUE {update}"),
            &rows,
            &format!(
                "    ld a0, 0(s0)
    ld a1, 8(s0)
    ld a2, 16(s0)
    ld a3, 24(s0)
    sd a0, 0(s11)
    srli t0, s9, 12
    sd t0, 0x128(s9)
    sfence.vma
    la s6, 1f
    li s2, -1
    li s7, 0
    li a5, 77
    li t0, STATUS_MPP | STATUS_MPRV | STATUS_SUM | STATUS_MXR
    csrc mstatus, t0
    csrs mstatus, a1
{instruction}1:
    la s6, unexpected
    li t0, STATUS_MPRV
    csrc mstatus, t0
    check_equal s2, a2
{tval}{effect}    ld t0, 0(s11)
    check_equal t0, a3
"
            ),
        );
    }
    body.finish()
}

/// Names and bodies of the programs.
pub(super) fn bodies() -> Vec<(&'static str, String)> {
    vec![
        ("paging_sv39", geometry(3, false, true)),
        ("paging_sv48", geometry(4, false, true)),
        ("paging_sv57", geometry(5, false, true)),
        ("paging_svpbmt", geometry(3, true, true)),
        ("paging_strict", geometry(3, true, false)),
        ("paging_permissions_svade", permissions(false)),
        ("paging_permissions_svadu", permissions(true)),
    ]
}
