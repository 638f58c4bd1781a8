//! `smack top`: jobs, their operators and tasks, agents and logs on one screen, once a second.

mod draw;
mod screen;

use super::exit::{FAILED, Fail, Result};
use super::human::now_ms;
use crate::client::Client;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use screen::{Key, Screen, Want};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between two looks at the cluster.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one may take; keys wait meanwhile.
const LOOK_MOST: Duration = Duration::from_secs(2);
/// How long a key waits to be seen.
const KEYS_EVERY: Duration = Duration::from_millis(50);
/// Of a log that is opened, its end.
const LOG_TAIL_BYTES: u64 = 64 << 10;

pub async fn top(client: &Client) -> Result<()> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Fail::new(FAILED, "failed to draw: this is no terminal; `smack ps` prints the same once"));
    }
    // Nobody there is told on the screen that the user knows, not on one that is gone at once.
    let mut screen = Screen::new(client.url());
    look(client, &mut screen).await?;
    let mut terminal = ratatui::init();
    let ended = run(client, &mut screen, &mut terminal).await;
    ratatui::restore();
    ended
}

async fn run(client: &Client, screen: &mut Screen, terminal: &mut DefaultTerminal) -> Result<()> {
    let failed = |error: std::io::Error| Fail::new(FAILED, format!("failed to draw: {error}"));
    let mut looked = Instant::now();
    loop {
        terminal.draw(|frame| draw::draw(frame, screen, now_ms())).map_err(failed)?;
        // Nothing else is to be done on this thread meanwhile.
        let pressed =
            event::poll(KEYS_EVERY).and_then(|is_there| if is_there { event::read().map(Some) } else { Ok(None) });
        let mut look_now = looked.elapsed() >= LOOK_EVERY;
        if let Some(key) = pressed.map_err(failed)?.as_ref().and_then(key) {
            match screen.press(key) {
                Want::Nothing => {}
                Want::Quit => return Ok(()),
                Want::Look => look_now = true,
            }
        }
        if look_now {
            looked = Instant::now();
            match tokio::time::timeout(LOOK_MOST, look(client, screen)).await {
                Ok(Ok(())) => {}
                Ok(Err(fail)) => screen.trouble = Some(fail.render(false, false).trim().to_string()),
                Err(_) => screen.trouble = Some(format!("the runner did not answer within {} s", LOOK_MOST.as_secs())),
            }
        }
    }
}

async fn look(client: &Client, screen: &mut Screen) -> Result<()> {
    let (jobs, cluster) = tokio::join!(client.jobs(), client.cluster());
    screen.jobs = jobs?.jobs;
    // The master may be away while the runner is not.
    match cluster {
        Ok(cluster) => (screen.cluster, screen.trouble) = (Some(cluster), None),
        Err(error) => (screen.cluster, screen.trouble) = (None, Some(error.to_string())),
    }
    screen.settle();
    if let Some((task, offset)) = screen.follows() {
        match client.logs(&task, "stderr", offset.unwrap_or(0)).await {
            // Where it ends is known by now: of a long one that part is asked for again.
            Ok(piece) if offset.is_none() && piece.size_bytes > LOG_TAIL_BYTES => {
                let from = piece.size_bytes - LOG_TAIL_BYTES;
                let piece = client.logs(&task, "stderr", from).await?;
                screen.logged(piece.offset_bytes, &piece.bytes);
            }
            Ok(piece) => screen.logged(piece.offset_bytes, &piece.bytes),
            Err(error) => screen.trouble = Some(error.to_string()),
        }
    }
    Ok(())
}

fn key(event: &Event) -> Option<Key> {
    let Event::Key(pressed) = event else { return None };
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    Some(match pressed.code {
        KeyCode::Char('c') if pressed.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
        KeyCode::Char('q') => Key::Quit,
        KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => Key::Back,
        KeyCode::Enter | KeyCode::Right => Key::Open,
        KeyCode::Up | KeyCode::Char('k') => Key::Up(1),
        KeyCode::Down | KeyCode::Char('j') => Key::Down(1),
        KeyCode::PageUp => Key::Up(10),
        KeyCode::PageDown => Key::Down(10),
        KeyCode::Tab => Key::Next,
        KeyCode::Char('1') => Key::Jobs,
        KeyCode::Char('2') => Key::Tasks,
        KeyCode::Char('3') => Key::Agents,
        KeyCode::Char('4') => Key::Runs,
        _ => return None,
    })
}
