//! Zfhmin, the part of Zfh that loads, stores, moves and converts (unprivileged specification, "Zfh and Zfhmin
//! Extensions for Half-Precision Floating-Point").

use super::Format;
use super::float::*;
use super::row::instructions;

instructions! {
    requires Zfhmin;

    /// Load.
    flh "imm[11:0] rs1 001 rd 0000111" "frd, imm(rs1)" |m, i| load(m, i, Format::Half);
    /// Store.
    fsh "imm[11:5] rs2 rs1 001 imm[4:0] 0100111" "frs2, imm(rs1)" |m, i| store(m, i, Format::Half);
    /// Convert from half to single precision.
    fcvt_s_h "0100000 00010 rs1 rm rd 1010011" "frd, frs1, exact_rm" |m, i| convert(m, i, Format::Half, Format::Single);
    /// Convert from single to half precision.
    fcvt_h_s "0100010 00000 rs1 rm rd 1010011" "frd, frs1, rm" |m, i| convert(m, i, Format::Single, Format::Half);
    /// Convert from half to double precision.
    fcvt_d_h "0100001 00010 rs1 rm rd 1010011" "frd, frs1, exact_rm" needs D
        |m, i| convert(m, i, Format::Half, Format::Double);
    /// Convert from double to half precision.
    fcvt_h_d "0100010 00001 rs1 rm rd 1010011" "frd, frs1, rm" needs D
        |m, i| convert(m, i, Format::Double, Format::Half);
    /// Move to an integer register.
    fmv_x_h "1110010 00000 rs1 000 rd 1010011" "rd, frs1" |m, i| move_to_integer(m, i, Format::Half);
    /// Move from an integer register.
    fmv_h_x "1111010 00000 rs1 000 rd 1010011" "frd, rs1" |m, i| move_from_integer(m, i, Format::Half);
}
