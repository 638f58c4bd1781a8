//! Rows in, tensors out: what is refused, what is counted, and that order of arrival does not matter.

use super::*;
use crate::batches::{Batch, Buffer};
use crate::preprocess::State;
use crate::test_support::{batch, body};
use arrow::array::{BooleanArray, Float64Array, Int64Array, ListArray, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Int32Type;
use jobs::train::{Input, Preprocess};

fn numbers(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn dataset(train: Vec<RecordBatch>, body: &TrainBody) -> Result<Dataset, Error> {
    Dataset::new(&Data { train, test: None }, body)
}

fn refused(columns: &[(&str, ArrayRef)], body: &TrainBody, expect: &str) {
    let error = dataset(vec![batch(columns)], body).expect_err(expect).to_string();
    assert!(error.contains(expect), "{error}\nexpected to contain: {expect}");
}

#[test]
fn what_cannot_be_learned_is_refused_by_name() {
    let binary = body("y", Loss::BinaryCrossEntropy);
    let y = ("y", numbers(&[0.0, 1.0]));
    let x = ("x", numbers(&[1.0, 2.0]));
    let words: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    refused(&[("yy", numbers(&[0.0, 1.0])), x.clone()], &binary, "label column 'y'");
    let mut near = body("lable", Loss::BinaryCrossEntropy);
    refused(&[("label", numbers(&[0.0, 1.0])), x.clone()], &near, "did you mean 'label'?");
    near.label = "y".to_string();
    near.ignore = vec!["kindd".to_string()];
    refused(&[y.clone(), x.clone(), ("kind", words.clone())], &near, "did you mean 'kind'?");
    refused(&[y.clone(), ("card", words.clone())], &binary, "column 'card' of type Utf8 as a feature");
    refused(&[("y", words), x.clone()], &binary, "column 'y' of type Utf8 as the label");
    refused(&[y.clone(), ("x", numbers(&[1.0, f64::NAN]))], &binary, "row 1 of column 'x': it holds NaN");
    refused(&[y.clone(), ("x", numbers(&[f64::INFINITY, 1.0]))], &binary, "row 0 of column 'x': it holds inf");
    refused(&[("y", numbers(&[1.0, 1.0])), x.clone()], &binary, "label 'y' is 1 in all 2 training rows");
    refused(&[("y", numbers(&[0.0, 2.0])), x.clone()], &binary, "use 2 in row 1 of the training query as label 'y'");
    let classes = body("y", Loss::CrossEntropy);
    refused(&[("y", numbers(&[0.5, 2.0])), x.clone()], &classes, "classes are whole numbers");
    refused(&[("y", numbers(&[3.0, 3.0])), x.clone()], &classes, "label 'y' is 3 in all 2 training rows");
    refused(&[y], &binary, "find a feature");
    let mut all = body("y", Loss::MeanSquaredError);
    all.test_fraction = 1.0;
    refused(&[("y", numbers(&[0.0, 1.0])), x], &all, "hold out 1 of 2 rows");
    let empty = dataset(vec![], &binary).unwrap_err();
    assert_eq!(empty.to_string(), "train on no rows: the training query returned none");
}

#[test]
fn nulls_are_counted_and_times_kept() {
    let mut body = body("Label", Loss::CrossEntropy);
    body.time_column = Some("at".to_string());
    let train = batch(&[
        ("a", Arc::new(Int64Array::from(vec![Some(3), None, Some(5), Some(9)]))),
        ("label", Arc::new(Int64Array::from(vec![Some(0), Some(2), None, Some(1)]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![5, 90, 40, 7]).with_timezone("UTC"))),
        ("b", Arc::new(BooleanArray::from(vec![true, false, true, false]))),
    ]);
    let dataset = dataset(vec![train], &body).unwrap();
    assert_eq!(dataset.columns.features, ["a", "b"]);
    assert_eq!((dataset.outputs, dataset.trained_through_us, dataset.train.len()), (3, Some(90), 3));
    assert!(dataset.notices[0].contains("1 of 4 rows of the training query have no 'a'"), "{:?}", dataset.notices);
    assert!(dataset.notices[1].contains("1 of 4 rows of the training query have no label"), "{:?}", dataset.notices);
    let Targets::Classes(classes) = &dataset.train.targets else { panic!("classes") };
    let Values::Reals(values) = &dataset.train.inputs[0] else { panic!("numbers") };
    for (row, class) in values.chunks_exact(2).zip(classes) {
        match class {
            0 => assert_eq!(row, [3.0, 1.0]),
            1 => assert_eq!(row, [9.0, 0.0]),
            _ => assert!(row[0].is_nan() && row[1] == 0.0),
        }
    }
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let mut body = body("y", Loss::MeanSquaredError);
    body.test_fraction = 0.3;
    let values: Vec<f64> = (0..200).map(f64::from).collect();
    let of = |values: &[f64]| {
        let labels: Vec<f64> = values.iter().map(|value| value * 2.0).collect();
        batch(&[("x", numbers(values)), ("y", numbers(&labels))])
    };
    let mut turned: Vec<f64> = values.clone();
    turned.reverse();
    let once = dataset(vec![of(&values)], &body).unwrap();
    let other = dataset(vec![of(&turned[..33]), of(&turned[33..])], &body).unwrap();
    assert_eq!(once, other);
    assert_eq!(once.digest(), other.digest());
    let sent = once.to_bytes().unwrap();
    assert_eq!(Dataset::from_bytes(&sent).unwrap(), once);
    assert!(Dataset::from_bytes(&sent[..sent.len() - 1]).is_err());
    assert!((40..80).contains(&once.held_out.len()), "{} held out", once.held_out.len());
    assert_eq!(once.held_out.len() + once.train.len(), 200);
    body.seed += 1;
    assert_ne!(once.held_out, dataset(vec![of(&values)], &body).unwrap().held_out);
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn input(name: &str, columns: &[&str], step: Preprocess) -> Input {
    let columns = columns.iter().map(|column| column.to_string()).collect();
    Input { name: name.to_string(), columns, step, dims: Vec::new() }
}

fn lists(rows: &[Option<Vec<Option<i32>>>]) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows.to_vec()))
}

/// Every kind of input at once, the rows in two orders.
#[test]
fn inputs_of_all_kinds_do_not_depend_on_the_order_of_arrival() {
    let mut body = body("y", Loss::CrossEntropy);
    body.test_fraction = 0.25;
    body.inputs = vec![
        input("numbers", &[], Preprocess::Normalize),
        input("city", &["City", "home"], Preprocess::Vocabulary { size: 4 }),
        input("hashed", &["city"], Preprocess::Hash { buckets: 50 }),
        input("pixels", &["pixels"], Preprocess::Ids { size: 40 }),
        input("age", &["age"], Preprocess::Buckets { count: 4 }),
    ];
    let cities = ["Rome", "Oslo", "Bonn", "Kyiv", "Lima"];
    let rows = |rows: &[usize]| {
        let city: Vec<Option<&str>> = rows.iter().map(|row| (row % 7 != 0).then(|| cities[row % 5])).collect();
        let home: Vec<Option<&str>> = rows.iter().map(|row| Some(cities[row % 3])).collect();
        let pixels: Vec<Option<Vec<Option<i32>>>> =
            rows.iter().map(|row| Some((0..3).map(|at| Some((*row as i32 + at) % 40)).collect())).collect();
        let age: Vec<f64> = rows.iter().map(|row| (row % 9) as f64).collect();
        let x: Vec<f64> = rows.iter().map(|row| *row as f64 / 2.0).collect();
        let y: Vec<Option<&str>> = rows.iter().map(|row| Some(["no", "yes", "maybe"][row % 3])).collect();
        batch(&[
            ("x", numbers(&x)),
            ("city", texts(&city)),
            ("home", texts(&home)),
            ("pixels", lists(&pixels)),
            ("age", numbers(&age)),
            ("y", texts(&y)),
        ])
    };
    let forward: Vec<usize> = (0..60).collect();
    let backward: Vec<usize> = forward.iter().rev().copied().collect();
    let once = dataset(vec![rows(&forward)], &body).unwrap();
    let other = dataset(vec![rows(&backward[..17]), rows(&backward[17..])], &body).unwrap();
    assert_eq!(once.digest(), other.digest());
    assert_eq!(once, Dataset { notices: once.notices.clone(), ..other });
    assert_eq!((once.outputs, once.classes.join(" ")), (3, "maybe no yes".to_string()));
    assert_eq!(once.widths, [vec![1], vec![1, 1], vec![1], vec![3], vec![1]]);
    let sent = Dataset::from_bytes(&once.to_bytes().unwrap()).unwrap();
    assert_eq!((sent.digest(), &sent.train), (once.digest(), &once.train));
    let learned = once.preprocessing();
    assert_eq!(sent.preprocessing(), learned);
    // Rome, Oslo and Bonn are homes as well, so they are in more places than the others.
    let State::Words(words) = &learned.inputs[1].state else { panic!("{learned:?}") };
    assert_eq!(words.len(), 3);
    assert!(!words.contains(&"Kyiv".to_string()) && !words.contains(&"Lima".to_string()), "{words:?}");

    // Scoring the rows gives what training had of them.
    let all = rows(&forward);
    let columns: Vec<ArrayRef> =
        once.columns.features.iter().map(|name| all.column_by_name(name).unwrap().clone()).collect();
    let scored = learned.read(&once.columns.features, &columns).unwrap();
    let (mut some, mut same) = (Batch::default(), Batch::default());
    let trained = once.train.clone().prepared(&learned);
    let Values::Reals(x) = &once.train.inputs[0] else { panic!("numbers") };
    for (at, x) in x.iter().enumerate() {
        trained.gather(&[at as u32], &mut some);
        scored.gather(&[(x * 2.0) as u32], &mut same);
        assert_eq!(some.inputs, same.inputs, "row {at}");
    }
}

#[test]
fn what_no_input_can_hold_is_refused_by_name() {
    let y = ("y", numbers(&[0.0, 1.0]));
    let x = ("x", numbers(&[1.0, 2.0]));
    let city = ("city", texts(&[Some("a"), None]));
    let with = |inputs: Vec<Input>| TrainBody { inputs, ..body("y", Loss::BinaryCrossEntropy) };
    let hash = Preprocess::Hash { buckets: 8 };
    let columns = [y.clone(), x.clone(), city.clone()];
    refused(&columns, &with(vec![input("c", &["city"], hash.clone())]), "train on column x: no input reads it");
    refused(&columns, &with(vec![input("c", &["cty"], hash.clone())]), "did you mean 'city'?");
    refused(&columns, &with(vec![input("c", &["y"], hash.clone())]), "column 'y' in input 'c': it is the label");
    let all = vec![input("c", &["city", "x"], hash.clone()), input("rest", &[], Preprocess::Numbers)];
    refused(&columns[..3], &with(all.clone()), "fill input 'rest'");
    refused(&columns, &with(vec![input("c", &["city", "x"], hash)]), "column 'x' of type Float64 by hash");
    let ids = with(vec![input("x", &["x"], Preprocess::Ids { size: 3 })]);
    refused(
        &[y.clone(), ("x", numbers(&[1.0, 3.0]))],
        &ids,
        "row 1 of column 'x': it holds 3; ids are whole numbers from 0 to 2",
    );
    refused(&[y.clone(), ("x", numbers(&[0.5, 1.0]))], &ids, "row 0 of column 'x': it holds 0.5");
    let absent: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    refused(&[y.clone(), ("x", absent)], &ids, "row 1 of column 'x': it holds nothing");
    let uneven = lists(&[Some(vec![Some(1), Some(2)]), Some(vec![Some(1)])]);
    refused(&[y.clone(), ("x", uneven)], &ids, "row 1 of column 'x': its list has 1 values, others have 2");
    let per_place = lists(&[Some(vec![Some(0), Some(1)]), Some(vec![Some(1), Some(1)])]);
    refused(&[("y", per_place), x.clone()], &with(vec![]), "use lists as label 'y'");
    let names = body("y", Loss::CrossEntropy);
    refused(&[("y", texts(&[Some("a"), Some("a")])), x.clone()], &names, "label 'y' is a in all 2 training rows");
    let test = vec![batch(&[("y", texts(&[Some("c")])), ("x", numbers(&[1.0]))])];
    let train = vec![batch(&[("y", texts(&[Some("a"), Some("b")])), x])];
    let error = Dataset::new(&Data { train, test: Some(test) }, &names).unwrap_err().to_string();
    assert!(error.contains("use 'c' in row 0 of the test query as label 'y': no training row"), "{error}");
}

/// f32 has every whole number up to 2^24 only.
#[test]
fn ids_are_never_rounded() {
    let id = (1 << 24) + 1;
    let mut body = body("y", Loss::BinaryCrossEntropy);
    body.inputs = vec![input("x", &["x"], Preprocess::Ids { size: 1 << 25 })];
    let x: ArrayRef = Arc::new(Int64Array::from(vec![id, id + 1]));
    let dataset = dataset(vec![batch(&[("x", x), ("y", numbers(&[0.0, 1.0]))])], &body).unwrap();
    let Values::Ids(ids) = &dataset.train.inputs[0] else { panic!("ids") };
    let mut ids = ids.clone();
    ids.sort_unstable();
    assert_eq!(ids, [id as u32, id as u32 + 1]);
}

#[test]
fn a_list_of_classes_is_one_label_for_each_place() {
    let mut body = body("y", Loss::CrossEntropy);
    body.inputs = vec![input("x", &["x"], Preprocess::Ids { size: 9 })];
    let x = lists(&[Some(vec![Some(1), Some(2)]), Some(vec![Some(3), Some(4)]), Some(vec![Some(5), Some(6)])]);
    let y = lists(&[Some(vec![Some(2), Some(3)]), None, Some(vec![Some(6), Some(7)])]);
    let dataset = dataset(vec![batch(&[("x", x), ("y", y)])], &body).unwrap();
    assert_eq!((dataset.train.len(), dataset.train.places, dataset.outputs), (2, 2, 8));
    let examples = dataset.train.clone().prepared(&dataset.preprocessing());
    let mut gathered = Batch::default();
    for row in 0..2 {
        examples.gather(&[row], &mut gathered);
        let (Buffer::Ids(x), Targets::Classes(y)) = (&gathered.inputs[0], &gathered.targets) else { panic!("ids") };
        assert_eq!(y.iter().map(|y| y - 1).collect::<Vec<u32>>(), *x);
    }
}
