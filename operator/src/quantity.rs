//! Quantities of resources, compared by value: the API server turns `1000m` into `1`.

/// Units of 10^-9, the finest that a quantity has.
const NANO_DIGITS: i32 = 9;

/// Whether both are quantities, and the same one.
pub(crate) fn equal(a: &str, b: &str) -> bool {
    matches!((nanos(a), nanos(b)), (Some(a), Some(b)) if a == b)
}

/// The value of a size, in bytes; none when it is no size.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    u64::try_from(nanos(text)? / 10_i128.pow(NANO_DIGITS.unsigned_abs())).ok()
}

/// The value in units of 10^-9; none when it is no quantity, or too large for one.
fn nanos(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (binary, decimal) = factor(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let exponent = decimal.checked_add(NANO_DIGITS)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let value = digits.checked_mul(1_i128.checked_shl(binary)?)?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    if exponent >= 0 { value.checked_mul(power) } else { Some(value / power) }
}

/// What a suffix multiplies by: a power of two and a power of ten.
fn factor(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        exponent => (0, exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_quantities_are_equal_however_written() {
        for (a, b) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1Gi", "1024Mi"),
            ("1G", "1e9"),
            ("1E3", "1k"),
            ("1.5Gi", "1536Mi"),
            ("100u", "100000n"),
            ("-1", "-1000m"),
            ("8Ei", "8192Pi"),
        ] {
            assert!(equal(a, b), "{a} = {b}");
        }
    }

    #[test]
    fn a_size_is_a_number_of_bytes() {
        for (text, expected) in [
            ("10Gi", Some(10 << 30)),
            ("1.5Mi", Some(3 << 19)),
            ("1G", Some(1_000_000_000)),
            ("1500m", Some(1)),
            ("-1", None),
            ("much", None),
            ("9e99", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn others_are_not() {
        for (a, b) in
            [("1", "2"), ("1G", "1Gi"), ("1m", "1M"), ("x", "x"), ("", ""), ("1", "1x"), ("9e99", "9e99")]
        {
            assert!(!equal(a, b), "{a} != {b}");
        }
    }
}
