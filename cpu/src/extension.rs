//! The extensions of the instruction set, in one table: names, what needs what, profiles, and the lists that a device
//! tree carries.
//!
//! Invariant of [`ExtensionSet`] as [`ExtensionSet::enable`] and [`ExtensionSet::disable`] keep it: whatever an
//! extension needs or consists of is in the set with it.

use std::fmt;

/// How a device tree tells of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// A letter of the base string, and an entry of `riscv,isa-extensions`.
    Letter,
    /// An entry of `riscv,isa-extensions`, and of the older string after an underscore.
    Name,
    /// Elsewhere (`mmu-type`) or not at all (privilege modes).
    Unlisted,
}

/// What the table says of an extension.
#[derive(Debug)]
struct Description {
    extension: Extension,
    name: &'static str,
    listing: Listing,
    implemented: bool,
    /// What it is another name for: comes and goes with it.
    parts: &'static [Extension],
    /// What it cannot be without.
    needs: &'static [Extension],
}

macro_rules! extensions {
    ($(
        $(#[$meta:meta])*
        $variant:ident $name:literal $listing:ident $implemented:literal
            $(parts $($part:ident)+)? $(needs $($need:ident)+)?;
    )+) => {
        /// An extension of the instruction set, of the privileged architecture, or a property that a profile names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Extension {
            $($(#[$meta])* $variant),+
        }

        static TABLE: &[Description] = &[$(Description {
            extension: Extension::$variant,
            name: $name,
            listing: Listing::$listing,
            implemented: $implemented,
            parts: &[$($(Extension::$part),+)?],
            needs: &[$($(Extension::$need),+)?],
        }),+];
    };
}

// In the canonical order of ISA strings (unprivileged specification, "ISA Extension Naming Conventions").
extensions! {
    /// Base integer instruction set, RV64I.
    I "i" Letter true;
    /// Integer multiplication and division.
    M "m" Letter true needs I;
    /// Atomic instructions.
    A "a" Letter true parts Zaamo Zalrsc;
    /// Single-precision floating point.
    F "f" Letter true needs Zicsr;
    /// Double-precision floating point.
    D "d" Letter true needs F;
    /// Compressed instructions: Zca, and Zcd together with D.
    C "c" Letter true parts Zca;
    /// Bit manipulation: Zba, Zbb and Zbs.
    B "b" Letter true parts Zba Zbb Zbs;
    /// Cache blocks of 64 bytes.
    Zic64b "zic64b" Name true;
    /// Cache-block management.
    Zicbom "zicbom" Name true;
    /// Cache-block prefetch.
    Zicbop "zicbop" Name true;
    /// Cache-block zero.
    Zicboz "zicboz" Name true;
    /// Main memory supports AMOs.
    Ziccamoa "ziccamoa" Name true needs Zaamo;
    /// Main memory supports instruction fetch.
    Ziccif "ziccif" Name true;
    /// Misaligned loads and stores to main memory work.
    Zicclsm "zicclsm" Name true;
    /// Main memory supports reservations that make progress.
    Ziccrse "ziccrse" Name true needs Zalrsc;
    /// Basic counters.
    Zicntr "zicntr" Name true needs Zicsr;
    /// Conditional zero.
    Zicond "zicond" Name true;
    /// Control and status register instructions.
    Zicsr "zicsr" Name true;
    /// Instruction-fetch fence.
    Zifencei "zifencei" Name true;
    /// Non-temporal locality hints.
    Zihintntl "zihintntl" Name true;
    /// Pause hint.
    Zihintpause "zihintpause" Name true;
    /// Hardware performance counters.
    Zihpm "zihpm" Name true needs Zicsr;
    /// May-be-operations.
    Zimop "zimop" Name true;
    /// Reservation sets of 64 bytes.
    Za64rs "za64rs" Name true needs Zalrsc;
    /// Atomic memory operations.
    Zaamo "zaamo" Name true;
    /// Byte and halfword atomic memory operations.
    Zabha "zabha" Name true needs Zaamo;
    /// Atomic compare-and-swap.
    Zacas "zacas" Name true needs Zaamo;
    /// Load-reserved and store-conditional.
    Zalrsc "zalrsc" Name true;
    /// Wait on reservation set.
    Zawrs "zawrs" Name true needs Zalrsc;
    /// Additional floating-point instructions.
    Zfa "zfa" Name true needs F;
    /// Half-precision floating point.
    Zfh "zfh" Name true needs Zfhmin;
    /// Half-precision loads, stores, moves and conversions.
    Zfhmin "zfhmin" Name true needs F;
    /// Compressed instructions without floating point.
    Zca "zca" Name true;
    /// Further simple compressed instructions.
    Zcb "zcb" Name true needs Zca;
    /// Compressed double-precision loads and stores.
    Zcd "zcd" Name true needs Zca D;
    /// Compressed may-be-operations.
    Zcmop "zcmop" Name true needs Zca;
    /// Address generation.
    Zba "zba" Name true;
    /// Basic bit manipulation.
    Zbb "zbb" Name true;
    /// Carry-less multiplication.
    Zbc "zbc" Name true;
    /// Bit manipulation for cryptography.
    Zbkb "zbkb" Name true;
    /// Carry-less multiplication for cryptography.
    Zbkc "zbkc" Name true;
    /// Crossbar permutations.
    Zbkx "zbkx" Name true;
    /// Single-bit instructions.
    Zbs "zbs" Name true;
    /// Data-independent execution latency: each instruction of its list takes the same steps whatever its operands are,
    /// interpreted or translated, without a branch or a table. How long each step takes is the host's affair.
    Zkt "zkt" Name true;
    /// Debug triggers.
    Sdtrig "sdtrig" Name true;
    /// Enhancements of physical memory protection.
    Smepmp "smepmp" Name true;
    /// Pointer masking in M-mode.
    Smmpm "smmpm" Name true;
    /// Pointer masking for the next lower mode, set in M-mode.
    Smnpm "smnpm" Name true needs S;
    /// State enables, machine part.
    Smstateen "smstateen" Name true needs Ssstateen;
    /// Page-table reads of main memory work.
    Ssccptr "ssccptr" Name true needs S;
    /// Counter overflow and mode-based filtering.
    Sscofpmf "sscofpmf" Name true needs S Zihpm;
    /// Supervisor counter enables work for every counter.
    Sscounterenw "sscounterenw" Name true needs S;
    /// Pointer masking for U-mode, set in S-mode.
    Ssnpm "ssnpm" Name true needs S;
    /// State enables, supervisor part.
    Ssstateen "ssstateen" Name true needs S;
    /// Supervisor timer comparison.
    Sstc "sstc" Name true needs S;
    /// `stval` holds the faulting address or instruction.
    Sstvala "sstvala" Name true needs S;
    /// `stvec` supports direct mode at any aligned address.
    Sstvecd "sstvecd" Name true needs S;
    /// `sstatus.UXL` may be 64 bits.
    Ssu64xl "ssu64xl" Name true needs S;
    /// Pointer masking is there for user programs.
    Supm "supm" Name true needs Ssnpm;
    /// Page faults on clear A and D bits.
    Svade "svade" Name true needs S;
    /// Hardware updating of A and D bits.
    Svadu "svadu" Name true needs S;
    /// `satp.MODE` may be Bare.
    Svbare "svbare" Name true needs S;
    /// Fine-grained address-translation cache invalidation.
    Svinval "svinval" Name true needs S;
    /// NAPOT translation contiguity.
    Svnapot "svnapot" Name true needs S;
    /// Page-based memory types.
    Svpbmt "svpbmt" Name true needs S;
    /// Valid PTEs are seen without a fence.
    Svvptc "svvptc" Name true needs S;
    /// Supervisor mode.
    S "s" Unlisted true needs U;
    /// User mode.
    U "u" Unlisted true;
    /// 39-bit virtual addresses.
    Sv39 "sv39" Unlisted true needs S;
    /// 48-bit virtual addresses.
    Sv48 "sv48" Unlisted true needs Sv39;
    /// 57-bit virtual addresses.
    Sv57 "sv57" Unlisted true needs Sv48;
}

impl Extension {
    fn description(self) -> &'static Description {
        &TABLE[self as usize]
    }

    /// All extensions that the table knows, in canonical order.
    pub fn all() -> impl Iterator<Item = Extension> {
        TABLE.iter().map(|description| description.extension)
    }

    /// Its name in lower case, as in ISA strings.
    pub fn name(self) -> &'static str {
        self.description().name
    }

    /// Whether the emulator has it, on this host.
    pub fn is_implemented(self) -> bool {
        // `amocas.q` has to be one with the atomics of other harts.
        let host_has = self != Extension::Zacas || bus::Ram::has_atomic_u128();
        self.description().implemented && host_has
    }

    /// The extension with this name, in any case.
    pub fn from_name(name: &str) -> Option<Extension> {
        Self::all().find(|extension| extension.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ExtensionSet(u128);

impl ExtensionSet {
    /// No extension.
    pub const EMPTY: ExtensionSet = ExtensionSet(0);
    /// Those whose instructions need `mstatus.FS` to be on.
    pub const FLOAT: ExtensionSet = ExtensionSet::of(&[
        Extension::F,
        Extension::D,
        Extension::Zcd,
        Extension::Zfa,
        Extension::Zfh,
        Extension::Zfhmin,
    ]);

    /// The set of exactly these.
    pub const fn of(extensions: &[Extension]) -> ExtensionSet {
        let mut bits = 0;
        let mut at = 0;
        while at < extensions.len() {
            bits |= 1 << extensions[at] as u32;
            at += 1;
        }
        ExtensionSet(bits)
    }

    /// Everything that is implemented.
    pub fn implemented() -> ExtensionSet {
        Extension::all().filter(|extension| extension.is_implemented()).collect()
    }

    /// Every extension that the table knows, implemented or not.
    pub fn known() -> ExtensionSet {
        Extension::all().collect()
    }

    /// Whether `extension` is in the set.
    #[inline]
    pub const fn contains(&self, extension: Extension) -> bool {
        self.0 >> extension as u32 & 1 != 0
    }

    /// Whether all of `others` are in the set.
    #[inline]
    pub const fn contains_all(&self, others: ExtensionSet) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether any of `others` is in the set.
    #[inline]
    pub const fn intersects(&self, others: ExtensionSet) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether nothing is in the set.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Both sets together.
    pub const fn union(self, others: ExtensionSet) -> ExtensionSet {
        ExtensionSet(self.0 | others.0)
    }

    /// The set without `others`, and nothing else changed: what a hart does while `misa` has a letter off.
    pub const fn without(self, others: ExtensionSet) -> ExtensionSet {
        ExtensionSet(self.0 & !others.0)
    }

    /// The members in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = Extension> + '_ {
        Extension::all().filter(|&extension| self.contains(extension))
    }

    /// Adds `extension`, what it consists of and what it needs.
    pub fn enable(&mut self, extension: Extension) {
        if self.contains(extension) {
            return;
        }
        self.0 |= 1 << extension as u32;
        let description = extension.description();
        for &other in description.parts.iter().chain(description.needs) {
            self.enable(other);
        }
        // C includes the double-precision loads and stores if D is there.
        if self.contains(Extension::C) && self.contains(Extension::D) {
            self.enable(Extension::Zcd);
        }
    }

    /// Removes `extension`, what it consists of, and what cannot be without it.
    pub fn disable(&mut self, extension: Extension) {
        if !self.contains(extension) {
            return;
        }
        self.0 &= !(1 << extension as u32);
        let c_without_zcd = extension == Extension::Zcd && self.contains(Extension::D);
        if c_without_zcd && self.contains(Extension::C) {
            // Only the name goes; Zca stays.
            self.0 &= !(1 << Extension::C as u32);
        }
        for &part in extension.description().parts {
            self.disable(part);
        }
        for other in TABLE {
            if other.needs.contains(&extension) {
                self.disable(other.extension);
            } else if other.parts.contains(&extension) {
                // The rest of the parts stays.
                self.0 &= !(1 << other.extension as u32);
            }
        }
    }

    /// The `misa` bits of the letters in the set, S and U included (privileged specification, "Machine ISA").
    pub fn misa_letters(&self) -> u64 {
        self.iter()
            .filter(|extension| extension.name().len() == 1)
            .fold(0, |bits, extension| bits | 1 << (extension.name().as_bytes()[0] - b'a'))
    }

    /// The values of the device-tree property `riscv,isa-extensions`.
    pub fn device_tree_names(&self) -> Vec<&'static str> {
        self.iter().filter(|e| e.description().listing != Listing::Unlisted).map(Extension::name).collect()
    }

    /// The value of the older device-tree property `riscv,isa`.
    pub fn isa_string(&self) -> String {
        let mut string = String::from("rv64");
        for extension in self.iter() {
            match extension.description().listing {
                Listing::Letter => string.push_str(extension.name()),
                Listing::Name => {
                    string.push('_');
                    string.push_str(extension.name());
                }
                Listing::Unlisted => {}
            }
        }
        string
    }

    /// The set that a `--cpu` argument describes: `PROFILE[,extension=on|off]…`, in order, in any case.
    ///
    /// # Errors
    /// What is wrong with the first part that is.
    pub fn from_cpu_argument(argument: &str) -> Result<ExtensionSet, CpuArgumentError> {
        let mut parts = argument.split(',').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let Some(profile) = PROFILES.iter().find(|profile| profile.name.eq_ignore_ascii_case(name)) else {
            return Err(CpuArgumentError::Profile { name: name.into(), valid: names(PROFILES.iter().map(|p| p.name)) });
        };
        let mut set = ExtensionSet::EMPTY;
        for extension in (profile.extensions)() {
            if extension.is_implemented() {
                set.enable(extension);
            }
        }
        for part in parts {
            let Some((name, switch)) = part.split_once('=') else {
                return Err(CpuArgumentError::Switch { part: part.into() });
            };
            let Some(extension) = Extension::from_name(name) else {
                let valid = ExtensionSet::implemented();
                return Err(CpuArgumentError::Extension {
                    name: name.into(),
                    valid: names(valid.iter().map(Extension::name)),
                });
            };
            match switch.to_ascii_lowercase().as_str() {
                "on" if !extension.is_implemented() => {
                    return Err(CpuArgumentError::NotImplemented { extension });
                }
                "on" => set.enable(extension),
                "off" if extension == Extension::I => return Err(CpuArgumentError::Base),
                "off" => set.disable(extension),
                _ => return Err(CpuArgumentError::Switch { part: part.into() }),
            }
        }
        Ok(set)
    }
}

impl FromIterator<Extension> for ExtensionSet {
    fn from_iter<T: IntoIterator<Item = Extension>>(extensions: T) -> Self {
        extensions.into_iter().fold(ExtensionSet::EMPTY, |set, extension| set.union(ExtensionSet::of(&[extension])))
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Why a `--cpu` argument was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuArgumentError {
    /// The profile is unknown.
    #[error("unknown CPU profile '{name}'; valid ones are {valid}")]
    Profile {
        /// What was given.
        name: String,
        /// What could have been.
        valid: String,
    },
    /// The extension is unknown.
    #[error("unknown extension '{name}'; valid ones are {valid}")]
    Extension {
        /// What was given.
        name: String,
        /// What could have been.
        valid: String,
    },
    /// The extension is known but not there.
    #[error("extension '{extension}' is not implemented")]
    NotImplemented {
        /// The extension.
        extension: Extension,
    },
    /// The base instruction set cannot be switched off.
    #[error("extension 'i' is the base instruction set and cannot be switched off")]
    Base,
    /// Neither `on` nor `off`.
    #[error("'{part}' is not of the form EXTENSION=on or EXTENSION=off")]
    Switch {
        /// What was given.
        part: String,
    },
}

struct Profile {
    name: &'static str,
    extensions: fn() -> Vec<Extension>,
}

static PROFILES: &[Profile] = &[
    Profile { name: "rv64gc", extensions: rv64gc },
    Profile { name: "rva22", extensions: rva22 },
    Profile { name: "max", extensions: || ExtensionSet::implemented().iter().collect() },
];

/// RV64GC with the counters, supervisor mode and page tables that operating systems expect.
fn rv64gc() -> Vec<Extension> {
    use Extension::*;
    vec![I, M, A, F, D, C, Zicsr, Zifencei, Zicntr, Zihpm, S, U, Sv39, Sv48, Sv57, Svade]
}

/// RVA22S64 (RISC-V profiles, "RVA22 Profiles"): what is mandatory, and those of its options that need neither V, H
/// nor scalar cryptography.
fn rva22() -> Vec<Extension> {
    use Extension::*;
    vec![
        // RVA22U64, mandatory.
        I,
        M,
        A,
        F,
        D,
        C,
        B,
        Zicsr,
        Zicntr,
        Zihpm,
        Ziccif,
        Ziccrse,
        Ziccamoa,
        Zicclsm,
        Za64rs,
        Zihintpause,
        Zba,
        Zbb,
        Zbs,
        Zic64b,
        Zicbom,
        Zicbop,
        Zicboz,
        Zfhmin,
        Zkt, // RVA22U64, optional.
        Zfh, // RVA22S64, mandatory.
        Zifencei,
        S,
        U,
        Svbare,
        Sv39,
        Svade,
        Ssccptr,
        Sstvecd,
        Sstvala,
        Sscounterenw,
        Svpbmt,
        Svinval,
        // RVA22S64, optional.
        Sv48,
        Sv57,
        Svnapot,
        Ssu64xl,
        Sstc,
        Sscofpmf,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(argument: &str) -> ExtensionSet {
        ExtensionSet::from_cpu_argument(argument).unwrap()
    }

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, description) in TABLE.iter().enumerate() {
            assert_eq!(description.extension as usize, index);
        }
        assert!(TABLE.len() <= 128);
    }

    /// Unprivileged specification: single letters first, then Z by the category of its second letter, then S;
    /// alphabetical within.
    #[test]
    fn the_table_is_in_canonical_order() {
        let key = |e: &Extension| {
            let name = e.name().as_bytes();
            match (e.description().listing, name[0]) {
                (Listing::Letter, _) => (0, "imafdcb".find(name[0] as char).unwrap(), e.name()),
                (Listing::Name, b'z') => (1, "imafdqlcbkjtpvh".find(name[1] as char).unwrap(), e.name()),
                (Listing::Name, _) => (2, 0, e.name()),
                (Listing::Unlisted, _) => (3, 0, ""),
            }
        };
        let extensions: Vec<_> = Extension::all().collect();
        let mut sorted = extensions.clone();
        sorted.sort_by_key(|e| key(e));
        let expected: Vec<_> = sorted.iter().map(|e| e.name()).collect();
        let found: Vec<_> = extensions.iter().map(|e| e.name()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn whatever_an_extension_needs_comes_and_goes_with_it() {
        for extension in Extension::all() {
            let mut set = ExtensionSet::EMPTY;
            set.enable(extension);
            for member in set.iter() {
                let description = member.description();
                for other in description.parts.iter().chain(description.needs) {
                    assert!(set.contains(*other), "{member} is on without {other}");
                }
            }
            let mut set = ExtensionSet::known();
            set.disable(extension);
            assert!(!set.contains(extension));
            for member in set.iter() {
                let description = member.description();
                for other in description.parts.iter().chain(description.needs) {
                    assert!(set.contains(*other), "{member} is on without {other} after {extension}=off");
                }
            }
        }
    }

    #[test]
    fn profiles_and_switches() {
        assert_eq!(cpu("max"), ExtensionSet::implemented());
        assert!(cpu("RVA22").contains(Extension::Svade));
        assert!(!cpu("rva22").contains(Extension::Svadu));
        assert!(cpu("rva22,Svadu=ON").contains(Extension::Svadu));
        assert!(!cpu("rv64gc").contains(Extension::Zba));
        assert!(cpu("rv64gc").contains(Extension::Zcd));
        let no_d = cpu("max,d=off");
        assert!(!no_d.contains(Extension::Zcd) && no_d.contains(Extension::C) && no_d.contains(Extension::F));
        let no_c = cpu("max,c=off");
        assert!(!no_c.contains(Extension::Zca) && !no_c.contains(Extension::Zcb) && !no_c.contains(Extension::Zcd));
        let no_zicsr = cpu("max,zicsr=off");
        assert!(!no_zicsr.contains(Extension::D) && !no_zicsr.contains(Extension::Zicntr));
        assert!(cpu("max,b=off,zbb=on").contains(Extension::Zbb));
        let no_zbb = cpu("max,zbb=off");
        assert!(!no_zbb.contains(Extension::B) && no_zbb.contains(Extension::Zba));
        assert!(!cpu("max,a=off").contains(Extension::Zalrsc));
    }

    #[test]
    fn bad_arguments_are_told() {
        let message = |argument| ExtensionSet::from_cpu_argument(argument).unwrap_err().to_string();
        assert_eq!(message("z80"), "unknown CPU profile 'z80'; valid ones are rv64gc, rva22, max");
        assert!(message("max,foo=on").starts_with("unknown extension 'foo'; valid ones are i, m, a, f, d, c, b, "));
        assert_eq!(message("max,zba"), "'zba' is not of the form EXTENSION=on or EXTENSION=off");
        assert_eq!(message("max,zba=1"), "'zba=1' is not of the form EXTENSION=on or EXTENSION=off");
        assert_eq!(message("max,i=off"), "extension 'i' is the base instruction set and cannot be switched off");
        if let Some(extension) = Extension::all().find(|e| !e.is_implemented()) {
            assert_eq!(message(&format!("max,{extension}=on")), format!("extension '{extension}' is not implemented"));
            assert!(ExtensionSet::from_cpu_argument(&format!("max,{extension}=off")).is_ok());
        }
    }

    #[test]
    fn lists() {
        let set = cpu("rv64gc");
        assert_eq!(set.isa_string(), "rv64imafdc_zicntr_zicsr_zifencei_zihpm_zaamo_zalrsc_zca_zcd_svade");
        assert_eq!(set.device_tree_names()[..7], ["i", "m", "a", "f", "d", "c", "zicntr"]);
        assert_eq!(set.misa_letters(), 0x14112d);
    }
}
