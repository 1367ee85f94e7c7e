//! Loops over tables of operands and expected values, in assembly.

use std::fmt::Write;

/// A body under construction: code first, its tables behind it.
#[derive(Default)]
pub(super) struct Body {
    code: String,
    tables: String,
    count: usize,
}

impl Body {
    /// An empty one, with what comes before the first loop.
    pub fn new(start: &str) -> Self {
        Self { code: format!("main:\n{start}"), ..Self::default() }
    }

    /// Code that runs once.
    pub fn code(&mut self, code: &str) {
        self.code.push_str(code);
    }

    /// Runs `code` for each row, with s0 at the row: one doubleword per element. In `code`, `\N` stands for a number
    /// that no other loop has, for labels.
    pub fn table<const N: usize>(&mut self, what: &str, rows: &[[u64; N]], code: &str) {
        assert!(!rows.is_empty(), "a table without rows checks nothing: {what}");
        let number = self.count;
        self.count += 1;
        let code = code.replace("\\N", &number.to_string());
        let size = N * 8;
        let _ = writeln!(
            self.code,
            "# {what}\n    la s0, rows_{number}\nloop_{number}:\n{code}    addi s0, s0, {size}\n    la t0, end_{number}\n    \
             bne s0, t0, loop_{number}"
        );
        let _ = writeln!(self.tables, "rows_{number}:");
        for row in rows {
            let words: Vec<String> = row.iter().map(|word| format!("{word:#x}")).collect();
            let _ = writeln!(self.tables, "    .dword {}", words.join(", "));
        }
        let _ = writeln!(self.tables, "end_{number}:");
    }

    /// The whole body.
    pub fn finish(mut self) -> String {
        self.code.push_str("    finish\n    .balign 8\n");
        self.code + &self.tables
    }
}

/// A sequence of numbers without a pattern, the same in each run (Marsaglia, "Xorshift RNGs").
pub(super) struct Random(pub u64);

impl Iterator for Random {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Some(self.0)
    }
}
