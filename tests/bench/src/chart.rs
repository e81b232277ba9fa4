//! `docs/performance.svg`: four rows of bars, written from a run.

use std::fmt::Write as _;

use crate::contender::Kind;
use crate::metric::{Better, Metric};
use crate::run::Run;

/// The picture. It carries a title and a description for those who do not see it, and every bar its figure.
pub fn chart(run: &Run) -> String {
    let kinds: Vec<Kind> = run
        .entries
        .iter()
        .filter(|entry| entry.absent.is_none())
        .map(|entry| entry.kind)
        .collect();
    let panel_height = PANEL_HEAD + BAR_STEP * kinds.len() + PANEL_GAP;
    let height = TOP + panel_height * PANELS.len().div_ceil(2);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"title description\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <title id=\"title\">Ringfence and other tunnels, side by side</title>\n\
         <desc id=\"description\">{}</desc>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
        described(run)
    );
    for (index, &metric) in PANELS.iter().enumerate() {
        let left = MARGIN + (index % 2) * (WIDTH / 2);
        let top = TOP + (index / 2) * panel_height;
        push_panel(&mut svg, run, &kinds, metric, (left, top));
    }
    svg.push_str("</svg>\n");
    svg
}

fn push_panel(svg: &mut String, run: &Run, kinds: &[Kind], metric: Metric, (left, top): (usize, usize)) {
    let better = match metric.better() {
        Better::More => "longer is better",
        Better::Less => "shorter is better",
    };
    let _ = writeln!(
        svg,
        "<text x=\"{left}\" y=\"{}\" font-weight=\"600\" fill=\"{INK}\">{}, {} <tspan font-weight=\"400\" \
         fill=\"{FAINT}\">({better})</tspan></text>",
        top + 14,
        metric.title(),
        metric.unit().symbol(),
    );
    let medians = run.medians(metric, |_| true);
    // The ceilings would make every other bar short.
    let scale = medians
        .iter()
        .filter(|(kind, _)| !is_ceiling(**kind))
        .map(|(_, &median)| median)
        .fold(0.0, f64::max);
    for (row, kind) in kinds.iter().enumerate() {
        let y = top + PANEL_HEAD + row * BAR_STEP;
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"{INK}\">{}</text>",
            left + LABEL_WIDTH - 8,
            y + 13,
            kind.title()
        );
        let Some(&median) = medians.get(kind) else {
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" fill=\"{FAINT}\">–</text>",
                left + LABEL_WIDTH,
                y + 13
            );
            continue;
        };
        let share = if scale > 0.0 {
            (median / scale).min(1.0)
        } else {
            0.0
        };
        let width = share * BAR_WIDTH as f64;
        let cut = if median > scale { " ▸" } else { "" };
        let _ = writeln!(
            svg,
            "<rect x=\"{}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{}\" fill=\"{INK}\">{}{cut}</text>",
            left + LABEL_WIDTH,
            colour(*kind),
            (left + LABEL_WIDTH) as f64 + width + 6.0,
            y + 13,
            metric.unit().show(median),
        );
    }
}

/// The first panels in words.
fn described(run: &Run) -> String {
    let mut text = String::new();
    for metric in PANELS {
        let _ = write!(text, "{}, {}: ", metric.title(), metric.unit().symbol());
        let medians = run.medians(metric, |_| true);
        let figures: Vec<String> = medians
            .iter()
            .map(|(kind, &median)| format!("{} {}", kind.title(), metric.unit().show(median)))
            .collect();
        let _ = write!(text, "{}. ", figures.join("; "));
    }
    text.trim_end().to_owned()
}

fn is_ceiling(kind: Kind) -> bool {
    matches!(kind, Kind::Veth | Kind::VethPlain)
}

/// Told apart by lightness too, so that they do not need colour vision.
fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Ringfence => "#0b5394",
        Kind::RingfenceNull => "#6fa8dc",
        Kind::WireguardGo | Kind::Boringtun | Kind::Gotatun => "#8a8a8a",
        Kind::NebulaChacha | Kind::NebulaAes => "#b8860b",
        Kind::Veth | Kind::VethPlain => "#d9d9d9",
    }
}

const PANELS: [Metric; 4] = [
    Metric::TcpOneForward,
    Metric::CpuBoth,
    Metric::UdpSmall,
    Metric::LoadedP99,
];
const WIDTH: usize = 1080;
const MARGIN: usize = 16;
const TOP: usize = 16;
const PANEL_HEAD: usize = 28;
const PANEL_GAP: usize = 28;
const BAR_STEP: usize = 22;
const BAR_HEIGHT: usize = 16;
const LABEL_WIDTH: usize = 160;
const BAR_WIDTH: usize = 260;
const INK: &str = "#1a1a1a";
const FAINT: &str = "#595959";
