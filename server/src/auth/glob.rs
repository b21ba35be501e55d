//! Globs of pin names, claims and subjects, as niks3 1.7 has them: `*` is any run of characters, `?` any one.

/// Whether the whole text fits. Takes at most the product of both lengths, whatever the text: it may be a
/// stranger's.
pub(super) fn matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut at_glob, mut at_text) = (0, 0);
    // The last `*`, and where the run it stands for ends at present.
    let mut star = None;
    while at_text < text.len() {
        match (glob.get(at_glob), star) {
            (Some('*'), _) => {
                star = Some((at_glob, at_text));
                at_glob += 1;
            }
            (Some(&c), _) if c == '?' || c == text[at_text] => {
                at_glob += 1;
                at_text += 1;
            }
            (_, Some((at_star, end))) => {
                star = Some((at_star, end + 1));
                (at_glob, at_text) = (at_star + 1, end + 1);
            }
            (_, None) => return false,
        }
    }
    glob[at_glob..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs_match_like_a_shell() {
        for (glob, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*b*c", "a1b2c", true),
            ("a*b", "ab", true),
            ("a*b", "abc", false),
            ("a*", "b", false),
            ("é*", "éa", true),
            ("main", "main2", false),
            ("v?.*", "v1.2", true),
            ("v?.*", "v.2", false),
            ("repo:org/*:ref:refs/heads/main", "repo:org/a:ref:refs/heads/main", true),
            ("repo:org/*:ref:refs/heads/main", "repo:evil/a:ref:refs/heads/main", false),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn a_hostile_text_takes_no_longer() {
        let text = "a".repeat(20_000);
        assert!(!matches("a*a*a*a*a*a*a*a*a*b", &text));
    }
}
