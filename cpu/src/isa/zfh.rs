//! Zfh (unprivileged specification, "Zfh and Zfhmin Extensions for Half-Precision Floating-Point").

use super::float::*;
use super::row::instructions;
use super::{FloatOp, Format, IntFormat};

instructions! {
    requires Zfh;

    /// rs1 × rs2 + rs3.
    fmadd_h "rs3 10 rs2 rs1 rm rd 1000011" "frd, frs1, frs2, frs3, rm"
        |m, i| multiply_add(m, i, Format::Half, false, false);
    /// rs1 × rs2 − rs3.
    fmsub_h "rs3 10 rs2 rs1 rm rd 1000111" "frd, frs1, frs2, frs3, rm"
        |m, i| multiply_add(m, i, Format::Half, false, true);
    /// −(rs1 × rs2) + rs3.
    fnmsub_h "rs3 10 rs2 rs1 rm rd 1001011" "frd, frs1, frs2, frs3, rm"
        |m, i| multiply_add(m, i, Format::Half, true, false);
    /// −(rs1 × rs2) − rs3.
    fnmadd_h "rs3 10 rs2 rs1 rm rd 1001111" "frd, frs1, frs2, frs3, rm"
        |m, i| multiply_add(m, i, Format::Half, true, true);
    /// Add.
    fadd_h "0000010 rs2 rs1 rm rd 1010011" "frd, frs1, frs2, rm" |m, i| binary(m, i, FloatOp::Add, Format::Half);
    /// Subtract.
    fsub_h "0000110 rs2 rs1 rm rd 1010011" "frd, frs1, frs2, rm" |m, i| binary(m, i, FloatOp::Sub, Format::Half);
    /// Multiply.
    fmul_h "0001010 rs2 rs1 rm rd 1010011" "frd, frs1, frs2, rm" |m, i| binary(m, i, FloatOp::Mul, Format::Half);
    /// Divide.
    fdiv_h "0001110 rs2 rs1 rm rd 1010011" "frd, frs1, frs2, rm" |m, i| binary(m, i, FloatOp::Div, Format::Half);
    /// Square root.
    fsqrt_h "0101110 00000 rs1 rm rd 1010011" "frd, frs1, rm" |m, i| unary(m, i, FloatOp::Sqrt, Format::Half);
    /// The sign of rs2 on rs1.
    fsgnj_h "0010010 rs2 rs1 000 rd 1010011" "frd, frs1, frs2" |m, i| inject_sign(m, i, Sign::Copy, Format::Half);
    /// The opposite sign of rs2 on rs1.
    fsgnjn_h "0010010 rs2 rs1 001 rd 1010011" "frd, frs1, frs2" |m, i| inject_sign(m, i, Sign::Negate, Format::Half);
    /// Both signs, exclusive or, on rs1.
    fsgnjx_h "0010010 rs2 rs1 010 rd 1010011" "frd, frs1, frs2" |m, i| inject_sign(m, i, Sign::Xor, Format::Half);
    /// Minimum.
    fmin_h "0010110 rs2 rs1 000 rd 1010011" "frd, frs1, frs2" |m, i| binary(m, i, FloatOp::Min, Format::Half);
    /// Maximum.
    fmax_h "0010110 rs2 rs1 001 rd 1010011" "frd, frs1, frs2" |m, i| binary(m, i, FloatOp::Max, Format::Half);
    /// Equal, quiet.
    feq_h "1010010 rs2 rs1 010 rd 1010011" "rd, frs1, frs2" |m, i| compare(m, i, FloatOp::Eq, Format::Half);
    /// Less than, signalling.
    flt_h "1010010 rs2 rs1 001 rd 1010011" "rd, frs1, frs2" |m, i| compare(m, i, FloatOp::Lt, Format::Half);
    /// Less than or equal, signalling.
    fle_h "1010010 rs2 rs1 000 rd 1010011" "rd, frs1, frs2" |m, i| compare(m, i, FloatOp::Le, Format::Half);
    /// Classify.
    fclass_h "1110010 00000 rs1 001 rd 1010011" "rd, frs1" |m, i| to_integer(m, i, FloatOp::Class, Format::Half);
    /// Convert to a word.
    fcvt_w_h "1100010 00000 rs1 rm rd 1010011" "rd, frs1, rm"
        |m, i| to_integer(m, i, FloatOp::ToInt(IntFormat::I32), Format::Half);
    /// Convert to an unsigned word.
    fcvt_wu_h "1100010 00001 rs1 rm rd 1010011" "rd, frs1, rm"
        |m, i| to_integer(m, i, FloatOp::ToInt(IntFormat::U32), Format::Half);
    /// Convert to a doubleword.
    fcvt_l_h "1100010 00010 rs1 rm rd 1010011" "rd, frs1, rm"
        |m, i| to_integer(m, i, FloatOp::ToInt(IntFormat::I64), Format::Half);
    /// Convert to an unsigned doubleword.
    fcvt_lu_h "1100010 00011 rs1 rm rd 1010011" "rd, frs1, rm"
        |m, i| to_integer(m, i, FloatOp::ToInt(IntFormat::U64), Format::Half);
    /// Convert from a word.
    fcvt_h_w "1101010 00000 rs1 rm rd 1010011" "frd, rs1, rm" |m, i| from_integer(m, i, IntFormat::I32, Format::Half);
    /// Convert from an unsigned word.
    fcvt_h_wu "1101010 00001 rs1 rm rd 1010011" "frd, rs1, rm" |m, i| from_integer(m, i, IntFormat::U32, Format::Half);
    /// Convert from a doubleword.
    fcvt_h_l "1101010 00010 rs1 rm rd 1010011" "frd, rs1, rm" |m, i| from_integer(m, i, IntFormat::I64, Format::Half);
    /// Convert from an unsigned doubleword.
    fcvt_h_lu "1101010 00011 rs1 rm rd 1010011" "frd, rs1, rm" |m, i| from_integer(m, i, IntFormat::U64, Format::Half);
}
