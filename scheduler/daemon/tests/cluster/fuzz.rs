//! Calls that no sensible peer makes: malformed, huge, out of order, about what is not there. Whatever is said, the
//! daemons stay, and others are served.
//!
//! Invariant: everything follows from the seed, which is printed; `SMACK_SEED` repeats one.

use crate::framework::{self, Framework};
use crate::http;
use crate::world::World;
use daemon::client;
use jobs::TaskState;
use std::net::SocketAddr;
use std::time::Duration;
use tokio_stream::StreamExt;
use wire::v1;

/// Streams that are opened, and messages on each.
const STREAMS: usize = 150;
const MESSAGES: usize = 6;

/// A few random numbers; no more is asked of them.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn some<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn perhaps<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (!self.one_in(5)).then(|| make(self))
    }

    fn number(&mut self) -> u64 {
        let small = self.below(5);
        [0, 1, small, 1_000, u64::MAX, u64::MAX / 2, i64::MAX as u64][self.below(7) as usize]
    }

    fn reservation(&mut self) -> v1::Reservation {
        v1::Reservation {
            role: self.text(),
            amounts: self.some(2, |dice| v1::Scalar { name: dice.text(), milli: dice.number() as i64 }),
            labels: self.some(2, |dice| (dice.text(), dice.text())).into_iter().collect(),
        }
    }

    fn text(&mut self) -> String {
        match self.below(9) {
            0 => String::new(),
            1 => "two words".into(),
            2 => "x".repeat(300),
            3 => "\n\u{0}".into(),
            4 => "../../etc".into(),
            _ => format!("fuzz-{}", self.below(4)),
        }
    }

    fn resources(&mut self) -> v1::Resources {
        let scalar = |dice: &mut Self| {
            let name = ["cpus", "mem", "", "gpus", "disk"][dice.below(5) as usize].to_string();
            v1::Scalar { name, milli: dice.milli() }
        };
        let ports = |dice: &mut Self| v1::PortRange {
            low: [0, 1, 31_000, 65_535, 70_000][dice.below(5) as usize],
            high: [0, 31_009, 65_535, u32::MAX][dice.below(4) as usize],
        };
        v1::Resources { scalars: self.some(3, scalar), ports: self.some(2, ports), ..Default::default() }
    }

    fn task(&mut self) -> v1::TaskInfo {
        v1::TaskInfo {
            task_id: self.text(),
            name: self.text(),
            agent_id: self.text(),
            resources: self.perhaps(Self::resources),
            argv: self.some(2, Self::text),
            plan: vec![0; if self.one_in(20) { 5 << 20 } else { 3 }],
            kill_grace_ms: self.number(),
            max_completion_ms: self.number(),
            unreachable_kill_ms: self.number(),
            priority: self.number() as i32,
            group: self.text(),
            volumes: self.some(2, Self::claim),
            role: self.text(),
            artifacts: self.some(2, Self::artifact),
            user: self.text(),
            secrets: self.some(2, |dice| (dice.text(), dice.text())).into_iter().collect(),
            health: self.one_in(3).then(|| v1::HealthCheck { interval_ms: self.number(), ..Default::default() }),
            ..Default::default()
        }
    }

    fn artifact(&mut self) -> v1::Artifact {
        let from = ["", "ftp://x/y", "s3://", "/etc/hostname", "http://127.0.0.1:1/x"][self.below(5) as usize].into();
        v1::Artifact {
            from,
            path: self.text(),
            sha256: self.text(),
            unpack: self.one_in(2),
            executable: self.one_in(2),
        }
    }

    fn claim(&mut self) -> v1::VolumeClaim {
        v1::VolumeClaim { name: self.text(), disk_milli: self.milli(), path: self.text() }
    }

    fn volume(&mut self) -> v1::Volume {
        v1::Volume { role: self.text(), name: self.text(), disk_milli: self.milli() }
    }

    fn milli(&mut self) -> i64 {
        [0, 500, 1_000, -1, i64::MIN, i64::MAX][self.below(6) as usize]
    }

    fn operation(&mut self) -> v1::Operation {
        use v1::operation::What;
        let what = match self.below(5) {
            0 => Some(What::Reserve(self.reservation())),
            1 => Some(What::Unreserve(self.reservation())),
            2 => Some(What::KeepVolume(self.volume())),
            3 => Some(What::DestroyVolume(v1::DestroyVolume { role: self.text(), name: self.text() })),
            _ => None,
        };
        v1::Operation { agent_id: self.text(), what }
    }

    fn status(&mut self) -> v1::TaskStatus {
        v1::TaskStatus {
            task_id: self.text(),
            agent_id: self.text(),
            state: self.below(14) as i32 - 1,
            reason: self.below(30) as i32 - 1,
            message: self.text(),
            uuid: self.text(),
            at_ms: self.number(),
            exit_code: i32::MIN,
        }
    }

    fn agent_call(&mut self) -> v1::AgentCall {
        use v1::agent_call::Call;
        let call = match self.below(6) {
            4 => Some(Call::Destroyed(v1::VolumeDestroyed { role: self.text(), name: self.text() })),
            0 | 1 => Some(Call::Register(v1::RegisterAgent {
                agent: self.perhaps(|dice| v1::AgentInfo {
                    agent_id: dice.text(),
                    host: dice.text(),
                    total: dice.perhaps(Self::resources),
                    attributes: Default::default(),
                    http_endpoint: dice.text(),
                    reserved: dice.some(2, Self::reservation),
                }),
                tasks: self.some(3, |dice| v1::AgentTask {
                    framework_id: dice.text(),
                    task: dice.perhaps(Self::task),
                    state: dice.below(14) as i32 - 1,
                }),
                volumes: self.some(2, Self::volume),
            })),
            2 => Some(Call::Heartbeat(v1::AgentHeartbeat {})),
            3 => {
                let (framework_id, status) = (self.text(), self.perhaps(Self::status));
                Some(Call::Update(v1::UpdateStatus { framework_id, status }))
            }
            _ => None,
        };
        v1::AgentCall { call }
    }

    fn framework_call(&mut self) -> v1::FrameworkCall {
        use v1::framework_call::Call;
        let call = match self.below(12) {
            0 | 1 => Call::Subscribe(v1::Subscribe {
                framework_id: self.text(),
                name: self.text(),
                role: self.text(),
                failover_timeout_ms: self.number(),
                constraints: self.some(3, |dice| v1::Constraint {
                    key: dice.text(),
                    kind: dice.below(6) as i32,
                    values: dice.some(3, Self::text),
                }),
            }),
            2 => Call::Demand(v1::PostDemand {
                demands: self.some(3, |dice| v1::Demand {
                    name: dice.text(),
                    shape: dice.perhaps(Self::resources),
                    n_ports: dice.number() as u32,
                    count: dice.number() as u32,
                    priority: dice.number() as i32,
                    group: dice.text(),
                    constraints: dice.some(2, |dice| v1::Constraint {
                        key: dice.text(),
                        kind: dice.number() as i32,
                        values: vec![dice.text()],
                    }),
                    together: dice.text(),
                    spread: dice.perhaps(|dice| v1::Spread { key: dice.text(), most: dice.number() as u32 }),
                    within_ms: dice.one_in(2).then(|| dice.number()),
                    volumes: dice.some(2, Self::claim),
                }),
            }),
            3 => Call::Accept(v1::AcceptOffers {
                offer_ids: self.some(2, |dice| format!("o-1-{}", dice.below(30))),
                launch: self.some(2, Self::task),
                refuse_ms: self.perhaps(Self::number),
                operations: self.some(2, Self::operation),
            }),
            4 => Call::Decline(v1::DeclineOffers {
                offer_ids: self.some(3, |dice| format!("o-1-{}", dice.below(30))),
                refuse_ms: self.perhaps(Self::number),
            }),
            5 => Call::Revive(v1::Revive {}),
            6 => Call::Suppress(v1::Suppress {}),
            7 => Call::Acknowledge(v1::AcknowledgeUpdate {
                framework_id: self.text(),
                agent_id: self.text(),
                task_id: self.text(),
                uuid: self.text(),
            }),
            8 => Call::Kill(v1::KillTask {
                framework_id: self.text(),
                task_id: self.text(),
                grace_ms: self.perhaps(Self::number),
            }),
            9 => Call::Reconcile(v1::Reconcile { task_ids: self.some(3, Self::text) }),
            10 => Call::Teardown(v1::Teardown {}),
            _ => return v1::FrameworkCall { call: None },
        };
        v1::FrameworkCall { call: Some(call) }
    }

    fn version(&mut self, first: bool) -> u32 {
        match first {
            true if self.one_in(10) => 9,
            true => wire::PROTOCOL_VERSION,
            false => self.below(3) as u32,
        }
    }
}

/// Says it all on one stream; how the stream ends, or that it does not, is the master's business.
async fn say(master: SocketAddr, dice: &mut Dice) {
    let mut door = client::master(&master.to_string(), None).await.expect("the master takes connections");
    let quiet = Duration::from_millis(5);
    if dice.one_in(2) {
        let calls: Vec<v1::AgentCalls> = (0..MESSAGES)
            .map(|at| v1::AgentCalls { protocol_version: dice.version(at == 0), calls: dice.some(4, Dice::agent_call) })
            .collect();
        let said = tokio_stream::iter(calls).chain(tokio_stream::pending());
        if let Ok(answer) = door.agent(said).await {
            let mut orders = answer.into_inner();
            while let Ok(Ok(Some(_))) = tokio::time::timeout(quiet, orders.message()).await {}
        }
    } else {
        let calls: Vec<v1::FrameworkCalls> = (0..MESSAGES)
            .map(|at| v1::FrameworkCalls {
                protocol_version: dice.version(at == 0),
                calls: dice.some(4, Dice::framework_call),
            })
            .collect();
        let said = tokio_stream::iter(calls).chain(tokio_stream::pending());
        if let Ok(answer) = door.framework(said).await {
            let mut events = answer.into_inner();
            while let Ok(Ok(Some(_))) = tokio::time::timeout(quiet, events.message()).await {}
        }
    }
    if dice.one_in(3) {
        let (agent_id, deadline_ms) = (dice.text(), dice.perhaps(Dice::number));
        let call = match dice.below(7) {
            5 => Some(v1::operate_request::Call::RemoveVolume(v1::RemoveVolume {
                role: dice.text(),
                name: dice.text(),
                agent_id,
            })),
            0 => Some(v1::operate_request::Call::Undrain(v1::UndrainAgent { agent_id })),
            1 => Some(v1::operate_request::Call::Drain(v1::DrainAgent {
                agent_id,
                deadline_ms,
                at_ms: dice.perhaps(Dice::number),
                for_ms: dice.perhaps(Dice::number),
            })),
            2 => Some(v1::operate_request::Call::Reserve(v1::Reserve {
                agent_id,
                reservation: dice.perhaps(Dice::reservation),
                from: dice.text(),
                force: dice.one_in(2),
            })),
            4 => Some(v1::operate_request::Call::Gone(v1::GoneAgent { agent_id, force: dice.one_in(2) })),
            3 => Some(v1::operate_request::Call::Unreserve(v1::Unreserve {
                agent_id,
                reservation: dice.perhaps(Dice::reservation),
            })),
            _ => None,
        };
        let protocol_version = dice.version(true);
        // Whether it listens, or hangs up before the first word, is its own business.
        if let Ok(watched) = door.watch(v1::WatchRequest { protocol_version: dice.version(true) }).await
            && dice.one_in(2)
        {
            let _ = tokio::time::timeout(quiet, watched.into_inner().message()).await;
        }
        // Refused or not, both are answers.
        let _ = door.operate(v1::OperateRequest { protocol_version, call }).await;
    }
}

#[tokio::test]
async fn whatever_is_said_the_daemons_stay_and_others_are_served() {
    let seed = std::env::var("SMACK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_129);
    println!("SMACK_SEED={seed}");
    let mut dice = Dice(seed);
    let world = World::start().await;
    let (master, agent) = (world.master().address(), world.agent().http_address());
    let mut bystander = world.framework().await;
    bystander.only_on = Some(world.agent().agent_id().to_string());
    bystander.launch(vec![framework::shell("stays", "trap 'exit 7' TERM; while :; do sleep 0.02; done")]).await;
    bystander.until("stays", TaskState::Running).await;
    for _ in 0..STREAMS {
        say(master, &mut dice).await;
    }
    for path in ["/sandboxes/%00/stdout", "/sandboxes//stdout", "/sandboxes/stays/stdout?offset=-1", "/%2e%2e/%2e%2e"] {
        let (status, ..) = http::get(agent, path, None).await;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    let (status, ..) = http::get(agent, &format!("/sandboxes/stays/stdout?offset={}&limit=9", u64::MAX), None).await;
    assert_eq!(status, 200);
    assert_eq!(http::get(agent, "/health", None).await.0, 200);
    assert_eq!(http::get(master, "/health", None).await.0, 200);

    // What was there is there, and something new begins.
    bystander.kill("stays", 60_000).await;
    let last = bystander.until_over("stays").await;
    assert_eq!((last.state, last.exit_code), (TaskState::Killed, 7), "{last:?}");
    let mut newcomer = Framework::subscribe(master, None, None).await;
    newcomer.only_on.clone_from(&bystander.only_on);
    newcomer.launch(vec![framework::shell("next", "true")]).await;
    assert_eq!(newcomer.until_over("next").await.state, TaskState::Finished);
}
