//! Differences by class, with counts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{compare::Difference, gaps::Gap};

/// What is printed of a value, unless everything is asked for.
const SHORT_CHARS: usize = 400;

/// All requests that differ.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) requests: usize,
    differing: BTreeMap<String, Vec<Difference>>,
}

impl Report {
    pub(crate) fn add(&mut self, request: String, differences: Vec<Difference>) {
        self.requests += 1;
        if !differences.is_empty() {
            self.differing.insert(request, differences);
        }
    }

    pub(crate) fn gaps(&self) -> BTreeSet<Gap> {
        let of = |(request, differences): (&String, &Vec<Difference>)| -> Vec<Gap> {
            differences.iter().map(|one| (one.class.clone(), request.clone())).collect()
        };
        self.differing.iter().flat_map(of).collect()
    }

    /// The table of classes, most frequent first.
    pub(crate) fn print_classes(&self) {
        let mut classes: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (request, differences) in &self.differing {
            for one in differences {
                classes.entry(&one.class).or_default().insert(request);
            }
        }
        let mut classes: Vec<_> = classes.into_iter().collect();
        classes.sort_by_key(|(class, requests)| (std::cmp::Reverse(requests.len()), *class));
        let same = self.requests - self.differing.len();
        println!("{} requests: {same} answered as upstream does, {} not", self.requests, self.differing.len());
        for (class, requests) in classes {
            let example = requests.first().copied().unwrap_or_default();
            println!("{:6}  {class}   (as in {example:?})", requests.len());
        }
    }

    /// Every difference of requests and classes that contain a text.
    pub(crate) fn print(&self, containing: &str, whole: bool) {
        for (request, differences) in &self.differing {
            let chosen = |one: &&Difference| request.contains(containing) || one.class.contains(containing);
            for one in differences.iter().filter(chosen) {
                println!("{request}\n  {} [{}]", one.path, one.class);
                println!("    ours     {}\n    upstream {}", shown(&one.ours, whole), shown(&one.theirs, whole));
            }
        }
    }
}

fn shown(value: &Value, whole: bool) -> String {
    let text = value.to_string();
    if whole || text.chars().count() <= SHORT_CHARS {
        return text;
    }
    text.chars().take(SHORT_CHARS).chain("...".chars()).collect()
}
