//! Against `serde_json`'s own tree.

use super::*;
use arrow::datatypes::{Float64Type, Int64Type};
use datafusion::common::config::ConfigOptions;
use proptest::prelude::*;
use serde_json::Value;

fn call(which: Which, args: Vec<ColumnarValue>, n_rows: usize) -> Result<ArrayRef> {
    let function = function(which);
    let arg_fields = args.iter().map(|arg| Arc::new(Field::new("", arg.data_type(), true))).collect();
    let return_field = Arc::new(Field::new("", function.return_type(&[])?, true));
    let config_options = Arc::new(ConfigOptions::default());
    let args = ScalarFunctionArgs { args, arg_fields, number_rows: n_rows, return_field, config_options };
    function.invoke_with_args(args)?.into_array(n_rows)
}

fn column(values: &[Option<&str>]) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(StringArray::from(values.to_vec())))
}

fn key(value: &str) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Utf8(Some(value.to_owned())))
}

fn index(value: i64) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Int64(Some(value)))
}

fn texts(which: Which, rows: &[Option<&str>], steps: &[ColumnarValue]) -> Vec<Option<String>> {
    let args = std::iter::once(column(rows)).chain(steps.iter().cloned()).collect();
    let answer = call(which, args, rows.len()).expect("an answer");
    answer.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn members_and_elements() {
    let rows = [
        Some(r#" {"a": {"b": [1, "x\u0041\n", {"c": null}], "b2": true}, "a b": 1.50} "#),
        Some(r#"{"a":1,"a":{"b":"last"}}"#),
        Some("[1, 2]"),
        Some("{\"a\": 1"),
        Some("{} {}"),
        Some(""),
        None,
    ];
    let a = [key("a")];
    assert_eq!(
        texts(Which::Get, &rows, &a),
        [
            some(r#"{"b": [1, "x\u0041\n", {"c": null}], "b2": true}"#),
            some(r#"{"b":"last"}"#),
            None,
            None,
            None,
            None,
            None
        ]
    );
    let at = |which, steps: &[ColumnarValue]| texts(which, &rows[..1], steps).remove(0);
    let path = |last: i64| [key("a"), key("b"), index(last)];
    assert_eq!(at(Which::Get, &path(0)), some("1"));
    assert_eq!(at(Which::Get, &path(1)), some(r#""x\u0041\n""#));
    assert_eq!(at(Which::Str, &path(1)), some("xA\n"));
    assert_eq!(at(Which::Get, &path(-1)), some(r#"{"c": null}"#));
    assert_eq!((at(Which::Get, &path(3)), at(Which::Get, &path(-4))), (None, None));
    let null = [key("a"), key("b"), index(-1), key("c")];
    assert_eq!((at(Which::Get, &null), at(Which::Str, &null)), (some("null"), None));
    assert_eq!(at(Which::Str, &[key("a b")]), some("1.50"));
    assert_eq!(texts(Which::Str, &rows[1..2], &[key("a"), key("b")]), [some("last")]);
    // An index is no key, nor the other way round.
    assert_eq!(texts(Which::Get, &rows[2..3], &[key("0")]), [None]);
    assert_eq!(texts(Which::Get, &rows[2..3], &[index(0)]), [some("1")]);
    // Steps of their own for each row, some of them null.
    let each = column(&[Some("a b"), Some("a"), None, None, None, None, Some("a")]);
    let found = texts(Which::Get, &rows, &[each]);
    assert_eq!(found, [some("1.50"), some(r#"{"b":"last"}"#), None, None, None, None, None]);
}

#[test]
fn typed_answers() {
    let rows = [
        Some(r#"{"n":3}"#),
        Some(r#"{"n":-2.5e1}"#),
        Some(r#"{"n":true}"#),
        Some(r#"{"n":"3"}"#),
        Some(r#"{"m":[]}"#),
        None,
        Some("no"),
    ];
    let of = |which| call(which, vec![column(&rows), key("n")], rows.len()).expect("an answer");
    let ints = of(Which::Int);
    assert_eq!(
        ints.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(),
        [Some(3), None, None, None, None, None, None]
    );
    let floats = of(Which::Float);
    assert_eq!(
        floats.as_primitive::<Float64Type>().iter().collect::<Vec<_>>(),
        [Some(3.0), Some(-25.0), None, None, None, None, None]
    );
    let bools = |which| of(which).as_boolean().iter().collect::<Vec<_>>();
    assert_eq!(bools(Which::Bool), [None, None, Some(true), None, None, None, None]);
    let yes = Some(true);
    assert_eq!(bools(Which::Contains), [yes, yes, yes, yes, Some(false), None, None]);
    let whole = |which| call(which, vec![column(&rows)], rows.len()).expect("an answer");
    assert_eq!(whole(Which::Is).as_boolean().iter().collect::<Vec<_>>(), [yes, yes, yes, yes, yes, None, Some(false)]);
    let one = Some(1);
    let lengths = whole(Which::Length);
    assert_eq!(lengths.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [one, one, one, one, one, None, None]);
    let length = call(Which::Length, vec![column(&rows), key("m")], rows.len()).expect("an answer");
    assert_eq!(length.as_primitive::<Int64Type>().iter().flatten().collect::<Vec<_>>(), [0]);
}

#[test]
fn paths() {
    let rows = [Some(r#"{"a":{"b":[10,{"c d":"x"}]}}"#), Some("7"), Some("{"), None];
    let at = |path: &str| texts(Which::Extract, &rows, &[key(path)]);
    assert_eq!(at("$.a.b[0]"), [some("10"), None, None, None]);
    assert_eq!(at("$['a'].b[-1][\"c d\"]"), [some("\"x\""), None, None, None]);
    assert_eq!(at("$")[1..], [some("7"), None, None]);
    for wrong in ["a", "$.", "$..a", "$[a]", "$[1", "$['a]", "$a", "$.*", "$[1]x"] {
        assert!(Path::parse(wrong).is_err(), "{wrong}");
        assert!(call(Which::Extract, vec![column(&rows), key(wrong)], rows.len()).is_err(), "{wrong}");
    }
    let each = column(&[Some("$.a"), Some("$"), Some("$"), Some("$")]);
    assert_eq!(texts(Which::Extract, &rows, &[each])[..2], [some(r#"{"b":[10,{"c d":"x"}]}"#), some("7")]);
}

#[test]
fn arguments_that_do_not_fit() {
    let refused =
        |which: Which, types: &[DataType]| function(which).inner().coerce_types(types).unwrap_err().to_string();
    use DataType::{Float64, Int32, Int64, Utf8, Utf8View};
    assert!(refused(Which::Get, &[Utf8]).contains("does not take 1 arguments"));
    assert!(refused(Which::Get, &[Int64, Utf8]).contains("takes JSON as VARCHAR"));
    assert!(refused(Which::Get, &[Utf8, Float64]).contains("argument 2"));
    assert!(refused(Which::Extract, &[Utf8, Int64]).contains("argument 2"));
    assert!(refused(Which::Is, &[Utf8, Utf8]).contains("does not take 2"));
    let given = function(Which::Get).inner().coerce_types(&[Utf8View, Int32, Utf8]).unwrap();
    assert_eq!(given, [Utf8, Int64, Utf8]);
}

fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-c\"\\\\é\n]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c\"é]{1,2}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn steps_lead_where_the_tree_says(
        documents in prop::collection::vec(documents(), 1..8),
        steps in prop::collection::vec(prop_oneof!["[a-c\"é]{1,2}".prop_map(Ok), (-3i64..4).prop_map(Err)], 1..4),
        pretty: bool,
    ) {
        let written: Vec<String> = documents
            .iter()
            .map(|document| if pretty { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) })
            .collect::<std::result::Result<_, _>>()
            .unwrap();
        let rows: Vec<Option<&str>> = written.iter().map(|text| Some(text.as_str())).collect();
        let args: Vec<ColumnarValue> = steps
            .iter()
            .map(|step| match step { Ok(name) => key(name), Err(n) => index(*n) })
            .collect();
        let found = texts(Which::Get, &rows, &args);
        let plain = texts(Which::Str, &rows, &args);
        for ((document, found), plain) in documents.iter().zip(found).zip(plain) {
            let wanted = steps.iter().try_fold(document, |at, step| match step {
                Ok(name) => at.as_object()?.get(name),
                Err(n) => {
                    let elements = at.as_array()?;
                    let at = if *n < 0 { elements.len().checked_sub(n.unsigned_abs() as usize)? } else { *n as usize };
                    elements.get(at)
                }
            });
            let read = found.map(|text| serde_json::from_str::<Value>(&text).unwrap());
            prop_assert_eq!(read.as_ref(), wanted);
            if let Some(Value::String(text)) = wanted {
                prop_assert_eq!(plain.as_ref(), Some(text));
            }
        }
    }
}
