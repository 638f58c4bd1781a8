//! Settings that jobs have: `[job]`, `[checkpoint]` and `[state]` in TOML, `SET job.…`, `SET checkpoint.…` and
//! `SET state.…` in SQL.

use super::document::{Entry, Node, Span, Value};
use super::reader::Reader;
use super::shape;
use jobs::rights::check_user;
use jobs::{Diagnostic, Resources, Restart, Rules, site, things};
use streaming::runtime::store::refuse_location;

/// What `[job]` says. Keys that a shape lacks have their usual default.
#[derive(Clone, Debug)]
pub struct JobSettings {
    pub group: Option<String>,
    pub role: String,
    pub priority: i32,
    pub rules: Rules,
    pub parallelism: u32,
    pub resources: Resources,
    pub n_ports: u32,
    pub restart: Restart,
    pub kill_grace_ms: u64,
    /// 0 is for ever.
    pub start_within_ms: u64,
    /// 0 is no limit.
    pub max_completion_ms: u64,
    /// 0 is for ever.
    pub unreachable_kill_ms: u64,
    pub user: Option<String>,
}

#[derive(Clone, Debug)]
pub struct CheckpointSettings {
    pub interval_ms: u64,
    pub dir: Option<String>,
    pub retain: u32,
}

#[derive(Clone, Debug)]
pub struct StateSettings {
    pub memory_bytes: Option<u64>,
}

impl JobSettings {
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let group = reader.text("name");
        if let Some(group) = &group {
            check_name(reader, "name", group);
        }
        let role = reader.text("role").unwrap_or_default();
        // A file without a good one is refused for that already.
        if !role.is_empty() && (role == "*" || !scheduler::model::is_good_role(&role)) {
            let diagnostic = Diagnostic::new(format!("'{role}' is no role"));
            let help = "roles are names, or paths of them like ml/vision, without blanks";
            reader.complain_at("role", diagnostic.help(help));
        }
        // The shape says that it is a number within bounds.
        let priority = reader.number("priority").unwrap_or(0.0);
        if priority.fract() != 0.0 {
            let diagnostic = Diagnostic::new(format!("priority is {priority}, not a whole number"));
            reader.complain_at("priority", diagnostic);
        }
        let rules = rules(reader);
        let parallelism = if reader.describes("parallelism") { reader.whole("parallelism").unwrap_or(1) } else { 1 };
        let cpus = reader.number("cpus").unwrap_or(1.0);
        let mem_mib = reader.mem_mib("mem").unwrap_or(1.0);
        let restart = match reader.choice("restart") {
            Some("always") => Restart::Always,
            Some("never") => Restart::Never,
            Some("exit_code") => Restart::ExitCode,
            _ => Restart::OnFailure,
        };
        let mut resources = Resources::new().cpus(cpus).mem_mib(mem_mib);
        if let Some(disk_mib) = reader.mem_mib("disk") {
            resources = resources.with("disk", disk_mib);
        }
        let mut n_ports = 0;
        if reader.describes("gpus") {
            resources = with_gpus(reader, resources);
            n_ports = reader.whole("ports").and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        }
        if reader.boolean("revocable").unwrap_or(false) {
            resources = resources.revocable();
        }
        let kill_grace_ms = reader.duration_ms("kill_grace").unwrap_or(5_000);
        let start_within_ms = reader.duration_ms("start_within").unwrap_or(0);
        let max_completion_ms = reader.duration_ms("max_completion").unwrap_or(0);
        let unreachable_kill_ms = reader.duration_ms("unreachable").unwrap_or(0);
        let user = reader.text("user");
        if let Some(Err(problem)) = user.as_deref().map(check_user) {
            reader.complain_at("user", Diagnostic::new(problem));
        }
        Self {
            group,
            role,
            priority: priority as i32,
            rules,
            parallelism: parallelism as u32,
            resources,
            n_ports,
            restart,
            kill_grace_ms,
            start_within_ms,
            max_completion_ms,
            unreachable_kill_ms,
            user,
        }
    }
}

/// Where tasks may run.
fn rules(reader: &mut Reader<'_>) -> Rules {
    let mut rules = Rules::default();
    if let Some(text) = reader.text("constraints") {
        match site::parse_constraints(&text) {
            Ok(constraints) => rules.constraints = constraints,
            Err(error) => reader.complain_at("constraints", Diagnostic::new(error)),
        }
    }
    if let Some(key) = reader.text("together") {
        match site::is_key(&key) {
            true => rules.together = Some(key),
            false => {
                reader.complain_at("together", Diagnostic::new(format!("'{key}' is no attribute of agents")));
            }
        }
    }
    if let Some(text) = reader.text("spread") {
        match text.parse() {
            Ok(spread) => rules.spread = Some(spread),
            Err(error) => reader.complain_at("spread", Diagnostic::new(error)),
        }
    }
    rules
}

/// The GPUs that a task asks for, counted: which ones it gets is known when it is placed.
pub fn with_gpus(reader: &mut Reader<'_>, resources: Resources) -> Resources {
    let gpus = reader.whole("gpus").unwrap_or(0) as f64;
    let resources = resources.with(things::GPUS, gpus);
    let Some(model) = reader.text("gpu_model") else { return resources };
    let mut complain = |problem: &str| reader.complain_at("gpu_model", Diagnostic::new(problem.to_string()));
    if gpus == 0.0 {
        complain("gpu_model is said, and no gpus are asked for");
    }
    if model.is_empty() || model.contains(char::is_whitespace) {
        complain("gpu_model is no name of a model");
        return resources;
    }
    resources.with(&things::counter_of(&model), gpus)
}

impl CheckpointSettings {
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let dir = reader.text("dir");
        if let Some(refusal) = dir.as_deref().and_then(refuse_location) {
            reader.complain_at("dir", Diagnostic::new(refusal));
        }
        let retain = reader.whole("retain").and_then(|retain| u32::try_from(retain).ok()).unwrap_or(3);
        Self { interval_ms: reader.duration_ms("interval").unwrap_or(10_000), dir, retain }
    }
}

impl StateSettings {
    pub fn read(reader: &mut Reader<'_>) -> Self {
        // The time to live is the planner's matter; here it is only looked at for mistakes.
        reader.duration_ms("ttl");
        Self { memory_bytes: reader.mem_mib("memory").map(|mib| (mib * 1024.0 * 1024.0) as u64) }
    }
}

/// The three kinds of settings of a file around a SQL text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around<'a> {
    pub job: &'a [Entry],
    pub checkpoint: &'a [Entry],
    pub state: &'a [Entry],
}

/// One `SET key = 'value'`.
#[derive(Clone, Debug)]
pub struct Setting {
    pub key: String,
    pub value: String,
    pub key_span: Span,
    pub value_span: Span,
}

/// The settings of a SQL text, on top of what a TOML file around it said.
pub fn of_sql(
    settings: &[Setting],
    around: Around<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> (JobSettings, CheckpointSettings, StateSettings) {
    let mut job: Vec<Entry> = Vec::new();
    let mut checkpoint: Vec<Entry> = Vec::new();
    let mut state: Vec<Entry> = Vec::new();
    for setting in settings {
        if ["optimizer.", "target.", "execution.", "sink."].iter().any(|prefix| setting.key.starts_with(prefix)) {
            // Read where queries are planned, and checked there.
            continue;
        }
        let (entries, key) = if let Some(key) = setting.key.strip_prefix("job.") {
            (&mut job, key)
        } else if let Some(key) = setting.key.strip_prefix("checkpoint.") {
            (&mut checkpoint, key)
        } else if let Some(key) = setting.key.strip_prefix("state.") {
            (&mut state, key)
        } else {
            let shapes = [("job", &shape::JOB), ("checkpoint", &shape::CHECKPOINT), ("state", &shape::STATE)];
            let of_shape = |(group, shape): (&str, &'static shape::Shape)| {
                let names = shape.fields.iter().map(|field| format!("{group}.{}", field.name));
                names.collect::<Vec<String>>()
            };
            let names: Vec<String> = shapes.into_iter().flat_map(of_shape).collect();
            let unknown = Diagnostic::new(format!("there is no setting '{}'", setting.key)).at(setting.key_span);
            diagnostics.push(unknown.suggest(&setting.key, names.iter().map(String::as_str)));
            continue;
        };
        if entries.iter().any(|entry| entry.key == key) {
            diagnostics.push(Diagnostic::new(format!("'{}' is set twice", setting.key)).at(setting.key_span));
            continue;
        }
        let node = Node { span: setting.value_span, value: Value::Text(setting.value.clone()) };
        entries.push(Entry { key: key.to_string(), key_span: setting.key_span, node });
    }
    for (entries, outer) in [(&mut job, around.job), (&mut checkpoint, around.checkpoint), (&mut state, around.state)] {
        for entry in outer {
            if !entries.iter().any(|inner| inner.key == entry.key) {
                entries.push(entry.clone());
            }
        }
    }
    let job = JobSettings::read(&mut Reader::new(&shape::SQL_JOB, &job, None, diagnostics));
    let mut reader = Reader::new(&shape::SQL_CHECKPOINT, &checkpoint, None, diagnostics);
    let checkpoint = CheckpointSettings::read(&mut reader);
    let mut reader = Reader::new(&shape::SQL_STATE, &state, None, diagnostics);
    (job, checkpoint, StateSettings::read(&mut reader))
}

/// Names become parts of paths, task ids and addresses, so they are plain.
pub fn check_name(reader: &mut Reader<'_>, key: &str, name: &str) {
    if let Err(message) = plain_name(name) {
        reader.complain_at(key, Diagnostic::new(message));
    }
}

pub fn plain_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > 63 || !name.chars().all(plain) || name.starts_with('-') {
        return Err(format!("'{name}' is not a name: use up to 63 letters, digits, '_' and '-'"));
    }
    Ok(())
}

/// The stem of a file's name, with everything that may not stand in a name turned into `-`.
pub fn stem_name(file: &str) -> String {
    let stem = std::path::Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = stem.chars().map(plain).take(63).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "job".to_string() } else { name.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(key: &str, value: &str) -> Setting {
        Setting { key: key.to_string(), value: value.to_string(), key_span: (0, 1), value_span: (1, 2) }
    }

    #[test]
    fn sql_settings_win_over_the_file_around_them() {
        let mut diagnostics = Vec::new();
        let around = [
            Entry { key: "cpus".to_string(), key_span: (0, 1), node: Node { span: (0, 1), value: Value::Number(4.0) } },
            Entry {
                key: "parallelism".to_string(),
                key_span: (0, 1),
                node: Node { span: (0, 1), value: Value::Integer(3) },
            },
        ];
        let settings =
            [setting("job.cpus", "0.5"), setting("checkpoint.interval", "250ms"), setting("state.memory", "64KiB")];
        let around = Around { job: &around, ..Around::default() };
        let (job, checkpoint, state) = of_sql(&settings, around, &mut diagnostics);
        assert_eq!(diagnostics, []);
        assert_eq!(job.resources.amount("cpus"), 0.5);
        assert_eq!(job.resources.amount("mem"), 256.0);
        assert_eq!(job.parallelism, 3);
        assert_eq!((checkpoint.interval_ms, state.memory_bytes), (250, Some(64 << 10)));
    }

    #[test]
    fn an_unknown_setting_is_answered_with_the_nearest() {
        let mut diagnostics = Vec::new();
        let settings = [setting("job.cpu", "1"), setting("chekpoint.interval", "1s"), setting("job.name", "a/b")];
        of_sql(&settings, Around::default(), &mut diagnostics);
        let helps: Vec<&str> = diagnostics.iter().filter_map(|diagnostic| diagnostic.help.as_deref()).collect();
        assert_eq!(helps, ["did you mean 'checkpoint.interval'?", "did you mean 'cpus'?"]);
        assert_eq!(diagnostics.len(), 3);
    }

    #[test]
    fn stems() {
        assert_eq!(stem_name("/a/b/fraud.sql"), "fraud");
        assert_eq!(stem_name("my first job.v2.toml"), "my-first-job-v2");
        assert_eq!(stem_name("äöü.sql"), "job");
    }
}
