//! Windows over what other queries give: which are answered once, and how long they wait.

use super::planned;

const WINDOW: &str =
    "SELECT card, window_end, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(ts), INTERVAL '10 seconds'))
    GROUP BY card, window_start, window_end";

fn plan(view: &str, query: &str) -> String {
    planned(&format!(
        "CREATE TABLE others (card VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'datagen');
         CREATE TABLE early (card VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts)
           WITH (connector = 'datagen', allowed_lateness = '1 minute');
         CREATE TABLE names (card VARCHAR, name VARCHAR) WITH (connector = 'files', path = 'names');
         CREATE VIEW v AS {view}; {query}"
    ))
}

/// Rows that stay and come in time, behind whatever gives them, are answered once.
#[test]
fn what_stays_is_answered_once() {
    let first = "ROW_NUMBER() OVER (PARTITION BY card ORDER BY ts)";
    let cases = [
        (
            format!("SELECT card, ts FROM (SELECT *, {first} AS n FROM payments) WHERE n = 1"),
            "top: first 1 by card in order of ts, once the watermark has passed",
        ),
        (
            format!("SELECT card, ts, n FROM (SELECT *, {first} AS n FROM payments) WHERE n <= 3 AND n > 1"),
            "top: first 3",
        ),
        (
            format!(
                "SELECT f.card, f.ts FROM (SELECT card, ts FROM (SELECT *, {first} AS n FROM payments) WHERE n = 1) f
                 JOIN (SELECT card, ts FROM (SELECT *, {first} AS n FROM others) WHERE n = 1) o
                 ON f.card = o.card AND f.ts BETWEEN o.ts - INTERVAL '1 second' AND o.ts"
            ),
            "join: inner on card = card within",
        ),
        (
            "SELECT card, ts FROM (SELECT *, SUM(amount) OVER (PARTITION BY card ORDER BY ts) AS s FROM payments) WHERE s > 1".to_string(),
            "in order of ts, once the watermark has passed",
        ),
        ("SELECT DISTINCT card, ts FROM payments".to_string(), "group: by card, ts: "),
        ("SELECT card, ts FROM payments UNION SELECT card, ts FROM others".to_string(), "union: all rows"),
        (
            "SELECT p.card, p.ts FROM payments p LEFT JOIN others o ON p.card = o.card AND p.ts = o.ts".to_string(),
            "join: left on card = card",
        ),
    ];
    for (view, wanted) in cases {
        let text = plan(&view, WINDOW);
        assert!(text.contains("window: tumble 10s by card") && text.contains(wanted), "{text}");
        assert!(!text.contains("[changes]"), "{text}");
    }
}

/// Until a table has ended that has no watermark there is none at all, and afterwards nothing comes of it.
#[test]
fn tables_that_end_are_waited_for() {
    for (view, changes) in [
        ("SELECT p.card, p.ts, name FROM payments p JOIN names n ON p.card = n.card", false),
        ("SELECT card, ts FROM payments WHERE card IN (SELECT card FROM names)", false),
        ("SELECT p.card, p.ts, name FROM payments p LEFT JOIN names n ON p.card = n.card", true),
        ("SELECT card, ts FROM payments p WHERE NOT EXISTS (SELECT 1 FROM names n WHERE n.card = p.card)", true),
        (
            "SELECT p.card, p.ts FROM payments p JOIN (SELECT card, COUNT(*) AS n FROM names GROUP BY card) q
             ON p.card = q.card AND p.amount > q.n",
            true,
        ),
    ] {
        let text = plan(view, WINDOW);
        let at = text.find("window: tumble 10s by card").unwrap_or_else(|| panic!("{text}"));
        assert!(!text[..at].contains("[changes]") && text[at..].contains("[changes]") == changes, "{text}");
    }
}

/// First rows wait for the watermark only where a window needs them to.
#[test]
fn first_rows_alone_are_said_at_once() {
    let view = "SELECT card, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY card ORDER BY ts) AS n FROM payments) WHERE n = 1";
    let text = plan(view, "SELECT card, ts FROM v");
    assert!(text.contains("top: first 1 by card in order of ts [changes]"), "{text}");
}

/// A changelog whose rows are taken back only while their windows are open is answered once too.
#[test]
fn what_changes_in_time_is_answered_once() {
    let best = WINDOW.replace("COUNT(*) AS n", "MAX(n) AS n");
    for view in [
        "SELECT card, ts, COUNT(*) AS n FROM payments GROUP BY card, ts",
        "SELECT card, ts, n FROM (SELECT card, ts, ROW_NUMBER() OVER (PARTITION BY ts ORDER BY amount) AS n FROM payments) WHERE n < 3",
        "SELECT card, ts, MAX(amount) OVER (PARTITION BY ts, card ORDER BY amount DESC) AS n FROM payments",
        "SELECT a.card, a.ts, a.n FROM (SELECT card, ts, COUNT(*) AS n FROM payments GROUP BY card, ts) a
         JOIN others o ON a.card = o.card AND a.ts = o.ts",
    ] {
        for (query, window) in [
            (best.clone(), "window: tumble 10s"),
            (best.replace("TUMBLE(TABLE v", "SESSION(TABLE v PARTITION BY card"), "window: session 10s"),
        ] {
            let text = plan(view, &query);
            let at = text.find(window).unwrap_or_else(|| panic!("{text}"));
            assert!(!text[..at].contains("[changes]") && text[at..].contains("[changes]"), "{text}");
        }
    }
    let late = plan("SELECT card, ts, COUNT(*) AS n FROM early GROUP BY card, ts", &best);
    assert!(late.contains("again for rows that are 60s late [changes]"), "{late}");
}

/// Where rows come or are taken back long after the watermark, windows are groups without end.
#[test]
fn what_changes_later_is_answered_as_it_changes() {
    for view in [
        "SELECT card, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY card ORDER BY ts DESC) AS n FROM payments) WHERE n = 1",
        "SELECT p.card, p.ts FROM payments p JOIN others o ON p.card = o.card",
        "SELECT p.card, o.ts FROM payments p JOIN others o ON p.card = o.card AND p.ts > o.ts",
        "SELECT card, ts FROM (SELECT *, LEAD(amount) OVER (PARTITION BY card ORDER BY ts) AS n FROM payments) WHERE n > 1",
        "SELECT card, ts FROM payments WHERE NOT EXISTS (SELECT 1 FROM others WHERE others.card = payments.card)",
        // Of two event times a join waits for one.
        "SELECT a.card, a.ts FROM (SELECT p.card, p.ts, o.ts AS ots FROM payments p JOIN others o
           ON p.card = o.card AND p.ts BETWEEN o.ts - INTERVAL '1 hour' AND o.ts) a
         JOIN early e ON a.card = e.card AND a.ots = e.ts",
    ] {
        let text = plan(view, WINDOW);
        assert!(text.contains("group: by card, window_start, window_end: count(Int64(1)) [changes]"), "{text}");
        assert!(text.contains("IS NOT NULL") && !text.contains("window:"), "{text}");
        let again = "CREATE VIEW w AS SELECT window_time, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(ts), INTERVAL '1 second'))
               GROUP BY window_start, window_end, window_time;
             SELECT SUM(n) AS n FROM TABLE(TUMBLE(TABLE w, DESCRIPTOR(window_time), INTERVAL '10 seconds'))
             GROUP BY window_start, window_end";
        let text = plan(view, again);
        assert!(!text.contains("window:"), "{text}");
    }
}

/// A time that may be earlier than event time is waited for so much longer.
#[test]
fn times_near_event_time_are_waited_for() {
    for (time, wanted) in [
        ("ts - INTERVAL '1 hour'", Some("hold: event time 3600s behind")),
        ("ts + INTERVAL '1 hour'", None),
        ("date_trunc('minute', ts)", Some("hold: event time 60s behind")),
        ("date_bin(INTERVAL '5 seconds', ts - INTERVAL '2 seconds')", Some("hold: event time 7s behind")),
        ("date_trunc('hour', ts + INTERVAL '20 minutes')", Some("hold: event time 2400s behind")),
        ("ts - INTERVAL '1 month'", Some("hold: event time 2678400s behind")),
    ] {
        let text = plan(&format!("SELECT card, {time} AS ts FROM payments"), WINDOW);
        assert_eq!(text.contains("hold:"), wanted.is_some(), "of {time}: {text}");
        assert!(wanted.is_none_or(|wanted| text.contains(wanted)) && !text.contains("[changes]"), "of {time}: {text}");
    }
    let late = plan("SELECT card, ts - INTERVAL '1 second' AS ts FROM early", WINDOW);
    assert!(late.contains("hold: event time 1s behind") && late.contains("again for rows that are 60s late"), "{late}");
}

/// Rows in windows that nobody aggregates carry their bounds, by which what is above them goes on.
#[test]
fn rows_of_windows() {
    let hop =
        |table: &str| format!("TABLE(HOP(TABLE {table}, DESCRIPTOR(ts), INTERVAL '5 seconds', INTERVAL '10 seconds'))");
    let (one, other) = (hop("payments"), hop("others"));
    let text = planned(&format!("SELECT card, window_start FROM {one}"));
    assert!(text.contains("unnest: items of window") && !text.contains("[changes]"), "{text}");
    let joined = format!(
        "CREATE TABLE others (card VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'datagen');
         SELECT a.card, a.window_end FROM {one} a JOIN {other} b ON a.card = b.card AND a.window_end = b.window_end"
    );
    let text = planned(&joined);
    assert!(text.contains("within 0s to 0s") && !text.contains("hold:"), "{text}");
    let text = planned(&joined.replace("a.window_end = b.window_end", "a.window_start = b.window_start"));
    assert!(text.contains("within 0s to 0s") && text.matches("hold: event time 10s behind").count() == 2, "{text}");
    // A condition on the bounds: grouping by them still answers once.
    let text = planned(&format!(
        "SELECT window_start, window_end, COUNT(*) AS n FROM {one} WHERE window_end > TIMESTAMP '2026-01-01T00:00:00Z'
         GROUP BY window_start, window_end"
    ));
    assert!(text.contains("window: tumble 0.001ms") && !text.contains("[changes]"), "{text}");
}

#[test]
fn windows_begin_at_an_offset() {
    for (offset, wanted) in [
        ("8 hours", "tumble 86400s from 28800s"),
        ("-2 hours", "tumble 86400s from 79200s"),
        ("24 hours", "tumble 86400s:"),
    ] {
        let text = planned(&format!(
            "SELECT COUNT(*) AS n FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1 day', INTERVAL '{offset}'))
             GROUP BY window_start, window_end"
        ));
        assert!(text.contains(wanted), "{text}");
        let named = planned(&format!(
            "SELECT COUNT(*) AS n FROM TABLE(TUMBLE(DATA => TABLE payments, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1 day',
               \"offset\" => INTERVAL '{offset}')) GROUP BY window_start, window_end"
        ));
        assert_eq!(named, text);
    }
}
