//! The package index `Packages`: stanzas of deb822 fields, one per package (Debian Policy §5, §7).
//!
//! The archive's index has 50 MB of text, most of it descriptions. Only the fields that resolving and fetching need are
//! kept, sorted by name, in one string; a stanza is parsed when it is looked at.

use std::collections::HashMap;
use std::io::BufRead;

use crate::error::{Error, Result};
use crate::version;

/// The fields kept. `Package` comes first.
const FIELDS: [&str; 10] = [
    "Package",
    "Version",
    "Architecture",
    "Priority",
    "Pre-Depends",
    "Depends",
    "Provides",
    "Filename",
    "Size",
    "SHA256",
];

/// Packages by name, and who provides which virtual package.
#[derive(Debug)]
pub(crate) struct Index {
    text: String,
    /// Where each stanza begins, in order of names, the highest version of a name first.
    stanzas: Vec<usize>,
    providers: HashMap<String, Vec<usize>>,
}

/// A package as the archive describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// Its version, with epoch and revision.
    pub version: String,
    /// The architecture wanted, or `all`.
    pub architecture: String,
    /// How much a system needs it, 0 (`required`) to 4 (`extra`).
    pub priority: u8,
    /// What must be there before it, then what it needs: each group is satisfied by any of its alternatives.
    pub depends: Vec<Vec<Relation>>,
    /// Virtual packages that it stands for.
    pub provides: Vec<Relation>,
    /// Path of the `.deb` below the mirror.
    pub filename: String,
    /// Bytes of the `.deb`.
    pub size: u64,
    /// SHA-256 of the `.deb`, lower-case hexadecimal.
    pub sha256: String,
}

/// A package name, perhaps with a condition on its version: `libc6 (>= 2.41)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The name, without architecture qualifier.
    pub name: String,
    /// The comparison (`<<`, `<=`, `=`, `>=`, `>>`) and the version.
    pub version: Option<(String, String)>,
}

impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.version {
            Some((operator, version)) => write!(f, "{} ({operator} {version})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Relation {
    /// Parses `name[:qualifier] [(operator version)] [[architectures]] [<profiles>]`. The qualifier does not matter in an
    /// archive of one architecture, and the last two occur in source packages only.
    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| c.is_whitespace() || "(:[<".contains(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let version = match rest.split_once('(').and_then(|(_, rest)| rest.split_once(')')) {
            Some((condition, _)) => {
                let condition = condition.trim();
                let end = condition.find(|c| !"<>=".contains(c))?;
                let (operator, version) = condition.split_at(end);
                Some((operator.to_owned(), version.trim().to_owned()))
            }
            None => None,
        };
        (!name.is_empty()).then(|| Relation { name: name.to_owned(), version })
    }

    /// Whether a package of this version satisfies the condition.
    pub(crate) fn accepts(&self, version: &str) -> bool {
        let Some((operator, wanted)) = &self.version else {
            return true;
        };
        let order = version::compare(version, wanted);
        match operator.as_str() {
            "<<" => order.is_lt(),
            "<=" | "<" => order.is_le(),
            "=" => order.is_eq(),
            ">=" | ">" => order.is_ge(),
            ">>" => order.is_gt(),
            _ => false,
        }
    }

    /// Whether a `Provides` entry satisfies this: an unversioned one never satisfies a condition (Policy §7.5).
    pub(crate) fn accepts_provided(&self, provided: &Relation) -> bool {
        self.name == provided.name
            && match (&self.version, &provided.version) {
                (None, _) => true,
                (Some(_), Some((_, version))) => self.accepts(version),
                (Some(_), None) => false,
            }
    }
}

/// Parses `a | b, c (>= 1)`; entries that make no sense are left out.
fn relations(text: &str) -> Vec<Vec<Relation>> {
    let groups = text.split(',').map(|group| group.split('|').filter_map(|r| Relation::parse(r.trim())).collect());
    groups.filter(|group: &Vec<Relation>| !group.is_empty()).collect()
}

impl Index {
    /// Reduces an archive's `Packages` to what [`Index::load`] takes.
    pub(crate) fn reduce(mut packages: impl BufRead, origin: &str) -> Result<String> {
        let refused = |reason: String| Error::Index { origin: origin.to_owned(), reason };
        let mut stanzas: Vec<String> = Vec::new();
        let mut stanza = String::new();
        let mut keeping = false;
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = packages.read_until(b'\n', &mut line).map_err(|e| refused(e.to_string()))?;
            let text = std::str::from_utf8(&line).map_err(|_| refused("it is not UTF-8".into()))?.trim_end();
            if text.is_empty() {
                if stanza.starts_with("Package: ") {
                    stanzas.push(std::mem::take(&mut stanza));
                } else if !stanza.is_empty() {
                    return Err(refused("a stanza does not begin with the package's name".into()));
                }
                keeping = false;
                if length == 0 {
                    break;
                }
            } else if text.starts_with([' ', '\t']) {
                if keeping {
                    stanza.pop();
                    stanza.push_str(text);
                    stanza.push('\n');
                }
            } else {
                keeping = text.split_once(':').is_some_and(|(name, _)| FIELDS.contains(&name));
                if keeping {
                    stanza.push_str(text);
                    stanza.push('\n');
                }
            }
        }
        let version = |stanza: &str| field(stanza, "Version").unwrap_or_default().to_owned();
        stanzas.sort_by(|a, b| package(a).cmp(package(b)).then_with(|| version::compare(&version(b), &version(a))));
        Ok(stanzas.join("\n"))
    }

    /// Takes a reduced index.
    pub(crate) fn load(text: String) -> Self {
        let mut stanzas = Vec::new();
        let mut providers: HashMap<String, Vec<usize>> = HashMap::new();
        let mut position = 0;
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            if line.starts_with("Package: ") {
                start = position;
                stanzas.push(start);
            } else if let Some(names) = line.strip_prefix("Provides: ") {
                for relation in relations(names).into_iter().flatten() {
                    providers.entry(relation.name).or_default().push(start);
                }
            }
            position += line.len();
        }
        Index { text, stanzas, providers }
    }

    fn stanza(&self, start: usize) -> &str {
        let rest = &self.text[start..];
        &rest[..rest.find("\n\n").unwrap_or(rest.len())]
    }

    /// The packages of this very name, the highest version first.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = Record> {
        let first = self.stanzas.partition_point(|&start| package(self.stanza(start)) < name);
        let named = self.stanzas[first..].iter().map(|&start| self.stanza(start));
        named.take_while(move |stanza| package(stanza) == name).filter_map(record)
    }

    /// The packages that provide a name, those first that systems need most.
    pub(crate) fn providers(&self, name: &str) -> Vec<Record> {
        let starts = self.providers.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut records: Vec<Record> = starts.iter().filter_map(|&start| record(self.stanza(start))).collect();
        records.sort_by(|a, b| a.priority.cmp(&b.priority).then_with(|| a.name.cmp(&b.name)));
        records
    }

    /// The names of the packages with a priority (see [`Record::priority`]), in order.
    pub(crate) fn of_priority(&self, priority: u8) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for record in self.stanzas.iter().filter_map(|&start| record(self.stanza(start))) {
            if record.priority == priority && names.last() != Some(&record.name) {
                names.push(record.name);
            }
        }
        names
    }

    /// How many packages there are.
    pub(crate) fn len(&self) -> usize {
        self.stanzas.len()
    }
}

fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn package(stanza: &str) -> &str {
    let line = stanza.lines().next().unwrap_or_default();
    line.strip_prefix("Package: ").unwrap_or_default()
}

/// A stanza's record; `None` if a field that fetching needs is missing or could lead astray.
fn record(stanza: &str) -> Option<Record> {
    let text = |name| field(stanza, name);
    let name = text("Package")?;
    // Policy §5.6.1; the name becomes part of a file name in the cache.
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(valid) {
        return None;
    }
    let filename = text("Filename")?;
    if filename.starts_with('/') || filename.split('/').any(|part| part == ".." || part.is_empty()) {
        return None;
    }
    let sha256 = text("SHA256")?.to_ascii_lowercase();
    if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let groups = |name| text(name).map(relations).unwrap_or_default();
    let mut depends = groups("Pre-Depends");
    depends.extend(groups("Depends"));
    Some(Record {
        name: name.to_owned(),
        version: text("Version")?.to_owned(),
        architecture: text("Architecture")?.to_owned(),
        priority: match text("Priority") {
            Some("required") => 0,
            Some("important") => 1,
            Some("standard") => 2,
            Some("extra") => 4,
            _ => 3,
        },
        depends,
        provides: groups("Provides").into_iter().flatten().collect(),
        filename: filename.to_owned(),
        size: text("Size")?.parse().ok()?,
        sha256,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An index of packages given as (name, version, further fields).
    pub(crate) fn index(packages: &[(&str, &str, &str)]) -> Index {
        let text: String = packages
            .iter()
            .map(|(name, version, fields)| {
                format!(
                    "Package: {name}\nVersion: {version}\nArchitecture: riscv64\nDescription: x\n long\n{fields}Filename: pool/{name}.deb\nSize: 1\nSHA256: {}\n\n",
                    "0".repeat(64)
                )
            })
            .collect();
        Index::load(Index::reduce(text.as_bytes(), "test").unwrap())
    }

    #[test]
    fn fields_and_order() {
        let index = index(&[
            ("zsh", "5", "Depends: libc6 (>= 2.41),\n libtinfo6\n"),
            ("mawk", "1.3", "Provides: awk (= 1), x\nPriority: required\n"),
            ("gawk", "5", "Provides: awk\n"),
            ("awk-x", "1", ""),
            ("zsh", "6~rc", ""),
        ]);
        assert_eq!(index.len(), 5);
        let versions: Vec<_> = index.named("zsh").map(|r| r.version).collect();
        assert_eq!(versions, ["6~rc", "5"]);
        let zsh = index.named("zsh").nth(1).unwrap();
        assert_eq!(zsh.depends.len(), 2);
        assert_eq!(zsh.depends[0][0].to_string(), "libc6 (>= 2.41)");
        assert_eq!(zsh.depends[1][0].to_string(), "libtinfo6");
        let awk: Vec<_> = index.providers("awk").into_iter().map(|r| r.name).collect();
        assert_eq!(awk, ["mawk", "gawk"]);
        assert!(index.named("awk").next().is_none());
        assert!(index.named("zzz").next().is_none());
    }

    #[test]
    fn relations_of_all_kinds() {
        let parsed = relations("python3:any (>> 3.5~), a | b:native (= 1:2-3) [riscv64] <!nocheck>, , c(<<4)");
        let text: Vec<Vec<String>> = parsed.iter().map(|g| g.iter().map(|r| r.to_string()).collect()).collect();
        assert_eq!(text, [vec!["python3 (>> 3.5~)"], vec!["a", "b (= 1:2-3)"], vec!["c (<< 4)"]]);
        let relation = Relation::parse("a (>= 2)").unwrap();
        assert!(relation.accepts("2-1") && !relation.accepts("2~rc"));
        let provided = |text| Relation::parse(text).unwrap();
        assert!(relation.accepts_provided(&provided("a (= 2)")));
        assert!(!relation.accepts_provided(&provided("a")));
        assert!(!relation.accepts_provided(&provided("b (= 2)")));
    }

    #[test]
    fn records_that_lead_astray_are_left_out() {
        for bad in ["Filename: ../x\n", "Filename: /etc/passwd\n", "Filename: a//b\n"] {
            let text = format!("Package: a\nVersion: 1\nArchitecture: all\n{bad}Size: 1\nSHA256: {}\n", "0".repeat(64));
            let index = Index::load(Index::reduce(text.as_bytes(), "test").unwrap());
            assert!(index.named("a").next().is_none(), "{bad}");
        }
        assert!(index(&[("../a", "1", "")]).named("../a").next().is_none());
        assert!(Index::reduce(&b"Version: 1\nPackage: a\n"[..], "test").is_err());
        assert!(Index::reduce(&b"Package: \xff\n"[..], "test").is_err());
    }
}
