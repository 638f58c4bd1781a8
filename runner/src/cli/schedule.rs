//! Verbs for job files that are submitted by the clock.

use super::exit::{FAILED, Fail, Result};
use super::human::{day_and_clock, duration, now_ms};
use super::output::{Output, table};
use super::submit::{read_file, refused};
use crate::book::schedules::{CatchUp, Overlap};
use crate::client::Client;
use crate::view::{ScheduleRequest, ScheduleView};
use clap::{Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum ScheduleVerb {
    /// Submit a file whenever it is time; the schedule of this name, if there is one, is replaced.
    Add {
        name: String,
        /// A .sql, .toml or .yaml file whose jobs come to an end. It is kept as it is now.
        file: PathBuf,
        /// Minute, hour, day of the month, month, day of the week: '0 3 * * *' is every night at three.
        #[arg(long, value_name = "FIELDS")]
        cron: String,
        /// Time zone in which it is that time, for example Europe/Berlin.
        #[arg(long, default_value = "UTC")]
        zone: String,
        /// What becomes of times at which no runner was there.
        #[arg(long, value_enum, default_value = "last")]
        catch_up: CatchUpArg,
        /// What becomes of a time at which the run before is still going on.
        #[arg(long, value_enum, default_value = "skip")]
        overlap: OverlapArg,
    },
    /// List schedules: when each is due, and what came of it last.
    Ls,
    /// Show what became of each time at which a schedule was due.
    Show { name: String },
    /// Submit it now, or once the run before is over.
    Run { name: String },
    /// Take a schedule away; what it has submitted goes on.
    Rm { name: String },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CatchUpArg {
    /// They are passed over.
    None,
    /// One run for all of them.
    Last,
    /// One run for each, one after another.
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OverlapArg {
    /// It is passed over.
    Skip,
    /// It waits until the run is over.
    Queue,
    /// The run is stopped.
    Replace,
}

pub async fn schedule(client: &Client, output: Output, verb: ScheduleVerb, target: Option<&str>) -> Result<()> {
    match verb {
        ScheduleVerb::Add { name, file, cron, zone, catch_up, overlap } => {
            let read = read_file(&file, target)?;
            let request = ScheduleRequest {
                name: name.clone(),
                cron,
                zone,
                catch_up: match catch_up {
                    CatchUpArg::None => CatchUp::None,
                    CatchUpArg::Last => CatchUp::Last,
                    CatchUpArg::All => CatchUp::All,
                },
                overlap: match overlap {
                    OverlapArg::Skip => Overlap::Skip,
                    OverlapArg::Queue => Overlap::Queue,
                    OverlapArg::Replace => Overlap::Replace,
                },
                text: read.text.clone(),
                file: read.file.clone(),
                base_dir: read.base_dir.clone(),
            };
            client.schedule(&request).await.map_err(|error| refused(&read, error))?;
            let added = one(client, &name).await?;
            output.either(&added, |added| format!("{name} submits group {} next {}\n", added.group, next(added)))
        }
        ScheduleVerb::Ls => {
            let view = client.schedules().await?;
            if view.schedules.is_empty() && !output.json {
                output.progress("no schedules");
            }
            output.either(&view, |view| list(&view.schedules))
        }
        ScheduleVerb::Show { name } => output.either(&one(client, &name).await?, show),
        ScheduleVerb::Run { name } => {
            client.run_now(&name).await?;
            if output.json { Ok(()) } else { output.line(&format!("{name} is submitted as soon as it can be")) }
        }
        ScheduleVerb::Rm { name } => {
            client.unschedule(&name).await?;
            if output.json { Ok(()) } else { output.line(&format!("removed schedule {name}")) }
        }
    }
}

async fn one(client: &Client, name: &str) -> Result<ScheduleView> {
    let found = client.schedules().await?.schedules.into_iter().find(|schedule| schedule.name == name);
    found.ok_or_else(|| Fail::new(FAILED, format!("there is no schedule '{name}'; `smack schedule ls` lists them")))
}

fn list(schedules: &[ScheduleView]) -> String {
    table(
        ["SCHEDULE", "CRON", "ZONE", "GROUP", "NEXT", "LAST", "CATCH-UP", "OVERLAP"],
        schedules.iter().map(|schedule| {
            let last = schedule.history.last();
            [
                schedule.name.clone(),
                schedule.cron.clone(),
                schedule.zone.clone(),
                schedule.group.clone(),
                next(schedule),
                last.map_or("-".to_string(), |last| format!("{} {}", day_and_clock(last.planned_ms), last.outcome)),
                schedule.catch_up.clone(),
                schedule.overlap.clone(),
            ]
        }),
    )
}

fn next(schedule: &ScheduleView) -> String {
    let in_ms = |next: i64| u64::try_from(next).unwrap_or(0).saturating_sub(now_ms());
    schedule.next_ms.map_or("-".to_string(), |next| format!("{} (in {})", day_and_clock(next), duration(in_ms(next))))
}

fn show(schedule: &ScheduleView) -> String {
    let head = format!(
        "{}: {} in {}, catch-up {}, overlap {}, {} waiting, next {}\n",
        schedule.name,
        schedule.cron,
        schedule.zone,
        schedule.catch_up,
        schedule.overlap,
        schedule.n_waiting,
        next(schedule)
    );
    let fired = schedule.history.iter().rev().map(|fired| {
        [
            day_and_clock(fired.planned_ms),
            fired.why.clone(),
            fired.outcome.clone(),
            day_and_clock(fired.at_ms),
            fired.text.clone(),
        ]
    });
    head + &table(["DUE", "WHY", "OUTCOME", "AT", "WHAT"], fired)
}
