//! The tables of a run, for people and as JSON.

use crate::metric::{Metric, Net, ROWS, Row, STAGES, Unit};
use crate::results::Results;
use crate::side::Runtime::{Containerd, Cricket};
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What a run is reported with besides its figures.
#[derive(Debug)]
pub(crate) struct Report {
    load: String,
    failures: Vec<String>,
}

/// Percent of one processor that other programs may use before the machine's CPU time is no figure.
const NOISE: f64 = 10.0;

/// The cells of one row.
struct Line {
    cricket: Option<f64>,
    peer: Option<f64>,
    best_peer: Option<f64>,
    met: Option<bool>,
}

impl Line {
    fn of(row: &Row, results: &Results) -> Self {
        let (cricket, peer) = (results.p50(row.metric, Cricket), results.p50(row.metric, Containerd));
        let best_peer = peer.and_then(|figure| row.best_peer(figure));
        // The whole machine's time says nothing about a runtime while others use it.
        let noisy = row.metric == Metric::CycleCpu && results.background.p50().is_some_and(|percent| percent > NOISE);
        let met = cricket.and_then(|figure| row.target.met(figure, best_peer)).filter(|_| !noisy);
        Self { cricket, peer, best_peer, met }
    }
}

impl Report {
    /// Notes how busy the machine is before anything was asked.
    pub(crate) fn begin() -> Result<Self> {
        Ok(Self { load: load()?, failures: Vec::new() })
    }

    /// A measure that could not be taken.
    pub(crate) fn failed(&mut self, what: String) {
        eprintln!("cricket-bench: {what}");
        self.failures.push(what);
    }

    /// Whether every measure was taken.
    pub(crate) fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    /// The tables.
    pub(crate) fn text(&self, results: &Results) -> Result<String> {
        let mut table = vec![
            ["p50", "n", "cricket", "containerd + runc", "ratio", "best peer", "to best peer", "goal", ""]
                .map(str::to_owned)
                .to_vec(),
        ];
        for row in ROWS {
            let line = Line::of(row, results);
            if line.cricket.is_none() && line.peer.is_none() {
                continue;
            }
            let n = [Cricket, Containerd].map(|side| results.get(row.metric, side).map_or(0, |samples| samples.len()));
            table.push(vec![
                row.text.to_owned(),
                n.iter().max().map(ToString::to_string).unwrap_or_default(),
                figure(row.unit, line.cricket),
                figure(row.unit, line.peer),
                ratio(line.cricket, line.peer),
                figure(row.unit, line.best_peer),
                ratio(line.cricket, line.best_peer),
                row.target.to_string(),
                line.met.map_or("", |met| if met { "met" } else { "short" }).to_owned(),
            ]);
        }
        let mut text = render(&table);
        writeln!(text, "best peer: containerd + runc's figure times a quotient measured once, see src/metric.rs")?;
        let stages = stages(results);
        if stages.len() > 1 {
            writeln!(text, "\n{}", render(&stages).trim_end())?;
        }
        writeln!(text, "\nload average before: {}, after: {}", self.load, load()?)?;
        if let Some(percent) = results.background.p50() {
            writeln!(text, "other programs used {percent:.1} % of one processor in the moments of rest")?;
        }
        for failure in &self.failures {
            writeln!(text, "NOT MEASURED: {failure}")?;
        }
        Ok(text)
    }

    /// The same, with more quantiles.
    pub(crate) fn json(&self, results: &Results) -> Result<Value> {
        let samples = |metric: Metric, side| {
            results.get(metric, side).map(|samples| {
                json!({ "n": samples.len(), "p50": samples.p50(), "p10": samples.quantile(0.1), "p90": samples.quantile(0.9) })
            })
        };
        let sides = |metric| json!({ "cricket": samples(metric, Cricket), "containerd": samples(metric, Containerd) });
        let rows = ROWS.iter().map(|row| {
            let line = Line::of(row, results);
            json!({
                "name": row.text,
                "unit": row.unit.name(),
                "figures": sides(row.metric),
                "best_peer": line.best_peer,
                "goal": row.target.to_string(),
                "met": line.met,
            })
        });
        let nets = [Net::Bridge, Net::Host].into_iter();
        let stages = nets.flat_map(|net| STAGES.map(|call| (net, call))).map(|(net, call)| {
            json!({
                "network": format!("{net:?}"),
                "call": format!("{call:?}"),
                "unit": Unit::Milliseconds.name(),
                "figures": sides(Metric::Stage(net, call)),
            })
        });
        Ok(json!({
            "rows": rows.collect::<Vec<_>>(),
            "stages": stages.collect::<Vec<_>>(),
            "load": { "before": self.load, "after": load()? },
            "background_percent": results.background.p50(),
            "failures": self.failures,
        }))
    }
}

/// The calls of a pod's life.
fn stages(results: &Results) -> Vec<Vec<String>> {
    let title = ["p50, p90", "cricket", "containerd + runc", "ratio"];
    let mut table = vec![title.map(str::to_owned).to_vec()];
    for net in [Net::Bridge, Net::Host] {
        for call in STAGES {
            let metric = Metric::Stage(net, call);
            let cell = |side| {
                let samples = results.get(metric, side);
                let at = |part| figure(Unit::Milliseconds, samples.and_then(|samples| samples.quantile(part)));
                if samples.is_none() { String::new() } else { format!("{}, {}", at(0.5), at(0.9)) }
            };
            if results.get(metric, Cricket).is_none() && results.get(metric, Containerd).is_none() {
                continue;
            }
            let name = format!("{call:?}, {}", if net == Net::Bridge { "bridge CNI" } else { "host network" });
            let quotient = ratio(results.p50(metric, Cricket), results.p50(metric, Containerd));
            table.push(vec![name, cell(Cricket), cell(Containerd), quotient]);
        }
    }
    table
}

fn figure(unit: Unit, value: Option<f64>) -> String {
    value.map(|value| unit.format(value)).unwrap_or_default()
}

/// Nothing when one of them is missing or is nothing.
fn ratio(one: Option<f64>, other: Option<f64>) -> String {
    match (one, other) {
        (Some(one), Some(other)) if other > 0.0 => format!("{:.2}×", one / other),
        _ => String::new(),
    }
}

/// A table in Markdown; the first line is the title, the first column is text, the others are figures.
fn render(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (at, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            let cell = if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            text.push_str(&format!("| {cell} "));
        }
        text.push_str("|\n");
        if number == 0 {
            for (at, &width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width + 1);
                text.push_str(&if at == 0 { format!("|{dashes}-") } else { format!("|{dashes}:") });
            }
            text.push_str("|\n");
        }
    }
    text
}

/// The first three fields of proc_loadavg(5).
fn load() -> Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report { load: "0.00 0.00 0.00".into(), failures: Vec::new() }
    }

    #[test]
    fn a_row_says_whether_the_goal_is_met() {
        let mut results = Results::default();
        for (runtime, value) in [(Cricket, 2.0), (Cricket, 3.0), (Containerd, 21.0), (Containerd, 21.0)] {
            results.add(Metric::Exec, runtime, value);
        }
        let text = report().text(&results).expect("text");
        let row = text.lines().find(|line| line.contains("ExecSync")).expect("a row");
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let expected =
            ["", "ExecSync true", "2", "2.50 ms", "21.0 ms", "0.12×", "9.30 ms", "0.27×", "≤ 0.3×", "met", ""];
        assert_eq!(cells, expected);
        results.add(Metric::Exec, Cricket, 3.0);
        assert!(report().text(&results).expect("text").contains("short"));
        let json = report().json(&results).expect("json");
        let row = json["rows"].as_array().and_then(|rows| rows.iter().find(|row| row["name"] == "ExecSync true"));
        assert_eq!(row.expect("a row")["met"], false);
    }

    #[test]
    fn what_is_missing_is_not_hidden() {
        let mut report = report();
        report.failed("Cycles: no answer".into());
        assert!(!report.is_complete());
        assert!(report.text(&Results::default()).expect("text").contains("NOT MEASURED: Cycles: no answer"));
    }

    #[test]
    fn columns_are_aligned() {
        let line = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = render(&[line(["a", "b"]), line(["long", "≤ 2"])]);
        assert_eq!(text, "| a    |   b |\n|------|----:|\n| long | ≤ 2 |\n");
    }
}
