//! The texts of selectors.

use super::{FieldTerm, Operator, Requirement, SelectorError};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
}

const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", ">", "<", ",", "(", ")"];

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let symbol = SYMBOLS.into_iter().find(|s| rest.starts_with(s));
        let token = symbol.map_or_else(|| Token::Word(word(rest).to_owned()), Token::Symbol);
        let length = match &token {
            Token::Word(word) => word.len(),
            Token::Symbol(symbol) => symbol.len(),
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    tokens
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| c.is_whitespace() || "=!><,()".contains(c));
    &text[..end.unwrap_or(text.len())]
}

struct Parser {
    tokens: std::vec::IntoIter<Token>,
}

impl Parser {
    fn next(&mut self) -> Option<Token> {
        self.tokens.next()
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.as_slice().first()
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Symbol(s)) if *s == symbol);
        if found {
            self.next();
        }
        found
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.take("!");
        let key = match self.next() {
            Some(Token::Word(key)) => key,
            other => return Err(unexpected(other.as_ref(), "identifier")),
        };
        check_key(&key)?;
        if absent {
            return Ok(Requirement { key, operator: Operator::DoesNotExist });
        }
        if matches!(self.peek(), None | Some(Token::Symbol(","))) {
            return Ok(Requirement { key, operator: Operator::Exists });
        }
        let operator = self.operator()?;
        Ok(Requirement { key, operator })
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        match self.next() {
            Some(Token::Symbol("=" | "==")) => Ok(Operator::In(vec![self.value()?])),
            Some(Token::Symbol("!=")) => Ok(Operator::NotIn(vec![self.value()?])),
            Some(Token::Symbol(">")) => Ok(Operator::GreaterThan(self.number()?)),
            Some(Token::Symbol("<")) => Ok(Operator::LessThan(self.number()?)),
            Some(Token::Word(word)) if word == "in" => Ok(Operator::In(self.values()?)),
            Some(Token::Word(word)) if word == "notin" => Ok(Operator::NotIn(self.values()?)),
            other => Err(unexpected(other.as_ref(), "in, notin, =, ==, !=, gt, lt")),
        }
    }

    /// One value; nothing before a comma or the end is the empty value.
    fn value(&mut self) -> Result<String, SelectorError> {
        let value = match self.peek() {
            None | Some(Token::Symbol(",")) => String::new(),
            Some(Token::Word(_)) => self.word(),
            other => return Err(unexpected(other, "identifier")),
        };
        check_value(&value)?;
        Ok(value)
    }

    fn word(&mut self) -> String {
        match self.next() {
            Some(Token::Word(word)) => word,
            _ => String::new(),
        }
    }

    fn number(&mut self) -> Result<i64, SelectorError> {
        let text = self.value()?;
        let wrong = || {
            let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
            SelectorError(format!("values[0]: Invalid value: {text:?}: {detail}"))
        };
        text.parse().map_err(|_| wrong())
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        if !self.take("(") {
            return Err(unexpected(self.peek(), "'('"));
        }
        let mut values = Vec::new();
        loop {
            let value = if matches!(self.peek(), Some(Token::Word(_))) { self.word() } else { String::new() };
            check_value(&value)?;
            values.push(value);
            if self.take(",") {
                continue;
            }
            if self.take(")") {
                return Ok(values);
            }
            return Err(unexpected(self.peek(), "',' or ')'"));
        }
    }
}

pub(super) fn labels(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let wrap = |e: SelectorError| SelectorError(format!("unable to parse requirement: {e}"));
    let mut parser = Parser { tokens: tokens(text).into_iter() };
    let mut requirements = Vec::new();
    while parser.peek().is_some() {
        requirements.push(parser.requirement().map_err(wrap)?);
        match parser.next() {
            None => break,
            Some(Token::Symbol(",")) if parser.peek().is_some() => {}
            Some(Token::Symbol(",")) => return Err(wrap(unexpected(None, "identifier after ','"))),
            other => {
                return Err(SelectorError(format!(
                    "found '{}', expected: ',' or 'end of string'",
                    show(other.as_ref())
                )));
            }
        }
    }
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(requirements)
}

fn unexpected(token: Option<&Token>, expected: &str) -> SelectorError {
    SelectorError(format!("found '{}', expected: {expected}", show(token)))
}

fn show(token: Option<&Token>) -> String {
    match token {
        None => String::new(),
        Some(Token::Word(word)) => word.clone(),
        Some(Token::Symbol(symbol)) => (*symbol).to_owned(),
    }
}

const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
     start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const MAX_NAME_BYTES: usize = 63;

fn check_value(value: &str) -> Result<(), SelectorError> {
    if value.len() > MAX_NAME_BYTES {
        return Err(SelectorError(format!("values[0]: Invalid value: {value:?}: must be no more than 63 bytes")));
    }
    if value.is_empty() || is_name(value) {
        return Ok(());
    }
    Err(SelectorError(format!("values[0]: Invalid value: {value:?}: {LABEL_VALUE}")))
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    if name.len() <= MAX_NAME_BYTES && is_name(name) {
        return Ok(());
    }
    // Upstream's parser has no path to name here, and says so.
    Err(SelectorError(format!("<nil>: Invalid value: {key:?}: {QUALIFIED_NAME}")))
}

fn is_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    edge(text.chars().next()) && edge(text.chars().last()) && text.chars().all(inner)
}

pub(super) fn fields(text: &str) -> Result<Vec<FieldTerm>, SelectorError> {
    split_unescaped(text).into_iter().filter(|part| !part.is_empty()).map(|part| field_term(part, text)).collect()
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        if c == ',' && !escaped {
            parts.push(&text[start..at]);
            start = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(&text[start..]);
    parts
}

fn field_term(part: &str, whole: &str) -> Result<FieldTerm, SelectorError> {
    let wrong = || SelectorError(format!("invalid selector: '{whole}'; can't understand '{part}'"));
    let (at, operator) =
        part.char_indices().find_map(|(at, _)| operator_at(&part[at..]).map(|op| (at, op))).ok_or_else(wrong)?;
    let value = unescape(&part[at + operator.len()..])?;
    Ok(FieldTerm { field: part[..at].to_owned(), value, equal: operator != "!=" })
}

fn operator_at(text: &str) -> Option<&'static str> {
    ["!=", "==", "="].into_iter().find(|op| text.starts_with(op))
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => value.push(c),
                other => {
                    let found = other.map(String::from).unwrap_or_default();
                    return Err(SelectorError(format!("invalid field selector: invalid escape sequence: \\{found}")));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!("invalid field selector: unescaped character in value: {c}")));
            }
            c => value.push(c),
        }
    }
    Ok(value)
}
