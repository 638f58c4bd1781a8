//! Once, whoever repeats it; and only by the newest generation.

use super::*;
use arrow::array::{AsArray, Int64Array, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn schema() -> Schema {
    Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8View, true)])
}

fn batch(rows: &[(i64, &str)]) -> RecordBatch {
    let ids = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
    let names = StringViewArray::from_iter_values(rows.iter().map(|row| row.1));
    RecordBatch::try_new(Arc::new(schema()), vec![Arc::new(ids), Arc::new(names)]).unwrap()
}

fn commit(writer: &str, generation: u64, epoch: u64, rows: &[(i64, &str)]) -> Commit {
    Commit {
        table: "t".to_owned(),
        job: "job".to_owned(),
        writer: writer.to_owned(),
        generation,
        epoch,
        part: 0,
        changes: false,
        batches: vec![batch(rows)],
    }
}

/// Rows to be there, and keys whose row is to go, in this order.
fn changed(rows: &[(i64, Option<&str>)]) -> RecordBatch {
    let weights = Int8Array::from_iter_values(rows.iter().map(|(_, name)| if name.is_some() { 1 } else { -1 }));
    let rows: Vec<(i64, &str)> = rows.iter().map(|(id, name)| (*id, name.unwrap_or("gone"))).collect();
    weighed(batch(&rows), Arc::new(weights))
}

fn weighed(batch: RecordBatch, weights: ArrayRef) -> RecordBatch {
    let mut fields = batch.schema().fields().to_vec();
    fields.push(Arc::new(Field::new("weight", weights.data_type().clone(), true)));
    let columns = batch.columns().iter().cloned().chain([weights]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn change(writer: &str, epoch: u64, part: u64, batches: &[&[(i64, Option<&str>)]]) -> Commit {
    let batches = batches.iter().map(|rows| changed(rows)).collect();
    Commit { part, changes: true, batches, ..commit(writer, 1, epoch, &[]) }
}

fn rows(store: &Store) -> Vec<(i64, String)> {
    let mut rows = Vec::new();
    for batch in store.scan("t", None, 0, None).unwrap() {
        let batch = batch.unwrap();
        let ids = batch.column(0).as_primitive::<Int64Type>();
        rows.extend(
            ids.values().iter().copied().zip(batch.column(1).as_string::<i32>().iter().map(|n| n.unwrap().to_owned())),
        );
    }
    rows
}

fn owned(rows: &[(i64, &str)]) -> Vec<(i64, String)> {
    rows.iter().map(|(id, name)| (*id, (*name).to_owned())).collect()
}

#[test]
fn upserts_repetitions_and_stale_generations_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Store::open(dir.path()).unwrap();
        store.create("t", &schema(), &[0]).unwrap();
        assert_eq!(store.commit(commit("w0", 1, 1, &[(2, "b"), (1, "a"), (2, "B")])), Ok(Applied::Now));
        assert_eq!(store.commit(commit("w0", 1, 1, &[(9, "again")])), Ok(Applied::Before));
        let second_part = Commit { part: 1, ..commit("w0", 1, 1, &[(3, "c")]) };
        assert_eq!(store.commit(second_part), Ok(Applied::Now));
        assert!(matches!(Store::open(dir.path()), Err(Error::Open { .. })));
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(rows(&store), owned(&[(1, "a"), (2, "B"), (3, "c")]));
    assert_eq!(store.commit(commit("w1", 2, 1, &[(-1, "z")])), Ok(Applied::Now));
    assert_eq!(store.commit(commit("w0", 2, 1, &[(9, "again")])), Ok(Applied::Before));
    let stale = store.commit(commit("w0", 1, 2, &[(9, "late")])).unwrap_err();
    assert!(matches!(stale, Error::Stale { generation: 1, highest: 2, .. }), "{stale}");
    assert_eq!(rows(&store)[0].0, -1);
    assert_eq!(store.count("t"), Ok(4));
    let page: Vec<_> = store.scan("t", Some(&[1]), 1, Some(2)).unwrap().map(Result::unwrap).collect();
    assert_eq!((page.len(), page[0].num_rows(), page[0].num_columns()), (1, 2, 1));
    store.truncate("t").unwrap();
    assert_eq!(store.count("t"), Ok(0));
    assert_eq!(store.commit(commit("w1", 2, 1, &[(9, "again")])), Ok(Applied::Before));
    store.drop_table("t").unwrap();
    assert!(matches!(store.count("t"), Err(Error::NoSuchTable { .. })));
    store.create("t", &schema(), &[]).unwrap();
    assert_eq!(store.commit(commit("w0", 1, 1, &[(5, "x"), (5, "x")])), Ok(Applied::Now));
    assert_eq!(store.commit(commit("w0", 1, 2, &[(4, "y")])), Ok(Applied::Now));
    assert_eq!(rows(&store), owned(&[(5, "x"), (5, "x"), (4, "y")]));
}

#[test]
fn removals_take_effect_in_order_within_a_commit_and_over_epochs_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.create("t", &schema(), &[0]).unwrap();
    assert_eq!(store.commit(commit("rows", 1, 1, &[(1, "old"), (2, "old"), (3, "old"), (4, "old")])), Ok(Applied::Now));
    // Over the batches of one commit: gone and there again, there and gone again, gone, and never there.
    let first: [&[(i64, Option<&str>)]; 2] =
        [&[(1, None), (3, None), (5, Some("new"))], &[(1, Some("new")), (5, None), (9, None)]];
    assert_eq!(store.commit(change("w", 1, 0, &first)), Ok(Applied::Now));
    assert_eq!(rows(&store), owned(&[(1, "new"), (2, "old"), (4, "old")]));
    // Over the parts of one epoch, and over epochs; within a batch the last change of a key counts.
    assert_eq!(store.commit(change("w", 2, 0, &[&[(1, None), (2, None), (2, Some("new"))]])), Ok(Applied::Now));
    assert_eq!(
        store.commit(change("w", 2, 1, &[&[(1, Some("newer")), (4, Some("new")), (4, None)]])),
        Ok(Applied::Now)
    );
    assert_eq!(store.commit(change("w", 3, 0, &[&[(3, Some("back"))]])), Ok(Applied::Now));
    let wanted = owned(&[(1, "newer"), (2, "new"), (3, "back")]);
    assert_eq!(rows(&store), wanted);
    // All of it once more, a removal among it whose key has come back since.
    assert_eq!(store.commit(change("w", 1, 0, &first)), Ok(Applied::Before));
    assert_eq!(store.commit(change("w", 2, 0, &[&[(1, None), (2, None)]])), Ok(Applied::Before));
    assert_eq!(store.commit(change("w", 3, 0, &[&[(3, None)]])), Ok(Applied::Before));
    assert_eq!((rows(&store), store.count("t")), (wanted, Ok(3)));
}

#[test]
fn changes_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.create("t", &schema(), &[]).unwrap();
    let why = store.commit(change("w", 1, 0, &[&[(1, None)]])).unwrap_err().to_string();
    assert!(why.contains("'t'") && why.contains("without a primary key"), "{why}");
    store.drop_table("t").unwrap();
    store.create("t", &schema(), &[0]).unwrap();
    let one = || batch(&[(1, "a")]);
    for odd in [
        one(),
        weighed(one(), Arc::new(Int8Array::from(vec![0]))),
        weighed(one(), Arc::new(Int8Array::from(vec![None]))),
        weighed(one(), Arc::new(Int64Array::from(vec![1]))),
    ] {
        let sent = Commit { batches: vec![odd], ..change("w", 1, 0, &[]) };
        assert!(matches!(store.commit(sent), Err(Error::Unfit { .. })));
    }
    assert!(matches!(
        store.commit(Commit { changes: false, ..change("w", 1, 0, &[&[(1, None)]]) }),
        Err(Error::Unfit { .. })
    ));
    assert_eq!(store.count("t"), Ok(0));
}

#[test]
fn other_shapes_are_refused_with_both_shown() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.create("t", &schema(), &[0]).unwrap();
    store.create("t", &schema(), &[0]).unwrap();
    let why = store.create("t", &schema(), &[]).unwrap_err().to_string();
    assert!(
        why.contains("(id int64, name text) keyed by (id)") && why.contains("not as (id int64, name text);"),
        "{why}"
    );
    let narrow = batch(&[(1, "a")]).project(&[0]).unwrap();
    let why = store.commit(Commit { batches: vec![narrow], ..commit("w", 1, 1, &[]) }).unwrap_err();
    assert!(matches!(why, Error::Unfit { .. }));
    let unknown = store.commit(Commit { table: "u".to_owned(), ..commit("w", 1, 1, &[]) }).unwrap_err().to_string();
    assert!(unknown.contains("'u'") && unknown.contains("it has t"), "{unknown}");
}

#[test]
fn writers_at_once_share_transactions_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.create("t", &schema(), &[]).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for epoch in 1..=20 {
                    let rows = [(writer, "x"), (epoch, "y")];
                    let sent = commit(&writer.to_string(), 1, epoch as u64, &rows);
                    assert_eq!(store.commit(sent.clone()), Ok(Applied::Now));
                    assert_eq!(store.commit(sent), Ok(Applied::Before));
                }
            });
        }
    });
    assert_eq!(store.count("t"), Ok(8 * 20 * 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Any commits in any order, rows and removals, each perhaps sent several times: the table equals a map to which each
    /// was applied once.
    #[test]
    fn equals_a_map(
        commits in prop::collection::vec(
            (0..2u8, 1..6u64, prop::collection::vec((0..6i64, any::<bool>()), 0..6), 0..6usize),
            1..12,
        )
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.create("t", &schema(), &[0]).unwrap();
        let (mut expected, mut last) = (BTreeMap::new(), BTreeMap::new());
        for (at, (writer, epoch, changes, cut)) in commits.iter().enumerate() {
            let name = at.to_string();
            let sent: Vec<(i64, Option<&str>)> =
                changes.iter().map(|(id, there)| (*id, there.then_some(name.as_str()))).collect();
            let (one, other) = sent.split_at((*cut).min(sent.len()));
            let applied = store.commit(change(&writer.to_string(), *epoch, 0, &[one, other])).unwrap();
            let fresh = last.get(writer).is_none_or(|last| epoch > last);
            prop_assert_eq!(applied == Applied::Now, fresh);
            if fresh {
                last.insert(*writer, *epoch);
                for (id, name) in sent {
                    match name {
                        Some(name) => expected.insert(id, name.to_owned()),
                        None => expected.remove(&id),
                    };
                }
            }
        }
        prop_assert_eq!(rows(&store), expected.into_iter().collect::<Vec<_>>());
    }
}
