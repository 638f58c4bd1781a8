//! `smack volumes`: the directories of agents that outlive tasks.

use super::exit::Result;
use super::human::amount;
use super::output::{Output, table};
use super::roles::say;
use crate::client::Client;
use crate::view::{VolumePlace, VolumeView};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum VolumesVerb {
    /// List them.
    Ls,
    /// Remove one that no task has, with all that is in it.
    Rm {
        /// As `smack volumes ls` lists it.
        name: String,
        /// Whose it is.
        #[arg(long, default_value = "default")]
        role: String,
        /// Where it is; needed only if it is on several agents.
        #[arg(long)]
        agent: Option<String>,
    },
}

pub async fn volumes(client: &Client, output: Output, verb: VolumesVerb) -> Result<()> {
    match verb {
        VolumesVerb::Ls => {
            let volumes = client.cluster().await?.volumes;
            if volumes.is_empty() && !output.json {
                output.progress("no volumes: jobs have them by [volumes] in their files");
            }
            output.either(&volumes, |volumes| show(volumes))
        }
        VolumesVerb::Rm { name, role, agent } => {
            say(output, &client.remove_volume(&name, &VolumePlace { role, agent }).await?)?;
            output.progress(&format!("{name} is removed"));
            Ok(())
        }
    }
}

fn show(volumes: &[VolumeView]) -> String {
    table(
        ["NAME", "ROLE", "AGENT", "SIZE", "TASK"],
        volumes.iter().map(|volume| {
            let task = match (&volume.task, volume.leaving) {
                (Some(task), _) => task.clone(),
                (None, true) => "is being removed".to_string(),
                (None, false) => "-".to_string(),
            };
            let size = format!("{} MiB", amount(volume.disk_mib));
            [volume.name.clone(), volume.role.clone(), volume.agent.clone(), size, task]
        }),
    )
}
