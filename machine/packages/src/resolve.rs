//! The closure of dependencies (Debian Policy §7): `Pre-Depends` and `Depends`, no recommendations.
//!
//! The order is stable and dependencies stand before what needs them, except in cycles. Conflicts are not looked at: the
//! packages are unpacked side by side, not installed.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::index::{Index, Record, Relation};

/// What is being resolved, for error messages.
pub(crate) struct Scope<'a> {
    pub(crate) suite: &'a str,
    pub(crate) architecture: &'a str,
}

/// Packages by name with everything that they depend on.
pub(crate) fn closure(index: &Index, names: &[&str], scope: &Scope<'_>) -> Result<Vec<Record>> {
    let mut resolver = Resolver { index, scope, chosen: HashMap::new(), done: Vec::new() };
    for name in names {
        let relation = Relation { name: (*name).to_owned(), version: None };
        resolver.satisfy(&[relation], "the caller")?;
    }
    Ok(resolver.done)
}

/// One package by name, or the best one that provides the name.
pub(crate) fn one(index: &Index, name: &str, scope: &Scope<'_>) -> Result<Record> {
    let relation = Relation { name: name.to_owned(), version: None };
    candidate(index, &relation).ok_or_else(|| missing(&[relation], "the caller", scope))
}

fn missing(group: &[Relation], wanted_by: &str, scope: &Scope<'_>) -> Error {
    Error::NoSuchPackage {
        relation: group.iter().map(Relation::to_string).collect::<Vec<_>>().join(" | "),
        wanted_by: wanted_by.to_owned(),
        suite: scope.suite.to_owned(),
        architecture: scope.architecture.to_owned(),
    }
}

fn candidate(index: &Index, relation: &Relation) -> Option<Record> {
    index.named(&relation.name).find(|record| relation.accepts(&record.version)).or_else(|| {
        let provides = |record: &Record| record.provides.iter().any(|provided| relation.accepts_provided(provided));
        index.providers(&relation.name).into_iter().find(provides)
    })
}

struct Resolver<'a> {
    index: &'a Index,
    scope: &'a Scope<'a>,
    /// Versions and provided names of what has been chosen, by package or virtual name.
    chosen: HashMap<String, Vec<Relation>>,
    done: Vec<Record>,
}

impl Resolver<'_> {
    /// Makes one of a group's alternatives part of the closure, then what it needs. Depth first with a stack of our own:
    /// the chain of dependencies is the archive's, not ours.
    fn satisfy(&mut self, group: &[Relation], wanted_by: &str) -> Result<()> {
        struct Open {
            record: Record,
            next: usize,
        }
        let mut stack: Vec<Open> = Vec::new();
        if let Some(record) = self.choose(group, wanted_by)? {
            stack.push(Open { record, next: 0 });
        }
        while let Some(open) = stack.last_mut() {
            if let Some(group) = open.record.depends.get(open.next) {
                open.next += 1;
                if let Some(record) = self.choose(group, &open.record.name)? {
                    stack.push(Open { record, next: 0 });
                }
            } else if let Some(open) = stack.pop() {
                self.done.push(open.record);
            }
        }
        Ok(())
    }

    /// The package to add for a group; `None` if what has been chosen satisfies it.
    fn choose(&mut self, group: &[Relation], wanted_by: &str) -> Result<Option<Record>> {
        let satisfied = |relation: &Relation| {
            self.chosen.get(&relation.name).is_some_and(|held| held.iter().any(|h| relation.accepts_provided(h)))
        };
        if group.iter().any(satisfied) {
            return Ok(None);
        }
        let record = group
            .iter()
            .find_map(|relation| candidate(self.index, relation))
            .ok_or_else(|| missing(group, wanted_by, self.scope))?;
        let own = Relation { name: record.name.clone(), version: Some(("=".into(), record.version.clone())) };
        for relation in record.provides.iter().cloned().chain([own]) {
            self.chosen.entry(relation.name.clone()).or_default().push(relation);
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::tests::index;

    const SCOPE: Scope<'static> = Scope { suite: "trixie", architecture: "riscv64" };

    fn names(index: &Index, wanted: &[&str]) -> Vec<String> {
        closure(index, wanted, &SCOPE).unwrap().into_iter().map(|r| r.name).collect()
    }

    #[test]
    fn dependencies_stand_first() {
        let index = index(&[
            ("app", "1", "Depends: libb, liba (>= 1)\nPre-Depends: base\nRecommends: nice\n"),
            ("liba", "1", "Depends: base:any\n"),
            ("libb", "1", "Depends: liba\n"),
            ("base", "1", ""),
            ("nice", "1", ""),
        ]);
        assert_eq!(names(&index, &["app"]), ["base", "liba", "libb", "app"]);
        assert_eq!(names(&index, &["liba", "app", "liba"]), ["base", "liba", "libb", "app"]);
    }

    #[test]
    fn cycles_end() {
        let index = index(&[("a", "1", "Depends: b\n"), ("b", "1", "Depends: a, b\n")]);
        assert_eq!(names(&index, &["a"]), ["b", "a"]);
    }

    #[test]
    fn alternatives_and_virtual_packages() {
        let index = index(&[
            ("app", "1", "Depends: absent | awk\n"),
            ("other", "1", "Depends: gawk | mawk\n"),
            ("old", "1", "Depends: liba (<< 1) | liba (>= 3) | libc (>= 2)\n"),
            ("gawk", "1", "Provides: awk\n"),
            ("mawk", "1", "Provides: awk\nPriority: required\n"),
            ("liba", "2", ""),
            ("liba", "3~rc", ""),
            ("libc-impl", "9", "Provides: libc (= 2.1)\n"),
        ]);
        assert_eq!(names(&index, &["app"]), ["mawk"].into_iter().chain(["app"]).collect::<Vec<_>>());
        // What is already there wins over what stands first.
        assert_eq!(names(&index, &["mawk", "other"]), ["mawk", "other"]);
        assert_eq!(names(&index, &["other"]), ["gawk", "other"]);
        assert_eq!(names(&index, &["old"]), ["libc-impl", "old"]);
        assert_eq!(one(&index, "awk", &SCOPE).unwrap().name, "mawk");
    }

    #[test]
    fn what_is_missing_is_named() {
        let index = index(&[("app", "1", "Depends: lib | lob (>= 3)\n"), ("lob", "2", "")]);
        let error = closure(&index, &["app"], &SCOPE).unwrap_err().to_string();
        assert_eq!(error, "package lib | lob (>= 3) (wanted by app) is not in Debian trixie for riscv64");
        assert!(closure(&index, &["nothing"], &SCOPE).unwrap_err().to_string().contains("wanted by the caller"));
    }

    #[test]
    fn long_chains_need_no_deep_stack() {
        let names: Vec<String> = (0..50_000).map(|i| format!("p{i:05}")).collect();
        let depends: Vec<String> = (0..50_000).map(|i| format!("Depends: p{:05}\n", (i + 1) % 50_000)).collect();
        let packages: Vec<_> = names.iter().zip(&depends).map(|(n, d)| (n.as_str(), "1", d.as_str())).collect();
        assert_eq!(closure(&index(&packages), &["p00000"], &SCOPE).unwrap().len(), 50_000);
    }
}
