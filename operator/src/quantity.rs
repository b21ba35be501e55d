//! Quantities such as `500m` and `1Gi`, as far as it takes to see that two are the same: the API server keeps them in a
//! form of its own.

/// Whether two texts are the same quantity.
pub fn same(one: &str, other: &str) -> bool {
    let (Some(one), Some(other)) = (value(one), value(other)) else { return false };
    (one - other).abs() <= one.abs() * 1e-12
}

fn value(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let exponent = || suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok().map(|power| 10_f64.powi(power));
    let unit = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024_f64,
        "Mi" => 1024_f64.powi(2),
        "Gi" => 1024_f64.powi(3),
        "Ti" => 1024_f64.powi(4),
        "Pi" => 1024_f64.powi(5),
        "Ei" => 1024_f64.powi(6),
        _ => exponent()?,
    };
    Some(number * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_in_other_words() {
        for (one, other) in [
            ("1024Mi", "1Gi"),
            ("0.5", "500m"),
            ("1e3", "1k"),
            ("1E", "1000P"),
            ("1.5Gi", "1536Mi"),
            ("0", "0m"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        for (one, other) in
            [("1Gi", "1G"), ("1", "2"), ("10Gi", "10737418241"), ("a", "a"), ("1x", "1x"), ("", "0")]
        {
            assert!(!same(one, other), "{one} {other}");
        }
    }
}
