//! What runs a hart: the interpreter, alone or with translated code.

use crate::{Hart, Interpreter, Stop};

/// How instructions are executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// Decoded blocks.
    #[default]
    Interpreter,
}

/// The engine of one hart, with the code that it has decoded.
pub enum Engine {
    /// Decoded blocks.
    Interpreter(Interpreter),
}

impl Engine {
    /// A fresh engine.
    pub fn new(kind: EngineKind) -> Self {
        match kind {
            EngineKind::Interpreter => Engine::Interpreter(Interpreter::default()),
        }
    }

    /// Runs `hart` until something stops it at an instruction boundary, at most `budget` instructions.
    pub fn run(&mut self, hart: &mut Hart, budget: u64) -> Stop {
        // Interrupts may have become pending while the hart rested.
        hart.reconsider_interrupts();
        match self {
            Engine::Interpreter(interpreter) => interpreter.run(hart, budget),
        }
    }
}
