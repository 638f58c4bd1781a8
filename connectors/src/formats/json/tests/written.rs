//! JSON records as they may be written: nested, spaced, escaped, with fields that are missing, repeated or unfit.

use proptest::prelude::*;
use std::collections::HashSet;

/// JSON as it may be written: names and values, with text already quoted and escaped.
#[derive(Clone, Debug)]
enum Json {
    Token(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

fn write(json: &Json, space: &str, out: &mut String) {
    let between = |out: &mut String, at: usize| {
        if at > 0 {
            out.push(',');
        }
        out.push_str(space);
    };
    match json {
        Json::Token(text) => out.push_str(text),
        Json::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                between(out, at);
                write(item, space, out);
            }
            out.push_str(space);
            out.push(']');
        }
        Json::Object(fields) => {
            out.push('{');
            for (at, (name, value)) in fields.iter().enumerate() {
                between(out, at);
                out.push_str(name);
                out.push_str(space);
                out.push(':');
                out.push_str(space);
                write(value, space, out);
            }
            out.push_str(space);
            out.push('}');
        }
    }
}

/// Quoted, each character as it is or as an escape.
fn quoted(text: &str, escaped: bool) -> String {
    if !escaped {
        return serde_json::to_string(text).unwrap();
    }
    let mut out = "\"".to_owned();
    for character in text.chars() {
        // Of pairs of escapes beyond this plane, Arrow makes another character.
        if character > '\u{1ffff}' {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04X}"));
        }
    }
    out + "\""
}

fn token() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        (-300i64..300).prop_map(|value| value.to_string()),
        (-20i64..20).prop_map(|value| format!("\"{value}\"")),
        any::<f64>().prop_filter("JSON has no such number", |x| x.is_finite()).prop_map(|x| format!("{x:e}")),
        (-1e6..1e6).prop_map(|x: f64| x.to_string()),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?",
        ("\\PC{0,40}", any::<bool>()).prop_map(|(text, escaped)| quoted(&text, escaped)),
        "[a-z\"\\\\\n]{0,6}".prop_map(|text| quoted(&text, false)),
        (0i64..4_000_000_000_000).prop_map(|ms| {
            let mut text = Vec::new();
            crate::formats::timestamp::write(ms * 1000, &mut text);
            format!("\"{}\"", String::from_utf8(text).unwrap())
        }),
    ]
    .prop_map(Json::Token)
}

fn number() -> impl Strategy<Value = Json> {
    prop_oneof![
        6 => (-300i64..300).prop_map(|value| Json::Token(value.to_string())),
        2 => any::<i64>().prop_map(|value| Json::Token(value.to_string())),
        1 => token(),
    ]
}

fn text() -> impl Strategy<Value = Json> {
    prop_oneof![
        6 => ("\\PC{0,40}", prop::bool::weighted(0.2)).prop_map(|(text, escaped)| Json::Token(quoted(&text, escaped))),
        1 => token(),
    ]
}

fn name(text: &'static str) -> impl Strategy<Value = String> {
    prop::bool::weighted(0.05).prop_map(move |escaped| quoted(text, escaped))
}

fn any_json() -> impl Strategy<Value = Json> {
    token().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::List),
            prop::collection::vec(("[a-z]{1,2}".prop_map(|name| quoted(&name, false)), inner), 0..4)
                .prop_map(Json::Object),
        ]
    })
}

fn point_json() -> impl Strategy<Value = Json> {
    let field = prop_oneof![
        4 => (name("a"), (-300i64..300).prop_map(|value| Json::Token(value.to_string()))),
        4 => (name("b"), text()),
        4 => (name("l"), prop::collection::vec(number(), 0..4).prop_map(Json::List)),
        1 => (name("other"), any_json()),
        1 => (name("l"), any_json()),
    ];
    prop_oneof![
        6 => prop::collection::vec(field, 0..5).prop_map(Json::Object),
        1 => Just(Json::Token("null".to_owned())),
    ]
}

/// A record, and whether some field comes twice in it.
pub fn document() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let boolean = any::<bool>().prop_map(|value| Json::Token(value.to_string()));
    let field = prop_oneof![
        6 => (name("a"), number()),
        6 => (name("b"), text()),
        3 => (name("x"), number()),
        3 => (name("y"), number()),
        3 => (name("ok"), boolean),
        3 => (name("at"), number()),
        6 => (name("s"), point_json()),
        3 => (name("l"), prop::collection::vec(text(), 0..4).prop_map(Json::List)),
        3 => (name("p"), prop::collection::vec(point_json(), 0..4).prop_map(Json::List)),
        2 => (name("small"), (0i64..300).prop_map(|value| Json::Token(value.to_string()))),
        3 => (name("é\n"), text()),
        2 => (name("unwanted"), any_json()),
    ];
    let fields = prop_oneof![
        8 => prop::collection::vec(field, 0..9).prop_map(Json::Object),
        1 => any_json(),
    ];
    (fields, prop::sample::select(vec!["", "", " ", " \n\t\r"])).prop_map(|(json, space)| {
        let mut out = space.to_owned();
        write(&json, space, &mut out);
        out.push_str(space);
        (out.into_bytes(), repeats(&json))
    })
}

pub fn record() -> impl Strategy<Value = Vec<u8>> {
    document().prop_map(|(record, _)| record)
}

fn repeats(json: &Json) -> bool {
    match json {
        Json::Token(_) => false,
        Json::List(items) => items.iter().any(repeats),
        Json::Object(fields) => {
            let names: HashSet<String> = fields.iter().map(|(name, _)| serde_json::from_str(name).unwrap()).collect();
            names.len() < fields.len() || fields.iter().any(|(_, value)| repeats(value))
        }
    }
}
