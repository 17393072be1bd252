//! Small charts as inline SVG: axes, lines, bars. No fonts, no scripts.

/// How a value becomes a place on an axis.
#[derive(Clone, Copy)]
pub(super) enum Scale {
    Logarithmic,
    /// Log-odds of a percentage, as TREC draws ROC curves.
    LogOdds,
}

#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) title: &'static str,
    pub(super) scale: Scale,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: &'static [f64],
}

impl Axis {
    /// 0 at the low end, 1 at the high end; what lies outside goes to the rim.
    fn place(&self, value: f64) -> f64 {
        let scaled = |v: f64| match self.scale {
            Scale::Logarithmic => v.ln(),
            Scale::LogOdds => (v / (100.0 - v)).ln(),
        };
        let value = value.clamp(self.low, self.high);
        (scaled(value) - scaled(self.low)) / (scaled(self.high) - scaled(self.low))
    }
}

pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) colour: usize,
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 42.0;

/// Told apart also without red and green (Okabe, Ito).
pub(super) const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#444444",
];

fn xy(x: &Axis, y: &Axis, point: (f64, f64)) -> (f64, f64) {
    (
        LEFT + x.place(point.0) * (WIDTH - LEFT - RIGHT),
        HEIGHT - BOTTOM - y.place(point.1) * (HEIGHT - TOP - BOTTOM),
    )
}

pub(super) fn line_chart(x: &Axis, y: &Axis, lines: &[Line<'_>]) -> String {
    let mut out = frame(x, y);
    for line in lines {
        let colour = COLOURS[line.colour % COLOURS.len()];
        let mut last = (f64::NAN, f64::NAN);
        let mut points = String::new();
        for point in &line.points {
            let (px, py) = xy(x, y, *point);
            // Points closer than half a pixel add nothing but bytes.
            if (px - last.0).abs() < 0.5 && (py - last.1).abs() < 0.5 {
                continue;
            }
            last = (px, py);
            points.push_str(&format!("{px:.1},{py:.1} "));
        }
        out.push_str(&format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" points=\"{}\"><title>{}</title></polyline>",
            points.trim_end(),
            super::html::escaped(line.name)
        ));
    }
    out.push_str("</svg>\n");
    out
}

/// Two rows of bars, ham above the middle and spam below, each `(ham, spam)`
/// a share of its class.
pub(super) fn histogram(bars: &[(f64, f64)], low: &str, high: &str) -> String {
    let middle = HEIGHT / 4.0;
    let step = (WIDTH - LEFT - RIGHT) / bars.len().max(1) as f64;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">",
        HEIGHT / 2.0 + 18.0
    );
    // The square root lets small bars be seen beside great ones.
    let height = |share: f64| share.sqrt() * (middle - TOP);
    for (i, (ham, spam)) in bars.iter().enumerate() {
        let x = LEFT + i as f64 * step;
        for (y, height, colour) in [
            (middle - height(*ham), height(*ham), COLOURS[0]),
            (middle, height(*spam), COLOURS[1]),
        ] {
            if height > 0.0 {
                out.push_str(&format!(
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>",
                    step - 1.0
                ));
            }
        }
    }
    let y = HEIGHT / 2.0 + 12.0;
    out.push_str(&format!(
        "<text x=\"0\" y=\"{:.0}\">ham</text><text x=\"0\" y=\"{:.0}\">spam</text>\
         <text x=\"{LEFT}\" y=\"{y}\">lowest score {low}</text>\
         <text x=\"{}\" y=\"{y}\" text-anchor=\"end\">highest {high}</text></svg>\n",
        middle - 6.0,
        middle + 14.0,
        WIDTH - RIGHT
    ));
    out
}

fn frame(x: &Axis, y: &Axis) -> String {
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for tick in x.ticks {
        let (px, _) = xy(x, y, (*tick, y.low));
        out.push_str(&format!(
            "<path class=\"grid\" d=\"M{px:.1} {TOP}V{bottom}\"/>\
             <text x=\"{px:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>",
            bottom + 16.0
        ));
    }
    for tick in y.ticks {
        let (_, py) = xy(x, y, (x.low, *tick));
        out.push_str(&format!(
            "<path class=\"grid\" d=\"M{LEFT} {py:.1}H{right}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            LEFT - 6.0,
            py + 4.0
        ));
    }
    out.push_str(&format!(
        "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
         <text x=\"{:.0}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(14 {:.0}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 8.0,
        x.title,
        (TOP + bottom) / 2.0,
        y.title
    ));
    out
}
