//! Servers and workers over real connections, without a graph: one parameter and one table.

use super::*;
use crate::all_reduce::tests::with_gang;
use crate::frame::tag;
use crate::graph::operation::{Role, RowGradients};
use crate::graph::{Gradients, Slot, SlotPlace};
use crate::mesh::Mesh;
use crate::optimizer::Optimizer;
use jobs::train::{self, Clip};

/// Three weights, and a table of four rows of two.
fn slots() -> Vec<Slot> {
    let slot =
        |name: &str, dims: Vec<usize>, role, range, gradient| Slot { name: name.into(), dims, role, range, gradient };
    vec![
        slot("a", vec![3], Role::Weight, 0..3, SlotPlace::Whole(0..3)),
        slot("t", vec![4, 2], Role::Table, 3..11, SlotPlace::Rows(0)),
    ]
}

const RATE: f64 = 0.5;

fn server<'a>(mesh: &'a Mesh, n_workers: usize, server: usize, n_servers: usize) -> Server<'a> {
    let slots = slots();
    let shard = Shard::new(&slots, &assign(&slots, n_servers)[server]);
    let settings = train::Optimizer::Sgd { learning_rate: RATE, momentum: 0.0, nesterov: false };
    Server {
        mesh,
        n_workers,
        weights: vec![0.0; shard.len],
        optimizer: Optimizer::new(settings, Clip::None, shard.len),
        shard,
        checkpoint_steps: 2,
        staleness: 0,
        updates: 0,
        share: &|_| 1.0,
    }
}

fn client(mesh: &Mesh, n_workers: usize, n_servers: usize) -> Client<'_> {
    let slots = slots();
    let shards = assign(&slots, n_servers);
    let shards = shards.iter().enumerate().map(|(server, picked)| (n_workers + server, Shard::new(&slots, picked)));
    Client::new(mesh, shards.collect(), 0)
}

fn push(
    client: &Client<'_>,
    step: u64,
    whole: [f32; 3],
    row: u32,
    values: [f32; 2],
    wants: &Wants,
) -> Result<(), crate::mesh::Error> {
    let mut whole = whole;
    let mut tables = [RowGradients { rows: vec![row], values: values.to_vec() }];
    let gradients = Gradients { whole: &mut whole, tables: &mut tables };
    client.push(step, &gradients, News { loss: 1.0, stop: false }, wants)
}

#[test]
fn only_wanted_rows_travel_and_all_workers_gradients_make_one_update() {
    for n_servers in [1, 2] {
        let ends = with_gang(2 + n_servers, |rank, mesh| {
            if rank >= 2 {
                assert_eq!(server(&mesh, 2, rank - 2, n_servers).serve().unwrap(), 3);
                return Vec::new();
            }
            let mut client = client(&mesh, 2, n_servers);
            let mut weights = vec![9.0; 11];
            let rows = |rows: &[u32]| Wants::Rows(vec![rows.to_vec()]);
            client.pull(0, &rows(&[1])).unwrap();
            assert_eq!(client.take(0, &rows(&[1]), &mut weights).unwrap(), Vec::<News>::new());
            // Rows that were not asked for are as they were.
            assert_eq!(weights, [0.0, 0.0, 0.0, 9.0, 9.0, 0.0, 0.0, 9.0, 9.0, 9.0, 9.0]);
            let of_rank = rank as f32 + 1.0;
            for step in 0..3 {
                push(&client, step, [of_rank, 0.0, 2.0], rank as u32, [of_rank, 1.0], &Wants::Whole).unwrap();
                let news = client.take(step + 1, &Wants::Whole, &mut weights).unwrap();
                assert_eq!(news, [News { loss: 2.0, stop: false }]);
                let updates = (step + 1) as f32;
                assert_eq!(weights[..3], [-0.5 * 3.0 * updates, 0.0, -0.5 * 4.0 * updates]);
                assert_eq!(weights[3..7], [-0.5 * updates, -0.5 * updates, -updates, -0.5 * updates]);
                if rank == 0 {
                    let state = client.state(11).filter(|state| state.step == 2);
                    assert_eq!(state.map(|state| state.weights), (step == 1).then(|| weights.clone()));
                }
            }
            client.done(3).unwrap();
            if rank == 0 {
                let last = client.last_state(11).unwrap();
                assert_eq!((last.step, last.optimizer_step, &last.weights), (3, 3, &weights));
            }
            weights
        });
        assert_eq!(ends[0], ends[1]);
    }
}

#[test]
fn a_lost_worker_is_named_by_its_server_and_by_the_others() {
    let ends = with_gang(3, |rank, mesh| {
        if rank == 2 {
            return server(&mesh, 2, 0, 1).serve().unwrap_err().to_string();
        }
        let mut client = client(&mesh, 2, 1);
        let mut weights = vec![0.0; 11];
        client.pull(0, &Wants::Whole).unwrap();
        client.take(0, &Wants::Whole, &mut weights).unwrap();
        if rank == 1 {
            return String::new();
        }
        push(&client, 0, [1.0; 3], 0, [1.0; 2], &Wants::Whole).unwrap();
        client.take(1, &Wants::Whole, &mut weights).unwrap_err().to_string()
    });
    assert!(ends[2].contains("without rank 1"), "{}", ends[2]);
    assert!(ends[0].contains("without rank 1") && ends[0].contains("rank 2 lost it"), "{}", ends[0]);
}

#[test]
fn a_lost_server_is_named() {
    let ends = with_gang(2, |rank, mesh| {
        if rank == 1 {
            return String::new();
        }
        let mut client = client(&mesh, 1, 1);
        // It may be gone before anything could be asked.
        let asked = client.pull(0, &Wants::Whole);
        let took = asked.and_then(|()| client.take(0, &Wants::Whole, &mut [0.0; 11]));
        took.unwrap_err().to_string()
    });
    assert!(ends[0].contains("without rank 1"), "{}", ends[0]);
}

#[test]
fn what_no_worker_says_is_refused() {
    type Says = fn(&Mesh) -> (u32, u64, Vec<u8>);
    let said: [Says; 4] = [
        // A row that the table does not have.
        |_| {
            let mut said = Vec::new();
            message::write_wants(&Wants::Rows(vec![vec![4]]), &mut said);
            (tag::PULL, 0, said)
        },
        |_| (tag::PUSH, 0, vec![1, 2, 3]),
        |_| (tag::GRADIENT, 0, Vec::new()),
        // Gradients of a step that nobody let it do.
        |_| {
            let mut said = Vec::new();
            let table = RowGradients::default();
            message::write_push(0.0, false, &[&[0.0; 3]], &[&table], &mut said);
            message::write_wants(&Wants::Whole, &mut said);
            (tag::PUSH, 1, said)
        },
    ];
    for said in said {
        let ends = with_gang(2, |rank, mesh| {
            if rank == 1 {
                return server(&mesh, 1, 0, 1).serve().unwrap_err().to_string();
            }
            let (tag, step, payload) = said(&mesh);
            mesh.send(1, &mesh.frame(step, tag, &payload, None)).unwrap();
            mesh.receive_any(1).unwrap_err().to_string()
        });
        assert!(ends[1].contains("from rank 0") && ends[1].contains("not what such a frame carries"), "{}", ends[1]);
    }
}
