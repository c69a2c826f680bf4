//! Tables on standard output.

use std::fs;

/// One table: a name, its columns, its rows.
pub(crate) struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    load_before: String,
}

impl Table {
    /// The first column is what a row measures.
    pub(crate) fn new(title: &str, columns: &[&str]) -> Self {
        let columns = std::iter::once("what").chain(columns.iter().copied()).map(str::to_owned).collect();
        Self { title: title.to_owned(), columns, rows: Vec::new(), load_before: load_average() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, what: &str, cells: &[String]) {
        self.rows.push(std::iter::once(what.to_owned()).chain(cells.iter().cloned()).collect());
    }

    /// Prints it with the load of the machine before and after.
    pub(crate) fn print(&self) {
        println!("\n## {} (load average {} -> {})", self.title, self.load_before, load_average());
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).chain(self.columns.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for row in std::iter::once(&self.columns).chain(&self.rows) {
            println!("{}", line(row, &widths).trim_end());
        }
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(n, (cell, width))| {
        let width = *width;
        if n == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") }
    });
    cells.collect()
}

/// The processors and the load, as the head of a run.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, Linux {}, load average {}", kernel.trim(), load_average())
}

/// Of the last minute.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

pub(crate) fn milliseconds(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1e3)
}

/// The value below which a share of the values lies.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    percentile_of_sorted(values, share)
}

/// The same of values that are in order already.
pub(crate) fn percentile_of_sorted(values: &[f64], share: f64) -> f64 {
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}
