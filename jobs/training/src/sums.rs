//! The gradients of one step: over the batches it accumulates, then over all ranks.
//!
//! Invariant: all ranks end with the same bits. Gradients of whole parameters are summed by [`AllReduce::sum`]. Those of tables'
//! rows go to everybody as they are, and every rank adds them up in order of rank: a sum of the table's own size would
//! be mostly zeros.

use crate::all_reduce::{AllReduce, Values};
use crate::bytes;
use crate::frame::tag;
use crate::graph::operation::RowGradients;
use crate::graph::rows::{self, Places};
use crate::graph::{self, Gradients, Graph, SlotPlace};
use crate::mesh;
use crate::train::Error;

/// Beside the gradients, each sum carries this rank's part of the loss and whether it was told to stop, so that all ranks
/// agree on both without another round.
const EXTRA: usize = 2;

pub struct Sums {
    whole: Values,
    tables: Vec<RowGradients<f32>>,
    loss: f64,
    /// Runs that were added.
    added: usize,
    /// What one run gives, where there are others to add it to.
    one_whole: Vec<f32>,
    one_tables: Vec<RowGradients<f32>>,
    /// By table, with its rows; none where nothing is added to row gradients.
    places: Vec<(Places, usize)>,
}

impl Sums {
    /// `adds`: whether there will be more than one run, or rank.
    pub fn new(graph: &Graph<f32>, adds: bool) -> Self {
        Self::of(graph, adds, Values::Own(vec![0.0; graph.gradient_len() + EXTRA]))
    }

    /// As [`Self::new`], to be summed over ranks, which all ask together.
    pub fn among(graph: &Graph<f32>, ranks: &AllReduce, step: u64) -> Result<Self, Error> {
        Ok(Self::of(graph, true, ranks.values(step, graph.gradient_len() + EXTRA)?))
    }

    fn of(graph: &Graph<f32>, adds: bool, whole: Values) -> Self {
        let tables: Vec<RowGradients<f32>> = (0..graph.tables()).map(|_| RowGradients::default()).collect();
        let of_tables = graph.slots().iter().filter(|slot| adds && matches!(slot.gradient, SlotPlace::Rows(_)));
        Self {
            whole,
            one_whole: Vec::new(),
            one_tables: tables.clone(),
            tables,
            loss: 0.0,
            added: 0,
            places: of_tables.map(|slot| (Places::of(slot.dims[0]), slot.width())).collect(),
        }
    }

    pub fn clear(&mut self) {
        self.loss = 0.0;
        self.added = 0;
    }

    pub fn gradients(&mut self) -> Gradients<'_, f32> {
        let len = self.whole.len() - EXTRA;
        Gradients { whole: &mut self.whole[..len], tables: &mut self.tables }
    }

    /// Adds what `run` writes and the loss it gives.
    pub fn add(
        &mut self,
        run: impl FnOnce(Gradients<'_, f32>) -> Result<f64, graph::Error>,
    ) -> Result<(), graph::Error> {
        self.added += 1;
        if self.added == 1 {
            self.loss = run(self.gradients())?;
            return Ok(());
        }
        self.one_whole.resize(self.whole.len() - EXTRA, 0.0);
        self.loss += run(Gradients { whole: &mut self.one_whole, tables: &mut self.one_tables })?;
        for (sum, value) in self.whole.iter_mut().zip(&self.one_whole) {
            *sum += value;
        }
        for ((sum, one), (places, _)) in self.tables.iter_mut().zip(&self.one_tables).zip(&mut self.places) {
            if self.added == 2 {
                // The rows of the first run have no places yet.
                let first = std::mem::take(sum);
                rows::add(sum, places, &first.rows, &first.values);
            }
            rows::add(sum, places, &one.rows, &one.values);
        }
        Ok(())
    }

    /// Ends the adding; this rank's part of the loss.
    pub fn own(&mut self) -> f32 {
        if self.added == 0 {
            self.whole.fill(0.0);
            self.tables.iter_mut().for_each(RowGradients::clear);
        }
        self.loss as f32
    }

    /// Sums over all ranks; the loss, and how many ranks say `stop`.
    pub fn over_ranks(&mut self, ranks: &mut AllReduce, step: u64, stop: bool) -> Result<(f32, f32), Error> {
        let loss = self.own();
        let len = self.whole.len() - EXTRA;
        self.whole[len..].copy_from_slice(&[loss, f32::from(u8::from(stop))]);
        ranks.sum(step, &mut self.whole)?;
        if ranks.world() > 1 && !self.tables.is_empty() {
            self.tables_over_ranks(ranks, step)?;
        }
        Ok((self.whole[len], self.whole[len + 1]))
    }

    fn tables_over_ranks(&mut self, ranks: &mut AllReduce, step: u64) -> Result<(), Error> {
        let mut message = Vec::new();
        for table in &self.tables {
            message.extend_from_slice(&(table.rows.len() as u64).to_le_bytes());
            message.extend_from_slice(bytes::of_u32(&table.rows));
            message.extend_from_slice(bytes::of_f32(&table.values));
        }
        let gathered = ranks.gather(step, tag::ROWS, &message)?;
        self.tables.iter_mut().for_each(RowGradients::clear);
        for (rank, message) in gathered.iter().enumerate() {
            let mut rest = &message[..];
            for (table, (places, width)) in self.tables.iter_mut().zip(&mut self.places) {
                let wrong = || mesh::Error::Rows { rank, step };
                let (count, after) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
                let count = usize::try_from(u64::from_le_bytes(*count)).map_err(|_| wrong())?;
                let len = count.checked_mul(4).ok_or_else(wrong)?;
                let (numbers, after) = after.split_at_checked(len).ok_or_else(wrong)?;
                let len = len.checked_mul(*width).ok_or_else(wrong)?;
                let (values, after) = after.split_at_checked(len).ok_or_else(wrong)?;
                rest = after;
                let (numbers, values) = (bytes::to_u32(numbers), bytes::to_f32(values));
                if numbers.iter().any(|row| !places.has(*row)) {
                    return Err(wrong().into());
                }
                rows::add(table, places, &numbers, &values);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::all_reduce::tests::with_gang;
    use crate::graph::operation::{Kind, Place, Shape, Values};
    use crate::graph::{Source, Wanted};
    use crate::loss::Target;
    use crate::ring::part;
    use jobs::train::{Activation, Combine, Layer, Loss, chain};

    const BATCH: usize = 14;
    const FIELDS: usize = 3;

    fn graph() -> Graph<f32> {
        let shape = Shape { kind: Kind::Ids { size: 8 }, dims: vec![FIELDS] };
        let sources = [Source { name: "ids".to_string(), shape }];
        let embedding = Layer::Embedding { vocabulary: 9, units: 2, combine: Combine::Mean };
        let layers = chain([embedding, Layer::dense(3, Activation::Tanh)]);
        Graph::new(Wanted { sources: &sources, layers: &layers, output: None, outputs: 1 }, 3).unwrap()
    }

    /// What rank `rank` of `world` ends with, `at_once` rows at a time.
    fn summed(rank: usize, world: usize, ranks: &mut AllReduce, at_once: usize) -> (f32, Vec<f32>, RowGradients<f32>) {
        let graph = graph();
        let ids: Vec<u32> = (0..(BATCH * FIELDS) as u32).map(|i| i * i % 7).collect();
        let labels: Vec<f32> = (0..BATCH).map(|row| (row % 3 % 2) as f32).collect();
        let own = part(world, rank, BATCH);
        let mut sums = Sums::new(&graph, true);
        let mut end = (0.0, 0.0);
        // Twice, as what the first step left must not matter.
        for step in 0..2 {
            sums.clear();
            for start in own.clone().step_by(at_once) {
                let rows = start..(start + at_once).min(own.end);
                let place = Place { seed: 1, step, first_row: start, global_rows: BATCH };
                let target = Target::Values(&labels[rows.clone()]);
                let scale = 1.0 / BATCH as f64;
                let one = graph::Step { loss: Loss::BinaryCrossEntropy, target, scale, place };
                let inputs = [Values::Ids(&ids[rows.start * FIELDS..rows.end * FIELDS])];
                sums.add(|gradients| graph.gradients(&inputs, rows.len(), one, gradients)).unwrap();
            }
            end = sums.over_ranks(ranks, step, rank == 1).unwrap();
        }
        assert_eq!(end.1, f32::from(u8::from(world > 1)));
        let gradients = sums.gradients();
        (end.0, gradients.whole.to_vec(), gradients.tables[0].clone())
    }

    fn check(got: &(f32, Vec<f32>, RowGradients<f32>), expect: &(f32, Vec<f32>, RowGradients<f32>)) {
        let close = |got: f32, expect: f32| (got - expect).abs() < 1e-6;
        assert!(close(got.0, expect.0), "loss {} and {}", got.0, expect.0);
        assert!(got.1.iter().zip(&expect.1).all(|(got, expect)| close(*got, *expect)));
        let by_row = |gradients: &RowGradients<f32>| {
            let mut rows: Vec<(u32, [f32; 2])> = gradients
                .rows
                .iter()
                .zip(gradients.values.chunks_exact(2))
                .map(|(row, values)| (*row, [values[0], values[1]]))
                .collect();
            rows.sort_by_key(|(row, _)| *row);
            rows
        };
        let (got, expect) = (by_row(&got.2), by_row(&expect.2));
        assert_eq!(got.len(), expect.len());
        for ((row, got), (_, expect)) in got.iter().zip(&expect) {
            assert!(close(got[0], expect[0]) && close(got[1], expect[1]), "row {row}: {got:?}, expected {expect:?}");
        }
    }

    #[test]
    fn ranks_and_batches_add_up_to_one_batch() {
        let alone = summed(0, 1, &mut AllReduce::new(None), BATCH);
        assert_eq!(alone.2.rows, [0, 1, 4, 2], "in the order in which the batch names them");
        check(&summed(0, 1, &mut AllReduce::new(None), 4), &alone);
        for world in [2, 3, 16] {
            let all = with_gang(world, |rank, mesh| summed(rank, world, &mut AllReduce::new(Some(mesh)), 3));
            for (rank, got) in all.iter().enumerate() {
                assert!(*got == all[0], "W {world}: rank {rank} holds other bits than rank 0");
            }
            check(&all[0], &alone);
        }
    }
}
