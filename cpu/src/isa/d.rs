//! D (unprivileged specification, "D Extension for Double-Precision Floating-Point").

use super::float::*;
use super::row::instructions;
use super::{FloatOp, Format, IntFormat};

instructions! {
    requires D;

    /// Load.
    fld "imm[11:0] rs1 011 rd 0000111" "frd, imm(rs1)" |m, i| load(m, i, Format::Double);
    /// Store.
    fsd "imm[11:5] rs2 rs1 011 imm[4:0] 0100111" "frs2, imm(rs1)" |m, i| store(m, i, Format::Double);
    /// rs1 × rs2 + rs3.
    fmadd_d "rs3 01 rs2 rs1 rm rd 1000011" "frd, frs1, frs2, frs3, rm"
        |m, i| multiply_add(m, i, Format::Double, false, false);
    /// rs1 × rs2 − rs3.
    fmsub_d "rs3 01 rs2 rs1 rm rd 1000111" "frd, frs1, frs2, frs3, rm"
        |m, i| multiply_add(m, i, Format::Double, false, true);
    /// −(rs1 × rs2) + rs3.
    fnmsub_d "rs3 01 rs2 rs1 rm rd 1001011" "frd, frs1, frs2, frs3, rm"
        |m, i| multiply_add(m, i, Format::Double, true, false);
    /// −(rs1 × rs2) − rs3.
    fnmadd_d "rs3 01 rs2 rs1 rm rd 1001111" "frd, frs1, frs2, frs3, rm"
        |m, i| multiply_add(m, i, Format::Double, true, true);
    /// Add.
    fadd_d "0000001 rs2 rs1 rm rd 1010011" "frd, frs1, frs2, rm" |m, i| binary(m, i, FloatOp::Add, Format::Double);
    /// Subtract.
    fsub_d "0000101 rs2 rs1 rm rd 1010011" "frd, frs1, frs2, rm" |m, i| binary(m, i, FloatOp::Sub, Format::Double);
    /// Multiply.
    fmul_d "0001001 rs2 rs1 rm rd 1010011" "frd, frs1, frs2, rm" |m, i| binary(m, i, FloatOp::Mul, Format::Double);
    /// Divide.
    fdiv_d "0001101 rs2 rs1 rm rd 1010011" "frd, frs1, frs2, rm" |m, i| binary(m, i, FloatOp::Div, Format::Double);
    /// Square root.
    fsqrt_d "0101101 00000 rs1 rm rd 1010011" "frd, frs1, rm" |m, i| unary(m, i, FloatOp::Sqrt, Format::Double);
    /// The sign of rs2 on rs1.
    fsgnj_d "0010001 rs2 rs1 000 rd 1010011" "frd, frs1, frs2" |m, i| inject_sign(m, i, Sign::Copy, Format::Double);
    /// The opposite sign of rs2 on rs1.
    fsgnjn_d "0010001 rs2 rs1 001 rd 1010011" "frd, frs1, frs2" |m, i| inject_sign(m, i, Sign::Negate, Format::Double);
    /// Both signs, exclusive or, on rs1.
    fsgnjx_d "0010001 rs2 rs1 010 rd 1010011" "frd, frs1, frs2" |m, i| inject_sign(m, i, Sign::Xor, Format::Double);
    /// Minimum.
    fmin_d "0010101 rs2 rs1 000 rd 1010011" "frd, frs1, frs2" |m, i| binary(m, i, FloatOp::Min, Format::Double);
    /// Maximum.
    fmax_d "0010101 rs2 rs1 001 rd 1010011" "frd, frs1, frs2" |m, i| binary(m, i, FloatOp::Max, Format::Double);
    /// Equal, quiet.
    feq_d "1010001 rs2 rs1 010 rd 1010011" "rd, frs1, frs2" |m, i| compare(m, i, FloatOp::Eq, Format::Double);
    /// Less than, signalling.
    flt_d "1010001 rs2 rs1 001 rd 1010011" "rd, frs1, frs2" |m, i| compare(m, i, FloatOp::Lt, Format::Double);
    /// Less than or equal, signalling.
    fle_d "1010001 rs2 rs1 000 rd 1010011" "rd, frs1, frs2" |m, i| compare(m, i, FloatOp::Le, Format::Double);
    /// Classify.
    fclass_d "1110001 00000 rs1 001 rd 1010011" "rd, frs1" |m, i| to_integer(m, i, FloatOp::Class, Format::Double);
    /// Convert to a word.
    fcvt_w_d "1100001 00000 rs1 rm rd 1010011" "rd, frs1, rm"
        |m, i| to_integer(m, i, FloatOp::ToInt(IntFormat::I32), Format::Double);
    /// Convert to an unsigned word.
    fcvt_wu_d "1100001 00001 rs1 rm rd 1010011" "rd, frs1, rm"
        |m, i| to_integer(m, i, FloatOp::ToInt(IntFormat::U32), Format::Double);
    /// Convert to a doubleword.
    fcvt_l_d "1100001 00010 rs1 rm rd 1010011" "rd, frs1, rm"
        |m, i| to_integer(m, i, FloatOp::ToInt(IntFormat::I64), Format::Double);
    /// Convert to an unsigned doubleword.
    fcvt_lu_d "1100001 00011 rs1 rm rd 1010011" "rd, frs1, rm"
        |m, i| to_integer(m, i, FloatOp::ToInt(IntFormat::U64), Format::Double);
    /// Convert from a word.
    fcvt_d_w "1101001 00000 rs1 rm rd 1010011" "frd, rs1, exact_rm"
        |m, i| from_integer(m, i, IntFormat::I32, Format::Double);
    /// Convert from an unsigned word.
    fcvt_d_wu "1101001 00001 rs1 rm rd 1010011" "frd, rs1, exact_rm"
        |m, i| from_integer(m, i, IntFormat::U32, Format::Double);
    /// Convert from a doubleword.
    fcvt_d_l "1101001 00010 rs1 rm rd 1010011" "frd, rs1, rm" |m, i| from_integer(m, i, IntFormat::I64, Format::Double);
    /// Convert from an unsigned doubleword.
    fcvt_d_lu "1101001 00011 rs1 rm rd 1010011" "frd, rs1, rm"
        |m, i| from_integer(m, i, IntFormat::U64, Format::Double);
    /// Convert from double to single precision.
    fcvt_s_d "0100000 00001 rs1 rm rd 1010011" "frd, frs1, rm" |m, i| convert(m, i, Format::Double, Format::Single);
    /// Convert from single to double precision.
    fcvt_d_s "0100001 00000 rs1 rm rd 1010011" "frd, frs1, exact_rm"
        |m, i| convert(m, i, Format::Single, Format::Double);
    /// Move to an integer register.
    fmv_x_d "1110001 00000 rs1 000 rd 1010011" "rd, frs1" |m, i| move_to_integer(m, i, Format::Double);
    /// Move from an integer register.
    fmv_d_x "1111001 00000 rs1 000 rd 1010011" "frd, rs1" |m, i| move_from_integer(m, i, Format::Double);
}
