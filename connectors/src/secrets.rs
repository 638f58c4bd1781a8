//! Which options hold what must not be shown, and text without it.
//!
//! Invariant: hiding keeps every other byte in its place, so that positions in the text stay right.

use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// Parts of the names of options whose values are secret.
const SECRET: &str = "pas+w[a-z]*d|pwd|passphrase|secret|token|jaas|oauthbearer[._]config|[._]pem|access[._]key";

/// A value goes to its own quote: in SQL a doubled one is part of it, in TOML and YAML one behind a backslash.
const VALUE: &str = r#"'((?:[^']|'')*)|"((?:[^"\\]|\\.)*)"#;

static ASSIGNED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!(r#"(?is)(?:{SECRET})[\w.\-]*['"`]?\s*[=:]\s*(?:{VALUE})"#)).ok());
static NAMED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!("(?i){SECRET}")).ok());

/// Whether the value of this option is nobody's business. In doubt it is.
pub fn is_secret(key: &str) -> bool {
    NAMED.as_ref().is_none_or(|named| named.is_match(key))
}

/// A job file as it may be shown: the values of secret options are stars, as many as they have bytes.
pub fn hide(text: &str) -> Cow<'_, str> {
    let Some(assigned) = ASSIGNED.as_ref() else { return Cow::Borrowed("") };
    let mut shown = String::new();
    let mut from = 0;
    for found in assigned.captures_iter(text) {
        let Some(value) = found.get(1).or(found.get(2)) else { continue };
        shown.push_str(&text[from..value.start()]);
        shown.extend(std::iter::repeat_n('*', value.len()));
        from = value.end();
    }
    if from == 0 {
        return Cow::Borrowed(text);
    }
    shown.push_str(&text[from..]);
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_become_stars_and_nothing_moves() {
        let text = "a = 'x', properties.sasl.password = 'hünter2', 'ssl.key.pem'='-----BEGIN', topic = 'password'";
        let shown = hide(text);
        assert_eq!(shown.len(), text.len());
        assert_eq!(
            shown,
            "a = 'x', properties.sasl.password = '********', 'ssl.key.pem'='**********', topic = 'password'"
        );
        assert_eq!(hide("topic = 'a'"), "topic = 'a'");
        // The other kind of quote, and one of its own, are part of a value.
        assert_eq!(hide("password = 'it''s \"so\"', a = 'b'"), "password = '**********', a = 'b'");
        assert_eq!(hide(r#"password = "it's \"so\"" # a"#), r#"password = "***********" # a"#);
        assert_eq!(hide("password: \"x\" # yaml"), "password: \"*\" # yaml");
        assert!(is_secret("librdkafka.sasl.oauthbearer.client.secret") && is_secret("properties.ssl.key.password"));
        assert!(!is_secret("properties.sasl.username") && !is_secret("topic"));
    }
}
