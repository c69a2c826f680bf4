//! kubelet.
#![allow(dead_code)]
mod observed;
mod plan;
mod pod;
mod spec;
mod status;
