//! `distributed` and `[roles]` of a command: programs of others that train one model together.

use super::document::Span;
use super::reader::Reader;
use super::settings::{JobSettings, with_gpus};
use jobs::{Diagnostic, Distributed, Gang, GangRole, Member, Resources};
use std::collections::BTreeMap;

/// Of all roles together; one job places no more.
const TASKS_MAX: u32 = 4096;
const WIND_DOWN_MS: u64 = 5 * 60 * 1000;

/// What a role has where it does not say it itself.
pub struct Usual<'a> {
    pub argv: &'a [String],
    pub env: &'a BTreeMap<String, String>,
    pub settings: &'a JobSettings,
    /// Where `[job]` says how many tasks there are.
    pub parallelism: Option<Span>,
    pub wind_down: Option<(u64, Span)>,
}

/// `None` where the file's tasks have nothing to do with one another.
pub fn read(reader: &mut Reader<'_>, usual: &Usual<'_>) -> Option<Gang> {
    let distributed = match reader.has("distributed") {
        true => match reader.choice("distributed")? {
            "tensorflow" => Some(Distributed::Tensorflow),
            _ => Some(Distributed::Torch),
        },
        false => None,
    };
    let roles_span = reader.span("roles");
    let Some(distributed) = distributed else {
        let help = "add distributed = \"tensorflow\" or \"torch\"";
        if let Some(span) = roles_span {
            reader.complain(Diagnostic::new("[roles] are said, and not of which framework").at(span).help(help));
        }
        if let Some((_, span)) = usual.wind_down {
            reader.complain(Diagnostic::new("wind_down is of tasks that train together").at(span).help(help));
        }
        return None;
    };
    let roles = match roles_span {
        Some(span) => roles(reader, distributed, usual, span),
        None => vec![GangRole {
            member: Member::Worker,
            count: usual.settings.parallelism,
            argv: usual.argv.to_vec(),
            env: usual.env.clone(),
            resources: usual.settings.resources.clone(),
            n_ports: usual.settings.n_ports + 1,
        }],
    };
    let wind_down_ms = usual.wind_down.map_or(WIND_DOWN_MS, |(ms, _)| ms);
    Some(Gang { distributed, roles, wind_down_ms })
}

fn roles(reader: &mut Reader<'_>, distributed: Distributed, usual: &Usual<'_>, span: Span) -> Vec<GangRole> {
    if let Some(span) = usual.parallelism {
        let twice = Diagnostic::new("parallelism and [roles] both say how many tasks there are").at(span);
        reader.complain(twice.help("say it in [roles]: worker = { count = 2 }"));
    }
    let mut table = reader.table("roles");
    let mut roles = Vec::new();
    for member in Member::ALL {
        let name = member.as_str();
        let Some(at) = table.span(name) else { continue };
        if distributed == Distributed::Torch && matches!(member, Member::Ps | Member::Evaluator) {
            let foreign = Diagnostic::new(format!("torch has no role '{name}'")).at(at);
            table.complain(foreign.help("it has 'worker', and 'chief' for the one of rank 0"));
        }
        let role = role(&mut table.table(name), member, usual, at);
        if member == Member::Chief && role.count > 1 {
            table.complain(Diagnostic::new(format!("there are {} chiefs", role.count)).at(at).help("one is the chief"));
        }
        roles.push(role);
    }
    if !roles.iter().any(|role| matches!(role.member, Member::Chief | Member::Worker)) {
        let nobody = Diagnostic::new("[roles] has neither a chief nor a worker").at(span);
        table.complain(nobody.help("nobody's end would be the end of the job"));
    }
    let n_tasks: u32 = roles.iter().map(|role| role.count).sum();
    if n_tasks > TASKS_MAX {
        table.complain(Diagnostic::new(format!("[roles] are {n_tasks} tasks; {TASKS_MAX} are the most")).at(span));
    }
    roles
}

fn role(reader: &mut Reader<'_>, member: Member, usual: &Usual<'_>, span: Span) -> GangRole {
    let count = reader.whole("count").and_then(|count| u32::try_from(count).ok()).unwrap_or(1);
    let own = reader.text_list("argv");
    let argv = if own.is_empty() { usual.argv.to_vec() } else { own };
    if argv.is_empty() {
        let missing = Diagnostic::new(format!("neither the file nor role '{member}' has argv")).at(span);
        reader.complain(missing.help("argv: the program and its arguments"));
    }
    let mut env = usual.env.clone();
    env.extend(reader.text_table("env"));
    let resources = resources(reader, &usual.settings.resources);
    let ports = match reader.whole("ports") {
        Some(ports) => u32::try_from(ports).unwrap_or(0),
        None => usual.settings.n_ports,
    };
    GangRole { member, count, argv, env, resources, n_ports: ports + 1 }
}

/// What `[job]` says, but for what the role says itself. GPUs and their model are said together.
fn resources(reader: &mut Reader<'_>, usual: &Resources) -> Resources {
    let cpus = reader.number("cpus").unwrap_or(usual.cores());
    let mem_mib = reader.mem_mib("mem").unwrap_or(usual.memory_mib());
    let others = match reader.has("gpus") || reader.has("gpu_model") {
        true => with_gpus(reader, Resources::new()),
        false => usual.clone(),
    };
    let kind = if usual.is_revocable() { others.revocable() } else { others };
    kind.with_cores(cpus, mem_mib)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mistakes, settled};
    use jobs::{Gang, JobBody, JobSpec, Member, Restart};

    async fn gang(text: &str, file: &str) -> (JobSpec, Gang) {
        let job = settled(text, file).await.jobs.remove(0);
        let JobBody::Command(command) = &job.body else { panic!("{job:?}") };
        let gang = command.gang.clone().unwrap_or_else(|| panic!("no gang: {job:?}"));
        (job, gang)
    }

    #[tokio::test]
    async fn workers_alone_need_no_roles() {
        let text = "kind = \"command\"\ndistributed = \"torch\"\nargv = [\"train\"]\nenv = {A = 1}\n\
                    [job]\nparallelism = 3\nports = 1\nrestart = \"exit_code\"\n";
        let (job, gang) = gang(text, "a.toml").await;
        assert_eq!((job.parallelism, job.n_ports, job.restart), (3, 2, Restart::ExitCode));
        assert_eq!((gang.roles.len(), gang.wind_down_ms), (1, 300_000));
        let role = &gang.roles[0];
        assert_eq!((role.member, role.count, role.n_ports), (Member::Worker, 3, 2), "one port is its address");
        assert_eq!((role.argv.join(" "), role.env["A"].as_str()), ("train".to_string(), "1"));
    }

    const ROLES: &str = r#"kind = "command"
distributed = "tensorflow"
argv = ["train"]
env = { A = "1", B = "2" }
[roles.worker]
count = 2
cpus = 2
mem = "2g"
[roles.evaluator]
argv = ["judge"]
env = { B = "3" }
[roles.chief]
gpus = 1
gpu_model = "a100"
[job]
cpus = 0.5
wind_down = "3s"
"#;

    #[tokio::test]
    async fn a_role_has_what_it_says_and_else_what_the_file_says() {
        let (job, found) = gang(ROLES, "a.toml").await;
        let shown: Vec<(&str, u32, &str, f64, f64, i64)> = found
            .roles
            .iter()
            .map(|role| {
                let amount = |name: &str| role.resources.amount(name);
                let gpus = role.resources.milli("gpus:a100");
                (role.member.as_str(), role.count, role.argv[0].as_str(), amount("cpus"), amount("mem"), gpus)
            })
            .collect();
        let expected = [
            ("chief", 1, "train", 0.5, 256.0, 1_000),
            ("worker", 2, "train", 2.0, 2048.0, 0),
            ("evaluator", 1, "judge", 0.5, 256.0, 0),
        ];
        assert_eq!(shown, expected);
        let envs: Vec<String> = found.roles.iter().map(|role| format!("{}{}", role.env["A"], role.env["B"])).collect();
        assert_eq!(envs, ["12", "12", "13"]);
        assert_eq!((job.parallelism, found.wind_down_ms), (4, 3_000));
        let yaml = "kind: command\ndistributed: tensorflow\nargv: [train]\nenv: {A: 1, B: 2}\nroles:\n  worker: {count: 2, \
                    cpus: 2, mem: 2g}\n  evaluator: {argv: [judge], env: {B: 3}}\n  chief: {gpus: 1, gpu_model: a100}\n\
                    job: {cpus: 0.5, wind_down: 3s}\n";
        assert_eq!(gang(yaml, "a.yaml").await, (job, found));
    }

    #[tokio::test]
    async fn mistakes_in_roles_have_their_place() {
        let found = mistakes(&ROLES.replace("roles.evaluator", "roles.evaluater"), "a.toml").await;
        assert_eq!((found[0].0.as_str(), found[0].2.as_str()), ("evaluater", "did you mean 'evaluator'?"), "{found:?}");
        let found = mistakes(&ROLES.replace("count = 2", "cont = 2"), "a.toml").await;
        assert_eq!((found[0].0.as_str(), found[0].2.as_str()), ("cont", "did you mean 'count'?"), "{found:?}");
        for (from, to, word, text) in [
            ("[job]", "[job]\nparallelism = 2", "2", "parallelism and [roles] both say how many tasks there are"),
            ("\"tensorflow\"", "\"torch\"", "", "torch has no role 'evaluator'"),
            ("\"tensorflow\"", "\"tensorflw\"", "\"tensorflw\"", "distributed 'tensorflw' is not known"),
            ("distributed = \"tensorflow\"", "", "", "[roles] are said, and not of which framework"),
            ("distributed = \"tensorflow\"", "", "\"3s\"", "wind_down is of tasks that train together"),
            ("argv = [\"train\"]", "", "", "neither the file nor role 'chief' has argv"),
            ("gpus = 1", "count = 2\ngpus = 1", "", "there are 2 chiefs"),
            ("count = 2", "count = 4096", "", "[roles] are 4098 tasks; 4096 are the most"),
            ("gpus = 1\n", "", "\"a100\"", "gpu_model is said, and no gpus are asked for"),
        ] {
            assert!(ROLES.contains(from), "{from}");
            let found = mistakes(&ROLES.replace(from, to), "a.toml").await;
            assert!(found.iter().any(|(at, message, _)| at.contains(word) && message == text), "{text}: {found:?}");
        }
        let nobody = "kind = \"command\"\ndistributed = \"tensorflow\"\nargv = [\"serve\"]\n[roles.ps]\n";
        let found = mistakes(nobody, "a.toml").await;
        assert_eq!(found[0].1, "[roles] has neither a chief nor a worker", "{found:?}");
        let found = mistakes("kind = \"command\"\n", "a.toml").await;
        assert_eq!(found[0].1, "'argv' is missing in the file", "{found:?}");
    }
}
