//! The live view of a demo: a screen that is drawn over on a terminal, a line now and then elsewhere.

use super::{Moment, Summary};
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Between lines where there is no terminal to draw on.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub struct Screen {
    terminal: bool,
    quiet: bool,
    /// Lines of the last drawing, to be drawn over.
    drawn: usize,
    last_line: Option<Instant>,
}

impl Screen {
    pub fn new(terminal: bool, quiet: bool) -> Self {
        Self { terminal, quiet, drawn: 0, last_line: None }
    }

    /// A line that stays.
    pub fn say(&mut self, line: &str) {
        if self.quiet {
            return;
        }
        self.wipe();
        eprintln!("{line}");
    }

    pub fn draw(&mut self, moment: &Moment, best: f64, elapsed: Duration) {
        if self.terminal {
            // A line that wraps would take two rows and break drawing over.
            let width = width();
            let text: String =
                page(moment, best, elapsed).lines().map(|line| format!("{}\n", cut(line, width))).collect();
            self.wipe();
            self.drawn = text.lines().count();
            print!("{text}");
            let _ = std::io::stdout().flush();
        } else if !self.quiet && self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            eprintln!("{}", line(moment, elapsed));
        }
    }

    pub fn finish(&mut self) {
        self.drawn = 0;
    }

    fn wipe(&mut self) {
        if self.drawn > 0 {
            // Up to the first line of the drawing, then clear to the end of the screen.
            print!("\x1b[{}F\x1b[J", self.drawn);
            let _ = std::io::stdout().flush();
            self.drawn = 0;
        }
    }
}

/// Columns of the terminal; the usual 80 where it does not say.
fn width() -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a winsize, and that is what it is given.
    let known = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) } == 0;
    if known && size.ws_col > 0 { usize::from(size.ws_col) } else { 80 }
}

fn line(moment: &Moment, elapsed: Duration) -> String {
    let jobs: Vec<String> = moment
        .jobs
        .iter()
        .map(|job| match job.kind.as_str() {
            "train" => {
                format!("{} {} step {} of {}", job.name, job.state, job.metrics.step, job.metrics.steps_total)
            }
            _ => format!("{} {} {:.0} rows/s", job.name, job.state, job.metrics.rows_per_second),
        })
        .collect();
    let auc = moment.scored.auc.map_or(String::new(), |auc| format!(", auc {auc:.3}"));
    format!(
        "{:>4.0} s  {}; {} scored, {} alerts{auc}",
        elapsed.as_secs_f64(),
        jobs.join("; "),
        moment.scored.scored,
        moment.scored.alerts
    )
}

fn page(moment: &Moment, best: f64, elapsed: Duration) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "\nsmack demo fraud   {:.0} s   (Ctrl-C ends it)\n", elapsed.as_secs_f64());
    let _ = writeln!(
        text,
        "  {:<22} {:<8} {:<10} {:>12} {:>10} {:>9}  why",
        "job", "kind", "state", "rows in", "rows/s", "lag"
    );
    for job in &moment.jobs {
        let lag = job.metrics.watermark_lag_ms.map_or(String::new(), |lag| format!("{:.1} s", lag as f64 / 1000.0));
        let _ = writeln!(
            text,
            "  {:<22} {:<8} {:<10} {:>12} {:>10.0} {:>9}  {}",
            job.id,
            job.kind,
            job.state,
            job.metrics.rows_in,
            job.metrics.rows_per_second,
            lag,
            cut(&job.why, 60)
        );
    }
    let _ = writeln!(text, "\n  {:<34} {:<8} {:<10} {:<9} on offer", "task", "kind", "state", "agent");
    for task in moment.jobs.iter().flat_map(|job| &job.tasks) {
        let _ =
            writeln!(text, "  {:<34} {:<8} {:<10} {:<9} {}", task.id, task.kind, task.state, task.agent, task.offer);
    }
    if let Some(train) = moment.jobs.iter().find(|job| job.kind == "train") {
        let loss = train.metrics.loss.map_or("–".to_string(), |loss| format!("{loss:.4}"));
        let metric = train
            .metrics
            .metric
            .map_or(String::new(), |value| format!("   held-out {} {value:.3}", train.metrics.metric_name));
        let _ = writeln!(
            text,
            "\n  training   step {} of {}   loss {loss}{metric}",
            train.metrics.step, train.metrics.steps_total
        );
    }
    let auc = moment.scored.auc.map_or("–".to_string(), |auc| format!("{auc:.3}"));
    let amount = moment.scored.auc_amount.map_or("–".to_string(), |auc| format!("{auc:.3}"));
    let _ = writeln!(
        text,
        "  scored     {} windows after the training cut-off   AUC {auc}   (amount alone {amount}, best reachable {best:.3})",
        moment.scored.after_cut_off
    );
    let _ = writeln!(text, "\n  latest of {} alerts", moment.scored.alerts);
    for alert in &moment.scored.latest_alerts {
        let _ = writeln!(text, "    {alert}");
    }
    text
}

fn cut(text: &str, n: usize) -> String {
    if text.chars().count() <= n { text.to_string() } else { text.chars().take(n - 1).chain(['…']).collect() }
}

pub fn summary_text(summary: &Summary) -> String {
    let number = |value: Option<f64>| value.map_or("–".to_string(), |value| format!("{value:.3}"));
    let mut text = String::new();
    let _ = writeln!(text, "\nafter {:.0} s:", summary.seconds);
    let _ = writeln!(text, "  rows in     {}", summary.rows_in);
    let _ = writeln!(text, "  rows out    {}", summary.rows_out);
    let _ = writeln!(text, "  scored      {}", summary.scored);
    let _ = writeln!(text, "  alerts      {}", summary.alerts);
    let _ = writeln!(
        text,
        "  auc         {} on windows after the training cut-off (amount alone {}, best reachable {:.3})",
        number(summary.auc),
        number(summary.auc_amount_alone),
        summary.auc_best_reachable
    );
    let _ = writeln!(text, "  restarts    {}", summary.restarts);
    for task in &summary.tasks {
        let _ = writeln!(
            text,
            "  task        {} ({}) {} on {}, offer {}",
            task.id, task.kind, task.state, task.agent, task.offer
        );
    }
    text
}
