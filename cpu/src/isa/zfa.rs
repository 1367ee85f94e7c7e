//! Zfa (unprivileged specification, "Zfa Extension for Additional Floating-Point Instructions").

use super::float::*;
use super::row::instructions;
use super::{FloatOp, Format};

instructions! {
    requires Zfa;

    /// Load one of 32 constants.
    fli_s "1111000 00001 zimm 000 rd 1010011" "frd, fli" |m, i| load_immediate(m, i, Format::Single);
    /// Minimum; NaN wins.
    fminm_s "0010100 rs2 rs1 010 rd 1010011" "frd, frs1, frs2" |m, i| binary(m, i, FloatOp::MinNan, Format::Single);
    /// Maximum; NaN wins.
    fmaxm_s "0010100 rs2 rs1 011 rd 1010011" "frd, frs1, frs2" |m, i| binary(m, i, FloatOp::MaxNan, Format::Single);
    /// Round to an integral value.
    fround_s "0100000 00100 rs1 rm rd 1010011" "frd, frs1, rm" |m, i| unary(m, i, FloatOp::Round, Format::Single);
    /// Round to an integral value, raising inexact.
    froundnx_s "0100000 00101 rs1 rm rd 1010011" "frd, frs1, rm"
        |m, i| unary(m, i, FloatOp::RoundInexact, Format::Single);
    /// Less than or equal, quiet.
    fleq_s "1010000 rs2 rs1 100 rd 1010011" "rd, frs1, frs2" |m, i| compare(m, i, FloatOp::LeQuiet, Format::Single);
    /// Less than, quiet.
    fltq_s "1010000 rs2 rs1 101 rd 1010011" "rd, frs1, frs2" |m, i| compare(m, i, FloatOp::LtQuiet, Format::Single);
    /// Load one of 32 constants.
    fli_d "1111001 00001 zimm 000 rd 1010011" "frd, fli" needs D |m, i| load_immediate(m, i, Format::Double);
    /// Minimum; NaN wins.
    fminm_d "0010101 rs2 rs1 010 rd 1010011" "frd, frs1, frs2" needs D
        |m, i| binary(m, i, FloatOp::MinNan, Format::Double);
    /// Maximum; NaN wins.
    fmaxm_d "0010101 rs2 rs1 011 rd 1010011" "frd, frs1, frs2" needs D
        |m, i| binary(m, i, FloatOp::MaxNan, Format::Double);
    /// Round to an integral value.
    fround_d "0100001 00100 rs1 rm rd 1010011" "frd, frs1, rm" needs D
        |m, i| unary(m, i, FloatOp::Round, Format::Double);
    /// Round to an integral value, raising inexact.
    froundnx_d "0100001 00101 rs1 rm rd 1010011" "frd, frs1, rm" needs D
        |m, i| unary(m, i, FloatOp::RoundInexact, Format::Double);
    /// Less than or equal, quiet.
    fleq_d "1010001 rs2 rs1 100 rd 1010011" "rd, frs1, frs2" needs D
        |m, i| compare(m, i, FloatOp::LeQuiet, Format::Double);
    /// Less than, quiet.
    fltq_d "1010001 rs2 rs1 101 rd 1010011" "rd, frs1, frs2" needs D
        |m, i| compare(m, i, FloatOp::LtQuiet, Format::Double);
    /// Convert to a word modulo 2^32, towards zero.
    fcvtmod_w_d "1100001 01000 rs1 001 rd 1010011" "rd, frs1, rtz" needs D
        |m, i| to_integer(m, i, FloatOp::ToIntModular, Format::Double);
    /// Load one of 32 constants.
    fli_h "1111010 00001 zimm 000 rd 1010011" "frd, fli" needs Zfh |m, i| load_immediate(m, i, Format::Half);
    /// Minimum; NaN wins.
    fminm_h "0010110 rs2 rs1 010 rd 1010011" "frd, frs1, frs2" needs Zfh
        |m, i| binary(m, i, FloatOp::MinNan, Format::Half);
    /// Maximum; NaN wins.
    fmaxm_h "0010110 rs2 rs1 011 rd 1010011" "frd, frs1, frs2" needs Zfh
        |m, i| binary(m, i, FloatOp::MaxNan, Format::Half);
    /// Round to an integral value.
    fround_h "0100010 00100 rs1 rm rd 1010011" "frd, frs1, rm" needs Zfh
        |m, i| unary(m, i, FloatOp::Round, Format::Half);
    /// Round to an integral value, raising inexact.
    froundnx_h "0100010 00101 rs1 rm rd 1010011" "frd, frs1, rm" needs Zfh
        |m, i| unary(m, i, FloatOp::RoundInexact, Format::Half);
    /// Less than or equal, quiet.
    fleq_h "1010010 rs2 rs1 100 rd 1010011" "rd, frs1, frs2" needs Zfh
        |m, i| compare(m, i, FloatOp::LeQuiet, Format::Half);
    /// Less than, quiet.
    fltq_h "1010010 rs2 rs1 101 rd 1010011" "rd, frs1, frs2" needs Zfh
        |m, i| compare(m, i, FloatOp::LtQuiet, Format::Half);
}
