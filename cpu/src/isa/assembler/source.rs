//! Lines of source text: comments, statements, labels, operands, strings.

/// Whether `c` may be in the name of a symbol or a mnemonic.
pub(super) fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$')
}

/// Splits a line into statements at `;` and drops comments (`#`, `//`, `/* … */`, which may go on: `in_comment`).
pub(super) fn statements(line: &str, in_comment: &mut bool) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut quote = None;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        if *in_comment {
            if c == '*' && characters.next_if_eq(&'/').is_some() {
                *in_comment = false;
            }
            continue;
        }
        let current = statements.last_mut().expect("there is one from the start");
        match (quote, c) {
            (Some(_), '\\') => {
                current.push(c);
                current.extend(characters.next());
            }
            (Some(open), _) => {
                current.push(c);
                if c == open {
                    quote = None;
                }
            }
            (None, '"' | '\'') => {
                current.push(c);
                quote = Some(c);
            }
            (None, '#') => break,
            (None, '/') if characters.next_if_eq(&'/').is_some() => break,
            (None, '/') if characters.next_if_eq(&'*').is_some() => {
                *in_comment = true;
                current.push(' ');
            }
            (None, ';') => statements.push(String::new()),
            (None, _) => current.push(c),
        }
    }
    statements
}

/// The label that a statement starts with, and the rest.
pub(super) fn split_label(statement: &str) -> Option<(&str, &str)> {
    let (label, rest) = statement.split_once(':')?;
    let label = label.trim_end();
    (!label.is_empty() && label.chars().all(is_name)).then(|| (label, rest.trim_start()))
}

/// The first word of a statement, and the rest.
pub(super) fn split_word(statement: &str) -> (&str, &str) {
    match statement.find(char::is_whitespace) {
        Some(at) => (&statement[..at], statement[at..].trim()),
        None => (statement, ""),
    }
}

/// Splits at the commas that are not in parentheses or quotes.
pub(super) fn split_operands(text: &str) -> Vec<String> {
    let mut operands = Vec::new();
    let (mut depth, mut quote, mut start, mut escaped) = (0usize, None, 0, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                operands.push(text[start..at].trim().to_owned());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() || !operands.is_empty() {
        operands.push(last.to_owned());
    }
    operands
}

/// The first byte of the inside of a literal, escapes resolved, and how many bytes of text it took.
pub(super) fn unescape(text: &[u8]) -> Option<(u8, usize)> {
    let (&first, rest) = text.split_first()?;
    if first != b'\\' {
        return Some((first, 1));
    }
    let (&escape, rest) = rest.split_first()?;
    let octal = |byte: &&u8| matches!(byte, b'0'..=b'7');
    Some(match escape {
        b'n' => (b'\n', 2),
        b't' => (b'\t', 2),
        b'r' => (b'\r', 2),
        b'b' => (8, 2),
        b'f' => (12, 2),
        b'e' => (27, 2),
        b'0'..=b'7' => {
            let digits = text[1..].iter().take(3).take_while(octal);
            let value = digits.clone().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'));
            (value as u8, 1 + digits.count())
        }
        b'x' => {
            let digits = rest.iter().take(2).take_while(|byte| byte.is_ascii_hexdigit());
            let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or(0);
            let value = digits.clone().fold(0, |value, byte| value * 16 + digit(byte));
            (value as u8, 2 + digits.count())
        }
        other => (other, 2),
    })
}

/// The bytes of a string literal.
pub(super) fn string(text: &str) -> Option<Vec<u8>> {
    let mut rest = text.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        if rest[0] == b'"' {
            return None;
        }
        let (byte, length) = unescape(rest)?;
        bytes.push(byte);
        rest = &rest[length..];
    }
    Some(bytes)
}
