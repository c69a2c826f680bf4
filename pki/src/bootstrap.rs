//! Tokens that let a new node in.

use std::fmt;
use std::str::FromStr;

use rand::Rng;

use crate::{Error, Pin};

const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// A bootstrap token, `abcdef.0123456789abcdef`: the public id names the Secret `bootstrap-token-<id>`.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    id: String,
    secret: String,
}

impl BootstrapToken {
    /// A random one.
    pub fn generate() -> Self {
        Self { id: random(ID_LENGTH), secret: random(SECRET_LENGTH) }
    }

    /// The public half.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret half.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The Secret in `kube-system` that holds it.
    pub fn secret_name(&self) -> String {
        format!("bootstrap-token-{}", self.id)
    }

    /// The user that it authenticates.
    pub fn user(&self) -> String {
        format!("system:bootstrap:{}", self.id)
    }
}

impl fmt::Display for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.***", self.id)
    }
}

impl FromStr for BootstrapToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let part = |part: &str, length| part.len() == length && part.bytes().all(|b| ALPHABET.contains(&b));
        match text.split_once('.') {
            Some((id, secret)) if part(id, ID_LENGTH) && part(secret, SECRET_LENGTH) => {
                Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
            }
            _ => Err(Error::parse("bootstrap token", "it must match [a-z0-9]{6}.[a-z0-9]{16}")),
        }
    }
}

/// What `agent` needs in one word: the token and the hash of the authority to trust, `<token>@sha256:<hex>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Who joins.
    pub token: BootstrapToken,
    /// Whom to believe.
    pub pin: Pin,
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.token, self.pin)
    }
}

impl FromStr for JoinToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (token, pin) = text
            .split_once('@')
            .ok_or_else(|| Error::parse("join token", "it must be <token>@sha256:<hash of the authority>"))?;
        Ok(Self { token: token.parse()?, pin: pin.parse()? })
    }
}

fn random(length: usize) -> String {
    let mut source = rand::rng();
    let letter = |_| char::from(ALPHABET[source.random_range(0..ALPHABET.len())]);
    (0..length).map(letter).collect()
}
