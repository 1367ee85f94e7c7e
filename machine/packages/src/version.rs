//! Debian's order of version numbers (Debian Policy §5.6.12): `[epoch:]upstream[-revision]`.

use std::cmp::Ordering;

/// Compares two version numbers.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a_epoch, a_upstream, a_revision) = split(a);
    let (b_epoch, b_upstream, b_revision) = split(b);
    digits(a_epoch, b_epoch).then_with(|| part(a_upstream, b_upstream)).then_with(|| part(a_revision, b_revision))
}

/// Epoch, upstream version and revision; an absent epoch or revision counts as "0".
fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
    (epoch, upstream, revision)
}

/// Non-digit and digit runs in turn; letters sort before other characters, a tilde before everything, the end too.
fn part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (a_text, a_rest) = run(a, |c| !c.is_ascii_digit());
        let (b_text, b_rest) = run(b, |c| !c.is_ascii_digit());
        let length = a_text.len().max(b_text.len());
        for i in 0..length {
            let order = weight(a_text.as_bytes().get(i)).cmp(&weight(b_text.as_bytes().get(i)));
            if order != Ordering::Equal {
                return order;
            }
        }
        let (a_number, a_rest) = run(a_rest, |c| c.is_ascii_digit());
        let (b_number, b_rest) = run(b_rest, |c| c.is_ascii_digit());
        let order = digits(a_number, b_number);
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    Ordering::Equal
}

fn run(text: &str, inside: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !inside(c)).unwrap_or(text.len()))
}

fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

/// Compares two runs of digits of any length as numbers.
fn digits(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::compare;
    use std::cmp::Ordering;

    #[test]
    fn order_of_versions() {
        let ascending = [
            "0~rc1",
            "0",
            "1.0~beta1~svc1",
            "1.0~beta1",
            "1.0",
            "1.0-0+b1",
            "1.0-1",
            "1.0-1+b2",
            "1.0-1.1",
            "1.0a",
            "1.0+",
            "1.2",
            "1.10",
            "6.12.9-1",
            "6.12.107-1",
            "1:0.1",
            "1:1.37.0-6+b9",
            "2:0",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} against {b}");
            }
        }
    }

    #[test]
    fn equal_versions() {
        for (a, b) in [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.01", "1.1"), ("", "0")] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} against {b}");
        }
    }
}
