//! Lines in a diagram, as SVG: small enough to be read in a diff.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Room for the words left, right, above and below the lines.
const MARGIN: [f64; 4] = [70.0, 190.0, 40.0, 50.0];
/// Told apart by all kinds of eyes, and by their marks in print.
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"];

/// A diagram.
#[derive(Clone, Debug, Default)]
pub struct Plot {
    /// Above it.
    pub title: String,
    /// Along the axes.
    pub axes: [String; 2],
    /// Powers of ten along both axes; what is not above 0 is left out then.
    pub logarithmic: bool,
    /// The lines: name, and points from left to right.
    pub lines: Vec<(String, Vec<[f64; 2]>)>,
}

/// One axis: values from `from` to `to` between two places.
#[derive(Clone, Copy, Debug)]
struct Axis {
    from: f64,
    to: f64,
    places: [f64; 2],
    logarithmic: bool,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, places: [f64; 2], logarithmic: bool) -> Self {
        let (least, most) = values.fold((f64::INFINITY, 0.0_f64), |(least, most), v| {
            (least.min(v), most.max(v))
        });
        let least = if least.is_finite() { least } else { 1.0 };
        let most = most.max(least).max(f64::MIN_POSITIVE);
        let (from, to) = if logarithmic {
            (
                10_f64.powf(least.log10().floor()),
                10_f64.powf(most.log10().ceil().max(least.log10().floor() + 1.0)),
            )
        } else {
            (0.0, step(most) * (most / step(most)).ceil())
        };
        Self {
            from,
            to,
            places,
            logarithmic,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let part = if self.logarithmic {
            (value / self.from).log10() / (self.to / self.from).log10()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        self.places[0] + part * (self.places[1] - self.places[0])
    }

    fn ticks(&self) -> Vec<f64> {
        let mut ticks = vec![self.from];
        while let Some(last) = ticks.last().copied().filter(|last| *last < self.to * 0.999) {
            ticks.push(if self.logarithmic {
                last * 10.0
            } else {
                last + step(self.to)
            });
        }
        ticks
    }
}

/// A round number that goes four to ten times into `most`.
fn step(most: f64) -> f64 {
    let power = 10_f64.powf(most.log10().floor());
    [0.1, 0.2, 0.5, 1.0]
        .map(|part| part * power)
        .into_iter()
        .find(|step| most / step <= 8.0)
        .unwrap_or(power)
}

/// As people write it: `1,000`, `0.5`.
fn number(value: f64) -> String {
    if value < 1.0 && value > 0.0 {
        return format!("{value:.3}").trim_end_matches('0').to_owned();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

impl Plot {
    /// The picture.
    pub fn svg(&self) -> String {
        let [left, right, above, below] = MARGIN;
        let shown = |point: &&[f64; 2]| !self.logarithmic || point.iter().all(|value| *value > 0.0);
        let all = || {
            self.lines
                .iter()
                .flat_map(|(_, points)| points.iter().filter(shown))
        };
        let x = Axis::over(all().map(|p| p[0]), [left, WIDTH - right], self.logarithmic);
        let y = Axis::over(all().map(|p| p[1]), [HEIGHT - below, above], self.logarithmic);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
        );
        // Writing into a String cannot fail.
        let mut add = |line: String| {
            let _ = writeln!(svg, "{line}");
        };
        let text = |x: f64, y: f64, anchor: &str, text: &str| {
            format!(
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
                escaped(text)
            )
        };
        add(text(left, 22.0, "start", &self.title));
        for tick in x.ticks() {
            let at = x.place(tick);
            add(format!(
                "<path d=\"M{at:.1} {:.1}V{:.1}\" stroke=\"#ddd\"/>",
                y.places[0], y.places[1]
            ));
            add(text(at, HEIGHT - below + 18.0, "middle", &number(tick)));
        }
        for tick in y.ticks() {
            let at = y.place(tick);
            add(format!(
                "<path d=\"M{:.1} {at:.1}H{:.1}\" stroke=\"#ddd\"/>",
                x.places[0], x.places[1]
            ));
            add(text(left - 8.0, at + 4.0, "end", &number(tick)));
        }
        add(text(
            f64::midpoint(left, WIDTH - right),
            HEIGHT - 10.0,
            "middle",
            &self.axes[0],
        ));
        add(text(left, above - 4.0, "end", &self.axes[1]));
        for (n, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            let places: Vec<_> = points
                .iter()
                .filter(shown)
                .map(|p| [x.place(p[0]), y.place(p[1])])
                .collect();
            let way: Vec<_> = places.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
            add(format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                way.join(" ")
            ));
            for [x, y] in places {
                add(format!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
                ));
            }
            let (at, line) = (WIDTH - right + 14.0, above + 18.0 * index(n));
            add(format!(
                "<path d=\"M{at:.1} {line:.1}h14\" stroke=\"{colour}\" stroke-width=\"2\"/>"
            ));
            add(text(at + 20.0, line + 4.0, "start", name));
        }
        svg + "</svg>\n"
    }
}

#[allow(clippy::cast_precision_loss)] // there are five colours
fn index(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round_and_hold_all_values() {
        let axis = Axis::over([0.0, 193.0].into_iter(), [0.0, 100.0], false);
        assert_eq!(axis.ticks(), [0.0, 50.0, 100.0, 150.0, 200.0]);
        assert_eq!((axis.place(0.0), axis.place(200.0)), (0.0, 100.0));
        let axis = Axis::over([3.0, 2_000.0].into_iter(), [0.0, 100.0], true);
        assert_eq!(axis.ticks(), [1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
        assert!((axis.place(100.0) - 50.0).abs() < 1e-9);
        assert_eq!(Axis::over([].into_iter(), [0.0, 1.0], true).ticks(), [1.0, 10.0]);
    }

    #[test]
    fn numbers_are_written_for_people() {
        for (value, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (12.0, "12"),
            (1_000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_line_has_a_mark_for_each_point_that_can_be_shown() {
        let plot = Plot {
            title: "a < b".into(),
            logarithmic: true,
            lines: vec![("x".into(), vec![[0.0, 1.0], [1.0, 1.0], [10.0, 100.0]])],
            ..Plot::default()
        };
        let svg = plot.svg();
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
