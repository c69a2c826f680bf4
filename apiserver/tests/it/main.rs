//! The API server as a whole: a listener, TLS, an embedded store in a directory of its own.

mod front;
mod invalid;
mod server;
mod streams;
