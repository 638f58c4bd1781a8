//! How long a chain of operators may be.
//!
//! `a + b + c + …` and `p OR q OR …` are trees as deep as they are long, and so are queries with as many set operations or
//! joins. Everything that is done with them goes down into them, on a stack that ends; what is nested in parentheses the SQL
//! parser bounds itself.

use super::text::Tok;
use datafusion::sql::sqlparser::tokenizer::Token;
use jobs::Diagnostic;

/// More than anyone writes by hand. What is planned is also gone down into on the stacks of threads that are not ours.
const MOST: usize = 128;

/// Of a thread that plans. Memory is taken as far as the stack is used.
const STACK: usize = 256 << 20;

const OPERATORS: [&str; 5] = ["AND", "OR", "XOR", "LIKE", "ILIKE"];
const RELATIONS: [&str; 4] = ["UNION", "EXCEPT", "INTERSECT", "JOIN"];
/// Words between which a chain ends; a query goes on after FROM, so that its set operations and joins count together.
const ENDS: [&str; 7] = ["WHEN", "THEN", "ELSE", "CASE", "WHERE", "HAVING", "BY"];

/// A chain that is too long, where it becomes so.
pub(crate) fn mistake(toks: &[Tok]) -> Option<Diagnostic> {
    // By open parenthesis: the operators of the chain that goes on in it, and of the query around.
    let mut chains = vec![Chain::default()];
    for tok in toks {
        match &tok.token.token {
            Token::LParen | Token::LBracket => chains.push(Chain::default()),
            Token::RParen | Token::RBracket => {
                if chains.len() > 1 {
                    chains.pop();
                }
            }
            token => chains.last_mut()?.add(tok, token),
        }
        if chains.last()?.is_too_long() {
            let error = Diagnostic::new(format!("this has more than {MOST} operators in a row")).at(tok.span);
            return Some(error.help("a list of values goes into IN (…); or name parts of it in views"));
        }
    }
    None
}

/// Plans on a stack that is deep enough for what [`mistake`] lets through, wherever this is called.
pub(crate) fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let mut work = Some(work);
    let mut done = None;
    let planner = || done = work.take().map(|work| work());
    let ran = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("planner".into()).stack_size(STACK);
        thread.spawn_scoped(scope, planner).map(std::thread::ScopedJoinHandle::join)
    });
    if let Ok(Err(panic)) = ran {
        std::panic::resume_unwind(panic);
    }
    match (done, work) {
        (Some(done), _) => done,
        // There is no thread to be had.
        (None, Some(work)) => work(),
        (None, None) => unreachable!("work that was taken is done, or panicked"),
    }
}

#[derive(Default)]
struct Chain {
    operators: usize,
    /// UNION, EXCEPT, INTERSECT and JOIN, which no comma ends.
    relations: usize,
}

impl Chain {
    fn add(&mut self, tok: &Tok, token: &Token) {
        if matches!(token, Token::Comma) || ENDS.iter().any(|word| tok.is(word)) {
            self.operators = 0;
        } else if RELATIONS.iter().any(|word| tok.is(word)) {
            (self.operators, self.relations) = (0, self.relations + 1);
        } else if OPERATORS.iter().any(|word| tok.is(word)) || is_operator(token) {
            self.operators += 1;
        }
    }

    fn is_too_long(&self) -> bool {
        self.operators > MOST || self.relations > MOST
    }
}

fn is_operator(token: &Token) -> bool {
    !matches!(
        token,
        Token::Word(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Comma
            | Token::Period
            | Token::Colon
            | Token::SemiColon
            | Token::LBrace
            | Token::RBrace
            | Token::Whitespace(_)
            | Token::EOF
    )
}
