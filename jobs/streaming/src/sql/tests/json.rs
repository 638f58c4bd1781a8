//! JSON within text: the operators, the functions, and where they are refused.

use super::running::{self, batch, streamed};
use super::{mistakes, planned};

#[test]
fn steps_of_operators_are_one_call_that_binds_tightly() {
    let plan =
        planned("SELECT b -> 'x' -> 0 ->> 'y' || '!' AS t FROM plain WHERE b ->> 'k' = 'v' AND NOT b -> 'n' IS NULL");
    assert!(plan.contains("json_get_str(b, x, 0, y) || !"), "{plan}");
    assert!(plan.contains("json_get_str(b, k) = v"), "{plan}");
}

#[test]
fn the_answer_of_a_stream_is_that_of_a_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "{} CREATE VIEW docs AS SELECT id, card,
             CASE WHEN card = 3 THEN 'nothing' WHEN card = 4 THEN NULL ELSE
               '{{\"card\": ' || card || ', \"tags\": [\"' || shop || '\", ' || amount || ', null], \"in\": {{\"rate\": 0.5, \"big\": true}}}}' END AS d
           FROM payments WHERE id < 200",
        running::TABLES
    );
    for sql in [
        "SELECT id, d -> 'card' AS c, d -> 'tags' ->> 0 AS s, d -> 'tags' -> -1 AS n, d ->> 'in' AS i FROM docs",
        "SELECT id, json_get_int(d, 'card') + 1 AS c, json_get_float(d, 'in', 'rate') AS r, json_get_bool(d, 'in', 'big') AS b,
           json_length(d, 'tags') AS l, json_length(d) AS m, json_contains(d, 'in', 'none') AS h FROM docs",
        "SELECT id, json_extract(d, '$.tags[1]') AS a, is_json(d) AS j, json_get(d, 'in', 'rate') AS r, json_get_str(d, 'in') FROM docs",
        "SELECT d ->> 'card' AS c, COUNT(*) AS n, SUM(json_get_int(d, 'tags', 1)) AS s FROM docs WHERE is_json(d) GROUP BY d ->> 'card'",
    ] {
        let wanted = batch(&text, sql, folder.path());
        assert!(wanted.len() > 3, "too few rows to tell: {wanted:?}");
        for (tasks, slices) in [(1, 1), (2, 2)] {
            assert_eq!(streamed(&text, sql, tasks, slices, folder.path()), wanted, "of {sql}");
        }
    }
    let one = "SELECT d -> 'tags' ->> 0 = shop AS same, json_get_int(d, 'tags', 1) = amount AS too FROM
        (SELECT shop, amount, '{\"tags\": [\"' || shop || '\", ' || amount || ']}' AS d FROM payments WHERE id < 3)";
    assert_eq!(batch(&text, one, folder.path())[1..], ["true true", "true true", "true true"]);
}

#[test]
fn what_is_refused() {
    let cases = [
        (
            "SELECT json_get(a, 'x') FROM plain",
            "<json_get> json_get(json, key or index, …) takes JSON as VARCHAR, not Int64",
        ),
        ("SELECT json_get(b) FROM plain", "<json_get> json_get(json, key or index, …) does not take 1 arguments"),
        (
            "SELECT json_extract(b, 'x.y') FROM plain",
            "<json_extract> json_extract('x.y') has no path: it begins with '$'",
        ),
    ];
    for (sql, wanted) in cases {
        let found = mistakes(sql);
        assert!(found.len() == 1 && found[0].starts_with(wanted.split(' ').next().unwrap_or_default()), "{found:?}");
        assert!(found[0].contains(wanted.split_once(' ').map_or("", |(_, text)| text)), "{found:?} of {sql}");
    }
    assert_eq!(mistakes("SELECT a -> 'x' FROM plain").len(), 1);
}
