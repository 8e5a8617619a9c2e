//! Counts passed and failed tests from the output of test runners.

use std::ops::AddAssign;

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    pub passed: u32,
    pub failed: u32,
}

impl Counts {
    /// One failure.
    pub fn failure() -> Counts {
        Counts { passed: 0, failed: 1 }
    }

    /// The counts of one line of output: a last line of libtest or wasm-bindgen-test, or one of those of node's test
    /// runner.
    pub fn in_line(line: &str) -> Counts {
        libtest(line).or_else(|| node(line)).unwrap_or_default()
    }

    /// The counts of xtask's own last line: `12 passed, 0 failed`.
    pub fn totals(line: &str) -> Option<Counts> {
        let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
        Some(Counts { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; …`
fn libtest(line: &str) -> Option<Counts> {
    let rest = line.trim().strip_prefix("test result: ")?;
    let (_, counts) = rest.split_once(". ")?;
    let number = |word: &str| {
        let part = counts.split("; ").find(|part| part.ends_with(word))?;
        part.split(' ').next()?.parse().ok()
    };
    Some(Counts { passed: number(" passed")?, failed: number(" failed")? })
}

/// `ℹ pass 5`, `ℹ fail 1` and `ℹ cancelled 1`, or the same after `#`.
fn node(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("ℹ ").or_else(|| line.strip_prefix("# "))?;
    let (word, number) = rest.split_once(' ')?;
    let number = number.parse().ok()?;
    match word {
        "pass" => Some(Counts { passed: number, failed: 0 }),
        // A cancelled test has exceeded its time limit, or its parent has.
        "fail" | "cancelled" => Some(Counts { passed: 0, failed: number }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_a_whole_run() {
        assert_eq!(Counts::totals("12 passed, 3 failed"), Some(Counts { passed: 12, failed: 3 }));
        for line in ["12 passed, x failed", "part  passed  failed", "2 passed", ""] {
            assert_eq!(Counts::totals(line), None, "{line}");
        }
    }

    #[test]
    fn closing_lines() {
        let of = |passed, failed| Counts { passed, failed };
        let cases = [
            (
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
                of(12, 0),
            ),
            ("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", of(1, 2)),
            ("  test result: ok. 2 passed; 0 failed; 0 ignored; 0 filtered out; finished in 0.03s", of(2, 0)),
            ("ℹ pass 5", of(5, 0)),
            ("ℹ fail 3", of(0, 3)),
            ("ℹ cancelled 1", of(0, 1)),
            ("# pass 7", of(7, 0)),
            ("ℹ tests 8", of(0, 0)),
            ("ℹ duration_ms 12.5", of(0, 0)),
            ("test decode::ok ... ok", of(0, 0)),
            ("    # pass 7", of(0, 0)),
            ("", of(0, 0)),
        ];
        for (line, expected) in cases {
            assert_eq!(Counts::in_line(line), expected, "{line}");
        }
    }
}
