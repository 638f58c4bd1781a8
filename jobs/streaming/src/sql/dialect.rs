//! The words that the expression and query parser accepts beyond its generic dialect.
//!
//! `TABLE t PARTITION BY a, b` as an argument of a table function becomes the call `table(t, a, b)`, because the parser has
//! no form of its own for it; nothing else produces a call of that name with unquoted, single names.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    ObjectNamePart,
};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use std::any::TypeId;

/// Name of the call that stands for a `TABLE t` argument.
pub(crate) const TABLE_ARGUMENT: &str = "table";

#[derive(Debug)]
pub(crate) struct StreamDialect {
    /// Whether a table's name may be followed by its version. The parser would then take a few words for one that name
    /// tables otherwise, so this is said only where `FOR SYSTEM_TIME` is written.
    pub(crate) versions: bool,
}

impl Dialect for StreamDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"' || ch == '`'
    }

    /// So that it is refused by its name.
    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn supports_table_versioning(&self) -> bool {
        self.versions
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_within_after_array_aggregation(&self) -> bool {
        true
    }

    fn supports_left_associative_joins_without_parens(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn supports_dictionary_syntax(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    fn supports_map_literal_with_angle_brackets(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_try_convert(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_named_fn_args_with_rarrow_operator(&self) -> bool {
        true
    }

    /// Steps into JSON bind more tightly than arithmetic and comparisons, not less: `x ->> 'a' = 'b'` compares the step.
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match parser.peek_token_ref().token {
            Token::Arrow | Token::LongArrow | Token::HashArrow | Token::HashLongArrow => {
                Some(Ok(self.prec_value(Precedence::MulDivModOp) + 5))
            }
            _ => None,
        }
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let [first, second] = parser.peek_tokens();
        match (first, second) {
            (Token::Word(table), Token::Word(_)) if table.keyword == Keyword::TABLE && table.quote_style.is_none() => {
                Some(table_argument(parser))
            }
            _ => None,
        }
    }
}

fn table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    let keyword = parser.next_token();
    let mut names = vec![parser.parse_identifier()?];
    if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        names.push(parser.parse_identifier()?);
        // A comma may also begin the function's next argument, which is no plain name.
        while let [Token::Comma, Token::Word(_), Token::Comma | Token::RParen] = parser.peek_tokens() {
            parser.next_token();
            names.push(parser.parse_identifier()?);
        }
    }
    let args = names.into_iter().map(|name| FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(name))));
    Ok(Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::with_span(keyword.span, TABLE_ARGUMENT))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }))
}
