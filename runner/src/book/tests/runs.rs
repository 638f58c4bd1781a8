//! What the history of training runs is told.

use super::super::{TrainMetrics, TrainReport};
use super::*;
use crate::runs::Note;
use jobs::TrainBody;

pub(super) fn train() -> JobBody {
    let body: TrainBody = serde_json::from_value(serde_json::json!({
        "model": "m", "sql": "", "base_dir": "/", "train_query": "SELECT 1", "test_query": null, "test_fraction": 0.2,
        "label": "y", "ignore": [], "time_column": null, "min_rows": 1, "layers": [], "loss": "mean_squared_error",
        "optimizer": {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9}, "batch": 16, "epochs": 3, "seed": 1,
        "normalize": true, "checkpoint_steps": 100,
    }))
    .expect("a body");
    JobBody::Train(Box::new(body))
}

fn notes(world: &mut World) -> Vec<(String, Note)> {
    let notes = world.seen().into_iter().filter_map(|command| match command {
        Command::Run { run, note } => Some((run, note)),
        _ => None,
    });
    notes.collect()
}

#[test]
fn a_run_is_told_from_its_first_launch_to_its_end() {
    let mut world = World::new();
    world.submit(vec![spec("t", train())]);
    let [(run, Note::Began(began))] = &notes(&mut world)[..] else { panic!("it has begun") };
    assert_eq!((run.as_str(), began.job.as_str(), began.workers), ("t-sub", "g/t", 2));
    assert_eq!(began.settings["optimizer.learning_rate"], "0.1");
    world.offer(training(), "o1", "a1");
    world.offer(training(), "o2", "a2");
    let tasks: Vec<TaskId> = world.launched().into_iter().map(|launch| launch.task).collect();
    assert_eq!(tasks.len(), 2);
    let metrics = |step| {
        TrainReport::Metrics(TrainMetrics {
            step,
            steps_total: 10,
            epoch: 1,
            loss: 0.5,
            metric: f64::NAN,
            metric_name: "rmse".to_string(),
            rows_per_second: 16.0,
            learning_rate: 0.1,
        })
    };
    for task in &tasks {
        world.apply(Event::TrainReport { task: task.clone(), report: metrics(4) });
    }
    let [(_, Note::Point(point))] = &notes(&mut world)[..] else { panic!("of the chief alone") };
    assert_eq!((point.step, point.loss, point.metric, point.learning_rate), (4, Some(0.5), None, Some(0.1)));
    let written = TrainReport::ModelWritten { version: 3, metric: 0.25, metric_name: "rmse".to_string() };
    world.apply(Event::TrainReport { task: tasks[0].clone(), report: written });
    assert_eq!(notes(&mut world), [("t-sub".to_string(), Note::ModelWritten { version: 3 })]);

    // A new runner tells that it goes on; the hands know that it was begun.
    let mut world = world.restarted(None);
    world.apply(Event::Tick);
    assert!(matches!(&notes(&mut world)[..], [(_, Note::Began(_))] | []));
    for task in &tasks {
        let status = Status {
            task: task.clone(),
            agent: "a1".into(),
            state: TaskState::Finished,
            reason: Reason::Exited,
            message: String::new(),
            uuid: "u".to_string(),
            exit_code: 0,
        };
        world.apply(Event::Update { framework: training(), status });
    }
    let ended = notes(&mut world);
    assert!(matches!(&ended[..], [.., (_, Note::Ended { outcome: "finished", error: None, .. })]), "{ended:?}");
    world.apply(Event::Tick);
    assert_eq!(notes(&mut world), []);
}
