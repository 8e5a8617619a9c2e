//! SVG figures for the report.

use plotters::coord::ranged1d::{KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Okabe and Ito's colours, which colour-blind people can distinguish, without their yellow.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(60, 60, 60),
];
const FONT: &str = "sans-serif";
const MUTED: RGBColor = RGBColor(170, 170, 170);

/// A series of points.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// x, y, and a label beside the point (may be empty).
    pub points: Vec<(f64, f64, String)>,
    /// Whether the points are joined by a line, in this order.
    pub line: bool,
}

/// The texts around a plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Titles<'a> {
    /// Above it.
    pub title: &'a str,
    /// Below the horizontal axis, with the unit.
    pub x: &'a str,
    /// Beside the vertical axis, with the unit.
    pub y: &'a str,
}

/// The scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Evenly.
    Linear,
    /// Logarithmic; for numbers above zero.
    Log,
}

/// Plots `series` with these axes.
///
/// # Errors
///
/// The drawing library's message, which only occurs for a coordinate that is not a number.
pub fn plot(titles: Titles, series: &[Series], x_axis: Axis, y_axis: Axis) -> Result<String, String> {
    let all = || series.iter().flat_map(|series| &series.points);
    let x = range(all().map(|point| point.0), x_axis).ok_or("no points to draw")?;
    let y = range(all().map(|point| point.1), y_axis).ok_or("no points to draw")?;
    match (x_axis, y_axis) {
        (Axis::Linear, Axis::Linear) => draw(titles, series, x, y),
        (Axis::Log, Axis::Linear) => draw(titles, series, x.log_scale(), y),
        (Axis::Linear, Axis::Log) => draw(titles, series, x, y.log_scale()),
        (Axis::Log, Axis::Log) => draw(titles, series, x.log_scale(), y.log_scale()),
    }
}

/// A range that contains all finite values, with some margin.
fn range(values: impl Iterator<Item = f64>, axis: Axis) -> Option<std::ops::Range<f64>> {
    let (low, high) = values.filter(|value| value.is_finite()).fold(None, |range: Option<(f64, f64)>, value| {
        Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
    })?;
    match axis {
        Axis::Linear => {
            let room = ((high - low) * 0.08).max(high.abs() * 0.02).max(1e-6);
            // If the lowest value is close enough to zero, the axis starts at zero.
            let low = if low >= 0.0 && low < high * 0.5 { 0.0 } else { low - room };
            Some(low..high + room)
        }
        Axis::Log if low > 0.0 => Some(low / 1.3..high * 1.3),
        Axis::Log => None,
    }
}

fn draw<X, Y>(titles: Titles, series: &[Series], x: X, y: Y) -> Result<String, String>
where
    X: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
    Y: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
    X::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>,
    Y::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>,
{
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (760, 460)).into_drawing_area();
        let fail = |error: DrawingAreaErrorKind<_>| -> String { error.to_string() };
        area.fill(&WHITE).map_err(fail)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(titles.title, (FONT, 20))
            .margin(12)
            // Room for the label of the last point.
            .margin_right(90)
            .x_label_area_size(46)
            .y_label_area_size(64)
            .build_cartesian_2d(x, y)
            .map_err(fail)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(MUTED.mix(0.4))
            .x_desc(titles.x)
            .y_desc(titles.y)
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 14))
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .draw()
            .map_err(fail)?;
        for (i, series) in series.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let points = || series.points.iter().map(|point| (point.0, point.1));
            if series.line {
                chart.draw_series(LineSeries::new(points(), colour.stroke_width(2))).map_err(fail)?;
            }
            chart
                .draw_series(
                    points().map(|point| Circle::new(point, if series.line { 3 } else { 5 }, colour.filled())),
                )
                .map_err(fail)?
                .label(series.name.clone())
                .legend(move |(x, y)| Circle::new((x + 8, y), 5, colour.filled()));
            let style = (FONT, 12).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
            let labelled = series.points.iter().filter(|point| !point.2.is_empty());
            chart
                .draw_series(labelled.map(|(x, y, label)| {
                    EmptyElement::at((*x, *y)) + Text::new(label.clone(), (8, -2), style.clone())
                }))
                .map_err(fail)?;
        }
        if series.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerRight)
                .background_style(WHITE.mix(0.85))
                .border_style(MUTED)
                .label_font((FONT, 13))
                .draw()
                .map_err(fail)?;
        }
        area.present().map_err(fail)?;
    }
    Ok(svg)
}

/// One bar of [`bars`].
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// The name beside the bar.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// The note after it, such as its cost.
    pub note: String,
    /// Whether it has the second colour, which marks the best.
    pub marked: bool,
}

/// Horizontal bars from zero, in this order, from top to bottom.
///
/// # Errors
///
/// The drawing library's message, which only occurs for a value that is not a number; no bars at all.
pub fn bars(title: &str, axis: &str, bars: &[Bar]) -> Result<String, String> {
    let highest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    if bars.is_empty() {
        return Err("no bars to draw".into());
    }
    let longest = bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or(0);
    let mut svg = String::new();
    {
        let size = (760, 90 + 22 * bars.len() as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let fail = |error: DrawingAreaErrorKind<_>| -> String { error.to_string() };
        area.fill(&WHITE).map_err(fail)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, (FONT, 20))
            .margin(12)
            .margin_right(90)
            .x_label_area_size(42)
            .y_label_area_size(16 + 7 * longest as u32)
            .build_cartesian_2d(0.0..(highest * 1.05).max(1e-6), Rows(bars.len()))
            .map_err(fail)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(MUTED.mix(0.4))
            .x_desc(axis)
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 14))
            .y_labels(bars.len())
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|row| {
                let i = (*row - 0.5).round();
                bars.get(i as usize).map(|bar| bar.name.clone()).unwrap_or_default()
            })
            .draw()
            .map_err(fail)?;
        for (i, bar) in bars.iter().enumerate() {
            let colour = COLOURS[usize::from(bar.marked)];
            let (top, bottom) = (i as f64 + 0.12, i as f64 + 0.88);
            let style = (FONT, 12).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
            chart
                .draw_series([Rectangle::new([(0.0, top), (bar.value, bottom)], colour.filled())])
                .map_err(fail)?;
            chart
                .draw_series([
                    EmptyElement::at((bar.value, i as f64 + 0.5)) + Text::new(bar.note.clone(), (6, 0), style)
                ])
                .map_err(fail)?;
        }
        area.present().map_err(fail)?;
    }
    Ok(svg)
}

/// An axis of n rows of height 1 from the top, labelled in the middle of each.
struct Rows(usize);

impl Ranged for Rows {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        // The limits have the bottom first.
        let (bottom, top) = limit;
        top + ((bottom - top) as f64 * value / self.0 as f64).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        (0..self.0).map(|row| row as f64 + 0.5).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        0.0..self.0 as f64
    }
}

impl plotters::coord::ranged1d::ValueFormatter<f64> for Rows {}

/// A short form of a number: `0.25`, `12`, `1.5k`, `2.56M`.
fn short(value: f64) -> String {
    let (divisor, unit) = match value.abs() {
        v if v >= 999.5e6 => (1e9, "G"),
        v if v >= 999.5e3 => (1e6, "M"),
        v if v >= 999.5 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let text = format!("{:.3}", value / divisor);
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [(0.0, "0"), (0.25, "0.25"), (12.0, "12"), (1500.0, "1.5k"), (2.56e6, "2.56M"), (1e9, "1G")];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn a_plot_shows_its_names_and_labels() {
        let point = |x, y| (x, y, format!("at {x}"));
        let series = [
            Series { name: "ours".into(), points: vec![point(1.0, 0.1), point(10.0, 0.3)], line: true },
            Series { name: "theirs".into(), points: vec![point(100.0, 0.2)], line: false },
        ];
        let titles = Titles { title: "Accuracy & cost", x: "MAC", y: "AP50" };
        let svg = plot(titles, &series, Axis::Log, Axis::Linear).unwrap();
        for text in ["Accuracy &amp; cost", "ours", "theirs", "at 100", "AP50"] {
            assert!(svg.contains(text), "no {text} in {svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 3 + 2);
        assert!(plot(titles, &[], Axis::Linear, Axis::Linear).is_err());
    }

    #[test]
    fn bars_stand_in_order_from_above() {
        let bar = |name: &str, value| Bar { name: name.into(), value, note: String::new(), marked: false };
        let svg = bars("Kinds", "AP50", &[bar("first", 0.2), bar("second", 0.4)]).unwrap();
        let y = |name: &str| {
            let start = svg[..svg.find(name).unwrap()].rfind("<text").unwrap();
            let y = svg[start..].split("y=\"").nth(1).unwrap();
            y[..y.find('"').unwrap()].parse::<f64>().unwrap()
        };
        assert!(y("first") < y("second"), "{svg}");
        assert!(bars("Kinds", "AP50", &[]).is_err());
    }
}
