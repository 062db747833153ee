//! Charts as SVG files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const COLOURS: [&str; 6] = [
    "#1b6ca8", "#d98324", "#6a994e", "#a4161a", "#7b2d8b", "#777777",
];
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 60.0;

/// Groups of bars, a bar a series.
pub(crate) struct Bars<'a> {
    pub(crate) title: &'a str,
    pub(crate) series: &'a [&'a str],
    pub(crate) groups: Vec<(String, Vec<f64>)>,
}

/// Lines through points, a line a series.
pub(crate) struct Lines<'a> {
    pub(crate) title: &'a str,
    pub(crate) along: &'a str,
    pub(crate) series: Vec<(String, Vec<(f64, f64)>)>,
}

/// What happened from when on, and for how long.
pub(crate) struct Span {
    pub(crate) lane: &'static str,
    pub(crate) name: String,
    pub(crate) from_ms: f64,
    pub(crate) ms: f64,
}

/// Writes a chart of spans, a row a span, a colour a lane.
pub(crate) fn spans(path: &Path, title: &str, lanes: &[&str], rows: &[Span]) {
    const ROW: f64 = 12.0;
    let end = rows
        .iter()
        .map(|row| row.from_ms + row.ms)
        .fold(0.0, f64::max);
    let height = TOP + ROW * count(rows.len()) + BOTTOM;
    let mut svg = start(title, lanes, height);
    for (number, row) in rows.iter().enumerate() {
        let scale = (WIDTH - 2.0 * LEFT) / end;
        let (x, y) = (LEFT + scale * row.from_ms, TOP + ROW * count(number));
        let width = (scale * row.ms).max(1.0);
        let colour = colour(lanes.iter().position(|lane| *lane == row.lane).unwrap_or(0));
        // The text stands where there is more room.
        let (anchor, at) = match x + width < WIDTH / 2.0 {
            true => ("start", x + width + 4.0),
            false => ("end", x - 4.0),
        };
        let (name, ms, middle) = (escaped(&row.name), row.ms, y + 8.0);
        let _ = writeln!(
            svg,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="9" fill="{colour}"/><text x="{at:.1}" y="{middle:.1}" font-size="9" text-anchor="{anchor}">{name}: {ms:.2}</text>"#
        );
    }
    finish(path, svg);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Writes a chart of bars.
pub(crate) fn bars(path: &Path, chart: &Bars) {
    let values = chart.groups.iter().flat_map(|(_, values)| values);
    let top = values.copied().fold(0.0, f64::max);
    let mut svg = begin(chart.title, chart.series, top);
    let group = (WIDTH - LEFT) / count(chart.groups.len());
    let bar = group * 0.8 / count(chart.series.len());
    for (number, (name, values)) in chart.groups.iter().enumerate() {
        let left = LEFT + group * (count(number) + 0.1);
        for (index, value) in values.iter().enumerate() {
            let height = (HEIGHT - TOP - BOTTOM) * value / top;
            let (x, y) = (left + bar * count(index), HEIGHT - BOTTOM - height);
            let colour = colour(index);
            let _ = writeln!(
                svg,
                r#"<rect x="{x:.1}" y="{y:.1}" width="{bar:.1}" height="{height:.1}" fill="{colour}"/>"#
            );
        }
        let (x, y) = (left + group * 0.4, HEIGHT - BOTTOM + 18.0);
        let _ = writeln!(
            svg,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle">{name}</text>"#
        );
    }
    finish(path, svg);
}

/// Writes a chart of lines.
pub(crate) fn lines(path: &Path, chart: &Lines) {
    let points = || chart.series.iter().flat_map(|(_, points)| points);
    let top = points().map(|point| point.1).fold(0.0, f64::max);
    let right = points().map(|point| point.0).fold(0.0, f64::max);
    let names: Vec<&str> = chart.series.iter().map(|(name, _)| name.as_str()).collect();
    let mut svg = begin(chart.title, &names, top);
    for (index, (_, points)) in chart.series.iter().enumerate() {
        let mut way = String::new();
        for (x, y) in points {
            let x = LEFT + (WIDTH - LEFT - 20.0) * x / right;
            let y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / top;
            let _ = write!(way, "{x:.1},{y:.1} ");
        }
        let colour = colour(index);
        let _ = writeln!(
            svg,
            r#"<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>"#
        );
    }
    let (x, y) = (WIDTH / 2.0, HEIGHT - 12.0);
    let along = format!("{} (up to {right})", chart.along);
    let _ = writeln!(
        svg,
        r#"<text x="{x}" y="{y}" text-anchor="middle">{along}</text>"#
    );
    finish(path, svg);
}

/// The title and the colours.
fn start(title: &str, series: &[&str], height: f64) -> String {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="{height}" fill="white"/>
<text x="{LEFT}" y="20" font-size="15">{title}</text>
"#
    );
    let mut x = LEFT;
    for (index, name) in series.iter().enumerate() {
        let (colour, text) = (colour(index), x + 16.0);
        let _ = writeln!(
            svg,
            r#"<rect x="{x}" y="32" width="12" height="12" fill="{colour}"/><text x="{text}" y="43">{name}</text>"#
        );
        x += 40.0 + 8.0 * count(name.len());
    }
    svg
}

/// The title, the colours and the lines of a scale.
fn begin(title: &str, series: &[&str], top: f64) -> String {
    let mut svg = start(title, series, HEIGHT);
    for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part;
        let value = top * part;
        let _ = writeln!(
            svg,
            r##"<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1}" y2="{y:.1}" stroke="#dddddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{value:.1}</text>"##,
            LEFT - 6.0,
            y + 4.0
        );
    }
    svg
}

fn finish(path: &Path, mut svg: String) {
    svg.push_str("</svg>\n");
    let folder = path.parent().expect("a folder");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, svg))
        .expect("a chart");
    println!("chart: {}", path.display());
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

#[expect(clippy::cast_precision_loss, reason = "few groups and series")]
fn count(number: usize) -> f64 {
    number as f64
}
