//! F (unprivileged specification, "F Extension for Single-Precision Floating-Point").

use super::float::*;
use super::row::instructions;
use super::{FloatOp, Format, IntFormat};

instructions! {
    requires F;

    /// Load.
    flw "imm[11:0] rs1 010 rd 0000111" "frd, imm(rs1)" |m, i| load(m, i, Format::Single);
    /// Store.
    fsw "imm[11:5] rs2 rs1 010 imm[4:0] 0100111" "frs2, imm(rs1)" |m, i| store(m, i, Format::Single);
    /// rs1 × rs2 + rs3.
    fmadd_s "rs3 00 rs2 rs1 rm rd 1000011" "frd, frs1, frs2, frs3, rm"
        |m, i| multiply_add(m, i, Format::Single, false, false);
    /// rs1 × rs2 − rs3.
    fmsub_s "rs3 00 rs2 rs1 rm rd 1000111" "frd, frs1, frs2, frs3, rm"
        |m, i| multiply_add(m, i, Format::Single, false, true);
    /// −(rs1 × rs2) + rs3.
    fnmsub_s "rs3 00 rs2 rs1 rm rd 1001011" "frd, frs1, frs2, frs3, rm"
        |m, i| multiply_add(m, i, Format::Single, true, false);
    /// −(rs1 × rs2) − rs3.
    fnmadd_s "rs3 00 rs2 rs1 rm rd 1001111" "frd, frs1, frs2, frs3, rm"
        |m, i| multiply_add(m, i, Format::Single, true, true);
    /// Add.
    fadd_s "0000000 rs2 rs1 rm rd 1010011" "frd, frs1, frs2, rm" |m, i| binary(m, i, FloatOp::Add, Format::Single);
    /// Subtract.
    fsub_s "0000100 rs2 rs1 rm rd 1010011" "frd, frs1, frs2, rm" |m, i| binary(m, i, FloatOp::Sub, Format::Single);
    /// Multiply.
    fmul_s "0001000 rs2 rs1 rm rd 1010011" "frd, frs1, frs2, rm" |m, i| binary(m, i, FloatOp::Mul, Format::Single);
    /// Divide.
    fdiv_s "0001100 rs2 rs1 rm rd 1010011" "frd, frs1, frs2, rm" |m, i| binary(m, i, FloatOp::Div, Format::Single);
    /// Square root.
    fsqrt_s "0101100 00000 rs1 rm rd 1010011" "frd, frs1, rm" |m, i| unary(m, i, FloatOp::Sqrt, Format::Single);
    /// The sign of rs2 on rs1.
    fsgnj_s "0010000 rs2 rs1 000 rd 1010011" "frd, frs1, frs2" |m, i| inject_sign(m, i, Sign::Copy, Format::Single);
    /// The opposite sign of rs2 on rs1.
    fsgnjn_s "0010000 rs2 rs1 001 rd 1010011" "frd, frs1, frs2" |m, i| inject_sign(m, i, Sign::Negate, Format::Single);
    /// Both signs, exclusive or, on rs1.
    fsgnjx_s "0010000 rs2 rs1 010 rd 1010011" "frd, frs1, frs2" |m, i| inject_sign(m, i, Sign::Xor, Format::Single);
    /// Minimum.
    fmin_s "0010100 rs2 rs1 000 rd 1010011" "frd, frs1, frs2" |m, i| binary(m, i, FloatOp::Min, Format::Single);
    /// Maximum.
    fmax_s "0010100 rs2 rs1 001 rd 1010011" "frd, frs1, frs2" |m, i| binary(m, i, FloatOp::Max, Format::Single);
    /// Equal, quiet.
    feq_s "1010000 rs2 rs1 010 rd 1010011" "rd, frs1, frs2" |m, i| compare(m, i, FloatOp::Eq, Format::Single);
    /// Less than, signalling.
    flt_s "1010000 rs2 rs1 001 rd 1010011" "rd, frs1, frs2" |m, i| compare(m, i, FloatOp::Lt, Format::Single);
    /// Less than or equal, signalling.
    fle_s "1010000 rs2 rs1 000 rd 1010011" "rd, frs1, frs2" |m, i| compare(m, i, FloatOp::Le, Format::Single);
    /// Classify.
    fclass_s "1110000 00000 rs1 001 rd 1010011" "rd, frs1" |m, i| to_integer(m, i, FloatOp::Class, Format::Single);
    /// Convert to a word.
    fcvt_w_s "1100000 00000 rs1 rm rd 1010011" "rd, frs1, rm"
        |m, i| to_integer(m, i, FloatOp::ToInt(IntFormat::I32), Format::Single);
    /// Convert to an unsigned word.
    fcvt_wu_s "1100000 00001 rs1 rm rd 1010011" "rd, frs1, rm"
        |m, i| to_integer(m, i, FloatOp::ToInt(IntFormat::U32), Format::Single);
    /// Convert to a doubleword.
    fcvt_l_s "1100000 00010 rs1 rm rd 1010011" "rd, frs1, rm"
        |m, i| to_integer(m, i, FloatOp::ToInt(IntFormat::I64), Format::Single);
    /// Convert to an unsigned doubleword.
    fcvt_lu_s "1100000 00011 rs1 rm rd 1010011" "rd, frs1, rm"
        |m, i| to_integer(m, i, FloatOp::ToInt(IntFormat::U64), Format::Single);
    /// Convert from a word.
    fcvt_s_w "1101000 00000 rs1 rm rd 1010011" "frd, rs1, rm" |m, i| from_integer(m, i, IntFormat::I32, Format::Single);
    /// Convert from an unsigned word.
    fcvt_s_wu "1101000 00001 rs1 rm rd 1010011" "frd, rs1, rm"
        |m, i| from_integer(m, i, IntFormat::U32, Format::Single);
    /// Convert from a doubleword.
    fcvt_s_l "1101000 00010 rs1 rm rd 1010011" "frd, rs1, rm" |m, i| from_integer(m, i, IntFormat::I64, Format::Single);
    /// Convert from an unsigned doubleword.
    fcvt_s_lu "1101000 00011 rs1 rm rd 1010011" "frd, rs1, rm"
        |m, i| from_integer(m, i, IntFormat::U64, Format::Single);
    /// Move to an integer register.
    fmv_x_w "1110000 00000 rs1 000 rd 1010011" "rd, frs1" |m, i| move_to_integer(m, i, Format::Single);
    /// Move from an integer register.
    fmv_w_x "1111000 00000 rs1 000 rd 1010011" "frd, rs1" |m, i| move_from_integer(m, i, Format::Single);
}
