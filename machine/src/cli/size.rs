//! Sizes on the command line.

/// Reads a size: a number with a unit of K, M, G, T (powers of 1024; `KiB`, `MB` and the like mean the same) or without
/// one, which is MiB. The result is in bytes.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "expected a number, such as 512, 512M or 2G".to_owned())?;
    let unit = unit.trim().to_ascii_uppercase();
    let shift = match unit.as_str() {
        "K" | "KB" | "KIB" => 10,
        "" | "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(format!("unknown unit '{unit}': use K, M, G or T")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "more than any machine has".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_and_their_absence() {
        assert_eq!(parse("512"), Ok(512 << 20));
        assert_eq!(parse("1"), Ok(1 << 20));
        assert_eq!(parse("64k"), Ok(64 << 10));
        assert_eq!(parse("2GiB"), Ok(2 << 30));
        assert_eq!(parse("3GB"), Ok(3 << 30));
        for wrong in
            ["", "G", "-1", "1X", "1.5G", "10E", "512B", "1iB", "1GBB", "1Gi", "99999999999999999999", "9999999999T"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
