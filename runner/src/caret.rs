//! Shows mistakes in a job file to a person: the line, a caret under the word, and the way out. All of them, in the
//! order of the file.

use jobs::Diagnostic;
use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, NamedSource, SourceCode,
    SourceSpan, SpanContents, ThemeCharacters, ThemeStyles,
};
use std::fmt;
use std::io::IsTerminal;

/// The mistakes of `text`, as shown on a terminal.
pub fn render(text: &str, file: &str, diagnostics: &[Diagnostic], colour: bool) -> String {
    let mut characters = ThemeCharacters::unicode();
    characters.underline = '^';
    characters.underbar = '^';
    characters.error = "error:".to_string();
    let styles = if colour { ThemeStyles::ansi() } else { ThemeStyles::none() };
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme { characters, styles })
        .with_width(120)
        .with_wrap_lines(false)
        .with_links(false);
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by_key(|diagnostic| diagnostic.span);
    let text_shown = connectors::secrets::hide(text).into_owned();
    let source = Source { file: file.to_string(), inner: NamedSource::new(file, text_shown.clone()), text: text_shown };
    let mut shown = String::new();
    for diagnostic in sorted {
        let mistake = Mistake { diagnostic, source: &source, text };
        // Writing to a string cannot fail; what a failure leaves out is told in one line.
        if handler.render_report(&mut shown, &mistake).is_err() {
            shown.push_str(&format!("error: {diagnostic}\n"));
        }
    }
    shown
}

/// Whether standard error is a terminal whose user did not ask for no colour.
pub fn stderr_has_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// "2 mistakes in fraud.sql".
pub fn headline(file: &str, diagnostics: &[Diagnostic]) -> String {
    match diagnostics.len() {
        1 => format!("1 mistake in {file}"),
        many => format!("{many} mistakes in {file}"),
    }
}

struct Mistake<'a> {
    diagnostic: &'a Diagnostic,
    source: &'a Source,
    text: &'a str,
}

/// The text, whose columns are counted in characters, as editors do; the library counts bytes.
#[derive(Debug)]
struct Source {
    file: String,
    inner: NamedSource<String>,
    text: String,
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let read = self.inner.read_span(span, before, after)?;
        let from = read.span().offset().min(self.text.len());
        let line = self.text.get(..from).map_or("", |text| text.rsplit('\n').next().unwrap_or_default());
        let column = line.chars().count();
        let (data, of, line_number) = (read.data(), *read.span(), read.line());
        let contents =
            MietteSpanContents::new_named(self.file.clone(), data, of, line_number, column, read.line_count());
        Ok(Box::new(contents))
    }
}

impl Mistake<'_> {
    /// The span, brought onto character boundaries of the text and made to show at least one character.
    fn span(&self) -> Option<(usize, usize)> {
        let (start, end) = self.diagnostic.span?;
        let mut start = start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = end.clamp(start, self.text.len());
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        // A caret under a whole paragraph points at nothing: the first line of it is enough.
        let first_line = self.text[start..end].find('\n').map_or(end, |at| start + at);
        Some((start, first_line.max(start)))
    }
}

impl fmt::Debug for Mistake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.diagnostic, f)
    }
}

impl fmt::Display for Mistake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl std::error::Error for Mistake<'_> {}

impl miette::Diagnostic for Mistake<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.diagnostic.span.map(|_| self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (start, end) = self.span()?;
        Some(Box::new(std::iter::once(LabeledSpan::new(None, start, end - start))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_word() {
        let text = "CREATE TABLE t (a BIGINT)\nWITH (connector = 'kafak');\n";
        let word = text.find("'kafak'").unwrap();
        let second = Diagnostic::new("unknown connector 'kafak'").at((word, word + 7)).help("did you mean 'kafka'?");
        let first = Diagnostic::new("no such type").at((18, 24));
        let shown = render(text, "first.sql", &[second, first, Diagnostic::new("the file is empty")], false);
        let lines: Vec<&str> = shown.lines().collect();
        let at = lines.iter().position(|line| line.contains("WITH (connector")).unwrap();
        // The columns of the word and of its carets, counted in characters because the frame is not ASCII.
        let column = |line: &str, pattern: &str| line.find(pattern).map(|at| line[..at].chars().count());
        let under = lines.iter().find(|line| line.contains("^^^^^^^")).unwrap();
        assert_eq!(column(lines[at], "'kafak'"), column(under, "^^^^^^^"), "{shown}");
        assert!(shown.contains("first.sql:2:19"), "{shown}");
        assert!(shown.contains("did you mean 'kafka'?"), "{shown}");
        assert!(shown.find("no such type").unwrap() < shown.find("unknown connector").unwrap(), "{shown}");
        assert!(shown.contains("the file is empty"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn columns_are_counted_in_characters() {
        let text = "SELECT 'größe' AS g, x\n";
        let at = text.find(" x").unwrap() + 1;
        let shown = render(text, "q.sql", &[Diagnostic::new("unknown column 'x'").at((at, at + 1))], false);
        assert!(shown.contains("q.sql:1:22"), "{shown}");
    }

    #[test]
    fn spans_that_lie_do_not_panic() {
        for span in [(0, 0), (3, 900), (500, 400), (1, 2), (5, 5)] {
            render("é\nxä", "f", &[Diagnostic::new("m").at(span)], true);
        }
        render("", "f", &[Diagnostic::new("m").at((0, 0))], false);
    }
}
