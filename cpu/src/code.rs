//! The code of a decoded block: operations in a row, and a place among them that moves on without a check.
//!
//! **Invariant.** The last operation of a [`Code`] is the end that [`Code::new`] appends, and it is the only one there.
//! So there is an operation behind every instruction.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::interpreter::{Handler, end_handler, full_handler, handler, illegal_handler};
use crate::isa::{Insn, Opcode};

/// One instruction, ready to run.
#[derive(Clone, Copy)]
pub struct Op {
    /// The code that executes it and goes on with the next.
    handler: Handler,
    /// Its operands.
    pub insn: Insn,
}

impl Op {
    /// An instruction of the table.
    pub fn new(opcode: Opcode, insn: Insn) -> Self {
        Self { handler: handler(opcode), insn }
    }

    /// An instruction of the table that must not be tried the quick way.
    pub fn in_full(opcode: Opcode, insn: Insn) -> Self {
        Self { handler: full_handler(opcode), insn }
    }

    /// An encoding that means nothing in the hart's mode.
    pub fn illegal(word: u32) -> Self {
        Self { handler: illegal_handler, insn: Insn { raw: word, ..Insn::default() } }
    }

    /// The end of a block of `count` instructions in `length` bytes, which goes on behind it.
    fn end(count: usize, length: u64) -> Self {
        Self { handler: end_handler, insn: Insn { index: count as u8, offset: length as u16, ..Insn::default() } }
    }
}

/// What a block does: one instruction at least.
#[derive(Clone)]
pub struct Code(Arc<[Op]>);

impl Code {
    /// The code of instructions, all but the last of which go to the next one; `length` bytes in all.
    ///
    /// # Panics
    /// There are none, or more than [`Insn::index`] can count.
    pub fn new(mut ops: Vec<Op>, length: u64) -> Self {
        assert!(!ops.is_empty() && ops.len() < 256, "a block has instructions, and they are numbered");
        ops.push(Op::end(ops.len(), length));
        Self(ops.into())
    }

    /// Instructions in it.
    pub fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// How many of its instructions start less than `distance` bytes behind the first.
    pub fn instructions_before(&self, distance: u64) -> usize {
        self.0[..self.len()].partition_point(|op| u64::from(op.insn.offset) < distance)
    }

    /// Its first `count` instructions: all, if it has no more.
    pub fn part(&self, count: usize) -> Self {
        match self.0.get(count) {
            Some(next) if count < self.len() => Self::new(self.0[..count].to_vec(), next.insn.offset.into()),
            _ => self.clone(),
        }
    }

    /// The place of its first operation.
    #[inline(always)]
    pub fn start(&self) -> Cursor<'_> {
        Cursor { op: NonNull::from(&self.0[0]), code: PhantomData }
    }

    /// The same, for who keeps the code elsewhere.
    pub fn start_alone(&self) -> Start {
        Start(NonNull::from(&self.0[0]))
    }
}

/// The start of a block's code, for who keeps the code elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Start(NonNull<Op>);

// SAFETY: operations are plain values that nobody changes.
unsafe impl Send for Start {}

impl Start {
    /// A place there.
    ///
    /// # Safety
    /// The [`Code`] that it is the start of lives as long as 'c.
    #[inline(always)]
    pub unsafe fn cursor<'c>(self) -> Cursor<'c> {
        Cursor { op: self.0, code: PhantomData }
    }
}

/// A place in a block's code.
#[derive(Clone, Copy)]
pub struct Cursor<'c> {
    op: NonNull<Op>,
    code: PhantomData<&'c [Op]>,
}

impl<'c> Cursor<'c> {
    #[inline(always)]
    fn op(self) -> &'c Op {
        // SAFETY: a cursor points to an operation of a `Code` that is borrowed for 'c.
        unsafe { self.op.as_ref() }
    }

    /// The operands of the operation here.
    #[inline(always)]
    pub fn insn(self) -> &'c Insn {
        &self.op().insn
    }

    /// The handler of the operation here.
    #[inline(always)]
    pub fn handler(self) -> Handler {
        self.op().handler
    }

    /// The place of the next operation.
    ///
    /// # Safety
    /// The operation here is an instruction, not the end.
    #[inline(always)]
    pub unsafe fn next(self) -> Self {
        // SAFETY: it is not the last of its code (see the module's invariant).
        Self { op: unsafe { self.op.add(1) }, code: PhantomData }
    }
}
