//! The screen as cells of a terminal.

use super::screen::{Page, Screen};
use crate::cli::human::{bytes, clock, count, duration, rate, since};
use crate::view::{AgentView, JobView, OperatorView};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Table, TableState, Wrap};

const KEYS: &str = "1 jobs  2 tasks  3 agents  4 trainings  ↑↓ choose  ⏎ open  esc back  q quit";
/// Cells of a bar.
const BAR: usize = 10;
const EVENTS: usize = 5;

pub fn draw(frame: &mut Frame<'_>, screen: &Screen, now_ms: u64) {
    let trouble = u16::from(screen.trouble.is_some());
    let rows = [Constraint::Length(1), Constraint::Length(trouble), Constraint::Min(3), Constraint::Length(1)];
    let [head, said, body, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(headline(screen)).style(Modifier::BOLD), head);
    if let Some(trouble) = &screen.trouble {
        frame.render_widget(Paragraph::new(format!("! {trouble}")).style(Modifier::REVERSED), said);
    }
    frame.render_widget(Paragraph::new(KEYS).style(Modifier::DIM), foot);
    match &screen.page {
        Page::Jobs => jobs(frame, body, screen, now_ms),
        Page::Tasks => tasks(frame, body, screen),
        Page::Agents => agents(frame, body, screen),
        Page::Runs => trainings(frame, body, screen),
        Page::Job(id) => match screen.job() {
            Some(job) => one_job(frame, body, screen, job, now_ms),
            None => frame.render_widget(Paragraph::new(format!("{id} is gone")), body),
        },
        Page::Log(log) => {
            let lines: Vec<&str> = log.text.lines().collect();
            let end = lines.len().saturating_sub(screen.selected).max((body.height as usize).min(lines.len()));
            let begin = end.saturating_sub(body.height.saturating_sub(1) as usize);
            let title = format!(" {}, standard error ", log.task);
            let shown: Vec<Line<'_>> = lines[begin..end].iter().map(|line| Line::from(*line)).collect();
            frame.render_widget(Paragraph::new(shown).block(Block::new().title(title)), body);
        }
    }
}

fn headline(screen: &Screen) -> String {
    let running = screen.jobs.iter().filter(|job| job.state == "running").count();
    let tasks: usize =
        screen.jobs.iter().map(|job| job.tasks.iter().filter(|task| task.state == "running").count()).sum();
    let rows: f64 = screen.jobs.iter().filter(|job| job.kind == "stream").map(|job| job.metrics.rows_per_second).sum();
    let cluster = screen.cluster.as_ref().map_or("the master is away".to_string(), |cluster| {
        let of = |of: fn(&AgentView) -> &crate::view::ResourcesView| -> f64 {
            cluster.agents.iter().filter_map(|agent| of(agent).scalars.get("cpus")).sum()
        };
        format!("{:.1} of {:.1} cpus on {} agents", of(|a| &a.used), of(|a| &a.total), cluster.agents.len())
    });
    format!(
        "smack {}  {running} of {} jobs run, {tasks} tasks, {}, {cluster}",
        screen.url,
        screen.jobs.len(),
        rate(rows)
    )
}

fn table(
    frame: &mut Frame<'_>,
    area: Rect,
    heads: &[(&'static str, Constraint)],
    rows: impl IntoIterator<Item = Vec<String>>,
    selected: Option<usize>,
) {
    let rows: Vec<Row<'_>> = rows.into_iter().map(Row::new).collect();
    let n_rows = rows.len();
    let shown = Table::new(rows, heads.iter().map(|(_, width)| *width))
        .header(Row::new(heads.iter().map(|(head, _)| *head)).style(Modifier::DIM))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .column_spacing(2);
    let selected = selected.filter(|_| n_rows > 0);
    frame.render_stateful_widget(shown, area, &mut TableState::new().with_selected(selected));
}

fn jobs(frame: &mut Frame<'_>, area: Rect, screen: &Screen, now_ms: u64) {
    let heads = [
        ("JOB", Constraint::Fill(2)),
        ("KIND", Constraint::Length(7)),
        ("STATE", Constraint::Length(10)),
        ("TASKS", Constraint::Length(5)),
        ("ROWS IN", Constraint::Length(8)),
        ("RATE", Constraint::Length(8)),
        ("LAG", Constraint::Length(7)),
        ("STATE SIZE", Constraint::Length(10)),
        ("LOSS", Constraint::Length(8)),
        ("UP", Constraint::Length(7)),
        ("WHY", Constraint::Fill(3)),
    ];
    let row = |job: &JobView| {
        let metrics = &job.metrics;
        vec![
            job.id.clone(),
            job.kind.clone(),
            job.state.clone(),
            format!("{}/{}", job.tasks.iter().filter(|task| task.state == "running").count(), job.tasks.len()),
            count(metrics.rows_in),
            rate(metrics.rows_per_second),
            metrics.watermark_lag_ms.map_or(String::new(), |lag| duration(lag.unsigned_abs())),
            if metrics.state_bytes == 0 { String::new() } else { bytes(metrics.state_bytes) },
            metrics.loss.map_or(String::new(), |loss| format!("{loss:.4}")),
            since(job.submitted_ms, now_ms),
            job.why.clone(),
        ]
    };
    table(frame, area, &heads, screen.jobs.iter().map(row), Some(screen.selected));
}

fn tasks(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let heads = [
        ("TASK", Constraint::Fill(2)),
        ("KIND", Constraint::Length(7)),
        ("STATE", Constraint::Length(11)),
        ("AGENT", Constraint::Fill(1)),
        ("ROWS IN", Constraint::Length(8)),
        ("ROWS OUT", Constraint::Length(8)),
        ("MESSAGE", Constraint::Fill(2)),
    ];
    let rows = screen.tasks().map(|task| {
        let (rows_in, rows_out) = (count(task.rows_in), count(task.rows_out));
        let [id, kind, state] = [&task.id, &task.kind, &task.state].map(String::clone);
        vec![id, kind, state, task.agent.clone(), rows_in, rows_out, task.message.clone()]
    });
    table(frame, area, &heads, rows, Some(screen.selected));
}

fn agents(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let heads = [
        ("AGENT", Constraint::Fill(1)),
        ("STATE", Constraint::Length(12)),
        ("CPUS", Constraint::Length(BAR as u16 + 12)),
        ("MEMORY", Constraint::Length(BAR as u16 + 20)),
        ("TASKS", Constraint::Length(5)),
        ("HEARD", Constraint::Length(7)),
    ];
    let amount = |agent: &AgentView, name: &str| {
        let of = |scalars: &std::collections::BTreeMap<String, f64>| scalars.get(name).copied().unwrap_or(0.0);
        (of(&agent.used.scalars), of(&agent.total.scalars))
    };
    let rows = screen.cluster.iter().flat_map(|cluster| &cluster.agents).map(|agent| {
        let (cpus, mem) = (amount(agent, "cpus"), amount(agent, "mem"));
        let mib = |mib: f64| bytes((mib * 1024.0 * 1024.0) as u64);
        vec![
            agent.id.clone(),
            agent.state.clone(),
            format!("{} {:.1}/{:.1}", bar(cpus.0 / cpus.1), cpus.0, cpus.1),
            format!("{} {}/{}", bar(mem.0 / mem.1), mib(mem.0), mib(mem.1)),
            agent.n_tasks.to_string(),
            duration(agent.heard_ms_ago),
        ]
    });
    table(frame, area, &heads, rows, Some(screen.selected));
}

fn trainings(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let heads = [
        ("JOB", Constraint::Fill(1)),
        ("STATE", Constraint::Length(10)),
        ("STEP", Constraint::Length(BAR as u16 + 16)),
        ("LOSS", Constraint::Length(10)),
        ("METRIC", Constraint::Length(20)),
        ("ROWS", Constraint::Length(9)),
        ("VERSION", Constraint::Length(7)),
    ];
    let rows = screen.trainings().map(|job| {
        let metrics = &job.metrics;
        vec![
            job.id.clone(),
            job.state.clone(),
            format!(
                "{} {}/{}",
                bar(metrics.step as f64 / metrics.steps_total as f64),
                metrics.step,
                metrics.steps_total
            ),
            metrics.loss.map_or(String::new(), |loss| format!("{loss:.5}")),
            metrics.metric.map_or(String::new(), |metric| format!("{} {metric:.4}", metrics.metric_name)),
            rate(metrics.rows_per_second),
            metrics.model_version.map_or(String::new(), |version| version.to_string()),
        ]
    });
    table(frame, area, &heads, rows, Some(screen.selected));
}

fn one_job(frame: &mut Frame<'_>, area: Rect, screen: &Screen, job: &JobView, now_ms: u64) {
    let events = job.events.len().min(EVENTS) as u16;
    let operators = if job.operators.is_empty() { 0 } else { job.operators.len() as u16 + 2 };
    let rows = [
        Constraint::Length(3),
        Constraint::Max(operators),
        Constraint::Fill(1),
        Constraint::Length(if events == 0 { 0 } else { events + 1 }),
    ];
    let [what, middle, below, last] = Layout::vertical(rows).areas(area);
    let metrics = &job.metrics;
    let checkpoint = metrics.checkpoint_epoch.map_or("no checkpoint".to_string(), |epoch| {
        let age = metrics.checkpoint_age_ms.map_or(String::new(), |age| format!(", {} old", duration(age)));
        format!("checkpoint {epoch}{age}")
    });
    let figures = format!(
        "{} in, {} out, {}, {} late, {} bad, {checkpoint}, generation {}",
        count(metrics.rows_in),
        count(metrics.rows_out),
        rate(metrics.rows_per_second),
        metrics.rows_late,
        metrics.rows_bad,
        job.generation
    );
    let text =
        vec![Line::from(format!("{}  {}", job.id, job.state)), Line::from(job.why.as_str()), Line::from(figures)];
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), what);
    if operators > 0 {
        let heads = [
            ("OPERATOR", Constraint::Fill(1)),
            ("BUSY", Constraint::Length(BAR as u16 + 5)),
            ("BLOCKED", Constraint::Length(BAR as u16 + 5)),
            ("IN", Constraint::Length(8)),
            ("OUT", Constraint::Length(8)),
            ("STATE", Constraint::Length(9)),
            ("BEHIND", Constraint::Length(8)),
        ];
        let row = |operator: &OperatorView| {
            let share = |share: f64| format!("{} {:>3.0}%", bar(share), share * 100.0);
            let behind: Option<u64> = operator.splits.iter().map(|split| split.behind).sum();
            vec![
                operator.id.clone(),
                share(operator.busy),
                share(operator.blocked),
                rate(operator.rows_in_per_second),
                rate(operator.rows_out_per_second),
                bytes(operator.state_bytes + operator.spilled_bytes),
                behind.filter(|_| !operator.splits.is_empty()).map_or(String::new(), count),
            ]
        };
        table(frame, middle, &heads, job.operators.iter().map(row), None);
    }
    tasks(frame, below, screen);
    let latest = job.events.iter().rev().take(EVENTS);
    let lines: Vec<Line<'_>> =
        latest.map(|event| Line::from(format!("{} {} {}", clock(event.at_ms), event.level, event.text))).collect();
    let title = format!(" events; submitted {} ago ", since(job.submitted_ms, now_ms));
    frame.render_widget(Paragraph::new(lines).block(Block::new().title(title)), last);
}

/// Of a share from 0 to 1; nothing of what is none.
fn bar(share: f64) -> String {
    let full = if share.is_finite() { (share.clamp(0.0, 1.0) * BAR as f64).round() as usize } else { 0 };
    format!("{}{}", "█".repeat(full), "·".repeat(BAR - full))
}

#[cfg(test)]
mod tests {
    use super::super::screen::Key;
    use super::*;
    use crate::view::{ClusterView, JobMetrics, ResourcesView, TaskView};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    /// Lines without the spaces behind them.
    fn drawn(screen: &Screen, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(frame, screen, 90_000)).expect("draws");
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_string()).collect::<String>();
        (0..height).map(|y| line(y).trim_end().to_string()).collect()
    }

    fn screen() -> Screen {
        let task = |at: u32| TaskView {
            id: format!("fraud.features.1.{at}"),
            kind: "stream".into(),
            state: "running".into(),
            agent: "agent-a".into(),
            rows_in: 1_234_567,
            ..TaskView::default()
        };
        let operator = OperatorView { id: "window-1".into(), busy: 0.25, blocked: 0.5, ..OperatorView::default() };
        let metrics = JobMetrics { rows_in: 2_469_134, rows_per_second: 99_500.0, ..JobMetrics::default() };
        let job = JobView {
            id: "fraud/features".into(),
            kind: "stream".into(),
            state: "running".into(),
            why: "runs: 2 of 2 tasks".into(),
            submitted_ms: 30_000,
            metrics,
            operators: vec![operator],
            tasks: vec![task(0), task(1)],
            ..JobView::default()
        };
        let amounts = |cpus: f64, mem: f64| ResourcesView {
            scalars: [("cpus".to_string(), cpus), ("mem".to_string(), mem)].into(),
            n_ports: 0,
        };
        let agent = AgentView {
            id: "agent-a".into(),
            state: "active".into(),
            total: amounts(4.0, 8_192.0),
            used: amounts(2.0, 2_048.0),
            n_tasks: 2,
            ..AgentView::default()
        };
        let cluster = ClusterView { agents: vec![agent], ..ClusterView::default() };
        let mut screen = Screen::new("http://here");
        (screen.jobs, screen.cluster) = (vec![job], Some(cluster));
        screen
    }

    #[test]
    fn each_page_has_its_figures() {
        let mut screen = screen();
        let lines = drawn(&screen, 140, 6);
        assert_eq!(lines[0], "smack http://here  1 of 1 jobs run, 2 tasks, 99.5k/s, 2.0 of 4.0 cpus on 1 agents");
        assert!(lines[1].starts_with("JOB"), "{lines:#?}");
        for word in ["fraud/features", "running", "2/2", "2.47M", "99.5k/s", "1m 0s", "runs: 2 of 2"] {
            assert!(lines[2].contains(word), "{word} in {lines:#?}");
        }
        assert_eq!(lines[5], KEYS);
        screen.press(Key::Agents);
        let lines = drawn(&screen, 120, 5);
        assert!(lines[2].contains("█████····· 2.0/4.0") && lines[2].contains("███·······"), "{lines:#?}");
        screen.press(Key::Jobs);
        screen.press(Key::Open);
        let lines = drawn(&screen, 120, 14);
        let whole = lines.join("\n");
        for word in ["window-1", "███·······  25%", "█████·····  50%", "fraud.features.1.1", "no checkpoint"]
        {
            assert!(whole.contains(word), "{word} in {whole}");
        }
        screen.press(Key::Open);
        screen.logged(0, b"one\ntwo\nthree\n");
        let lines = drawn(&screen, 60, 8);
        assert!(lines[1].contains("fraud.features.1.0") && lines[4] == "three", "{lines:#?}");
    }

    #[test]
    fn trouble_is_said_and_a_narrow_screen_holds() {
        let mut screen = screen();
        screen.trouble = Some("the master does not answer".into());
        screen.cluster = None;
        let lines = drawn(&screen, 80, 7);
        assert_eq!(lines[1], "! the master does not answer");
        assert!(lines[0].contains("the master is away"), "{lines:#?}");
        for page in [Key::Jobs, Key::Tasks, Key::Agents, Key::Runs] {
            screen.press(page);
            for (width, height) in [(1, 1), (20, 4), (300, 100)] {
                drawn(&screen, width, height);
            }
        }
        screen.jobs.clear();
        screen.press(Key::Jobs);
        drawn(&screen, 80, 24);
    }
}
