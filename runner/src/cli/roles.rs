//! Verbs for roles: what each holds, its quota and its weight.

use super::exit::{BAD_INPUT, Fail, Result};
use super::human::amount;
use super::output::{Output, table};
use crate::client::Client;
use crate::view::{Changed, QuotaRequest, RoleView};
use clap::Subcommand;
use std::collections::BTreeMap;

#[derive(Debug, Subcommand)]
pub enum QuotaVerb {
    /// Set a role's quota, in place of what it was.
    Set {
        /// A role; `a/b` is a child of `a`.
        role: String,
        /// What is kept free for it while it has less, for example 'cpus=8;mem=32GiB;gpus:a100=2'.
        #[arg(long, value_name = "AMOUNTS", value_parser = amounts, required_unless_present = "limit")]
        guarantee: Option<Amounts>,
        /// What it never gets more than.
        #[arg(long, value_name = "AMOUNTS", value_parser = amounts)]
        limit: Option<Amounts>,
        /// Also if the cluster does not have what is guaranteed, or the role uses more than its limit already.
        #[arg(long)]
        force: bool,
    },
    /// List quotas.
    Ls,
    /// Take a role's quota away.
    Rm { role: String },
}

#[derive(Debug, Subcommand)]
pub enum WeightVerb {
    /// Set a role's weight; a role with weight 2 may have twice the share of a role beside it that has 1.
    Set { role: String, weight: f64 },
}

pub type Amounts = BTreeMap<String, f64>;

pub fn amounts(text: &str) -> std::result::Result<Amounts, String> {
    jobs::amounts::parse_amounts(text)
}

pub async fn roles(client: &Client, output: Output) -> Result<()> {
    let roles = client.cluster().await?.roles;
    if roles.is_empty() && !output.json {
        output.progress("no roles: no framework has subscribed, and none has a quota or a weight");
    }
    output.either(&roles, |roles| show(roles))
}

pub async fn quota(client: &Client, output: Output, verb: QuotaVerb) -> Result<()> {
    match verb {
        QuotaVerb::Set { role, guarantee, limit, force } => {
            let (guarantee, limit) = (guarantee.unwrap_or_default(), limit.unwrap_or_default());
            let changed = client.set_quota(&role, &QuotaRequest { guarantee, limit, force }).await?;
            say(output, &changed)
        }
        QuotaVerb::Rm { role } => say(output, &client.remove_quota(&role).await?),
        QuotaVerb::Ls => {
            let mut roles = client.cluster().await?.roles;
            roles.retain(|role| !role.guarantee.is_empty() || !role.limit.is_empty());
            if roles.is_empty() && !output.json {
                output.progress("no role has a quota");
            }
            output.either(&roles, |roles| show(roles))
        }
    }
}

pub async fn weight(client: &Client, output: Output, verb: WeightVerb) -> Result<()> {
    let WeightVerb::Set { role, weight } = verb;
    if !weight.is_finite() || weight < 0.001 {
        let error = format!("role {role} cannot have weight {weight}: weights go from 0.001 to 1000000");
        return Err(Fail::new(BAD_INPUT, error));
    }
    say(output, &client.set_weight(&role, weight).await?)
}

/// What was put up with; nothing, if all is well.
pub fn say(output: Output, changed: &Changed) -> Result<()> {
    output.either(changed, |changed| {
        changed.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect::<String>()
    })
}

fn show(roles: &[RoleView]) -> String {
    table(
        ["ROLE", "WEIGHT", "SHARE", "HOLDS", "GUARANTEED", "LIMIT", "FRAMEWORKS"],
        roles.iter().map(|role| {
            [
                role.role.clone(),
                amount(role.weight),
                format!("{:.1} %", role.dominant_share * 100.0),
                listed(&role.held),
                listed(&role.guarantee),
                listed(&role.limit),
                role.n_frameworks.to_string(),
            ]
        }),
    )
}

pub fn listed(amounts: &Amounts) -> String {
    let part = |(name, value): (&String, &f64)| {
        let unit = if name == "mem" || name == "disk" { " MiB" } else { "" };
        format!("{name} {}{unit}", amount(*value))
    };
    match amounts.is_empty() {
        true => "-".to_string(),
        false => amounts.iter().map(part).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_listed_with_what_they_hold_and_may_hold() {
        let role = RoleView {
            role: "ml/vision".into(),
            weight: 2.0,
            dominant_share: 0.25,
            held: BTreeMap::from([("cpus".into(), 1.5), ("mem".into(), 512.0)]),
            guarantee: BTreeMap::from([("cpus".into(), 4.0)]),
            limit: BTreeMap::new(),
            n_frameworks: 3,
        };
        let shown = show(&[role]);
        let row = shown.lines().last().unwrap_or_default();
        for cell in ["ml/vision", "2", "25.0 %", "cpus 1.5, mem 512 MiB", "cpus 4", "-", "3"] {
            assert!(row.contains(cell), "{cell} in {row}");
        }
    }
}
