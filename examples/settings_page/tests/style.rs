//! The colours can be read in light and dark: WCAG 2.2, 1.4.3 (text, 4.5) and 1.4.11 (borders, 3).

const STYLE: &str = include_str!("../templates/style.css");

/// Reads `--name: light-dark(#rrggbb, #rrggbb)`.
fn colour(name: &str, scheme: usize) -> [f64; 3] {
    let (_, rest) = STYLE.split_once(&format!("--{name}: light-dark(")).unwrap();
    let hex = rest.split(')').next().unwrap().split(", ").nth(scheme).unwrap().trim_start_matches('#');
    [0, 2, 4].map(|at| f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0)
}

/// WCAG's relative luminance.
fn luminance(colour: [f64; 3]) -> f64 {
    let [red, green, blue] =
        colour.map(|part| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) });
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

#[test]
fn every_text_and_border_stands_out_enough() {
    let text = [
        ("text", &["page", "card", "red-back", "green-back", "amber-back"][..]),
        ("quiet", &["page", "card"]),
        ("accent", &["page", "card", "red-back", "amber-back"]),
        ("on-accent", &["accent"]),
        ("red", &["page", "card", "red-back"]),
        ("green", &["page", "card", "green-back"]),
        ("amber", &["page", "card", "amber-back"]),
    ];
    let borders = [("edge", &["page", "card"][..])];
    for (pairs, least) in [(&text[..], 4.5), (&borders[..], 3.0)] {
        for (front, backs) in pairs {
            for back in *backs {
                for (scheme, name) in ["light", "dark"].into_iter().enumerate() {
                    let both = [front, back].map(|colour_name| luminance(colour(colour_name, scheme)));
                    let ratio = (both[0].max(both[1]) + 0.05) / (both[0].min(both[1]) + 0.05);
                    assert!(ratio >= least, "{front} on {back}, {name}: {ratio:.2}");
                }
            }
        }
    }
}
