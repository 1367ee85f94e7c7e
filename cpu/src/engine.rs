//! What runs a hart: the interpreter, alone or with translated code.

#[cfg(feature = "jit")]
use std::sync::Arc;

use bus::Ram;

use crate::{Configuration, Hart, Interpreter, Stop};
#[cfg(feature = "jit")]
use crate::{Jit, JitError, JitOptions, JitShared};

/// How instructions are executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// Decoded blocks.
    #[default]
    Interpreter,
    /// Hot code is translated, the rest interpreted.
    #[cfg(feature = "jit")]
    Jit(JitOptions),
}

/// Why an engine cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no JIT.
    #[cfg(feature = "jit")]
    #[error(transparent)]
    Jit(#[from] JitError),
}

/// Makes the engines of one machine's harts, which share what they translate.
#[derive(Clone)]
pub enum Engines {
    /// Decoded blocks.
    Interpreter,
    /// Translated code, shared by the machine's harts.
    #[cfg(feature = "jit")]
    Jit(Arc<JitShared>),
}

impl Engines {
    /// Engines of a kind for the harts of a machine with this RAM, which all have this configuration.
    ///
    /// # Errors
    /// The host offers no JIT.
    #[cfg_attr(not(feature = "jit"), allow(unused_variables, reason = "an interpreter needs neither"))]
    pub fn new(kind: EngineKind, ram: &Ram, configuration: &Configuration) -> Result<Self, EngineError> {
        match kind {
            EngineKind::Interpreter => Ok(Engines::Interpreter),
            #[cfg(feature = "jit")]
            EngineKind::Jit(options) => Ok(Engines::Jit(JitShared::new(ram, configuration, options)?)),
        }
    }

    /// The engine of one hart.
    pub fn engine(&self) -> Engine {
        match self {
            Engines::Interpreter => Engine::interpreter(),
            #[cfg(feature = "jit")]
            Engines::Jit(shared) => Engine::Jit(Box::new(Jit::new(shared.clone()))),
        }
    }
}

/// The engine of one hart, with the code that it has decoded.
pub enum Engine {
    /// Decoded blocks.
    Interpreter(Interpreter),
    /// Translated code and decoded blocks.
    #[cfg(feature = "jit")]
    Jit(Box<Jit>),
}

impl Engine {
    /// A fresh interpreter.
    pub fn interpreter() -> Self {
        Engine::Interpreter(Interpreter::default())
    }

    /// What the JIT did on this hart and for the machine, if there is one.
    #[cfg(feature = "jit")]
    pub fn statistics(&self) -> Option<(crate::JitStatistics, crate::CompilerStatistics)> {
        match self {
            Engine::Interpreter(_) => None,
            Engine::Jit(jit) => Some((jit.statistics(), jit.compiler_statistics())),
        }
    }

    /// Runs `hart` until something stops it at an instruction boundary, at most `budget` instructions.
    pub fn run(&mut self, hart: &mut Hart, budget: u64) -> Stop {
        // Interrupts may have become pending while the hart rested.
        hart.reconsider_interrupts();
        match self {
            Engine::Interpreter(interpreter) => interpreter.run(hart, budget),
            #[cfg(feature = "jit")]
            Engine::Jit(jit) => jit.run(hart, budget),
        }
    }
}
