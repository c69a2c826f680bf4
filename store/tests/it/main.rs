//! Tests of the store from outside: the contract, faults, and a checker of histories.

mod contract;
mod embedded;
mod faults;
mod kill;
mod model;
