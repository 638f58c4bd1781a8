//! What is shown and what a key changes. Pure: it asks nobody and draws nothing.

use crate::view::{ClusterView, JobView, TaskView};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Up(usize),
    Down(usize),
    Open,
    Back,
    Next,
    Jobs,
    Tasks,
    Agents,
    Runs,
    Quit,
}

/// What a key makes of the loop around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    Nothing,
    /// Something is shown that was not asked for yet.
    Look,
    Quit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    Jobs,
    Tasks,
    Agents,
    /// Trainings, with their losses.
    Runs,
    /// One job, by id.
    Job(String),
    /// What a task logs.
    Log(Log),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub task: String,
    /// Where the next piece begins; unknown before the first.
    next: Option<u64>,
    pub text: String,
}

/// Of a log that is followed; a screen shows far less.
const LOG_KEPT_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub struct Screen {
    pub url: String,
    pub jobs: Vec<JobView>,
    /// None while the master cannot be reached.
    pub cluster: Option<ClusterView>,
    pub trouble: Option<String>,
    pub page: Page,
    /// The line that is chosen; of a log, how far up from its end.
    pub selected: usize,
    /// Where `Back` leads, with what was chosen there.
    before: Vec<(Page, usize)>,
}

impl Screen {
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_string(),
            jobs: Vec::new(),
            cluster: None,
            trouble: None,
            page: Page::Jobs,
            selected: 0,
            before: Vec::new(),
        }
    }

    pub fn press(&mut self, key: Key) -> Want {
        // A log is looked at from its end.
        let is_log = matches!(self.page, Page::Log(_));
        match key {
            Key::Quit => return Want::Quit,
            Key::Up(by) if is_log => self.selected = self.selected.saturating_add(by).min(self.n_lines()),
            Key::Down(by) if is_log => self.selected = self.selected.saturating_sub(by),
            Key::Up(by) => self.selected = self.selected.saturating_sub(by),
            Key::Down(by) => self.selected = self.selected.saturating_add(by).min(self.n_lines().saturating_sub(1)),
            Key::Open => return self.open(),
            Key::Back => match self.before.pop() {
                Some((page, selected)) => (self.page, self.selected) = (page, selected),
                None if self.page == Page::Jobs => {}
                None => self.show(Page::Jobs),
            },
            Key::Next => self.show(match self.page {
                Page::Jobs | Page::Job(_) => Page::Tasks,
                Page::Tasks | Page::Log(_) => Page::Agents,
                Page::Agents => Page::Runs,
                Page::Runs => Page::Jobs,
            }),
            Key::Jobs => self.show(Page::Jobs),
            Key::Tasks => self.show(Page::Tasks),
            Key::Agents => self.show(Page::Agents),
            Key::Runs => self.show(Page::Runs),
        }
        Want::Nothing
    }

    fn show(&mut self, page: Page) {
        self.before.clear();
        (self.page, self.selected) = (page, 0);
    }

    fn open(&mut self) -> Want {
        let page = match &self.page {
            Page::Jobs => self.jobs.get(self.selected).map(|job| Page::Job(job.id.clone())),
            Page::Runs => self.trainings().nth(self.selected).map(|job| Page::Job(job.id.clone())),
            Page::Tasks | Page::Job(_) => {
                let task = self.tasks().nth(self.selected).map(|task| task.id.clone());
                task.map(|task| Page::Log(Log { task, next: None, text: String::new() }))
            }
            Page::Agents | Page::Log(_) => None,
        };
        let Some(page) = page else { return Want::Nothing };
        let is_log = matches!(page, Page::Log(_));
        self.before.push((std::mem::replace(&mut self.page, page), self.selected));
        self.selected = 0;
        if is_log { Want::Look } else { Want::Nothing }
    }

    /// After new figures came: what is chosen is still there.
    pub fn settle(&mut self) {
        if !matches!(self.page, Page::Log(_)) {
            self.selected = self.selected.min(self.n_lines().saturating_sub(1));
        }
    }

    fn n_lines(&self) -> usize {
        match &self.page {
            Page::Jobs => self.jobs.len(),
            Page::Runs => self.trainings().count(),
            Page::Tasks | Page::Job(_) => self.tasks().count(),
            Page::Agents => self.cluster.as_ref().map_or(0, |cluster| cluster.agents.len()),
            Page::Log(log) => log.text.lines().count(),
        }
    }

    pub fn job(&self) -> Option<&JobView> {
        let Page::Job(id) = &self.page else { return None };
        self.jobs.iter().find(|job| job.id == *id)
    }

    pub fn trainings(&self) -> impl Iterator<Item = &JobView> {
        self.jobs.iter().filter(|job| job.kind == "train")
    }

    /// Of the job that is shown, else of all.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskView> {
        let one = match &self.page {
            Page::Job(id) => Some(id),
            _ => None,
        };
        self.jobs.iter().filter(move |job| one.is_none_or(|id| job.id == *id)).flat_map(|job| &job.tasks)
    }

    /// The task whose log is shown, and from where on it is not known.
    pub fn follows(&self) -> Option<(String, Option<u64>)> {
        match &self.page {
            Page::Log(log) => Some((log.task.clone(), log.next)),
            _ => None,
        }
    }

    pub fn logged(&mut self, offset: u64, bytes: &[u8]) {
        let Page::Log(log) = &mut self.page else { return };
        log.next = Some(offset + bytes.len() as u64);
        // Whatever a task writes, a terminal is not told what to do by it.
        let letters = String::from_utf8_lossy(bytes);
        log.text.extend(letters.chars().filter(|letter| *letter == '\n' || !letter.is_control()));
        if log.text.len() > LOG_KEPT_BYTES {
            let cut = log.text.len() - LOG_KEPT_BYTES;
            let line = log.text.bytes().skip(cut).position(|byte| byte == b'\n').map(|line| cut + line + 1);
            // A progress bar has no lines.
            let cut = line.unwrap_or_else(|| log.text.ceil_char_boundary(cut));
            log.text.drain(..cut);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> Screen {
        let task = |job: &str, at: u32| TaskView { id: format!("{job}.{at}"), job: job.into(), ..TaskView::default() };
        let job = |id: &str, kind: &str, n: u32| JobView {
            id: id.to_string(),
            kind: kind.to_string(),
            tasks: (0..n).map(|at| task(id, at)).collect(),
            ..JobView::default()
        };
        let jobs = vec![job("a/one", "stream", 2), job("a/two", "train", 1), job("b/three", "stream", 3)];
        Screen { jobs, ..Screen::new("http://here") }
    }

    #[test]
    fn one_goes_into_a_job_and_a_log_and_back() {
        let mut screen = screen();
        assert_eq!(screen.press(Key::Down(9)), Want::Nothing);
        assert_eq!(screen.selected, 2);
        screen.press(Key::Open);
        assert_eq!(screen.job().map(|job| job.id.as_str()), Some("b/three"));
        screen.press(Key::Down(1));
        assert_eq!(screen.press(Key::Open), Want::Look);
        assert_eq!(screen.follows(), Some(("b/three.1".to_string(), None)));
        screen.press(Key::Back);
        assert_eq!((screen.selected, screen.page.clone()), (1, Page::Job("b/three".to_string())));
        screen.press(Key::Back);
        assert_eq!((screen.selected, screen.page.clone()), (2, Page::Jobs));
        screen.press(Key::Back);
        assert_eq!(screen.page, Page::Jobs);
        assert_eq!(screen.press(Key::Quit), Want::Quit);
    }

    #[test]
    fn what_is_chosen_is_there() {
        let mut screen = screen();
        screen.press(Key::Tasks);
        screen.press(Key::Down(5));
        assert_eq!((screen.selected, screen.tasks().count()), (5, 6));
        screen.jobs.truncate(1);
        screen.settle();
        assert_eq!(screen.selected, 1);
        screen.jobs.clear();
        screen.settle();
        assert_eq!((screen.selected, screen.press(Key::Open)), (0, Want::Nothing));
        for page in [Page::Agents, Page::Runs, Page::Jobs, Page::Tasks] {
            screen.press(Key::Next);
            assert_eq!(screen.page, page);
        }
    }

    #[test]
    fn a_log_is_followed_and_bounded_and_moves_no_cursor() {
        let mut screen = screen();
        screen.press(Key::Tasks);
        screen.press(Key::Open);
        screen.logged(10, b"one\n\x1b[2Jtwo\n");
        assert_eq!(screen.follows().and_then(|(_, next)| next), Some(22));
        let Page::Log(log) = &screen.page else { panic!("a log") };
        assert_eq!(log.text, "one\n[2Jtwo\n");
        for at in 0..40 {
            screen.logged(22, format!("{at}{}\n", "x".repeat(10_000)).as_bytes());
        }
        let Page::Log(log) = &screen.page else { panic!("a log") };
        assert!(log.text.len() <= LOG_KEPT_BYTES && log.text.starts_with("14x"), "{}", &log.text[..9]);
        screen.press(Key::Up(1_000));
        assert_eq!(screen.selected, 26);
        screen.press(Key::Down(1_000));
        assert_eq!(screen.selected, 0);
    }
}
