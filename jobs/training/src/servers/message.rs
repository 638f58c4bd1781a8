//! What workers and servers say to each other, as bytes behind a frame's header.
//!
//! Invariant: nothing that a peer says is believed: lengths are held against what is there, row numbers against the table, before
//! either is used.

use crate::bytes;
use crate::graph::operation::RowGradients;

/// Rows of each table of a shard that a worker needs, or all of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Wants {
    Rows(Vec<Vec<u32>>),
    Whole,
}

/// A worker's gradients of one step for one shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Push {
    pub loss: f32,
    /// The worker was told to stop.
    pub stop: bool,
    /// Of what is no table.
    pub whole: Vec<f32>,
    pub tables: Vec<RowGradients<f32>>,
}

/// What an update was made of, over all workers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct News {
    pub loss: f32,
    pub stop: bool,
}

/// The shape of a shard, as far as messages go by it.
#[derive(Clone, Debug)]
pub struct Form {
    pub whole_len: usize,
    /// Rows and width of each table.
    pub tables: Vec<(usize, usize)>,
}

const ROWS: u32 = 0;
const WHOLE: u32 = 1;

pub fn write_wants(wants: &Wants, into: &mut Vec<u8>) {
    match wants {
        Wants::Whole => into.extend_from_slice(&WHOLE.to_le_bytes()),
        Wants::Rows(tables) => {
            into.extend_from_slice(&ROWS.to_le_bytes());
            for rows in tables {
                into.extend_from_slice(&(rows.len() as u64).to_le_bytes());
                into.extend_from_slice(bytes::of_u32(rows));
            }
        }
    }
}

/// `whole` and `tables` in the order of the shard.
pub fn write_push(loss: f32, stop: bool, whole: &[&[f32]], tables: &[&RowGradients<f32>], into: &mut Vec<u8>) {
    into.extend_from_slice(&loss.to_le_bytes());
    into.extend_from_slice(&u32::from(stop).to_le_bytes());
    whole.iter().for_each(|values| into.extend_from_slice(bytes::of_f32(values)));
    for table in tables {
        into.extend_from_slice(&(table.rows.len() as u64).to_le_bytes());
        into.extend_from_slice(bytes::of_u32(&table.rows));
        into.extend_from_slice(bytes::of_f32(&table.values));
    }
}

/// `updates`: those that the weights have seen; `news`: of the last of them.
pub fn write_answer(updates: u64, news: impl ExactSizeIterator<Item = News>, into: &mut Vec<u8>) {
    into.extend_from_slice(&updates.to_le_bytes());
    into.extend_from_slice(&(news.len() as u32).to_le_bytes());
    for News { loss, stop } in news {
        into.extend_from_slice(&loss.to_le_bytes());
        into.extend_from_slice(&u32::from(stop).to_le_bytes());
    }
}

/// Reads from the front; `None` where what is there is not what should be.
pub struct Taker<'a>(pub &'a [u8]);

impl<'a> Taker<'a> {
    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (number, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*number)
    }

    /// This many numbers of four bytes.
    pub fn fours(&mut self, count: usize) -> Option<&'a [u8]> {
        let (values, rest) = self.0.split_at_checked(count.checked_mul(4)?)?;
        self.0 = rest;
        Some(values)
    }

    fn flag(&mut self) -> Option<bool> {
        match u32::from_le_bytes(self.number()?) {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn rows(&mut self, table_rows: usize) -> Option<Vec<u32>> {
        let count = usize::try_from(u64::from_le_bytes(self.number()?)).ok()?;
        let rows = bytes::to_u32(self.fours(count)?);
        rows.iter().all(|row| (*row as usize) < table_rows).then_some(rows)
    }

    pub fn wants(&mut self, form: &Form) -> Option<Wants> {
        match u32::from_le_bytes(self.number()?) {
            WHOLE => Some(Wants::Whole),
            ROWS => form.tables.iter().map(|(rows, _)| self.rows(*rows)).collect::<Option<_>>().map(Wants::Rows),
            _ => None,
        }
    }

    pub fn push(&mut self, form: &Form) -> Option<Push> {
        let loss = f32::from_le_bytes(self.number()?);
        let stop = self.flag()?;
        let whole = bytes::to_f32(self.fours(form.whole_len)?);
        let mut tables = Vec::with_capacity(form.tables.len());
        for (table_rows, width) in &form.tables {
            let rows = self.rows(*table_rows)?;
            let values = bytes::to_f32(self.fours(rows.len().checked_mul(*width)?)?);
            tables.push(RowGradients { rows, values });
        }
        Some(Push { loss, stop, whole, tables })
    }

    pub fn answer(&mut self) -> Option<(u64, Vec<News>)> {
        let updates = u64::from_le_bytes(self.number()?);
        let count = u32::from_le_bytes(self.number()?);
        let one = |taker: &mut Self| Some(News { loss: f32::from_le_bytes(taker.number()?), stop: taker.flag()? });
        let news = (0..count).map(|_| one(self)).collect::<Option<Vec<News>>>()?;
        Some((updates, news))
    }

    pub fn whole_number(&mut self) -> Option<u64> {
        self.number().map(u64::from_le_bytes)
    }

    /// What was said is at its end.
    pub fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form() -> Form {
        Form { whole_len: 3, tables: vec![(5, 2), (9, 1)] }
    }

    fn example() -> (Push, Wants, Vec<u8>) {
        let table = |rows: &[u32], width: usize| RowGradients {
            rows: rows.to_vec(),
            values: (0..rows.len() * width).map(|value| value as f32).collect(),
        };
        let tables = vec![table(&[4, 0], 2), table(&[8], 1)];
        let push = Push { loss: 0.5, stop: true, whole: vec![1.0, -2.0, 3.5], tables };
        let wants = Wants::Rows(vec![vec![1, 2, 3], vec![]]);
        let mut said = Vec::new();
        write_push(push.loss, push.stop, &[&push.whole], &push.tables.iter().collect::<Vec<_>>(), &mut said);
        write_wants(&wants, &mut said);
        (push, wants, said)
    }

    #[test]
    fn what_is_said_is_understood() {
        let (push, wants, said) = example();
        let mut taker = Taker(&said);
        assert_eq!((taker.push(&form()), taker.wants(&form()), taker.end()), (Some(push), Some(wants), Some(())));
        let news = [News { loss: 1.0, stop: false }, News { loss: f32::INFINITY, stop: true }];
        let mut said = Vec::new();
        write_answer(7, news.into_iter(), &mut said);
        write_wants(&Wants::Whole, &mut said);
        let mut taker = Taker(&said);
        assert_eq!(taker.answer(), Some((7, news.to_vec())));
        assert_eq!((taker.wants(&form()), taker.end()), (Some(Wants::Whole), Some(())));
    }

    #[test]
    fn a_row_that_no_table_has_and_a_cut_message_are_refused() {
        let (_, _, said) = example();
        for len in 0..said.len() {
            let mut taker = Taker(&said[..len]);
            assert!(taker.push(&form()).is_none() || taker.wants(&form()).is_none(), "cut at {len}");
        }
        let smaller = Form { tables: vec![(4, 2), (9, 1)], ..form() };
        assert_eq!(Taker(&said).push(&smaller), None, "row 4 of a table of 4");
        let mut more = said.clone();
        more.push(0);
        let mut taker = Taker(&more);
        assert!(taker.push(&form()).is_some() && taker.wants(&form()).is_some() && taker.end().is_none());
    }

    proptest! {
        #[test]
        fn rubbish_is_no_panic(rubbish: Vec<u8>) {
            let _ = Taker(&rubbish).push(&form());
            let _ = Taker(&rubbish).wants(&form());
            let _ = Taker(&rubbish).answer();
        }
    }
}
