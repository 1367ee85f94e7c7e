//! Names of control and status registers for assembly text: all that RV64 has by standard, whether or not a hart here
//! has them (privileged specification, "CSR Listing"; the debug, vector and AIA specifications).

use std::borrow::Cow;

/// Registers with names of their own, by number.
const NAMED: &[(u16, &str)] = &[
    (0x001, "fflags"),
    (0x002, "frm"),
    (0x003, "fcsr"),
    (0x008, "vstart"),
    (0x009, "vxsat"),
    (0x00a, "vxrm"),
    (0x00f, "vcsr"),
    (0x011, "ssp"),
    (0x015, "seed"),
    (0x017, "jvt"),
    (0x100, "sstatus"),
    (0x104, "sie"),
    (0x105, "stvec"),
    (0x106, "scounteren"),
    (0x10a, "senvcfg"),
    (0x120, "scountinhibit"),
    (0x140, "sscratch"),
    (0x141, "sepc"),
    (0x142, "scause"),
    (0x143, "stval"),
    (0x144, "sip"),
    (0x14d, "stimecmp"),
    (0x150, "siselect"),
    (0x151, "sireg"),
    (0x152, "sireg2"),
    (0x153, "sireg3"),
    (0x155, "sireg4"),
    (0x156, "sireg5"),
    (0x157, "sireg6"),
    (0x15c, "stopei"),
    (0x180, "satp"),
    (0x181, "srmcfg"),
    (0x200, "vsstatus"),
    (0x204, "vsie"),
    (0x205, "vstvec"),
    (0x240, "vsscratch"),
    (0x241, "vsepc"),
    (0x242, "vscause"),
    (0x243, "vstval"),
    (0x244, "vsip"),
    (0x24d, "vstimecmp"),
    (0x250, "vsiselect"),
    (0x251, "vsireg"),
    (0x252, "vsireg2"),
    (0x253, "vsireg3"),
    (0x255, "vsireg4"),
    (0x256, "vsireg5"),
    (0x257, "vsireg6"),
    (0x25c, "vstopei"),
    (0x280, "vsatp"),
    (0x300, "mstatus"),
    (0x301, "misa"),
    (0x302, "medeleg"),
    (0x303, "mideleg"),
    (0x304, "mie"),
    (0x305, "mtvec"),
    (0x306, "mcounteren"),
    (0x308, "mvien"),
    (0x309, "mvip"),
    (0x30a, "menvcfg"),
    (0x320, "mcountinhibit"),
    (0x340, "mscratch"),
    (0x341, "mepc"),
    (0x342, "mcause"),
    (0x343, "mtval"),
    (0x344, "mip"),
    (0x34a, "mtinst"),
    (0x34b, "mtval2"),
    (0x350, "miselect"),
    (0x351, "mireg"),
    (0x352, "mireg2"),
    (0x353, "mireg3"),
    (0x355, "mireg4"),
    (0x356, "mireg5"),
    (0x357, "mireg6"),
    (0x35c, "mtopei"),
    (0x5a8, "scontext"),
    (0x600, "hstatus"),
    (0x602, "hedeleg"),
    (0x603, "hideleg"),
    (0x604, "hie"),
    (0x605, "htimedelta"),
    (0x606, "hcounteren"),
    (0x607, "hgeie"),
    (0x608, "hvien"),
    (0x609, "hvictl"),
    (0x60a, "henvcfg"),
    (0x643, "htval"),
    (0x644, "hip"),
    (0x645, "hvip"),
    (0x646, "hviprio1"),
    (0x647, "hviprio2"),
    (0x64a, "htinst"),
    (0x680, "hgatp"),
    (0x6a8, "hcontext"),
    (0x740, "mnscratch"),
    (0x741, "mnepc"),
    (0x742, "mncause"),
    (0x744, "mnstatus"),
    (0x747, "mseccfg"),
    (0x7a0, "tselect"),
    (0x7a1, "tdata1"),
    (0x7a2, "tdata2"),
    (0x7a3, "tdata3"),
    (0x7a4, "tinfo"),
    (0x7a5, "tcontrol"),
    (0x7a8, "mcontext"),
    (0x7aa, "mscontext"),
    (0x7b0, "dcsr"),
    (0x7b1, "dpc"),
    (0x7b2, "dscratch0"),
    (0x7b3, "dscratch1"),
    (0xb00, "mcycle"),
    (0xb02, "minstret"),
    (0xc00, "cycle"),
    (0xc01, "time"),
    (0xc02, "instret"),
    (0xc20, "vl"),
    (0xc21, "vtype"),
    (0xc22, "vlenb"),
    (0xda0, "scountovf"),
    (0xdb0, "stopi"),
    (0xe12, "hgeip"),
    (0xeb0, "vstopi"),
    (0xf11, "mvendorid"),
    (0xf12, "marchid"),
    (0xf13, "mimpid"),
    (0xf14, "mhartid"),
    (0xf15, "mconfigptr"),
    (0xfb0, "mtopi"),
];

/// Registers with numbered names.
struct Family {
    /// CSR number of the one called 0.
    base: u16,
    name: &'static str,
    first: u16,
    last: u16,
    step: u16,
}

const FAMILIES: &[Family] = &[
    Family { base: 0x10c, name: "sstateen", first: 0, last: 3, step: 1 },
    Family { base: 0x30c, name: "mstateen", first: 0, last: 3, step: 1 },
    Family { base: 0x60c, name: "hstateen", first: 0, last: 3, step: 1 },
    Family { base: 0x320, name: "mhpmevent", first: 3, last: 31, step: 1 },
    // RV64 has the even ones only.
    Family { base: 0x3a0, name: "pmpcfg", first: 0, last: 14, step: 2 },
    Family { base: 0x3b0, name: "pmpaddr", first: 0, last: 63, step: 1 },
    Family { base: 0xb00, name: "mhpmcounter", first: 3, last: 31, step: 1 },
    Family { base: 0xc00, name: "hpmcounter", first: 3, last: 31, step: 1 },
];

/// The name of the CSR with this number.
pub fn csr_name(number: u16) -> Option<Cow<'static, str>> {
    if let Ok(index) = NAMED.binary_search_by_key(&number, |&(number, _)| number) {
        return Some(Cow::Borrowed(NAMED[index].1));
    }
    FAMILIES.iter().find_map(|family| {
        let index = number.checked_sub(family.base)?;
        let member = (family.first..=family.last).contains(&index) && index % family.step == 0;
        member.then(|| Cow::Owned(format!("{}{index}", family.name)))
    })
}

/// The number of the CSR with this name.
pub fn csr_number(name: &str) -> Option<u16> {
    if let Some(&(number, _)) = NAMED.iter().find(|&&(_, named)| named == name) {
        return Some(number);
    }
    FAMILIES.iter().find_map(|family| {
        let index: u16 = name.strip_prefix(family.name)?.parse().ok()?;
        let number = family.base.checked_add(index)?;
        (csr_name(number)? == name).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        assert!(NAMED.is_sorted_by(|a, b| a.0 < b.0));
        let named: Vec<u16> = (0..0x1000).filter(|&number| csr_name(number).is_some()).collect();
        for &number in &named {
            assert_eq!(csr_number(&csr_name(number).unwrap()), Some(number));
        }
        assert_eq!(csr_name(0x300).as_deref(), Some("mstatus"));
        assert_eq!(csr_number("pmpaddr63"), Some(0x3ef));
        assert_eq!(csr_number("pmpaddr64"), None);
        assert_eq!(csr_name(0x3a2).as_deref(), Some("pmpcfg2"));
        assert_eq!(csr_name(0x3a1), None);
        assert_eq!(csr_number("pmpaddr007"), None);
        assert_eq!(csr_number("hpmcounter2"), None);
    }

    /// The registers that a hart has are among the standard ones, by the same names.
    #[test]
    fn the_table_of_implemented_registers_agrees() {
        for csr in crate::csr::all() {
            assert_eq!(csr_name(csr.number).as_deref(), Some(csr.name));
        }
    }
}
