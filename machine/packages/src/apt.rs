//! What the host's own Debian configuration says: its mirror (sources.list(5)) and its proxy (apt.conf(5)).
//!
//! Only read, never required: a host without apt passes its mirror itself. Files that cannot be read or parsed count as
//! absent, for they are not ours to complain about.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// An entry of the host's package sources.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: String,
}

/// Names that Debian gives to its suites, past, present and announced.
const SUITES: [&str; 14] = [
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "sid",
    "experimental",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "rc-buggy",
];

/// The mirror that the host's own sources name for Debian itself, from the configuration folder (`/etc/apt`).
pub(crate) fn mirror(configuration: &Path) -> Option<String> {
    let mut sources = Vec::new();
    for path in files(&configuration.join("sources.list.d")) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        match path.extension().and_then(|e| e.to_str()) {
            Some("sources") => sources.extend(deb822_sources(&text)),
            Some("list") => sources.extend(text.lines().filter_map(one_line_source)),
            _ => {}
        }
    }
    if let Ok(text) = fs::read_to_string(configuration.join("sources.list")) {
        sources.extend(text.lines().filter_map(one_line_source));
    }
    // The most Debian-like entry wins, the first among equals.
    let mut best: Option<(u32, &Source)> = None;
    for source in &sources {
        if let Some(score) = score(source)
            && best.is_none_or(|(other, _)| score > other)
        {
            best = Some((score, source));
        }
    }
    best.map(|(_, source)| source.uri.trim_end_matches('/').to_owned())
}

/// How surely an entry is a mirror of Debian's main archive; `None` if it is not.
fn score(source: &Source) -> Option<u32> {
    let scheme = source.uri.split(':').next().unwrap_or_default();
    let path = source.uri.trim_end_matches('/');
    let main_suite = |suite: &str| {
        let base = suite.split(['-', '/']).next().unwrap_or_default();
        SUITES.contains(&base) && !suite.contains("security")
    };
    if !matches!(scheme, "http" | "https" | "file")
        || path.ends_with("-security")
        || !source.components.iter().any(|c| c == "main")
        || !source.suites.iter().all(|suite| main_suite(suite))
        || source.suites.is_empty()
    {
        return None;
    }
    let mut score = 1;
    if path.ends_with("/debian") {
        score += 4;
    }
    // A signing key of another project marks a third party's repository, whatever its path says.
    if source.signed_by.contains("debian-archive") {
        score += 8;
    } else if source.signed_by.is_empty() {
        score += 2;
    }
    (score > 2).then_some(score)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => Vec::new(),
    };
    paths.sort();
    paths
}

/// Entries in the deb822 style: stanzas of `Field: value`, one entry per URI.
fn deb822_sources(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for fields in stanzas(text) {
        let words = |field: &str| -> Vec<String> {
            fields.get(field).map(|v| v.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
        };
        let disabled = fields.get("enabled").is_some_and(|v| matches!(v.trim(), "no" | "false" | "0"));
        if disabled || !words("types").iter().any(|t| t == "deb") {
            continue;
        }
        for uri in words("uris") {
            sources.push(Source {
                uri,
                suites: words("suites"),
                components: words("components"),
                signed_by: fields.get("signed-by").cloned().unwrap_or_default(),
            });
        }
    }
    sources
}

/// Splits a deb822 text with comments into stanzas; field names in lower case, continuation lines joined.
fn stanzas(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut stanzas = vec![BTreeMap::<String, String>::new()];
    let mut field = String::new();
    for line in text.lines() {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            stanzas.push(BTreeMap::new());
            field.clear();
            continue;
        }
        let Some(stanza) = stanzas.last_mut() else { continue };
        if line.starts_with([' ', '\t']) {
            if let Some(value) = stanza.get_mut(&field) {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            field = name.trim().to_ascii_lowercase();
            stanza.insert(field.clone(), value.trim().to_owned());
        }
    }
    stanzas.retain(|stanza| !stanza.is_empty());
    stanzas
}

/// An entry in the one-line style: `deb [option=value …] URI suite component…`.
fn one_line_source(line: &str) -> Option<Source> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let mut signed_by = String::new();
    if let Some(after) = rest.strip_prefix('[') {
        let (options, after) = after.split_once(']')?;
        for option in options.split_whitespace() {
            if let Some(value) = option.strip_prefix("signed-by=") {
                signed_by = value.to_owned();
            }
        }
        rest = after.trim_start();
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    Some(Source { uri, suites: vec![suite], components: words.collect(), signed_by })
}

/// The proxy that the host's configuration names for a URL; `None` means none, `Some("DIRECT")` that none may be used.
pub(crate) fn proxy(configuration: &Path, url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', ':']).next().unwrap_or_default().to_ascii_lowercase();
    let mut options = BTreeMap::new();
    for path in files(&configuration.join("apt.conf.d")) {
        // apt itself reads files without an extension, or with this one.
        if matches!(path.extension().and_then(|e| e.to_str()), None | Some("conf"))
            && let Ok(text) = fs::read_to_string(&path)
        {
            read_options(&text, &mut options);
        }
    }
    if let Ok(text) = fs::read_to_string(configuration.join("apt.conf")) {
        read_options(&text, &mut options);
    }
    let schemes: &[&str] = if scheme == "https" { &["https", "http"] } else { &["http"] };
    schemes
        .iter()
        .flat_map(|s| [format!("acquire::{s}::proxy::{host}"), format!("acquire::{s}::proxy")])
        .find_map(|name| options.get(&name).filter(|value| !value.is_empty()).cloned())
}

/// Reads apt.conf(5): `A::B "value";` and `A { B "value"; };`, names in any case, comments in three styles.
fn read_options(text: &str, options: &mut BTreeMap<String, String>) {
    let mut scopes: Vec<String> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut chars = text.chars().peekable();
    let mut line_start = true;
    while let Some(c) = chars.next() {
        let at_line_start = line_start;
        line_start = c == '\n' || (line_start && c.is_whitespace());
        match c {
            '#' if at_line_start => while chars.next_if(|&c| c != '\n').is_some() {},
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|&c| c != '\n').is_some() {},
            '/' if chars.peek() == Some(&'*') => {
                let mut previous = ' ';
                for c in chars.by_ref() {
                    if previous == '*' && c == '/' {
                        break;
                    }
                    previous = c;
                }
            }
            '"' => words.push(chars.by_ref().take_while(|&c| c != '"').collect()),
            '{' => {
                scopes.push(words.first().map(|w| w.to_ascii_lowercase()).unwrap_or_default());
                words.clear();
            }
            '}' => {
                scopes.pop();
                words.clear();
            }
            ';' => {
                if let [name, value] = words.as_slice() {
                    let path: Vec<String> = scopes.iter().cloned().chain([name.to_ascii_lowercase()]).collect();
                    options.insert(path.join("::"), value.clone());
                }
                words.clear();
            }
            c if c.is_whitespace() => {}
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|&c| !c.is_whitespace() && !"\"{};".contains(c)) {
                    word.push(c);
                }
                words.push(word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn finds_debian_among_others() {
        let folder = configuration(&[
            (
                "sources.list.d/debian.sources",
                "# ours\nTypes: deb\n# note\nURIs: http://mirror.test/debian-security\nSuites: bookworm-security\nComponents: main\n\n\
                 Types: deb deb-src\nURIs: http://mirror.test/debian/\nSuites: bookworm bookworm-updates\nComponents: main\n\
                 Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
            ),
            (
                "sources.list.d/aaa.list",
                "deb [arch=amd64 signed-by=/etc/apt/keyrings/other.gpg] https://other.test/linux/debian bookworm main\n",
            ),
        ]);
        assert_eq!(mirror(folder.path()).as_deref(), Some("http://mirror.test/debian"));
    }

    #[test]
    fn one_line_style_and_disabled_stanzas() {
        let folder = configuration(&[
            (
                "sources.list.d/off.sources",
                "Enabled: no\nTypes: deb\nURIs: http://off.test/debian\nSuites: trixie\nComponents: main\n",
            ),
            (
                "sources.list",
                "deb-src http://src.test/debian sid main\ndeb http://on.test/pub/debian trixie main # here\n",
            ),
        ]);
        assert_eq!(mirror(folder.path()).as_deref(), Some("http://on.test/pub/debian"));
    }

    #[test]
    fn other_distributions_are_no_mirror() {
        let folder =
            configuration(&[("sources.list", "deb http://other.test/ubuntu noble main\ndeb cdrom:[x]/ sid main\n")]);
        assert_eq!(mirror(folder.path()), None);
        assert_eq!(mirror(&folder.path().join("absent")), None);
    }

    #[test]
    fn proxies_in_both_styles() {
        let folder = configuration(&[
            ("apt.conf.d/01proxy", "/* a comment */ Acquire::HTTP::Proxy \"http://one.test:3142\"; // end\n"),
            ("apt.conf.d/02direct", "# x \"\nAcquire { http { Proxy { direct.test \"DIRECT\"; }; }; };\n"),
            ("apt.conf.d/03ignored.bak", "Acquire::http::Proxy \"http://wrong.test\";"),
        ]);
        let proxy = |url| proxy(folder.path(), url);
        assert_eq!(proxy("http://any.test/debian").as_deref(), Some("http://one.test:3142"));
        assert_eq!(proxy("https://any.test/debian").as_deref(), Some("http://one.test:3142"));
        assert_eq!(proxy("http://Direct.test/debian").as_deref(), Some("DIRECT"));
        assert_eq!(super::proxy(&folder.path().join("absent"), "http://any.test/"), None);
    }
}
