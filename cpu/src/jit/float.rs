//! Floating point on the host's unit, where that is exact: results, and flags as they accrue in its status word.
//!
//! Hosts differ from RISC-V in the bits of NaN results, in what signals on a quiet NaN, and in conversions out of range.
//! Each such case takes a branch that is never taken in practice, to the exact implementation or to the canonical NaN.
//! That branch also keeps the operation alive for its flags; where there is none, the result is fragile, and the
//! translator keeps it. NaNs are made canonical late: what is only an operand of another operation never is.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::immediates::{Ieee32, Ieee64};
use cranelift_codegen::ir::types::{F32, F64, I32, I64};
use cranelift_codegen::ir::{BlockArg, InstBuilder, Type, Value};

use super::translate::{Translator, V, bits};
use crate::isa::{FloatOp, Format, Insn, IntFormat};

/// `rm`: to nearest, ties to even.
const NEAREST: u8 = 0;
/// `rm`: towards zero.
const TOWARDS_ZERO: u8 = 1;
/// `rm`: as `frm` says.
const DYNAMIC: u8 = 7;

impl Translator<'_, '_> {
    /// An operation on the host's unit; `None` if that is not exact.
    pub(super) fn host_float(&mut self, i: &Insn, op: FloatOp, format: Format, operands: [V; 3]) -> Option<V> {
        if !self.host.floats || format == Format::Half {
            return None;
        }
        let nearest = i.rm == NEAREST || i.rm == DYNAMIC && self.nearest;
        let [a, b, c] = operands;
        match op {
            FloatOp::Add | FloatOp::Sub | FloatOp::Mul | FloatOp::Div if nearest => {
                let (a, b) = (self.float_value(a, format), self.float_value(b, format));
                let value = match op {
                    FloatOp::Add => self.b.ins().fadd(a, b),
                    FloatOp::Sub => self.b.ins().fsub(a, b),
                    FloatOp::Mul => self.b.ins().fmul(a, b),
                    _ => self.b.ins().fdiv(a, b),
                };
                Some(self.loosely(value, format))
            }
            FloatOp::Sqrt if nearest => {
                let a = self.float_value(a, format);
                let value = self.b.ins().sqrt(a);
                Some(self.loosely(value, format))
            }
            FloatOp::MulAdd if nearest && self.host.fused => {
                let [x, y, z] = [a, b, c].map(|v| self.float_value(v, format));
                // An infinity times zero is invalid even if a quiet NaN is added (F extension); hosts differ there.
                let plain = self.b.ins().fcmp(FloatCC::Ordered, z, z);
                let t = Self::float_type(format);
                let fused =
                    self.either(plain, t, format, (i, op, operands), |translator| translator.b.ins().fma(x, y, z));
                let value = self.float_value(fused, format);
                Some(self.loosely(value, format))
            }
            FloatOp::Min | FloatOp::Max => {
                let (x, y) = (self.float_value(a, format), self.float_value(b, format));
                // Equal operands may be zeros of both signs.
                let plain = self.b.ins().fcmp(FloatCC::OrderedNotEqual, x, y);
                let t = Self::float_type(format);
                Some(self.either(plain, t, format, (i, op, operands), |translator| {
                    let code = if op == FloatOp::Min { FloatCC::LessThan } else { FloatCC::GreaterThan };
                    let first = translator.b.ins().fcmp(code, x, y);
                    translator.b.ins().select(first, x, y)
                }))
            }
            FloatOp::Eq | FloatOp::LtQuiet | FloatOp::LeQuiet => {
                let (a, b) = (self.float_value(a, format), self.float_value(b, format));
                self.fragile = true;
                let code = match op {
                    FloatOp::Eq => FloatCC::Equal,
                    FloatOp::LtQuiet => FloatCC::LessThan,
                    _ => FloatCC::LessThanOrEqual,
                };
                Some(V::Bool(self.b.ins().fcmp(code, a, b)))
            }
            FloatOp::Lt | FloatOp::Le => {
                let (x, y) = (self.float_value(a, format), self.float_value(b, format));
                // The host's comparison is silent about quiet NaNs.
                let plain = self.b.ins().fcmp(FloatCC::Ordered, x, y);
                Some(self.either(plain, I64, format, (i, op, operands), |translator| {
                    let code = if op == FloatOp::Lt { FloatCC::LessThan } else { FloatCC::LessThanOrEqual };
                    let holds = translator.b.ins().fcmp(code, x, y);
                    translator.b.ins().uextend(I64, holds)
                }))
            }
            FloatOp::ToInt(to) if i.rm == TOWARDS_ZERO => Some(self.truncated(i, op, to, format, operands)),
            FloatOp::FromInt(from) if nearest || format == Format::Double && from.is_word() => {
                let a = self.int(a);
                let t = Self::float_type(format);
                self.fragile = true;
                let value = match from {
                    IntFormat::I32 => {
                        let word = self.b.ins().ireduce(I32, a);
                        self.b.ins().fcvt_from_sint(t, word)
                    }
                    IntFormat::U32 => {
                        let word = self.b.ins().ireduce(I32, a);
                        let wide = self.b.ins().uextend(I64, word);
                        self.b.ins().fcvt_from_sint(t, wide)
                    }
                    IntFormat::I64 => self.b.ins().fcvt_from_sint(t, a),
                    IntFormat::U64 => self.b.ins().fcvt_from_uint(t, a),
                };
                Some(Self::float_v(value, format))
            }
            FloatOp::From(Format::Single) if format == Format::Double => {
                let a = self.float_value(a, Format::Single);
                let value = self.b.ins().fpromote(F64, a);
                Some(self.loosely(value, format))
            }
            FloatOp::From(Format::Double) if format == Format::Single && nearest => {
                let a = self.float_value(a, Format::Double);
                let value = self.b.ins().fdemote(F32, a);
                Some(self.loosely(value, format))
            }
            _ => None,
        }
    }

    fn float_type(format: Format) -> Type {
        if format == Format::Double { F64 } else { F32 }
    }

    fn float_v(value: Value, format: Format) -> V {
        if format == Format::Double { V::Double(value) } else { V::Single(value) }
    }

    /// An operand, which may be any NaN.
    fn float_value(&mut self, v: V, format: Format) -> Value {
        match (v, format) {
            (V::Double(value), Format::Double) | (V::Single(value) | V::Boxed(value), Format::Single) => {
                self.note_use(value);
                value
            }
            (_, Format::Double) => self.double(v),
            _ => self.single(v),
        }
    }

    /// The operation that a value comes from is kept by the one that uses it, which is kept itself.
    fn note_use(&mut self, value: Value) {
        for register in bits(self.unused) {
            if self.values[register as usize].and_then(|v| self.loose_part(v)) == Some(value) {
                self.unused &= !(1 << register);
            }
        }
    }

    fn float_constant(&mut self, value: f64, format: Format) -> Value {
        if format == Format::Double {
            self.b.ins().f64const(Ieee64::with_float(value))
        } else {
            self.b.ins().f32const(Ieee32::with_float(value as f32))
        }
    }

    /// A result whose NaN may be any: it is only made canonical where somebody looks at its bits, as other operations
    /// make a NaN of a NaN, whichever it is.
    fn loosely(&mut self, value: Value, format: Format) -> V {
        self.fragile = true;
        self.loose.push(value);
        Self::float_v(value, format)
    }

    /// The float that a value consists of, if it is one that may be another NaN than the canonical one.
    fn loose_part(&self, v: V) -> Option<Value> {
        match v {
            V::Double(value) | V::Single(value) | V::Boxed(value) => Some(value).filter(|v| self.loose.contains(v)),
            _ => None,
        }
    }

    pub(super) fn is_loose(&self, v: V) -> bool {
        self.loose_part(v).is_some()
    }

    /// A value, with the canonical NaN in the place of any; all registers that hold it hold the result from now on.
    pub(super) fn settled(&mut self, v: V) -> V {
        let Some(value) = self.loose_part(v) else { return v };
        let canonical = self.canonical(value);
        let exchanged = |v: V| match v {
            V::Double(other) if other == value => V::Double(canonical),
            V::Single(other) if other == value => V::Single(canonical),
            V::Boxed(other) if other == value => V::Boxed(canonical),
            other => other,
        };
        self.values = self.values.map(|v| v.map(exchanged));
        exchanged(v)
    }

    /// A float with the canonical NaN in the place of any.
    fn canonical(&mut self, value: Value) -> Value {
        let t = self.b.func.dfg.value_type(value);
        let nan = self.b.ins().fcmp(FloatCC::Unordered, value, value);
        let (cold, join) = (self.cold(), self.b.create_block());
        self.b.append_block_param(join, t);
        self.b.ins().brif(nan, cold, [], join, &[BlockArg::Value(value)]);
        self.b.seal_block(cold);
        self.b.switch_to_block(cold);
        let canonical = if t == F64 {
            self.b.ins().f64const(Ieee64::with_bits(0x7ff8_0000_0000_0000))
        } else {
            self.b.ins().f32const(Ieee32::with_bits(0x7fc0_0000))
        };
        self.b.ins().jump(join, &[BlockArg::Value(canonical)]);
        self.b.seal_block(join);
        self.b.switch_to_block(join);
        self.b.block_params(join)[0]
    }

    /// `plain` of type `t` if the condition holds, else the exact operation.
    fn either(
        &mut self,
        condition: Value,
        t: Type,
        format: Format,
        (i, op, operands): (&Insn, FloatOp, [V; 3]),
        plain: impl FnOnce(&mut Self) -> Value,
    ) -> V {
        let (hot, cold, join) = (self.b.create_block(), self.cold(), self.b.create_block());
        self.b.append_block_param(join, t);
        self.branch_to(condition, hot, cold);
        self.b.switch_to_block(hot);
        let value = plain(self);
        self.b.ins().jump(join, &[BlockArg::Value(value)]);
        self.b.switch_to_block(cold);
        self.preserving(|translator| {
            let exact = translator.exact_float(i, op, format, operands);
            let exact = if t == I64 { translator.int(exact) } else { translator.float_value(exact, format) };
            translator.b.ins().jump(join, &[BlockArg::Value(exact)]);
        });
        self.b.seal_block(join);
        self.b.switch_to_block(join);
        let value = self.b.block_params(join)[0];
        if t == I64 { V::Int(value) } else { Self::float_v(value, format) }
    }

    /// A conversion to an integer, towards zero.
    fn truncated(&mut self, i: &Insn, op: FloatOp, to: IntFormat, format: Format, operands: [V; 3]) -> V {
        let a = self.float_value(operands[0], format);
        self.fragile = true;
        let plain = match to {
            // The host saturates as RISC-V does, but for NaNs.
            IntFormat::I32 | IntFormat::I64 => self.b.ins().fcmp(FloatCC::Ordered, a, a),
            IntFormat::U32 | IntFormat::U64 => {
                let end = if to == IntFormat::U32 { 4_294_967_296.0 } else { 9_223_372_036_854_775_808.0 };
                let (low, high) = (self.float_constant(-1.0, format), self.float_constant(end, format));
                let above = self.b.ins().fcmp(FloatCC::GreaterThan, a, low);
                let below = self.b.ins().fcmp(FloatCC::LessThan, a, high);
                self.b.ins().band(above, below)
            }
        };
        self.either(plain, I64, format, (i, op, operands), |translator| match to {
            IntFormat::I32 => {
                let word = translator.b.ins().fcvt_to_sint_sat(I32, a);
                translator.b.ins().sextend(I64, word)
            }
            IntFormat::U32 => {
                let wide = translator.b.ins().fcvt_to_sint_sat(I64, a);
                let word = translator.b.ins().ireduce(I32, wide);
                translator.b.ins().sextend(I64, word)
            }
            IntFormat::I64 | IntFormat::U64 => translator.b.ins().fcvt_to_sint_sat(I64, a),
        })
    }
}

impl IntFormat {
    /// Whether it has 32 bits.
    fn is_word(self) -> bool {
        matches!(self, IntFormat::I32 | IntFormat::U32)
    }
}
