//! The courses as a picture in SVG: what the load needs as an area, each rule as a line.

use std::fmt::Write as _;

use limpet_agent::scale::SAMPLE_EVERY_MS;

use crate::{Course, MAX, POINT_MS};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
const MARGIN: f64 = 40.0;
const COLOURS: [&str; 3] = ["#0b6e4f", "#c05621", "#4a5568"];

pub(crate) fn draw(needed: &[u32], courses: &[Course]) -> String {
    let per_point = usize::try_from(POINT_MS / SAMPLE_EVERY_MS).unwrap_or(1);
    let need: Vec<u32> =
        needed.chunks(per_point).map(|part| part.iter().copied().max().unwrap_or(0)).collect();
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").unwrap_or_default();
    line(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">"
    ));
    line(format!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"));
    let area = format!("{} {},{} {},{}", path(&need), WIDTH - MARGIN, y(0), MARGIN, y(0));
    line(format!("<polygon points=\"{area}\" fill=\"#d9e2ec\"/>"));
    for number in (0..=MAX).step_by(5) {
        line(format!(
            "<text x=\"8\" y=\"{:.1}\">{number}</text><line x1=\"{MARGIN}\" x2=\"{}\" y1=\"{:.1}\" \
             y2=\"{:.1}\" stroke=\"#e2e8f0\"/>",
            y(number) + 4.0,
            WIDTH - MARGIN,
            y(number),
            y(number)
        ));
    }
    for hour in (0..=24).step_by(3) {
        let x = MARGIN + (WIDTH - 2.0 * MARGIN) * f64::from(hour) / 24.0;
        line(format!("<text x=\"{:.1}\" y=\"{:.1}\">{hour}:00</text>", x - 14.0, HEIGHT - 12.0));
    }
    // The last first, so that the first is on top.
    for (course, colour) in courses.iter().zip(COLOURS).rev() {
        line(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            path(&course.points)
        ));
    }
    line("<text x=\"52\" y=\"24\" fill=\"#627d98\">needed (area)</text>".to_owned());
    for ((place, course), colour) in courses.iter().enumerate().zip(COLOURS) {
        let at = 42 + 18 * place;
        line(format!("<text x=\"52\" y=\"{at}\" fill=\"{colour}\">{}</text>", course.name));
    }
    line("</svg>".to_owned());
    out
}

fn y(number: u32) -> f64 {
    let part = f64::from(number) / f64::from(MAX);
    HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * part
}

/// Steps: a number holds until the next point.
fn path(numbers: &[u32]) -> String {
    let last = f64::from(u32::try_from(numbers.len().max(1)).unwrap_or(1));
    let mut out = String::new();
    let mut before = None;
    for (place, number) in (0_u32..).zip(numbers) {
        let x = MARGIN + (WIDTH - 2.0 * MARGIN) * f64::from(place) / last;
        if before != Some(*number) {
            if let Some(before) = before {
                write!(out, "{x:.1},{:.1} ", y(before)).unwrap_or_default();
            }
            write!(out, "{x:.1},{:.1} ", y(*number)).unwrap_or_default();
            before = Some(*number);
        }
    }
    let end = before.unwrap_or(0);
    write!(out, "{:.1},{:.1}", WIDTH - MARGIN, y(end)).unwrap_or_default();
    out
}
