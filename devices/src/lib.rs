//! The devices of a board, one file each
