//! Rows in, tensors out: what is refused, what is counted, and that order of arrival does not matter.

use super::*;
use crate::test_support::{batch, body};
use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use std::sync::Arc;

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
    for (row, class) in dataset.train.features.chunks_exact(2).zip(classes) {
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
