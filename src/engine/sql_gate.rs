//! Which SQL is let in: one statement that only reads, small enough to be parsed and planned safely.
//!
//! Checked before parsing: bytes, operators, nesting, because a parser's recursion is bounded by the text alone.
//! Checked on the logical plan: statements, functions that make much out of little. What DataFusion itself can
//! forbid (DDL, DML, SET) is forbidden there as well.

use std::collections::VecDeque;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Longest statement. An order of magnitude above what people write by hand.
pub const SQL_BYTES_MAX: usize = 64 * 1024;
/// Most operators and keywords that build expressions. A flat chain of about 2,000 `+` ends a process with a small
/// stack (datafusion issue 22229); a query written by a person has some dozens.
pub const SQL_OPERATORS_MAX: usize = 500;
/// Deepest nesting of parentheses and brackets.
pub const SQL_NESTING_MAX: usize = 32;

/// Functions that turn a short argument into a long value, past every memory account.
const DENIED_FUNCTIONS: [&str; 4] = ["repeat", "rpad", "lpad", "array_repeat"];

/// SQL that is not let in; the words say what to change.
#[derive(Debug, thiserror::Error)]
pub enum SqlRefused {
    #[error("the statement has {0} bytes; at most {SQL_BYTES_MAX} are taken")]
    TooLong(usize),
    #[error("the statement has more than {SQL_OPERATORS_MAX} operators")]
    TooManyOperators,
    #[error("the statement is nested deeper than {SQL_NESTING_MAX}")]
    TooDeep,
    #[error("there is no statement")]
    Empty,
    #[error("there are {0} statements; send one at a time")]
    SeveralStatements(usize),
    #[error("only queries are answered, not {0}: this table is read-only")]
    NotAQuery(String),
    #[error("the function {0} is not available here")]
    DeniedFunction(String),
    #[error("recursive queries are not available here")]
    Recursive,
    #[error("{0}")]
    Syntax(String),
}

/// The one query in the text, parsed.
pub fn parse(sql: &str) -> Result<Statement, SqlRefused> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(SqlRefused::TooLong(sql.len()));
    }
    check_tokens(sql)?;
    let dialect = GenericDialect {};
    let mut statements: VecDeque<Statement> = DFParserBuilder::new(sql)
        .with_dialect(&dialect)
        .with_recursion_limit(SQL_NESTING_MAX * 4)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| SqlRefused::Syntax(syntax_message(&error)))?;
    let count = statements.len();
    let statement = match (statements.pop_front(), count) {
        (None, _) => return Err(SqlRefused::Empty),
        (Some(statement), 1) => statement,
        _ => return Err(SqlRefused::SeveralStatements(count)),
    };
    check_statement(&statement)?;
    Ok(statement)
}

fn syntax_message(error: &DataFusionError) -> String {
    error.strip_backtrace().trim_start_matches("SQL error: ").to_owned()
}

fn check_tokens(sql: &str) -> Result<(), SqlRefused> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql).tokenize().map_err(|error| SqlRefused::Syntax(error.to_string()))?;
    let (mut operators, mut depth) = (0usize, 0usize);
    for token in &tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                depth += 1;
                if depth > SQL_NESTING_MAX {
                    return Err(SqlRefused::TooDeep);
                }
            }
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            // Words that nest or chain expressions and queries without a parenthesis.
            Token::Word(word)
                if [
                    "AND",
                    "OR",
                    "NOT",
                    "CASE",
                    "WHEN",
                    "UNION",
                    "EXCEPT",
                    "INTERSECT",
                    "JOIN",
                    "IS",
                    "LIKE",
                    "BETWEEN",
                ]
                .iter()
                .any(|keyword| word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword)) =>
            {
                operators += 1;
            }
            Token::Word(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Whitespace(_)
            | Token::Comma
            | Token::Period
            | Token::SemiColon => {}
            _ => operators += 1,
        }
    }
    if operators > SQL_OPERATORS_MAX { Err(SqlRefused::TooManyOperators) } else { Ok(()) }
}

fn check_statement(statement: &Statement) -> Result<(), SqlRefused> {
    match statement {
        Statement::Statement(statement) => match statement.as_ref() {
            ast::Statement::Query(query) => {
                if query.with.as_ref().is_some_and(|with| with.recursive) {
                    return Err(SqlRefused::Recursive);
                }
                Ok(())
            }
            other => Err(SqlRefused::NotAQuery(first_word(&other.to_string()))),
        },
        Statement::Explain(explain) if explain.options.analyze => Err(SqlRefused::NotAQuery("EXPLAIN ANALYZE".into())),
        Statement::Explain(explain) => check_statement(&explain.statement),
        other => Err(SqlRefused::NotAQuery(first_word(&other.to_string()))),
    }
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or("that").to_uppercase()
}

/// Looks through the whole logical plan, subqueries included.
pub fn check_plan(plan: &LogicalPlan) -> Result<(), SqlRefused> {
    let mut refused = None;
    let walked = plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::RecursiveQuery(_) => refused = Some(SqlRefused::Recursive),
            LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_) => {
                refused = Some(SqlRefused::NotAQuery(first_word(&node.display().to_string())));
            }
            _ => {}
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(function) = expr
                    && DENIED_FUNCTIONS.contains(&function.name())
                {
                    refused = Some(SqlRefused::DeniedFunction(function.name().to_owned()));
                }
                Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    });
    match (refused, walked) {
        (Some(refused), _) => Err(refused),
        (None, Ok(_)) => Ok(()),
        (None, Err(error)) => Err(SqlRefused::Syntax(error.strip_backtrace())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &str) {
        let message = match parse(sql) {
            Ok(_) => "ok".to_owned(),
            Err(refused) => refused.to_string(),
        };
        assert!(message.contains(expected), "{:.80}: {message}", sql);
    }

    #[test]
    fn one_query_is_let_in() {
        check("SELECT 1", "ok");
        check("  -- a comment\nWITH a AS (SELECT 1) SELECT * FROM a;", "ok");
        check("EXPLAIN SELECT 1", "ok");
        check("(SELECT 1) UNION ALL SELECT 2", "ok");
        check("VALUES (1)", "ok");
    }

    #[test]
    fn everything_else_is_refused_in_words() {
        check("", "no statement");
        check(";", "no statement");
        check("SELECT 1; SELECT 2", "2 statements");
        for (sql, word) in [
            ("DROP TABLE observations", "DROP"),
            ("CREATE TABLE t AS SELECT 1", "CREATE"),
            ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc'", "CREATE"),
            ("INSERT INTO observations VALUES (1)", "INSERT"),
            ("DELETE FROM observations", "DELETE"),
            ("UPDATE observations SET aqi = 1", "UPDATE"),
            ("COPY observations TO '/tmp/x'", "COPY"),
            ("SET datafusion.execution.batch_size = 1", "SET"),
            ("EXPLAIN ANALYZE SELECT 1", "EXPLAIN ANALYZE"),
            ("EXPLAIN DELETE FROM observations", "DELETE"),
            ("SHOW ALL", "SHOW"),
        ] {
            check(sql, &format!("not {word}"));
        }
        check("WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT * FROM a) SELECT * FROM a", "recursive");
        check("SELEC 1", "ound: SELEC");
        check("SELECT 'open", "nterminated");
    }

    #[test]
    fn size_is_bounded_before_parsing() {
        check(&format!("SELECT 1{}", " + 1".repeat(400)), "ok");
        check(&format!("SELECT 1{}", " + 1".repeat(2000)), "more than 500 operators");
        check(&format!("SELECT {}1{}", "(".repeat(40), ")".repeat(40)), "nested deeper");
        check(&format!("SELECT '{}'", "x".repeat(SQL_BYTES_MAX)), "bytes");
        check(&format!("SELECT {} true", "NOT ".repeat(2000)), "more than 500 operators");
    }
}
