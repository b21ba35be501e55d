//! Globs of pin names, claims and subjects, as niks3 1.7 has them: `*` is any run of characters, `?` any one.

/// Whether the whole text fits.
pub(super) fn matches(glob: &str, text: &str) -> bool {
    let characters = |text: &str| text.chars().map(|character| (false, character)).collect::<Vec<_>>();
    fits(&characters(glob), &characters(text))
}

/// The same of a certificate's subject, in which a backslash and what follows it are one: a `*` that could take the
/// backslash alone would leave a comma of a value to be one between parts.
pub(super) fn matches_subject(glob: &str, subject: &str) -> bool {
    fits(&unescaped(glob), &unescaped(subject))
}

/// A character, and whether it was escaped.
type Character = (bool, char);

fn unescaped(text: &str) -> Vec<Character> {
    let mut rest = text.chars();
    let next = || {
        let character = rest.next()?;
        let escaped = (character == '\\').then(|| rest.next()).flatten();
        Some(escaped.map_or((false, character), |escaped| (true, escaped)))
    };
    std::iter::from_fn(next).collect()
}

/// Takes at most the product of both lengths, whatever the text: it may be a stranger's.
fn fits(glob: &[Character], text: &[Character]) -> bool {
    let (mut at_glob, mut at_text) = (0, 0);
    // The last `*`, and where the run it stands for ends at present.
    let mut star = None;
    while at_text < text.len() {
        match (glob.get(at_glob), star) {
            (Some((false, '*')), _) => {
                star = Some((at_glob, at_text));
                at_glob += 1;
            }
            (Some(&c), _) if c == (false, '?') || c == text[at_text] => {
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
    glob[at_glob..].iter().all(|&c| c == (false, '*'))
}

#[cfg(test)]
mod tests {
    use super::{matches, matches_subject};

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
    fn a_comma_of_a_value_is_never_one_between_parts() {
        for (glob, subject, expected) in [
            ("CN=*,O=Example", r"CN=builder,O=Example", true),
            ("CN=*,O=Example", r"CN=evil\,O=Example", false),
            ("CN=*,O=Example", r"CN=evil\\\,O=Example", false),
            ("CN=*,O=Example", r"CN=a backslash\\,O=Example", true),
            ("CN=*,O=Example", r"CN=a\,b,O=Example", true),
            ("CN=?,O=Example", r"CN=\,,O=Example", true),
            ("CN=??O=Example", r"CN=\,O=Example", false),
            (r"CN=evil\,O=Example", r"CN=evil\,O=Example", true),
            (r"CN=evil\,*", r"CN=evil\,O=Example", true),
            ("CN=evil,*", r"CN=evil\,O=Example", false),
            ("CN=*", "CN=\\", true),
            (r"CN=\*", "CN=any", false),
        ] {
            assert_eq!(matches_subject(glob, subject), expected, "{glob} {subject}");
        }
    }

    #[test]
    fn a_hostile_text_takes_no_longer() {
        let text = "a".repeat(20_000);
        assert!(!matches("a*a*a*a*a*a*a*a*a*b", &text));
    }
}
