//! `[sweep]` of a training file and `sweep.…` in the `WITH` of `CREATE MODEL`: one model trained many times over, each time with
//! other settings.
//!
//! A trial is the file with some of its values replaced, and is settled as if it had been written so; therefore whatever is wrong
//! with any trial is told at the desk, at the place where it says what is tried.
//!
//! Invariant: all trials are judged by the same metric on the same rows, and need the same of the cluster: settings that would
//! change that cannot be tried.

use super::document::{Entry, Node, Span, Value};
use super::reader::Reader;
use super::shape::{self, Field, Kind};
use jobs::{Diagnostic, TrainBody};
use std::collections::BTreeMap;
use training::sweep::settings::Settings;
use training::sweep::space::{self, Dimension, Draw};
use training::sweep::{self, Sweep};

/// Each is a job that is written down, and looked at by people.
pub const TRIALS_MAX: u64 = 1_000;

/// A sweep of a file, settled.
#[derive(Clone, Debug)]
pub struct Swept {
    pub algorithm: &'static str,
    /// Trials at work at once, at most.
    pub parallel: usize,
    pub course: Sweep,
    /// Of each trial.
    pub settings: Vec<Settings>,
}

/// What a file says of its sweep.
pub struct Described {
    search: Search,
    tried: Vec<Tried>,
    span: Span,
}

struct Search {
    algorithm: &'static str,
    trials: usize,
    seed: u64,
    parallel: usize,
    min_epochs: u64,
    reduction: u64,
}

/// One setting, and what it may be.
struct Tried {
    /// Table of the file; none in SQL.
    section: Option<&'static str>,
    key: &'static str,
    span: Span,
    dimension: Dimension,
    /// Of a choice.
    choices: Vec<Value>,
}

/// What a person said a setting may be.
enum Said {
    Choice(Vec<Value>),
    Uniform([f64; 2]),
    LogUniform([f64; 2]),
}

/// Why a setting cannot be tried.
fn common(key: &str) -> Option<&'static str> {
    Some(match key {
        "label" | "task" | "loss" | "delta" => "trials are compared by one metric",
        "seed" | "test_fraction" | "min_rows" | "time_column" | "ignore" => {
            "trials are trained and judged on the same rows"
        }
        "epochs" | "steps" | "mode" | "publish_steps" => "how long a trial trains is the search's matter",
        "workers" | "min_workers" | "grow_after" | "strategy" | "servers" | "evaluator" => {
            "all trials have equally many tasks"
        }
        _ => return None,
    })
}

/// `[sweep]`, whose `node` this is.
pub fn of_file(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Described> {
    let Value::Table(entries) = &node.value else {
        diagnostics.push(Diagnostic::new(format!("sweep is {}, not a table", node.value.kind())).at(node.span));
        return None;
    };
    let before = diagnostics.len();
    let mut reader = Reader::new(&shape::SWEEP, entries, Some(node.span), diagnostics);
    let search = search(&mut reader);
    // Read for its mistakes.
    reader.table("space");
    let mut tried = Vec::new();
    for section in tables(entries.iter().filter(|entry| entry.key == "space")) {
        let Some(Kind::Table(of)) = shape::TRAIN.field(&section.key).map(|field| &field.kind) else { continue };
        let section_name = shape::SPACE.field(&section.key).map(|field| field.name);
        let Value::Table(settings) = &section.node.value else {
            let wrong = format!("{} is {}, not a table of what is tried", section.key, section.node.value.kind());
            diagnostics.push(Diagnostic::new(wrong).at(section.node.span));
            continue;
        };
        for entry in settings.iter().filter(|_| section_name.is_some()) {
            let said = said_in_file(entry, diagnostics);
            tried.extend(tried_of(
                section_name,
                of,
                (&entry.key, entry.key_span),
                (said, entry.node.span),
                diagnostics,
            ));
        }
    }
    described(search, tried, node.span, before, diagnostics)
}

/// The entries of the tables that these are.
fn tables<'a>(entries: impl Iterator<Item = &'a Entry>) -> impl Iterator<Item = &'a Entry> {
    entries.filter_map(|entry| if let Value::Table(inner) = &entry.node.value { Some(inner) } else { None }).flatten()
}

/// The options of `CREATE MODEL` that begin with `sweep.`, without that; `span` is that of the model's name.
pub fn of_sql(options: &[Entry], span: Span, diagnostics: &mut Vec<Diagnostic>) -> Option<Described> {
    let before = diagnostics.len();
    let (space, own): (Vec<&Entry>, Vec<&Entry>) = options.iter().partition(|entry| entry.key.starts_with(SPACE));
    let own: Vec<Entry> = own.into_iter().cloned().collect();
    let search = search(&mut Reader::new(&shape::SQL_SWEEP, &own, Some(span), diagnostics));
    let mut tried = Vec::new();
    for entry in space {
        let Value::Text(text) = &entry.node.value else { continue };
        let said = said_in_sql(text, entry.node.span, diagnostics);
        let key = &entry.key[SPACE.len()..];
        tried.extend(tried_of(None, &shape::SQL_MODEL, (key, entry.key_span), (said, entry.node.span), diagnostics));
    }
    if tried.is_empty() && diagnostics.len() == before {
        let nothing = Diagnostic::new("the sweep tries nothing").at(span);
        diagnostics.push(nothing.help("add sweep.space.learning_rate = 'log_uniform(0.0001, 0.1)'"));
    }
    described(search, tried, span, before, diagnostics)
}

const SPACE: &str = "space.";

fn described(
    search: Search,
    tried: Vec<Tried>,
    span: Span,
    before: usize,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Described> {
    if search.algorithm == "grid" {
        for setting in tried.iter().filter(|setting| !matches!(setting.dimension, Dimension::Choice { .. })) {
            let endless = Diagnostic::new(format!("{} has no end of values, which no grid has", setting.key));
            diagnostics.push(endless.at(setting.span).help("list the values, or use algorithm 'random' or 'asha'"));
        }
    }
    if tried.is_empty() && diagnostics.len() == before {
        let nothing = Diagnostic::new("the sweep tries nothing").at(span);
        let way_out = "add [sweep.space.optimizer] with learning_rate = { log_uniform = [0.0001, 0.1] }";
        diagnostics.push(nothing.help(way_out));
    }
    (diagnostics.len() == before).then_some(Described { search, tried, span })
}

fn search(reader: &mut Reader<'_>) -> Search {
    let chosen = reader.choice("algorithm");
    let foreign: &[&str] = match chosen {
        Some("grid") => &["trials", "seed", "min_epochs", "reduction"],
        Some("random") => &["min_epochs", "reduction"],
        // One that is not known was told already.
        _ => &[],
    };
    for name in foreign {
        if let Some(span) = reader.span(name) {
            let algorithm = chosen.unwrap_or_default();
            reader.complain(Diagnostic::new(format!("algorithm '{algorithm}' has no {name}")).at(span));
        }
    }
    let mut whole = |name: &str| reader.whole(name).unwrap_or(1);
    Search {
        algorithm: chosen.unwrap_or("random"),
        trials: whole("trials") as usize,
        seed: whole("seed"),
        parallel: whole("parallel") as usize,
        min_epochs: whole("min_epochs"),
        reduction: whole("reduction"),
    }
}

fn said_in_file(entry: &Entry, diagnostics: &mut Vec<Diagnostic>) -> Option<Said> {
    let key = &entry.key;
    let wrong = |what: String, span: Span| {
        let help =
            format!("{key} = [0.1, 0.2], {key} = {{ uniform = [0.1, 0.5] }} or {{ log_uniform = [0.001, 0.1] }}");
        Diagnostic::new(format!("{key} {what}")).at(span).help(help)
    };
    let (how, node) = match &entry.node.value {
        Value::List(_) => ("choice", &entry.node),
        Value::Table(inner) => match inner.as_slice() {
            [one] => (one.key.as_str(), &one.node),
            _ => {
                diagnostics.push(wrong("says not one way to draw it".to_string(), entry.node.span));
                return None;
            }
        },
        other => {
            let what = format!("is {}, not what may be tried", other.kind());
            diagnostics.push(wrong(what, entry.node.span));
            return None;
        }
    };
    let Value::List(items) = &node.value else {
        diagnostics.push(wrong(format!("has {}, not a list, as its {how}", node.value.kind()), node.span));
        return None;
    };
    let numbers = || match items.as_slice() {
        [low, high] => Some([number(low)?, number(high)?]),
        _ => None,
    };
    let said = match how {
        "choice" => Some(Said::Choice(items.iter().map(|item| item.value.clone()).collect())),
        "uniform" => numbers().map(Said::Uniform),
        "log_uniform" => numbers().map(Said::LogUniform),
        other => {
            let unknown = Diagnostic::new(format!("{key}: there is no '{other}' to draw from")).at(entry.node.span);
            diagnostics.push(unknown.suggest(other, ["choice", "uniform", "log_uniform"]));
            return None;
        }
    };
    if said.is_none() {
        diagnostics.push(wrong(format!("has no two numbers in its {how}"), node.span));
    }
    said
}

fn number(node: &Node) -> Option<f64> {
    match &node.value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

/// `uniform(0.1, 0.5)`, `log_uniform(0.001, 0.1)`, or choices with bars between them.
fn said_in_sql(text: &str, span: Span, diagnostics: &mut Vec<Diagnostic>) -> Option<Said> {
    let within = |name: &str| text.trim().strip_prefix(name)?.trim_start().strip_prefix('(')?.strip_suffix(')');
    for (name, of) in [("log_uniform", Said::LogUniform as fn([f64; 2]) -> Said), ("uniform", Said::Uniform)] {
        let Some(inner) = within(name) else { continue };
        let numbers: Vec<Option<f64>> = inner.split(',').map(|part| part.trim().parse().ok()).collect();
        return match numbers.as_slice() {
            [Some(low), Some(high)] => Some(of([*low, *high])),
            _ => {
                let wrong = Diagnostic::new(format!("{name} has no two numbers")).at(span);
                diagnostics.push(wrong.help(format!("for example '{name}(0.001, 0.1)'")));
                None
            }
        };
    }
    Some(Said::Choice(text.split('|').map(|choice| Value::Text(choice.trim().to_string())).collect()))
}

fn tried_of(
    section: Option<&'static str>,
    of: &'static shape::Shape,
    (key, key_span): (&str, Span),
    (said, span): (Option<Said>, Span),
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Tried> {
    let Some(field) = of.field(key) else {
        let unknown = Diagnostic::new(format!("{} has no '{key}' that could be tried", of.place)).at(key_span);
        let known = of.fields.iter().map(|field| field.name).filter(|name| common(name).is_none());
        diagnostics.push(unknown.suggest(key, known.collect::<Vec<&str>>()));
        return None;
    };
    if let Some(why) = common(field.name) {
        diagnostics.push(Diagnostic::new(format!("{key} cannot be tried: {why}")).at(key_span));
        return None;
    }
    let wrong = |what: &str| Diagnostic::new(format!("{key} {what}")).at(span);
    let (dimension, choices) = match said? {
        Said::Choice(choices) if choices.is_empty() => {
            diagnostics.push(wrong("has nothing to choose from"));
            return None;
        }
        Said::Choice(choices) => (Dimension::Choice { count: choices.len() }, choices),
        Said::Uniform([low, high]) => (Dimension::Uniform { low, high, whole: is_whole(field) }, Vec::new()),
        Said::LogUniform([low, high]) => (Dimension::LogUniform { low, high, whole: is_whole(field) }, Vec::new()),
    };
    let mistake = match dimension {
        Dimension::Choice { .. } => None,
        Dimension::Uniform { .. } | Dimension::LogUniform { .. }
            if !matches!(field.kind, Kind::Number(..) | Kind::Whole(..)) =>
        {
            Some("is no number, so there is nothing between two of its values; list them")
        }
        Dimension::Uniform { low, high, .. } | Dimension::LogUniform { low, high, .. }
            if !(low < high && (high - low).is_finite()) =>
        {
            Some("has no lower end below its upper one")
        }
        Dimension::Uniform { low, high, whole: true } if low.fract() != 0.0 || high.fract() != 0.0 => {
            Some("is a whole number, and so are its ends")
        }
        Dimension::LogUniform { low, .. } if low <= 0.0 => Some("has a lower end that is not above 0"),
        Dimension::LogUniform { low, high, whole: true } if low.fract() != 0.0 || high.fract() != 0.0 => {
            Some("is a whole number, and so are its ends")
        }
        Dimension::Uniform { .. } | Dimension::LogUniform { .. } => None,
    };
    diagnostics.extend(mistake.map(wrong));
    Some(Tried { section, key: field.name, span, dimension, choices })
}

fn is_whole(field: &Field) -> bool {
    matches!(field.kind, Kind::Whole(..))
}

impl Described {
    /// Settles each trial with `settle`, which gives the job that these values make of the file.
    pub fn settled(
        &self,
        base: &TrainBody,
        mut settle: impl FnMut(&[Entry]) -> Result<TrainBody, Vec<Diagnostic>>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Swept> {
        let rungs = self.rungs(base, diagnostics)?;
        let points = self.points(diagnostics)?;
        let mut settings = Vec::with_capacity(points.len());
        for (trial, point) in points.iter().enumerate() {
            let own = match settle(&self.entries(point)) {
                Ok(own) => own,
                Err(mistakes) => {
                    let of_trial = |mistake: Diagnostic| Diagnostic {
                        message: format!("trial {}: {}", trial + 1, mistake.message),
                        span: mistake.span.or(Some(self.span)),
                        ..mistake
                    };
                    diagnostics.extend(mistakes.into_iter().map(of_trial));
                    return None;
                }
            };
            match Settings::of(self.shown(point), base, &own) {
                Ok(of_trial) => settings.push(of_trial),
                Err(error) => {
                    let wrong = Diagnostic::new(format!("trial {} cannot be written down: {error}", trial + 1));
                    diagnostics.push(wrong.at(self.span));
                    return None;
                }
            }
        }
        let Search { algorithm, parallel, reduction, .. } = self.search;
        let larger_is_better = training::larger_is_better(base.loss);
        let course = Sweep::new(settings.len(), rungs, reduction as usize, larger_is_better);
        Some(Swept { algorithm, parallel, course, settings })
    }

    /// Epochs after which trials pause.
    fn rungs(&self, base: &TrainBody, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<u64>> {
        let mut refuse = |what: String, help: &str| {
            diagnostics.push(Diagnostic::new(what).at(self.span).help(help));
            None
        };
        if base.test_query.is_none() && base.test_fraction == 0.0 {
            return refuse(
                "no rows are held out, and trials are compared by the metric on these".to_string(),
                "give test_fraction, or a test query",
            );
        }
        if base.evaluator {
            return refuse(
                "trials are judged where they pause, not by an evaluator".to_string(),
                "leave evaluator out",
            );
        }
        let epochs = u64::from(base.epochs);
        let Search { algorithm, min_epochs, reduction, .. } = self.search;
        match (algorithm, base.steps) {
            ("asha", Some(_)) => refuse(
                "asha lets trials pause between epochs, and the training counts in steps".to_string(),
                "say 'epochs' in place of 'steps'",
            ),
            ("asha", None) if min_epochs >= epochs => refuse(
                format!(
                    "a trial is at its end after {epochs} epochs, and pauses after {min_epochs} for the first time"
                ),
                "raise epochs, or lower min_epochs",
            ),
            ("asha", None) => Some(sweep::rungs(min_epochs, reduction, epochs)),
            // Its end is wherever that is.
            (_, Some(_)) => Some(vec![u64::MAX]),
            (_, None) => Some(vec![epochs]),
        }
    }

    fn points(&self, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Vec<Draw>>> {
        let space: Vec<Dimension> = self.tried.iter().map(|setting| setting.dimension.clone()).collect();
        if self.search.algorithm != "grid" {
            let draw = |trial| space::random_point(&space, self.search.seed, trial);
            return Some((0..self.search.trials).map(draw).collect());
        }
        match space::grid_size(&space) {
            Some(size) if size as u64 <= TRIALS_MAX => {
                Some((0..size).map(|at| space::grid_point(&space, at)).collect())
            }
            size => {
                let size = size.map_or("too many".to_string(), |size| size.to_string());
                let wide =
                    Diagnostic::new(format!("the grid has {size} points, and a sweep at most {TRIALS_MAX} trials"));
                diagnostics.push(wide.at(self.span).help("list fewer values, or draw some with algorithm 'random'"));
                None
            }
        }
    }

    /// The values of a point as entries of a file, tables where it has such.
    fn entries(&self, point: &[Draw]) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for (setting, draw) in self.tried.iter().zip(point) {
            let entry = Entry {
                key: setting.key.to_string(),
                key_span: setting.span,
                node: Node { span: setting.span, value: setting.value(*draw) },
            };
            let Some(section) = setting.section else {
                entries.push(entry);
                continue;
            };
            match entries.iter_mut().find(|table| table.key == section).map(|table| &mut table.node.value) {
                Some(Value::Table(inner)) => inner.push(entry),
                _ => entries.push(Entry {
                    key: section.to_string(),
                    key_span: setting.span,
                    node: Node { span: setting.span, value: Value::Table(vec![entry]) },
                }),
            }
        }
        entries
    }

    fn shown(&self, point: &[Draw]) -> BTreeMap<String, String> {
        let shown = |(setting, draw): (&Tried, &Draw)| {
            let name = match setting.section {
                Some(section) => format!("{section}.{}", setting.key),
                None => setting.key.to_string(),
            };
            (name, shown(&setting.value(*draw)))
        };
        self.tried.iter().zip(point).map(shown).collect()
    }
}

impl Tried {
    fn value(&self, draw: Draw) -> Value {
        let whole = matches!(
            self.dimension,
            Dimension::Uniform { whole: true, .. } | Dimension::LogUniform { whole: true, .. }
        );
        match draw {
            Draw::Choice(at) => self.choices[at].clone(),
            Draw::Number(number) if whole => Value::Integer(number as i64),
            Draw::Number(number) => Value::Number(number),
        }
    }
}

/// What is written over the file's own: entries of the same name are replaced, those of tables within these.
pub fn over(entries: &[Entry], own: &[Entry]) -> Vec<Entry> {
    let mut all = entries.to_vec();
    for entry in own {
        match all.iter_mut().find(|before| before.key == entry.key) {
            Some(before) => match (&mut before.node.value, &entry.node.value) {
                (Value::Table(before), Value::Table(own)) => *before = over(before, own),
                (value, own) => (*value, before.node.span) = (own.clone(), entry.node.span),
            },
            None => all.push(entry.clone()),
        }
    }
    all
}

/// A value as it would be written, in one line.
fn shown(value: &Value) -> String {
    match value {
        Value::Nothing => "nothing".to_string(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| shown(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|entry| format!("{} = {}", entry.key, shown(&entry.node.value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

#[cfg(test)]
mod tests;
