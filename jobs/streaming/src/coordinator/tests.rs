//! The coordinator among tasks, a store and a network that fail at every point, then stop failing.

mod folder;

use super::*;
use folder::{Folder, State, state_at};
use std::collections::VecDeque;

/// Small, seeded, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What a real task does with orders, with numbers for rows.
#[derive(Default)]
struct Task {
    life: u32,
    /// Its process was killed, and no other has taken its place.
    dead: bool,
    rows_done: u64,
    /// What its sink prepared and did not commit, by epoch: rows from .. to.
    prepared: BTreeMap<u64, (u64, u64)>,
    prepared_to: u64,
    barrier: u64,
    /// The epoch of the latest barrier, and whether it was a last one.
    snapshot: Option<(u64, bool)>,
    /// A part that not all of the task's operators have given to yet.
    incomplete: Option<Part>,
    /// Parts on their way to the store, and whether all that the first one holds is owed already.
    parts: VecDeque<Part>,
    is_owed: bool,
    /// What was told last.
    told: Option<Event>,
    state: State,
    committed: u64,
    ended: bool,
    /// What rows are done with now.
    versions: Versions,
    orders: Vec<Order>,
    events: Vec<Event>,
}

#[derive(Clone, Debug)]
struct Part {
    epoch: u64,
    rows_done: u64,
    last: bool,
    versions: Versions,
}

struct World {
    random: Random,
    n_tasks: u32,
    rows: u64,
    now_ms: u64,
    generation: u64,
    tasks: Vec<Task>,
    coordinator: Coordinator,
    manifests: Vec<Manifest>,
    /// By task: how many of its rows are visible outside.
    visible: Vec<u64>,
    folder: Folder,
    /// Answers of the store that are on their way.
    answers: Vec<Event>,
    harm: bool,
    stop_requested: bool,
    /// The version that is promoted.
    promoted: u64,
    over: Option<Command>,
    /// Tasks that began again while the others went on.
    n_alone: u64,
}

fn model(version: u64) -> Versions {
    Versions::from([("m".to_string(), version)])
}

fn config(n_tasks: u32, generation: u64) -> Config {
    Config {
        job: "demo/count".into(),
        generation,
        claimed_us: generation as i64,
        fingerprint: "f".into(),
        n_tasks,
        interval_ms: 500,
        timeout_ms: 4_000,
        versions: model(1),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let n_tasks = 1 + random.below(4) as u32;
        let rows = 20 + random.below(600);
        let coordinator = Coordinator::new(config(n_tasks, 1), None);
        let tasks = Vec::new();
        let (manifests, answers) = (Vec::new(), Vec::new());
        let mut world = Self {
            random,
            n_tasks,
            rows,
            now_ms: 0,
            generation: 0,
            tasks,
            coordinator,
            manifests,
            visible: vec![0; n_tasks as usize],
            folder: Folder::default(),
            answers,
            harm: true,
            stop_requested: false,
            promoted: 1,
            over: None,
            n_alone: 0,
        };
        world.start_generation();
        world
    }

    fn start_generation(&mut self) {
        self.generation += 1;
        self.over = None;
        self.coordinator = Coordinator::new(config(self.n_tasks, self.generation), self.manifests.last());
        self.answers.clear();
        for task in std::mem::take(&mut self.tasks) {
            self.folder.orphan(task.state);
        }
        // With another number of slices chains begin anew.
        let goes_on = !self.random.one_in(3);
        self.tasks = (0..self.n_tasks).map(|index| self.begin(index, 0, goes_on)).collect();
    }

    /// A life of a task, from the newest manifest.
    fn begin(&mut self, index: u32, life: u32, goes_on: bool) -> Task {
        let owner = format!("{}.{life}", self.generation);
        let mut task = Task { life, state: State::new(index, owner), versions: model(1), ..Task::default() };
        let visible = &mut self.visible[index as usize];
        if let Some(manifest) = self.manifests.last() {
            let snapshot = manifest.tasks.iter().find(|task| task.index == index).expect("a share per task");
            task.rows_done = snapshot.positions["source"]["split"];
            task.prepared_to = task.rows_done;
            (task.barrier, task.committed) = (manifest.epoch, manifest.epoch);
            task.versions.clone_from(&manifest.versions);
            let chain = &snapshot.state["operator"][0];
            task.state.restore(&self.folder, chain, goes_on);
            assert_eq!(task.state.rows(), &state_at(task.rows_done), "restored from epoch {}", manifest.epoch);
        }
        assert!(*visible <= task.rows_done, "{visible} rows are visible, and no manifest says so");
        // What was prepared for it is finished.
        *visible = task.rows_done;
        task.events.push(Event::TaskReady { index });
        task
    }

    /// The process of one task dies, and the others go on if they can.
    fn lose(&mut self, index: u32) {
        let task = &mut self.tasks[index as usize];
        task.dead = true;
        self.folder.orphan(std::mem::take(&mut task.state));
        task.orders.clear();
        // What it said before and was not heard is not heard any more.
        task.events.clear();
        self.tell(Event::TaskLost { index });
    }

    fn tell(&mut self, event: Event) {
        for command in self.coordinator.apply(self.now_ms, event) {
            match command {
                Command::Send { to, order } => {
                    if let Order::Commit { epoch } = order {
                        let durable = self.manifests.iter().any(|manifest| manifest.epoch == epoch);
                        assert!(durable, "commit of epoch {epoch} before its manifest");
                    }
                    for (at, task) in self.tasks.iter_mut().enumerate() {
                        if to.is_none_or(|to| to as usize == at) {
                            task.orders.push(order.clone());
                        }
                    }
                }
                Command::WriteManifest(manifest) => self.write(*manifest),
                Command::Completed { epoch } => {
                    self.folder.begin_collecting();
                    let waits = self.tasks.iter().find(|task| task.committed < epoch);
                    assert!(waits.is_none(), "epoch {epoch} is complete and a task has not committed it");
                }
                Command::Restart { index, epoch } => {
                    let newest = self.manifests.last().map(|manifest| manifest.epoch);
                    assert_eq!(Some(epoch), newest, "task {index} begins again from the newest manifest");
                    let before = &self.tasks[index as usize];
                    assert!(before.dead, "task {index} lives");
                    self.n_alone += 1;
                    let life = before.life + 1;
                    self.tasks[index as usize] = self.begin(index, life, true);
                }
                Command::RestartAll => self.start_generation(),
                Command::Finished | Command::StopGranted => self.over = Some(command),
                Command::GiveUp { error } => panic!("gave up: {error}"),
            }
        }
    }

    fn write(&mut self, manifest: Manifest) {
        let epoch = manifest.epoch;
        let indices: Vec<u32> = manifest.tasks.iter().map(|task| task.index).collect();
        assert_eq!(indices, (0..self.n_tasks).collect::<Vec<_>>(), "epoch {epoch} holds the share of every task");
        if manifest.finished {
            let all = manifest.tasks.iter().all(|task| task.positions["source"]["split"] == self.rows);
            assert!(all, "finished before the end of the input");
        }
        let adopted = manifest.tasks.iter().all(|task| task.versions == manifest.versions);
        assert!(adopted, "from epoch {epoch} on each task uses what the manifest says: {manifest:?}");
        if self.harm && self.random.one_in(4) {
            let error = "disk full".to_string();
            self.answers.push(Event::ManifestFailed { epoch, error, retry: true });
            return;
        }
        match self.manifests.iter().find(|published| published.epoch == epoch) {
            Some(published) => assert_eq!(*published, manifest, "an epoch is published once"),
            None => {
                self.folder.check(&manifest);
                let newest = self.manifests.last().map_or(0, |manifest| manifest.epoch);
                assert!(epoch > newest, "epoch {epoch} after {newest}");
                self.manifests.push(manifest);
            }
        }
        if !(self.harm && self.random.one_in(4)) {
            self.answers.push(Event::ManifestWritten { epoch });
        }
    }

    fn step_task(&mut self, index: u32) {
        let task = &mut self.tasks[index as usize];
        if task.ended || task.dead {
            return;
        }
        // After a last barrier the sources are not read any more.
        if !task.snapshot.is_some_and(|(_, last)| last) {
            let to = (task.rows_done + self.random.below(8)).min(self.rows);
            (task.rows_done..to).for_each(|row| task.state.process(row));
            task.rows_done = to;
        }
        if task.rows_done == self.rows && self.random.one_in(3) {
            task.events.push(Event::InputEnded { index });
        }
        if task.orders.is_empty() {
            return;
        }
        match task.orders.remove(0) {
            Order::Barrier { epoch, last, versions } => {
                if epoch > task.barrier {
                    task.versions.clone_from(&versions);
                    task.barrier = epoch;
                    task.snapshot = Some((epoch, last));
                    task.prepared.insert(epoch, (task.prepared_to, task.rows_done));
                    task.prepared_to = task.rows_done;
                    task.state.take(epoch);
                    // One of a lower epoch is abandoned, and what it took goes with this one.
                    task.incomplete = Some(Part { epoch, rows_done: task.rows_done, last, versions });
                }
                if let Some(told @ Event::Snapshotted { epoch: known, .. }) = &task.told
                    && *known == epoch
                {
                    task.events.push(told.clone());
                }
            }
            Order::Commit { epoch } => {
                task.committed = task.committed.max(epoch);
                let later = task.prepared.split_off(&(epoch + 1));
                for (from, to) in std::mem::replace(&mut task.prepared, later).into_values() {
                    let visible = &mut self.visible[index as usize];
                    assert_eq!(*visible, from, "no row is left out or shown twice");
                    *visible = to;
                }
                task.events.push(Event::Committed { index, epoch });
                if task.snapshot.is_some_and(|(known, last)| last && epoch >= known) {
                    task.ended = true;
                    task.events.push(Event::TaskEnded { index });
                }
            }
            Order::Stop | Order::Sample { .. } => panic!("nobody asked for that"),
        }
    }

    /// Goes on with what a task has on its way to the store.
    fn store_part(&mut self, index: u32) {
        let task = &mut self.tasks[index as usize];
        if task.dead {
            return;
        }
        if task.incomplete.is_some() && !(self.harm && self.random.one_in(3)) {
            task.state.hand_over();
            task.parts.extend(task.incomplete.take());
        }
        task.state.fold(&mut self.folder, self.random.one_in(4));
        let Some(part) = task.parts.front().cloned() else { return };
        if !std::mem::replace(&mut task.is_owed, true) && self.harm && self.random.one_in(30) {
            task.state.lose();
        }
        let fails = self.harm && self.random.one_in(5);
        match task.state.pay(&mut self.folder, part.epoch, fails, self.random.one_in(2)) {
            folder::Paid::More => {}
            folder::Paid::Failed => {
                task.parts.pop_front();
                task.is_owed = false;
            }
            folder::Paid::All(chain) => {
                let positions = BTreeMap::from([("split".to_string(), part.rows_done)]);
                let positions = BTreeMap::from([("source".to_string(), positions)]);
                let state = BTreeMap::from([("operator".to_string(), vec![chain])]);
                let versions = part.versions;
                let snapshot = TaskSnapshot { index, positions, state, versions, ..TaskSnapshot::default() };
                let told = Event::Snapshotted { index, epoch: part.epoch, snapshot, last: part.last };
                task.events.push(told.clone());
                task.told = Some(told);
                task.parts.pop_front();
                task.is_owed = false;
            }
        }
    }

    fn do_harm(&mut self) {
        let index = self.random.below(u64::from(self.n_tasks)) as u32;
        match self.random.below(40) {
            // The connection of a task breaks: what was on its way is lost, both ways.
            0 | 1 if !self.tasks[index as usize].dead => {
                let task = &mut self.tasks[index as usize];
                task.orders.clear();
                task.events.clear();
                // The end of a process is told by someone else.
                let again = if task.ended { Event::TaskEnded { index } } else { Event::TaskReconnected { index } };
                task.events.push(again);
            }
            // Whoever drives the coordinator dies and comes back. It no longer knows where a dead task was to begin.
            2 if self.tasks.iter().any(|task| task.dead) => self.start_generation(),
            2 => {
                let config = config(self.n_tasks, self.generation);
                self.coordinator = Coordinator::new(config, self.manifests.last());
                self.answers.clear();
                self.over = None;
                for (index, task) in self.tasks.iter_mut().enumerate() {
                    let index = index as u32;
                    task.orders.clear();
                    task.events.clear();
                    let again = if task.ended { Event::TaskEnded { index } } else { Event::TaskReconnected { index } };
                    task.events.push(again);
                }
                if self.stop_requested {
                    self.tell(Event::StopRequested);
                }
            }
            // A task dies, and with it this generation.
            3 if !self.tasks[index as usize].ended => self.start_generation(),
            // Or it alone.
            6 | 7 if !self.tasks[index as usize].ended && !self.tasks[index as usize].dead => self.lose(index),
            4 => self.tell(Event::CheckpointRequested),
            8 => {
                self.promoted = 1 + self.random.below(4);
                self.tell(Event::VersionsWanted { versions: model(self.promoted) });
            }
            5 => self.folder.savepoints.extend(self.manifests.last().cloned()),
            _ => {}
        }
    }

    fn step(&mut self) {
        self.now_ms += self.random.below(120);
        if self.harm {
            self.do_harm();
        }
        let index = self.random.below(u64::from(self.n_tasks)) as u32;
        self.step_task(index);
        let index = self.random.below(u64::from(self.n_tasks)) as u32;
        self.store_part(index);
        if self.random.one_in(5) {
            self.folder.land_orphan();
            self.folder.collect(&self.manifests);
        }
        let index = self.random.below(u64::from(self.n_tasks)) as usize;
        if !self.tasks[index].events.is_empty() {
            let event = self.tasks[index].events.remove(0);
            self.tell(event);
        }
        if !self.answers.is_empty() && self.random.one_in(2) {
            let event = self.answers.remove(0);
            self.tell(event);
        }
        if self.random.one_in(4) {
            self.tell(Event::Tick);
        }
    }
}

fn barrier(epoch: u64, version: u64) -> Order {
    Order::Barrier { epoch, last: false, versions: model(version) }
}

fn share(index: u32, version: u64) -> TaskSnapshot {
    TaskSnapshot { index, versions: model(version), ..TaskSnapshot::default() }
}

#[test]
fn a_newer_version_is_adopted_by_all_at_one_barrier_and_found_again() {
    let ready = |coordinator: &mut Coordinator| {
        (0..2).flat_map(|index| coordinator.apply(0, Event::TaskReady { index })).collect::<Vec<Command>>()
    };
    let wanted = |version| Event::VersionsWanted { versions: model(version) };
    let told = |coordinator: &mut Coordinator, epoch, versions: [u64; 2]| {
        let tell = |(index, version): (u32, u64)| {
            coordinator.apply(2, Event::Snapshotted { index, epoch, snapshot: share(index, version), last: false })
        };
        (0..2).zip(versions).flat_map(tell).collect::<Vec<Command>>()
    };
    let to_all = |order| Command::Send { to: None, order };
    let mut coordinator = Coordinator::new(config(2, 1), None);
    assert!(coordinator.apply(0, wanted(2)).is_empty(), "not before all are there");
    assert_eq!(ready(&mut coordinator), [to_all(barrier(1, 2))], "at once, not when the next epoch is due");
    assert!(coordinator.apply(1, wanted(3)).is_empty(), "the barrier that is under way says what it said");
    let commands = told(&mut coordinator, 1, [2, 2]);
    let [Command::WriteManifest(manifest)] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(manifest.versions, model(2));

    // A crash: whatever is wanted by now, the rows from here on are done with what the manifest says, until a barrier.
    let mut replay = Coordinator::new(config(2, 2), Some(manifest));
    assert_eq!(replay.versions(), &model(2));
    assert_eq!(ready(&mut replay), []);
    assert_eq!(replay.apply(400, Event::CheckpointRequested), [to_all(barrier(2, 2))]);

    // One that drives the same tasks after another has died does not take for its own what those were told by that.
    let mut next = Coordinator::new(config(2, 1), Some(manifest));
    for index in 0..2 {
        next.apply(0, Event::TaskReconnected { index });
        next.apply(0, Event::Committed { index, epoch: 1 });
    }
    assert_eq!(next.apply(1, wanted(4)), [to_all(barrier(2, 4))]);
    assert_eq!(told(&mut next, 2, [4, 3]), [to_all(barrier(3, 4))], "epoch 2 is given up");
    assert!(
        matches!(&told(&mut next, 3, [4, 4])[..], [Command::WriteManifest(manifest)] if manifest.versions == model(4))
    );
    // A name that no function of the job asks for changes nothing.
    let other = Event::VersionsWanted { versions: Versions::from([("other".to_string(), 9)]) };
    next.apply(3, Event::ManifestWritten { epoch: 3 });
    next.apply(3, other);
    assert_eq!(next.versions(), &model(4));
}

/// Gives how many tasks began again while the others went on.
fn simulate(seed: u64) -> u64 {
    let mut world = World::new(seed);
    let stops = world.random.one_in(3);
    let harm_until = 200 + world.random.below(800);
    for step in 0..20_000 {
        world.harm = step < harm_until;
        if stops && step == harm_until / 2 {
            world.stop_requested = true;
            world.tell(Event::StopRequested);
        }
        world.step();
        if world.over.is_some() && !world.harm {
            break;
        }
        // An end that came amid the harm may be the end of a coordinator that has died since.
        if world.over.is_some() && world.tasks.iter().all(|task| task.ended) {
            break;
        }
    }
    assert!(world.over.is_some(), "seed {seed}: never came to an end: {:?}", world.coordinator.view(world.now_ms));
    let last = world.manifests.last().expect("a last manifest");
    for (task, visible) in world.tasks.iter().zip(&world.visible) {
        assert!(task.committed >= last.epoch, "seed {seed}: epoch {} is durable and not committed", last.epoch);
        assert_eq!(*visible, task.prepared_to, "seed {seed}: what was prepared is visible");
    }
    if !stops {
        assert!(last.finished, "seed {seed}: the last manifest says that all is done");
    }
    world.folder.begin_collecting();
    world.folder.collect(&world.manifests);
    assert!(world.manifests.windows(2).all(|pair| pair[0].epoch < pair[1].epoch), "seed {seed}");
    world.n_alone
}

#[test]
fn ends_well_after_any_harm() {
    let n_alone: u64 = (0..600).map(simulate).sum();
    assert!(n_alone > 600, "hardly any task began again alone: {n_alone}");
}

#[test]
fn a_lost_task_begins_again_where_that_is_certain() {
    let begun = |n_epochs: u64| {
        let mut coordinator = Coordinator::new(config(2, 1), None);
        for index in 0..2 {
            coordinator.apply(0, Event::TaskReady { index });
        }
        for epoch in 1..=n_epochs {
            prepare(&mut coordinator, epoch);
            coordinator.apply(0, Event::ManifestWritten { epoch });
            for index in 0..2 {
                coordinator.apply(0, Event::Committed { index, epoch });
            }
        }
        coordinator
    };
    fn prepare(coordinator: &mut Coordinator, epoch: u64) {
        coordinator.apply(0, Event::CheckpointRequested);
        for index in 0..2 {
            let snapshot = TaskSnapshot { index, versions: model(1), ..TaskSnapshot::default() };
            coordinator.apply(0, Event::Snapshotted { index, epoch, snapshot, last: false });
        }
    }
    let lost = Event::TaskLost { index: 1 };
    let again = |epoch| vec![Command::Restart { index: 1, epoch }];

    // Its splits are in no manifest yet.
    assert_eq!(begun(0).apply(0, lost.clone()), [Command::RestartAll]);
    let mut coordinator = begun(2);
    assert_eq!(coordinator.apply(0, lost.clone()), again(2));
    assert!(coordinator.apply(9_000, Event::Tick).is_empty(), "no epoch is begun without it");
    let third = Command::Send { to: None, order: barrier(3, 1) };
    assert_eq!(coordinator.apply(9_000, Event::TaskReady { index: 1 }), [third]);
    // An epoch of which a part is in is given up, and its number is not used again.
    let snapshot = share(0, 1);
    coordinator.apply(9_000, Event::Snapshotted { index: 0, epoch: 3, snapshot, last: false });
    assert_eq!(coordinator.apply(9_000, lost.clone()), again(2));
    let fourth = Command::Send { to: None, order: barrier(4, 1) };
    assert_eq!(coordinator.apply(9_000, Event::TaskReady { index: 1 }), [fourth]);

    // While the manifest is written nothing is certain.
    for written in [true, false] {
        let mut coordinator = begun(1);
        prepare(&mut coordinator, 2);
        assert!(coordinator.apply(0, lost.clone()).is_empty());
        if written {
            let commands = coordinator.apply(0, Event::ManifestWritten { epoch: 2 });
            let commit = Order::Commit { epoch: 2 };
            assert_eq!(commands[1..], again(2));
            // Its new life has finished what the old one had prepared, and says so.
            let reminded = coordinator.apply(0, Event::TaskReconnected { index: 1 });
            assert_eq!(reminded, [Command::Send { to: Some(1), order: commit }]);
        } else {
            let error = "disk full".to_string();
            let failed = Event::ManifestFailed { epoch: 2, error, retry: true };
            let all: Vec<Command> = (0..5).flat_map(|_| coordinator.apply(0, failed.clone())).collect();
            assert_eq!(all, [Command::RestartAll]);
            assert_eq!(coordinator.apply(0, lost.clone()), [Command::RestartAll], "it may be there all the same");
        }
    }
    // The others end with the last epoch.
    let mut coordinator = begun(1);
    coordinator.apply(0, Event::StopRequested);
    assert_eq!(coordinator.apply(0, lost), [Command::RestartAll]);
}

#[test]
fn an_epoch_that_takes_too_long_is_given_up() {
    let mut coordinator = Coordinator::new(config(2, 1), None);
    coordinator.apply(0, Event::TaskReady { index: 0 });
    let text = coordinator.view(0).waits_for.expect("a reason");
    assert_eq!(text, "no epoch is taken until task 1 is ready");
    assert!(coordinator.apply(0, Event::TaskReady { index: 1 }).is_empty());
    let barrier = |epoch| vec![Command::Send { to: None, order: barrier(epoch, 1) }];
    assert_eq!(coordinator.apply(500, Event::Tick), barrier(1));
    let snapshot = share(0, 1);
    coordinator.apply(600, Event::Snapshotted { index: 0, epoch: 1, snapshot, last: false });
    assert_eq!(coordinator.view(700).waits_for.expect("a reason"), "epoch 1 waits for the snapshot of task 1");
    assert_eq!(coordinator.apply(4_600, Event::Tick), barrier(2));
    assert_eq!(coordinator.view(4_600).failures, 1);
}

#[test]
fn a_superseded_generation_gives_up() {
    let mut coordinator = Coordinator::new(config(1, 1), None);
    coordinator.apply(0, Event::TaskReady { index: 0 });
    coordinator.apply(0, Event::CheckpointRequested);
    let snapshot = share(0, 1);
    let commands = coordinator.apply(1, Event::Snapshotted { index: 0, epoch: 1, snapshot, last: false });
    assert!(matches!(commands[..], [Command::WriteManifest(_)]));
    let error = "generation 2 has taken over".to_string();
    let commands = coordinator.apply(2, Event::ManifestFailed { epoch: 1, error: error.clone(), retry: false });
    assert_eq!(commands, [Command::GiveUp { error }]);
    assert!(coordinator.apply(9_000, Event::Tick).is_empty());
}
