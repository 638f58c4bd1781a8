//! What a line of the shell is, before anybody is asked: whether it is whole, whether it declares something, and which words
//! could go on from where it stands.

/// Offered where a word begins; what a table is called comes from the cluster.
const KEYWORDS: &[&str] = &[
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "CREATE TABLE",
    "CREATE VIEW",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "ELSE",
    "END",
    "EXPLAIN",
    "FILTER",
    "FROM",
    "FULL JOIN",
    "GROUP BY",
    "HAVING",
    "IN",
    "INTERVAL",
    "IS NOT NULL",
    "IS NULL",
    "JOIN",
    "LEFT JOIN",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER BY",
    "OVER",
    "PARTITION BY",
    "SELECT",
    "SHOW TABLES",
    "SUM",
    "THEN",
    "UNION ALL",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Whether nothing more is to come: a command of the shell, or a statement up to its semicolon.
pub fn is_whole(line: &str) -> bool {
    let line = line.trim();
    let is_command = line.starts_with('\\') || matches!(line.trim_end_matches(';'), "exit" | "quit" | "help");
    line.is_empty() || is_command || (line.ends_with(';') && outside(line).ends_with(';'))
}

/// The text without what stands in quotes and comments.
fn outside(text: &str) -> String {
    let (mut kept, mut letters) = (String::new(), text.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' => while letters.next().is_some_and(|inner| inner != letter) {},
            '/' if letters.peek() == Some(&'*') => {
                let mut before = letters.next();
                while let Some(inner) = letters.next().filter(|inner| (before, *inner) != (Some('*'), '/')) {
                    before = Some(inner);
                }
            }
            '-' if letters.peek() == Some(&'-') => while letters.next().is_some_and(|inner| inner != '\n') {},
            letter => kept.push(letter),
        }
    }
    kept.trim_end().to_string()
}

/// Whether a statement is kept for those after it.
pub fn declares(statement: &str) -> bool {
    let upper = outside(statement).to_uppercase();
    let mut words = upper.split_whitespace();
    match words.next() {
        Some("SET") => true,
        Some("CREATE") => !matches!(words.next(), Some("MATERIALIZED" | "MODEL")),
        _ => false,
    }
}

/// Where the word before the cursor begins, and what it could become.
pub fn completions(line: &str, cursor: usize, names: &[String]) -> (usize, Vec<String>) {
    let before = &line[..cursor];
    let begin = before
        .rfind(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
        .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
    let word = &before[begin..];
    if word.is_empty() {
        return (begin, Vec::new());
    }
    let fits = |candidate: &str| candidate.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let is_lower = word.chars().all(char::is_lowercase);
    let keywords = KEYWORDS.iter().filter(|keyword| fits(keyword));
    let keywords = keywords.map(|keyword| if is_lower { keyword.to_lowercase() } else { (*keyword).to_string() });
    let mut found: Vec<String> = names.iter().filter(|name| fits(name)).cloned().chain(keywords).collect();
    found.dedup();
    (begin, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_with_a_semicolon_of_its_own() {
        for whole in [
            "",
            "  ",
            "\\d",
            "\\d words",
            "SELECT 1;",
            "SELECT ';' ;  ",
            "SELECT 1; -- done\n;",
            "exit",
            "quit;",
            "SELECT /* it's */ 1;",
        ] {
            assert!(is_whole(whole), "{whole}");
        }
        for part in
            ["SELECT 1", "SELECT ';", "SELECT 1 --;", "SELECT '\n;'", "SELECT \";\"", "SELECT /* 1; */", "SELECT 1 /*;"]
        {
            assert!(!is_whole(part), "{part}");
        }
    }

    #[test]
    fn what_is_kept_for_later() {
        for kept in
            ["CREATE TABLE a (b INT);", " create view v AS SELECT 1;", "SET a.b = 'c';", "-- why\nSET a.b = 'c';"]
        {
            assert!(declares(kept), "{kept}");
        }
        for asked in
            ["SELECT 1;", "CREATE MATERIALIZED VIEW v AS SELECT 1;", "CREATE MODEL m AS SELECT 1;", "", "SHOW TABLES;"]
        {
            assert!(!declares(asked), "{asked}");
        }
    }

    #[test]
    fn words_go_on_as_they_were_begun() {
        let names = ["orders".to_string(), "ÖL".to_string(), "order_id".to_string()];
        assert_eq!(completions("SELECT * FROM ord", 17, &names).1, ["orders", "order_id", "order by"]);
        assert_eq!(completions("SELECT * FROM ord", 17, &names).0, 14);
        assert_eq!(completions("sel", 3, &names), (0, vec!["select".to_string()]));
        assert_eq!(completions("é=SEL", 6, &names), (3, vec!["SELECT".to_string()]));
        assert_eq!(completions("Ö", 2, &names), (0, vec!["ÖL".to_string()]));
        assert_eq!(completions("SELECT ", 7, &names), (7, vec![]));
    }
}
