//! What one row of the table is, and the macro that makes a file of rows.

use super::{Insn, Ops, Pattern};
use crate::extension::ExtensionSet;

/// Where an instruction goes when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next instruction.
    Next,
    /// To its own address plus `imm`, or to the next instruction.
    Branch,
    /// To its own address plus `imm`.
    Jump,
    /// To an address from a register.
    JumpIndirect,
    /// Anywhere; anything about the hart may have changed.
    Exit,
}

/// One instruction of the table, semantics aside.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The assembly mnemonic.
    pub mnemonic: &'static str,
    /// The encoding.
    pub pattern: Pattern,
    /// The assembly operands, in the words of the module `syntax`.
    pub syntax: &'static str,
    /// Where it goes.
    pub flow: Flow,
    /// The extensions that it needs, all of them.
    pub requires: ExtensionSet,
    /// The extensions that it also comes with, if not empty.
    pub also: ExtensionSet,
    /// The instruction whose encodings include this one's, when this one's extension is off.
    pub specialises: Option<Opcode>,
    /// The instruction whose semantics it shares.
    pub expands_to: Option<Opcode>,
}

impl Row {
    /// Whether a hart with these extensions has the instruction.
    #[inline]
    pub const fn is_in(&self, extensions: &ExtensionSet) -> bool {
        extensions.contains_all(self.requires) || !self.also.is_empty() && extensions.contains_all(self.also)
    }

    /// Whether it traps while `mstatus.FS` is off: it touches floating-point registers or `fcsr`'s fields.
    pub const fn is_float(&self) -> bool {
        self.requires.intersects(ExtensionSet::FLOAT)
    }
}

/// The place of an instruction in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Opcode(pub u16);

/// An instruction as a type: what an engine is monomorphised over.
pub trait Instruction {
    /// Its place in the table.
    const OPCODE: Opcode;
    /// Its row.
    const ROW: Row;

    /// Its semantics.
    ///
    /// # Errors
    /// Whatever of `m`'s operations stopped it.
    fn execute<M: Ops>(m: &mut M, i: &Insn) -> Result<(), M::Exit>;
}

/// Receives the type of an instruction from [`crate::isa::dispatch`].
pub trait Visitor {
    /// What it makes of it.
    type Output;

    /// Visits one instruction.
    fn visit<I: Instruction>(self) -> Self::Output;
}

/// An identifier with its underscores turned to dots.
pub(super) const fn dotted<const N: usize>(name: &str) -> [u8; N] {
    let name = name.as_bytes();
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        bytes[at] = if name[at] == b'_' { b'.' } else { name[at] };
        at += 1;
    }
    bytes
}

/// Makes the rows of one file.
///
/// ```text
/// instructions! {
///     requires Extension;
///     /// Documentation.
///     mnemonic "bit picture" "operands" [flow Flow] [or Extension] [needs Extension]… [specialises general] |m, i| semantics;
///     mnemonic "bit picture" "operands" [where rs1 = 2, …] [needs Extension]… => instruction it expands to;
/// }
/// ```
///
/// An instruction with `or Extension` is part of that one too. The mnemonic is the identifier with dots for
/// underscores. `M` is the type of `m` in the semantics. A row that expands to another one takes its flow too.
macro_rules! instructions {
    (
        requires $extension:ident;
        $(
            $(#[$meta:meta])*
            $name:ident $picture:literal $syntax:literal
            $(where $($field:ident = $number:literal),+)?
            $(flow $flow:ident)?
            $(or $also:ident)?
            $(needs $needs:ident)*
            $(specialises $general:path)?
            $(=> $base:path)?
            $(|$m:ident, $i:ident| $body:expr)?;
        )+
    ) => {
        /// The number of rows of this file.
        pub(super) const COUNT: usize = [$(stringify!($name)),+].len();

        /// The rows of this file.
        pub(super) const ROWS: [$crate::isa::Row; COUNT] = [$(<$name as $crate::isa::Instruction>::ROW),+];

        /// Places of the rows in this file.
        mod place {
            #[allow(non_camel_case_types)]
            enum Place { $($name),+ }
            $(
                #[allow(non_upper_case_globals)]
                pub(super) const $name: u16 = Place::$name as u16;
            )+
        }

        /// Gives the type of the row at `place` to `visitor`.
        pub(super) fn dispatch<V: $crate::isa::Visitor>(place: u16, visitor: V) -> V::Output {
            match place {
                $(place::$name => visitor.visit::<$name>(),)+
                _ => unreachable!("an opcode is a place in the table"),
            }
        }

        $(
            $(#[$meta])*
            #[allow(non_camel_case_types)]
            #[derive(Clone, Copy, Debug)]
            pub enum $name {}

            impl $crate::isa::Instruction for $name {
                const OPCODE: $crate::isa::Opcode =
                    $crate::isa::Opcode($crate::isa::first_opcode(module_path!()) + place::$name);
                const ROW: $crate::isa::Row = $crate::isa::Row {
                    mnemonic: {
                        const BYTES: [u8; stringify!($name).len()] = $crate::isa::row::dotted(stringify!($name));
                        match core::str::from_utf8(&BYTES) {
                            Ok(mnemonic) => mnemonic,
                            Err(_) => unreachable!(),
                        }
                    },
                    pattern: $crate::isa::Pattern::parse(
                        $picture,
                        $crate::isa::pattern::Fixed { $($($field: $number,)+)? ..$crate::isa::pattern::Fixed::NONE },
                    ),
                    syntax: $syntax,
                    flow: instructions!(@flow $($flow)? $(=> $base)?),
                    requires: $crate::extension::ExtensionSet::of(&[
                        $crate::extension::Extension::$extension,
                        $($crate::extension::Extension::$needs,)*
                    ]),
                    also: $crate::extension::ExtensionSet::of(&[$($crate::extension::Extension::$also)?]),
                    specialises: instructions!(@opcode $($general)?),
                    expands_to: instructions!(@opcode $($base)?),
                };

                #[inline(always)]
                fn execute<M: $crate::isa::Ops>(
                    m: &mut M,
                    i: &$crate::isa::Insn,
                ) -> Result<(), M::Exit> {
                    instructions!(@execute m i $($base)? $(|$m, $i| $body)?)
                }
            }
        )+
    };
    (@flow) => { $crate::isa::Flow::Next };
    (@flow $flow:ident) => { $crate::isa::Flow::$flow };
    (@flow => $base:path) => { <$base as $crate::isa::Instruction>::ROW.flow };
    (@opcode) => { None };
    (@opcode $of:path) => { Some(<$of as $crate::isa::Instruction>::OPCODE) };
    (@execute $hart:ident $insn:ident |$m:ident, $i:ident| $body:expr) => {{
        let ($m, $i) = ($hart, $insn);
        $body
    }};
    (@execute $hart:ident $insn:ident $base:path) => {
        <$base as $crate::isa::Instruction>::execute($hart, $insn)
    };
}
pub(super) use instructions;
