//! Whose rights a task has on its agent's machine, and which secrets it is told.
//!
//! Invariant: a name that was checked is one name: no path, and nothing that a shell or a password file would take for more.

use std::collections::BTreeMap;

/// In one task.
const MAX_SECRETS: usize = 256;

/// Whether it can be the name of a user of a machine.
pub fn check_user(name: &str) -> Result<(), String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_number = || name.bytes().all(|byte| byte.is_ascii_digit());
    if !(1..=32).contains(&name.len()) || !name.bytes().all(is_good) || name.starts_with(['-', '.']) || is_number() {
        return Err(format!("'{name}' is no name of a user"));
    }
    Ok(())
}

/// Whether a task can be told these: secrets' names by the environment variables that hold them.
pub fn check_secrets(secrets: &BTreeMap<String, String>) -> Result<(), String> {
    if secrets.len() > MAX_SECRETS {
        return Err(format!("{} secrets are more than the {MAX_SECRETS} that one task may have", secrets.len()));
    }
    for (variable, name) in secrets {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let begins_well = !variable.starts_with(|first: char| first.is_ascii_digit());
        if variable.is_empty() || !variable.bytes().all(is_good) || !begins_well || variable.starts_with("SMACK_") {
            return Err(format!("'{variable}' cannot be the environment variable of a secret"));
        }
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=128).contains(&name.len()) || !name.bytes().all(is_good) || name.starts_with('.') {
            return Err(format!("'{name}' is no name of a secret: letters, digits, '-', '_' and inner dots"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_more_than_names_are_refused() {
        for name in ["nobody", "svc-ml.1", "_apt"] {
            assert_eq!(check_user(name), Ok(()));
        }
        for name in ["", "0", "1000", "-rf", "a/b", "a:b", "root\n", "ä"] {
            assert!(check_user(name).is_err(), "{name}");
        }
        let secrets = |variable: &str, name: &str| BTreeMap::from([(variable.to_string(), name.to_string())]);
        assert_eq!(check_secrets(&secrets("DB_PASSWORD", "db.password")), Ok(()));
        for (variable, name) in [
            ("", "a"),
            ("A=B", "a"),
            ("1A", "a"),
            ("SMACK_TASK_ID", "a"),
            ("A", ""),
            ("A", "../a"),
            ("A", ".a"),
            ("A", "a/b"),
        ] {
            assert!(check_secrets(&secrets(variable, name)).is_err(), "{variable} {name}");
        }
    }
}
