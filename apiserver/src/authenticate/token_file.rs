//! Static tokens: a file of `token,user,uid[,"group,group"]` lines.

use std::collections::HashMap;

use crate::request::User;

/// The tokens of a file.
#[derive(Clone, Default)]
pub struct TokenFile(HashMap<String, User>);

/// A line has fewer than three columns, or an empty token or user.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the token file must be token,user,uid[,\"group,...\"]")]
pub struct Error {
    line: usize,
}

impl TokenFile {
    /// Reads the file's text.
    ///
    /// # Errors
    /// On the first line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let tokens = lines.map(|(at, line)| entry(line).ok_or(Error { line: at + 1 }));
        Ok(Self(tokens.collect::<Result<_, _>>()?))
    }

    /// Whose token it is.
    pub fn get(&self, token: &str) -> Option<&User> {
        self.0.get(token)
    }
}

fn entry(line: &str) -> Option<(String, User)> {
    let columns = columns(line);
    let [token, name, uid, rest @ ..] = columns.as_slice() else {
        return None;
    };
    if token.is_empty() || name.is_empty() {
        return None;
    }
    let groups = rest.first().map(|groups| groups.split(',').map(str::trim).filter(|g| !g.is_empty()));
    let groups = groups.into_iter().flatten().map(str::to_owned).collect();
    Some((token.clone(), User { name: name.clone(), uid: uid.clone(), groups, ..User::default() }))
}

/// Comma-separated columns, where quotes hold commas together.
fn columns(line: &str) -> Vec<String> {
    let mut columns = vec![String::new()];
    let mut quoted = false;
    for character in line.trim().chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(String::new()),
            other => columns.last_mut().expect("starts with one").push(other),
        }
    }
    columns.iter().map(|column| column.trim().to_owned()).collect()
}
