//! Ours and upstream's, measured alternately on the same machine with the same load: both columns and their ratio.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    connection::{Format, Target},
    report::{Table, percentile},
    requests,
    subject::Subject,
    upstream, watchers,
};

/// A number that both servers have. The order of rows is that of the first run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Metric {
    place: usize,
    what: String,
    unit: Unit,
}

/// What a number counts, and so which of two is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    PerSecond,
    Milliseconds,
    Kilobytes,
    Microseconds,
    /// Of something bad: there is no ratio to none.
    Count,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{value:.0}/s"),
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Kilobytes => format!("{value:.1} KB"),
            Self::Microseconds => format!("{value:.0} us"),
            Self::Count => format!("{value:.0}"),
        }
    }

    /// How many times better ours is.
    fn ratio(self, ours: f64, theirs: f64) -> String {
        let times = match self {
            Self::Count => return String::new(),
            Self::PerSecond => ours / theirs,
            _ => theirs / ours,
        };
        format!("{times:.2} x")
    }
}

/// The values of every run.
#[derive(Default)]
pub(crate) struct Values(BTreeMap<Metric, Vec<f64>>);

/// One run's numbers, in order.
#[derive(Default)]
pub(crate) struct Sample(Vec<(String, Unit, f64)>);

impl Sample {
    pub(crate) fn add(&mut self, what: impl Into<String>, unit: Unit, value: f64) {
        self.0.push((what.into(), unit, value));
    }
}

impl Values {
    fn take(&mut self, sample: Sample) {
        for (place, (what, unit, value)) in sample.0.into_iter().enumerate() {
            self.0.entry(Metric { place, what, unit }).or_default().push(value);
        }
    }
}

/// How much is measured.
pub(crate) struct Extent {
    pub(crate) runs: usize,
    /// For one row of requests.
    pub(crate) limit: Duration,
    /// How many watchers, one row each and encoding.
    pub(crate) watchers: Vec<usize>,
}

/// Runs them in turn, each on empty stores, and prints medians.
pub(crate) async fn run(program: &Path, extent: &Extent) -> Result<()> {
    alternate("requests and watches", extent.runs, async |is_ours| {
        let subject = Subject::start(program, is_ours).await?;
        sample(&subject.kubeconfig(), &subject.pids(), extent).await
    })
    .await
}

/// Measures ours and theirs in turn, and prints the medians of both.
pub(crate) async fn alternate(what: &str, runs: usize, measure: impl AsyncFn(bool) -> Result<Sample>) -> Result<()> {
    println!("\ncompared with {}", upstream::versions()?);
    let (mut ours, mut theirs) = (Values::default(), Values::default());
    for run in 0..runs {
        // Who is first changes: neither always has the warmer or the quieter machine.
        for turn in 0..2 {
            let is_ours = run % 2 == turn;
            let name = if is_ours { "ironclad" } else { "upstream" };
            eprintln!("{what}, run {} of {runs}: {name}", run + 1);
            let sample = measure(is_ours).await.with_context(|| format!("{what} of {name}"))?;
            if is_ours { ours.take(sample) } else { theirs.take(sample) }
        }
    }
    print(what, ours, &theirs, runs);
    Ok(())
}

/// Prints the numbers of one server.
pub(crate) fn print_alone(title: &str, sample: Sample) {
    let mut table = Table::new(title, &["ironclad"]);
    for (what, unit, value) in sample.0 {
        table.row(&what, &[unit.show(value)]);
    }
    table.print();
}

async fn sample(kubeconfig: &Path, pids: &[u32], extent: &Extent) -> Result<Sample> {
    let target = Target::load(kubeconfig)?;
    let mut sample = Sample::default();
    let measured = requests::measure(&target, pids, extent.limit).await?;
    for row in &measured.rows {
        let what = format!("{}, {}, {} in flight", row.what, row.format.name(), row.in_flight);
        sample.add(format!("{what}: rate"), Unit::PerSecond, row.outcome.rate());
        sample.add(format!("{what}: p50"), Unit::Milliseconds, row.outcome.latency(0.5) * 1e3);
        sample.add(format!("{what}: p99"), Unit::Milliseconds, row.outcome.latency(0.99) * 1e3);
        sample.add(format!("{what}: CPU a request"), Unit::Microseconds, row.outcome.cpu_microseconds());
    }
    let memory = &measured.memory;
    sample.add("memory of all processes before", Unit::Kilobytes, memory.before as f64 / 1e3);
    sample.add(format!("with {} pods", requests::LISTED), Unit::Kilobytes, memory.filled as f64 / 1e3);
    sample.add("growth a pod", Unit::Kilobytes, memory.each_pod() / 1e3);
    sample.add("after all requests", Unit::Kilobytes, memory.after as f64 / 1e3);
    for &count in &extent.watchers {
        for format in [Format::Json, Format::Protobuf] {
            let row = watchers::measure(&target, pids, format, count).await?;
            let what = format!("{}, {}", row.what(), format.name());
            sample.add(format!("{what}: cut off"), Unit::Count, row.cut_off as f64);
            sample.add(format!("{what}: behind"), Unit::Count, row.behind as f64);
            sample.add(format!("{what}: delivered"), Unit::PerSecond, row.events_a_second());
            sample.add(format!("{what}: CPU an event"), Unit::Microseconds, row.cpu_microseconds());
            sample.add(format!("{what}: delay p50"), Unit::Milliseconds, row.delay[0] * 1e3);
            sample.add(format!("{what}: delay p99"), Unit::Milliseconds, row.delay[1] * 1e3);
        }
    }
    Ok(sample)
}

fn print(what: &str, ours: Values, theirs: &Values, runs: usize) {
    let title =
        format!("{what}: ours and upstream's, alternately, medians of {runs}; a ratio above 1 is in our favour");
    let mut table = Table::new(&title, &["ironclad", "upstream", "ratio"]);
    for (metric, mut values) in ours.0 {
        let mine = percentile(&mut values, 0.5);
        // Both were asked the same.
        let Some(mut values) = theirs.0.get(&metric).cloned() else {
            continue;
        };
        let other = percentile(&mut values, 0.5);
        let unit = metric.unit;
        table.row(&metric.what, &[unit.show(mine), unit.show(other), unit.ratio(mine, other)]);
    }
    table.print();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_says_how_much_better_ours_is() {
        assert_eq!(Unit::PerSecond.ratio(20.0, 10.0), "2.00 x");
        assert_eq!(Unit::Milliseconds.ratio(20.0, 10.0), "0.50 x");
        assert_eq!(Unit::Count.ratio(0.0, 100.0), "");
    }

    #[test]
    fn rows_keep_their_order_over_runs() {
        let mut values = Values::default();
        for value in [3.0, 1.0, 2.0] {
            let mut sample = Sample::default();
            sample.add("z", Unit::Count, value);
            sample.add("a", Unit::Count, 0.0);
            values.take(sample);
        }
        let rows: Vec<(&str, &[f64])> = values.0.iter().map(|(m, v)| (&*m.what, &**v)).collect();
        assert_eq!(rows, [("z", &[3.0, 1.0, 2.0][..]), ("a", &[0.0, 0.0, 0.0][..])]);
    }
}
