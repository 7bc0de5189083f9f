//! Groups of bars as SVG, drawn by hand: one group a case, one bar a product, its number at its end. The axis
//! is logarithmic, so that a ratio of a hundred still shows the smaller one.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 72.0;
const BOTTOM: f64 = 34.0;
const BAR: f64 = 15.0;
const BETWEEN: f64 = 14.0;
/// Ours, then the peer's; told apart without colour by their lightness, too.
const COLOURS: [&str; 2] = ["#0b5cad", "#c9a25f"];

/// What is drawn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bars {
    pub(crate) title: String,
    /// Of the bars of each group.
    pub(crate) names: Vec<String>,
    pub(crate) groups: Vec<(String, Vec<f64>)>,
}

pub(crate) fn draw(bars: &Bars) -> String {
    let values = || bars.groups.iter().flat_map(|(_, values)| values).copied();
    let lowest = values().fold(f64::INFINITY, f64::min).log10().floor();
    let highest = values().fold(0.0, f64::max).log10().ceil();
    let x =
        |value: f64| LEFT + (value.log10() - lowest) / (highest - lowest) * (WIDTH - LEFT - RIGHT);
    let bars_of = |values: &Vec<f64>| values.iter().map(|_| BAR).sum::<f64>() + BETWEEN;
    let height = TOP + bars.groups.iter().map(|(_, values)| bars_of(values)).sum::<f64>() + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"15\" fill=\"#1a1a1a\">{}</text>\n",
        bars.title
    );
    legend(bars, &mut svg);
    let mut decade = lowest;
    while decade <= highest {
        let at = x(10_f64.powf(decade));
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#e2e2e2\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555555\">{}</text>",
            TOP - 6.0,
            height - BOTTOM,
            height - BOTTOM + 16.0,
            short(10_f64.powf(decade))
        );
        decade += 1.0;
    }
    let mut y = TOP;
    for (label, values) in &bars.groups {
        let middle = y + BAR * f64::from(u8::try_from(values.len()).unwrap_or(u8::MAX)) / 2.0 + 4.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\" fill=\"#1a1a1a\">{label}</text>",
            LEFT - 10.0
        );
        for (value, colour) in values.iter().zip(COLOURS) {
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1a1a1a\">{}</text>",
                (x(*value) - LEFT).max(1.0),
                BAR - 2.0,
                x(*value) + 5.0,
                y + BAR - 4.0,
                short(*value)
            );
            y += BAR;
        }
        y += BETWEEN;
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(bars: &Bars, svg: &mut String) {
    let mut at = 16.0;
    for (name, colour) in bars.names.iter().zip(COLOURS) {
        let _ = writeln!(
            svg,
            "<rect x=\"{at}\" y=\"36\" width=\"11\" height=\"11\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"46\" fill=\"#333333\">{name}</text>",
            at + 16.0
        );
        at += 60.0 + 7.0 * f64::from(u8::try_from(name.len()).unwrap_or(u8::MAX));
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"46\" text-anchor=\"end\" fill=\"#777777\">logarithmic axis</text>",
        WIDTH - 16.0
    );
}

/// Three digits at most, or so.
fn short(value: f64) -> String {
    match value {
        _ if value >= 999_500.0 => format!("{:.1} M", value / 1e6),
        _ if value >= 9_950.0 => format!("{:.0} k", value / 1e3),
        _ if value >= 99.5 => format!("{value:.0}"),
        _ => {
            let decimals = if value >= 9.95 { 1 } else { 2 };
            let text = format!("{value:.decimals$}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}
