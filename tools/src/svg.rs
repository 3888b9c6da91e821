//! Charts as an SVG picture: axes with labels, legends, colours that can be told apart on light and on dark.
//!
//! Nothing in it depends on a script or on another file. What the pointer rests on is told by `<title>`.

use std::fmt::Write;

/// Width of the picture and of its margins, in pixels.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 44.0;

/// Height of the heading, of a chart's plot, and of what stands below and above a plot.
const HEADING: f64 = 70.0;
const PLOT: f64 = 170.0;
const TITLE: f64 = 26.0;
const LEGEND_ROW: f64 = 20.0;
const AXIS: f64 = 52.0;

/// Width of a character of 12 pixels, about: text cannot be measured here.
const CHARACTER: f64 = 6.9;
/// Width of a legend's coloured square, and of the room behind an entry.
const SWATCH: f64 = 18.0;
const GAP: f64 = 18.0;

/// Colours by Okabe and Ito, told apart by those who see few: for light and for dark grounds. The last is for what has no colour of its
/// own.
const COLOURS: [(&str, &str); 8] = [
    ("#0072b2", "#4aa8e0"),
    ("#e08a00", "#f0b040"),
    ("#009e73", "#2cc59a"),
    ("#b8578f", "#d98cbc"),
    ("#56b4e9", "#9ad4f5"),
    ("#d55e00", "#ff8a3d"),
    ("#7a6a00", "#d8ca3c"),
    ("#8a8f98", "#a4abb6"),
];

/// Charts over the same blocks.
pub(crate) struct Picture {
    pub(crate) title: String,
    pub(crate) notes: String,
    /// First and last block of each part, in rising order without holes.
    pub(crate) spans: Vec<(u64, u64)>,
    pub(crate) charts: Vec<Chart>,
}

/// One chart: values for each part of the picture.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    pub(crate) shape: Shape,
    pub(crate) series: Vec<Series>,
}

/// How values are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    Lines,
    Stacked,
}

/// A row of values with a name.
pub(crate) struct Series {
    colour: usize,
    name: String,
    values: Vec<Option<f64>>,
}

impl Series {
    /// The colour of what has none of its own.
    pub(crate) const REST: usize = COLOURS.len() - 1;

    pub(crate) fn new(colour: usize, name: impl Into<String>, values: Vec<Option<f64>>) -> Self {
        Self {
            colour: colour.min(Self::REST),
            name: name.into(),
            values,
        }
    }
}

impl Picture {
    /// The SVG.
    pub(crate) fn draw(&self) -> String {
        let height = HEADING + self.charts.iter().map(Chart::height).sum::<f64>();
        let mut out = String::new();
        let (title, notes) = (escape(&self.title), escape(&self.notes));
        put(
            &mut out,
            format_args!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title notes">
<title id="title">{title}</title>
<desc id="notes">{notes}</desc>
<style>
{}</style>
<rect class="ground" width="{WIDTH}" height="{height}"/>
<text class="head" x="{LEFT}" y="32">{title}</text>
<text class="notes" x="{LEFT}" y="54">{notes}</text>
"#,
                style()
            ),
        );
        let mut top = HEADING;
        for chart in &self.charts {
            chart.draw(&self.spans, top, &mut out);
            top += chart.height();
        }
        out.push_str("</svg>\n");
        out
    }
}

impl Chart {
    /// Its legend's entries, each with its row and its place in it.
    fn legend(&self) -> Vec<(usize, f64)> {
        let mut places = Vec::with_capacity(self.series.len());
        let (mut row, mut x) = (0, LEFT);
        for series in &self.series {
            let width = SWATCH + CHARACTER * series.name.chars().count() as f64;
            if x + width > WIDTH - RIGHT && x > LEFT {
                (row, x) = (row + 1, LEFT);
            }
            places.push((row, x));
            x += width + GAP;
        }
        places
    }

    fn height(&self) -> f64 {
        let rows = self.legend().last().map_or(0, |(row, _)| row + 1);
        TITLE + LEGEND_ROW * rows as f64 + PLOT + AXIS
    }

    fn draw(&self, spans: &[(u64, u64)], top: f64, out: &mut String) {
        put(
            out,
            format_args!(
                "<text class=\"chart\" x=\"{LEFT}\" y=\"{:.1}\">{}</text>\n",
                top + 16.0,
                escape(&self.title)
            ),
        );
        let mut plot_top = top + TITLE;
        for ((row, x), series) in self.legend().into_iter().zip(&self.series) {
            let y = top + TITLE + LEGEND_ROW * row as f64;
            plot_top = y + LEGEND_ROW;
            put(
                out,
                format_args!(
                    "<rect class=\"c{}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" rx=\"2\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                    series.colour,
                    y - 1.0,
                    x + SWATCH,
                    y + 9.5,
                    escape(&series.name)
                ),
            );
        }
        let plot = Plot {
            top: plot_top,
            first: spans.first().map_or(0, |span| span.0) as f64,
            end: spans.last().map_or(0, |span| span.1) as f64 + 1.0,
            most: self.most(),
        };
        plot.axes(self.unit, out);
        match self.shape {
            Shape::Lines => self.lines(&plot, spans, out),
            Shape::Stacked => self.stacks(&plot, spans, out),
        }
        put(
            out,
            format_args!(
                "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\n",
                WIDTH - RIGHT,
                plot.top + PLOT,
                plot.top + PLOT
            ),
        );
    }

    /// The greatest value that is drawn.
    fn most(&self) -> f64 {
        let values = |series: &Series, at: usize| series.values.get(at).copied().flatten();
        let count = self.series.iter().map(|s| s.values.len()).max();
        (0..count.unwrap_or(0))
            .map(|at| {
                let here = self.series.iter().filter_map(|series| values(series, at));
                match self.shape {
                    Shape::Lines => here.fold(0.0, f64::max),
                    Shape::Stacked => here.sum(),
                }
            })
            .fold(0.0, f64::max)
    }

    fn lines(&self, plot: &Plot, spans: &[(u64, u64)], out: &mut String) {
        // The first on top and the thinnest, so that lines in one place are all seen.
        for (at, series) in self.series.iter().enumerate().rev() {
            let mut path = String::new();
            let mut drawing = false;
            for (span, value) in spans.iter().zip(&series.values) {
                let Some(value) = value else {
                    drawing = false;
                    continue;
                };
                let (x0, x1) = plot.across(*span);
                let y = plot.y(*value);
                let step = if drawing { "L" } else { "M" };
                put(&mut path, format_args!("{step}{x0:.1} {y:.1}H{x1:.1}"));
                drawing = true;
            }
            put(
                out,
                format_args!(
                    "<path class=\"l{}\" stroke-width=\"{:.1}\" d=\"{path}\"><title>{}</title></path>\n",
                    series.colour,
                    1.6 + 2.0 * at as f64,
                    escape(&series.name)
                ),
            );
        }
    }

    fn stacks(&self, plot: &Plot, spans: &[(u64, u64)], out: &mut String) {
        for (at, span) in spans.iter().enumerate() {
            let (x0, x1) = plot.across(*span);
            // A hair of ground between bars that are wide enough to have one.
            let width = if x1 - x0 > 3.0 {
                x1 - x0 - 0.6
            } else {
                x1 - x0
            };
            let mut below = 0.0;
            for series in &self.series {
                let Some(value) = series.values.get(at).copied().flatten() else {
                    continue;
                };
                if value <= 0.0 {
                    continue;
                }
                let (low, high) = (plot.y(below), plot.y(below + value));
                put(
                    out,
                    format_args!(
                        "<rect class=\"c{}\" x=\"{x0:.1}\" y=\"{high:.2}\" width=\"{width:.1}\" height=\"{:.2}\"><title>blocks {} to {}, {}: {} {}</title></rect>\n",
                        series.colour,
                        low - high,
                        span.0,
                        span.1,
                        escape(&series.name),
                        amount(value),
                        self.unit
                    ),
                );
                below += value;
            }
        }
    }
}

/// Where values stand in a plot.
struct Plot {
    top: f64,
    first: f64,
    /// The block after the last.
    end: f64,
    most: f64,
}

impl Plot {
    fn x(&self, block: f64) -> f64 {
        let share = (block - self.first) / (self.end - self.first).max(1.0);
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn across(&self, (first, last): (u64, u64)) -> (f64, f64) {
        (self.x(first as f64), self.x(last as f64 + 1.0))
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PLOT * (1.0 - value / self.scale().1)
    }

    /// Between two lines, and at the top of the plot.
    fn scale(&self) -> (f64, f64) {
        let step = step(self.most.max(1e-9) / 4.0);
        let top = (self.most / step).ceil().max(1.0) * step;
        (step, top)
    }

    fn axes(&self, unit: &str, out: &mut String) {
        let (between, top) = self.scale();
        for at in 0..=(top / between).round() as u32 {
            let value = f64::from(at) * between;
            let y = self.y(value);
            put(
                out,
                format_args!(
                    "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                    WIDTH - RIGHT,
                    LEFT - 8.0,
                    y + 4.0,
                    amount(value)
                ),
            );
        }
        let middle = self.top + PLOT / 2.0;
        put(
            out,
            format_args!(
                "<text class=\"unit\" transform=\"translate(20 {middle:.1}) rotate(-90)\">{unit}</text>\n"
            ),
        );
        let (first, last) = (self.first, self.end - 1.0);
        let step = step((last - first) / 6.0).max(1.0);
        let mut number = (first / step).ceil() * step;
        let bottom = self.top + PLOT;
        while number <= last {
            // The middle of the block where blocks have a width.
            let x = self.x(number + 0.5);
            put(
                out,
                format_args!(
                    "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom:.1}\" y2=\"{:.1}\"/><text class=\"block\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>\n",
                    bottom + 4.0,
                    bottom + 17.0,
                    crate::people::count(number as u64)
                ),
            );
            number += step;
        }
        put(
            out,
            format_args!(
                "<text class=\"unit\" x=\"{:.1}\" y=\"{:.1}\">block</text>\n",
                (LEFT + WIDTH - RIGHT) / 2.0,
                bottom + 34.0
            ),
        );
    }
}

/// The least of 1, 2, 5 times a power of ten that is not less than `least`.
fn step(least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    let wanted = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let enough = wanted.iter().find(|step| **step >= least * 0.999_999);
    *enough.unwrap_or(&wanted[3])
}

/// A value as an axis tells it: three digits and a unit of thousands.
fn amount(value: f64) -> String {
    let (value, unit) = match value {
        1e9.. => (value / 1e9, " G"),
        1e6.. => (value / 1e6, " M"),
        1e4.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let said = match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    let said = match said.contains('.') {
        true => said.trim_end_matches('0').trim_end_matches('.'),
        false => &said,
    };
    format!("{said}{unit}")
}

fn style() -> String {
    let mut light = String::from(
        "text{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',Helvetica,Arial,sans-serif;fill:#333a44}\n\
         .ground{fill:#ffffff}\n\
         .head{font-size:20px;font-weight:600;fill:#14181d}\n\
         .chart{font-size:14px;font-weight:600;fill:#14181d}\n\
         .notes,.unit{fill:#59616c}\n\
         .value{text-anchor:end}\n\
         .block,.unit{text-anchor:middle}\n\
         .grid{stroke:#e3e6ea;stroke-width:1}\n\
         .axis{stroke:#7c8591;stroke-width:1}\n",
    );
    let mut dark = String::from(
        "text{fill:#c5ccd6}\n\
         .ground{fill:#14181d}\n\
         .head,.chart{fill:#f2f4f7}\n\
         .notes,.unit{fill:#98a2ae}\n\
         .grid{stroke:#2a3038}\n",
    );
    for (at, (on_light, on_dark)) in COLOURS.iter().enumerate() {
        for (sheet, colour) in [(&mut light, on_light), (&mut dark, on_dark)] {
            put(
                sheet,
                format_args!(".c{at}{{fill:{colour}}}\n.l{at}{{stroke:{colour}}}\n"),
            );
        }
    }
    light.push_str("path{fill:none;stroke-linejoin:round}\n");
    format!("{light}@media (prefers-color-scheme:dark){{\n{dark}}}\n")
}

/// Text as it may stand in an SVG. Nothing that a block says may become markup.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other if other.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

fn put(out: &mut String, what: std::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_steps() {
        for (least, expected) in [
            (0.0, 1.0),
            (0.25, 0.5),
            (1.0, 1.0),
            (1.1, 2.0),
            (3.0, 5.0),
            (60.0, 100.0),
        ] {
            assert!((step(least) - expected).abs() < 1e-9, "{least}");
        }
    }

    #[test]
    fn amounts_are_short() {
        for (value, expected) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (100.0, "100"),
            (2_500.0, "2500"),
            (12_500.0, "12.5 k"),
            (30e6, "30 M"),
            (400e6, "400 M"),
        ] {
            assert_eq!(amount(value), expected);
        }
    }

    #[test]
    fn text_is_no_markup() {
        assert_eq!(
            escape("<a b=\"c\">&\u{1b}"),
            "&lt;a b=&quot;c&quot;&gt;&amp;\u{fffd}"
        );
    }

    #[test]
    fn a_legend_that_is_too_long_goes_on_in_the_next_row() {
        let series = |name: &str| Series::new(0, name, vec![Some(1.0)]);
        let chart = Chart {
            title: String::new(),
            unit: "",
            shape: Shape::Lines,
            series: vec![
                series(&"a".repeat(90)),
                series(&"b".repeat(90)),
                series("c"),
            ],
        };
        let rows: Vec<usize> = chart.legend().iter().map(|(row, _)| *row).collect();
        assert_eq!(rows, [0, 1, 1]);
    }

    #[test]
    fn no_value_is_drawn_outside_its_plot() {
        for most in [0.0, 1e-3, 0.7, 1.0, 3.3, 99.0, 1e7, 12_345_678.0] {
            let plot = Plot {
                top: 10.0,
                first: 0.0,
                end: 1.0,
                most,
            };
            let y = plot.y(most);
            assert!((10.0..=10.0 + PLOT).contains(&y), "{most}: {y}");
        }
    }
}
