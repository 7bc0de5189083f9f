//! A point before and after a contract, as SVG.

use guan_edge::simulation::Dot;
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 44.0;
/// Most dots of a colour; of more every n-th is drawn.
const DOTS_MAX: usize = 4000;
const TICKS: u32 = 5;

/// The two ends of what is drawn.
#[derive(Clone, Copy)]
struct Span {
    low: f64,
    high: f64,
}

impl Span {
    fn of(numbers: impl Iterator<Item = f64>) -> Self {
        let (low, high) = numbers
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), number| {
                (low.min(number), high.max(number))
            });
        match low < high {
            true => Self { low, high },
            false if low.is_finite() => Self { low: low - 0.5, high: high + 0.5 },
            false => Self { low: 0.0, high: 1.0 },
        }
    }

    fn share(self, number: f64) -> f64 {
        (number - self.low) / (self.high - self.low)
    }

    fn tick(self, tick: u32) -> f64 {
        self.low + (self.high - self.low) * f64::from(tick) / f64::from(TICKS)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a picture is coarser than a microsecond")]
fn seconds(dot: &Dot) -> f64 {
    dot.at.0 as f64 / 1e9
}

/// What came in grey, what leaves in blue.
pub(super) fn draw(title: &str, came: &[Dot], leaves: &[Dot]) -> String {
    let all = || came.iter().chain(leaves);
    let (times, values) = (Span::of(all().map(seconds)), Span::of(all().map(|dot| dot.value)));
    let x = |time: f64| LEFT + times.share(time) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - values.share(value) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\" fill=\"#1a1a1a\">{}</text>\n\
         <circle cx=\"{LEFT}\" cy=\"38\" r=\"4\" fill=\"#b8b8b8\"/>\
         <text x=\"{}\" y=\"42\" fill=\"#444444\">came in: {}</text>\n\
         <circle cx=\"{}\" cy=\"38\" r=\"4\" fill=\"#0b5cad\"/>\
         <text x=\"{}\" y=\"42\" fill=\"#444444\">leaves: {}</text>\n",
        escaped(title),
        LEFT + 10.0,
        came.len(),
        LEFT + 160.0,
        LEFT + 170.0,
        leaves.len(),
    );
    for tick in 0..=TICKS {
        let (time, value) = (times.tick(tick), values.tick(tick));
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e6e6e6\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#444444\">{}</text>\
             <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#444444\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(value) + 4.0,
            short(value, values),
            x(time).clamp(LEFT + 30.0, WIDTH - RIGHT - 40.0),
            HEIGHT - 16.0,
            moment(time, times),
            y = y(value),
        );
    }
    for (dots, colour, radius) in [(came, "#b8b8b8", 1.6), (leaves, "#0b5cad", 2.0)] {
        let step = dots.len().div_ceil(DOTS_MAX).max(1);
        let _ = writeln!(svg, "<g fill=\"{colour}\">");
        for dot in dots.iter().step_by(step) {
            let (x, y) = (x(seconds(dot)), y(dot.value));
            let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>");
        }
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn short(value: f64, span: Span) -> String {
    let digits = if span.high - span.low < 10.0 { 2 } else { 0 };
    format!("{value:.digits$}")
}

/// The day for long spans, the time of day for short ones; UTC.
fn moment(seconds: f64, span: Span) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "whole seconds of a WallTime")]
    let at = time::OffsetDateTime::from_unix_timestamp(seconds as i64);
    let Ok(at) = at else { return String::new() };
    match span.high - span.low > 2.0 * 86_400.0 {
        true => at.date().to_string(),
        false => format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second()),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
