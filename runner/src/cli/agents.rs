//! `drain` and `undrain`: an agent that is to be empty, and one that is in use again.

use super::exit::Result;
use super::output::Output;
use crate::client::Client;
use crate::view::Changed;
use std::time::Duration;

pub async fn drain(client: &Client, output: Output, agent: &str, deadline: Option<Duration>) -> Result<()> {
    let deadline_ms = deadline.map(|deadline| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
    let changed = client.drain(agent, deadline_ms).await?;
    output.either(&changed, show)?;
    output.progress(&match deadline {
        Some(deadline) => format!(
            "{agent} is offered to nobody; its tasks move, and what is left in {} s is ended; `smack undrain {agent}` \
             takes it back",
            deadline.as_secs()
        ),
        None => format!("{agent} is offered to nobody; its tasks stay; `smack undrain {agent}` takes it back"),
    });
    Ok(())
}

pub async fn undrain(client: &Client, output: Output, agent: &str) -> Result<()> {
    output.either(&client.undrain(agent).await?, show)?;
    output.progress(&format!("{agent} is offered again"));
    Ok(())
}

fn show(changed: &Changed) -> String {
    changed.warnings.iter().map(|warning| format!("{warning}\n")).collect()
}
