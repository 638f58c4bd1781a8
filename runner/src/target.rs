//! Targets: what differs from place to place, so that one job file runs in all of them.
//!
//! `smack.toml` in the folder of the job file, or in the current one, has `[target.NAME.CONNECTOR]` with defaults for the
//! `WITH (…)` of all tables of that connector; `--target NAME` puts them behind the text as `SET target.…`, so that
//! they travel with the job and every process plans alike. `connector` of `[target.NAME.table]` is the connector of tables
//! that name none.
//!
//! Invariant: the text that a user wrote keeps its places: everything stands behind it.

use anyhow::{Context, bail};
use std::fmt::Write;
use std::path::{Path, PathBuf};

const FILE: &str = "smack.toml";

/// The text of a SQL file with what the target says behind it.
pub fn applied(text: &str, file: &str, base_dir: &Path, name: &str) -> anyhow::Result<String> {
    if !Path::new(file).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("sql")) {
        bail!("failed to apply target '{name}' to {file}: targets are for SQL files; write SET target.… into its SQL");
    }
    let path = found(base_dir, name)?;
    let said = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let settings = settings(&said, name).with_context(|| format!("failed to find a target in {}", path.display()))?;
    Ok(behind(text, &settings, &format!("target {name} of {}", path.display())))
}

/// `settings` behind the text, after a line that says where they are from.
pub fn behind(text: &str, settings: &str, origin: &str) -> String {
    // The text may end in a comment, or without a semicolon.
    format!("{text}\n;\n-- {origin}\n{settings}")
}

fn found(base_dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let beside = base_dir.join(FILE);
    let here = Path::new(FILE).to_path_buf();
    match [&beside, &here].into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => bail!("failed to find target '{name}': there is no {FILE} in {} or here", base_dir.display()),
    }
}

/// The statements of one target.
pub fn settings(toml: &str, name: &str) -> anyhow::Result<String> {
    let document: toml::Table = toml.parse().context("it is no TOML")?;
    let targets = match document.get("target") {
        Some(toml::Value::Table(targets)) => targets,
        _ => bail!("it has no [target.NAME]"),
    };
    let Some(target) = targets.get(name) else {
        let names: Vec<&str> = targets.keys().map(String::as_str).collect();
        bail!("there is no target '{name}'; there are {}", names.join(", "));
    };
    let toml::Value::Table(connectors) = target else { bail!("target '{name}' is no table") };
    let mut text = String::new();
    for (connector, options) in connectors {
        let toml::Value::Table(options) = options else {
            bail!("'{connector}' of target '{name}' is no table; write [target.{name}.CONNECTOR] and options under it");
        };
        each(&mut text, &format!("target.{connector}"), options)?;
    }
    Ok(text)
}

/// `a.b = 1` in TOML is a table within a table; here it is one name.
fn each(text: &mut String, prefix: &str, options: &toml::Table) -> anyhow::Result<()> {
    for (key, value) in options {
        let key = format!("{prefix}.{key}");
        let value = match value {
            toml::Value::Table(inner) => {
                each(text, &key, inner)?;
                continue;
            }
            toml::Value::String(value) => value.clone(),
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => value.to_string(),
            _ => bail!("'{key}' is no text, number, true or false"),
        };
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        writeln!(text, "SET {} = {};", quoted(&key), quoted(&value))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE_TEXT: &str = "
        [target.real.kafka]
        bootstrap.servers = 'one:9092'
        'librdkafka.sasl.password' = \"it's\"
        [target.real.datagen]
        rows = 4
        [target.real.table]
        connector = 'cassandra'
    ";

    #[test]
    fn a_target_is_settings_behind_the_text() {
        let settings = settings(FILE_TEXT, "real").expect("it is there");
        let mut lines: Vec<&str> = settings.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "SET 'target.datagen.rows' = '4';",
                "SET 'target.kafka.bootstrap.servers' = 'one:9092';",
                "SET 'target.kafka.librdkafka.sasl.password' = 'it''s';",
                "SET 'target.table.connector' = 'cassandra';",
            ]
        );
        let text = "CREATE TABLE t (x BIGINT) WITH (connector = 'kafka', topic = 't') -- the end";
        let script = crate::functions::parse(&behind(text, &settings, "a test")).expect("it parses");
        let table = &script.table("t").expect("it is there").def;
        assert_eq!(table.option("bootstrap.servers"), Some("one:9092"));
        assert_eq!(table.option("librdkafka.sasl.password"), Some("it's"));
    }

    #[test]
    fn what_is_not_there_is_said() {
        let wrong = |toml: &str, name: &str| settings(toml, name).expect_err("it is wrong").to_string();
        assert_eq!(wrong(FILE_TEXT, "reel"), "there is no target 'reel'; there are real");
        assert_eq!(wrong("a = 1", "real"), "it has no [target.NAME]");
        assert_eq!(
            wrong("[target.real]\nkafka = 1", "real").split(';').next(),
            Some("'kafka' of target 'real' is no table")
        );
        assert!(wrong("[target.real.kafka]\ntopic = ['a']", "real").contains("'target.kafka.topic' is no text"));
    }
}
