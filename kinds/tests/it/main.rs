//! Every recorded answer of upstream's API server, asked again of the strategies.
//!
//! `testdata/recorded/*.jsonl` holds one request and its answer a line: what was sent (`new`, for an update also `old`),
//! the status code, and the causes of a 422 or the object of a success. The fields that only a server can fill
//! (addresses, ports, UIDs, times) are taken out of both sides before they are compared.

mod bootstrap;
mod recorded;
mod rows;
