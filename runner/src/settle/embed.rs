//! SQL that stands inside a TOML or YAML value: brings mistakes in it to their place in the outer file.

use super::document::Span;
use jobs::Diagnostic;
use jobs::diagnostic::line_column;

pub struct Embedded<'a> {
    /// The SQL, as its language sees it.
    sql: &'a str,
    /// Where the whole value stands in the outer file.
    span: Span,
    /// Where the SQL begins in the outer file, if it stands there letter by letter.
    begin: Option<usize>,
}

impl<'a> Embedded<'a> {
    pub fn new(outer: &str, span: Span, sql: &'a str) -> Self {
        // Escapes and indentation change a text, and then its places are not those of the file.
        let begin = outer.get(span.0..span.1).and_then(|written| written.find(sql)).map(|at| span.0 + at);
        Self { sql, span, begin }
    }

    pub fn place(&self, mut diagnostic: Diagnostic) -> Diagnostic {
        diagnostic.span = Some(match (diagnostic.span, self.begin) {
            (Some((start, end)), Some(begin)) => (begin + start, begin + end),
            (None, _) => self.span,
            (Some((start, _)), None) => {
                let (line, column) = line_column(self.sql, start);
                diagnostic.message = format!("line {line}, column {column} of this SQL: {}", diagnostic.message);
                self.span
            }
        });
        diagnostic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_file_where_the_text_stands_as_it_is() {
        let outer = "sql = '''\nSELECT x\n'''\n";
        let at = outer.find("'''").unwrap();
        let sql = "SELECT x\n";
        let mistake = Diagnostic::new("no x").at((7, 8));
        let placed = Embedded::new(outer, (at, outer.len() - 1), sql).place(mistake.clone());
        let (start, end) = placed.span.unwrap();
        assert_eq!(&outer[start..end], "x");
        // Escaped in the file: the value as a whole, and the place in words.
        let outer = "sql = \"SELECT\\tx\"";
        let placed = Embedded::new(outer, (6, outer.len()), "SELECT\tx").place(mistake);
        assert_eq!(placed.span, Some((6, outer.len())));
        assert_eq!(placed.message, "line 1, column 8 of this SQL: no x");
    }
}
