//! `drain` and `undrain`: an agent that is to be empty, and one that is in use again; `gone`: one that does not come back;
//! `reserve` and `unreserve`: what of an agent is for a role alone.

use super::exit::Result;
use super::human::{day_and_clock, duration, now_ms};
use super::output::{Output, table};
use super::roles::{Amounts, amounts, listed, say};
use crate::client::Client;
use crate::view::{AgentView, DrainRequest, GoneRequest, ReserveRequest, ResourcesView, UnreserveRequest};
use jobs::text::parse_duration;
use std::collections::BTreeMap;

#[derive(Debug, clap::Args)]
pub struct ReserveArgs {
    /// As `smack agents` lists it.
    agent: String,
    /// For this role and those below it; `a/b` is below `a`.
    role: String,
    /// For example 'cpus=4;mem=8GiB;gpus:a100=2'.
    #[arg(value_parser = amounts)]
    amounts: Amounts,
    /// Out of what is reserved for this role, which the other is below.
    #[arg(long, value_name = "ROLE")]
    from: Option<String>,
    /// Tells this reservation from others of the role, for example --label disk=fast.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = super::attribute)]
    labels: Vec<(String, String)>,
    /// Also if the agent does not have it, or tasks of other roles use it: those go on, and it is kept when they end.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
pub struct UnreserveArgs {
    /// As `smack agents` lists it.
    agent: String,
    role: String,
    /// How much of it; all by default.
    #[arg(value_parser = amounts)]
    amounts: Option<Amounts>,
    /// Those that it was reserved with.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = super::attribute)]
    labels: Vec<(String, String)>,
}

pub async fn drain(client: &Client, output: Output, agent: &str, request: &DrainRequest) -> Result<()> {
    say(output, &client.drain(agent, request).await?)?;
    output.progress(&told(agent, request));
    Ok(())
}

fn told(agent: &str, request: &DrainRequest) -> String {
    let tasks = match request.deadline_ms {
        Some(deadline_ms) => format!("its tasks move, and what is left after {} is ended", duration(deadline_ms)),
        None => "its tasks stay".to_string(),
    };
    let begins = match request.at_ms {
        Some(at_ms) => {
            format!("from {} on", day_and_clock(at_ms.saturating_sub(request.deadline_ms.unwrap_or(0)) as i64))
        }
        None => "from now on".to_string(),
    };
    let back = match request.for_ms {
        Some(for_ms) => format!("it is back {} later, or with `smack undrain {agent}`", duration(for_ms)),
        None => format!("`smack undrain {agent}` takes it back"),
    };
    format!("{agent} is offered to nobody {begins}; {tasks}; {back}")
}

/// A time of day with its date, or a while from now; milliseconds since 1970.
pub fn moment_ms(text: &str) -> std::result::Result<u64, String> {
    if let Ok(moment) = chrono::DateTime::parse_from_rfc3339(text.trim()) {
        return u64::try_from(moment.timestamp_millis()).map_err(|_| format!("'{text}' is before 1970"));
    }
    let from_now = parse_duration(text)
        .map_err(|_| format!("'{text}' is neither a time as '2026-12-01T02:00:00Z' nor a time from now as '3h'"))?;
    Ok(now_ms().saturating_add(u64::try_from(from_now.as_millis()).unwrap_or(u64::MAX)))
}

/// An agent's state, and what is planned for it.
pub fn state(agent: &AgentView, now_ms: u64) -> String {
    let comes = |at_ms: Option<u64>| at_ms.and_then(|at_ms| at_ms.checked_sub(now_ms)).filter(|in_ms| *in_ms > 0);
    match (comes(agent.drains_from_ms), comes(agent.drain_over_ms)) {
        (Some(begins_ms), _) => format!("{}, drains in {}", agent.state, duration(begins_ms)),
        (None, Some(over_ms)) => format!("{}, back in {}", agent.state, duration(over_ms)),
        (None, None) => agent.state.clone(),
    }
}

pub async fn undrain(client: &Client, output: Output, agent: &str) -> Result<()> {
    say(output, &client.undrain(agent).await?)?;
    output.progress(&format!("{agent} is offered again"));
    Ok(())
}

pub async fn gone(client: &Client, output: Output, agent: &str, force: bool) -> Result<()> {
    say(output, &client.gone(agent, &GoneRequest { force }).await?)?;
    output.progress(&format!("{agent} is gone: what ran there is lost, and starts again elsewhere"));
    Ok(())
}

pub async fn reserve(client: &Client, output: Output, args: ReserveArgs) -> Result<()> {
    let ReserveArgs { agent, role, amounts, from, labels, force } = args;
    let labels = labels.into_iter().collect();
    let request = ReserveRequest { role, amounts, labels, from, force };
    say(output, &client.reserve(&agent, &request).await?)?;
    output.progress(&format!("{} of {agent} is for role {} alone", listed(&request.amounts), request.role));
    Ok(())
}

pub async fn unreserve(client: &Client, output: Output, args: UnreserveArgs) -> Result<()> {
    let UnreserveArgs { agent, role, amounts, labels } = args;
    let request = UnreserveRequest { role, amounts: amounts.unwrap_or_default(), labels: labels.into_iter().collect() };
    say(output, &client.unreserve(&agent, &request).await?)?;
    let what = match request.amounts.is_empty() {
        true => "what was reserved for it".to_string(),
        false => listed(&request.amounts),
    };
    output.progress(&format!("{what} of {agent} is no longer for role {} alone", request.role));
    Ok(())
}

/// What is reserved, if anything is.
pub fn show_reserved(agents: &[AgentView]) -> Option<String> {
    let rows = agents.iter().flat_map(|agent| agent.reserved.iter().map(move |reserved| (agent, reserved)));
    let rows: Vec<[String; 6]> = rows
        .map(|(agent, reserved)| {
            let labels = reserved.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
            let none = BTreeMap::new();
            [
                agent.id.clone(),
                reserved.role.clone(),
                listed(&reserved.amounts),
                listed(agent.unfilled.get(&reserved.role).unwrap_or(&none)),
                if labels.is_empty() { "-".to_string() } else { labels.join(", ") },
                if reserved.by_agent { "the agent" } else { "an operator" }.to_string(),
            ]
        })
        .collect();
    (!rows.is_empty()).then(|| table(["AGENT", "RESERVED FOR", "AMOUNTS", "NOT HELD BY IT", "LABELS", "BY"], rows))
}

/// What agents lend of what their tasks do not use, and how much of that tasks run on.
pub fn show_lent(agents: &[AgentView]) -> Option<String> {
    let lent = |view: &ResourcesView| -> BTreeMap<String, f64> {
        let lent = view.scalars.iter().filter(|(name, _)| jobs::revocable::is_revocable(name));
        lent.map(|(name, amount)| (name.clone(), *amount)).collect()
    };
    let rows: Vec<[String; 3]> = agents
        .iter()
        .filter_map(|agent| {
            let all = lent(&agent.total);
            (!all.is_empty()).then(|| [agent.id.clone(), listed(&all), listed(&lent(&agent.used))])
        })
        .collect();
    (!rows.is_empty()).then(|| table(["AGENT", "LENDS", "OF WHICH TASKS USE"], rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_is_listed_where_there_is_any() {
        let of = |amounts: &[(&str, f64)]| ResourcesView {
            scalars: amounts.iter().map(|(name, amount)| (name.to_string(), *amount)).collect(),
            ..ResourcesView::default()
        };
        let agent = |id: &str, total: ResourcesView, used: ResourcesView| AgentView {
            id: id.to_string(),
            total,
            used,
            ..AgentView::default()
        };
        let plain = agent("a", of(&[("cpus", 2.0)]), of(&[("cpus", 1.0)]));
        assert_eq!(show_lent(std::slice::from_ref(&plain)), None);
        let lends = agent(
            "b",
            of(&[("cpus", 2.0), ("cpus:revocable", 1.5)]),
            of(&[("cpus:revocable", 1.0), ("mem:revocable", 64.0)]),
        );
        let shown = show_lent(&[plain, lends]).expect("one lends");
        let cells: Vec<&str> =
            shown.lines().last().expect("a row").split("  ").filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells[0], "b", "{shown}");
        assert!(shown.contains("1.5") && !shown.contains("\na "), "{shown}");
    }

    #[test]
    fn moments_are_times_of_day_or_a_while_from_now() {
        assert_eq!(moment_ms("1970-01-02T01:00:00+01:00"), Ok(86_400_000));
        let soon = moment_ms("2h").expect("a while");
        assert!(soon.abs_diff(now_ms() + 7_200_000) < 60_000);
        assert!(moment_ms("tomorrow").is_err_and(|said| said.contains("'tomorrow' is neither")));
        assert!(moment_ms("1969-01-01T00:00:00Z").is_err_and(|said| said.contains("before 1970")));
    }

    #[test]
    fn what_is_planned_stands_beside_the_state() {
        let agent = AgentView { state: "active".into(), drains_from_ms: Some(7_200_000), ..AgentView::default() };
        assert_eq!(state(&agent, 0), "active, drains in 2h 0m");
        let agent = AgentView { state: "drained".into(), drain_over_ms: Some(60_000), ..agent };
        assert_eq!((state(&agent, 7_200_000), state(&agent, 0)), ("drained".into(), "drained, drains in 2h 0m".into()));
    }
}
